"""Fields where the light of stars runs together: seeing, PSF and difference of skies of known truth."""

from __future__ import annotations

import numpy as np
import pytest

import skies
import zogyp
from zogyp.image import Image
from zogyp.measure.crowd import crowd_error, hidden_sources, is_crowd, stars_of_the_crowd
from zogyp.measure.exposure import measure
from zogyp.measure.firstlook import look
from zogyp.options import SubtractOptions

SHAPE = (300, 300)
GAIN, READ_NOISE = 2.0, 5.0
NEW, REF = skies.gaussian(3.6, 0.06), skies.gaussian(4.2, 0.08)
N_STARS, FAINTEST, SLOPE = 15_000, 300.0, 0.8  # as many per pixel as in the Galactic bulge


def crowd(mixture, sky, scale, seed):
    """A field of stars whose number rises with faintness; the same for every seed of its noise."""
    rng = np.random.default_rng(42)
    image = np.zeros(SHAPE)
    flux = np.minimum(FAINTEST * rng.random(N_STARS) ** (-1 / SLOPE), 3e5)  # none saturates
    for (x, y), f in zip(rng.uniform(-10, 310, (N_STARS, 2)), flux, strict=True):
        skies.add(image, x, y, scale * f, mixture, 61 if f > 1e4 else 31)
    rng = np.random.default_rng(seed)
    electrons = rng.poisson((image + sky) * GAIN) + rng.normal(0, READ_NOISE, SHAPE)
    data = (electrons / GAIN).astype(np.float32)
    none = np.zeros(SHAPE, np.uint16)
    return Image(data, none, gain=GAIN, read_noise=READ_NOISE, saturation=6e4, name=f"crowd {seed}"), image


@pytest.fixture(scope="module")
def pair():
    return crowd(NEW, 500.0, 1.0, 1)[0], crowd(REF, 700.0, 0.7, 2)[0]


@pytest.fixture(scope="module")
def looked(pair):
    return look(pair[0])


def test_a_crowd_is_told_from_stars_that_stand_alone(looked):
    alone = skies.star_field(3, 60, lambda x, y: NEW, shape=SHAPE).exposed()
    sparse = look(Image(alone, np.zeros(SHAPE, np.uint16), gain=2.0, read_noise=5.0, name="sparse"))
    assert looked.crowded and not sparse.crowded


def test_noise_is_no_crowd_correlated_or_not():
    from scipy.ndimage import gaussian_filter

    white = np.random.default_rng(4).normal(size=SHAPE).astype(np.float32)
    none = np.zeros(SHAPE, bool)
    # the mean of 4096 circles of 80 pixels that overlap: to some per cent
    assert crowd_error(white, none, 5.0) == pytest.approx(np.sqrt(np.pi) * 5, rel=0.08)
    assert not is_crowd(white, none, 1.0, 3.0)
    smooth = gaussian_filter(white, 1.0)
    image = Image(smooth + 100, np.zeros(SHAPE, np.uint16), name="resampled noise")
    assert not look(image).crowded


def test_nothing_to_look_at_is_no_crowd():
    tiny, none = np.ones((4, 4), np.float32), np.zeros((4, 4), bool)
    assert crowd_error(tiny, none, 3.0) == 0.0
    assert crowd_error(np.ones((40, 40), np.float32), np.ones((40, 40), bool), 3.0) == 0.0


def test_the_seeing_of_a_crowd_is_that_of_its_brightest_stars(looked):
    """Faint stars look small on a sky that is other stars' light: once 2.6 px for 4.9."""
    # of half-light radii, for which a share of the wings counts too
    assert looked.fwhm == pytest.approx(3.6, rel=0.15)


def test_the_noise_of_a_crowd_is_that_of_photons_and_read_out(looked):
    """Unresolved stars are no noise, though their light is correlated from pixel to pixel."""
    ratios = []
    for one in (looked, *(look(crowd(NEW, 500.0, 1.0, seed)[0]) for seed in (2, 3, 4))):
        expected = np.sqrt(one.level.typical / GAIN + (READ_NOISE / GAIN) ** 2)
        ratios.append(one.noise.sigma.typical / expected)
    # the little blank sky of one image tells its noise to 0.025
    assert np.mean(ratios) == pytest.approx(1, abs=0.03)


