"""Transforms against sums written out, and the centre of a stamp on arrays small enough to read."""

from __future__ import annotations

import numpy as np
import pytest

from zogyp.core.fourier import (
    embed,
    fast_length,
    forward,
    half_weights,
    inverse,
    phases,
    stamp_of,
)
from zogyp.errors import ShapeError

SHAPES = [(4, 4), (5, 4), (4, 5), (5, 5), (7, 3), (11, 13), (16, 9)]


def move_back(plane, shift):
    rows, columns = phases(plane.shape, shift)
    return inverse(forward(plane) * rows[:, None] * columns[None, :], plane.shape[1])


def test_embed_puts_the_centre_at_the_origin():
    stamp = np.arange(1.0, 10.0).reshape(3, 3)
    expected_even = [[5, 6, 0, 4], [8, 9, 0, 7], [0, 0, 0, 0], [2, 3, 0, 1]]
    expected_odd = [[5, 6, 0, 0, 4], [8, 9, 0, 0, 7], [0] * 5, [0] * 5, [2, 3, 0, 0, 1]]
    np.testing.assert_array_equal(embed(stamp, (4, 4)), expected_even)
    np.testing.assert_array_equal(embed(stamp, (5, 5)), expected_odd)


def test_embed_of_an_even_stamp_is_centred_on_half_its_side():
    plane = embed(np.array([[1.0, 2.0], [3.0, 4.0]]), (3, 3))
    np.testing.assert_array_equal(plane, [[4, 0, 3], [0, 0, 0], [2, 0, 1]])


def test_embed_folds_what_is_larger_than_the_plane():
    folded = embed(np.array([[1.0, 2.0, 3.0, 4.0, 5.0]]), (1, 3))
    np.testing.assert_array_equal(folded, [[3, 1 + 4, 2 + 5]])  # offsets 0, (-2, 1), (-1, 2)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_stamp_of_one_pixel_moves_nothing(shape):
    plane = np.random.default_rng(1).normal(size=shape).astype(np.float32)
    delta = np.zeros((3, 3))
    delta[1, 1] = 1
    same = inverse(forward(plane) * forward(embed(delta, shape)), shape[1])
    np.testing.assert_allclose(same, plane, atol=1e-6)  # rounding of float32


@pytest.mark.parametrize("shape", [(9, 8), (8, 9), (7, 7)])
def test_stamp_of_undoes_embed(shape):
    stamp = np.arange(25.0).reshape(5, 5)
    np.testing.assert_array_equal(stamp_of(embed(stamp, shape), 5), stamp)


def test_embed_refuses_what_is_no_stamp():
    with pytest.raises(ShapeError, match="stamp"):
        embed(np.zeros(3), (4, 4))


@pytest.mark.parametrize("shape", SHAPES)
def test_whole_shifts_are_rolls(shape):
    plane = np.random.default_rng(2).normal(size=shape).astype(np.float32)
    moved = np.roll(plane, (2, -1), axis=(0, 1))  # a star at x is now at x - 1, one at y at y + 2
    np.testing.assert_allclose(move_back(moved, (-1.0, 2.0)), plane, atol=2e-6)  # rounding of float32


@pytest.mark.parametrize("shape", [(32, 32), (33, 32), (31, 35)])
def test_a_fraction_of_a_pixel_brings_a_star_back(shape):
    y, x = np.mgrid[: shape[0], : shape[1]]

    def star(x0, y0):
        return np.exp(-((x - x0) ** 2 + (y - y0) ** 2) / 2 / 1.6**2).astype(np.float32)

    back = move_back(star(15.3, 14.6), (0.3, -0.4))
    # a Gaussian of sigma 1.6 px holds 3e-6 of its amplitude beyond the Nyquist frequency
    np.testing.assert_allclose(back, star(15.0, 15.0), atol=1e-5)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_shift_keeps_the_energy_of_every_noise(shape):
    plane = np.random.default_rng(3).normal(size=shape).astype(np.float32)
    # white noise stays white only if every frequency keeps its modulus, those of Nyquist too
    assert np.sum(move_back(plane, (0.37, -0.44)) ** 2) == pytest.approx(np.sum(plane**2), rel=1e-5)


@pytest.mark.parametrize("shape", SHAPES)
def test_half_weights_count_every_frequency_once(shape):
    plane = np.random.default_rng(4).normal(size=shape)
    half = (np.abs(forward(plane.astype(np.float32))) ** 2 * half_weights(shape[1])).sum()
    assert half == pytest.approx((np.abs(np.fft.fft2(plane)) ** 2).sum(), rel=1e-5)  # float32
    assert half_weights(shape[1]).sum() == shape[1]


def test_fast_lengths_have_small_factors_only():
    for n in (1, 97, 1009, 2047):
        m = fast_length(n)
        assert n <= m < 1.2 * n + 2
        for p in (2, 3, 5):
            while m % p == 0:
                m //= p
        assert m == 1


def test_transforms_stay_in_single_precision():
    plane = np.ones((6, 5), dtype=np.float32)
    assert forward(plane).dtype == np.complex64
    assert inverse(forward(plane), 5).dtype == np.float32
    assert embed(np.ones((3, 3)), (6, 5)).dtype == np.float32


@pytest.mark.parametrize("shape", [(9, 8), (8, 9), (7, 7)])
@pytest.mark.parametrize("size", [2, 4, 6])
def test_stamp_of_undoes_embed_of_even_stamps(shape, size):
    """Centred on half the side, both ways."""
    stamp = np.arange(float(size * size)).reshape(size, size)
    np.testing.assert_array_equal(stamp_of(embed(stamp, shape), size), stamp)
