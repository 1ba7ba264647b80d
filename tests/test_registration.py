"""Registration against maps known in closed form: places, fluxes, masks, noise, and what is refused."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, replace

import numpy as np
import pytest
from scipy.ndimage import binary_dilation

import mapped
import zogyp
from zogyp.errors import HeaderError, PixelError, RegistrationError, ShapeError, ZogypError
from zogyp.image import UNUSABLE, Flag
from zogyp.options import AlignOptions, InputOptions, RegistrationOptions

GRID = (360, 380)
OTHER = (370, 350)
FWHM = 3.2  # px of the grid
ONE = AlignOptions(threads=1)
SLOW = 20.0  # s that any failure may take


def mode(name, **more):
    return replace(ONE, align=RegistrationOptions(mode=name, **more))


# name: shape of the image, FWHM on it [px], map
CASES = {
    "shift": (OTHER, 3.0, {"shift": (12.37, -8.61)}),
    "rotation": (OTHER, 3.6, {"angle": 23.4, "shift": (-3.2, 5.5)}),
    "quarter turn": ((380, 360), 3.0, {"angle": 90.0}),
    "mirror image": (OTHER, 3.4, {"angle": 130.0, "mirrored": True, "shift": (4.4, 2.1)}),
    "finer grid": ((220, 230), 3.0, {"scale": 0.5, "angle": -4.0}),
    "coarser grid": ((640, 620), 6.0, {"scale": 2.0, "angle": 10.0}),
}


@dataclass(frozen=True)
class Case:
    """A pair, its truth, and what came of it."""

    known: mapped.Known
    raw: zogyp.Image
    moved: zogyp.Image
    found: zogyp.Registration
    truth: np.ndarray  # light on the grid, without noise
    residual: np.ndarray  # moved pixels less sky and light


@pytest.fixture(scope="module")
def stars():
    return mapped.stars(11, 220, GRID)


@pytest.fixture(scope="module")
def ref(stars):
    data = mapped.noisy(stars.light(mapped.IDENTITY, GRID, FWHM), 12)
    return mapped.image(data, "ref", wcs=mapped.wcs())


@pytest.fixture(scope="module")
def target(ref):
    return zogyp.target(ref, ONE)


@pytest.fixture(scope="module")
def seen(stars):
    """An image turned by 23.4 degrees."""
    shape, fwhm, how = CASES["rotation"]
    known = mapped.turned(GRID, shape, **how)
    return known, mapped.image(mapped.noisy(stars.light(known, shape, fwhm), 31), "seen")


@pytest.fixture(scope="module", params=CASES)
def case(request, stars, target):
    shape, fwhm, how = CASES[request.param]
    known = mapped.turned(GRID, shape, **how)
    raw = mapped.image(mapped.noisy(stars.light(known, shape, fwhm), 21), request.param)
    moved, found = zogyp.align(raw, to=target, options=ONE)
    truth = stars.light(mapped.IDENTITY, GRID, fwhm / known.scale)
    return Case(known, raw, moved, found, truth, moved.data - mapped.SKY * known.scale**2 - truth)


def inside(known, shape, margin):
    """Pixels of the grid whose place in the image is that far inside of its pixels' outer border."""
    y, x = np.indices(GRID)
    u, v = known(x, y)
    ny, nx = shape
    low = -0.5 + margin
    return (u > low) & (v > low) & (u < nx - 1 - low) & (v < ny - 1 - low)


def distances(found, known, shape):
    """From the true map, over the common field [px of the grid]."""
    y, x = np.nonzero(inside(known, shape, 0))
    (u, v), (a, b) = found.transform(x, y), known(x, y)
    return np.hypot(u - a, v - b) / known.scale


# ---------------------------------------------------------------- the map


def test_the_map_is_the_true_one(case):
    off = distances(case.found, case.known, case.raw.shape)
    # some 100 stars, the typical one known to 0.05 px in either image, the best to 0.014: 0.01 px of the
    # mean; corners three times that
    assert np.sqrt(np.mean(off**2)) < 0.02
    assert off.max() < 0.06
    # both axes; the error told is that of the mean: a chi of 3 to 6 degrees of freedom, 3 at 1e-4 or so
    assert np.sqrt(np.mean(off**2) / 2) < 3 * case.found.error
    assert case.found.error < 0.02


