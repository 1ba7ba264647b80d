"""PSFs matched to each other by what a difference leaves: the error is planted, so it is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import skies
from zogyp.differencing import difference
from zogyp.fluxscale import Match, Surface
from zogyp.options import NoiseOptions, SubtractOptions
from zogyp.psfmatching import match_psfs

SHAPE = (320, 340)
TRUE_N, TRUE_R = skies.gaussian(3.4, 0.05), skies.gaussian(3.9, 0.05)
RATIO, SIGMA = 0.8, 4.0
OPTIONS = SubtractOptions(threads=1, background_match=False, noise=NoiseOptions(psf=False, stars=False))


def field(mixture, scale, seed):
    rng = np.random.default_rng(17)
    places, flux = rng.uniform(5, 315, (400, 2)), 10 ** rng.uniform(3, 5, 400)
    image = np.random.default_rng(seed).normal(0, SIGMA, SHAPE)
    for (x, y), f in zip(places, flux, strict=True):
        skies.add(image, x, y, scale * f, mixture)
    return image, places, flux


def exposure(mixture, wrong, scale, seed, **changes):
    """Stars of one PSF, measured with another."""
    image, places, flux = field(mixture, scale, seed)
    sources = skies.catalogue(*places.T, scale * flux, 30.0)
    made = skies.exposure(image, sources, skies.true_psf(wrong, 61), sigma=SIGMA, gain=None)
    return replace(made, crowded=True, **changes)


def matched(ratio):
    scale = ((SHAPE[1] - 1) / 2, (SHAPE[0] - 1) / 2)
    surface = [
        Surface(np.array([v]), 0, scale, error=1e-4, log=log)
        for v, log in ((np.log(ratio), True), (0, False))
    ]
    none = np.zeros(0, int)
    return Match(surface[0], surface[1], surface[1], none, none)


def spread(planes):
    inner = np.s_[25:-25, 25:-25]
    return float(np.std(planes.D[inner]))


@pytest.fixture(scope="module")
def wrong():
    """The new image's PSF is believed 2 per cent too wide, the flux ratio 1 per cent too large."""
    new = exposure(TRUE_N, skies.gaussian(3.4 * 1.02, 0.05), 1.0, 1)
    ref = exposure(TRUE_R, TRUE_R, RATIO, 2)
    return new, ref, matched(1.01 * RATIO)


def test_a_wrong_psf_is_mended_by_the_difference(wrong):
    new, ref, ratio = wrong
    before = difference(new, ref, ratio, OPTIONS)
    mended = match_psfs(new, ref, ratio, before)
    mended = match_psfs(*mended, difference(*mended, OPTIONS))  # twice, as a kernel is only the first order
    after = difference(*mended, OPTIONS)
    truth = difference(replace(new, psf=skies.true_psf(TRUE_N, 61)), ref, matched(RATIO), OPTIONS)
    assert spread(before) > 1.5 * spread(truth)
    assert spread(after) < 1.01 * spread(truth)  # two hundred parameters of 90 000 pixels
    # a tenth of the flux lies in wings, where a wider PSF and a larger flux ratio look alike
    assert mended[2].flux_ratio.typical == pytest.approx(RATIO, rel=2e-3)


def test_the_ratio_of_the_psfs_comes_right_though_not_each(wrong):
    """Only how they differ can be told: widths move half of the error each."""
    new, ref, _ = match_psfs(*wrong, difference(*wrong, OPTIONS))
    transforms = [np.abs(np.fft.rfft2(p, (128, 128))) for p in (new.psf.at(160, 160), ref.psf.at(160, 160))]
    truth = [np.abs(np.fft.rfft2(skies.stamp(m, 0, 0, 61), (128, 128))) for m in (TRUE_N, TRUE_R)]
    seen = truth[1] > 0.1  # where the light has power
    np.testing.assert_allclose((transforms[0] / transforms[1])[seen], (truth[0] / truth[1])[seen], rtol=0.02)
    for e in (new, ref):
        assert e.psf.at(160, 160).sum() == pytest.approx(1, abs=1e-6)


def test_a_given_psf_stays_as_it_is(wrong):
    new, ref, ratio = wrong
    ref = replace(ref, psf_given=True)
    before = difference(new, ref, ratio, OPTIONS)
    new2, ref2, _ = match_psfs(new, ref, ratio, before)
    assert ref2.psf is ref.psf
    found, truth = new2.psf.at(160, 160, size=21), skies.stamp(TRUE_N, 0, 0, 61)[20:41, 20:41]
    was = new.psf.at(160, 160, size=21)
    # the whole correction belongs to the other one: that one comes right
    assert np.abs(found - truth).max() < 0.3 * np.abs(was - truth).max()


def test_nothing_is_left_to_match_between_given_psfs(wrong):
    new, ref, ratio = (replace(wrong[0], psf_given=True), replace(wrong[1], psf_given=True), wrong[2])
    before = difference(new, ref, ratio, OPTIONS)
    assert match_psfs(new, ref, ratio, before) == (new, ref, ratio)


def test_a_corrected_psf_knows_nothing_of_the_error_of_its_new_terms(wrong):
    """A constant PSF with a known error gains terms: what was known is of fewer."""
    new, ref, ratio = wrong
    new = replace(new, psf=replace(new.psf, term_covariance=np.full((1, 1), 1e-8)))
    corrected, ref, ratio = match_psfs(new, ref, ratio, difference(new, ref, ratio, OPTIONS))
    assert corrected.psf.order > new.psf.order == 0
    assert np.isfinite(difference(corrected, ref, ratio, OPTIONS).V).all()  # once an error of shapes
