"""The noise that interpolation leaves, against resampled white noise and against scipy's spline."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import map_coordinates

from zogyp.core.colour import LAGS, LEAST_POWER, covariance, power
from zogyp.core.kernels import NAMES
from zogyp.core.old_image import Bits, Planes
from zogyp.core.resample import Lattice, resample

BITS = Bits(unusable=1, saturated=4, no_data=2, reached=32)
SHAPE = (600, 620)  # of the new image
RIM = 12  # pixels beyond which borders are not felt
FEW = 5  # lags at which single covariances are compared

# angle [deg], scale [old px / new px], shift [px]
MAPS = {
    "half a pixel": (0.0, 1.0, (0.5, 0.25)),
    "a slight turn": (0.05, 1.0, (0.13, 0.0)),
    "a turn": (30.0, 1.0, (0.0, 0.0)),
    "finer pixels": (0.0, 0.8, (0.0, 0.0)),
    "turned and finer": (-12.0, 0.8, (0.0, 0.0)),
}


def matrix_of(angle, scale):
    c, s = scale * np.cos(np.deg2rad(angle)), scale * np.sin(np.deg2rad(angle))
    return np.array([[c, -s], [s, c]])


def places(which, x, y):
    """Where new pixels lie in an old image that is large enough for all of them."""
    angle, scale, shift = MAPS[which]
    m = matrix_of(angle, scale)
    middle = (np.array(SHAPE[::-1]) - 1) / 2
    # whole old pixels at the middle, so that the fraction there is the shift's
    u, v = np.tensordot(m, np.stack([x - middle[0], y - middle[1]]), 1)
    return u + 450 + shift[0], v + 450 + shift[1]


def resampled(which, name, seed):
    """White noise of unit variance on the new grid, without its rim."""
    old = np.random.default_rng(seed).normal(size=(900, 900)).astype(np.float32)
    step = 20
    nodes = [np.arange(-(-(n - 1) // step) + 1) * float(step) for n in SHAPE]
    y, x = np.meshgrid(*nodes, indexing="ij")
    lattice = Lattice(step, *places(which, x, y), SHAPE)
    new = resample(Planes(old, np.zeros(old.shape, np.uint16)), lattice, BITS, kernel=name)
    assert not new.mask.any()
    return new.data[RIM:-RIM, RIM:-RIM].astype(float)


def told(which, name):
    """The covariance in units of the old pixels' variance."""
    rows, columns = (np.arange(RIM, n - RIM, 7.0) for n in SHAPE)  # 7 has no period in common with 0.8
    x, y = (a.ravel() for a in np.meshgrid(columns, rows))
    angle, scale, _ = MAPS[which]
    found = covariance(name, *places(which, x, y), matrix_of(angle, scale))
    # a new pixel holds the light of its area: so much is the noise per unit frequency
    return scale**2 * found


@pytest.mark.parametrize("name", ["bspline5", "lanczos3"])
@pytest.mark.parametrize("which", MAPS)
def test_covariance_is_that_of_resampled_noise(which, name):
    want, data = told(which, name), resampled(which, name, 1)
    n = data.size
    # standard error of a mean of products of normal numbers that are correlated (Isserlis), at most
    error = np.sqrt(2 * (want**2).sum() / n)
    ny, nx = data.shape
    for dy in range(FEW + 1):
        for dx in range(-FEW, FEW + 1):
            a = data[: ny - dy, max(0, -dx) : nx - max(0, dx)]
            b = data[dy:, max(0, dx) : nx + min(0, dx)]
            assert np.mean(a * b) == pytest.approx(want[LAGS + dy, LAGS + dx], abs=4.5 * error), (dy, dx)
    assert want[LAGS, LAGS] > 20 * error


