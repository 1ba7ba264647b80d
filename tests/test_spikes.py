"""Pixels sharper than stars: none among stars of any seeing, all that are made."""

from __future__ import annotations

import numpy as np
import pytest

import skies
from zogyp.core.meshes import MeshSurface
from zogyp.core.spikes import spikes

SKY, GAIN, READ_NOISE = 200.0, 2.0, 5.0
SIGMA = float(np.sqrt(SKY / GAIN + (READ_NOISE / GAIN) ** 2))


def found(data, fwhm, *, bad=None, gain=GAIN, sigma=SIGMA):
    data = np.asarray(data, dtype=np.float32)
    bad = np.zeros(data.shape, bool) if bad is None else bad
    return spikes(data, MeshSurface.flat(sigma, data.shape), bad, fwhm, gain)


def noise(shape=(80, 80), seed=1):
    return np.random.default_rng(seed).normal(0, SIGMA, shape).astype(np.float32)


@pytest.mark.parametrize("wings", [0.0, 0.2])
@pytest.mark.parametrize("fwhm", [1.8, 2.2, 3.0, 4.5, 6.0])
def test_stars_have_no_spikes(fwhm, wings):
    """Ten fields, 1.6 million pixels and 2000 stars up to a hundred thousand ADU in a pixel: not one."""
    field = skies.star_field(int(10 * fwhm), 200, lambda x, y: skies.gaussian(fwhm, wings), shape=(400, 400))
    assert not found(field.exposed(SKY, GAIN, READ_NOISE) - SKY, fwhm).any()


def test_noise_alone_has_no_spikes():
    # a quarter million pixels above five sigma by a chance of 3e-7 each, and all else must fit as well
    assert not found(noise((500, 500)), 2.0).any()


@pytest.mark.parametrize("fwhm", [1.8, 3.0, 6.0])
def test_single_hot_pixels_are_found(fwhm):
    data = noise()
    made = np.zeros(data.shape, bool)
    made[8:72:8, 8:72:8] = True
    data[made] += 25 * SIGMA  # twice what is needed: five times a noise of 0.8 below a third of the peak
    np.testing.assert_array_equal(found(data, fwhm), made)


@pytest.mark.parametrize("dy, dx", [(0, 1), (1, 0), (1, 1), (1, -1)])
@pytest.mark.parametrize("fwhm", [2.0, 4.0])
def test_lines_of_one_pixel_width_are_found(fwhm, dy, dx):
    data = noise()
    step = np.arange(30)
    line = np.zeros(data.shape, bool)
    line[15 + dy * step, 40 + dx * (step - 15)] = True
    assert line.sum() == 30
    data[line] += 40 * SIGMA
    marked = found(data, fwhm)
    assert (marked & line).sum() == 30
    # beside a line of light the limit is three sigma, and a pixel there must be as bright itself
    assert (marked & ~line).sum() <= 1


@pytest.mark.parametrize("away", [(0, 2), (2, 1), (-3, 0), (5, 5)])
def test_a_spike_on_a_star_is_found_and_the_star_left_alone(away):
    image = np.zeros((80, 80))
    skies.add(image, 40.2, 39.7, 1e5, skies.gaussian(3.5))
    data = noise() + image
    y, x = 40 + away[0], 40 + away[1]
    data[y, x] += image.max()
    marked = found(data, 3.5)
    assert marked[y, x]
    assert marked.sum() == 1


def test_a_spike_is_found_without_a_gain():
    data = noise()
    data[40, 40] += 30 * SIGMA
    assert np.argwhere(found(data, 3.0, gain=None)).tolist() == [[40, 40]]


def test_scaling_pixels_and_noise_alike_changes_nothing():
    data = noise()
    data[10:70:6, 10:70:6] += np.linspace(5, 30, 100).reshape(10, 10) * SIGMA
    np.testing.assert_array_equal(
        found(data, 3.0, gain=None), found(data * 64, 3.0, gain=None, sigma=64 * SIGMA)
    )


@pytest.mark.parametrize("value", [1e6, np.nan, -1e6])
def test_bad_pixels_are_not_marked_and_not_looked_at(value):
    image = np.zeros((80, 80))
    skies.add(image, 40.2, 39.7, 1e5, skies.gaussian(2.5))
    data = noise() + image
    bad = np.random.default_rng(3).uniform(size=data.shape) < 0.2
    bad[19:22, 19:22] &= np.arange(3) == 0  # neighbours above and below are good
    data[20, 20] = 40 * SIGMA
    data[bad] = value
    marked = found(data, 2.5, bad=bad)
    assert not (marked & bad).any()
    assert np.argwhere(marked).tolist() == [[20, 20]]


def test_a_pixel_with_bad_neighbours_all_around_is_left_alone():
    data = noise((9, 9))
    data[4, 4] += 100 * SIGMA
    bad = np.ones(data.shape, bool)
    bad[4, 4] = False
    assert not found(data, 3.0, bad=bad).any()


@pytest.mark.parametrize("shape", [(0, 0), (1, 1), (2, 50), (50, 2), (3, 3), (3, 40)])
def test_tiny_images_do_no_harm(shape):
    data = np.zeros(shape, np.float32)
    if min(shape) >= 3:
        data[1, 1] = 100 * SIGMA
    marked = found(data, 3.0)
    assert marked.shape == shape
    assert marked.dtype == bool
    assert marked.sum() == (min(shape) >= 3)


def test_what_is_given_is_not_changed():
    data = noise()
    data[40, 40] += 100 * SIGMA
    bad = np.zeros(data.shape, bool)
    before = data.copy()
    found(data, 3.0, bad=bad)
    np.testing.assert_array_equal(data, before)
    assert not bad.any()
