"""The sky under sources and what two skies leave, on images whose sky is known."""

from __future__ import annotations

import numpy as np
import pytest

import skies
from zogyp.measure.background import background, level_and_unevenness, mesh_level, over_image
from zogyp.options import BackgroundOptions


def slope(shape, level=500.0, rise=100.0):
    """A plane that rises by ``rise`` across the image in x and half as much in y."""
    ny, nx = shape
    return level + rise * np.linspace(0, 1, nx)[None, :] + 0.5 * rise * np.linspace(0, 1, ny)[:, None]


def none_bad(image):
    return np.zeros(image.shape, bool)


@pytest.mark.parametrize("shape", [(512, 512), (389, 601), (220, 700)])
def test_a_gradient_is_recovered(shape):
    rng = np.random.default_rng(1)
    true = slope(shape)
    noisy = (true + rng.normal(0, 10, shape)).astype(np.float32)
    level = background(noisy, none_bad(noisy))
    assert level.shape == shape
    assert level.dtype == np.float32
    # a mesh of 128² knows its level to 0.08 x 1.25; a spline beyond the outer meshes' centres leaves 2 more
    assert np.std(level - true) < 1.0
    assert abs(np.mean(level - true)) < 0.3


@pytest.mark.parametrize("unit", [1e-20, 1.0, 1e12])
def test_any_unit_and_offset(unit):
    rng = np.random.default_rng(2)
    image = rng.normal(100, 1, (300, 300))
    level = background((image * unit).astype(np.float32), none_bad(image))
    np.testing.assert_allclose(level / unit, 100, atol=0.1)
    far = background((image + 1e5).astype(np.float32), none_bad(image))
    np.testing.assert_allclose(far - 1e5, 100, atol=0.1)  # float32 steps are 0.008 there


def test_bad_pixels_have_no_say():
    rng = np.random.default_rng(3)
    image = rng.normal(50, 2, (256, 256)).astype(np.float32)
    bad = none_bad(image)
    image[40:110, 30:100] = 1e6
    bad[40:110, 30:100] = True
    np.testing.assert_allclose(background(image, bad), 50, atol=0.3)


def test_stars_lift_the_sky_by_little():
    field = skies.star_field(4, 400, lambda x, y: skies.gaussian(3.5, 0.05), shape=(512, 512))
    image = field.exposed(sky=300)
    sigma = np.sqrt(300 / 2 + 25 / 4)
    level = background(image, none_bad(image))
    # a clipped mode under 1600 stars per Mpix, nothing masked: within a fifth of the noise
    assert abs(np.median(level) - 300) < 0.2 * sigma


def test_a_mesh_larger_than_the_image_gives_one_level():
    image = np.random.default_rng(5).normal(10, 1, (70, 90)).astype(np.float32)
    level = background(image, none_bad(image), BackgroundOptions(mesh=512))
    assert np.ptp(level) < 1e-4
    assert level[0, 0] == pytest.approx(10, abs=0.1)


def test_a_constant_image_is_its_own_sky():
    image = np.full((128, 128), 7.0, np.float32)
    np.testing.assert_allclose(background(image, none_bad(image)), 7.0)


def test_mesh_level_recovers_a_slope_and_ignores_peaks():
    rng = np.random.default_rng(6)
    true = slope((600, 800), 0.0, 2.0)
    plane = true + rng.normal(size=true.shape)
    peaks = rng.integers(0, 600, (2, 2000)) % np.array([[600], [600]])
    plane[peaks[0], peaks[1]] += 50
    level = mesh_level(plane.astype(np.float32), none_bad(plane), 100).plane()
    inner = np.s_[150:-150, 150:-150]
    # means of 10^4 pixels: 0.01; a median of meshes and lines between them keep a plane
    assert np.abs(level - true)[inner].max() < 0.06
    # beyond the outer meshes' centres the level is held, and the median draws corners in: 1.5 steps of 0.42
    assert np.abs(level - true).max() < 0.65


def test_mesh_level_is_the_mean_not_the_mode():
    """Faint sources not told from noise skew a plane; what is taken off must leave a mean of zero."""
    plane = np.random.default_rng(7).gamma(16.0, 0.25, (400, 400)).astype(np.float32)  # mean 4, mode 3.75
    assert np.median(mesh_level(plane, none_bad(plane), 100).plane()) == pytest.approx(4, abs=0.04)


def test_meshes_without_good_pixels_take_the_typical_level():
    plane = np.full((300, 300), 3.0, np.float32)
    bad = none_bad(plane)
    plane[:100, :100] = 1e6
    bad[:100, :100] = True
    np.testing.assert_allclose(mesh_level(plane, bad, 100).plane(), 3.0)
    np.testing.assert_array_equal(mesh_level(plane, ~none_bad(plane), 100).plane(), 0.0)


@pytest.mark.parametrize("table_shape, shape", [((1, 1), (7, 5)), ((2, 3), (20, 30)), ((1, 4), (13, 41))])
def test_a_surface_over_an_image_is_linear_between_the_centres(table_shape, shape):
    my, mx = table_shape
    cy, cx = (np.arange(my) + 0.5) * shape[0] / my - 0.5, (np.arange(mx) + 0.5) * shape[1] / mx - 0.5
    table = 2.0 + 0.5 * cx[None, :] - 0.25 * cy[:, None]
    y = np.clip(np.arange(shape[0]), cy[0], cy[-1])
    x = np.clip(np.arange(shape[1]), cx[0], cx[-1])
    np.testing.assert_allclose(
        over_image(table, shape).plane(), 2.0 + 0.5 * x[None, :] - 0.25 * y[:, None], rtol=1e-6
    )


def test_the_level_tells_what_it_cannot_follow():
    rng = np.random.default_rng(7)
    ny, nx, mesh = 640, 800, 40
    noise = rng.normal(0, 1, (ny, nx))
    y, x = np.mgrid[:ny, :nx]
    waves = 0.8 * np.sin(2 * np.pi * x / 210) * np.sin(2 * np.pi * y / 180)
    bad = none_bad(noise)
    for calm in (True, False):
        quiet = level_and_unevenness(noise.astype(np.float32), bad, mesh, calm=calm)
        assert quiet[1] < 0.01  # means of 1600 pixels scatter by 0.025; their excess is none
        level, told = level_and_unevenness((noise + waves).astype(np.float32), bad, mesh, calm=calm)
        left = float(np.std(level.plane() - waves))
        assert 0.4 * left < told < 2.5 * left, calm  # the neighbours of a mesh tell the order of it


def test_few_meshes_tell_of_no_unevenness():
    plane = np.random.default_rng(1).normal(0, 1, (100, 500)).astype(np.float32)
    assert level_and_unevenness(plane, none_bad(plane), 50)[1] == 0.0
