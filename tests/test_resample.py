"""Images put onto another grid, against scipy's splines, closed forms and statistics of noise."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter, map_coordinates, spline_filter1d

import skies
from zogyp.core.inpaint import fill
from zogyp.core.kernels import NAMES, kernel
from zogyp.core.old_image import Bits, Planes
from zogyp.core.resample import Lattice, resample
from zogyp.errors import OptionError, ShapeError

BAD, NO_DATA, SATURATED, OTHER, REACHED = 1, 2, 4, 16, 32
BITS = Bits(unusable=BAD | NO_DATA | SATURATED, saturated=SATURATED, no_data=NO_DATA, reached=REACHED)


def affine(matrix, offset, shape, step=32):
    """Lattice of old = matrix (x, y) + offset."""
    ny, nx = (max(2, -(-(n - 1) // step) + 1) for n in shape)
    y, x = np.mgrid[:ny, :nx] * float(step)
    (a, b), (c, d) = matrix
    return Lattice(step, a * x + b * y + offset[0], c * x + d * y + offset[1], shape)


def turned(degrees, scale, old_shape, shape, step=32):
    """Lattice that turns and scales about the middles of both images; and the matrix and offset of it."""
    t = np.deg2rad(degrees)
    matrix = scale * np.array([[np.cos(t), -np.sin(t)], [np.sin(t), np.cos(t)]])
    offset = (np.array(old_shape[::-1]) - 1) / 2 - matrix @ ((np.array(shape[::-1]) - 1) / 2)
    return affine(matrix, offset, shape, step), matrix, offset


def places(matrix, offset, shape):
    """x and y in the old image of every new pixel."""
    y, x = np.mgrid[: shape[0], : shape[1]].astype(float)
    return np.tensordot(np.asarray(matrix), np.stack([x, y]), 1) + np.reshape(offset, (2, 1, 1))


def planes(data, mask=None, variance=None):
    data = np.asarray(data, dtype=np.float32)
    mask = np.zeros(data.shape, np.uint16) if mask is None else mask.astype(np.uint16)
    return Planes(data, mask, None if variance is None else np.asarray(variance, np.float32))


def noise(shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def inside(x, y, shape):
    return (np.abs(x - (shape[1] - 1) / 2) <= shape[1] / 2) & (np.abs(y - (shape[0] - 1) / 2) <= shape[0] / 2)


# ---------------------------------------------------------------- values


@pytest.mark.parametrize("step", [1, 7, 32, 256])
@pytest.mark.parametrize("degrees", [0.0, 1.0, 12.0, 45.0, 90.0, 181.0])
def test_spline_is_scipys_at_any_angle(degrees, step):
    old, shape = noise((83, 110)), (97, 301)  # rows of more than one block
    lattice, matrix, offset = turned(degrees, 0.8, old.shape, shape, step)
    new = resample(planes(old), lattice, BITS)
    x, y = places(matrix, offset, shape)
    expected = 0.64 * map_coordinates(old.astype(float), [y, x], order=5, mode="mirror")
    expected[~inside(x, y, old.shape)] = np.nan
    # single precision: coefficients up to 70, 36 products
    np.testing.assert_allclose(new.data, expected, atol=2e-5)
    np.testing.assert_array_equal(new.mask, np.where(np.isnan(expected), NO_DATA, 0))


@pytest.mark.parametrize("name", ["lanczos3", "lanczos4"])
@pytest.mark.parametrize("degrees", [0.5, 30.0])
def test_windowed_sincs_are_their_sums(name, degrees):
    old, shape = noise((40, 50)), (45, 60)
    lattice, matrix, offset = turned(degrees, 0.9, old.shape, shape)
    new = resample(planes(old), lattice, BITS, kernel=name)
    x, y = places(matrix, offset, shape)
    n, (ny, nx) = kernel(name).taps // 2, old.shape
    expected = np.zeros(shape)
    ix, iy = np.floor(x).astype(int), np.floor(y).astype(int)
    for j in range(1 - n, n + 1):
        for i in range(1 - n, n + 1):
            u, v = x - ix - i, y - iy - j
            w = np.sinc(u) * np.sinc(u / n) * np.sinc(v) * np.sinc(v / n)
            mirrored = [
                np.abs(np.abs(k) - 2 * (m - 1) * (np.abs(k) > m - 1)) for k, m in ((iy + j, ny), (ix + i, nx))
            ]
            expected += w * old[mirrored[0].clip(0, ny - 1), mirrored[1].clip(0, nx - 1)]
    total = [
        sum(np.sinc(p - k) * np.sinc((p - k) / n) for k in range(1 - n, n + 1)) for p in (x - ix, y - iy)
    ]
    expected *= 0.81 / (total[0] * total[1])
    ok = inside(x, y, old.shape)
    assert ok.sum() > 1000
    # weights to 3e-7 each, 64 of them, values up to 4
    np.testing.assert_allclose(new.data[ok], expected[ok], atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_the_same_grid_gives_the_same_image(name):
    old = noise((50, 300))
    new = resample(planes(old, variance=old**2 + 1), affine(np.eye(2), (0, 0), old.shape), BITS, kernel=name)
    # single precision; on a pixel all other weights are 0
    np.testing.assert_allclose(new.data, old, atol=1e-5)
    np.testing.assert_allclose(new.variance, old**2 + 1, rtol=1e-5)
    assert not new.mask.any()


def test_quarter_turns_and_mirrors_only_move_pixels():
    old = noise((30, 41))
    for matrix, offset, expected in [
        ([[-1, 0], [0, 1]], (40, 0), old[:, ::-1]),
        ([[0, 1], [1, 0]], (0, 0), old.T),
        ([[0, -1], [1, 0]], (40, 0), np.rot90(old, 1)),
    ]:
        new = resample(planes(old), affine(matrix, offset, expected.shape), BITS)
        np.testing.assert_allclose(new.data, expected, atol=1e-5)  # single precision


@pytest.mark.parametrize("shape", [(1, 1), (1, 30), (30, 1), (2, 2), (3, 5), (4, 300)])
@pytest.mark.parametrize("name", NAMES)
def test_images_smaller_than_the_kernel(shape, name):
    old = noise(shape)
    lattice = affine(np.eye(2), (0.3, -0.2), shape)
    new = resample(planes(old, variance=np.ones(shape)), lattice, BITS, kernel=name)
    x, y = places(np.eye(2), (0.3, -0.2), shape)
    np.testing.assert_array_equal(new.mask, 0)
    np.testing.assert_allclose(new.variance, 1, rtol=1e-6)  # shares add to one wherever they mirror
    if name == "bspline5":
        coefficients = old.astype(float)
        for axis in (0, 1):
            if shape[axis] > 1:
                coefficients = spline_filter1d(coefficients, order=5, axis=axis, mode="mirror")
        at = [p if n > 1 else 0 * p for p, n in zip((y, x), shape, strict=True)]
        # scipy cannot filter an axis of one pixel; along it everything is constant
        wide = np.repeat(np.repeat(coefficients, 9 if shape[0] == 1 else 1, 0), 9 if shape[1] == 1 else 1, 1)
        expected = map_coordinates(wide, at, order=5, mode="mirror", prefilter=False)
        np.testing.assert_allclose(new.data, expected, atol=1e-5)


@pytest.mark.parametrize("degrees", [0.0, 20.0])
def test_coarser_pixels_take_the_mean_of_places_in_them(degrees):
    old, shape, scale = noise((90, 80)), (40, 38), 2.1  # 2 x 2 places
    lattice, matrix, offset = turned(degrees, scale, old.shape, shape, 8)
    new = resample(planes(old), lattice, BITS)
    x, y = places(matrix, offset, shape)
    expected = np.zeros(shape)
    for dx in (-0.25, 0.25):
        for dy in (-0.25, 0.25):
            px, py = (np.stack([x, y]) + (matrix @ (dx, dy))[:, None, None]).reshape(2, *shape)
            px, py = px.clip(-0.5, 79.5), py.clip(-0.5, 89.5)
            expected += scale**2 / 4 * map_coordinates(old.astype(float), [py, px], order=5, mode="mirror")
    expected[~inside(x, y, old.shape)] = np.nan
    np.testing.assert_allclose(new.data, expected, atol=5e-5)  # single precision, times 4


def test_fine_detail_is_not_aliased():
    """A pattern finer than coarse pixels can carry must vanish, not come back as a coarse one."""
    x = np.arange(600)
    old = np.repeat(np.sin(2 * np.pi * 0.4 * x)[None], 300, 0)  # 0.4 / px: 0.9 per coarse pixel, seen as 0.1
    lattice, _, _ = turned(0.0, 2.25, old.shape, (120, 250))
    new = resample(planes(old), lattice, BITS)
    # the mean of two places 1.125 px apart leaves |cos(1.125 pi 0.4)| = 0.16 of it, and 0.52 of the 0.08 that
    # the spline makes of it at 0.6 / px; one place would leave all of it
    assert np.abs(new.data[20:-20, 20:-20]).max() / 2.25**2 < 0.16 + 0.52 * 0.08


# ---------------------------------------------------------------- stars


@st.composite
def maps(draw):
    """Affine maps: turned, unequal along two axes by up to a quarter, mirrored or not, scale 0.3 to 3."""
    a, b = draw(st.floats(-180, 180)), draw(st.floats(-45, 45))
    scale, q = draw(st.floats(0.3, 3)), draw(st.floats(0.8, 1.25))
    flip = draw(st.sampled_from([-1, 1]))

    def turn(t):
        t = np.deg2rad(t)
        return np.array([[np.cos(t), -np.sin(t)], [np.sin(t), np.cos(t)]])

    return turn(a) @ np.diag([scale * np.sqrt(q) * flip, scale / np.sqrt(q)]) @ turn(b)


@given(matrix=maps(), dx=st.floats(-3, 3), dy=st.floats(-3, 3), name=st.sampled_from(NAMES))
@settings(max_examples=40, deadline=None)
def test_flux_and_centre_of_a_star_survive_any_map(matrix, dx, dy, name):
    scale = np.sqrt(abs(np.linalg.det(matrix)))
    fwhm = 4.0 * max(1.0, 1.15 * scale)  # four pixels of either grid
    half = int(2.2 * fwhm) + 4
    old = np.zeros((2 * half + 1, 2 * half + 1))
    star = np.array([half + dx, half + dy])
    skies.add(old, *star, 1000.0, skies.gaussian(fwhm), 2 * half + 21)
    n = 2 * int(1.25 * half / scale) + 1
    offset = np.array([half, half]) - matrix @ [n // 2, n // 2]
    new = resample(planes(old), affine(matrix, offset, (n, n)), BITS, kernel=name)
    data = np.nan_to_num(new.data.astype(float))
    y, x = np.mgrid[:n, :n]
    flux = data.sum()
    centre = np.array([(data * x).sum(), (data * y).sum()]) / flux
    # 1.9 FWHM from the centre exp(-2.77 1.9²) = 5e-5 of the peak is left, which a turned grid cuts. Windowed
    # sincs displace a slope by up to 0.02 px; where fractions are alike over the star, that sums to 0.02
    # times twice the peak of a Gaussian of FWHM 4 px, 0.235: 0.9 per cent
    exact = name == "bspline5"
    assert flux == pytest.approx(1000, rel=1e-3 if exact else 1e-2)
    np.testing.assert_allclose(matrix @ centre + offset, star, atol=(0.01 if exact else 0.03) * max(1, scale))


def test_flux_of_stars_on_a_distorted_grid():
    """A smooth distortion: areas between nodes are smooth, and stars keep their flux everywhere."""
    old, mixture = np.zeros((300, 300)), skies.gaussian(4.0)
    true = np.stack(np.meshgrid(np.arange(40, 261, 44.3), np.arange(40, 261, 44.3)), -1).reshape(-1, 2)
    for x, y in true:
        skies.add(old, x, y, 1000, mixture, 41)
    step, bend = 16, 1e-4  # old = new + bend (new - 150)² / 2
    y, x = np.mgrid[:20, :20] * float(step)
    lattice = Lattice(step, x + bend / 2 * (x - 150) ** 2, y + bend / 2 * (y - 150) ** 2, (300, 300))
    new = resample(planes(old), lattice, BITS)
    assert not new.mask[:290, :290].any()
    # new = sqrt: the inverse of the parabola
    centre = 150 + (np.sqrt(1 + 2 * bend * (true - 150)) - 1) / bend
    sums = [new.data[int(v) - 15 : int(v) + 17, int(u) - 15 : int(u) + 17].sum() for u, v in centre]
    # between nodes a line misses the slope of the parabola by up to bend step / 2 = 8e-4 along each axis
    np.testing.assert_allclose(sums, 1000, rtol=2 * bend * step / 2 + 1e-4)


def test_areas_show_no_cells():
    """A level on a distorted grid becomes smooth: no step at the nodes of the lattice."""
    step, bend = 16, 1e-3
    y, x = np.mgrid[:15, :15] * float(step)
    lattice = Lattice(step, x - bend / 2 * (x - 100) ** 2, y, (200, 200))
    new = resample(planes(np.full((220, 220), 100.0)), lattice, BITS)
    row = new.data[50, 20:180]
    expected = 100 * (1 - bend * (np.arange(20, 180) - 100))
    np.testing.assert_allclose(row, expected, rtol=1e-5)  # exact for a parabola, in single precision


# ---------------------------------------------------------------- mask


def spread(mask, x, y, wider=0):
    """Mask of new pixels at x, y: a loop over all flagged old pixels."""
    out = np.zeros(x.shape, np.uint16)
    nx, ny = np.floor(x + 0.5), np.floor(y + 0.5)
    for v, u in np.argwhere(mask):
        distance = np.maximum(np.abs(nx - u), np.abs(ny - v))
        out[distance <= 1 + wider] |= mask[v, u]
        if mask[v, u] & BITS.unusable:
            reach = 6 if mask[v, u] & SATURATED else 4
            out[distance <= reach + wider] |= REACHED
    return out


@pytest.mark.parametrize("degrees", [0.0, 7.0, 100.0])
def test_bits_are_those_of_pixels_within_one(degrees):
    rng = np.random.default_rng(5)
    old, shape = noise((60, 70)), (62, 64)
    mask = np.zeros(old.shape, np.uint16)
    at = rng.integers(0, 60, (2, 12))
    mask[at[0], at[1]] = rng.choice([BAD, SATURATED, OTHER, BAD | OTHER], 12)
    lattice, matrix, offset = turned(degrees, 0.9, old.shape, shape)
    new = resample(planes(old, mask), lattice, BITS)
    x, y = places(matrix, offset, shape)
    ok = inside(x, y, old.shape)
    np.testing.assert_array_equal(new.mask[ok], spread(mask, x, y)[ok])
    np.testing.assert_array_equal(new.mask[~ok], NO_DATA)


def test_bits_of_coarser_pixels_are_those_of_their_area():
    rng = np.random.default_rng(6)
    old, shape, scale = noise((100, 100)), (30, 30), 2.6
    mask = np.where(rng.random(old.shape) < 0.004, BAD, 0).astype(np.uint16)
    lattice, matrix, offset = turned(33.0, scale, old.shape, shape)
    new = resample(planes(old, mask), lattice, BITS)
    x, y = places(matrix, offset, shape)
    half = (abs(matrix[0, 0]) + abs(matrix[0, 1])) / 2  # of the box around the area
    for v, u in np.argwhere(mask):
        touched = (np.abs(x - u) <= half + 1) & (np.abs(y - v) <= half + 1) & inside(x, y, old.shape)
        assert np.all(new.mask[touched] & BAD)
        far = (np.abs(x - u) > half + 3) | (np.abs(y - v) > half + 3)
        alone = mask.copy()
        alone[v, u] = 0
        others = resample(planes(old, alone), lattice, BITS).mask
        np.testing.assert_array_equal(new.mask[far] & BAD, others[far] & BAD)


def test_saturated_pixels_keep_the_nearest_value():
    image = np.zeros((61, 61))
    skies.add(image, 30.2, 29.9, 1e6, skies.gaussian(3.0), 61)
    mask = np.where(image > 4e4, SATURATED, 0)
    old = np.minimum(image, 4e4).astype(np.float32)
    lattice, matrix, offset = turned(10.0, 0.8, old.shape, (70, 70))
    new = resample(planes(old, mask), lattice, BITS)
    x, y = places(matrix, offset, (70, 70))
    nearest = old[np.rint(y).astype(int).clip(0, 60), np.rint(x).astype(int).clip(0, 60)]
    core = (new.mask & SATURATED) != 0
    assert core.sum() > 20
    np.testing.assert_allclose(new.data[core], 0.64 * nearest[core], rtol=1e-6)  # rounding of the area
    assert new.data[core].max() == pytest.approx(0.64 * 4e4)


def test_what_is_not_finite_has_no_data():
    old = noise((40, 40))
    old[10, 10], old[20, 20], old[30, 30] = np.nan, np.inf, 1e36
    new = resample(planes(old, variance=np.ones(old.shape)), affine(np.eye(2), (0.3, 0.2), old.shape), BITS)
    expected = np.zeros(old.shape, bool)
    for k in (10, 20, 30):
        expected[k - 1 : k + 2, k - 1 : k + 2] = True
    np.testing.assert_array_equal((new.mask & NO_DATA) != 0, expected)
    np.testing.assert_array_equal(np.isnan(new.data), expected)
    np.testing.assert_array_equal(np.isnan(new.variance), expected)


@given(y=st.integers(0, 49), x=st.integers(0, 49), degrees=st.floats(0, 360), name=st.sampled_from(NAMES))
@settings(max_examples=30, deadline=None)
def test_a_hole_tells_only_where_a_flag_says_so(y, x, degrees, name):
    good = noise((50, 50), 7)
    lattice, _, _ = turned(degrees, 0.9, good.shape, (50, 50))
    clean = resample(planes(good), lattice, BITS, kernel=name)
    holed = good.copy()
    holed[y, x] = np.nan
    new = resample(planes(holed), lattice, BITS, kernel=name)
    unflagged = new.mask == 0
    filled = fill(holed, np.isnan(holed))
    # cardinal weights beyond four pixels are below 0.013; the other axis has at most 1. At a border the
    # mirror image of the hole counts as well
    limit = 4 * 0.013 * abs(filled[y, x] - good[y, x]) + 1e-5
    assert np.abs(new.data - clean.data)[unflagged].max() < limit
    assert np.all(np.isfinite(new.data[unflagged]))


@pytest.mark.parametrize(
    "mixture", [skies.gaussian(3.0), skies.gaussian(3.0, 0.1), skies.gaussian(5.0, 0.1)], ids=str
)
def test_a_saturated_star_rings_nowhere_without_a_flag(mixture):
    full = 6e4
    old, new = np.zeros((121, 121)), np.zeros((121, 121))
    skies.add(old, 60.2, 59.7, 5e6, mixture, 161)
    skies.add(new, 59.9, 59.3, 5e6, mixture, 161)
    mask = np.where(old > full, SATURATED, 0)
    mask[:, 60:62] = SATURATED  # it bleeds
    old = np.where(mask, full, old)
    result = resample(planes(old, mask), affine(np.eye(2), (0.3, 0.4), old.shape), BITS)
    error = np.abs(result.data - new) / full
    away = np.ones(error.shape, bool)
    away[-6:] = False  # the last rows mirror the column's end
    # what a core ten times as high as the fill's leaves six pixels away: 0.0007 of saturation, as measured
    assert error[(result.mask == 0) & away].max() < 1.5e-3
    # along the column alone, far from the core, nothing is left
    lonely = (result.mask == 0) & (np.abs(np.arange(121) - 59.3) > 45)[:, None] & away
    assert error[lonely].max() < 1e-4
    # the same without the mask rings three times as far as the flags go
    naive = resample(planes(old), affine(np.eye(2), (0.3, 0.4), old.shape), BITS)
    assert (np.abs(naive.data - new) / full)[lonely].max() > 10 * error[lonely].max()


# ---------------------------------------------------------------- noise


@pytest.mark.parametrize("scale, degrees", [(1.0, 3.0), (0.7, 20.0), (1.6, 10.0), (2.4, 0.0)])
@pytest.mark.parametrize("name", ["bspline5", "lanczos3"])
def test_variance_is_noise_per_unit_frequency(scale, degrees, name):
    old = 3 * noise((1100, 1100), 8)
    n = int(700 / scale)
    lattice, _, _ = turned(degrees, scale, old.shape, (n, n))
    new = resample(planes(old, variance=np.full(old.shape, 9.0)), lattice, BITS, kernel=name)
    assert not new.mask.any()
    np.testing.assert_allclose(new.variance, 9 * scale**2, rtol=1e-5)  # single precision
    sigma = 4.0 / scale if scale < 1 else 4.0  # [new px], wide against the kernel
    smooth = gaussian_filter(new.data.astype(float), sigma)[16:-16, 16:-16]
    measured = smooth.var() * 4 * np.pi * sigma**2
    patches = smooth.size / (4 * np.pi * sigma**2)
    # five standard deviations of a variance of so many patches; 2 per cent for what the kernel does to the
    # frequencies that the filter lets pass
    assert measured == pytest.approx(9 * scale**2, rel=5 * np.sqrt(2 / patches) + 0.02)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shift", [(0.0, 0.5), (0.5, 0.5), (0.2, 0.7)])
def test_single_pixels_scatter_by_the_kernels_noise(name, shift):
    old = noise((900, 900), 9)
    new = resample(planes(old), affine(np.eye(2), shift, old.shape), BITS, kernel=name)
    expected = np.prod(kernel(name).noise(np.array(shift)))
    # 8e5 pixels, neighbours correlated by up to a half: 0.2 per cent; five times that
    assert new.data[8:-8, 8:-8].var() == pytest.approx(expected, rel=0.01)


def test_single_pixels_of_a_turned_and_finer_grid():
    old, scale = noise((900, 900), 10), 0.8
    lattice, _, _ = turned(17.0, scale, old.shape, (700, 700))
    new = resample(planes(old, variance=np.ones(old.shape)), lattice, BITS)
    middles = (np.arange(1000) + 0.5) / 1000
    # variance |J|, times |J|, times noise of both fractions; as above
    expected = scale**4 * kernel("bspline5").noise(middles).mean() ** 2
    assert new.data.var() == pytest.approx(expected, rel=0.01)


def test_variances_vary_as_their_pixels_do():
    rng = np.random.default_rng(11)
    variance = rng.uniform(1, 100, (30, 40)).astype(np.float32)
    new = resample(planes(noise((30, 40)), variance=variance), affine(np.eye(2), (0.3, 0.6), (26, 36)), BITS)
    qx, qy = (kernel("bspline5").squares(np.array([t]))[0] for t in (0.3, 0.6))
    for j, i in [(5, 5), (20, 31), (10, 12)]:
        expected = qy @ variance[j - 1 : j + 3, i - 1 : i + 3] @ qx
        assert new.variance[j, i] == pytest.approx(expected, rel=1e-5)  # single precision


def test_bad_variances_do_not_leak():
    variance = np.full((40, 40), 4.0, dtype=np.float32)
    mask = np.zeros((40, 40), np.uint16)
    for k, junk in enumerate((np.nan, np.inf, 0.0, -5.0)):
        variance[5 + 8 * k, 20] = junk
    mask[20, 5], variance[20, 5] = BAD, 1e30
    old = planes(noise((40, 40)), mask, variance)
    new = resample(old, affine(np.eye(2), (0.4, 0.4), (38, 38)), BITS)
    # all that is good is 4, so all must be
    np.testing.assert_allclose(new.variance, 4, rtol=1e-4)


def test_a_fill_never_makes_a_variance_too_small():
    """Beside a bright star a bent plate dips below zero; a variance must not."""
    variance = np.full((41, 41), 1.0)
    skies.add(variance, 20, 20, 1e6, skies.gaussian(2.0), 41)
    mask = np.zeros((41, 41), np.uint16)
    mask[:, 23:25] = BAD
    new = resample(planes(variance, mask, variance), affine(np.eye(2), (0.4, 0.4), (39, 39)), BITS)
    assert new.variance.min() >= 0.999  # the least good variance, to rounding


def test_no_good_variance_at_all_gives_zero():
    old = planes(noise((20, 20)), variance=np.zeros((20, 20)))
    new = resample(old, affine(np.eye(2), (0.4, 0.4), (19, 19)), BITS)
    np.testing.assert_array_equal(new.variance, 0)


# ---------------------------------------------------------------- edges of the map


def test_no_overlap_at_all():
    old = planes(noise((20, 20)), variance=np.ones((20, 20)))
    new = resample(old, affine(np.eye(2), (100, -300), (70, 300)), BITS)
    assert np.all(new.mask == NO_DATA)
    assert np.all(np.isnan(new.data)) and np.all(np.isnan(new.variance))


def test_a_small_image_inside_of_one_cell_is_seen():
    """No node lies in the old image; its coarseness must be noticed all the same."""
    old = planes(np.full((12, 12), 5.0))
    lattice = affine(3 * np.eye(2), (-90, -90), (64, 64), step=64)
    new = resample(old, lattice, BITS)
    assert np.nansum(new.data) == pytest.approx(5 * 144)  # its flux; new pixels 30 to 33 cover it exactly


def test_nodes_without_a_place_have_no_data():
    old = planes(noise((100, 100)))
    lattice = affine(np.eye(2), (0.2, 0.2), (99, 99), step=10)
    lattice.x[:3, :] = np.nan
    lattice.y[:, -1] = np.inf
    new = resample(old, lattice, BITS)
    whole = resample(old, affine(np.eye(2), (0.2, 0.2), (99, 99), step=10), BITS)
    # a node has no area when its neighbour has no place, so one cell more is lost on each side
    assert np.all(new.mask[:40] == NO_DATA) and np.all(new.mask[:, 81:] == NO_DATA)
    np.testing.assert_array_equal(new.data[41:, :80], whole.data[41:, :80])


def test_the_outermost_half_pixel_belongs_to_the_image():
    old = planes(noise((10, 10)))
    new = resample(old, affine(0.25 * np.eye(2), (-1, -1), (60, 60)), BITS)
    x = -1 + 0.25 * np.arange(60)
    ok = (x >= -0.5) & (x <= 9.5)
    np.testing.assert_array_equal(new.mask == 0, ok[:, None] & ok[None, :])


@pytest.mark.parametrize("degrees", [0.4, 25.0])
def test_threads_change_nothing(degrees):
    rng = np.random.default_rng(12)
    old = noise((300, 520))
    mask = np.where(rng.random(old.shape) < 1e-3, rng.choice([BAD, SATURATED, OTHER], old.shape), 0)
    lattice, _, _ = turned(degrees, 1.4, old.shape, (290, 333))
    one = resample(planes(old, mask, old**2 + 1), lattice, BITS)
    for n in (2, 3):
        many = resample(planes(old, mask, old**2 + 1), lattice, BITS, n_threads=n)
        np.testing.assert_array_equal(many.data, one.data)
        np.testing.assert_array_equal(many.mask, one.mask)
        np.testing.assert_array_equal(many.variance, one.variance)


def test_what_comes_in_is_left_as_it_is_whatever_its_layout():
    old, variance = noise((40, 60)), np.ones((40, 60), np.float32)
    mask = np.zeros((40, 60), np.uint16)
    old[20, 30], mask[5, 5] = np.nan, BAD
    lattice = affine(np.eye(2), (0.3, 0.2), (39, 59))
    first = resample(Planes(old, mask, variance), lattice, BITS)
    swapped = [a.astype(a.dtype.newbyteorder(">")) for a in (old, mask, variance)]
    strided = [np.asfortranarray(a) for a in (old, mask, variance)]
    for arrays in (swapped, strided):
        before = [a.copy() for a in arrays]
        again = resample(Planes(*arrays), lattice, BITS)
        np.testing.assert_array_equal(again.data, first.data)
        np.testing.assert_array_equal(again.mask, first.mask)
        np.testing.assert_array_equal(again.variance, first.variance)
        for a, b in zip(arrays, before, strict=True):
            np.testing.assert_array_equal(a, b)


def test_what_cannot_be_is_refused():
    good, lattice = planes(np.zeros((20, 20))), affine(np.eye(2), (0, 0), (20, 20))
    with pytest.raises(OptionError, match="bspline5"):
        resample(good, lattice, BITS, kernel="cubic")
    with pytest.raises(ShapeError, match="mask"):
        resample(Planes(good.data, good.mask[:5]), lattice, BITS)
    with pytest.raises(ShapeError, match="variance"):
        resample(Planes(good.data, good.mask, good.data[:, :5]), lattice, BITS)
    with pytest.raises(ShapeError, match="image"):
        resample(Planes(good.data[:0], good.mask[:0]), lattice, BITS)
    with pytest.raises(ShapeError, match="cover"):
        resample(good, Lattice(32, lattice.x, lattice.y, (40, 20)), BITS)
    with pytest.raises(ShapeError, match="lattice's y"):
        resample(good, Lattice(32, lattice.x, lattice.y[:1], (20, 20)), BITS)
    with pytest.raises(OptionError, match="step"):
        resample(good, Lattice(0, lattice.x, lattice.y, (20, 20)), BITS)
