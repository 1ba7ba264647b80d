"""Median, mean and clipped mean of pixels, against numpy and plain loops in double precision."""

from __future__ import annotations

import itertools
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from zogyp.core import combine

LANES = combine.LANES
HUGE = np.float32(3e38)
BLOCKS = hnp.arrays(
    np.float32,
    st.tuples(st.integers(1, 12), st.integers(1, 2), st.integers(1, 5)),
    elements=st.one_of(
        st.floats(width=32),
        st.sampled_from([float(HUGE), -float(HUGE), 1.0, 2.0, 0.0, -0.0]),
        st.just(np.nan),
    ),
)


def median(values):
    shape = values.shape[1:]
    out, count = np.full(shape, -7, np.float32), np.full(shape, 99, np.uint16)
    combine.median(values, out, count)
    return out, count


def planes(shape):
    return np.full(shape, -7, np.float32), np.full(shape, 99, np.uint16), np.full(shape, -7, np.float32)


def mean(values, weights):
    made = planes(values.shape[1:])
    combine.mean(values, weights, *made)
    return made


def clipped(values, sigmas=None, *, weights=None, clip=4.0, share=0.0):
    made = planes(values.shape[1:])
    values = np.asarray(values, np.float32)
    weights = np.ones(len(values)) if weights is None else weights
    sigmas = None if sigmas is None else np.asarray(sigmas, np.float64)
    combine.clipped(values, weights, sigmas, clip, share, *made)
    return made


def pixel(*values):
    """One pixel of some images."""
    return np.array(values, np.float32).reshape(-1, 1, 1)


