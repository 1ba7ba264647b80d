"""Evaluation of a varying PSF, against closed-form profiles, scipy's splines and sums written out."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import map_coordinates

import skies
from zogyp.core.psfmodel import PSF, bspline5, n_terms, polynomial, terms_within


def density(fwhm, k, step):
    """A round Gaussian at the points of a grid (k, k) around ``k // 2``."""
    p = (np.arange(k) - k // 2) * step
    s = fwhm / skies.FWHM
    return np.exp(-(p[:, None] ** 2 + p[None, :] ** 2) / (2 * s * s)) / (2 * np.pi * s * s)


def at_pixels(fwhm, n, dx=0.0, dy=0.0):
    """The same Gaussian at the pixels of a stamp (n, n), displaced."""
    s = fwhm / skies.FWHM
    p = np.arange(n) - n // 2
    e = np.exp(-((p - dy)[:, None] ** 2 + (p - dx)[None, :] ** 2) / (2 * s * s))
    return e / (2 * np.pi * s * s)


def test_terms_are_in_the_order_of_psfex():
    x, y = np.array([2.0]), np.array([3.0])
    assert polynomial(x, y, 0)[:, 0].tolist() == [1]
    assert polynomial(x, y, 1)[:, 0].tolist() == [1, 2, 3]
    assert polynomial(x, y, 2)[:, 0].tolist() == [1, 2, 4, 3, 6, 9]
    assert polynomial(x, y, 3)[:, 0].tolist() == [1, 2, 4, 8, 3, 6, 12, 9, 18, 27]
    assert [n_terms(o) for o in range(5)] == [1, 3, 6, 10, 15]


def test_spline_weights_are_a_partition_of_unity_with_the_right_mean():
    t = np.linspace(0, 1, 11, endpoint=False)
    w = bspline5(t)
    np.testing.assert_allclose(w.sum(axis=1), 1, atol=1e-14)
    # a spline reproduces straight lines: the weights' centre lies at the fraction itself
    np.testing.assert_allclose(w @ (np.arange(6) - 2), t, atol=1e-14)
    np.testing.assert_allclose(w[0], np.array([1, 26, 66, 26, 1, 0]) / 120, atol=1e-15)


@pytest.mark.parametrize("k", [21, 20, 33])
def test_on_its_own_grid_a_psf_is_its_basis(k):
    basis = np.random.default_rng(1).uniform(0.5, 1, (1, k, k)).astype(np.float32)
    psf = PSF(basis=basis)
    stamp = psf.at(5.0, 7.0)
    h = k // 2
    assert stamp.shape == (2 * h + 1, 2 * h + 1)
    known = stamp[:k, :k]  # an even grid has one row and column less than the odd stamp
    np.testing.assert_allclose(known / known.sum(), basis[0] / basis[0].sum(dtype=float), rtol=1e-6)
    if k % 2 == 0:
        assert not stamp[k:].any() and not stamp[:, k:].any()


@pytest.mark.parametrize("fwhm, step", [(3.5, 1.0), (1.7, 0.5), (3.0, 0.37), (6.0, 1.6)])
@pytest.mark.parametrize("dx, dy", [(0.0, 0.0), (0.3, -0.45), (1.2, 0.7)])
def test_at_agrees_with_the_closed_form(fwhm, step, dx, dy):
    k = 2 * round(5 * fwhm / step) + 1
    psf = PSF(basis=density(fwhm, k, step)[None].astype(np.float32), sampling=step)
    stamp = psf.at(0, 0, dx=dx, dy=dy)
    # a quintic spline through a Gaussian sampled 3.4 times per FWHM or more: 1e-3 of the peak
    np.testing.assert_allclose(stamp, at_pixels(fwhm, stamp.shape[0], dx, dy), atol=1e-3 * stamp.max())


@pytest.mark.parametrize("step", [1.0, 0.5, 0.41])
def test_at_is_the_quintic_spline_of_scipy(step):
    k, dx, dy = 41, 0.27, -0.61
    values = np.random.default_rng(2).uniform(size=(k, k)) * density(6 * step, k, step)
    psf = PSF(basis=values[None].astype(np.float32), sampling=step)
    n = psf.size
    p = np.arange(n) - n // 2
    grids = [[(p - d) / step + k // 2 for d in pair] for pair in ((dy, dx), (0.0, 0.0))]
    moved, still = (
        map_coordinates(values, np.meshgrid(*g, indexing="ij"), order=5, mode="mirror") for g in grids
    )
    inside = np.s_[2 : n - 2, 2 : n - 2]  # the border is cut, not mirrored
    # float32 of the basis
    np.testing.assert_allclose(psf.at(0, 0, dx=dx, dy=dy)[inside], (moved / still.sum())[inside], atol=2e-7)


@pytest.mark.parametrize("step", [1.0, 0.5, 0.37])
@pytest.mark.parametrize("x, y", [(0, 0), (511, 20), (300, 400)])
def test_unit_sum_everywhere(step, x, y):
    k = 2 * round(14 / step) + 1
    planes = np.stack([density(f, k, step) * c for f, c in ((4.0, 1.7), (5.0, 0.2), (3.0, -0.1))])
    psf = PSF(planes.astype(np.float32), order=1, origin=(256, 256), scale=(256, 256), sampling=step)
    assert psf.at(x, y).sum() == pytest.approx(1, abs=1e-12)
    # displaced, nothing is lost but what is beyond the border: a Gaussian at 14 px
    assert psf.at(x, y, dx=0.4, dy=-0.3).sum() == pytest.approx(1, abs=1e-6)


def test_the_polynomial_is_the_sum_written_out():
    rng = np.random.default_rng(3)
    planes = rng.uniform(0.2, 1, (6, 9, 9)).astype(np.float32)
    psf = PSF(planes, order=2, origin=(100, 50), scale=(80, 40))
    x, y = 131.0, 22.0
    u, v = (x - 100) / 80, (y - 50) / 40
    b = planes.astype(float)
    total = b[0] + u * b[1] + u * u * b[2] + v * b[3] + u * v * b[4] + v * v * b[5]
    np.testing.assert_allclose(psf.at(x, y), total / total.sum(), rtol=1e-6)
    np.testing.assert_allclose(psf.terms(np.array([x]), np.array([y]))[:, 0], [1, u, u * u, v, u * v, v * v])


def test_a_size_cuts_or_pads_around_the_centre():
    psf = PSF(density(3.0, 21, 1.0)[None].astype(np.float32))
    whole = psf.at(0, 0)
    small, large = psf.at(0, 0, size=9), psf.at(0, 0, size=31)
    np.testing.assert_array_equal(small, whole[6:15, 6:15])
    assert small.sum() < 1
    np.testing.assert_array_equal(large[5:26, 5:26], whole)
    assert large.sum() == pytest.approx(1, abs=1e-12)
    assert np.unravel_index(large.argmax(), large.shape) == (15, 15)


@pytest.mark.parametrize("dx, dy", [(0.25, 0.0), (0.0, -0.4), (0.5, 0.5)])
def test_a_displacement_moves_the_centroid(dx, dy):
    psf = PSF(density(1.7, 45, 0.5)[None].astype(np.float32), sampling=0.5)
    stamp = psf.at(0, 0, dx=dx, dy=dy)
    p = np.arange(stamp.shape[0]) - stamp.shape[0] // 2
    # the sampled Gaussian's own centroid aliases by 1e-4 px
    assert (stamp.sum(axis=0) @ p, stamp.sum(axis=1) @ p) == pytest.approx((dx, dy), abs=1e-3)


def test_total_is_the_sum_over_image_pixels():
    psf = PSF(3.0 * density(2.0, 61, 0.5)[None].astype(np.float32), sampling=0.5)
    # flux per image pixel, sampled twice as finely, still sums to its flux over image pixels
    assert psf.total == pytest.approx(3.0, rel=1e-4)


@pytest.mark.parametrize("low, high", [(0, 0), (0, 3), (1, 3), (2, 2), (2, 5)])
def test_the_terms_of_a_lower_order_are_found_among_those_of_a_higher(low, high):
    u, v = np.random.default_rng(1).normal(size=(2, 6))
    within = terms_within(low, high)
    np.testing.assert_array_equal(polynomial(u, v, high)[within], polynomial(u, v, low))


def test_the_noise_of_a_change_is_that_of_its_terms():
    """Planes with errors of known covariance: the change between two places scatters as told."""
    rng = np.random.default_rng(2)
    spread = rng.normal(size=(3, 3))
    planes = np.einsum("ij,njp->nip", spread, rng.normal(size=(4000, 3, 25)))  # noise at 25 points
    psf = PSF(np.ones((3, 5, 5), np.float32), 1, (50, 40), (50, 40), term_covariance=25 * spread @ spread.T)
    change = (psf.terms(np.array([10.0]), np.array([70.0])) - psf.terms(np.array([90.0]), np.array([20.0])))[
        :, 0
    ]
    seen = np.sqrt((np.einsum("i,nip->np", change, planes) ** 2).sum(axis=1).mean())
    # 10^5 squares: 0.5 per cent
    assert psf.change_noise((10, 70), (90, 20)) == pytest.approx(seen, rel=0.02)
    assert psf.change_noise((10, 70), (10, 70)) == 0
    assert PSF(np.ones((1, 5, 5), np.float32)).change_noise((0, 0), (9, 9)) == 0
