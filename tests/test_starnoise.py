"""What bright stars leave in S beyond all known noise: planted with a known variance, and found."""

from __future__ import annotations

import numpy as np
import pytest

import skies
from zogyp.core.tiles import Blend, plan
from zogyp.fluxscale import Match, Surface
from zogyp.measure.robust import robust_sigma
from zogyp.starnoise import add_star_variance


def unit(made):
    """F_S = 1 everywhere."""
    return Blend(made.image.shape, plan(made.image.shape, 1e6, 0, 0), [1.0])


SHAPE = (700, 700)
MIXTURE = skies.gaussian(3.0, 0.05)
N_STARS = 150


def left(distance):
    """Standard deviation of what a star of unit flux leaves."""
    return np.where(distance < 13, 0.03 * np.exp(-distance / 5), 0)  # falls by half within a ring


@pytest.fixture
def field():
    """Stars apart, their fluxes, the distance of each pixel from its nearest, and which that is."""
    rng = np.random.default_rng(8)
    places = np.stack(np.meshgrid(np.arange(12), np.arange(12)), -1).reshape(-1, 2) * 55.0 + 45
    places += rng.uniform(-8, 8, places.shape)
    flux = 10 ** rng.uniform(2, 4, len(places))
    y, x = np.indices(SHAPE)
    near = np.full(SHAPE, np.inf)
    which = np.zeros(SHAPE, int)
    for i, (u, v) in enumerate(places):
        distance = np.hypot(x - u, y - v)
        which[distance < near] = i
        near = np.minimum(near, distance)
    return places, flux, near, which


def planes(field, seed=1):
    _, flux, near, which = field
    rng = np.random.default_rng(seed)
    S = rng.normal(size=SHAPE) + flux[which] * left(near) * rng.normal(size=SHAPE)
    one = np.ones(SHAPE, np.float32)
    return {"S": S.astype(np.float32), "V": one}


def exposures(field, saturated=None, mask=None):
    places, flux, *_ = field
    sources = skies.catalogue(*places.T, flux, 5.0, saturated)
    made = skies.exposure(np.zeros(SHAPE), sources, skies.true_psf(MIXTURE, 31), mask=mask)
    stars = np.flatnonzero(~sources.saturated)
    one = Surface(np.array([1.0]), 0, (350.0, 350.0))
    return made, Match(one, one, one, stars, stars)


def spreads(outputs, field, bright):
    """Spread of S over the root of V near the bright stars, and far from all."""
    _, flux, near, which = field
    z = outputs["S"] / np.sqrt(outputs["V"])
    return robust_sigma(z[(near < 4) & (flux[which] > bright)]), robust_sigma(z[near > 24])


def test_the_variance_that_stars_leave_is_found(field):
    outputs = planes(field)
    made, match = exposures(field)
    assert spreads(outputs, field, 3e3)[0] > 10
    add_star_variance(outputs, unit(made), made, made, match)
    # rings are some pixels wide, and the profile falls within them; 2000 pixels
    under, far = spreads(outputs, field, 3e3)
    assert under == pytest.approx(1, abs=0.12)
    assert far == pytest.approx(1, abs=0.01)  # 300 000 pixels: 0.002, and wings of the profile
    # faint stars, who hardly tell, are given theirs by flux
    _, flux, near, which = field
    faint = (near < 2) & (flux[which] < 400)
    expected = np.sqrt(1 + (flux[which] * left(near))[faint] ** 2)
    assert np.median(np.sqrt(outputs["V"][faint]) / expected) == pytest.approx(1, abs=0.15)


def test_nothing_is_added_where_noise_explains_all(field):
    outputs = planes(field)
    outputs["S"] = np.random.default_rng(2).normal(size=SHAPE).astype(np.float32)
    made, match = exposures(field)
    add_star_variance(outputs, unit(made), made, made, match)
    assert np.mean(outputs["V"] > 1.02) < 0.01


def test_an_excess_of_the_whole_field_is_no_stars_fault(field):
    outputs = planes(field)
    outputs["S"] = 2 * np.random.default_rng(3).normal(size=SHAPE).astype(np.float32)
    made, match = exposures(field)
    add_star_variance(outputs, unit(made), made, made, match)
    assert np.mean(outputs["V"] > 1.05) < 0.02


def test_saturated_stars_tell_of_their_wings(field):
    """Their cores are masked, and what fills those must not count."""
    _, flux, near, which = field
    brightest = flux > np.sort(flux)[-20]
    bad = (near < 6) & brightest[which]
    outputs = planes(field)
    outputs["S"][bad] = 1e6
    made, match = exposures(field, brightest, np.where(bad, 1, 0).astype(np.uint16))
    assert not made.image.good[bad].any()
    add_star_variance(outputs, unit(made), made, made, match)
    z = outputs["S"] / np.sqrt(outputs["V"])
    wings = (near > 6) & (near < 9) & brightest[which]
    assert robust_sigma(z[wings]) == pytest.approx(1, abs=0.15)  # was above 3
    assert np.isfinite(outputs["V"]).all()


def test_what_is_new_has_left_nothing(field):
    """A source that only the new image shows does not subtract, well or badly; once a division by zero."""
    places, flux, *_ = field
    outputs = planes(field)
    new = np.zeros(len(places), bool)
    new[::3] = True
    at = tuple(np.rint(places[new]).astype(int).T[::-1])
    outputs["S"][at] = 2 * flux[new]
    made, match = exposures(field)
    add_star_variance(outputs, unit(made), made, made, match)
    assert np.all(outputs["V"][at] < 1.05)


def test_few_stars_tell_nothing(field):
    places, flux, near, which = field
    few = (places[:9], flux[:9], near, which)
    outputs = planes(field)
    made, match = exposures(few)
    add_star_variance(outputs, unit(made), made, made, match)
    np.testing.assert_array_equal(outputs["V"], 1)
