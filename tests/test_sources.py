"""Sources, and which of them are stars, in images whose contents are known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial import cKDTree

import skies
from zogyp.core.meshes import MeshSurface
from zogyp.measure.detection import find_sources
from zogyp.measure.sources import (
    Sources,
    choose_stars,
    local_size,
    locus,
    seeing,
    stellar_size,
    with_fixed_apertures,
)
from zogyp.options import DetectOptions

SKY, GAIN, READ = 200.0, 2.0, 5.0
SIGMA = float(np.sqrt(SKY / GAIN + (READ / GAIN) ** 2))


def detect(image, bad=None, unit=1.0, options=DetectOptions()):
    bad = np.zeros(image.shape, bool) if bad is None else bad
    return find_sources(image, MeshSurface.flat(SIGMA * unit, image.shape), bad, options)


@pytest.fixture(scope="module")
def mixed():
    """300 stars, 150 galaxies and 200 cosmic rays: the image without sky, and each kind's places."""
    shape, rng = (900, 900), np.random.default_rng(2)
    field = skies.star_field(1, 300, lambda x, y: skies.gaussian(3.5), shape=shape, flux=(2e3, 2e5), n=41)
    galaxies = rng.uniform(10, 889, (150, 2))
    for x, y in galaxies:
        size, flux = rng.uniform(5, 10), np.exp(rng.uniform(np.log(5e3), np.log(2e5)))
        wide = np.array([[1, 0, 0, size / skies.FWHM, 0.7 * size / skies.FWHM]])
        skies.add(field.image, x, y, flux, wide, 61)
    image = field.exposed(SKY, GAIN, READ) - np.float32(SKY)
    rays = rng.uniform(10, 889, (100, 2))
    for x, y in rays:
        angle, length = rng.uniform(0, np.pi), rng.integers(1, 9)
        along = np.arange(length) - length / 2
        at = np.round([y + along * np.sin(angle), x + along * np.cos(angle)]).astype(int)
        image[at[0], at[1]] += rng.uniform(500, 5000)
    sources, fwhm = with_fixed_apertures(image, np.zeros(shape, bool), detect(image))
    return field, galaxies, rays, sources, fwhm


def near(places, sources, index, reach=1.5):
    """Which of the chosen sources lie at one of these places."""
    return cKDTree(places).query(np.column_stack([sources.x[index], sources.y[index]]))[0] < reach


def test_bright_isolated_stars_are_all_found_where_they_are():
    field = skies.star_field(3, 60, lambda x, y: skies.gaussian(3.5), flux=(5e3, 1e5), apart=30)
    image = field.exposed(SKY, GAIN, READ) - np.float32(SKY)
    sources = detect(image)
    distance, k = cKDTree(np.column_stack([sources.x, sources.y])).query(np.column_stack([field.x, field.y]))
    assert len(sources) == 60
    assert distance.max() < 0.3  # centroids of isophotes at S/N 40 and more
    assert np.all(np.diff(sources.flux) <= 0)
    # an isophote at two sigma holds most of the light of a star fifty times that
    assert np.median(sources.flux[k] / field.flux) == pytest.approx(0.97, abs=0.03)
    assert not sources.saturated.any()


def test_any_unit_gives_the_same_sources():
    field = skies.star_field(3, 60, lambda x, y: skies.gaussian(3.5), flux=(5e3, 1e5), apart=30)
    image = field.exposed(SKY, GAIN, READ) - np.float32(SKY)
    one = detect(image)
    tiny = detect((image * 1e-20).astype(np.float32), unit=1e-20)
    assert len(one) == len(tiny)
    np.testing.assert_allclose(tiny.x, one.x, atol=1e-3)
    np.testing.assert_allclose(tiny.flux * 1e20, one.flux, rtol=1e-4)
    np.testing.assert_allclose(tiny.radius, one.radius, rtol=1e-3)


def test_blank_sky_has_next_to_no_sources():
    image = np.random.default_rng(4).normal(0, SIGMA, (512, 512)).astype(np.float32)
    assert len(detect(image)) <= 2  # five sigma


def test_a_higher_threshold_finds_fewer(mixed):
    field = mixed[0]
    image = field.exposed(SKY, GAIN, READ) - np.float32(SKY)
    few, many = (len(detect(image, options=DetectOptions(threshold=t))) for t in (50.0, 5.0))
    assert few < many


def test_a_bad_pixel_marks_its_source():
    image = np.zeros((100, 100))
    for x in (30, 70):
        skies.add(image, x, 50, 1e4, skies.gaussian(3.5), 41)
    noisy = (image + np.random.default_rng(5).normal(0, SIGMA, image.shape)).astype(np.float32)
    bad = np.zeros(image.shape, bool)
    bad[50, 31] = True
    sources = detect(noisy, bad)
    assert sorted(zip(sources.x.round(), sources.saturated, strict=True)) == [(30, True), (70, False)]


def test_no_sources_have_no_seeing():
    empty = Sources(*(np.zeros(0) for _ in range(6)), np.zeros(0, bool))
    assert np.isnan(seeing(empty))
    assert choose_stars(empty, (100, 100), fwhm=float("nan"), reach=10, most=10).size == 0
    same, fwhm = with_fixed_apertures(np.zeros((50, 50), np.float32), np.zeros((50, 50), bool), empty)
    assert len(same) == 0
    assert np.isnan(fwhm)


@pytest.mark.parametrize("fwhm", [2.0, 3.5, 6.0])
def test_the_seeing_is_that_of_the_stars(fwhm):
    field = skies.star_field(6, 100, lambda x, y: skies.gaussian(fwhm), flux=(5e3, 2e5), apart=6 * fwhm)
    image = field.exposed(SKY, GAIN, READ) - np.float32(SKY)
    _, found = with_fixed_apertures(image, np.zeros(image.shape, bool), detect(image))
    # a first guess: the factor is that of a Moffat profile, for these Gaussians it is a fifth too small
    assert found == pytest.approx(0.8 * np.hypot(fwhm, 0.7), rel=0.1)


