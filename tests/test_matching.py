"""Maps between lists of stars: found whatever lies between the images, and never where there is none."""

from __future__ import annotations

import time

import numpy as np
import pytest

from zogyp.core.transform import Transform
from zogyp.errors import RegistrationError
from zogyp.matching import FEWEST, Hint, check_map, find_map
from zogyp.measure.starlist import StarList

SHAPE = (2048, 2048)
MIDDLE = (SHAPE[0] - 1) / 2
NOISE = 0.05


class Sky:
    """The true map: a rotation and scale about the middle, a mirror, a shift, and a cubic distortion [px]."""

    def __init__(self, turn=0.0, scale=1.0, mirrored=False, shift=(0.0, 0.0), distortion=3.0):
        c, s = scale * np.cos(np.deg2rad(turn)), scale * np.sin(np.deg2rad(turn))
        self.matrix = np.array([[c, -s], [s, c]]) @ np.diag([-1.0 if mirrored else 1.0, 1.0])
        self.shift, self.distortion = np.array(shift), distortion

    def __call__(self, xy):
        d = (xy - MIDDLE) @ self.matrix.T
        r = d / (np.sqrt(2) * MIDDLE)
        return d + self.distortion * r * (r**2).sum(axis=1, keepdims=True) + MIDDLE + self.shift


def star_list(xy, flux, error=NOISE, shape=SHAPE):
    order = np.argsort(-flux, kind="stable")
    error = np.broadcast_to(error, flux.shape)
    return StarList(xy[order].reshape(-1, 2), error[order].astype(float), flux[order], shape, 3.0)


def fluxes(rng, n):
    """As of stars all over a Galaxy: twice as many twice as faint."""
    return 1 / (1 - rng.uniform(size=n))


def nothing_common(rng, n, m=None):
    """Two lists of different skies."""
    return [star_list(rng.uniform(0, 2047, (k, 2)), fluxes(rng, k)) for k in (n, n if m is None else m)]


def pair(
    seed,
    true,
    *,
    n=500,
    most=None,
    junk=0,
    depth=(1500, 1500),
    scatter=0.0,
    missed=0.1,
    noise=NOISE,
    size=1.5,
):
    """Lists of two images of one sky, which has n stars in a field."""
    rng = np.random.default_rng(seed)
    half = size * 2048
    stars = rng.uniform(MIDDLE - half, MIDDLE + half, (int(n * (2 * size) ** 2), 2))
    flux = fluxes(rng, len(stars))
    lists = []
    for xy, deepest in ((stars, depth[0]), (true(stars), depth[1])):
        seen = (np.abs(xy - MIDDLE) < MIDDLE).all(axis=1) & (rng.uniform(size=len(xy)) >= missed)
        light = flux[seen] * np.exp(rng.normal(0, scatter, seen.sum()))
        chosen = np.argsort(-light)[:most]
        places = xy[seen][chosen] + rng.normal(0, noise, (len(chosen), 2))
        places = np.vstack([places, rng.uniform(0, 2047, (junk, 2))])
        full = star_list(places, np.r_[light[chosen], fluxes(rng, junk)], noise)
        lists.append(star_list(full.xy[:deepest], full.flux[:deepest], noise))
    return lists


def map_error(found, true):
    """Largest and rms distance [px of the input] of a map from the truth, where both images are."""
    g = np.linspace(0, 2047, 33)
    xy = np.column_stack([a.ravel() for a in np.meshgrid(g, g)])
    there = true(xy)
    common = (np.abs(there - MIDDLE) < MIDDLE).all(axis=1)
    distance = np.hypot(*(np.column_stack(found.transform(*xy[common].T)) - there[common]).T)
    return float(distance.max()), float(np.sqrt((distance**2).mean()))


def true_hint(true, name="told"):
    """A hint without the distortion."""
    m = np.column_stack([true.matrix, MIDDLE + true.shift - true.matrix @ [MIDDLE, MIDDLE]])
    return Hint(name, Transform(m))


