"""The proper sum against its equations written out in double precision, and against statistics of noise.

The oracle shares no code with the package: complex transforms of whole planes, one line per equation.
Statistical tolerances are multiples of the standard error named beside them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import permutations

import numpy as np
import pytest

import skies
from skies import around_origin, blob
from zogyp.core import tiles
from zogyp.core.proper import Layer, ProperSum, View
from zogyp.errors import ShapeError

FWHM = skies.FWHM
# sides that transform quickly, odd and even: a tile without margin is then the whole, periodic plane
SHAPES = [(45, 48), (48, 45), (64, 60), (81, 75)]
LARGE = (400, 405)
UNITS = [1e-12, 1e12]


@dataclass(frozen=True)
class Shot:
    """An exposure whose PSF, noise and flux scale are the same everywhere."""

    data: np.ndarray
    psf: np.ndarray
    sigma: float
    flux: float
    shift: tuple[float, float] = (0.0, 0.0)
    psf_noise: float = 0.0
    bad: np.ndarray | None = None
    power: np.ndarray | None = None  # by frequency, of the full transform of the plane

    @property
    def view(self):
        half = None if self.power is None else self.power[:, : self.data.shape[1] // 2 + 1]
        return View(
            psf=lambda x, y: self.psf,
            sigma=lambda x, y: self.sigma,
            flux=lambda x, y: self.flux,
            shift=lambda x, y: self.shift,
            psf_noise=self.psf_noise,
            power=None if half is None else lambda tile: half.astype(np.float32),
        )

    @property
    def layer(self):
        """The variance is that of the sky alone."""
        weight = np.full(self.data.shape, (self.flux / self.sigma) ** 2, np.float32)
        if self.bad is not None:
            weight[self.bad] = 0
        variance = np.full(self.data.shape, (self.sigma / self.flux) ** 2, np.float32)
        return Layer(self.view, self.data.astype(np.float32), weight, variance)


def shots(shape, seed=0, *, widths=(0.8, 1.0, 1.3), light=0.0, size=9, **more):
    """Three unlike exposures of white noise, with ``light`` of flux 1 each convolved by its PSF."""
    rng = np.random.default_rng(seed)
    made = []
    for sigma, flux, width in zip((3.0, 1.2, 5.0), (1.0, 0.45, 1.7), widths, strict=True):
        psf = blob(size, width, 0.2)
        data = rng.normal(0, sigma, shape)
        if np.ndim(light):
            P = np.fft.fft2(around_origin(psf, shape))
            data += flux * np.fft.ifft2(np.fft.fft2(light) * P).real
        made.append(Shot(data, psf, sigma, flux, **more))
    return made


def one_tile(shape):
    """The whole plane as one periodic block."""
    plan = tiles.plan(shape, max(shape), 0, 0)
    assert len(plan) == 1 and plan[0].shape == shape and plan[0].start == (0, 0)
    return plan


def added(exposures, plan=None, **more):
    """The sum of exposures, by default in one tile."""
    shape = exposures[0].data.shape
    total = ProperSum(shape, one_tile(shape) if plan is None else plan, **more)
    for one in exposures:
        total.add(one.layer)
    return total


def literal(exposures):
    """Zackay & Ofek 2017, one equation a line, without any floor."""
    shape = exposures[0].data.shape
    fy, fx = np.fft.fftfreq(shape[0])[:, None], np.fft.fftfreq(shape[1])[None, :]
    A, B, depth = 0, 0, 0
    for e in exposures:
        P, M = np.fft.fft2(around_origin(e.psf, shape)), np.fft.fft2(e.data)
        M = M * np.exp(2j * np.pi * (fx * e.shift[0] + fy * e.shift[1]))  # stars back to their places
        v = 1.0 if e.power is None else e.power
        A = A + e.flux / e.sigma**2 * P.conj() * M / v
        B = B + e.flux**2 / e.sigma**2 * np.abs(P) ** 2 / v
        depth += e.flux**2 / e.sigma**2
    F_R = np.sqrt(depth)
    P_R = np.fft.ifft2(np.sqrt(B)).real / F_R
    return {"R": np.fft.ifft2(A / np.sqrt(B)).real, "F_R": F_R, "P_R": P_R, "A": A, "B": B}


def stamp_around(plane, size):
    """The (size, size) pixels around [0, 0] of a periodic plane."""
    h = size // 2
    return np.roll(plane, (h, h), (0, 1))[:size, :size]


# ---------------------------------------------------------------- the equations


@pytest.mark.parametrize("shape", SHAPES)
def test_sum_is_the_equation(shape):
    exposures = shots(shape)
    made, want = added(exposures).result(9), literal(exposures)
    # float32 transforms keep about 1e-6 of the largest value; R has a spread of 1
    np.testing.assert_allclose(made.R, want["R"], atol=1e-4)
    assert pytest.approx(want["F_R"], rel=1e-6) == made.F_R  # float32 weights
    assert made.R.dtype == made.variance.dtype == made.weight.dtype == np.float32
    np.testing.assert_array_equal(made.count, 3)


@pytest.mark.parametrize("shape", SHAPES)
def test_every_exposure_counts_with_its_own_weight(shape):
    """Each exposure alone holds something: what it brings is its own term of the sum."""
    exposures = shots(shape, 1)
    B = literal(exposures)["B"]
    for i in range(3):
        dark = [e if j == i else replace(e, data=0 * e.data) for j, e in enumerate(exposures)]
        term = np.fft.ifft2(literal([exposures[i]])["A"] / np.sqrt(B)).real
        np.testing.assert_allclose(added(dark).result(9).R, term, atol=1e-4)
        assert term.std() > 0.1


@pytest.mark.parametrize("shape", [(150, 163), (201, 140)])
@pytest.mark.parametrize("ramp", [0, 16, 64])
def test_many_tiles_give_what_one_gives(shape, ramp):
    exposures = shots(shape, 2)
    plan = tiles.plan(shape, 64, ramp, 24)
    assert len(plan) >= 6
    made, want = added(exposures, plan).result(9), literal(exposures)
    # the kernel of R falls below 1e-4 within 24 px; the oracle's plane is periodic, so its rim differs
    inside = np.s_[24:-24, 24:-24]
    np.testing.assert_allclose(made.R[inside], want["R"][inside], atol=1e-3)
    for (x, y), P in made.nodes:
        np.testing.assert_allclose(P, stamp_around(want["P_R"], 9), atol=1e-4)
        assert 0 <= x < shape[1] and 0 <= y < shape[0]
    assert len(made.nodes) == len(plan)


def test_flux_scale_is_the_root_of_the_sum_of_depths():
    exposures = shots((45, 48))
    depth = (1 / 3) ** 2 + (0.45 / 1.2) ** 2 + (1.7 / 5) ** 2
    assert pytest.approx(np.sqrt(depth), rel=1e-6) == added(exposures).F_R
    assert pytest.approx(1 / 3, rel=1e-6) == added(exposures[:1]).F_R


@pytest.mark.parametrize("shape", SHAPES)
def test_psf_of_the_sum(shape):
    exposures = shots(shape)
    want = literal(exposures)["P_R"]
    assert want.sum() == pytest.approx(1, abs=1e-12)
    size = 41
    ((place, P),) = added(exposures).result(size).nodes
    assert P.shape == (size, size) and P.dtype == np.float64
    assert P.sum() == pytest.approx(1, abs=1e-12)
    # of P_R 2e-4 lie outside of the stamp: it is divided by what is inside
    np.testing.assert_allclose(P, stamp_around(want, size), atol=5e-4 * want.max())
    assert np.unravel_index(P.argmax(), P.shape) == (size // 2, size // 2)
    np.testing.assert_allclose(P, P[::-1, ::-1], atol=1e-6)  # its transform is real, whatever the PSFs
    assert place == ((shape[1] - 1) / 2, (shape[0] - 1) / 2)


@pytest.mark.parametrize("shape", [(64, 60), (81, 75)])
def test_a_star_shows_as_its_flux_times_the_psf(shape):
    light = np.zeros(shape)
    light[20, 31] = f = 137.0
    exposures = [
        replace(a, data=a.data - b.data) for a, b in zip(shots(shape, light=light), shots(shape), strict=True)
    ]
    made = added(exposures).result(31)
    want = f * made.F_R * made.nodes[0][1]
    here = made.R[20 - 15 : 20 + 16, 31 - 15 : 31 + 16]
    np.testing.assert_allclose(here, want, atol=1e-3 * want.max())  # 2e-4 of P_R lie outside of its stamp


def test_a_flux_scale_that_varies_is_followed():
    """A star of flux f is F_R f P_R wherever it is; twice the flux scale on the right: less noise there."""
    shape, f = (60, 240), 50.0
    psf = blob(9, 1.0)
    data = np.zeros(shape)
    for x, scale in ((60, 1.0), (180, 2.0)):
        data[26:35, x - 4 : x + 5] += f * scale * psf
    plan = tiles.plan(shape, 120, 0, 12)
    right = np.arange(240)[None, :] > 119.5
    view = View(psf=lambda x, y: psf, sigma=lambda x, y: 3.0, flux=lambda x, y: 1.0 + (x > 119.5))
    weight = np.broadcast_to(np.where(right, 4.0, 1.0) / 9, shape).astype(np.float32)
    total = ProperSum(shape, plan)
    total.add(Layer(view, data.astype(np.float32), weight, 1 / weight))
    made = total.result(9)
    # as many pixels of either depth: the median is the mean of the two
    assert pytest.approx(np.sqrt((1 + 4) / 2 / 9), rel=1e-6) == made.F_R
    peaks = made.R[30, [60, 180]]
    np.testing.assert_allclose(peaks, f * made.F_R * made.nodes[0][1].max(), rtol=2e-3)  # P_R is cut
    np.testing.assert_allclose(made.variance[30, [60, 180]], made.F_R**2 * 9 / np.array([1, 4]), rtol=1e-5)


# ---------------------------------------------------------------- statistics


@pytest.mark.parametrize("widths", [(0.6, 0.8, 1.1), (0.8, 1.5, 2.5), (3.0, 2.0, 4.0)])
@pytest.mark.parametrize("psf_noise", [0.0, 1e-3, 3e-2])
def test_sum_of_noise_is_white_and_of_unit_variance(widths, psf_noise):
    """Also where the PSFs have lost all power: 2 px and more of a Gaussian's sigma leave 1e-8 of it."""
    R = added(shots(LARGE, 3, widths=widths, size=41, psf_noise=psf_noise)).result(9).R
    n = R.size
    assert R.std() == pytest.approx(1, abs=4 / np.sqrt(2 * n))  # standard error of a spread
    for step in ((0, 1), (1, 0), (1, 1), (2, 0), (0, 3)):
        assert np.mean(R * np.roll(R, step, (0, 1))) == pytest.approx(0, abs=4 / np.sqrt(n))


