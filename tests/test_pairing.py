"""Pairs of points: each other's nearest by brute force, and shifts found amid junk."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zogyp.core.pairing import mutual_nearest, voted_shift


def brute_pairs(a, b, reach):
    """Each other's nearest, by all distances."""
    found = []
    for i in range(len(a)):
        distance = [np.hypot(*(p - a[i])) for p in b]
        j = int(np.argmin(distance))
        back = int(np.argmin([np.hypot(*(p - b[j])) for p in a]))
        if back == i and distance[j] < reach:
            found.append((i, j))
    return found


@given(st.integers(0, 10**6), st.integers(1, 25), st.integers(1, 25), st.floats(0.1, 200))
@settings(max_examples=60, deadline=None, derandomize=True)
def test_mutual_nearest_is_what_all_distances_say(seed, n, m, reach):
    rng = np.random.default_rng(seed)
    a, b = rng.uniform(0, 100, (n, 2)), rng.uniform(0, 100, (m, 2))
    i, j = mutual_nearest(a, b, reach)
    assert list(zip(i.tolist(), j.tolist(), strict=True)) == brute_pairs(a, b, reach)


def test_equal_points_are_partners_once():
    points = np.array([[1.0, 1], [1, 1], [5, 5]])
    i, j = mutual_nearest(points, points, 0.5)
    assert len(set(i.tolist())) == i.size
    assert len(set(j.tolist())) == j.size
    assert (2, 2) in zip(i.tolist(), j.tolist(), strict=True)


@pytest.mark.parametrize("n, m", [(0, 0), (0, 3), (3, 0)])
def test_without_points_there_are_no_pairs_and_no_shift(n, m):
    a, b = np.ones((n, 2)), np.ones((m, 2))
    i, j = mutual_nearest(a, b, 5.0)
    assert i.size == j.size == 0
    shift, n_votes = voted_shift(a, b, 3.0)
    assert shift.tolist() == [0, 0]
    assert n_votes == 0


def test_what_is_beyond_reach_has_no_partner():
    a, b = np.array([[0.0, 0], [100, 0]]), np.array([[3.0, 4], [100, 4.9]])
    i, j = mutual_nearest(a, b, 4.95)
    assert (i.tolist(), j.tolist()) == ([1], [1])


# the last two lie on the corners and the edges of any squares of the cell's width
@pytest.mark.parametrize("true", [(17.3, -41.9), (0.0, 0.0), (850.0, -300.0), (30.0, -60.0), (31.5, 90.0)])
@pytest.mark.parametrize("seed", range(4))
def test_a_shift_is_found_among_four_fifths_of_junk(seed, true):
    rng = np.random.default_rng(seed)
    stars = rng.uniform(0, 1000, (20, 2))
    a = rng.permutation(np.vstack([stars, rng.uniform(0, 1000, (80, 2))]))
    there = stars + true + rng.normal(0, 0.3, stars.shape)
    b = rng.permutation(np.vstack([there, np.array(true) + rng.uniform(0, 1000, (80, 2))]))
    shift, n_votes = voted_shift(a, b, 3.0)
    # a median of 20 of 0.3 px: 0.09 px; junk, a pair or two within 3 px, moves it by a tenth of that range
    np.testing.assert_allclose(shift, true, atol=0.6)
    assert 16 <= n_votes <= 26  # 0.3 px are 0.1 of the cell; 10^4 junk pairs over 10^6 px²: 0.3 in a cell


@given(st.integers(0, 10**6), st.integers(5, 30), st.floats(-500, 500), st.floats(-500, 500))
@settings(max_examples=40, deadline=None, derandomize=True)
def test_equal_lists_are_found_at_any_shift(seed, n, dx, dy):
    a = np.random.default_rng(seed).uniform(0, 2000, (n, 2))
    b = a + np.array([dx, dy])
    shift, n_votes = voted_shift(a, b, 2.0)
    all_shifts = (b[None] - a[:, None]).reshape(-1, 2)
    # not fewer than agree with the true one; n² pairs over 4e6 px² rarely add one, which cannot move a median
    assert n_votes >= (np.hypot(*(all_shifts - [dx, dy]).T) < 2.0).sum() >= n
    np.testing.assert_allclose(shift, [dx, dy], atol=1e-9 if n_votes == n else 2.0)


def test_one_pair_is_one_vote():
    shift, n_votes = voted_shift(np.array([[1.0, 2]]), np.array([[11.0, 0]]), 3.0)
    assert shift.tolist() == [10, -2]
    assert n_votes == 1