def test_psf_of_a_crowd(pair):
    exposure = measure(pair[0])
    assert exposure.crowded and not exposure.psf_given
    assert len(exposure.sources) > 1000  # a threshold alone tells fewer than 300 apart
    found = exposure.psf.at(150, 150, size=21)
    truth = skies.stamp(NEW, 0, 0, 61)[20:41, 20:41]
    # nothing but neighbours that nobody can tell apart: they widen the PSF by some per cent
    assert np.sqrt(((found - truth) ** 2).sum() / (truth**2).sum()) < 0.06


def test_hidden_stars_are_found_and_errors_of_the_model_are_not():
    psf = skies.true_psf(NEW)
    rng = np.random.default_rng(5)
    residual = rng.normal(0, 5, SHAPE)
    model = np.zeros(SHAPE)
    skies.add(model, 80, 80, 1e6, NEW)
    residual += 0.05 * np.roll(model, 2, axis=1)  # what a wrong PSF leaves
    hidden = [(200.0, 100.0, 2e3), (120.3, 220.6, 5e3), (205.0, 103.0, 4e3)]
    for x, y, flux in hidden:
        skies.add(residual, x, y, flux, NEW)
    planes = (residual, model, np.full(SHAPE, 25.0))
    good = np.ones(SHAPE, bool)
    found = hidden_sources(*(p.astype(np.float32) for p in planes), good, psf, 0.1)
    assert len(found) == 3
    for x, y, flux in hidden:
        i = int(np.argmin(np.hypot(found.x - x, found.y - y)))
        assert np.hypot(found.x[i] - x, found.y[i] - y) < 1.5  # whole pixels, and a neighbour of 6 px
        assert found.flux[i] == pytest.approx(flux, rel=0.35)  # a first value; neighbours are not told apart
    assert not found.saturated.any()


def test_a_slope_of_the_sky_hides_no_star_and_makes_none():
    slope = np.broadcast_to(np.arange(300.0) * 0.5, SHAPE).astype(np.float32)
    noise = np.random.default_rng(6).normal(0, 5, SHAPE).astype(np.float32)
    variance, good = np.full(SHAPE, 25, np.float32), np.ones(SHAPE, bool)
    found = hidden_sources(slope + noise, np.zeros_like(noise), variance, good, skies.true_psf(NEW), 0.1)
    inner = (found.x > 15) & (found.x < 284)  # a slope that ends has an edge
    assert inner.sum() <= 1  # five sigma in 9000 beams


def test_stars_of_a_crowd_stand_alone_by_the_model():
    x = np.array([50.0, 100, 104, 150, 200, 215, 250])
    flux = np.array([1e4, 1e4, 8e3, 1e4, 1e4, 9e4, 1e4])
    sources = skies.catalogue(x, np.full(7, 150.0), flux, 50.0, [0, 0, 0, 1, 0, 0, 0])
    chosen = stars_of_the_crowd(sources, SHAPE, fwhm=3.0, reach=10.0, most=100)
    # 100 and 104 share a place, 150 is saturated, 215 outshines 200
    assert chosen.tolist() == [0, 5, 6]


def test_a_difference_of_crowds_is_noise(pair):
    result = zogyp.subtract(*pair, SubtractOptions(threads=1))
    assert result.summary["F_r"] == pytest.approx(0.7, rel=0.01)  # wings under neighbours are uncertain
    # PSFs are known to a per cent or two, which V tells; once 5 with these PSFs' stars chosen by size
    assert result.summary["scorr_mad"] == pytest.approx(1, abs=0.15)
    inner = result.Scorr[20:-20, 20:-20]
    assert np.isfinite(inner).mean() > 0.98
    assert (np.abs(inner) > 6).mean() < 2e-3
