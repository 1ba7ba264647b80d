"""Two images brought onto one grid before subtraction: when one moves, when none does, what is refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from astropy.io import fits

import mapped
import skies
import zogyp
from zogyp.errors import RegistrationError, ShapeError
from zogyp.image import Flag
from zogyp.onegrid import bring_together
from zogyp.options import RegistrationOptions, SubtractOptions
from zogyp.simulate import simulate
from zogyp.sky import Sky

GRID = (360, 380)
FWHM_NEW, FWHM_REF = 3.4, 3.0
ONE = SubtractOptions(threads=1)
PLACE, FLUX = (203.3, 141.8), 6000.0  # of a transient on the new image


def mode(name, **more):
    return replace(ONE, align=RegistrationOptions(mode=name), **more)


def exposed(stars, known, seed, fwhm, shape=GRID, name="image", **more):
    return mapped.image(mapped.noisy(stars.light(known, shape, fwhm), seed), name, **more)


@pytest.fixture(scope="module")
def stars():
    """No star lies on the transient."""
    s = mapped.stars(5, 220, GRID, flux=(2e3, 1e5))
    far = np.hypot(s.x - PLACE[0], s.y - PLACE[1]) > 15
    return mapped.Stars(s.x[far], s.y[far], s.flux[far])


@pytest.fixture(scope="module")
def new(stars):
    return exposed(stars.plus(*PLACE, FLUX), mapped.IDENTITY, 6, FWHM_NEW, name="new", wcs=mapped.wcs())


@pytest.fixture(scope="module")
def turn():
    return mapped.turned(GRID, GRID, angle=11.0, shift=(20.3, -9.6))


@pytest.fixture(scope="module")
def turned(stars, turn):
    """The reference, shifted and rotated, without a WCS."""
    return exposed(stars, turn, 7, FWHM_REF, name="turned")


@pytest.fixture(scope="module")
def result(new, turned):
    return zogyp.subtract(new, turned, ONE)


def rectangle(shape):
    """A bad-pixel mask of a grid, a rectangle of it bad."""
    mask = np.zeros(shape, np.uint8)
    mask[100:110, 250:270] = 1
    return mask


# ---------------------------------------------------------------- nothing to move


def test_images_on_one_grid_are_not_resampled(stars, new):
    ref = exposed(stars, mapped.IDENTITY, 8, FWHM_REF, name="ref")
    pair = bring_together(new, ref, ONE)
    assert not pair.moved and not pair.notes
    assert np.array_equal(pair.ref.image.data, ref.data) and np.array_equal(pair.new.image.data, new.data)
    assert not pair.ref.image.resampled
    assert pair.registration.near_identity(GRID)


def test_a_fraction_of_a_pixel_is_left_to_the_subtraction(stars, new):
    """Interpolation costs more than half a pixel does, which the images' own stars see to."""
    ref = exposed(stars, mapped.turned(GRID, GRID, shift=(0.4, -0.3)), 9, FWHM_REF, name="ref")
    pair = bring_together(new, ref, ONE)
    assert not pair.moved and np.array_equal(pair.ref.image.data, ref.data)
    told = pair.registration.transform.matrix[:, 2]
    # some hundred stars of 0.1 px: a few hundredths at the corner
    assert told == pytest.approx([0.4, -0.3], abs=0.06)


def test_without_alignment_nothing_is_asked_and_nothing_moves(new, turned):
    pair = bring_together(new, turned, mode("none"))
    assert pair.registration is None and not pair.moved
    assert np.array_equal(pair.ref.image.data, turned.data)
    with pytest.raises(ShapeError, match="--align none") as caught:
        bring_together(new, turned.cutout(np.s_[:-1]), mode("none"))
    assert (caught.value.shape, caught.value.wanted) == ((GRID[0] - 1, GRID[1]), GRID)


def test_few_stars_of_images_of_one_shape_are_trusted_with_a_note(stars):
    """Two stars match whatever the map: the shape is all there is."""
    few = mapped.Stars(np.array([90.0, 250.0]), np.array([120.0, 300.0]), np.array([3e4, 5e4]))
    pair = bring_together(*(exposed(few, mapped.IDENTITY, seed, 3.0) for seed in (61, 62)), ONE)
    assert not pair.moved and pair.registration is None
    assert any("share their pixels" in note for note in pair.notes)


def test_the_note_on_few_stars_comes_through_to_the_summary():
    few = mapped.Stars(np.array([90.0, 250.0]), np.array([120.0, 300.0]), np.array([3e4, 5e4]))
    images = [exposed(few, mapped.IDENTITY, seed, 3.0) for seed in (61, 62)]
    options = replace(ONE, flux_ratio=1.0, psf=zogyp.PSFOptions(min_stars=2, order=0))
    summary = zogyp.subtract(*images, options).summary
    assert summary["alignment"]["resampled"] is False
    assert any("share their pixels" in note for note in summary["notes"])


