"""The compiled loops under PSF and scene, against scipy's splines, finite differences and Monte Carlo."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import map_coordinates, spline_filter

import skies
from zogyp.core.stacks import stack_draw, stack_normal, stack_transpose
from zogyp.core.stamps import (
    add_stars,
    combine,
    cut_stamps,
    draw,
    draw_gradient,
    sweep,
)

GRIDS = [(21, 1.0), (33, 0.5), (26, 0.7), (17, 1.3)]  # points, step [px]
SHIFTS = [(0.0, 0.0), (0.31, -0.44), (-0.5, 0.5)]


def rough(k, seed=0):
    """Values of a model with structure at every scale: nothing is smooth enough to hide an error."""
    return np.random.default_rng(seed).normal(size=(k, k))


def coefficients(values):
    return spline_filter(values, order=5, mode="mirror")


def by_scipy(values, dx, dy, s, r):
    """What `draw` should give; there is no light beyond the model's outermost points."""
    k = values.shape[0]
    p = np.arange(-r, r + 1)
    gx, gy = (p - dx) / s + k // 2, (p - dy) / s + k // 2
    out = map_coordinates(values, np.meshgrid(gy, gx, indexing="ij"), order=5, mode="mirror")
    inside = [(g >= 0) & (g <= k - 1) for g in (gy, gx)]
    return np.where(inside[0][:, None] & inside[1][None, :], out, 0)


@pytest.mark.parametrize("k, s", GRIDS)
@pytest.mark.parametrize("shift", SHIFTS)
@pytest.mark.parametrize("r", [5, 14])
def test_draw_is_the_quintic_spline_of_scipy(k, s, shift, r):
    values = rough(k)
    drawn = draw(coefficients(values), *shift, s, r)
    # double precision: rounding of thirty-six products
    np.testing.assert_allclose(drawn, by_scipy(values, *shift, s, r), atol=1e-11)


@pytest.mark.parametrize("k, s", GRIDS)
@pytest.mark.parametrize("shift", [(0.02, 0.03), (0.31, -0.44)])
def test_gradient_equals_finite_differences(k, s, shift):
    c, h, r = coefficients(rough(k)), 1e-5, 6
    dx, dy = shift
    p, px, py = draw_gradient(c, dx, dy, s, r)
    np.testing.assert_array_equal(p, draw(c, dx, dy, s, r))
    by_x = (draw(c, dx + h, dy, s, r) - draw(c, dx - h, dy, s, r)) / (2 * h)
    by_y = (draw(c, dx, dy + h, s, r) - draw(c, dx, dy - h, s, r)) / (2 * h)
    # h² times the third derivative, about 1e-10 x 1e3
    np.testing.assert_allclose(px, by_x, atol=1e-6)
    np.testing.assert_allclose(py, by_y, atol=1e-6)


@pytest.mark.parametrize("k, s", [*GRIDS, (45, 1 / 3)])
@pytest.mark.parametrize("r", [4, 6, 15])
def test_stack_transpose_is_the_exact_transpose_of_stack_draw(k, s, r):
    rng = np.random.default_rng(3)
    n, terms = 7, rng.normal(size=(7, 3))
    x, y = rng.uniform(0, 100, (2, n))
    x[2], y[4] = 31.0, 62.0  # on the middle of a pixel, where one more of them lies on the model
    planes = rng.normal(size=(3, k, k))
    stamps = rng.normal(size=(n, 2 * r + 1, 2 * r + 1)).astype(np.float32)
    forward = float((stack_draw(planes, x, y, terms, r, s).astype(float) * stamps).sum())
    back = float((planes * stack_transpose(stamps, x, y, terms, k, s)).sum())
    # the stamps are float32: 6e-8 of each of a thousand products
    assert forward == pytest.approx(back, abs=1e-4)


@pytest.mark.parametrize(
    "k, s, r",
    [
        (61, 1.0, 24),
        (61, 1.0, 30),
        (25, 1.0, 15),
        (41, 0.5, 6),
        (45, 1 / 3, 10),
        (45, 0.7, 10),
        (51, 1.3, 25),
    ],
)
def test_the_normal_product_is_drawing_weighing_and_the_transpose(k, s, r):
    rng = np.random.default_rng(5)
    x, y, terms = rng.uniform(0, 100, 9), rng.uniform(0, 100, 9), rng.normal(size=(9, 3))
    planes = rng.normal(size=(3, k, k))
    weight = rng.random((9, 2 * r + 1, 2 * r + 1)).astype(np.float32)
    expected = stack_transpose(weight * stack_draw(planes, x, y, terms, r, s), x, y, terms, k, s)
    got = stack_normal(planes.astype(np.float32), x, y, terms.astype(np.float32), weight, s)
    # single precision: 6e-8 of each of a hundred products
    np.testing.assert_allclose(got, expected, atol=3e-6 * np.abs(expected).max())


