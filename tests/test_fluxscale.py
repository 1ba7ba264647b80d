"""The ratio of flux scales and the shift of two exposures, from catalogues whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest

import skies
from zogyp.errors import StarsError
from zogyp.fluxscale import Surface, match

SHAPE = (600, 800)
PSF = skies.true_psf(skies.gaussian(3.5))


def pair(
    n, seed=1, *, ratio=lambda x, y: 2.5 + 0 * x, shift=lambda x, y: (0 * x, 0 * x), scatter=0.0, snr=100.0
):
    """Two exposures of n stars: the reference's fluxes are ``ratio`` times the new one's, and displaced."""
    rng = np.random.default_rng(seed)
    x, y = rng.uniform(5, SHAPE[1] - 6, n), rng.uniform(5, SHAPE[0] - 6, n)
    flux = np.exp(rng.uniform(np.log(1e3), np.log(1e5), n))
    dx, dy = shift(x, y)
    blank = np.zeros(SHAPE, np.float32)
    both = []
    for f, moved in ((flux, (0, 0)), (flux * ratio(x, y) * np.exp(rng.normal(0, scatter, n)), (dx, dy))):
        err = f / snr
        at = [a + m + rng.normal(0, 0.01, n) for a, m in zip((x, y), moved, strict=True)]
        both.append(skies.exposure(blank, skies.catalogue(*at, f + rng.normal(0, err), err), PSF))
    return both


def test_a_constant_ratio_with_its_error():
    pulls, errors = [], []
    for seed in range(40):
        found = match(*pair(100, seed)).flux_ratio
        assert found.log
        pulls.append(np.log(found.typical / 2.5) / found.error)
        errors.append(found.error)
    # 100 stars of S/N 100 in both: sqrt(2) / 100 / 10, and the pulls of forty trials spread by 1 +- 0.11
    assert np.median(errors) == pytest.approx(1.41e-3, rel=0.2)
    assert np.std(pulls) == pytest.approx(1, abs=0.4)
    assert abs(np.mean(pulls)) < 4 / np.sqrt(40)


@pytest.mark.parametrize("seed", range(5))
def test_constant_data_ask_for_no_polynomial(seed):
    found = match(*pair(200, seed))
    assert (found.flux_ratio.order, found.dx.order, found.dy.order) == (0, 0, 0)
    assert not found.dx.significant or abs(found.dx.typical) < 5 * found.dx.error


@pytest.mark.parametrize("order", [1, 2])
def test_a_varying_ratio_is_followed_as_far_as_the_stars_demand(order):
    def ratio(x, y):
        u, v = x / 400 - 1, y / 300 - 1
        return 2.5 * np.exp(0.03 * u - 0.02 * v + (0.03 * u * v + 0.02 * v * v if order == 2 else 0))

    found = match(*pair(300, 2, ratio=ratio)).flux_ratio
    assert found.order == order
    y, x = np.mgrid[10:590:40, 10:790:40].astype(float)
    # 300 stars of 1.4 per cent each, six terms: 0.2 per cent rms, twice that at the corners
    np.testing.assert_allclose(found.grid(x.ravel(), y.ravel()), ratio(x, y).ravel(), rtol=0.01)
    assert np.std(found.grid(x.ravel(), y.ravel()) / ratio(x, y).ravel()) < 0.003


def test_a_wanted_order_is_taken():
    new, ref = pair(200, 3)
    assert match(new, ref, flux_order=2).flux_ratio.order == 2
    assert match(new, ref, flux_order=0).flux_ratio.order == 0


def test_a_given_ratio_is_not_measured():
    found = match(*pair(50), flux_ratio=7.0)
    assert found.flux_ratio.at(3, 4) == 7.0
    assert found.flux_ratio.error == 0
    assert found.new.size == 50


def test_variable_stars_do_not_move_the_ratio():
    new, ref = pair(100, 4)
    ref.sources.flux[:10] *= np.linspace(1.3, 5, 10)
    found = match(new, ref).flux_ratio
    assert found.typical == pytest.approx(
        2.5, rel=5e-3
    )  # three of its errors, and the nearest variable's pull
    assert found.n >= 88


def test_scatter_beyond_the_noise_is_told():
    found = match(*pair(300, 5, scatter=0.05)).flux_ratio
    # a robust estimate from 300 stars: 6 per cent
    assert found.scatter == pytest.approx(0.05, rel=0.25)
    assert match(*pair(300, 6)).flux_ratio.scatter < 0.01


@pytest.mark.parametrize("varies", [False, True])
def test_shifts_are_reference_minus_new(varies):
    def shift(x, y):
        return 0.3 + (2e-4 * (x - 400) if varies else 0 * x), -0.2 + 0 * y

    found = match(*pair(200, 7, shift=shift))
    assert found.dx.at(400, 300) == pytest.approx(0.3, abs=0.005)  # 0.014 px of each of 200 stars
    assert found.dy.at(400, 300) == pytest.approx(-0.2, abs=0.005)
    assert found.dx.at(700, 300) == pytest.approx(0.36 if varies else 0.3, abs=0.008)
    assert found.dx.significant
    assert found.dx.scatter < 0.01


def test_registration_scatter_is_what_the_centroids_do_not_explain():
    rng = np.random.default_rng(8)
    found = match(
        *pair(400, 8, shift=lambda x, y: (rng.normal(0, 0.08, x.size), rng.normal(0, 0.03, x.size)))
    )
    assert found.dx.scatter == pytest.approx(0.08, rel=0.2)
    assert found.dy.scatter == pytest.approx(0.03, rel=0.25)


def test_only_each_others_nearest_are_matched():
    """A star of the new image that the reference lacks must not take its neighbour's partner."""
    err, blank = 10.0, np.zeros(SHAPE, np.float32)
    x, y = np.array([100.0, 300, 500, 200, 101.2]), np.array([100.0, 100, 100, 300, 100])
    new = skies.exposure(blank, skies.catalogue(x, y, [1e4, 1e4, 1e4, 1e4, 9e3], err), PSF)
    ref = skies.exposure(blank, skies.catalogue(x[:4], y[:4], [2e4] * 4, err), PSF)
    found = match(new, ref)
    assert sorted(found.new.tolist()) == [0, 1, 2, 3]
    assert found.new.tolist() == found.ref.tolist()
    assert found.flux_ratio.typical == pytest.approx(2, rel=1e-3)


