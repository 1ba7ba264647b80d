"""Surfaces told by meshes, against scipy's splines, and the sky of a mesh, against numpy and sep."""

from __future__ import annotations

import numpy as np
import pytest
import sep
from scipy.interpolate import CubicSpline

import skies
from zogyp.core.meshes import MeshSurface, clipped_means, in_bands, modes
from zogyp.measure.background import sky_surface


def rough(shape, seed=1):
    return np.random.default_rng(seed).normal(100, 5, shape)


@pytest.mark.parametrize("cubic", [False, True])
@pytest.mark.parametrize("meshes", [(1, 1), (2, 3), (5, 1), (6, 7)])
def test_a_surface_goes_through_its_values(meshes, cubic):
    table = rough(meshes)
    shape = (9 * meshes[0], 7 * meshes[1])  # odd meshes: their middles are pixels
    surface = MeshSurface(table, shape, (9.0, 7.0), cubic)
    np.testing.assert_allclose(surface.plane()[4::9, 3::7], table, rtol=1e-6)


def test_a_cubic_surface_is_a_natural_spline_along_both_axes():
    table, (ny, nx) = rough((6, 7)), (60, 84)
    y, x = (np.arange(ny) + 0.5) / 10 - 0.5, (np.arange(nx) + 0.5) / 12 - 0.5
    along = CubicSpline(np.arange(7), table, axis=1, bc_type="natural")(x)
    expected = CubicSpline(np.arange(6), along, axis=0, bc_type="natural")(y)
    surface = MeshSurface(table, (ny, nx), (10.0, 12.0), cubic=True)
    np.testing.assert_allclose(surface.plane(), expected, rtol=1e-6)  # single precision
    for rows, band in in_bands(surface):
        np.testing.assert_array_equal(band, surface.plane()[rows])
    at = np.random.default_rng(2).uniform(-5, 90, (2, 50))
    rows, columns = np.rint(at[1]).astype(int).clip(0, ny - 1), np.rint(at[0]).astype(int).clip(0, nx - 1)
    np.testing.assert_allclose(surface.at(*at), expected[rows, columns], rtol=1e-6)


def test_surfaces_add_and_scale():
    a, b = (MeshSurface(rough((4, 5), s), (40, 50), (10.0, 10.0), True) for s in (1, 2))
    np.testing.assert_allclose((a + b * 2.0).plane(), a.plane() + 2 * b.plane(), rtol=1e-5)
    assert MeshSurface.flat(3.0, (5, 6)).typical == 3.0
    assert a.typical == pytest.approx(np.median(a.plane()), rel=0.01)  # a lattice of 4000 places


def test_the_sky_of_a_mesh_is_that_of_sep():
    field = skies.star_field(4, 900, lambda x, y: skies.gaussian(3.5, 0.05), shape=(600, 700))
    image = field.exposed(sky=300)
    bad = np.zeros(image.shape, bool)
    bad[:, 200:210] = True
    image[bad] = 5e4
    theirs = sep.Background(image, mask=bad, bw=100, bh=100, fw=3, fh=3, fthresh=0.0).back()
    sigma = np.sqrt(300 / 2 + 25 / 4)
    ours = sky_surface(image, bad, _options(100)).plane()
    # both are modes of 10^4 pixels: 0.0125 sigma of noise each, the same noise
    assert np.std(ours - theirs) < 0.01 * sigma
    assert abs(np.median(ours - theirs)) < 0.005 * sigma


def _options(mesh):
    from zogyp.options import BackgroundOptions

    return BackgroundOptions(mesh=mesh)


def test_a_mesh_with_few_good_pixels_tells_nothing():
    data, bad = rough((64, 64)).astype(np.float32), np.zeros((64, 64), bool)
    bad[:20, :32] = True  # five eighths of the first
    table = np.empty((2, 2))
    modes(data, bad, (32, 32), table)
    assert np.isnan(table[0, 0]) and np.isfinite(table).sum() == 3
    constant = np.full((64, 64), 7.0, np.float32)
    modes(constant, bad, (32, 32), table)
    assert (table[np.isfinite(table)] == 7).all()


def test_clipped_means_leave_out_what_is_odd():
    rng = np.random.default_rng(3)
    plane = rng.normal(2, 1, (90, 100)).astype(np.float32)
    plane[rng.random(plane.shape) < 0.03] = 500
    bad = rng.random(plane.shape) < 0.1
    rows, columns = np.array([0, 40, 90]), np.array([0, 33, 66, 100])
    table, count = np.zeros((2, 3)), np.zeros((2, 3))
    clipped_means(plane, bad, rows, columns, table, count)
    for j, i in np.ndindex(2, 3):
        part = np.s_[rows[j] : rows[j + 1], columns[i] : columns[i + 1]]
        values = plane[part][~bad[part]].astype(float)
        assert count[j, i] == values.size
        centre = np.median(values)
        width = 3 * 1.4826 * np.median(np.abs(values - centre))
        # bins of 0.005 sigma decide which few values at three sigma are in
        assert table[j, i] == pytest.approx(values[np.abs(values - centre) < width].mean(), abs=0.01)
