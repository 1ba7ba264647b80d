"""Lists of stars: places as good as they are told to be, and unsure of all that is no single star."""

from __future__ import annotations

import numpy as np
import pytest

import skies
from zogyp.image import Image
from zogyp.measure.firstlook import look
from zogyp.measure.starlist import SYSTEMATIC, UNSURE, star_list

SKY, GAIN, READ_NOISE = 200.0, 2.0, 5.0


def seen(pixels, saturation=1e9):
    pixels = np.asarray(pixels, np.float32)
    mask = np.zeros(pixels.shape, np.uint16)
    return look(Image(pixels, mask, gain=GAIN, read_noise=READ_NOISE, saturation=saturation))


def field(seed, fwhm=3.5, n=120, flux=(1e3, 3e5), wings=0.1):
    return skies.star_field(seed, n, lambda x, y: skies.gaussian(fwhm, wings), apart=25, flux=flux)


def nearest(stars, x, y):
    """For each true place the nearest star of the list, and its distance."""
    distance = np.hypot(stars.xy[:, 0] - np.array(x)[:, None], stars.xy[:, 1] - np.array(y)[:, None])
    return distance.argmin(axis=1), distance.min(axis=1)


@pytest.mark.parametrize("fwhm", [2.2, 3.5, 6.0])
def test_places_are_as_good_as_told(fwhm):
    bright, faint = [], []
    for seed in range(3):
        sky = field(seed, fwhm, flux=(1e3, 1e5))
        stars = star_list(seen(sky.exposed(SKY, GAIN, READ_NOISE)), 1000)
        i, distance = nearest(stars, sky.x, sky.y)
        # 12 px from the border, where nothing of a star is cut off
        inner = (np.abs(sky.x - 255.5) < 243) & (np.abs(sky.y - 255.5) < 243)
        use = inner & (distance < 1.5) & (stars.error[i] < UNSURE)
        assert use.sum() > 0.75 * inner.sum()
        pull = ((stars.xy[i] - np.column_stack([sky.x, sky.y])) / stars.error[i][:, None])[use]
        snr_is_low = stars.error[i][use] > 3 * SYSTEMATIC
        faint.append(pull[snr_is_low])
        bright.append(pull[~snr_is_low])
    every = np.concatenate(bright + faint)
    # a robust width of some 500 pulls: four per cent; the rest is how well the error is known
    assert 1.4826 * np.median(np.abs(every)) == pytest.approx(1, abs=0.3)
    for some in (np.concatenate(bright), np.concatenate(faint)):
        assert some.size > 60
        # bright stars are told a little worse than they are, faint ones in an isophote a little better
        assert 0.4 < 1.4826 * np.median(np.abs(some)) < 1.7
        # a few have a neighbour
        assert (np.abs(some) > 5).mean() < 0.03
        assert abs(np.median(some)) < 0.3  # 60 of unit width, a median: 0.16


def test_the_brightest_come_first_and_no_more_than_wanted():
    look_at = seen(field(4).exposed(SKY, GAIN, READ_NOISE))
    stars, few = star_list(look_at, 1000), star_list(look_at, 20)
    assert len(few) == 20
    np.testing.assert_array_equal(few.flux, stars.flux[:20])
    assert (np.diff(stars.flux) <= 0).all()
    assert len(stars) == len(look_at.sources)
    assert stars.shape == (512, 512)
    assert stars.fwhm == pytest.approx(3.5, rel=0.15)  # a half-light radius, with wings
    np.testing.assert_array_equal(stars.z, stars.xy[:, 0] + 1j * stars.xy[:, 1])
    # brighter stars are known better, until the systematic error is all
    assert (stars.error >= SYSTEMATIC).all()
    sure = stars.error < UNSURE
    assert (np.diff(stars.error[sure]) > -1e-12).all()


def test_saturated_stars_are_unsure():
    sky = field(5)
    level = 8000.0
    pixels = np.minimum(sky.exposed(SKY, GAIN, READ_NOISE), level)
    stars = star_list(seen(pixels, level), 1000)
    i, distance = nearest(stars, sky.x, sky.y)
    peak = sky.image[np.rint(sky.y).astype(int), np.rint(sky.x).astype(int)] + SKY
    full = (peak > 1.1 * level) & (distance < 3)
    assert full.sum() >= 10
    assert (stars.error[i][full] >= UNSURE).all()
    fine = (peak < 0.5 * level) & (distance < 1) & (sky.flux > 3e3)
    assert (stars.error[i][fine] < UNSURE).mean() > 0.8


def test_what_is_wider_than_a_star_is_unsure():
    sky = field(6)
    rng = np.random.default_rng(6)
    apart = [p for p in rng.uniform(30, 480, (300, 2)) if np.hypot(sky.x - p[0], sky.y - p[1]).min() > 30]
    chosen = []
    for p in apart:
        if all(np.hypot(*(p - q)) > 45 for q in chosen):
            chosen.append(p)
    galaxies = np.array(chosen[:8])
    assert len(galaxies) >= 3
    for x, y in galaxies:
        skies.add(sky.image, x, y, 1e5, skies.gaussian(8.0))
    stars = star_list(seen(sky.exposed(SKY, GAIN, READ_NOISE)), 1000)
    i, distance = nearest(stars, *galaxies.T)
    assert (distance < 1).all()
    assert (stars.error[i] >= UNSURE).all()


def test_an_empty_sky_gives_an_empty_list():
    pixels = np.random.default_rng(7).normal(SKY, 10, (200, 300))
    stars = star_list(seen(pixels), 100)
    assert len(stars) == 0
    assert stars.xy.shape == (0, 2)
    assert stars.z.shape == stars.error.shape == stars.flux.shape == (0,)
    assert stars.shape == (200, 300)
    assert np.isfinite(stars.fwhm)


@pytest.mark.parametrize("n", [1, 2, 5])
def test_a_few_stars_are_all_believed(n):
    sky = field(8, n=n, flux=(1e5, 2e5))
    stars = star_list(seen(sky.exposed(SKY, GAIN, READ_NOISE)), 100)
    assert len(stars) == n
    i, distance = nearest(stars, sky.x, sky.y)
    assert sorted(i.tolist()) == list(range(n))
    assert (stars.error < UNSURE).all()
    assert distance.max() < 5 * 1.5 * 0.02  # S/N of some 300: 0.01 px, and as much of systematic error


def test_no_more_wanted_than_none():
    assert len(star_list(seen(field(9, n=20).exposed(SKY, GAIN, READ_NOISE)), 0)) == 0