def test_figures_tell_how_the_image_lies(case):
    told = case.found.figures()
    assert json.loads(json.dumps(told, allow_nan=False)) == told
    m = case.known.m[:, :2]
    mirrored = np.linalg.det(m) < 0
    m = m @ np.diag([-1.0 if mirrored else 1.0, 1.0])
    # 0.02 px over half of the image are 1e-4
    assert told["scale"] == pytest.approx(case.known.scale, rel=3e-4)
    assert told["rotation"] == pytest.approx(np.rad2deg(np.arctan2(m[1, 0], m[0, 0])), abs=0.02)
    assert told["mirrored"] == mirrored
    # 33 x 33 places tell the share
    assert told["overlap"] == pytest.approx(inside(case.known, case.raw.shape, 0).mean(), abs=0.03)
    assert told["n_matched"] >= max(told["n_required"], 40)
    assert told["share"] > 0.6
    assert told["transform"]["matrix"] == case.found.transform.matrix.tolist()


def test_matched_stars_are_stars_and_their_arrows_are_short(case, stars):
    f = case.found
    assert f.x.shape == f.y.shape == f.dx.shape == f.dy.shape == (f.n_matched,)
    nearest = np.array([np.hypot(stars.x - x, stars.y - y).min() for x, y in zip(f.x, f.y, strict=True)])
    # barycentres of blends lie between their stars: with 70 neighbours within a megapixel's tenth, one in ten
    assert np.mean(nearest < 0.5) > 0.9
    # centroids of S/N 15 or more: 0.1 px and less
    assert np.median(np.hypot(f.dx, f.dy)) < 0.1
    # the rms is what centroids do not explain: there is nothing else but blends
    assert max(f.rms_x, f.rms_y) < 0.1


# ---------------------------------------------------------------- pixels


def test_the_result_has_the_grid_of_its_target(case, ref):
    assert case.moved.shape == ref.shape == case.moved.mask.shape == case.moved.variance.shape
    assert case.moved.wcs is ref.wcs
    assert case.moved.data.dtype == case.moved.variance.dtype == np.float32
    assert case.moved.mask.dtype == np.uint16
    assert case.moved.resampled and not case.raw.resampled


def test_pixels_that_are_not_covered_are_nan_and_flagged(case):
    # the map is known to 0.06 px: a tenth of a pixel of the image's border may fall on either side
    beyond = ~inside(case.known, case.raw.shape, -0.15)
    within = inside(case.known, case.raw.shape, 0.15)
    empty = (case.moved.mask & Flag.NO_DATA) > 0
    assert np.isnan(case.moved.data[beyond]).all() and empty[beyond].all()
    assert np.isfinite(case.moved.data[within]).all() and not empty[within].any()
    assert np.array_equal(np.isfinite(case.moved.data), ~empty)


def test_flux_is_conserved(case, stars):
    """Aperture sums of what is left when the sky and all stars' true light are taken off."""
    y, x = np.indices(GRID)
    radius = 2.5 * FWHM * max(1.0, case.known.scale, 1 / case.known.scale)  # 5 sigma of any of the PSFs
    clear = binary_dilation(case.moved.mask != 0, iterations=int(radius) + 2)
    pulls, relative = [], []
    for i in np.argsort(-stars.flux):
        at = round(stars.y[i]), round(stars.x[i])
        if not (0 <= at[0] < GRID[0] and 0 <= at[1] < GRID[1]) or clear[at] or stars.flux[i] < 5e4:
            continue
        circle = np.hypot(x - stars.x[i], y - stars.y[i]) < radius
        # the sky's noise of a pixel of the grid is SIGMA times the scale; then come the photons of the stars
        variance = circle.sum() * (mapped.SIGMA * case.known.scale) ** 2
        variance += case.truth[circle].sum() / mapped.GAIN
        off = case.residual[circle].sum()
        pulls.append(off / np.sqrt(variance))
        relative.append(off / stars.flux[i])
    assert len(pulls) >= 10
    # of a few dozen none is beyond 4.5 sigma; 0.1 % is what an interpolated star may lose in single pixels
    assert np.abs(pulls).max() < 4.5
    assert abs(np.mean(relative)) < 0.001 + 4 * np.std(relative) / np.sqrt(len(relative))


def test_variance_is_the_noise_per_unit_frequency(case):
    """Sums over blocks of blank sky scatter as the variances in them add up to."""
    n = 12
    rows, columns = GRID[0] // n, GRID[1] // n
    box = np.s_[: rows * n, : columns * n]
    blank = (case.moved.mask == 0) & (case.truth < 0.3)
    blocks = [a[box].reshape(rows, n, columns, n).swapaxes(1, 2).reshape(-1, n * n) for a in
              (case.residual, case.moved.variance, blank)]  # fmt: skip
    use = blocks[2].all(axis=1)
    pulls = blocks[0][use].sum(axis=1) / np.sqrt(blocks[1][use].sum(axis=1))
    assert use.sum() > 60
    # chance leaves 1 / sqrt(2 n) of a spread, the estimate of the sky's noise 2 %, the blocks' rims 2 %
    assert np.std(pulls) == pytest.approx(1, abs=0.04 + 3 / np.sqrt(2 * use.sum()))
    # and against the truth itself: the variance of white noise, carried by the area
    assert np.median(case.moved.variance[blank]) == pytest.approx(
        (mapped.SIGMA * case.known.scale) ** 2, rel=0.06
    )


