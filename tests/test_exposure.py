"""All that is measured on one image: sky, noise, saturation, stars; and what cannot be measured."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

import skies
from zogyp.errors import PixelError, StarsError
from zogyp.image import Flag, Image
from zogyp.measure.exposure import measure
from zogyp.measure.noise import high_pass
from zogyp.options import PSFOptions

SKY, GAIN, READ = 300.0, 2.0, 5.0
SIGMA = float(np.sqrt(SKY / GAIN + (READ / GAIN) ** 2))
MIXTURE = skies.gaussian(3.5, 0.03)


def image_of(data, mask=None, **known):
    data = np.asarray(data, np.float32)
    mask = np.zeros(data.shape, np.uint16) if mask is None else mask
    return Image(data, mask, **({"gain": GAIN, "read_noise": READ, "name": "a test"} | known))


@cache
def field():
    return skies.star_field(1, 80, lambda x, y: MIXTURE, shape=(360, 400), flux=(2e3, 2e5), n=45)


@cache
def pixels():
    return field().exposed(SKY, GAIN, READ)


@cache
def measured():
    return measure(image_of(pixels(), saturation=1e6))


def test_sky_noise_and_pixels():
    e = measured()
    # a crowd of 550 stars per Mpix: the sky within a tenth of its noise
    assert np.abs(e.level.typical - SKY) < 0.1 * SIGMA
    assert e.sigma == pytest.approx(SIGMA, rel=0.02)
    assert abs(np.median(pixels() - e.data) - SKY) < 0.05 * SIGMA
    assert e.variance.dtype == e.data.dtype == np.float32
    # Poisson of what is there, on the average over bright pixels
    bright = field().image > 1000
    true = SIGMA**2 + field().image[bright] / GAIN
    assert np.mean(e.variance[bright] / true) == pytest.approx(1, abs=0.02)
    assert e.notes == ()


def test_level_and_pixels_are_the_image():
    e = measured()
    np.testing.assert_allclose(e.data + e.level.plane(), pixels(), atol=0.01)


def test_sources_have_fluxes_of_the_psf_fit():
    e, made = measured(), field()
    distance = np.hypot(e.sources.x[:, None] - made.x, e.sources.y[:, None] - made.y)
    assert (distance.min(axis=0) < 1).mean() > 0.9  # the rest are faint or blends
    chosen = e.stars
    true = made.flux[distance.argmin(axis=1)][chosen]
    pull = (e.sources.flux[chosen] / np.median(e.sources.flux[chosen] / true) - true) / e.sources.flux_err[
        chosen
    ]
    # forty stars; the PSF's own error of half a per cent is beside the noise
    assert np.median(np.abs(pull)) < 1.5
    assert np.all(np.isfinite(e.position_err[chosen]))


def test_a_sky_that_runs_is_followed_in_a_crowd():
    made = skies.star_field(2, 900, lambda x, y: MIXTURE, shape=(400, 400), flux=(300, 1e5), n=45)
    y, x = np.mgrid[:400, :400]
    sky = 300 + 0.1 * x - 0.05 * y
    data = (made.rng.poisson((made.image + sky) * GAIN) + made.rng.normal(0, READ, (400, 400))) / GAIN
    e = measure(image_of(data, saturation=1e6))
    off = (e.image.data - e.data - sky) / SIGMA
    # 5600 stars per Mpix, the faintest at S/N 3: hardly any sky, yet a tenth of the noise
    assert abs(np.median(off)) < 0.1
    assert np.std(off) < 0.1
    assert np.abs(off).max() < 0.3


def test_saturation_is_marked_with_its_neighbours():
    data = np.minimum(pixels(), 4000)
    e = measure(image_of(data, saturation=4000.0))
    marked = (e.image.mask & Flag.SATURATED) > 0
    full = data >= 4000
    assert marked[full].all()
    assert full.sum() < marked.sum() < 9 * full.sum()
    assert e.sources.saturated.sum() > 3
    assert not e.sources.saturated[e.stars].any()
    assert (e.data[marked] == 0).all()


def test_an_unknown_saturation_is_seen_where_pixels_pile_up():
    e = measure(image_of(np.minimum(pixels(), 4000)))
    assert e.image.saturation == pytest.approx(4000, rel=0.05)
    assert any("saturation unknown" in note for note in e.notes)
    assert measure(image_of(pixels())).image.saturation is None


def test_saturated_stars_keep_a_flux_from_their_wings():
    made = field()
    e = measure(image_of(np.minimum(pixels(), 6000), saturation=6000.0))
    cut = np.flatnonzero(e.sources.saturated)
    distance = np.hypot(e.sources.x[cut][:, None] - made.x, e.sources.y[cut][:, None] - made.y)
    ratio = e.sources.flux[cut] / made.flux[distance.argmin(axis=1)]
    assert cut.size >= 3
    assert np.median(np.abs(ratio - 1)) < 0.1


def test_a_given_variance_is_believed():
    true = (SIGMA**2 + np.maximum(field().image, 0) / GAIN).astype(np.float32)
    e = measure(image_of(pixels(), variance=true, gain=None, read_noise=None, saturation=1e6))
    np.testing.assert_allclose(e.variance, true, rtol=1e-5)
    assert e.sigma == pytest.approx(SIGMA, rel=0.03)


def test_a_given_psf_is_taken_as_it_is():
    psf = skies.true_psf(MIXTURE)
    e = measure(image_of(pixels(), saturation=1e6), psf=psf)
    assert e.psf is psf
    assert e.stars.size > 20


def test_with_a_given_psf_no_star_is_needed():
    blank = np.random.default_rng(3).normal(300, 10, (200, 220))
    e = measure(image_of(blank), psf=skies.true_psf(MIXTURE))
    assert e.stars.size == 0
    assert e.sigma == pytest.approx(10, rel=0.03)


@pytest.mark.parametrize("value", [0.0, 7.5, -1e5])
def test_a_constant_image_is_refused(value):
    with pytest.raises(PixelError, match="constant") as raised:
        measure(image_of(np.full((100, 120), value)))
    assert (raised.value.n_good, raised.value.n_pixels) == (12000, 12000)


@pytest.mark.parametrize(
    "saturation",
    [6e4, None],
)
def test_an_image_without_a_usable_pixel_is_refused(saturation):
    mask = np.full((50, 60), Flag.NO_DATA, np.uint16)
    with pytest.raises(PixelError, match="no usable pixel") as raised:
        measure(image_of(np.full((50, 60), np.nan), mask, saturation=saturation))
    assert (raised.value.n_good, raised.value.n_pixels) == (0, 3000)


def test_two_values_are_no_noise():
    data = np.zeros((100, 100))
    data[40:60, 40:60] = 1
    with pytest.raises(PixelError, match="no noise"):
        measure(image_of(data, saturation=6e4))


@pytest.mark.parametrize("n_stars", [0, 3])
def test_too_few_stars_are_told_with_numbers(n_stars):
    made = skies.star_field(
        4, n_stars, lambda x, y: MIXTURE, shape=(200, 200), flux=(1e4, 1e5), apart=40, n=45
    )
    with pytest.raises(StarsError, match="PSF of a test") as raised:
        measure(image_of(made.exposed(SKY, GAIN, READ), saturation=1e6), psf_options=PSFOptions(min_stars=6))
    assert raised.value.n_found <= n_stars
    assert raised.value.n_required == 6
    assert "Give a PSF file" in str(raised.value)


def test_nan_in_masked_pixels_reaches_nothing():
    data, mask = pixels().copy(), np.zeros((360, 400), np.uint16)
    mask[100:140, 200:260] = Flag.NO_DATA
    mask[300, :] = Flag.BAD
    data[mask > 0] = np.nan
    e = measure(image_of(data, mask, saturation=1e6))
    for plane in (e.data, e.level.table, e.noise.sigma.table, e.variance, e.psf.basis):
        assert np.isfinite(plane).all()
    assert e.sigma == pytest.approx(SIGMA, rel=0.02)


@pytest.mark.parametrize("unit", [1e-18, 1e6])
def test_any_unit(unit):
    """Surface brightness in some unit, or counts of a long sum: the same stars and the same PSF."""
    one = measured()
    other = measure(image_of(pixels() * unit, gain=GAIN / unit, read_noise=READ, saturation=1e6 * unit))
    assert len(other.sources) == pytest.approx(len(one.sources), abs=2)
    assert other.sigma / unit == pytest.approx(one.sigma, rel=1e-3)
    assert other.psf.fwhm == pytest.approx(one.psf.fwhm, rel=1e-2)


def test_noise_that_photons_and_read_out_explain_is_the_detectors_own():
    """Nearly all of it read noise: whatever looks like correlated noise then is unresolved light."""
    read, made = 30.0, skies.star_field(1, 60, lambda x, y: MIXTURE, shape=(360, 400), flux=(2e4, 2e5), n=45)
    sigma = np.sqrt(100 / GAIN + (read / GAIN) ** 2)
    noise = gaussian_filter(np.random.default_rng(5).normal(size=(360, 400)), 0.5, mode="wrap")
    noise = noise.astype(np.float32)
    noise *= sigma / high_pass(noise, 3.0).std()
    data = made.image + 100 + noise
    e = measure(image_of(data, read_noise=read, saturation=1e6))
    # a robust spread of 1.4e5 pixels: half a per cent; taken for correlated it is 2.4 times as much
    assert e.sigma == pytest.approx(sigma, rel=0.02)
    assert e.notes == ()
    strange = measure(image_of(data, read_noise=None, saturation=1e6))
    assert any("correlated" in note for note in strange.notes)