def test_faint_light_that_two_images_share_tells_that_they_share_their_pixels():
    """A thousand stars too faint to be found one by one: together they correlate as they are."""
    faint = mapped.stars(63, 3000, GRID, beyond=10, flux=(80, 300))
    pair = bring_together(*(exposed(faint, mapped.IDENTITY, seed, 3.0) for seed in (64, 65)), ONE)
    assert not pair.moved
    assert pair.registration is not None or "light of all" in pair.notes[0]


def test_few_stars_of_two_shapes_are_refused():
    few = mapped.Stars(np.array([90.0, 250.0]), np.array([120.0, 300.0]), np.array([3e4, 5e4]))
    images = [exposed(few, mapped.IDENTITY, 61, 3.0), exposed(few, mapped.IDENTITY, 62, 3.0, (350, 380))]
    with pytest.raises(RegistrationError):
        bring_together(*images, ONE)


# ---------------------------------------------------------------- one of them moves


@pytest.mark.parametrize("shift", [(20.0, 0.0), (-7.5, 2.25)])
def test_images_of_one_shape_that_are_shifted_are_resampled(stars, new, shift):
    ref = exposed(stars, mapped.turned(GRID, GRID, shift=shift), 10, FWHM_REF, name="ref")
    pair = bring_together(new, ref, ONE)
    assert pair.moved and pair.ref.image.resampled and not pair.new.image.resampled
    assert np.array_equal(pair.new.image.data, new.data)
    x, y = np.meshgrid([0, GRID[1] - 1], [0, GRID[0] - 1])
    u, v = pair.registration.transform(x, y)
    # some hundred stars of 0.1 px and better, at the corners
    assert np.abs([u - x - shift[0], v - y - shift[1]]).max() < 0.08


def test_shift_and_rotation_are_subtracted_to_noise(result):
    """S_corr is in units of its spread although one image was interpolated."""
    told = result.summary["alignment"]
    assert told["resampled"] and told["rotation"] == pytest.approx(11.0, abs=0.03)
    scorr = result.Scorr[np.isfinite(result.Scorr)].astype(float)
    spread = 1.4826 * np.median(np.abs(scorr - np.median(scorr)))
    # 110,000 pixels of some 30 correlated ones: chance leaves 1.5 %, twice that is asked for
    assert spread == pytest.approx(1, abs=0.03)


def test_a_transient_is_found_in_place_and_flux(result):
    t = result.transients
    row = t[np.argmin(np.hypot(t["x"] - PLACE[0], t["y"] - PLACE[1]))]
    # S/N of about 40: a centroid of 0.04 px; the flux within 4 errors and 2 % for the PSF of a hundred stars
    assert np.hypot(row["x"] - PLACE[0], row["y"] - PLACE[1]) < 0.25
    assert abs(row["flux"] - FLUX) < 4 * row["flux_err"] + 0.02 * FLUX
    assert row["snr"] > 15
    others = [r for r in t if np.hypot(r["x"] - PLACE[0], r["y"] - PLACE[1]) > 5]
    # Gaussian noise has 0.04 peaks beyond 5 sigma in so few pixels; borders and bright cores may add one
    assert sum(not r["flags"] for r in others) <= 1


def test_where_the_reference_has_nothing_nothing_is_judged(result, turn):
    y, x = np.indices(GRID)
    u, v = turn(x, y)
    beyond = (u < -1) | (v < -1) | (u > GRID[1]) | (v > GRID[0])
    assert beyond.mean() > 0.05
    assert np.isnan(result.Scorr[beyond]).all()
    assert ((result.mask[beyond] & Flag.NO_DATA.ref()) > 0).all()
    deep = (u > 30) & (v > 30) & (u < GRID[1] - 30) & (v < GRID[0] - 30)
    assert np.isfinite(result.Scorr[deep & (result.mask == 0)]).all()
    assert (result.mask[deep] & Flag.NO_DATA.ref() == 0).all()


