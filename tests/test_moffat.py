"""The Moffat profile of a PSF's prior, against numerical integration and closed forms."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.integrate import dblquad

from zogyp.measure.moffat import STEEPEST, Moffat, fit_moffat, moffat_from, parameters_of

PROFILES = [Moffat(2.0, 2.5), Moffat(3.5, 3.0, 0.1, -0.2), Moffat(6.0, 4.5, -0.3, 0.1)]


def over_pixel(m, x, y):
    """Light of a profile in the pixel at (x, y), by adaptive quadrature of the definition."""
    a2 = (m.fwhm / 2) ** 2 / (2 ** (1 / m.beta) - 1)
    root = np.sqrt(1 - m.e1**2 - m.e2**2)

    def density(v, u):
        q = ((1 - m.e1) * u * u - 2 * m.e2 * u * v + (1 + m.e1) * v * v) / (a2 * root)
        return (m.beta - 1) / (np.pi * a2) * (1 + q) ** -m.beta

    return dblquad(density, x - 0.5, x + 0.5, y - 0.5, y + 0.5)[0]


@pytest.mark.parametrize("m", PROFILES)
@pytest.mark.parametrize("x, y", [(0, 0), (1, 0), (-1, 2), (5, -3)])
def test_pixels_are_integrals(m, x, y):
    # three Gauss-Legendre nodes per axis: 1e-4 of the peak at FWHM 2, far less above
    stamp = m.stamp(21)
    assert stamp[10 + y, 10 + x] == pytest.approx(over_pixel(m, x, y), abs=2e-4 * stamp.max())


@pytest.mark.parametrize("m", [Moffat(2.0, 3.0), Moffat(4.0, 2.5, 0.2, 0.2), Moffat(5.0, 6.0)])
def test_unit_flux(m):
    k = 601
    alpha = m.fwhm / 2 / np.sqrt(2 ** (1 / m.beta) - 1)
    # beyond a radius R a round profile keeps (1 + R²/alpha²)^(1 - beta); the square's corners hold less
    beyond = (1 + (k / 2 / alpha) ** 2) ** (1 - m.beta)
    assert 1 - 2 * beyond - 1e-4 < m.stamp(k).sum() < 1 + 1e-4


def test_half_maximum_and_ellipticity():
    m = Moffat(40.0, 3.0)
    row = m.stamp(101)[50]
    # a pixel of 1/40 FWHM smooths the peak by 1e-3
    assert row[70] / row[50] == pytest.approx(0.5, abs=2e-3)
    e1, e2 = 0.25, -0.15
    stamp = Moffat(8.0, STEEPEST, e1, e2).stamp(161)
    p = np.arange(161) - 80.0
    xx, yy = (stamp.sum(axis=0) @ p**2 - 1 / 12), (stamp.sum(axis=1) @ p**2 - 1 / 12)
    xy = p @ stamp @ p
    # second moments of the ellipse, the pixel's own 1/12 taken off; the stamp cuts 1e-4
    assert (xx - yy) / (xx + yy) == pytest.approx(e1, abs=1e-3)
    assert 2 * xy / (xx + yy) == pytest.approx(e2, abs=1e-3)


def test_finer_sampling_gives_the_same_pixels():
    m = Moffat(3.0, 3.0, 0.1, 0.0)
    np.testing.assert_allclose(m.stamp(41, 0.5)[::2, ::2], m.stamp(21), rtol=1e-12)
    np.testing.assert_allclose(m.stamp(21, 1.0, 1.0, -2.0)[8, 11], m.stamp(21)[10, 10], rtol=1e-12)


@pytest.mark.parametrize("m", [Moffat(1.5, 2.0, 0.3, -0.4), Moffat(30.0, 7.0, -0.1, 0.05), Moffat(4.0, 3.0)])
def test_parameters_and_back(m):
    back = moffat_from(parameters_of(m))
    assert (back.fwhm, back.beta, back.e1, back.e2) == pytest.approx((m.fwhm, m.beta, m.e1, m.e2))


def test_no_parameters_make_an_impossible_profile():
    for p in np.random.default_rng(0).normal(0, 30, (200, 4)):
        m = moffat_from(np.array([p[0] / 10, *p[1:]]))
        assert 1.2 <= m.beta <= STEEPEST
        assert m.e1**2 + m.e2**2 < 1
        assert np.isfinite(m.stamp(5)).all()


@pytest.mark.parametrize("sampling", [1.0, 0.5])
def test_fit_recovers_a_profile(sampling):
    m = Moffat(3.4, 2.8, 0.08, -0.12)
    found = fit_moffat(7.3 * m.stamp(61, sampling, 0.2, -0.3), sampling, 4.5)
    # no noise: as far as least squares goes
    assert (found.fwhm, found.beta) == pytest.approx((3.4, 2.8), rel=1e-3)
    assert (found.e1, found.e2) == pytest.approx((0.08, -0.12), abs=1e-3)


def test_fit_falls_back_to_its_guess():
    flat = np.ones((21, 21)) + np.random.default_rng(1).normal(0, 1e-3, (21, 21))
    assert fit_moffat(flat, 1.0, 3.0) == Moffat(3.0)


@pytest.mark.parametrize("guess", [1.5, 3.0, 4.0, 6.0, 8.0])
def test_a_single_pixel_gives_the_guess_and_no_warning(guess):
    """The PSF of D where all but the peak is cut: the search once went to 1e-43 px."""
    values = np.zeros((57, 57))
    values[28, 28] = 1.0
    assert fit_moffat(values, 1.0, guess) == Moffat(guess)