@pytest.mark.parametrize("name", ["bspline5", "lanczos3"])
@pytest.mark.parametrize("which", MAPS)
def test_power_is_that_of_resampled_noise(which, name):
    """Mean of the periodogram in squares of frequencies; there are enough of them to tell 2 per cent."""
    scale = MAPS[which][1]
    data = resampled(which, name, 2)[:576, :576] / scale
    want = power(told(which, name) / scale**2, data.shape)
    seen = np.abs(np.fft.rfft2(data)) ** 2 / data.size
    assert want.shape == seen.shape and want.dtype == np.float32
    seen, want = (p[:, :288].reshape(24, 24, 12, 24).mean(axis=(1, 3)) for p in (seen, want.astype(float)))
    n = 24 * 24  # in each square; the first column of all holds frequencies and their conjugates
    error = np.sqrt(np.where(np.arange(12) == 0, 1 + 1 / 24, 1) / n)
    # where a square lies across the floor its mean is above what is seen
    told_of = want > 1.5 * LEAST_POWER
    # 288 squares; noise that is cut out at its edges leaks 1 per cent of the mean power besides
    assert (np.abs(seen - want) < 4.5 * error * want + 0.01)[told_of].all()
    assert (seen[~told_of] < 2 * LEAST_POWER).all()
    assert told_of.mean() > 0.5


@pytest.mark.parametrize("shift", [(0.5, 0.25), (0.1, 0.7), (0.0, 0.5)])
def test_power_of_a_shift_is_that_of_scipys_spline(shift):
    """All pixels fall alike: the power is the squared transform of what one old pixel becomes."""
    n = 64
    point = np.zeros((n, n))
    point[32, 32] = 1
    y, x = np.mgrid[:n, :n] + 0.0
    became = map_coordinates(point, [y + shift[1], x + shift[0]], order=5, mode="mirror")
    # those beyond the table's reach of 12 px have 4e-5 of a weight
    want = np.maximum(np.abs(np.fft.rfft2(became)) ** 2, LEAST_POWER)
    at = (np.array([40.0 + shift[0]]), np.array([17.0 + shift[1]]))
    # pixels eight and more apart share 3e-3 of a pixel's noise, which is left out
    np.testing.assert_allclose(power(covariance("bspline5", *at, np.eye(2)), (n, n)), want, atol=0.01)


@pytest.mark.parametrize("name", NAMES)
def test_whole_pixels_leave_noise_white(name):
    x, y = np.array([3.0, 100.0, -7.0]), np.array([12.0, 5.0, 0.0])
    found = covariance(name, x, y, np.eye(2))
    white = np.zeros((2 * LAGS + 1, 2 * LAGS + 1))
    white[LAGS, LAGS] = 1
    np.testing.assert_allclose(found, white, atol=1e-9)  # the spline's prefilter, forgotten over 12 px
    np.testing.assert_allclose(power(found, (31, 40)), 1, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("angle, scale", [(0, 1), (0.05, 1), (30, 0.8), (90, 1), (77, 0.5), (180, 1)])
def test_sum_is_one_and_opposite_lags_are_alike(name, angle, scale):
    rng = np.random.default_rng(3)
    x, y = rng.uniform(0, 50, (2, 40))
    found = covariance(name, x, y, matrix_of(angle, scale))
    assert found.shape == (2 * LAGS + 1, 2 * LAGS + 1)
    assert found.sum() == pytest.approx(1, abs=1e-12)
    np.testing.assert_array_equal(found, found[::-1, ::-1])
    assert found.max() == found[LAGS, LAGS]


def test_axes_are_not_exchanged():
    """Half a pixel along x alone: neighbours along x share noise, those along y share none."""
    found = covariance("bspline5", np.array([7.5]), np.array([3.0]), np.eye(2))
    assert found[LAGS, LAGS + 1] > 0.1 and abs(found[LAGS + 1, LAGS]) < 1e-9
    spectrum = power(found, (32, 32))
    assert spectrum[0, 16] == np.float32(LEAST_POWER) and spectrum[16, 0] == pytest.approx(1, abs=1e-6)
    # columns twice as wide along x in the old image: only their own, shorter steps count
    wide = covariance("bspline5", np.array([7.5]), np.array([3.5]), np.array([[0.0, -1.0], [0.5, 0.0]]))
    assert wide[LAGS, LAGS + 1] > 2 * wide[LAGS + 1, LAGS] > 0


def test_finer_pixels_share_more():
    x, y = np.random.default_rng(4).uniform(0, 50, (2, 200))
    middle = [covariance("lanczos3", x, y, s * np.eye(2))[LAGS, LAGS] for s in (1.0, 0.8, 0.5)]
    assert middle[0] > middle[1] > middle[2]
    # at half the size a pixel has a quarter of the noise per unit frequency, as an interpolation of 0.8
    assert middle[2] == pytest.approx(0.25 * middle[0], rel=0.05)