def test_stack_draw_draws_each_star_at_its_fraction_of_a_pixel():
    rng = np.random.default_rng(4)
    values = rng.normal(size=(2, 21, 21))
    terms = np.array([[1.0, 0.5], [1.0, -0.25]])
    x, y = np.array([10.3, 7.0]), np.array([4.8, 99.4])
    planes = np.stack([coefficients(v) for v in values])
    stamps = stack_draw(planes, x, y, terms, 7, 1.0)
    for i in range(2):
        expected = by_scipy(np.tensordot(terms[i], values, 1), x[i] - round(x[i]), y[i] - round(y[i]), 1.0, 7)
        np.testing.assert_allclose(stamps[i], expected, atol=1e-6)  # float32


@pytest.mark.parametrize("k, s", [*GRIDS, (45, 1 / 3)])
@pytest.mark.parametrize("r", [3, 14])
def test_stack_draw_draws_every_one_of_many_stars(k, s, r):
    rng = np.random.default_rng(8)
    values = rng.normal(size=(2, k, k))
    x, y = rng.uniform(0, 50, (2, 150))  # more than are drawn at once
    x[3], y[3], x[4], y[5] = 7.0, 9.0, 11.0, 12.5
    terms = rng.normal(size=(150, 2))
    stamps = stack_draw(coefficients_of_each(values), x, y, terms, r, s)
    for i in (0, 3, 4, 5, 63, 64, 149):
        shift = x[i] - np.round(x[i]), y[i] - np.round(y[i])
        expected = by_scipy(np.tensordot(terms[i], values, 1), *shift, s, r)
        np.testing.assert_allclose(stamps[i], expected, atol=2e-6)  # float32


def coefficients_of_each(values):
    return np.stack([coefficients(v) for v in values])


@pytest.mark.parametrize("n", [1, 2, 3, 4, 7, 10])  # planes are summed three at a time
def test_combine_sums_planes_in_the_rows_within_its_reach_and_leaves_the_rest(n):
    planes = np.random.default_rng(5).normal(size=(n, 9, 9))
    terms = np.random.default_rng(6).normal(size=n)
    out = np.full((9, 9), 7.0)
    combine(terms, planes, out, 2)
    expected = np.full((9, 9), 7.0)
    expected[2:7] = np.tensordot(terms, planes, 1)[2:7]
    np.testing.assert_allclose(out, expected, atol=1e-14)


def test_add_stars_adds_what_lies_inside_and_nothing_of_what_does_not():
    mixture = skies.gaussian(3.0)
    planes = coefficients(skies.stamp(mixture, 0, 0, 25))[None]
    x = np.array([10.2, -1.4, 39.3, -50.0, 20.0])
    y = np.array([5.7, 12.1, 29.0, 10.0, 300.0])
    flux = np.array([100.0, 50.0, -30.0, 1e6, 1e6])
    image = np.zeros((30, 40), np.float32)
    add_stars(image, x, y, flux, np.full(5, 12), np.ones((5, 1)), planes, 1.0)
    expected = np.zeros((30, 40))
    for one in zip(x, y, flux, strict=True):
        skies.add(expected, *one, mixture, 25)
    # a quintic spline through a star of FWHM 3 px: 7e-4 of its peak of 11
    np.testing.assert_allclose(image, expected, atol=0.01)


def test_cut_stamps_fills_what_lies_outside():
    image = np.arange(30, dtype=np.float32).reshape(5, 6)
    stamps = cut_stamps(image, np.array([2.4, -0.2]), np.array([1.6, 4.3]), 1, -1.0)
    np.testing.assert_array_equal(stamps[0], image[1:4, 1:4])
    np.testing.assert_array_equal(stamps[1], [[-1, 18, 19], [-1, 24, 25], [-1, -1, -1]])


HOW = np.array([0.0, 1.0, 0.5])  # no PSF error, positions move, by half a pixel at most


def fitted(image, variance, good, start, mixture, sweeps, k=31):
    """Stars fitted by repeated sweeps: columns x, y, flux; and what the last sweep said."""
    n = len(start)
    planes = coefficients(skies.stamp(mixture, 0, 0, k))[None]
    stars = np.column_stack([start, np.full(n, 12.0), np.full(n, 6.0)])
    residual = image.astype(np.float32)
    terms = np.ones((n, 1))
    radius = np.full(n, 12)
    add_stars(residual, stars[:, 0], stars[:, 1], -stars[:, 2], radius, terms, planes, 1.0)
    for _ in range(sweeps):
        out = sweep(residual, variance, good, stars, terms, planes, 1.0, HOW)
    return stars, out, residual