def test_noise_in_many_tiles_is_white():
    R = added(shots(LARGE, 4), tiles.plan(LARGE, 150, 32, 24)).result(9).R
    n = R.size
    assert R.std() == pytest.approx(1, abs=4 / np.sqrt(2 * n))  # standard error of a spread
    for axis in (0, 1):
        assert np.mean(R * np.roll(R, 1, axis)) == pytest.approx(0, abs=4 / np.sqrt(n))


def test_nothing_of_a_faint_star_is_lost():
    """Signal and noise of the filtered sum, the noise from what each single pixel of each exposure does."""
    shape, f = (64, 60), 10.0
    light, point = np.zeros(shape), np.zeros(shape)
    light[30, 30], point[30, 30] = f, 1.0
    noise = shots(shape)
    lit = [replace(a, data=a.data - b.data) for a, b in zip(shots(shape, light=light), noise, strict=True)]
    made = added(lit).result(59)
    P_R = around_origin(made.nodes[0][1], shape)

    def score(R):
        return np.fft.ifft2(np.fft.fft2(R) * np.fft.fft2(P_R).conj()).real

    variance = 0.0
    for i, one in enumerate(noise):
        dark = [replace(e, data=point if j == i else 0 * point) for j, e in enumerate(noise)]
        variance += one.sigma**2 * (score(added(dark).result(9).R) ** 2).sum()
    optimum = f * np.sqrt(sum((e.flux / e.sigma) ** 2 * (e.psf**2).sum() for e in noise))
    assert score(made.R)[30, 30] / np.sqrt(variance) == pytest.approx(optimum, rel=0.005)  # as promised