def nanmedian(values):
    """By numpy, in doubles, which hold any sum of two float32."""
    finite = np.where(np.isfinite(values), values, np.nan).astype(np.float64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # all NaN
        return np.nanmedian(finite, axis=0).astype(np.float32)


def holed(shape, seed, *, missing=0.2):
    """Normal deviates of which some are NaN or infinite."""
    rng = np.random.default_rng(seed)
    values = rng.normal(100, 5, shape).astype(np.float32)
    where = rng.random(shape) < missing
    values[where] = rng.choice(np.array([np.nan, np.inf, -np.inf], np.float32), where.sum())
    return values


# ---------------------------------------------------------------- the network


@pytest.mark.parametrize("n", range(1, 13))
def test_the_network_finds_the_middle_of_all_zeros_and_ones(n):
    """What sorts all sequences of zeros and ones sorts everything (Knuth's principle)."""
    rows = np.array(list(itertools.product([0, 1], repeat=n))).T.copy()
    truth = np.sort(rows, axis=0)
    for a, b in combine.network(n):
        assert a < b
        rows[[a, b]] = np.sort(rows[[a, b]], axis=0)
    for middle in {n // 2, max(n // 2 - 1, 0)}:
        np.testing.assert_array_equal(rows[middle], truth[middle])


@pytest.mark.parametrize("n", [31, 32, 33, 48, 64, 65, 100, 257])
def test_larger_networks_find_the_middle(n):
    rows = np.random.default_rng(n).random((n, 200)).argsort(axis=0)
    for a, b in combine.network(n):
        rows[[a, b]] = np.sort(rows[[a, b]], axis=0)
    assert (rows[n // 2] == n // 2).all() and (rows[n // 2 - 1] == n // 2 - 1).all()


def test_the_network_leaves_out_what_the_middle_does_not_need():
    """Batcher's sort of 64 rows has 543 pairs."""
    assert len(combine.network(64)) < 460


# ---------------------------------------------------------------- median


@given(BLOCKS)
@settings(max_examples=300, deadline=None)
def test_median_of_anything(values):
    before = values.copy()
    out, count = median(values)
    np.testing.assert_array_equal(out, nanmedian(values))
    np.testing.assert_array_equal(count, np.isfinite(values).sum(axis=0))
    np.testing.assert_array_equal(values, before)


@pytest.mark.parametrize("n", [1, 2, 3, 4, 7, 8, 24, 47, 48, 99, 100, 300, 1000])
def test_median_of_many(n):
    """Some pixels lose an odd number of values, some an even one."""
    values = holed((n, 3, 100), n)
    out, count = median(values)
    np.testing.assert_array_equal(out, nanmedian(values))
    np.testing.assert_array_equal(count, np.isfinite(values).sum(axis=0))


@pytest.mark.parametrize("nx", [1, LANES - 1, LANES, LANES + 1, 2 * LANES + 7])
def test_median_of_rows_of_any_length(nx):
    """Every pixel gets the same bits whoever its neighbours are."""
    values = holed((9, 2, nx), nx)
    out, count = median(values)
    np.testing.assert_array_equal(out, nanmedian(values))
    for x in {0, nx // 2, nx - 1}:
        alone, number = median(values[:, 1:, x : x + 1])
        assert alone.tobytes() == out[1, x].tobytes() and number[0, 0] == count[1, x]


@pytest.mark.parametrize("n_missing", range(9))
def test_every_number_of_missing_values(n_missing):
    """All choices of missing ones among eight values."""
    values = np.array([5, 1, 8, 3, 2, 7, 4, 6], np.float32)
    choices = list(itertools.combinations(range(8), n_missing))
    block = np.repeat(values[:, None, None], len(choices), axis=2)
    for x, gone in enumerate(choices):
        block[list(gone), 0, x] = np.nan
    out, count = median(block)
    np.testing.assert_array_equal(out, nanmedian(block))
    assert (count == 8 - n_missing).all() and np.isnan(out).all() == (n_missing == 8)


def test_the_middle_two_may_have_no_sum():
    assert median(pixel(HUGE, HUGE))[0] == HUGE
    assert median(pixel(-HUGE, -HUGE, -HUGE, -HUGE))[0] == -HUGE
    assert median(pixel(HUGE, -HUGE))[0] == 0
    largest = np.finfo(np.float32).max
    assert median(pixel(largest, np.inf, largest))[0] == largest
    tiny = np.float32(1e-45)  # half of which is none
    assert median(pixel(tiny, tiny))[0] == tiny


def test_results_need_contiguous_planes():
    """A copy would take them and be thrown away."""
    out = np.empty((4, 10), np.float32)[:, ::2]
    with pytest.raises(ValueError, match="contiguous"):
        combine.median(np.ones((3, 4, 5), np.float32), out, np.empty((4, 5), np.uint16))


def test_values_may_lie_anywhere_in_memory():
    values = holed((5, 6, 40), 2)[:, ::2, ::-1]
    np.testing.assert_array_equal(median(values)[0], nanmedian(values))


# ---------------------------------------------------------------- mean


@given(BLOCKS, st.randoms(use_true_random=False))
@settings(max_examples=200, deadline=None)
def test_mean_of_anything(values, random):
    weights = np.array([random.uniform(0.1, 9) for _ in values])
    out, count, weight = mean(values, weights)
    for y, x in np.ndindex(*values.shape[1:]):
        column = values[:, y, x].astype(np.float64)
        good = np.isfinite(column)
        assert count[y, x] == good.sum()
        assert weight[y, x] == pytest.approx(weights[good].sum(), rel=1e-6)
        if not good.any():
            assert np.isnan(out[y, x]) and weight[y, x] == 0
            continue
        truth = np.average(column[good], weights=weights[good])
        # a float32 is good to 6e-8, sums of doubles to 1e-15 of their largest term
        assert abs(out[y, x] - truth) <= 6e-8 * abs(truth) + 1e-14 * abs(column[good]).max() + 1e-45


def test_the_mean_of_huge_values():
    out, count, weight = mean(pixel(HUGE, HUGE, HUGE, np.nan), np.array([1.0, 2.0, 3.0, 4.0]))
    assert (out, count, weight) == (HUGE, 3, 6)


# ---------------------------------------------------------------- clipped by known sigmas


def brute_clipped(column, weights, sigmas, clip, share):
    """The rule of the docstring for one pixel, in doubles."""
    good = [j for j in range(len(column)) if np.isfinite(column[j])]
    if not good:
        return np.nan, 0, 0.0
    value = {j: float(column[j]) for j in good}
    ordered = sorted(value.values())
    low, high = ordered[(len(good) - 1) // 2], ordered[len(good) // 2]
    for middle in ((low + high) / 2, low):
        near = [j for j in good if abs(value[j] - middle) <= clip * sigmas[j] + share * abs(middle)]
        if len(good) < 3:
            near = good
        if near:
            break
    total = sum(weights[j] for j in near)
    return sum(weights[j] * value[j] for j in near) / total, len(near), total


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 8, 30])
@pytest.mark.parametrize("share", [0.0, 0.3])
def test_clipped_against_a_plain_loop(n, share):
    """Images of different noise, a fifth of the pixels missing, a tenth hit by something."""
    rng = np.random.default_rng(n)
    sigmas, weights = rng.uniform(1, 5, n), rng.uniform(0.1, 9, n)
    values = (rng.normal(0, 1, (n, 3, 60)) * sigmas[:, None, None] + 20).astype(np.float32)
    values += np.float32(60) * (rng.random(values.shape) < 0.1)
    values[rng.random(values.shape) < 0.2] = np.nan
    out, count, weight = clipped(values, sigmas, weights=weights, clip=3.0, share=share)
    for y, x in np.ndindex(3, 60):
        value, number, total = brute_clipped(values[:, y, x], weights, sigmas, 3.0, share)
        assert count[y, x] == number
        np.testing.assert_allclose(out[y, x], value, rtol=1e-6)
        np.testing.assert_allclose(weight[y, x], total, rtol=1e-6)
    if n > 2:
        assert (count < np.isfinite(values).sum(axis=0)).sum() > 5, "nothing was there to be left out"


def test_a_cosmic_ray_is_left_out_and_the_noise_is_not():
    values = pixel(10, 12, 9, 5000, 11)
    assert [float(p[0, 0]) for p in clipped(values, np.full(5, 2.0))] == [10.5, 4, 4]
    assert clipped(values, [2, 2, 2, 2000, 2])[1] == 5, "that image is so noisy"


@pytest.mark.parametrize("values", [(7.0,), (7.0, 5000.0), (np.nan, 5000.0, 7.0, np.inf)])
@pytest.mark.parametrize("sigmas", [0.1, None])
def test_one_or_two_values_are_all_used(values, sigmas):
    finite = [v for v in values if np.isfinite(v)]
    out, count, _ = clipped(pixel(*values), None if sigmas is None else np.full(len(values), sigmas))
    assert count == len(finite) and out == np.mean(finite)


def test_of_two_camps_the_lower_one_counts():
    """The median lies between them, where there is no value."""
    out, count, weight = clipped(pixel(1000, 1, 2, 1010), np.full(4, 1.0))
    assert (out, count, weight) == (1.5, 2, 2)
    # beside a pixel of the same block that is as it should be
    both = np.concatenate([pixel(1000, 1, 2, 1010), pixel(5, 5, 6, 6)], axis=2)
    out, count, _ = clipped(both, np.full(4, 1.0))
    assert out.tolist() == [[1.5, 5.5]] and count.tolist() == [[2, 4]]
    assert clipped(pixel(2000, 100, 125, 2010), np.full(4, 1.0), share=0.3)[0] == 112.5


def test_what_is_just_as_far_as_allowed_counts():
    assert clipped(pixel(10, 10, 10, 14), np.full(4, 1.0))[1] == 4
    assert clipped(pixel(10, 10, 10, 14.001), np.full(4, 1.0))[1] == 3


def test_the_share_lets_bright_pixels_differ():
    """A star in another seeing."""
    values = pixel(1000, 1200, 900, 1600)
    assert clipped(values, np.full(4, 1.0), share=0.3)[1] == 3
    assert clipped(values, np.full(4, 1.0), share=0.6)[1] == 4
    out, count, _ = clipped(pixel(-900, -1000, -1100, -1200), np.full(4, 1.0), share=0.1)
    assert count == 2 and out == -1050, "of the median's size, not its sign"


def test_infinite_values_are_near_nothing():
    """Even though the median of huge values may be far from all."""
    values = pixel(HUGE, -HUGE, np.inf, -np.inf, HUGE)
    out, count, _ = clipped(values, np.full(5, 1e38), clip=1e3)
    assert count == 3 and np.isfinite(out)


# ---------------------------------------------------------------- clipped by the pixel's own scatter


def brute_scatter(column, clip, share):
    """Which values are used, by the rule of the docstring, in doubles."""
    kept = [float(v) for v in column if np.isfinite(v)]
    whole = all(v == int(v) and abs(v) < 2**23 for v in kept)
    for _ in range(10):
        if len(kept) < 4:
            break
        middle = np.median(kept)
        off = np.abs(np.array(kept) - middle)
        scatter = max(np.median(off), 0.5 * whole)
        if scatter == 0:
            break
        n = len(kept)
        small = {4: 1.363, 5: 1.206, 6: 1.200, 7: 1.140, 8: 1.129, 9: 1.107}.get(n, n / (n - 0.8))
        reach = max(clip * 1.4826 * small * scatter + share * abs(middle), np.sort(off)[(n - 1) // 2])
        nearer = [v for v, o in zip(kept, off, strict=True) if o <= reach]
        if len(nearer) == n:
            break
        kept = nearer
    return kept


@pytest.mark.parametrize("n", [1, 3, 4, 5, 9, 10, 40])
@pytest.mark.parametrize("clip, share", [(4.0, 0.0), (2.0, 0.0), (3.0, 0.3), (0.1, 0.0)])
@pytest.mark.parametrize("step", [0, 1, 4])
def test_own_scatter_against_a_plain_loop(n, clip, share, step):
    """Floats, whole numbers, and whole numbers with many ties."""
    rng = np.random.default_rng(n)
    values = rng.normal(0, 3, (n, 2, 70)).astype(np.float32)
    values += np.float32(60) * (rng.random(values.shape) < 0.15)
    if step:
        values = np.rint(values / step)
    values[rng.random(values.shape) < 0.1] = np.nan
    out, count, _ = clipped(values, clip=clip, share=share)
    for y, x in np.ndindex(2, 70):
        kept = brute_scatter(values[:, y, x], clip, share)
        assert count[y, x] == len(kept), values[:, y, x]
        np.testing.assert_allclose(out[y, x], np.mean(kept) if kept else np.nan, rtol=1e-6, atol=1e-6)


def test_whole_numbers_keep_their_steps():
    """Of equal numbers the deviation is 0; a step beside them is rounding, a cosmic ray is none."""
    assert clipped(pixel(100, 100, 100, 101, 99, 100, 102))[1] == 7
    out, count, _ = clipped(pixel(100, 100, 100, 101, 100, 5000))
    assert count == 5 and out == np.float32(100.2)


def test_equal_fractions_tell_nothing():
    assert clipped(pixel(0.1, 0.1, 0.1, 0.10001, 7.5))[1] == 5
    large = 2.0**25  # where floats are four apart and always whole
    assert clipped(pixel(large, large, large, large, large + 64))[1] == 5


def test_deviations_that_no_float_holds():
    """They are large, not missing."""
    column = np.array([-3, -3, -3, 2, 2.99, 3, 3.01, 3.02, 3.03, 3.04], np.float32) * np.float32(1e38)
    out, count, _ = clipped(pixel(*column), clip=1.0)
    kept = brute_scatter(column, 1.0, 0.0)
    assert count == len(kept) == 6 and out == np.float32(np.mean(kept))


@pytest.mark.parametrize("n, most", [(4, 0.04), (5, 0.04), (7, 0.04), (9, 0.04), (24, 0.003), (48, 0.003)])
def test_few_normal_deviates_are_left_out(n, most):
    """As the docstring says."""
    values = np.random.default_rng(n).normal(0, 1, (n, 1, 20_000)).astype(np.float32)
    lost = 1 - clipped(values)[1].mean() / n
    assert 1e-5 < lost < most


def test_a_trail_through_some_of_many_is_left_out():
    rng = np.random.default_rng(3)
    values = rng.normal(50, 2, (15, 1, 300)).astype(np.float32)
    hit = rng.permuted(np.repeat([True, False], [3, 12])[:, None].repeat(300, axis=1), axis=0)
    values[:, 0, :][hit] += 400
    out, count, _ = clipped(values)
    # 12 deviates of 2 have a mean good to 0.6; five times that. Some pixels lose more than three values.
    assert abs(out - 50).max() < 3 and (count <= 12).all() and (count == 12).mean() > 0.8


def test_weights_belong_to_their_images():
    weights = np.array([1.0, 2.0, 3.0, 4.0, 5.0])
    out, count, weight = clipped(pixel(1, 2, 3, 1000, 5), weights=weights)
    assert (count, weight) == (4, 11) and out == np.float32((1 + 4 + 9 + 25) / 11)


@pytest.mark.parametrize("nx", [1, LANES, LANES + 1])
@pytest.mark.parametrize("sigmas", [None, 5.0])
def test_clipping_does_not_see_the_neighbours(nx, sigmas):
    """The bits of a pixel are the same alone and among others that need more rounds."""
    rng = np.random.default_rng(nx)
    values = holed((12, 2, nx), nx)
    values[rng.random(values.shape) < 0.2] += 300
    given = None if sigmas is None else np.full(12, sigmas)
    whole = clipped(values, given)
    for x in {0, nx - 1}:
        alone = clipped(values[:, 1:, x : x + 1], given)
        assert [a.tobytes() for a in alone] == [w[1, x].tobytes() for w in whole]