def well_formed(found, lists):
    """What must hold of any map that is returned."""
    out, into = lists
    assert found.believed
    assert found.n_near >= found.n_required >= FEWEST
    assert found.evidence == found.n_near - found.n_required
    assert len(set(found.out.tolist())) == len(set(found.into.tolist())) == found.out.size
    assert 0 < found.share <= 1
    mapped = np.column_stack(found.transform(*out.xy[found.out].T))
    np.testing.assert_allclose(found.residual, into.xy[found.into] - mapped, atol=1e-9)  # rounding
    assert np.hypot(*found.residual.T).max() <= found.reach * 1.5 + 1


# the sky, the lists, fewest matched stars, largest rms of the map [px]
CASES = {
    "many stars": (Sky(), {"n": 1500}, 1000, 0.03),
    "turned": (Sky(30), {}, 250, 0.05),
    "upside down": (Sky(180), {}, 300, 0.05),
    "a mirror": (Sky(-50, mirrored=True), {}, 250, 0.05),
    "no distortion": (Sky(17, 1.1, shift=(200, -100), distortion=0), {}, 200, 0.02),
    "three times larger": (Sky(20, 3.0), {"n": 1000}, 60, 0.1),
    "three times smaller": (Sky(70, 1 / 3), {"n": 700, "size": 2.5}, 60, 0.1),
    "an eighth in common": (Sky(shift=(1320, 1320)), {"n": 1000}, 70, 0.15),
    "an eighth in common, turned": (Sky(90, shift=(1320, -1320)), {"n": 1000}, 70, 0.15),
    "a seventh in common, a mirror": (Sky(40, 1, True, shift=(1200, 1200)), {"n": 1000}, 70, 0.15),
    "two dozen stars": (Sky(180), {"most": 24, "missed": 0.0}, 20, 0.6),
    "another depth": (Sky(10), {"n": 1500, "scatter": 0.46, "depth": (1500, 200)}, 120, 0.1),
    "half junk": (Sky(45), {"n": 500, "junk": 450}, 250, 0.1),
    "strongly distorted": (Sky(15, distortion=10), {}, 200, 0.05),
}


@pytest.mark.parametrize("case", CASES)
def test_the_map_is_found(case):
    true, how, fewest, worst = CASES[case]
    lists = pair(1, true, **how)
    found = find_map(*lists)
    well_formed(found, lists)
    assert found.transform.mirrored == (np.linalg.det(true.matrix) < 0)
    # the distortion is a cubic of ten terms; noise of 0.07 px of a pair, over the root of stars per term, is
    # 0.007 px of a thousand stars and 0.02 of a hundred; empty corners and a lower order are some times worse
    assert map_error(found, true)[1] < worst
    assert found.out.size >= fewest


@pytest.mark.parametrize("seed", range(4))
def test_a_dozen_common_stars_amid_as_many_others_are_enough(seed):
    rng = np.random.default_rng(seed)
    true = Sky(33, 1.0, seed % 2 == 1, (60, -90), distortion=1.0)
    stars = rng.uniform(300, 1750, (12, 2))
    lists = [
        star_list(
            np.vstack([p + rng.normal(0, NOISE, p.shape), rng.uniform(0, 2047, (12, 2))]), fluxes(rng, 24)
        )
        for p in (stars, true(stars))
    ]
    found = find_map(*lists)
    well_formed(found, lists)
    assert 9 <= found.out.size <= 14
    # a distortion of 1 px at the corners that twelve stars cannot ask for
    assert map_error(found, true)[0] < 2.0


