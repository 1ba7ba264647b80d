"""Trails of saturated stars: found where they begin at a core, and nothing else is taken for one."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from zogyp.trails import trails

SHAPE = (300, 420)
CORES = ((100, 200), (220, 80))  # row, column


def scene(seed=1):
    """White noise, two saturated cores, a star's residual and a moving object beside them."""
    rng = np.random.default_rng(seed)
    d = rng.normal(0, 1, SHAPE)
    saturated = np.zeros(SHAPE, bool)
    for row, column in CORES:
        saturated[row - 3 : row + 4, column - 3 : column + 4] = True
    spot = np.zeros(SHAPE)
    spot[100, 260], spot[40, 40] = 3000, 800
    return d + gaussian_filter(spot, 1.5), saturated


def found(d, saturated, fwhm=3.5):
    return trails(d.astype(np.float32), saturated, saturated, fwhm)


def test_noise_and_sources_make_no_trails():
    for seed in range(5):
        assert not found(*scene(seed)).any()


@pytest.mark.parametrize("height", [2.5, -2.5])
def test_a_trail_along_a_row_is_found_on_its_side_only(height):
    d, saturated = scene()
    d[101, 204:330] += height
    mask = found(d, saturated)
    assert mask[101, 206:320].all()
    assert mask[99:104, 300].all()  # half of the seeing to either side
    assert not mask[:, :190].any()
    assert not mask[:, 345:].any()
    assert mask[101].sum() < 150
    assert mask.any(axis=1).sum() <= 12


def test_a_trail_along_a_column_is_found():
    d, saturated = scene()
    d[20:217, 80] -= 3
    mask = found(d, saturated)
    assert mask[40:215, 80].all()
    assert not mask[230:].any()
    assert np.array_equal(mask, found(d.T, saturated.T).T)


def test_a_line_that_begins_at_no_core_is_left():
    d, saturated = scene()
    d[60, 100:400] += 3
    assert not found(d, saturated).any()


def test_a_bright_source_beside_a_core_is_no_trail():
    """One that lies in the core's own row, and fills two blocks, hid itself from the table."""
    for column in range(214, 250, 4):
        d, saturated = scene()
        spot = np.zeros(SHAPE)
        spot[100, column] = 60_000
        assert not found(d + gaussian_filter(spot, 1.5), saturated).any(), column


def test_few_saturated_pixels_leave_no_trail():
    d, saturated = scene()
    d[101, 204:330] += 3
    few = np.zeros_like(saturated)
    few[100:102, 199:201] = True
    assert not found(d, few).any()


def test_small_images_are_left():
    d, saturated = scene()
    assert not found(d[90:112, 190:220], saturated[90:112, 190:220]).any()