@pytest.fixture(scope="module")
def spoiled(stars, target):
    """An image with bad pixels of absurd values, NaN, infinity, a dead column and a saturated star."""
    shape, fwhm, how = CASES["rotation"]
    known = mapped.turned(GRID, shape, **how)
    light = stars.light(known, shape, fwhm)
    data, rng = mapped.noisy(light, 41), np.random.default_rng(42)
    mask = np.zeros(shape, np.uint16)
    free = np.argwhere(light < 0.1)
    spots = rng.permutation(free)[:40]
    for i, (row, column) in enumerate(spots):
        data[row, column] = (1e6, -1e6, np.nan, np.inf)[i % 4]
        mask[row, column] = Flag.BAD if i % 4 < 2 else 0
    data[:, 222] = 3e5
    mask[:, 222] = Flag.BAD
    full = light > 6000
    data[full] = 6200
    raw = replace(mapped.image(data, "spoiled"), mask=mask, saturation=6100.0)
    before = data.copy(), mask.copy()
    moved, found = zogyp.align(raw, to=target, options=ONE)
    assert np.array_equal(data, before[0], equal_nan=True) and np.array_equal(mask, before[1])
    return known, raw, moved, found, full


def test_bad_pixels_and_nan_reach_flagged_pixels_only(spoiled, stars):
    known, raw, moved, found, _ = spoiled
    assert distances(found, known, raw.shape).max() < 0.06
    truth = stars.light(mapped.IDENTITY, GRID, CASES["rotation"][1])
    off = np.abs(moved.data - mapped.SKY - truth)
    # the outermost half pixel of the image is extrapolated, on stars by more than the noise
    clean = (moved.mask == 0) & inside(known, raw.shape, 1.5)
    # noise, photons, and the stars' gradients times 0.06 px: 6 sigma in 100,000 pixels are safe, and the
    # absurd values would tell at 1e-4 of themselves
    sigma = np.sqrt(mapped.SIGMA**2 + truth / mapped.GAIN + (0.06 * truth) ** 2)
    assert (off / sigma)[clean].max() < 6
    # beyond the flagged only what is not covered has no value, or was NaN
    assert np.array_equal(np.isnan(moved.data), (moved.mask & Flag.NO_DATA) > 0)
    # a hole of one pixel tells within 4 px: 40 of them and a column flag no more than this
    covered = inside(known, raw.shape, 6)
    assert (moved.mask[covered] != 0).mean() < (40 * 9**2 + 380 * 9 + 6000) / covered.sum()
    assert (moved.mask[covered] & np.uint16(UNUSABLE) != 0).mean() < 0.03


def test_bits_come_where_the_flagged_pixels_went(spoiled):
    known, raw, moved, _, full = spoiled
    y, x = np.indices(GRID)
    u, v = (np.rint(a).astype(int) for a in known(x, y))
    ok = inside(known, raw.shape, 3)
    nearest = np.zeros(GRID, np.uint16)
    nearest[ok] = raw.mask[v[ok], u[ok]]
    assert ((moved.mask & Flag.BAD) > 0)[(nearest & Flag.BAD) > 0].all()
    hot = np.zeros(GRID, bool)
    hot[ok] = full[v[ok], u[ok]]
    assert hot.sum() > 3
    assert ((moved.mask & Flag.SATURATED) > 0)[hot].all()
    # the cores stay: a saturated star keeps its level, which area leaves as it is at scale 1
    assert np.nanmin(moved.data[hot]) == pytest.approx(6200, rel=0.02)


@pytest.mark.parametrize("kernel", ["lanczos3", "lanczos4"])
def test_other_kernels_give_the_same_stars(seen, stars, target, kernel):
    moved, _ = zogyp.align(seen[1], to=target, options=mode("auto", kernel=kernel))
    truth = stars.light(mapped.IDENTITY, GRID, CASES["rotation"][1])
    good = (moved.mask == 0) & (truth > 500)
    # pixels of bright stars: noise of a few per cent each, the mean of hundreds to some 0.1 %
    assert (moved.data - mapped.SKY)[good].sum() == pytest.approx(truth[good].sum(), rel=0.01)
    assert kernel in moved.notes[-1]