# brightest of all and without a hint they win no more, but that takes many seconds
@pytest.mark.parametrize("brighter, hinted", [(False, False), (False, True), (True, True)])
def test_hot_pixels_do_not_win_against_stars(brighter, hinted):
    """Sixty hot pixels at equal pixels of both images, a hundred stars that moved."""
    true = Sky(0, shift=(63.3, -41.8), distortion=1.0)
    for seed in range(2):
        rng = np.random.default_rng(seed)
        a, b = pair(seed, true, n=150, most=100)
        hot = rng.integers(5, 2040, (60, 2)).astype(float)
        lists = []
        for one in (a, b):
            light = one.flux.max() * rng.uniform(1, 2, 60) if brighter else rng.choice(one.flux, 60)
            lists.append(star_list(np.vstack([one.xy, hot]), np.r_[one.flux, light]))
        hints = [Hint("the same grid", Transform(np.eye(2, 3)))] if hinted else []
        found = find_map(*lists, hints)
        assert map_error(found, true)[0] < 2.0, (seed, found.n_near, found.share)


@pytest.mark.parametrize("n, trials", [(5, 8), (8, 8), (12, 6), (24, 4), (60, 2), (150, 1)])
def test_different_skies_are_never_registered(n, trials):
    for seed in range(trials):
        rng = np.random.default_rng(1000 * n + seed)
        lists = nothing_common(rng, n)
        with pytest.raises(RegistrationError) as failed:
            find_map(*lists, [Hint("the same grid", Transform(np.eye(2, 3)))])
        e = failed.value
        assert e.n_matched < e.n_required
        assert e.n_required >= FEWEST
        assert e.n_stars == (n, n)
        assert e.tried[0] == "the same grid"
        assert len(e.tried) > 1


def test_many_stars_of_different_skies_fail_in_time():
    rng = np.random.default_rng(5)
    start = time.perf_counter()
    with pytest.raises(RegistrationError) as failed:
        find_map(*nothing_common(rng, 1500, 1200))
    assert time.perf_counter() - start < 20
    assert failed.value.n_matched < failed.value.n_required
    assert failed.value.n_stars == (1500, 1200)


@pytest.mark.parametrize("n, m", [(0, 0), (0, 50), (50, 0), (1, 1), (3, 3), (4, 200)])
def test_with_fewer_stars_than_any_map_needs_nothing_is_tried(n, m):
    rng = np.random.default_rng(1)
    lists = nothing_common(rng, n, m)
    with pytest.raises(RegistrationError, match=f"{n} and {m} sources were found") as failed:
        find_map(*lists)
    assert (failed.value.n_matched, failed.value.n_required) == (0, FEWEST)
    assert failed.value.tried == ()


@pytest.mark.parametrize("order", [None, 0, 1, 3])
@pytest.mark.parametrize("angle", [0.0, 37.0])
def test_stars_on_a_line_are_not_believed(order, angle):
    """They cannot tell an image from its mirror image."""
    rng = np.random.default_rng(2)
    along = rng.uniform(-900, 900, (60, 1)) * [np.cos(np.deg2rad(angle)), np.sin(np.deg2rad(angle))]
    flux = fluxes(rng, 60)
    one = star_list(MIDDLE + along, flux)
    with pytest.raises(RegistrationError):
        find_map(one, star_list(one.xy + np.array([10, 20]), one.flux), order=order)


def test_stars_in_one_place_are_no_reason_to_crash():
    rng = np.random.default_rng(3)
    many = star_list(np.full((30, 2), 77.0), fluxes(rng, 30))
    with pytest.raises(RegistrationError):
        find_map(many, many)
    a, b = pair(3, Sky(20), n=200)
    twice = [star_list(np.repeat(s.xy, 2, axis=0), np.repeat(s.flux, 2)) for s in (a, b)]
    assert map_error(find_map(*twice), Sky(20))[1] < 0.3
    with pytest.raises(RegistrationError):
        find_map(
            *(star_list(np.repeat(s.xy, 2, axis=0), np.repeat(s.flux, 2)) for s in nothing_common(rng, 30))
        )


def test_a_right_hint_leads():
    true = Sky(31, 0.9, True, (300, 100), distortion=1.0)
    lists = pair(4, true)
    found = find_map(*lists, [true_hint(true)])
    assert found.way == "told"
    assert map_error(found, true)[1] < 0.06
    # alone it is enough, and its shift may be wrong
    off = Sky(31, 0.9, True, (380, 40), distortion=0.0)
    shifted = find_map(*lists, [true_hint(off, "a WCS")], blind=False)
    assert shifted.way == "a WCS"
    assert map_error(shifted, true)[1] < 0.06