@pytest.mark.parametrize("seed", [1, 2])
def test_coloured_noise_is_made_white(seed):
    """One exposure's noise is smoothed, as interpolation does; it weighs what its spectrum says."""
    exposures = shots(LARGE, seed)
    blur = np.fft.fft2(around_origin(np.outer([0.1, 0.8, 0.1], [0.2, 0.6, 0.2]), LARGE)).real
    first = exposures[0]
    data = np.fft.ifft2(np.fft.fft2(first.data) * blur).real
    exposures[0] = replace(first, data=data, power=blur**2)
    made, want = added(exposures).result(9), literal(exposures)
    # the blur leaves 1.2e-3 of the power at the corner: float32 is worth 1e-6 / 0.036 there
    np.testing.assert_allclose(made.R, want["R"], atol=1e-3)
    n = made.R.size
    assert made.R.std() == pytest.approx(1, abs=4 / np.sqrt(2 * n))  # standard error of a spread
    for axis in (0, 1):
        assert np.mean(made.R * np.roll(made.R, 1, axis)) == pytest.approx(0, abs=4 / np.sqrt(n))


# ---------------------------------------------------------------- order, merging, taking out


def test_order_does_not_matter():
    exposures = shots((64, 60))
    plan = tiles.plan((64, 60), 40, 16, 12)
    want = added(exposures, plan).result(9)
    for order in permutations(range(3)):
        made = added([exposures[i] for i in order], plan).result(9)
        np.testing.assert_allclose(made.R, want.R, atol=1e-5)  # rounding of float32
        np.testing.assert_allclose(made.variance, want.variance, rtol=1e-6)
        assert pytest.approx(want.F_R, rel=1e-12) == made.F_R


