"""What is put on bad pixels, how unsure it is and how far it reaches, in scenes whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest

import skies
from zogyp.fluxscale import Match, Surface
from zogyp.image import Flag
from zogyp.repair import final_mask, repair

MIX = {3.0: skies.gaussian(3.0, 0.1), 4.5: skies.gaussian(4.5, 0.1)}
SIGMA, RATIO = 5.0, 2.0
SHAPE = (160, 180)


def matched(ratio=RATIO):
    scale = ((SHAPE[1] - 1) / 2, (SHAPE[0] - 1) / 2)
    flat = Surface(np.zeros(1), 0, scale)
    return Match(Surface(np.array([ratio]), 0, scale), flat, flat, np.zeros(0, int), np.zeros(0, int))


def seen(stars, fwhm, *, mask=None, saturated=None, told=None, seed=1):
    """An exposure of (x, y, flux) stars; ``told`` are the fluxes that its catalogue claims."""
    image = np.random.default_rng(seed).normal(0, SIGMA, SHAPE)
    for star in stars:
        skies.add(image, *star, MIX[fwhm])
    x, y, flux = np.array(stars).T
    sources = skies.catalogue(x, y, flux if told is None else told, 50.0, saturated)
    return skies.exposure(image, sources, skies.true_psf(MIX[fwhm]), sigma=SIGMA, mask=mask), image


def pixels(new, ref):
    """Data and variance of both after repair, without the rim."""
    out = []
    for r in repair(new, ref, matched()):
        box = np.s_[r.pad : -r.pad, r.pad : -r.pad]
        out.append((r.data[box], r.variance[box]))
    return out


def disc(x, y, radius, flag):
    v, u = np.mgrid[: SHAPE[0], : SHAPE[1]]
    return np.where(np.hypot(u - x, v - y) <= radius, np.uint16(flag), np.uint16(0))


def test_good_pixels_are_left_alone():
    (new, _), (ref, _) = seen([(60, 60, 1e4)], 3.0), seen([(60, 60, 2e4)], 4.5, seed=2)
    (a, _), (_, variance) = pixels(new, ref)
    np.testing.assert_array_equal(a, new.data)
    np.testing.assert_array_equal(variance, ref.variance)


def test_the_rim_has_the_light_of_stars_that_the_border_cuts():
    (new, _), (ref, _) = seen([(1.0, 60.0, 1e5)], 3.0), seen([(1.0, 60.0, 2e5)], 4.5)
    a, _ = repair(new, ref, matched())
    assert a.data.shape == (SHAPE[0] + 2 * a.pad, SHAPE[1] + 2 * a.pad)
    whole = np.zeros(a.data.shape)
    skies.add(whole, 1 + a.pad, 60 + a.pad, 1e5, MIX[3.0], 45)
    outside = np.ones(a.data.shape, bool)
    outside[a.pad : -a.pad, a.pad : -a.pad] = False
    # the spline's 1e-3 of the peak, and wings fainter than a twentieth of the noise
    np.testing.assert_allclose(a.data[outside], whole[outside], atol=10)
    assert whole[outside].max() > 2000


def test_a_cosmic_ray_is_replaced_by_what_the_star_under_it_shows():
    mask = np.zeros(SHAPE, np.uint16)
    mask[60, 61] = mask[100, 20] = Flag.COSMIC_RAY
    (new, image), (ref, _) = seen([(60.0, 60.0, 1e4)], 3.0, mask=mask), seen([(60.0, 60.0, 2e4)], 4.5)
    (data, variance), (untouched, _) = pixels(new, ref)
    expected = 1e4 * skies.stamp(MIX[3.0], 0, 0, 5)[2, 3]
    # the star's own model, without noise: 1e-3 of the peak from the spline
    assert data[60, 61] == pytest.approx(expected, rel=3e-3)
    assert data[100, 20] == pytest.approx(0, abs=0.3)
    # sky noise and a twentieth of the light that was filled in
    assert variance[60, 61] == pytest.approx(SIGMA**2 + (0.05 * expected) ** 2, rel=0.01)
    assert variance[100, 20] == pytest.approx(SIGMA**2, rel=0.01)
    good = mask == 0
    np.testing.assert_array_equal(data[good], image.astype(np.float32)[good])
    np.testing.assert_array_equal(untouched, ref.data)


def test_nothing_of_a_nan_reaches_the_transform():
    mask = np.zeros(SHAPE, np.uint16)
    mask[20:60, 30:90] = Flag.NO_DATA
    new, _ = seen([(100, 120, 1e4)], 3.0, mask=mask)
    ref, _ = seen([(100, 120, 2e4)], 4.5)
    new.data[mask > 0] = np.nan
    (data, variance), _ = pixels(new, ref)
    assert np.isfinite(data).all()
    assert np.isfinite(variance).all()
    assert np.abs(data[mask > 0]).max() < 1e-3  # no star is near


def test_a_star_saturated_in_both_gets_one_flux_and_leaves_little():
    """Its catalogued fluxes are wrong in opposite ways; what counts is that the fills agree."""
    mask_n, mask_r = disc(80, 70, 5, Flag.SATURATED), disc(80, 70, 7, Flag.SATURATED)
    (new, _) = seen([(80.0, 70.0, 4e5)], 3.0, mask=mask_n, saturated=[True], told=[3.6e5])
    (ref, _) = seen([(80.0, 70.0, 8e5)], 4.5, mask=mask_r, saturated=[True], told=[9e5])
    (a, variance), (b, _) = pixels(new, ref)
    # the reference's core is larger: both are filled over it
    either = (mask_n > 0) | (mask_r > 0)
    fill_n, fill_r = (f / skies.stamp(MIX[w], 0, 0, 41).max() for f, w in ((a, 3.0), (b, 4.5)))
    assert fill_r[70, 80] == pytest.approx(RATIO * fill_n[70, 80], rel=0.01)
    assert 3.6e5 * 1.001 < fill_n[70, 80] < 4.5e5  # between the two claims
    noisy = variance[either] > SIGMA**2 * 1.5
    assert noisy.mean() > 0.9


def test_a_star_saturated_in_one_takes_the_flux_of_the_other():
    mask = disc(80, 70, 5, Flag.SATURATED)
    new, _ = seen([(80.0, 70.0, 4e5)], 3.0, mask=mask, saturated=[True], told=[3e5])
    ref, _ = seen([(80.0, 70.0, 8e5)], 4.5)
    (a, _), (b, _) = pixels(new, ref)
    peak = 4e5 * skies.stamp(MIX[3.0], 0, 0, 5).max()
    # half a per cent against the five of a saturated star's wings: the reference decides
    assert a[70, 80] == pytest.approx(peak, rel=0.02)
    np.testing.assert_array_equal(b, ref.data)


def test_flags_tell_which_image_and_reach_as_far_as_the_kernel():
    mask_n = np.zeros(SHAPE, np.uint16)
    mask_n[50, 60] = Flag.COSMIC_RAY
    mask_r = disc(120, 100, 6, Flag.SATURATED)
    new, _ = seen([(20, 20, 1e3)], 3.0, mask=mask_n)
    ref, _ = seen([(20, 20, 1e3)], 4.5, mask=mask_r)
    mask = final_mask(new, ref, 3.5, 9)
    assert mask.dtype == np.uint16
    own = mask[50, 60]
    assert own & Flag.COSMIC_RAY and own & Flag.REACHED and own & Flag.UNJUDGED
    assert not own & 0xFF00
    other = mask[100, 120]
    assert other & Flag.SATURATED.ref() and other & Flag.UNJUDGED.ref() and not other & 0xFF
    reached = (mask & Flag.REACHED) > 0
    rows, columns = np.nonzero(reached)
    # a cosmic ray is filled so well that it tells within half of the filter's FWHM, rounded up, only
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (48, 52, 58, 62)
    rows, columns = np.nonzero((mask & Flag.REACHED.ref()) > 0)
    # the disc reaches from its rim as far as the kernel: 6 + 9 px
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (85, 115, 105, 135)
    # one pixel of a matched filter of FWHM 3.5 px holds a tenth of its weight: only itself is not judged
    assert ((mask & Flag.UNJUDGED) > 0).sum() == 1
    # of a saturated disc its rim goes too, where a third of the weight lies on it
    assert (mask_r > 0).sum() < ((mask & Flag.UNJUDGED.ref()) > 0).sum() < 1.8 * (mask_r > 0).sum()


def test_the_border_is_marked_as_deep_as_the_kernel():
    new, _ = seen([(20, 20, 1e3)], 3.0)
    ref, _ = seen([(20, 20, 1e3)], 4.5)
    edge = (final_mask(new, ref, 3.5, 7) & Flag.EDGE) > 0
    inner = np.ones(SHAPE, bool)
    inner[7:-7, 7:-7] = False
    np.testing.assert_array_equal(edge, inner)