def test_sweeps_separate_blended_stars():
    mixture = skies.gaussian(3.5)
    true = np.array([[20.3, 20.1, 1e4], [23.8, 21.0, 4e3], [20.9, 24.4, 7e3], [40.0, 33.3, 500.0]])
    image = np.zeros((60, 60))
    for x, y, flux in true:
        skies.add(image, x, y, flux, mixture, 31)
    start = true + np.array([[0.3, -0.2, 900], [-0.3, 0.2, -900], [0.1, 0.3, 500], [0.2, 0.2, 100]])
    good, variance = np.ones(image.shape, bool), np.full(image.shape, 4.0, np.float32)
    stars, out, residual = fitted(image, variance, good, start, mixture, 25)
    # without noise only the spline and what 25 sweeps of blends a FWHM apart leave
    np.testing.assert_allclose(stars[:, :2], true[:, :2], atol=2e-3)
    np.testing.assert_allclose(stars[:, 2], true[:, 2], rtol=2e-3)
    assert np.abs(residual).max() < 1.5  # of a peak of 700
    assert np.all(out[:, 2] / out[:, 3] < 0.1)  # reduced chi²: there is no noise


def test_masked_pixels_have_no_say():
    mixture = skies.gaussian(3.5)
    image = np.zeros((40, 40))
    skies.add(image, 20.2, 19.6, 5e3, mixture, 31)
    good, variance = np.ones(image.shape, bool), np.full(image.shape, 4.0, np.float32)
    image[18:20, 21] = 1e6
    good[18:20, 21] = False
    stars, _, _ = fitted(image, variance, good, np.array([[20.0, 20.0, 4e3]]), mixture, 8)
    np.testing.assert_allclose(stars[0, :3], [20.2, 19.6, 5e3], rtol=1e-3)


def test_nothing_is_fitted_where_no_pixel_is_good():
    good, variance = np.zeros((40, 40), bool), np.ones((40, 40), np.float32)
    start = np.array([[20.0, 20.0, 100.0]])
    stars, out, _ = fitted(np.zeros((40, 40)), variance, good, start, skies.gaussian(3.5), 2)
    np.testing.assert_array_equal(stars[0, :3], start[0])
    assert out[0, 3] == 0
    assert np.isinf(out[0, 0])


def test_formal_errors_are_those_of_many_trials():
    mixture, n, step = skies.gaussian(3.0), 20, 32
    rng = np.random.default_rng(6)
    centre = np.arange(n) * step + 16.0
    true = np.column_stack([g.ravel() for g in np.meshgrid(centre, centre)]) + rng.uniform(
        -0.5, 0.5, (n * n, 2)
    )
    image = np.zeros((n * step, n * step))
    flux = 3e3
    for x, y in true:
        skies.add(image, x, y, flux, mixture, 31)
    variance = (25 + np.maximum(image, 0) / 1.5).astype(np.float32)
    noisy = image + rng.normal(size=image.shape) * np.sqrt(variance)
    start = np.column_stack([true, np.full(n * n, flux)])
    stars, out, _ = fitted(noisy, variance, np.ones(image.shape, bool), start, mixture, 3)
    # 400 stars give a standard deviation to 3.5 per cent, twice as many coordinates to 2.5
    assert np.std(stars[:, 2]) == pytest.approx(np.median(out[:, 0]), rel=0.14)
    assert np.std(stars[:, :2] - true) == pytest.approx(np.median(out[:, 1]), rel=0.10)
    # the mean of 400: five standard errors
    assert abs(np.mean(stars[:, 2]) - flux) < 5 * np.median(out[:, 0]) / 20
    # reduced chi² of 400 x 110 pixels: 1 +- 0.007, less the three parameters
    assert np.sum(out[:, 2]) / np.sum(out[:, 3] - 3) == pytest.approx(1, abs=0.03)


def test_an_error_of_the_psf_takes_weight_from_the_core():
    """With a PSF error, a bright core no longer decides alone: the flux's error grows."""
    mixture = skies.gaussian(3.0)
    image = np.zeros((40, 40))
    skies.add(image, 20.0, 20.0, 1e6, mixture, 31)
    planes = coefficients(skies.stamp(mixture, 0, 0, 31))[None]
    errors = []
    for psf_error in (0.0, 0.05):
        stars = np.array([[20.0, 20.0, 1e6, 12.0, 6.0]])
        out = sweep(
            np.zeros((40, 40), np.float32),
            np.full((40, 40), 25.0, np.float32),
            np.ones((40, 40), bool),
            stars,
            np.ones((1, 1)),
            planes,
            1.0,
            np.array([psf_error, 1.0, 0.5]),
        )
        errors.append(out[0, 0])
    assert errors[1] > 10 * errors[0]