def with_hole(exposures):
    """The second exposure has no pixel in the upper left quarter."""
    shape = exposures[0].data.shape
    bad = np.zeros(shape, bool)
    bad[: shape[0] // 2, : shape[1] // 2] = True
    return [exposures[0], replace(exposures[1], bad=bad), *exposures[2:]]


def agree(made, want, atol=1e-5):
    """Two results are the same but for rounding."""
    np.testing.assert_allclose(made.R, want.R, atol=atol)
    np.testing.assert_allclose(made.variance, want.variance, rtol=1e-5)
    np.testing.assert_allclose(made.weight, want.weight, rtol=1e-6)
    np.testing.assert_array_equal(made.count, want.count)
    assert pytest.approx(want.F_R, rel=1e-9) == made.F_R
    assert len(made.nodes) == len(want.nodes)
    for (p, a), (q, b) in zip(made.nodes, want.nodes, strict=True):
        assert p == q
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_halves_merged_are_the_whole():
    """Also where one half has a tile that the other has not."""
    shape = (90, 100)
    exposures = with_hole(shots(shape))
    plan = tiles.plan(shape, 45, 0, 8)
    halves = [added(exposures[:1], plan), added(exposures[1:2], plan), added(exposures[2:], plan)]
    assert halves[1].cells[0] is None
    total = halves[1]
    total.merge(halves[0])
    total.merge(halves[2])
    agree(total.result(9), added(exposures, plan).result(9))
    np.testing.assert_array_equal(total.count[:45, :50], 2)


def test_merging_leaves_the_other_alone():
    plan = one_tile((45, 48))
    exposures = shots((45, 48))
    one, other = (added(exposures[i : i + 1], plan) for i in (0, 1))
    before = other.result(9)
    empty = ProperSum((45, 48), plan)
    empty.merge(other)
    empty.merge(one)
    agree(other.result(9), before, atol=0)


@pytest.mark.parametrize(
    "plan",
    [
        tiles.plan((60, 72), 20, 0, 8),
        tiles.plan((60, 72), 30, 0, 9),
        tiles.plan((60, 72), 30, 8, 8)[:-1],
        tiles.plan((72, 60), 30, 0, 8),
        [replace(t, start=(t.start[0] - 1, t.start[1])) for t in tiles.plan((60, 72), 30, 0, 8)],
    ],
    ids=["other tiles", "other blocks", "fewer", "other grid", "beside"],
)
def test_sums_of_another_plan_are_not_merged(plan):
    shape = (72, 60) if plan[-1].inner[0].stop == 72 else (60, 72)
    total = ProperSum((60, 72), tiles.plan((60, 72), 30, 0, 8))
    with pytest.raises(ShapeError, match="one plan can be merged"):
        total.merge(ProperSum(shape, plan))


@pytest.mark.parametrize("name", ["data", "weight", "variance"])
def test_planes_of_another_shape_are_refused(name):
    layer = shots((45, 48))[0].layer
    total = ProperSum((45, 48), one_tile((45, 48)))
    with pytest.raises(ShapeError, match=f"the exposure's {name}"):
        total.add(replace(layer, **{name: getattr(layer, name)[:-1]}))
    assert not total.count.any() and total.cells == [None], "nothing of it is in"


@pytest.mark.parametrize("shape", [(150, 163)])
def test_threads_do_not_matter(shape):
    exposures = shots(shape)
    plan = tiles.plan(shape, 64, 32, 16)
    one, three = (added(exposures, plan, n_threads=n) for n in (1, 3))
    for a, b in zip(one.predict(exposures[1].view), three.predict(exposures[1].view), strict=True):
        np.testing.assert_array_equal(a, b)
    agree(one.result(9), three.result(9), atol=0)


def test_light_alone_is_enough_for_a_prediction():
    shape = (90, 100)
    exposures = with_hole(shots(shape))
    plan = tiles.plan(shape, 45, 0, 8)
    total, light = added(exposures, plan), ProperSum(shape, plan)
    for one in exposures:
        light.add_light(one.view, one.layer.data, one.layer.weight > 0)
    for sign in (1, -1):
        for a, b in zip(total.predict(exposures[1].view), light.predict(exposures[1].view), strict=True):
            np.testing.assert_array_equal(a, b)
        if sign > 0:
            total.add(exposures[2].layer, -1)
            light.add_light(exposures[2].view, exposures[2].layer.data, exposures[2].layer.weight > 0, -1)
    assert not light.weight.any() and not light.count.any() and total.count.any()


def test_nothing_is_added_where_nothing_is_usable():
    shape = (90, 100)
    total = ProperSum(shape, tiles.plan(shape, 45, 0, 8))
    usable = np.zeros(shape, bool)
    usable[:5, :5] = True
    one = shots(shape)[0]
    total.add_light(one.view, one.layer.data, usable)
    assert [cell is not None for cell in total.cells] == [
        bool(usable[tile.inner].any()) for tile in total.plan
    ]


def test_an_exposure_is_taken_out_again():
    shape = (90, 100)
    exposures = with_hole(shots(shape))
    plan = tiles.plan(shape, 45, 0, 8)
    total = added(exposures, plan)
    total.add(exposures[1].layer, sign=-1)
    agree(total.result(9), added([exposures[0], exposures[2]], plan).result(9), atol=1e-4)


def test_taking_out_the_sharpest_leaves_no_noise_behind():
    """Where only the sharp one told anything, what is left of it must not be blown up."""
    exposures = shots(LARGE, 5, widths=(0.6, 2.5, 3.0), size=41)
    total = added(exposures)
    total.add(exposures[0].layer, sign=-1)
    R, want = total.result(9).R, added(exposures[1:]).result(9).R
    assert np.isfinite(R).all()
    # what cannot be told is weighed down, never up; more than half of the information stays
    assert R.std() < 1 + 4 / np.sqrt(2 * R.size)
    P = np.fft.fft2(around_origin(blob(41, 2.5), LARGE))
    S, T = (np.fft.ifft2(np.fft.fft2(p) * P.conj()).real for p in (R, want))
    assert np.corrcoef(S.ravel(), T.ravel())[0, 1] > 0.99  # at the frequencies that show a star


def test_taking_out_with_another_psf_leaves_no_noise_behind():
    """It was measured anew: what is left of it must not be blown up where nothing else told anything."""
    exposures = shots(LARGE, 5, widths=(0.6, 2.5, 3.0), size=41)
    total = added(exposures)
    total.add(replace(exposures[0], psf=blob(41, 0.59)).layer, sign=-1)
    once_more = ProperSum(LARGE, total.plan)
    once_more.merge(total)
    for R in (total.result(9).R, once_more.result(9).R):
        assert np.isfinite(R).all() and R.std() < 1.05


def test_what_went_in_comes_out_to_the_last():
    exposures = shots((45, 48))
    total = added(exposures)
    for one in exposures:
        total.add(one.layer, sign=-1)
    made = total.result(9)
    assert np.isnan(made.R).all() and not made.count.any()
    assert made.F_R == 0 and not made.weight.any()


def test_the_sum_is_an_exposure_itself():
    """Of flux scale F_R, sigma 1 and PSF P_R: another may be added to what was written of it."""
    shape = (81, 75)
    exposures = shots(shape, 6)
    made = added(exposures[:2]).result(73)
    (_, P_R) = made.nodes[0]
    summed = Shot(made.R, P_R, 1.0, made.F_R)
    want = literal(exposures)["R"]
    # P_R is cut to 73 px, the phases that sharpen it at its least power are known to float32
    np.testing.assert_allclose(added([summed, exposures[2]]).result(9).R, want, atol=2e-3)


def test_an_empty_sum():
    total = ProperSum((45, 48), one_tile((45, 48)))
    made = total.result(9)
    assert made.F_R == 0 and made.nodes == []
    assert np.isnan(made.R).all() and np.isnan(made.variance).all()
    assert not made.weight.any() and not made.count.any()
    prediction, share = total.predict(shots((45, 48))[0].view)
    assert not prediction.any() and (share == 1).all()


# ---------------------------------------------------------------- shifts and units


def starry(shape, shift, fwhm=3.4):
    """Stars drawn where they are, some of them near each other."""
    image = np.zeros(shape)
    for x, y, f in ((30.2, 25.7, 900.0), (33.0, 28.1, 300.0), (41.6, 40.4, 500.0)):
        skies.add(image, x + shift[0], y + shift[1], f, skies.gaussian(fwhm), 41)
    return image


@pytest.mark.parametrize("shape", [(64, 72), (75, 81)])
def test_a_known_shift_is_taken_out(shape):
    shift, fwhm = (0.3, -0.7), 3.4
    psf = skies.stamp(skies.gaussian(fwhm), 0, 0, 41)
    plain = [Shot(starry(shape, (0, 0)), psf, 2.0, 1.0) for _ in range(2)]
    moved = [plain[0], replace(plain[1], data=starry(shape, shift), shift=shift)]
    made, want = added(moved).result(9).R, added(plain).result(9).R
    # at half a cycle per pixel a Gaussian of 3.4 px has 3e-5 of its light, which pixels fold over
    np.testing.assert_allclose(made, want, atol=1e-3 * np.abs(want).max())
    blurred = added([plain[0], replace(moved[1], shift=(0, 0))]).result(9).R
    assert np.abs(blurred - want).max() > 0.05 * np.abs(want).max(), "the shift is there to be seen"


def test_a_shift_leaves_noise_white():
    exposures = [
        replace(e, shift=s) for e, s in zip(shots(LARGE, 7), ((0.5, 0), (-0.3, 0.5), (2.25, -1)), strict=True)
    ]
    made, want = added(exposures).result(9).R, literal(exposures)["R"]
    n = made.size
    assert made.std() == pytest.approx(1, abs=4 / np.sqrt(2 * n))  # standard error of a spread
    for axis in (0, 1):
        assert np.mean(made * np.roll(made, 1, axis)) == pytest.approx(0, abs=4 / np.sqrt(n))
    assert np.std(made - want) < 0.05  # the Nyquist row and column alone: 1/400 of the power each way


@pytest.mark.parametrize("unit", UNITS)
def test_the_unit_of_the_images_does_not_matter(unit):
    exposures = shots((64, 60))
    scaled = [replace(e, data=e.data * unit, sigma=e.sigma * unit, flux=e.flux * unit) for e in exposures]
    total, want = added(scaled), added(exposures)
    agree(total.result(9), want.result(9), atol=1e-4)
    (a, share_a), (b, share_b) = total.predict(scaled[0].view), want.predict(exposures[0].view)
    np.testing.assert_allclose(a, b * np.float32(unit), rtol=1e-3, atol=1e-4 * unit)
    np.testing.assert_allclose(share_a, share_b, rtol=1e-5)


def test_the_flux_scale_of_an_exposure_does_not_matter():
    """A longer exposure of the same depth, or one in electrons: numbers change, information does not."""
    exposures = shots((64, 60))
    e = exposures[1]
    longer = replace(e, data=7.3 * e.data, sigma=7.3 * e.sigma, flux=7.3 * e.flux)
    agree(added([exposures[0], longer, exposures[2]]).result(9), added(exposures).result(9), atol=1e-4)


# ---------------------------------------------------------------- what the sum has an exposure show


def residual_power(exposures, i):
    """Of data less prediction, by frequency, in units of sigma²: what no other exposure can explain."""
    e, B = exposures[i], literal(exposures)["B"]
    v = 1.0 if e.power is None else e.power
    P = np.fft.fft2(around_origin(e.psf, e.data.shape))
    return v - e.flux**2 / e.sigma**2 * np.abs(P) ** 2 / B


# an even side's Nyquist frequency shows of a fraction of a pixel what one chooses
@pytest.mark.parametrize("shape, shift", [((64, 60), (-2, 1)), ((81, 75), (0.4, -0.2))])
def test_prediction_is_the_fit(shape, shift):
    exposures = shots(shape, 8)
    exposures[2] = replace(exposures[2], shift=shift)
    total, want = added(exposures), literal(exposures)
    fy, fx = np.fft.fftfreq(shape[0])[:, None], np.fft.fftfreq(shape[1])[None, :]
    shares = []
    for i, e in enumerate(exposures):
        prediction, share = total.predict(e.view)
        P = np.fft.fft2(around_origin(e.psf, shape))
        P = P * np.exp(-2j * np.pi * (fx * e.shift[0] + fy * e.shift[1]))
        fit = np.fft.ifft2(e.flux * P * want["A"] / want["B"])
        np.testing.assert_allclose(prediction, fit.real, atol=1e-4 * e.sigma)
        assert share.std() < 1e-6
        assert share[0, 0] == pytest.approx(residual_power(exposures, i).mean(), abs=1e-5)
        shares.append(share[0, 0])
    # one number is fitted to three, at each frequency
    assert sum(shares) == pytest.approx(2, abs=1e-5)


@pytest.mark.parametrize("i", [0, 1, 2])
def test_residuals_scatter_as_they_are_said_to(i):
    exposures = shots(LARGE, 9)
    prediction, share = added(exposures).predict(exposures[i].view)
    rest = exposures[i].data - prediction
    power = residual_power(exposures, i)
    # standard error of a variance whose frequencies have unlike power
    error = np.sqrt(2 * np.mean(power**2) / power.mean() ** 2 / rest.size)
    assert (rest**2).mean() / exposures[i].sigma ** 2 == pytest.approx(share[0, 0], rel=4 * error)
    assert 0.2 < share[0, 0] < 0.97


def test_residuals_of_coloured_noise_scatter_as_they_are_said_to():
    exposures = shots(LARGE, 10)
    blur = np.fft.fft2(around_origin(np.outer([0.1, 0.8, 0.1], [0.15, 0.7, 0.15]), LARGE)).real
    data = np.fft.ifft2(np.fft.fft2(exposures[0].data) * blur).real
    exposures[0] = replace(exposures[0], data=data, power=blur**2)
    prediction, share = added(exposures).predict(exposures[0].view)
    rest = data - prediction
    power = residual_power(exposures, 0)
    error = np.sqrt(2 * np.mean(power**2) / power.mean() ** 2 / rest.size)  # as above
    assert (rest**2).mean() / exposures[0].sigma ** 2 == pytest.approx(share[0, 0], rel=4 * error)


@pytest.mark.parametrize("tiled", [False, True])
def test_a_pixel_that_is_too_bright_keeps_its_share(tiled):
    shape, a = (150, 162), 500.0
    plan = tiles.plan(shape, 60, 24, 24) if tiled else one_tile(shape)
    exposures = shots(shape, 11)
    hot = exposures[1].data.copy()
    hot[61, 58] += a  # where tiles are blended
    rests = []
    for one in (exposures[1], replace(exposures[1], data=hot)):
        total = added([exposures[0], one, exposures[2]], plan)
        prediction, share = total.predict(one.view)
        rests.append(one.data - prediction)
    assert (rests[1] - rests[0])[61, 58] == pytest.approx(share[61, 58] * a, rel=1e-3)  # tiles' margins


# ---------------------------------------------------------------- noise, and pixels that are missing


def test_variance_of_the_sky_is_one():
    made = added(shots((64, 60))).result(9)
    np.testing.assert_allclose(made.variance, 1, rtol=1e-6)
    np.testing.assert_allclose(made.weight, made.F_R**2, rtol=1e-6)


def test_variance_counts_all_noise_with_the_weights_of_the_sky():
    """A star adds photons to one exposure: they count by the square of that exposure's weight."""
    exposures = shots((64, 60))
    layers = [e.layer for e in exposures]
    more = layers[1].variance.copy()
    more[10:20, 30:40] *= 5
    layers[1] = replace(layers[1], variance=more)
    total = ProperSum((64, 60), one_tile((64, 60)))
    for layer in layers:
        total.add(layer)
    w = np.array([(e.flux / e.sigma) ** 2 for e in exposures])
    variance = total.result(9).variance
    expected = (w[0] + 5 * w[1] + w[2]) / w.sum()  # F_R² sum(w² V) / (sum w)², V = 1 / w but five times that
    np.testing.assert_allclose(variance[10:20, 30:40], expected, rtol=1e-5)
    assert variance[0, 0] == pytest.approx(1, rel=1e-6)


def test_where_an_exposure_is_masked_the_variance_is_that_of_the_others():
    """Its pixels filled with what the others show; with one PSF, R there is theirs, at the same flux."""
    shape, box = LARGE, np.s_[60:340, 60:340]
    rng = np.random.default_rng(12)
    psf = blob(9, 1.0)
    exposures = [Shot(rng.normal(0, s, shape), psf, s, f) for s, f in ((3.0, 1.0), (1.2, 0.45), (5.0, 1.7))]
    others = added(exposures[:2])
    prediction, _ = others.predict(exposures[2].view)
    bad = np.zeros(shape, bool)
    bad[box] = True
    masked = replace(exposures[2], data=np.where(bad, prediction, exposures[2].data), bad=bad)
    made = added([*exposures[:2], masked]).result(9)
    np.testing.assert_array_equal(made.count, np.where(bad, 2, 3))
    np.testing.assert_allclose(made.variance, made.F_R**2 / made.weight, rtol=1e-5)
    w = [(e.flux / e.sigma) ** 2 for e in exposures]
    assert pytest.approx(np.sqrt(sum(w)), rel=1e-6) == made.F_R, "that of most pixels"
    expected = sum(w) / sum(w[:2])
    np.testing.assert_allclose(made.variance[box], expected, rtol=1e-5)
    R = made.R[70:330, 70:330]  # the PSF reaches 4 px
    assert R.var() == pytest.approx(expected, rel=4 * np.sqrt(2 / R.size))  # standard error of a variance
    out = made.R[~bad]
    assert out.var() == pytest.approx(1, abs=0.02)  # the rim within 4 px: 6 per cent, in between


def test_where_no_exposure_has_a_pixel_there_is_nothing():
    bad = np.zeros((64, 60), bool)
    bad[5:9, 40:44] = True
    exposures = [replace(e, bad=bad, data=np.where(bad, 0, e.data)) for e in shots((64, 60))]
    made = added(exposures).result(9)
    assert np.array_equal(np.isnan(made.R), bad) and np.array_equal(np.isnan(made.variance), bad)
    assert not made.weight[bad].any() and not made.count[bad].any()
    np.testing.assert_array_equal(made.count[~bad], 3)


def test_a_tile_without_pixels_is_empty_and_the_others_do_not_know():
    shape = (90, 100)
    plan = tiles.plan(shape, 45, 0, 8)
    bad = np.zeros(shape, bool)
    bad[:45, :50] = True
    made = added([replace(e, bad=bad) for e in shots(shape)], plan).result(9)
    assert len(made.nodes) == len(plan) - 1
    assert np.array_equal(np.isnan(made.R), bad)
    w = sum((e.flux / e.sigma) ** 2 for e in shots(shape))
    assert pytest.approx(np.sqrt(w), rel=1e-6) == made.F_R


def test_flux_scale_is_that_of_the_pixels_that_are_there():
    """Three quarters of the grid have none, and the rest has two exposures or three, most of it three."""
    exposures = shots((64, 60))
    bad = np.ones((64, 60), bool)
    bad[:32, :30] = False
    fewer = bad.copy()
    fewer[:5] = True
    exposures = [replace(e, bad=fewer if i == 1 else bad) for i, e in enumerate(exposures)]
    w = sum((e.flux / e.sigma) ** 2 for e in exposures)
    assert pytest.approx(np.sqrt(w), rel=1e-6) == added(exposures).F_R


# ---------------------------------------------------------------- PSFs that are noisy themselves


def noisy_psfs(shape, seed, error=2e-4, told=True):
    """Exposures whose PSFs of 2 px and more in sigma were measured with an error in each of 31² pixels."""
    rng = np.random.default_rng(seed)
    made = []
    for e in shots(shape, seed, widths=(2.0, 2.5, 3.0), size=31):
        psf = e.psf + rng.normal(0, error, e.psf.shape)
        noise = error * 31 if told else 0.0  # 31² independent errors add in quadrature, at any frequency
        made.append(replace(e, psf=psf / psf.sum(), psf_noise=noise))
    return made


def test_with_noisy_psfs_the_sum_is_white():
    R = added(noisy_psfs(LARGE, 13)).result(9).R
    n = R.size
    assert R.std() == pytest.approx(1, abs=4 / np.sqrt(2 * n))  # standard error of a spread
    for axis in (0, 1):
        assert np.mean(R * np.roll(R, 1, axis)) == pytest.approx(0, abs=4 / np.sqrt(n))


def spread_of_a_hot_pixel(exposures):
    """Share of the energy in R that lies outside of the PSF's box around one bright pixel."""
    shape = exposures[0].data.shape
    point = np.zeros(shape)
    point[shape[0] // 2, shape[1] // 2] = 1000.0
    dark = [replace(e, data=0 * point) for e in exposures]
    shares = []
    for i in range(len(dark)):
        lit = [replace(e, data=point) if j == i else e for j, e in enumerate(dark)]
        energy = added(lit).result(9).R.astype(float) ** 2
        middle = stamp_around(np.roll(energy, (-(shape[0] // 2), -(shape[1] // 2)), (0, 1)), 31)
        shares.append(1 - middle.sum() / energy.sum())
    return shares


def test_with_noisy_psfs_a_hot_pixel_stays_where_it_is():
    shape = (200, 216)
    assert max(spread_of_a_hot_pixel(noisy_psfs(shape, 14))) < 1e-3
    # frequencies at which a PSF is nothing but noise, taken at their word, throw it over the whole image
    assert max(spread_of_a_hot_pixel(noisy_psfs(shape, 14, told=False))) > 0.02


def test_light_arrives_with_the_psf_that_is_told():
    """Where PSFs are taken for noise the sum has a floor, its PSF has none: that would be a spike."""
    shape, f = (200, 216), 100.0
    light = np.zeros(shape)
    light[90, 100] = f
    more = {"widths": (1.0, 1.4, 1.8), "size": 31, "psf_noise": 0.002}
    lit = [
        replace(a, data=a.data - b.data)
        for a, b in zip(shots(shape, light=light, **more), shots(shape, **more), strict=True)
    ]
    made = added(lit).result(41)
    here = made.R[90 - 20 : 90 + 21, 100 - 20 : 100 + 21] / (f * made.F_R)
    P_R = made.nodes[0][1]
    # what lies within a factor of two of the floor is half believed: 3e-3 of the peak; a spike has 1.4e-2
    np.testing.assert_allclose(here, P_R, atol=5e-3 * P_R.max())
