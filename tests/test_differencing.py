"""Planes of the difference from two exposures of which everything is known: PSFs, noise, fluxes."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

import skies
from zogyp.core.psfmodel import PSF
from zogyp.differencing import difference
from zogyp.fluxscale import Match, Surface
from zogyp.image import Flag
from zogyp.options import InputOptions, NoiseOptions, SubtractOptions

SHAPE = (260, 300)
N, R = skies.gaussian(3.0, 0.05), skies.gaussian(4.0, 0.05)
RATIO, SIGMA_N, SIGMA_R = 1.6, 5.0, 4.0
STARS = ((60.3, 70.8, 8e4), (200.1, 180.4, 3e4), (140.6, 40.2, 1e4))
PLACE, FLUX = (150.0, 130.0), 1500.0
OPTIONS = SubtractOptions(threads=1, background_match=False)
NO_PSF = replace(OPTIONS, noise=NoiseOptions(psf=False, stars=False))


def flat(value, *, log=False):
    scale = ((SHAPE[1] - 1) / 2, (SHAPE[0] - 1) / 2)
    return Surface(np.array([np.log(value) if log else value]), 0, scale, error=1e-4, log=log)


def matched(dx=0.0, dy=0.0):
    none = np.zeros(0, int)
    return Match(flat(RATIO, log=True), flat(dx), flat(dy), none, none)


def half(mixture, sigma, seed, *, scale=1.0, new_star=False, shift=(0.0, 0.0), sky=0.0, psf=None, mask=None):
    """One exposure of the same stars; sky noise only, so that the oracle is simple."""
    image = np.random.default_rng(seed).normal(sky, sigma, SHAPE)
    for x, y, f in STARS:
        skies.add(image, x + shift[0], y + shift[1], scale * f, mixture, 45)
    if new_star:
        skies.add(image, *PLACE, FLUX, mixture, 45)
    x, y, f = np.array(STARS).T
    sources = skies.catalogue(x + shift[0], y + shift[1], scale * f, 30.0)
    psf = psf or skies.true_psf(mixture, 45)
    return skies.exposure(image, sources, psf, sigma=sigma, gain=None, mask=mask)


@pytest.fixture(scope="module")
def new():
    return half(N, SIGMA_N, 1, new_star=True)


@pytest.fixture(scope="module")
def ref():
    return half(R, SIGMA_R, 2, scale=RATIO)


@pytest.fixture(scope="module")
def planes(new, ref):
    return difference(new, ref, matched(), OPTIONS)


def significance(planes):
    return planes.S / np.sqrt(planes.V)


def away(planes, margin=25):
    """Blank sky: away from the border, the stars and the transient."""
    use = np.zeros(SHAPE, bool)
    use[margin:-margin, margin:-margin] = True
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    for sx, sy in [star[:2] for star in STARS] + [PLACE]:
        use &= np.hypot(x - sx, y - sy) > 25
    return use


def oracle():
    """S/N and flux scale of the transient when all is known: sums over frequencies written out."""
    n = 128
    hats = []
    for mixture in (N, R):
        plane = np.zeros((n, n))
        plane[:45, :45] = skies.stamp(mixture, 0, 0, 45)
        hats.append(np.abs(np.fft.fft2(plane)))
    delta = (SIGMA_N * RATIO * hats[1]) ** 2 + (SIGMA_R * hats[0]) ** 2
    # where there is no power there is no information; dividing 0 by 0 would only make noise
    return FLUX * np.sqrt(np.mean((RATIO * hats[0] * hats[1]) ** 2 / np.maximum(delta, 1e-25)))


def test_blank_sky_is_white_noise_of_unit_variance(planes):
    use = away(planes)
    # 30,000 pixels of D: 0.4 per cent; S is smooth, so some 1500 independent ones: 1.8 per cent
    assert np.std(planes.D[use]) == pytest.approx(1, abs=0.02)
    assert np.std(significance(planes)[use]) == pytest.approx(1, abs=0.07)
    d = np.where(use, planes.D, np.nan)
    assert np.nanmean(d[:, 1:] * d[:, :-1]) == pytest.approx(0, abs=0.025)
    assert np.nanmean(d[1:] * d[:-1]) == pytest.approx(0, abs=0.025)


def test_a_transient_has_its_flux_and_the_significance_that_the_equations_promise(planes):
    x, y = (int(p) for p in PLACE)
    expected = oracle()
    assert 20 < expected < 80
    assert significance(planes)[y, x] == pytest.approx(expected, abs=4)  # four of its own errors
    F_S = planes.F_S.plane()
    flux = planes.S[y, x] / F_S[y, x]
    assert flux == pytest.approx(FLUX, abs=4 * FLUX / expected)
    error = np.sqrt(planes.V[y, x]) / F_S[y, x]
    assert error == pytest.approx(FLUX / expected, rel=0.01)
    assert np.unravel_index(significance(planes).argmax(), SHAPE) == (y, x)


def test_stars_leave_nothing(planes):
    s = significance(planes)
    for x, y, _ in STARS:
        box = s[int(y) - 8 : int(y) + 9, int(x) - 8 : int(x) + 9]
        # one of 300 correlated pixels may reach 4; the spline adds 5e-4 of a peak of 800 sigma
        assert np.abs(box).max() < 5


def test_exchanging_the_images_changes_the_sign_only(new, ref, planes):
    back = Match(flat(1 / RATIO, log=True), flat(0.0), flat(0.0), np.zeros(0, int), np.zeros(0, int))
    other = difference(ref, new, back, OPTIONS)
    np.testing.assert_allclose(significance(other), -significance(planes), atol=2e-3)
    np.testing.assert_allclose(other.D, -planes.D, atol=2e-3)


def test_the_answer_does_not_depend_on_tiles_threads_or_the_executor(new, ref, planes):
    small = difference(new, ref, matched(), replace(OPTIONS, tile=160))
    assert small.n_tiles > planes.n_tiles
    assert np.abs(significance(small) - significance(planes)).max() < 0.02
    with ThreadPoolExecutor(3) as pool:
        pooled = difference(new, ref, matched(), replace(OPTIONS, tile=160), executor=pool)
    np.testing.assert_allclose(pooled.S, small.S, rtol=1e-5, atol=1e-5 * np.abs(small.S).max())


def test_a_psf_that_varies_in_name_only_changes_nothing(new, ref, planes):
    """Two more planes of zeros take the other way through the tiles."""
    flat_psf = new.psf
    zeros = np.zeros((2, *flat_psf.basis.shape[1:]), np.float32)
    varying = PSF(
        np.concatenate([flat_psf.basis, zeros]), order=1, origin=(150, 130), scale=(150, 130), fwhm=3.0
    )
    other = difference(replace(new, psf=varying), ref, matched(), replace(OPTIONS, tile=256))
    assert np.abs(significance(other) - significance(planes)).max() < 0.02


def test_a_known_shift_is_taken_out(new):
    moved = half(R, SIGMA_R, 2, scale=RATIO, shift=(0.4, -0.3))
    still = significance(difference(new, moved, matched(), OPTIONS))
    right = significance(difference(new, moved, matched(0.4, -0.3), OPTIONS))
    x, y = int(STARS[0][0]), int(STARS[0][1])
    box = np.s_[y - 8 : y + 9, x - 8 : x + 9]
    assert np.abs(still[box]).max() > 50
    assert np.abs(right[box]).max() < 5
    # the transient stays where the new image shows it
    assert right[int(PLACE[1]), int(PLACE[0])] == pytest.approx(oracle(), abs=4)


def test_registration_noise_is_counted_where_the_stars_are_steep(new, ref, planes):
    noisy = difference(new, ref, matched(), replace(OPTIONS, astrometric_noise=0.1))
    growth = noisy.V / planes.V
    x, y, _ = STARS[0]
    flank = growth[int(y), int(x) + 2]
    assert flank > 50
    use = away(planes, 40)
    assert np.median(growth[use]) < 1.05  # noise has gradients, too


def test_the_psfs_own_error_is_counted_under_stars(new, ref, planes):
    variance = (1e-3 * new.psf.basis[0]) ** 2 + 1e-12
    unsure = replace(new, psf=replace(new.psf, variance=variance.astype(np.float32)))
    counted = difference(unsure, ref, matched(), OPTIONS)
    left_out = difference(
        unsure, ref, matched(), replace(OPTIONS, noise=NoiseOptions(psf=False, stars=False))
    )
    x, y, _ = (int(v) for v in STARS[0])
    assert counted.V[y, x] > 1.2 * planes.V[y, x]
    assert counted.V[y, x] > 1.2 * left_out.V[y, x]
    np.testing.assert_allclose(left_out.V, planes.V, rtol=1e-5)
    np.testing.assert_allclose(counted.V[-40:, -40:], planes.V[-40:, -40:], rtol=0.02)


def test_skies_that_differ_smoothly_are_matched(ref):
    lifted = half(N, SIGMA_N, 1, new_star=True, sky=1.0)
    raw = difference(lifted, ref, matched(), OPTIONS)
    use = away(raw)
    assert np.mean(significance(raw)[use]) > 0.8
    options = replace(OPTIONS, background_match=True, background=replace(OPTIONS.background, mesh=32))
    level = difference(lifted, ref, matched(), options)
    # a mean of what is left, 1500 independent pixels of unit variance: 0.026
    assert np.mean(significance(level)[use]) == pytest.approx(0, abs=0.1)


def test_a_cut_psf_loses_significance(new, ref, planes):
    without = half(N, SIGMA_N, 1)
    x, y = (int(p) for p in PLACE)

    def reached(options):
        """What the transient adds to S, over the noise that S really has."""
        one, none = (difference(e, ref, matched(), options).S for e in (new, without))
        return (one - none)[y, x] / np.std(one[away(planes)])

    cut = replace(OPTIONS, new=InputOptions(psf_cut=0.75), ref=InputOptions(psf_cut=0.75))
    assert reached(OPTIONS) == pytest.approx(oracle(), rel=0.08)  # 1500 independent pixels: 2 per cent
    assert reached(cut) < 0.97 * reached(OPTIONS)


def test_masked_pixels_leave_no_trace(ref):
    """A cosmic ray of 10^6 and a block without data: filled before the transform, so nothing rings."""
    mask = np.zeros(SHAPE, np.uint16)
    mask[100, 50:54] = Flag.COSMIC_RAY
    mask[200:230, 40:90] = Flag.NO_DATA
    dirty = half(N, SIGMA_N, 1, new_star=True, mask=mask)
    dirty.image.data[mask > 0] = 1e6
    s = significance(difference(dirty, ref, matched(), OPTIONS))
    assert np.isfinite(s).all()
    assert np.abs(np.delete(s, np.arange(115, 146), axis=0)).max() < 5.5  # without the transient's rows


def test_what_is_told_of_the_difference(planes):
    expected = RATIO / np.sqrt((SIGMA_N * RATIO) ** 2 + SIGMA_R**2)
    told = planes.F_D
    assert told == pytest.approx(expected, rel=1e-5)
    assert planes.P_D.sum() == pytest.approx(1, abs=0.01)
    assert 3.0 < planes.fwhm < 4.5
    assert planes.reach > 4


def test_shared_kernels_do_not_depend_on_the_tile_that_asks_first(new, ref):
    """A PSF that varies by a quarter of what is tolerated has one set of kernels: that of the middle."""
    wider = skies.true_psf(skies.gaussian(3.6, 0.05), 45).basis
    run = 0.01 * (wider - new.psf.basis)  # the planes differ by a tenth of the PSF's norm: 1e-3 of it
    psf = PSF(
        np.concatenate([new.psf.basis, run, 0 * run]), order=1, origin=(150, 130), scale=(150, 130), fwhm=3.0
    )
    made = []
    for x, y in ((10.0, 20.0), (290.0, 240.0)):
        planes = difference(replace(new, psf=psf), ref, matched(), OPTIONS)
        assert planes.kernels_at is not None
        made.append(planes.kernels_at(x, y, (54, 60)))  # a shape that no tile has
    np.testing.assert_array_equal(made[0].k_n, made[1].k_n)
    np.testing.assert_array_equal(made[0].D_r, made[1].D_r)