def test_galaxies_and_cosmic_rays_do_not_move_the_seeing(mixed):
    assert mixed[4] == pytest.approx(0.8 * np.hypot(3.5, 0.7), rel=0.1)


def test_the_smallest_size_that_many_share():
    rng = np.random.default_rng(7)
    stars, galaxies = rng.normal(2.0, 0.05, 60), rng.uniform(2.5, 8, 300)
    rays = rng.uniform(0.6, 1.0, 5)
    assert stellar_size(np.concatenate([stars, galaxies, rays])) == pytest.approx(2.0, rel=0.04)
    assert stellar_size(np.array([3.0])) == pytest.approx(3.0, rel=0.02)


def test_stars_are_told_from_galaxies_and_cosmic_rays(mixed):
    field, _galaxies, rays, sources, fwhm = mixed
    chosen = choose_stars(sources, (900, 900), fwhm=fwhm, reach=22, most=600)
    stars = near(np.column_stack([field.x, field.y]), sources, chosen)
    assert chosen.size > 100  # of 300, half of them too faint or with a neighbour
    assert stars.mean() > 0.9  # the smallest galaxies are 1.2 times as wide; the fit rejects what is left
    # a ray is as long as a star is wide now and then; one in ten of a hundred slips through to the fit, which
    # looks at its shape
    assert near(rays, sources, chosen).sum() <= 15


def test_stars_of_a_seeing_that_varies_are_found_everywhere():
    """Seeing from 3 to 4.8 px along x: one width for the whole field would lose a side."""
    field = skies.star_field(
        8, 500, lambda x, y: skies.gaussian(3.0 + 1.8 * x / 800), shape=(800, 800), flux=(2e3, 2e5), n=41
    )
    image = field.exposed(SKY, GAIN, READ) - np.float32(SKY)
    sources, fwhm = with_fixed_apertures(image, np.zeros(image.shape, bool), detect(image))
    chosen = choose_stars(sources, image.shape, fwhm=fwhm, reach=22, most=600)
    thirds = np.histogram(sources.x[chosen], bins=[0, 267, 533, 800])[0]
    assert thirds.min() > 25
    size = local_size(sources.take(chosen), image.shape)
    slope = np.polyfit(sources.x[chosen], size, 1)[0] * 800 / size.mean()
    assert slope == pytest.approx(1.8 / 3.9, abs=0.12)


def fake(x, y, flux, **changes):
    n = len(x)
    flux = np.array(flux, float)
    made = Sources(
        np.array(x, float),
        np.array(y, float),
        flux,
        flux_err=np.full(n, 10.0),
        peak=flux / 10,
        radius=np.full(n, 3.5 / 1.6),
        saturated=np.zeros(n, bool),
    )
    return replace(made, **changes)


def chosen_of(sources, most=100, shape=(200, 200)):
    return choose_stars(sources, shape, fwhm=3.5, reach=15, most=most).tolist()


def test_neighbours_rule_a_star_out():
    x, y = [50, 150, 50, 150], [50, 50, 150, 150]
    assert chosen_of(fake(x, y, [1e4] * 4)) == [0, 1, 2, 3]
    # a quarter as bright within two FWHM of the first, seven times as bright within five of the second
    more = fake([*x, 56, 165], [*y, 50, 50], [1e4] * 4 + [2.6e3, 7e4])
    assert chosen_of(more) == [2, 3, 5]
    # a faint one does not matter
    assert chosen_of(fake([*x, 56], [*y, 50], [1e4] * 4 + [1e3]))[:4] == [0, 1, 2, 3]


def test_saturated_faint_and_border_sources_are_no_psf_stars():
    sources = fake([50, 150, 5, 100], [50, 50, 100, 150], [1e4, 20, 1e4, 1e4])
    assert chosen_of(replace(sources, saturated=np.array([True, False, False, False]))) == [3]


def test_the_most_wanted_are_the_brightest_of_each_part():
    rng = np.random.default_rng(9)
    x, y = (g.ravel() * 24.0 + 20 for g in np.mgrid[:32, :32])
    sources = fake(x, y, rng.uniform(1e3, 1e4, x.size))
    chosen = np.array(chosen_of(sources, most=64, shape=(800, 800)))
    assert chosen.size == 64
    cells = set(
        zip((sources.x[chosen] * 8 // 800).tolist(), (sources.y[chosen] * 8 // 800).tolist(), strict=True)
    )
    assert len(cells) == 64
    assert sources.flux[chosen].mean() > 9e3  # the best of sixteen, on the average 0.94 of the range


def test_hot_pixels_do_not_feign_a_stellar_locus():
    """Fainter and smaller than a crowd of stars of one size, they leave it alone; 5 % is its scatter."""
    rng = np.random.default_rng(4)
    stars, hot = rng.normal(2.1, 0.1, 150), rng.normal(0.9, 0.05, 40)
    sizes = np.concatenate([stars[:100], hot, stars[100:]])  # the brightest first
    assert stellar_size(sizes) < 1.2  # what would be taken
    assert locus(sizes) == pytest.approx(2.1, rel=0.05)


def test_few_stars_among_large_galaxies_keep_their_locus():
    """Bright galaxies of all sizes say nothing of stars, however much larger they are."""
    rng = np.random.default_rng(5)
    galaxies, stars = rng.uniform(3, 9, 120), rng.normal(1.4, 0.05, 40)
    assert locus(np.concatenate([galaxies, stars])) == pytest.approx(1.4, rel=0.05)
