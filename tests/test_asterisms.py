"""Asterisms: figures that keep their code, and votes for the similarity the stars were moved by."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zogyp.core.asterisms import Votes, pair_votes, paired_stars, parties, quads, votes

SIZE = 1000.0
SEEDS = st.integers(0, 10**6)
ANGLES = st.floats(-np.pi, np.pi)
SCALES = st.floats(0.1, 10)
CONJUGATE = np.array([1, -1, 1, -1])


def places(seed, n):
    return np.random.default_rng(seed).uniform(0, SIZE, (n, 2)) @ [1, 1j]


def moved(z, alpha, beta, mirrored):
    return alpha * (-np.conj(z) if mirrored else z) + beta


def everything(z, smallest=0.0):
    """All figures of four."""
    return quads(z, (z.size,), z.size - 1, smallest)


@given(SEEDS, ANGLES, SCALES, st.floats(-1e4, 1e4), st.floats(-1e4, 1e4), st.booleans())
@settings(max_examples=60, deadline=None, derandomize=True)
def test_a_code_outlives_shift_rotation_and_scale_and_is_conjugate_in_a_mirror(
    seed, angle, scale, dx, dy, mirrored
):
    z = places(seed, 7)
    before, after = everything(z), everything(moved(z, scale * np.exp(1j * angle), dx + 1j * dy, mirrored))
    assert len(before) == 35  # 7 over 4
    np.testing.assert_array_equal(before.stars, after.stars)
    # places of 1e4 hold 2e-12; a frame is at least a hundred px of 0.1 scale
    np.testing.assert_allclose(before.code * (CONJUGATE if mirrored else 1), after.code, atol=1e-9)


@given(SEEDS, st.integers(4, 9))
@settings(max_examples=40, deadline=None, derandomize=True)
def test_the_code_is_the_place_of_two_stars_in_the_frame_of_the_two_furthest_apart(seed, n):
    z = places(seed, n)
    figures = everything(z)
    assert sorted(map(tuple, np.sort(figures.stars, axis=1))) == list(combinations(range(n), 4))
    for code, stars in zip(figures.code, figures.stars, strict=True):
        a, b, c, d = z[stars]
        assert abs(b - a) == max(abs(p - q) for p, q in combinations((a, b, c, d), 2))
        inner = np.array([(c - a) / (b - a), (d - a) / (b - a)])
        # a quotient of numbers of 1e3, rounded differently where the frame was turned
        np.testing.assert_allclose(
            code, [inner[0].real, inner[0].imag, inner[1].real, inner[1].imag], atol=1e-12
        )
        assert code[0] <= code[2]
        assert code[0] + code[2] <= 1 + 1e-12


def test_figures_too_small_or_with_two_stars_in_one_place_are_left_out():
    z = places(1, 12)
    smallest = 400.0
    chosen = set()
    for figure in combinations(range(12), 4):
        apart = [abs(z[p] - z[q]) for p, q in combinations(figure, 2)]
        if max(apart) > smallest and min(apart) > 0.1 * smallest:
            chosen.add(figure)
    found = everything(z, smallest).stars
    assert set(map(tuple, np.sort(found, axis=1).tolist())) == chosen
    assert 0 < len(chosen) < 495


def test_figures_are_of_neighbours_among_the_brightest():
    z, depths, k = places(2, 60), (10, 30), 5
    wanted = set()
    for n in depths:
        for i in range(n):
            nearest = np.argsort(np.abs(z[:n] - z[i]))[1 : k + 1]
            wanted |= {tuple(sorted((i, *three))) for three in combinations(nearest.tolist(), 3)}
    found = quads(z, depths, k, 0.0).stars
    assert set(map(tuple, np.sort(found, axis=1).tolist())) == wanted
    assert len(found) == len(wanted)


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_votes_of_lists_without_noise_are_the_true_similarity(seed, mirrored):
    rng = np.random.default_rng(seed)
    z_out, alpha, beta = places(seed, 12), 1.7 * np.exp(2j), 300 - 40j
    order = rng.permutation(12)
    z_in = moved(z_out, alpha, beta, mirrored)[order]
    found = votes(z_out, z_in, everything(z_out, 1.0), everything(z_in, 1.0), 1e-7)
    # among 495 codes in four dimensions no two different ones are within 1e-7
    assert len(found) == len(everything(z_out, 1.0))
    assert (found.mirrored == mirrored).all()
    np.testing.assert_array_equal(order[found.into], found.out)
    np.testing.assert_allclose(found.alpha, alpha, atol=1e-11)  # rounding of numbers of 1e3, over 100 px
    np.testing.assert_allclose(found.beta, beta, atol=1e-8)


def test_a_vote_is_the_least_squares_similarity_of_its_four_stars():
    rng = np.random.default_rng(4)
    z_out = places(4, 10)
    z_in = moved(z_out, 1j, 5.0, False) + rng.normal(0, 1, (10, 2)) @ [1, 1j]
    found = votes(z_out, z_in, everything(z_out, 1.0), everything(z_in, 1.0), 0.05)
    assert len(found) > 100
    assert found.mirrored.any()  # a wrong pair is fitted as well
    for k in range(0, len(found), 10):
        z = z_out[found.out[k]]
        z = -np.conj(z) if found.mirrored[k] else z
        (alpha, beta), *_ = np.linalg.lstsq(np.column_stack([z, np.ones(4)]), z_in[found.into[k]], rcond=None)
        # one problem solved in two ways, to rounding
        assert found.alpha[k] == pytest.approx(alpha, abs=1e-10)
        assert found.beta[k] == pytest.approx(beta, abs=1e-7)


@pytest.mark.parametrize("n", range(5))
def test_few_stars_make_few_figures_and_no_error(n):
    z = places(5, n)
    figures = quads(z, (25, 60), 6, 10.0)
    assert len(figures) == (n == 4)
    found = votes(z, z, figures, figures, 0.01)
    assert len(found) == (n == 4)
    groups = parties(found, 500 + 500j, SIZE)
    assert len(groups) == (n == 4)
    i, j = paired_stars(found)
    np.testing.assert_array_equal(np.sort(i), np.arange(n) if n == 4 else [])
    np.testing.assert_array_equal(i, j)
    if n < 2:
        assert pair_votes(z, z, SIZE) == []


@pytest.mark.parametrize("shape", ["one place", "three in one place", "pairs", "a line", "a grid"])
def test_stars_in_one_place_or_in_a_row_do_no_harm(shape):
    z = {
        "one place": np.full(8, 10 + 10j),
        "three in one place": np.r_[np.full(3, 10 + 10j), places(6, 8)],
        "pairs": np.repeat(places(6, 8), 2),
        "a line": 50.0 * np.arange(12) + 0j,
        "a grid": (100.0 * np.arange(5)[:, None] + 100j * np.arange(5)).ravel(),
    }[shape]
    figures = quads(z, (25, 60), 6, 10.0)
    assert np.isfinite(figures.code).all()
    found = votes(z, z, figures, figures, 0.01)
    assert np.isfinite(found.alpha).all()
    for group in parties(found, 500 + 500j, SIZE):
        i, j = paired_stars(found.take(group))
        assert len(set(i.tolist())) == len(set(j.tolist())) == i.size >= 4
    for alpha, beta, _ in pair_votes(z, z, SIZE):
        assert np.isfinite(alpha)
        assert np.isfinite(beta)


def made_votes(rng, n_true, n_false, alpha, beta, mirrored):
    """Votes near a true similarity, then at random ones, in a field of ``SIZE``."""
    a = alpha * np.exp(rng.normal(0, 0.002, n_true) + 1j * rng.normal(0, 0.002, n_true))
    middle = -500 + 500j if mirrored else 500 + 500j
    b = (alpha - a) * middle + beta + rng.normal(0, 2, (n_true, 2)) @ [1, 1j]
    wild = np.exp(rng.uniform(-1.4, 1.4, n_false) + 1j * rng.uniform(-np.pi, np.pi, n_false))
    b = np.r_[b, rng.uniform(-SIZE, 2 * SIZE, (n_false, 2)) @ [1, 1j]]
    flipped = np.r_[np.full(n_true, mirrored), rng.uniform(size=n_false) < 0.5]
    stars = np.zeros((n_true + n_false, 4), np.intp)
    return Votes(np.r_[a, wild], b, flipped, stars, stars)


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("alpha", [1.0, 3 * np.exp(3.1j), -0.4j])
def test_the_largest_party_is_of_the_true_votes(alpha, mirrored):
    rng = np.random.default_rng(7)
    made = made_votes(rng, 40, 2000, alpha, 70 - 900j, mirrored)
    groups = parties(made, 500 + 500j, SIZE, most=5)
    assert len(groups) <= 5
    assert [g.size for g in groups] == sorted((g.size for g in groups), reverse=True)
    assert np.unique(np.concatenate(groups)).size == sum(g.size for g in groups)
    # scatter of a tenth of the tolerances: all of them; a wild vote falls in with a chance of 1e-6 or so
    assert np.sort(groups[0]).tolist() == list(range(40))


def test_votes_of_one_party_agree():
    made = made_votes(np.random.default_rng(8), 0, 6000, 1.0, 0.0, False)
    groups = parties(made, 500 + 500j, SIZE, scale=0.1, place=0.1)
    assert groups[0].size > 1
    for group in groups:
        few = made.take(group)
        assert len(set(few.mirrored.tolist())) == 1
        # all are within the tolerance of one of them, so within twice of each other
        assert np.ptp(np.log(np.abs(few.alpha))) <= 0.2
        unit = few.alpha / np.abs(few.alpha)
        assert np.abs(unit - unit[:, None]).max() <= 0.2


def test_a_star_goes_with_the_partner_named_most_often_and_only_once():
    out = np.array([[0, 1, 2, 3], [0, 1, 2, 4], [0, 1, 5, 4], [6, 1, 2, 3]])
    into = np.array([[9, 8, 7, 6], [9, 8, 7, 5], [3, 8, 6, 5], [9, 8, 7, 6]])
    some = Votes(np.ones(4, complex), np.zeros(4, complex), np.zeros(4, bool), out, into)
    i, j = paired_stars(some)
    # 0-9 twice, 0-3 and 6-9 once, 3-6 twice, 5-6 once: the second ones find their partner taken
    assert dict(zip(i.tolist(), j.tolist(), strict=True)) == {0: 9, 1: 8, 2: 7, 3: 6, 4: 5}


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("alpha", [1.0, 0.27j, 3.7 * np.exp(-2j)])
@pytest.mark.parametrize("seed", range(2))
def test_pairs_find_a_similarity_where_half_is_junk(seed, alpha, mirrored):
    rng = np.random.default_rng(seed)
    common = places(seed + 100, 14)
    size = SIZE * max(abs(alpha), 1)
    there = moved(common, alpha, 0, mirrored)
    beta = size / 2 * (1 + 1j) - there.mean()
    z_out = np.r_[common, rng.uniform(0, SIZE, (14, 2)) @ [1, 1j]]
    z_in = np.r_[there + beta, rng.uniform(0, size, (14, 2)) @ [1, 1j]]
    z_out, z_in = rng.permutation(z_out), rng.permutation(z_in)
    a, b, flipped = pair_votes(z_out, z_in, size)[0]
    assert flipped == mirrored
    # one cell of votes: two per cent in scale and in rotation
    assert abs(a / alpha - 1) < 0.03
    # one cell in place, a per cent of the size each way, and what the slope makes of half a field
    assert (
        np.abs(moved(common, a, b, mirrored) - there - beta).max() < 0.03 * SIZE * abs(alpha) + 0.015 * size
    )


@pytest.mark.parametrize("scale, allowed", [(0.24, False), (0.26, True), (3.9, True), (4.1, False)])
def test_pairs_find_scales_from_a_quarter_to_four(scale, allowed):
    z = places(9, 16)
    found = pair_votes(z, scale * z, SIZE * max(scale, 1))
    assert all(0.25 < abs(a) < 4 for a, _, _ in found)
    assert any(abs(a / scale - 1) < 0.015 and abs(b) < 10 for a, b, _ in found) == allowed


def test_as_many_candidates_as_wanted():
    z = places(10, 12)
    assert len(pair_votes(z, z, SIZE, most=3)) == 3
    assert pair_votes(z[:1], z, SIZE) == pair_votes(z, z[:1], SIZE) == []