def test_a_wrong_hint_does_no_harm():
    true = Sky(31, 0.9, True, (300, 100), distortion=1.0)
    lists = pair(5, true)
    wrong = Hint("wrong", Transform(np.eye(2, 3)))
    away = Hint("far away", Transform(np.array([[1.0, 0, 1e6], [0, 1, 1e6]])))
    found = find_map(*lists, [away, wrong])
    assert found.way not in ("wrong", "far away")
    assert map_error(found, true)[1] < 0.06
    with pytest.raises(RegistrationError) as failed:
        find_map(*lists, [away, wrong], blind=False)
    assert failed.value.tried == ("far away", "wrong")


@pytest.mark.parametrize("order", [0, 1, 2, 5])
def test_a_wanted_order_is_taken(order):
    true = Sky(20, distortion=0.5)
    found = find_map(*pair(6, true, n=400), order=order)
    assert found.transform.order == order
    assert map_error(found, true)[0] < 1.0  # half a pixel of distortion at the corners


def test_the_order_follows_the_distortion():
    assert find_map(*pair(7, Sky(20, distortion=0.0), n=400)).transform.order <= 1
    assert find_map(*pair(7, Sky(20, distortion=3.0), n=400)).transform.order >= 3


def test_one_answer_every_time():
    lists = pair(8, Sky(140, 1.3, True), n=300)
    first, second = find_map(*lists), find_map(*lists)
    for name in ("matrix", "surface", "covariance"):
        np.testing.assert_array_equal(getattr(first.transform, name), getattr(second.transform, name))
    np.testing.assert_array_equal(first.out, second.out)
    assert (first.way, first.n_near, first.share) == (second.way, second.n_near, second.share)


@pytest.mark.parametrize("shape", [(1000, 2048), (2048, 700)])
def test_images_may_have_other_shapes(shape):
    true = Sky(12, shift=(-100, -80), distortion=1.0)
    out, into = pair(9, true, n=600)
    inside = (into.xy < np.array(shape[::-1]) - 1).all(axis=1)
    cut = star_list(into.xy[inside], into.flux[inside], shape=shape)
    found = find_map(out, cut)
    well_formed(found, (out, cut))
    # a third of the field: a cubic elsewhere is a guess, so only at the stars
    seen = out.xy[found.out]
    assert np.hypot(*(np.column_stack(found.transform(*seen.T)) - true(seen)).T).max() < 0.2
    back = find_map(cut, out)
    x, y = found.transform(*seen.T)
    np.testing.assert_allclose(np.column_stack(back.transform(x, y)), seen, atol=0.2)


def test_scatter_beyond_the_errors_is_told():
    """Centroids told ten times too good: the rest is scatter of the registration."""
    lists = [star_list(s.xy, s.flux, 0.01) for s in pair(10, Sky(5, distortion=0), n=500, noise=0.1)]
    found = find_map(*lists)
    # sqrt(2 (0.1² - 0.01²)); a robust estimate of 350 stars: 5 per cent
    assert found.scatter == pytest.approx((0.141, 0.141), rel=0.2)
    exact = find_map(*pair(10, Sky(5, distortion=0)))
    # a variance of 0.005 px², known from 350 stars to 8 per cent or so: 0.02² more or less
    assert max(exact.scatter) < 0.05


def test_a_given_map_is_judged_and_left_as_it_is():
    true = Sky(31, 0.9, distortion=0.0)
    lists = pair(11, true)
    right = true_hint(true).transform
    found = check_map(*lists, right, "given")
    well_formed(found, lists)
    assert found.transform is right
    assert found.way == "given"
    assert found.share > 0.5
    wrong = check_map(*lists, Transform(np.eye(2, 3)), "given")
    assert not wrong.believed
    empty = check_map(*nothing_common(np.random.default_rng(1), 0), right, "given")
    assert (empty.believed, empty.out.size) == (False, 0)