def test_a_target_measured_before_gives_the_same_as_the_image(seen, ref, target):
    one, a = zogyp.align(seen[1], to=ref, options=ONE)
    two, b = zogyp.align(seen[1], to=target, options=ONE)
    assert np.array_equal(one.data, two.data, equal_nan=True)
    assert a.figures() == b.figures()


def test_threads_change_no_pixel(seen, target):
    one, _ = zogyp.align(seen[1], to=target, options=ONE)
    many, _ = zogyp.align(seen[1], to=target, options=replace(ONE, threads=3))
    for plane in ("data", "mask", "variance"):
        assert np.array_equal(getattr(one, plane), getattr(many, plane), equal_nan=True)


def test_pixels_of_any_type_and_order(seen, target):
    """Whole numbers below 2^15 are the same in every type."""
    counts = np.rint(seen[1].data).clip(0, 32767)
    plain, _ = zogyp.align(replace(seen[1], data=counts), to=target, options=ONE)
    for dtype in (">f4", ">f8", "i4", ">i2"):
        other, _ = zogyp.align(replace(seen[1], data=counts.astype(dtype)), to=target, options=ONE)
        assert np.array_equal(plain.data, other.data, equal_nan=True), dtype
        assert other.data.dtype == np.dtype("f4") and other.data.dtype.isnative