def faint_field(n_stars, ratio, seed=9):
    """Two images of extended light without stars, the reference's ``ratio`` times brighter, blurred more."""
    rng = np.random.default_rng(seed)
    places = rng.uniform(60, 340, (n_stars, 2))
    images = []
    for scale, fwhm in ((1.0, 3.0), (ratio, 4.0)):
        image = np.zeros((400, 400))
        for x, y in places:
            widths = np.hypot([4.0, 3.0], fwhm / skies.FWHM)
            skies.add(image, x, y, 3e5 * scale, np.array([[1, 0, 0, *widths]]), 61)
        images.append(image + rng.normal(0, 5, image.shape))
    psfs = [skies.true_psf(skies.gaussian(f)) for f in (3.0, 4.0)]
    empty = skies.catalogue([], [], [], [])
    return [skies.exposure(i, empty, p) for i, p in zip(images, psfs, strict=True)]


def test_without_stars_the_pixels_of_what_both_show_give_the_ratio():
    found = match(*faint_field(25, 1.7))
    assert found.new.size == 0
    assert not found.dx.significant
    # blurred by each other's PSF the two are alike but for noise: a few times the stated error
    assert found.flux_ratio.typical == pytest.approx(1.7, rel=0.01)


def test_nothing_in_common_is_an_error_with_numbers():
    blank = np.zeros((200, 200), np.float32)
    new, ref = (skies.exposure(blank, skies.catalogue([50], [y], [1e4], 10), PSF) for y in (50.0, 150.0))
    with pytest.raises(StarsError, match="flux ratio") as error:
        match(new, ref)
    assert (error.value.n_found, error.value.n_required) == (0, 3)
    assert match(new, ref, flux_ratio=2.0).flux_ratio.typical == 2.0


def test_a_surface_in_logarithms_is_positive_and_has_its_middle():
    surface = Surface(np.array([0.1, -3.0, 0.5]), 1, (400.0, 300.0), log=True)
    assert surface.typical == pytest.approx(np.exp(0.1))
    assert surface.at(0, 0) == pytest.approx(np.exp(0.1 + 3.0 - 0.5))
    assert (surface.grid(np.linspace(0, 800, 50), np.full(50, 600.0)) > 0).all()
