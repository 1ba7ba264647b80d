"""Sources taken from islands, half-light radii and centroids: against sep and known truth."""

from __future__ import annotations

import numpy as np
import pytest
import sep
from scipy.ndimage import label
from scipy.spatial import cKDTree

import skies
from zogyp.core import islands
from zogyp.core.apertures import circles, half_radii
from zogyp.core.centroids import windowed
from zogyp.core.meshes import MeshSurface
from zogyp.measure.detection import find_sources
from zogyp.measure.sepsources import sep_sources

SKY, GAIN, READ = 200.0, 2.0, 5.0
SIGMA = float(np.sqrt(SKY / GAIN + (READ / GAIN) ** 2))


@pytest.fixture(scope="module")
def field():
    return skies.star_field(1, 400, lambda x, y: skies.gaussian(3.5), shape=(700, 800), flux=(2e3, 2e5))


@pytest.fixture(scope="module")
def image(field):
    return field.exposed(SKY, GAIN, READ) - np.float32(SKY)


def none(image):
    return np.zeros(image.shape, bool)


def test_sources_are_those_that_sep_finds(image):
    ours = find_sources(image, MeshSurface.flat(SIGMA, image.shape), none(image))
    theirs = sep_sources(image, np.full(image.shape, SIGMA, np.float32), none(image))
    bright = theirs.flux > 20 * theirs.flux_err
    distance, k = cKDTree(np.column_stack([ours.x, ours.y])).query(np.column_stack([theirs.x, theirs.y]))
    same = distance < 0.5
    # blends are told apart by other rules where they hardly can be; faint ones may be noise on a wing
    assert same[bright].mean() > 0.97
    assert abs(len(ours) - len(theirs)) < 0.06 * len(theirs)
    assert np.median(distance[same]) < 1e-3
    assert np.median(ours.flux[k[same]] / theirs.flux[same]) == pytest.approx(1, abs=1e-4)
    assert np.median(ours.radius[k[same & bright]] / theirs.radius[same & bright]) == pytest.approx(
        1, abs=0.01
    )


def test_sources_do_not_depend_on_how_many_pixels_are_worked_on_at_a_time(image, monkeypatch):
    whole = find_sources(image, MeshSurface.flat(SIGMA, image.shape), none(image))
    for pixels_at_a_time in (1, 997):  # fewer than an island has, too
        monkeypatch.setattr("zogyp.measure.detection.GROUP", pixels_at_a_time)
        parts = find_sources(image, MeshSurface.flat(SIGMA, image.shape), none(image))
        for name in ("x", "y", "flux", "flux_err", "peak", "radius", "saturated"):
            np.testing.assert_array_equal(getattr(parts, name), getattr(whole, name), err_msg=name)


def pixels(plane, threshold=0.5):
    y, x = np.nonzero(plane > threshold)
    return x.astype(np.int32), y.astype(np.int32), plane[y, x].astype(np.float32)


def test_islands_are_what_touches():
    plane = np.random.default_rng(5).normal(size=(80, 90)).astype(np.float32)
    x, y, height = pixels(plane)
    name, total = islands.islands(x, y, height, islands.neighbours(x, y))
    expected, n = label(plane > 0.5, np.ones((3, 3)))
    assert np.unique(name).size == n
    for one in np.unique(name):
        its = expected[y[name == one], x[name == one]]
        assert (its == its[0]).all()
        assert total[one] == pytest.approx(height[name == one].sum(), rel=1e-5)


def split(plane, needed=0.0, rises=0.0, least=1):
    """Number of sources, and the map of them."""
    x, y, height = pixels(plane)
    links = islands.neighbours(x, y)
    name, _ = islands.islands(x, y, height, links)
    order = islands.downwards(name, np.argsort(-height, kind="stable"))
    summit = islands.basins(x, y, height, links, order, (np.full(x.size, needed), rises, least))
    out = np.zeros(plane.shape, int)
    out[y, x] = 1 + np.unique(summit, return_inverse=True)[1]
    return out.max(), out


def hills(*peaks):
    y, x = np.mgrid[:60, :80]
    plane = sum(h * np.exp(-0.5 * ((x - u) ** 2 + (y - v) ** 2) / 16) for u, v, h in peaks)
    return plane.astype(np.float32)


def test_two_summits_are_two_sources_where_both_count():
    plane = hills((30, 30, 20), (42, 30, 10))
    n, where = split(plane)
    assert n == 2
    assert (
        where[30, 30] != where[30, 42] and where[30, 26] == where[30, 30] and where[30, 46] == where[30, 42]
    )
    # the lesser rises by 6 above the saddle and holds about 200 above it
    saddle = plane[30, 30:43].min()
    lesser = np.where(where == where[30, 42], np.maximum(plane - saddle, 0), 0).sum()
    assert split(plane, needed=0.95 * lesser)[0] == 2 and split(plane, needed=1.05 * lesser)[0] == 1
    assert split(plane, rises=float(10 - saddle) - 1)[0] == 2 and split(plane, rises=10.0)[0] == 1


def test_a_summit_of_few_pixels_is_none():
    plane = hills((30, 30, 20))
    plane[30, 38] += 3
    assert split(plane)[0] == 2 and split(plane, least=3)[0] == 1


def test_apertures_are_those_of_sep(image, field):
    bad = none(image)
    rng = np.random.default_rng(3)
    bad[rng.random(image.shape) < 0.002] = True
    x, y = field.x[:150].astype(float), field.y[:150].astype(float)
    inside = (x > 20) & (x < 779) & (y > 20) & (y < 679)
    x, y = x[inside], y[inside]
    radius = np.full(x.size, 7.0)
    theirs, _, _ = sep.sum_circle(image, x, y, radius, mask=bad, subpix=5)
    ours = circles(image, bad, x, y, radius)
    np.testing.assert_allclose(ours, theirs, rtol=2e-3, atol=2 * SIGMA)  # rims are cut in 25 parts
    clean = none(image)
    expected, _ = sep.flux_radius(image, x, y, radius, 0.5, normflux=ours, mask=clean, subpix=5)
    found = half_radii(image, clean, x, y, radius, ours)
    both = np.isfinite(found) & np.isfinite(expected)
    assert both.mean() > 0.95
    assert np.median(np.abs(found - expected)[both]) < 0.02  # px; sep interpolates between its circles
    assert np.isnan(half_radii(image, clean, x[:1], y[:1], np.array([0.3]), np.array([1e9])))[0]


def test_centroids_are_where_the_stars_are():
    made = skies.star_field(3, 60, lambda x, y: skies.gaussian(3.5), flux=(5e4, 1e5), apart=30)
    image = made.exposed(SKY, GAIN, READ) - np.float32(SKY)
    start_x, start_y = np.rint(made.x).astype(float), np.rint(made.y).astype(float)
    x, y, clean = windowed(image, none(image), start_x, start_y, 3.5 / 2.3548)
    theirs = sep.winpos(image, start_x, start_y, np.full(60, 3.5 / 2.3548))
    # S/N 200 and more: an error of 3.5 / 2.35 / 200 = 0.007 px
    assert np.hypot(x - made.x, y - made.y)[clean].max() < 0.04
    np.testing.assert_allclose(x[clean], theirs[0][clean], atol=2e-3)
    assert clean.mean() > 0.9
    bad = none(image)
    bad[int(start_y[0]), int(start_x[0]) + 1] = True
    assert not windowed(image, bad, start_x[:1], start_y[:1], 1.5)[2][0]
    assert not windowed(image, bad, np.array([2.0]), np.array([2.0]), 1.5)[2][0]