def test_results_may_be_on_the_grid_of_the_reference(new, turned, turn, tmp_path):
    """A PSF that is given for the new image moves with it."""
    reference = replace(turned, wcs=mapped.wcs(turn))
    fits.writeto(tmp_path / "psf.fits", skies.stamp(skies.gaussian(FWHM_NEW), 0, 0, 25))
    options = replace(ONE, grid="reference", new=zogyp.InputOptions(psf=str(tmp_path / "psf.fits")))
    result = zogyp.subtract(new, reference, options)
    assert result.summary["inputs"]["new"]["n_stars"] == 0  # it was not measured
    # round, and as wide as before: the B-spline adds 0.1 % to a Gaussian of 3.4 px
    wanted = skies.stamp(skies.gaussian(FWHM_NEW), 0, 0, result.psf_new.shape[0])
    assert np.abs(result.psf_new - wanted).max() < 3e-3 * wanted.max()
    assert np.array_equal(result.ref.data, turned.data) and result.new.resampled
    assert result.D.shape == turned.shape and result.new.wcs is reference.wcs
    at = np.ravel(turn(*PLACE))
    t = result.transients
    row = t[np.argmin(np.hypot(t["x"] - at[0], t["y"] - at[1]))]
    # as on the new image's own pixels
    assert np.hypot(row["x"] - at[0], row["y"] - at[1]) < 0.25
    assert abs(row["flux"] - FLUX) < 4 * row["flux_err"] + 0.02 * FLUX
    ra, dec = mapped.wcs().pixel_to_world_values(*PLACE)
    # 0.25 px of one second of arc
    assert np.hypot((row["ra"] - ra) * np.cos(np.deg2rad(dec)), row["dec"] - dec) * 3600 < 0.3


def test_images_of_different_shapes_and_scales_are_brought_together(stars, new):
    """A reference of pixels 1.6 times as large, mirrored."""
    known = mapped.turned(GRID, (260, 250), scale=1 / 1.6, angle=77, mirrored=True)
    ref = exposed(stars, known, 11, 2.4, (260, 250), name="ref")
    pair = bring_together(new, ref, ONE)
    assert pair.moved and pair.ref.image.shape == GRID
    assert pair.registration.transform.mirrored
    # 0.05 px over the image
    assert pair.registration.transform.scale == pytest.approx(1 / 1.6, rel=5e-4)


@pytest.mark.parametrize("grid", ["new", "reference"])
def test_a_mask_of_both_lies_on_the_grid_of_the_results(new, turned, tmp_path, grid):
    fits.writeto(tmp_path / "mask.fits", rectangle(GRID))
    pair = bring_together(new, turned, replace(ONE, mask=str(tmp_path / "mask.fits"), grid=grid))
    assert pair.moved
    for seen in (pair.new, pair.ref):
        bad = (seen.image.mask & Flag.BAD) > 0
        assert np.array_equal(bad, rectangle(GRID) > 0), "neither moved nor left out"
    fits.writeto(tmp_path / "wrong.fits", rectangle((300, 300)))
    with pytest.raises(ShapeError, match=r"wrong\.fits"):
        bring_together(new, turned, replace(ONE, mask=str(tmp_path / "wrong.fits"), grid=grid))


def test_threads_change_no_pixel(new, turned):
    one, two = (bring_together(new, turned, replace(ONE, threads=n)) for n in (1, 2))
    assert np.array_equal(one.ref.image.data, two.ref.image.data, equal_nan=True)
    assert one.registration.figures() == two.registration.figures()


# ---------------------------------------------------------------- what is refused


def test_two_fields_of_one_shape_are_refused(new):
    """Equal shapes are no reason to subtract one field from another, whatever the headers say."""
    other = exposed(mapped.stars(99, 220, GRID), mapped.IDENTITY, 98, FWHM_REF, name="other")
    other = replace(other, wcs=mapped.wcs())
    with pytest.raises(RegistrationError) as caught:
        bring_together(new, other, ONE)
    assert caught.value.n_matched < caught.value.n_required


def test_a_shift_is_refused_where_only_the_wrong_wcs_counts(new, turned):
    with pytest.raises(RegistrationError, match="WCS"):
        bring_together(new, replace(turned, wcs=mapped.wcs()), mode("wcs"))


@pytest.mark.parametrize("seed", [12, 14])
def test_stars_cut_by_the_end_of_the_coverage_are_no_transients(seed):
    """No peak of the difference lies within 6 px of where a turned and cut reference ends.

    Before stars that only the new image shows there were filled in, peaks of 20 to 80 sigma did.
    """
    sky = Sky(shape=(500, 560), n_stars=350, n_galaxies=0, n_transients=4, transient_min=3000.0)
    pair = simulate(sky, seed)
    turned = np.ascontiguousarray(np.rot90(pair.ref.data[30:, 10:]))
    known = {"gain": pair.ref.gain, "read_noise": pair.ref.read_noise, "saturation": pair.ref.saturation}
    ref = zogyp.Image(turned, np.zeros(turned.shape, np.uint16), **known)
    found = zogyp.subtract(pair.new, ref, SubtractOptions(threads=1)).transients
    x, y = np.array(found["x"]), np.array(found["y"])
    assert len(found) >= 2  # transients away from the rim are there
    assert not ((np.abs(y - 30) < 6) | (np.abs(x - 10) < 6)).any()
