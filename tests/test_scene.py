"""All sources of an image fitted together by a known PSF, in scenes drawn by the test."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial import cKDTree

import skies
from zogyp.measure.scene import fit_scene, star_radii, star_stamps

MIXTURE = skies.gaussian(3.5, 0.03)
SIGMA, GAIN = 8.0, 2.0
PSF = skies.true_psf(MIXTURE, 45)


def scene_of(n, seed=1, *, flux=(2e3, 1e5), shape=(300, 300), apart=0.0, noise=True, off=0.3, sweeps=3):
    """A field of n stars, the guesses it starts from, and what is fitted."""
    made = skies.star_field(seed, n, lambda x, y: MIXTURE, shape=shape, flux=flux, apart=apart, n=45)
    variance = (SIGMA**2 + made.image / GAIN).astype(np.float32)
    rng = np.random.default_rng(seed + 50)
    data = made.image + (rng.normal(size=shape) * np.sqrt(variance) if noise else 0)
    order = np.argsort(-made.flux)
    x, y, f = (a[order] for a in (made.x, made.y, made.flux))
    guess = skies.catalogue(
        x + rng.normal(0, off, n), y + rng.normal(0, off, n), f * rng.uniform(0.7, 1.1, n), 1.0
    )
    good = np.ones(shape, bool)
    fitted = fit_scene(data.astype(np.float32), variance, good, guess, PSF, sweeps=sweeps, psf_error=0.0)
    return (x, y, f), fitted, (variance, good)


def test_without_noise_the_scene_is_explained():
    (x, y, f), scene, _ = scene_of(60, noise=False, apart=6.0, sweeps=12)
    # the spline through a star of 3.5 px: 2e-4 of its flux; blends of two FWHM converge within twelve sweeps
    np.testing.assert_allclose(scene.sources.flux, f, rtol=2e-3)
    np.testing.assert_allclose(scene.sources.x, x, atol=5e-3)
    np.testing.assert_allclose(scene.sources.y, y, atol=5e-3)
    assert np.abs(scene.residual).max() < 4  # of 6000


def test_pulls_of_isolated_stars_are_normal():
    (x, y, f), scene, _ = scene_of(90, 2, apart=25.0, shape=(400, 400))
    s = scene.sources
    # ninety normal deviates: a standard deviation of 1 +- 0.075
    assert np.std((s.flux - f) / s.flux_err) == pytest.approx(1, abs=0.25)
    pulls = np.concatenate([s.x - x, s.y - y]) / np.tile(scene.position_err, 2)
    assert np.std(pulls) == pytest.approx(1, abs=0.2)
    assert np.median(scene.chi2) == pytest.approx(1, abs=0.06)


def test_neighbours_are_told_apart_in_a_crowd():
    """700 stars on 300²: a neighbour within two FWHM is the rule."""
    (x, y, f), scene, _ = scene_of(700, 3, flux=(1e3, 1e5), off=0.1, sweeps=8)
    s = scene.sources
    near = cKDTree(np.column_stack([x, y])).query(np.column_stack([x, y]), k=2)[0][:, 1] > 2.5
    bright = near & (f > 1e4)
    assert bright.sum() > 100
    # noise of S/N 100 and more, and faint neighbours within a FWHM
    assert np.median(np.abs(s.flux / f - 1)[bright]) < 0.02
    assert np.std(scene.residual) < 1.6 * np.sqrt(
        SIGMA**2 + np.mean(np.clip(f, 0, 1e5)) * f.size / 9e4 / GAIN
    )


def test_the_model_plus_the_residual_is_the_image():
    (_, _, _), scene, (variance, good) = scene_of(40, 4, apart=15.0)
    s, data = scene.sources, None
    made = skies.star_field(4, 40, lambda x, y: MIXTURE, shape=(300, 300), flux=(2e3, 1e5), apart=15.0, n=45)
    rng = np.random.default_rng(54)
    data = made.image + rng.normal(size=(300, 300)) * np.sqrt(variance)
    index = np.arange(10)
    stamps = star_stamps(scene, variance, good, PSF, index, 9)
    for i in index:
        u, v = round(s.x[i]), round(s.y[i])
        if min(u, v) < 9 or max(u, v) > 290:
            continue
        box = np.s_[v - 9 : v + 10, u - 9 : u + 10]
        others = np.zeros((300, 300))
        for j in range(len(s)):
            if j != i:
                skies.add(others, s.x[j], s.y[j], s.flux[j], MIXTURE, 45)
        # wings below a twentieth of the noise are left undrawn, of forty stars; and float32
        np.testing.assert_allclose(stamps.data[i], (data - others)[box], atol=0.15 * SIGMA)


def test_stamps_leave_out_bad_pixels_and_what_lies_beyond_the_border():
    data = np.zeros((60, 60), np.float32)
    variance, good = np.full(data.shape, 4.0, np.float32), np.ones(data.shape, bool)
    good[30, 32] = False
    guess = skies.catalogue([30.0, 2.0], [30.0, 30.0], [1e3, 1e3], 10.0)
    scene = fit_scene(data, variance, good, guess, PSF)
    stamps = star_stamps(scene, variance, good, PSF, np.array([0, 1]), 5)
    at = round(stamps.x[0]) - 5
    assert np.isinf(stamps.variance[0, 30 - round(stamps.y[0]) + 5, 32 - at])
    assert np.isinf(stamps.variance[0]).sum() == 1
    assert np.isinf(stamps.variance[1, :, : 5 - round(stamps.x[1])]).all()


def test_faint_sources_keep_their_place():
    """A position that noise would move by more than 0.3 px is not moved at all."""
    made = np.random.default_rng(5).normal(0, SIGMA, (100, 100)).astype(np.float32)
    guess = skies.catalogue([50.0], [50.0], [60.0], 10.0)
    variance, good = np.full((100, 100), SIGMA**2, np.float32), np.ones((100, 100), bool)
    s = fit_scene(made, variance, good, guess, PSF).sources
    assert (s.x[0], s.y[0]) == (50.0, 50.0)


def test_stars_are_drawn_as_far_as_they_show():
    flux = np.array([1e2, 1e4, 1e6, 1e8])
    radius = star_radii(PSF, flux, 5.0)
    assert np.all(np.diff(radius) >= 0)
    assert radius.max() <= PSF.size // 2
    n = PSF.size
    p = np.hypot(*np.mgrid[-(n // 2) : n // 2 + 1, -(n // 2) : n // 2 + 1])
    for f, r in zip(flux, radius, strict=True):
        if r < n // 2:
            beyond = PSF.at(0, 0)[(p > r + 1) & (p <= n // 2)]
            assert f * beyond.max() < 0.05 * 5.0
