"""Interpolation kernels against their closed forms, and the prefilter against scipy's."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import map_coordinates, spline_filter, spline_filter1d

from zogyp.core.kernels import NAMES, kernel, mirror, padded, prefilter
from zogyp.core.psfmodel import bspline5
from zogyp.errors import OptionError

FRACTIONS = np.linspace(0, 1, 401)


def sinc_weights(n, t):
    """Weights of a sinc windowed by a sinc n times as wide, over their sum."""
    u = t[:, None] - np.arange(1 - n, n + 1)
    w = np.sinc(u) * np.sinc(u / n) * (np.abs(u) < n)
    return w / w.sum(axis=1, keepdims=True)


def cardinal(name, t, reach=40):
    """What a single pixel of 1 gives at distances -reach + t, ..., reach - 1 + t."""
    if name == "bspline5":
        pixel = np.zeros(2 * reach + 61)
        pixel[reach + 30] = 1
        at = reach + 30 + (np.arange(-reach, reach)[None, :] + t[:, None])
        return map_coordinates(pixel, [at], order=5, mode="mirror")
    n = int(name[-1])
    w = np.zeros((t.size, 2 * reach))
    w[:, reach - n : reach + n] = sinc_weights(n, t)[:, ::-1]
    return w


@pytest.mark.parametrize("name, taps", [("bspline5", 6), ("lanczos3", 6), ("lanczos4", 8)])
def test_weights_are_the_closed_forms(name, taps):
    k = kernel(name)
    expected = bspline5(FRACTIONS) if name == "bspline5" else sinc_weights(taps // 2, FRACTIONS)
    assert k.taps == taps
    assert k.prefilter == (name == "bspline5")
    # polynomials of degree 9 miss lanczos3 by 1.3e-7, single precision adds as much
    np.testing.assert_allclose(k.weights(FRACTIONS), expected, atol=3e-7)
    np.testing.assert_allclose(k.weights(FRACTIONS).sum(axis=-1), 1, atol=3e-7)


@pytest.mark.parametrize("name", NAMES)
def test_squares_are_the_shares_of_the_four_nearest_pixels(name):
    t = FRACTIONS
    w = cardinal(name, t)[:, 38:42][:, ::-1] ** 2
    # twice the weights' error of 3e-7, over the least sum of squares of 0.8
    np.testing.assert_allclose(kernel(name).squares(t), w / w.sum(axis=1, keepdims=True), atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_noise_is_the_sum_of_all_squared_weights(name):
    t = FRACTIONS.reshape(1, -1)
    # double precision; beyond 40 px the weights are 1e-15
    np.testing.assert_allclose(kernel(name).noise(t)[0], (cardinal(name, t[0]) ** 2).sum(axis=1), atol=1e-12)


def test_noise_of_the_spline_is_0_84_on_average():
    middles = (np.arange(1000) + 0.5) / 1000
    # 0.91797² by numerical integration of the cardinal spline's square
    assert kernel("bspline5").noise(middles).mean() ** 2 == pytest.approx(0.84267, abs=1e-4)


def test_an_unknown_kernel_is_refused():
    with pytest.raises(OptionError, match="lanczos4"):
        kernel("nearest")


def test_kernels_are_shared_and_cannot_be_changed():
    assert kernel("lanczos3") is kernel("lanczos3")
    with pytest.raises(ValueError, match="read-only"):
        kernel("lanczos3").table[0] = 0


@given(ny=st.integers(2, 80), nx=st.integers(2, 80), pad=st.integers(0, 6), seed=st.integers(0, 2**32 - 1))
@settings(max_examples=40, deadline=None)
def test_prefilter_is_scipys(ny, nx, pad, seed):
    data = np.random.default_rng(seed).normal(size=(ny, nx)).astype(np.float32)
    expected = spline_filter(data.astype(float), order=5, mode="mirror")
    c = prefilter(data, pad=pad)
    rows = [mirror(i - pad, ny) for i in range(ny + 2 * pad)]
    columns = [mirror(i - pad, nx) for i in range(nx + 2 * pad)]
    # single precision, eight recursions and a gain of 20 per axis on noise of 1
    np.testing.assert_allclose(c, expected[np.ix_(rows, columns)], atol=3e-5)


@pytest.mark.parametrize("shape", [(1, 50), (50, 1), (1, 1)])
def test_prefilter_along_the_only_axis_there_is(shape):
    data = np.random.default_rng(1).normal(size=shape).astype(np.float32)
    expected = data.astype(float)
    for axis in (0, 1):
        if shape[axis] > 1:
            expected = spline_filter1d(expected, order=5, axis=axis, mode="mirror")
    # as above, one axis
    np.testing.assert_allclose(prefilter(data), expected, atol=1e-5)


def test_tiles_and_threads_leave_no_trace():
    rng = np.random.default_rng(2)
    data = rng.normal(size=(531, 519)).astype(np.float32)  # more than two tiles each way, odd rows left over
    c = prefilter(data, pad=4)
    # as above
    np.testing.assert_allclose(c[4:-4, 4:-4], spline_filter(data.astype(float), order=5), atol=3e-5)
    for n in (2, 3):
        np.testing.assert_array_equal(prefilter(data, pad=4, n_threads=n), c)


def test_a_high_level_costs_no_more_than_rounding():
    level = np.full((70, 300), 5e4, dtype=np.float32)
    # 6e-8 of the level, a few times
    np.testing.assert_allclose(prefilter(level), level, rtol=5e-7)


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (2, 2), (3, 9), (20, 30)])
def test_padded_mirrors(shape):
    data = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    rows, columns = ([mirror(i - 4, n) for i in range(n + 8)] for n in shape)
    np.testing.assert_array_equal(padded(data, 4), data[np.ix_(rows, columns)])


def test_mirror_repeats_no_end():
    assert [mirror(i, 4) for i in range(-7, 11)] == [1, 0, 1, 2, 3, 2, 1, 0, 1, 2, 3, 2, 1, 0, 1, 2, 3, 2]