def test_a_given_variance_is_carried(seen, target):
    known, raw = seen
    given = np.full(raw.shape, np.float32(900))
    given[: raw.shape[0] // 2] = 400
    moved, _ = zogyp.align(replace(raw, variance=given), to=target, options=ONE)
    y, x = np.indices(GRID)
    v = known(x, y)[1]
    middle = raw.shape[0] / 2
    upper, lower = (v > middle + 5) & (moved.mask == 0), (v < middle - 5) & (moved.mask == 0)
    ratio = np.median(moved.variance[upper]) / np.median(moved.variance[lower])
    # a step that a rotation leaves as it is; shares of variances that add up to one
    assert ratio == pytest.approx(900 / 400, rel=0.01)


# ---------------------------------------------------------------- the ways to a map


def test_by_the_headers_where_they_are_right(seen, target):
    known, raw = seen
    moved, found = zogyp.align(replace(raw, wcs=mapped.wcs(known)), to=target, options=mode("wcs"))
    # a WCS is followed to 0.01 px, and no star moves it
    assert distances(found, known, raw.shape).max() < 0.015
    assert found.way == "WCS"
    assert np.isfinite(moved.data[inside(known, raw.shape, 0.1)]).all()


def test_a_wrong_wcs_is_refused_where_it_alone_counts(seen, target):
    known, raw = seen
    wrong = replace(raw, wcs=mapped.wcs(known, error=(40, 0)))
    with pytest.raises(RegistrationError, match="--align auto") as caught:
        zogyp.align(wrong, to=target, options=mode("wcs"))
    assert caught.value.n_matched < caught.value.n_required


@pytest.mark.parametrize("which", ["image", "grid"])
def test_a_missing_wcs_is_refused_where_it_is_asked_for(seen, ref, which):
    image = replace(seen[1], wcs=None if which == "image" else mapped.wcs(seen[0]))
    grid = replace(ref, wcs=None) if which == "grid" else ref
    with pytest.raises(RegistrationError, match="celestial coordinates"):
        zogyp.align(image, to=grid, options=mode("wcs"))


@pytest.mark.parametrize("error", [(10.0, -7.0), (60.0, 25.0), (3000.0, 0.0)])
def test_a_wcs_that_is_wrong_is_only_a_hint(seen, target, error):
    known, raw = seen
    _, found = zogyp.align(replace(raw, wcs=mapped.wcs(known, error=error)), to=target, options=ONE)
    assert distances(found, known, raw.shape).max() < 0.06
    if np.hypot(*error) < 20:
        assert found.way == "WCS"  # a shift of it is voted for


def test_stars_alone_do_without_a_right_wcs(seen, target):
    known, raw = seen
    _, found = zogyp.align(replace(raw, wcs=mapped.wcs(known)), to=target, options=mode("stars"))
    assert "asterisms" in found.way
    assert distances(found, known, raw.shape).max() < 0.06


def test_without_alignment_shapes_must_agree(seen, target):
    with pytest.raises(ShapeError, match="--align none") as caught:
        zogyp.align(seen[1], to=target, options=mode("none"))
    assert (caught.value.shape, caught.value.wanted) == (seen[1].shape, GRID)


def test_without_alignment_nothing_moves(stars, ref, target):
    again = mapped.image(mapped.noisy(stars.light(mapped.IDENTITY, GRID, FWHM), 51), "again")
    moved, found = zogyp.align(again, to=target, options=mode("none"))
    # interpolation at whole pixels gives them back to the precision of float32
    np.testing.assert_allclose(moved.data, again.data, rtol=1e-4)
    assert found.near_identity(GRID) and found.n_matched > 50
    assert found.transform.matrix.tolist() == np.eye(2, 3).tolist()


def test_near_identity_is_told_by_the_largest_displacement(seen, target):
    _, found = zogyp.align(seen[1], to=target, options=ONE)
    assert not found.near_identity(GRID)
    m = np.eye(2, 3)
    m[0, 2] = 0.9
    assert replace(found, transform=zogyp.Transform(m)).near_identity(GRID)
    m[0, 0] += 0.2 / GRID[1]  # 1.1 px at the right border
    assert not replace(found, transform=zogyp.Transform(m)).near_identity(GRID)


@pytest.mark.parametrize("order", [0, 1, 3])
def test_an_order_asked_for_is_the_order_of_the_map(seen, target, order):
    _, found = zogyp.align(seen[1], to=target, options=mode("auto", order=order))
    assert found.transform.order == order
    # a cubic surface through a hundred stars is less sure where few are
    assert distances(found, *(seen[0], seen[1].shape)).max() < (0.06 if order < 2 else 0.25)


def test_progress_runs_from_0_to_1(seen, target):
    told = []
    zogyp.align(seen[1], to=target, options=ONE, progress=lambda stage, done: told.append((stage, done)))
    assert [s for s, _ in told] == ["read", "measure", "match", "resample", "done"]
    done = [d for _, d in told]
    assert done == sorted(done) and done[-1] == 1


# ---------------------------------------------------------------- what cannot be registered


def refused(image, to, error, options=ONE):
    """The error, which came in time."""
    start = time.perf_counter()
    with pytest.raises(error) as caught:
        zogyp.align(image, to=to, options=options)
    assert time.perf_counter() - start < SLOW
    assert isinstance(caught.value, ZogypError)
    return caught.value


def empty(seed, shape=OTHER):
    return mapped.image(mapped.noisy(np.zeros(shape), seed), "empty")


def test_two_different_fields_are_refused(target):
    light = mapped.stars(77, 220, GRID).light(mapped.IDENTITY, OTHER, 3.0)
    error = refused(mapped.image(mapped.noisy(light, 78), "elsewhere"), target, RegistrationError)
    assert error.n_matched < error.n_required
    assert min(error.n_stars) > 50
    assert any("asterisms" in way for way in error.tried)
    assert str(error.n_matched) in str(error) and "\n" not in str(error)


def test_pure_noise_is_refused(target):
    assert refused(empty(61), target, RegistrationError).n_stars[1] < 5


def test_two_images_without_stars_are_refused():
    error = refused(empty(62), empty(63, GRID), RegistrationError)
    assert max(error.n_stars) < 5
    assert refused(empty(62), empty(63), RegistrationError).n_matched < 5  # of one shape


def test_one_star_is_not_enough(target):
    light = mapped.Stars(np.array([150.0]), np.array([160.0]), np.array([1e5])).light(
        mapped.IDENTITY, OTHER, 3.0
    )
    error = refused(mapped.image(mapped.noisy(light, 64), "one"), target, RegistrationError)
    assert error.n_stars[1] < 5


def test_an_image_that_is_all_saturated_is_refused(seen, target):
    options = replace(ONE, image=InputOptions(saturation=10.0))
    error = refused(seen[1], target, PixelError, options)
    assert error.n_good == 0


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"data": np.full(OTHER, 7, np.float32)}, PixelError),
        ({"data": np.full(OTHER, np.nan, np.float32)}, PixelError),
        ({"mask": np.ones(OTHER, np.uint16)}, PixelError),
        ({"mask": np.zeros((4, 4), np.uint16)}, ShapeError),
        ({"gain": -1.0}, HeaderError),
    ],
)
def test_images_that_cannot_be_used(seen, ref, target, change, error):
    refused(replace(seen[1], **change), target, error)


def test_random_fields_are_never_matched():
    """Pairs that have nothing in common, a crowded one among them."""
    for seed, n in ((1, 60), (2, 250)):
        pair = [
            mapped.image(mapped.noisy(mapped.stars(100 * seed + k, n, OTHER).light(
                mapped.IDENTITY, OTHER, 3.0), 100 * seed + k))
            for k in (1, 2)
        ]  # fmt: skip
        refused(pair[0], pair[1], RegistrationError)
