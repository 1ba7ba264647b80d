"""Loops that pass over a whole image once, against scipy, numpy and brute force."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import correlate1d, gaussian_filter, maximum_filter, uniform_filter

from zogyp.core.counting import block_means, extremes, histogram, moments
from zogyp.core.filters import box, gaussian, separable
from zogyp.core.morphology import dilated
from zogyp.core.peaks import extrema

SHAPES = [(50, 70), (3, 9), (9, 2), (1, 1)]


def noise(shape, seed=1):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@settings(max_examples=60, deadline=None)
@given(
    st.tuples(st.integers(1, 40), st.integers(1, 40)),
    st.sampled_from([1, 3, 5, 9, 15, 41, 99]),
    st.booleans(),
    st.floats(0, 0.2),
    st.integers(0, 2**32 - 1),
)
def test_a_grown_mask_is_that_of_a_maximum_filter(shape, side, border, share, seed):
    mask = np.random.default_rng(seed).random(shape) < share
    expected = maximum_filter(mask.view(np.uint8), side, mode="constant", cval=int(border)) > 0
    np.testing.assert_array_equal(dilated(mask, side, border=border), expected)


def test_a_grown_mask_wider_than_what_is_looked_at_together(shape=(9, 1100)):
    mask = np.random.default_rng(5).random(shape) < 0.003  # marks on both sides of the borders of blocks
    mask[4, [255, 511, 512, 768]] = True
    for side in (3, 31, 601):
        expected = maximum_filter(mask.view(np.uint8), side, mode="constant") > 0
        np.testing.assert_array_equal(dilated(mask, side), expected)


@pytest.mark.parametrize("shape", SHAPES)
def test_filters_are_those_of_scipy(shape):
    data = noise(shape)
    np.testing.assert_allclose(gaussian(data, 1.7, 3.0), gaussian_filter(data, 1.7, truncate=3.0), atol=1e-6)
    np.testing.assert_allclose(box(data, 5), uniform_filter(data, 5), atol=1e-6)  # single precision


def test_a_separable_filter_is_blank_where_it_sticks_out():
    data, taps = noise((30, 40)), np.array([1, -4, 6, -4, 1], np.float32)
    expected = correlate1d(correlate1d(data, taps, axis=0), taps, axis=1)
    expected[:2] = expected[-2:] = 0
    expected[:, :2] = expected[:, -2:] = 0
    np.testing.assert_allclose(separable(data, taps), expected, atol=1e-4)  # sums of terms of 100
    assert not separable(noise((4, 40)), taps).any()


def test_moments_and_extremes_of_what_is_finite():
    data = noise((60, 70)) * 3 + 5
    data[3, 4:20] = np.nan
    n, mean, sigma = moments(data)
    assert n == np.isfinite(data).sum()
    assert mean == pytest.approx(np.nanmean(data.astype(float)))
    assert sigma == pytest.approx(np.nanstd(data.astype(float)))
    assert moments(np.full((2, 2), np.nan, np.float32))[0] == 0
    use = data > 4
    assert extremes(data, use) == (data[use].min(), data[use].max())


def test_a_histogram_is_that_of_numpy():
    data, use = noise((80, 90)), noise((80, 90), 2) > -1
    expected, _ = np.histogram(data[use], bins=40, range=(-2, 2))
    # a value on the border of two bins may fall to either side
    assert np.abs(histogram(data, use, -2.0, 2.0, 40) - expected).sum() <= 2


def test_block_means_along_rows_and_columns():
    data, bad = noise((37, 50)), noise((37, 50), 3) > 0.8
    bad[5, 8:16] = True  # more than half of one block
    across, along = block_means(data, bad, 12, 1.0)
    values = np.where(bad, np.nan, np.clip(data, -1, 1))
    assert across.shape == (37, 4) and along.shape == (50, 3)
    assert across[7, 2] == pytest.approx(np.nanmean(values[7, 24:36]))
    assert along[41, 1] == pytest.approx(np.nanmean(values[12:24, 41]))
    assert np.isnan(across[5, 0] if bad[5, :12].sum() > 6 else across[5, 1]) or bad[5, 12:24].sum() <= 6


@pytest.mark.parametrize("least", [0.5, 2.0])
def test_extrema_are_what_no_neighbour_exceeds(least):
    plane = noise((130, 90), 4)
    plane[20:23, 30:33] = np.nan
    plane[50, 50:52] = 9.0  # equal neighbours: one peak
    sign = np.sign(plane)
    with np.errstate(invalid="ignore"):
        filled = {s: np.where(np.isnan(plane), -np.inf, s * plane) for s in (-1, 1)}
        highest = {s: maximum_filter(f, 3, mode="constant", cval=-np.inf) for s, f in filled.items()}
        expected = (np.abs(plane) >= least) & (
            np.where(sign > 0, filled[1] == highest[1], filled[-1] == highest[-1])
        )
    expected[50, 51] = False
    rows, columns = extrema(plane, least)
    found = np.zeros(plane.shape, bool)
    found[rows, columns] = True
    np.testing.assert_array_equal(found, expected)
