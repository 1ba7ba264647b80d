"""Maps between pixels: properties by closed forms, fits by lstsq, and what they do where no stars are."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.polynomial import chebyshev

from zogyp.core.transform import BEYOND, HIGHEST, Transform, powers, similarity, solve, terms

FIELD = 2048
ANY = range(HIGHEST + 1)
ANGLES = st.floats(-179.9, 179.9)
SCALES = st.floats(0.2, 5)
PLACES = st.floats(-3000, 3000)


def turned(degrees, scale=1.0, mirrored=False, shift=(0.0, 0.0)):
    """(2, 3) of: mirror x where asked, turn x towards y by an angle, stretch, shift."""
    c, s = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    m = scale * np.array([[c, -s], [s, c]]) @ np.diag([-1.0 if mirrored else 1.0, 1.0])
    return np.column_stack([m, shift])


def curved(seed=1, order=4, amplitude=3.0, box=(100.0, 1900.0, 50.0, 1800.0), matrix=None):
    """A map with a surface of random coefficients that fall with the degree."""
    degrees = np.array([a + b for a, b in powers(order)][3:])
    surface = amplitude * np.random.default_rng(seed).normal(size=(2, degrees.size)) / degrees**2
    matrix = turned(31, 0.8, True, (1500, 20)) if matrix is None else matrix
    n = degrees.size + 3
    return Transform(matrix, order, surface, box, np.diag(np.linspace(1e-4, 1e-3, n)))


def stars(rng, n, low=0.0, high=FIELD - 1.0):
    return rng.uniform(low, high, (n, 2))


def cubic(xy, amplitude):
    """Displacement (n, 2) of a lens: with the cube of the radius, ``amplitude`` at the corner."""
    d = (xy - (FIELD - 1) / 2) / ((FIELD - 1) / np.sqrt(2))
    return amplitude * d * (d**2).sum(axis=1, keepdims=True)


def grid(low=0.0, high=FIELD - 1.0, n=33):
    g = np.linspace(low, high, n)
    return np.column_stack([a.ravel() for a in np.meshgrid(g, g)])


def applied(matrix, xy):
    return xy @ matrix[:, :2].T + matrix[:, 2]


def mapped(t, xy):
    return np.column_stack(t(*xy.T))


def rms(difference):
    return float(np.sqrt((difference**2).sum(axis=1).mean()))


@given(ANGLES, SCALES, st.booleans(), PLACES, PLACES)
@settings(max_examples=80, deadline=None, derandomize=True)
def test_a_similarity_tells_its_rotation_scale_and_mirroring(angle, scale, mirrored, dx, dy):
    t = Transform(turned(angle, scale, mirrored, (dx, dy)))
    # rounding of a sine
    assert t.rotation == pytest.approx(angle, abs=1e-9)
    assert t.scale == pytest.approx(scale, rel=1e-12)
    assert t.mirrored == mirrored


def test_a_rotation_is_positive_from_x_to_y_after_x_was_mirrored():
    quarter = Transform(turned(90))
    assert quarter(1, 0) == pytest.approx((0, 1))
    assert quarter.rotation == pytest.approx(90)
    flipped = Transform(np.array([[-1.0, 0, 0], [0, 1, 0]]))  # x mirrored, nothing else
    assert (flipped.rotation, flipped.mirrored) == (0, True)
    upside_down = Transform(np.array([[1.0, 0, 0], [0, -1, 0]]))  # x mirrored and half a turn
    assert abs(upside_down.rotation) == pytest.approx(180)


@given(ANGLES, ANGLES, SCALES, SCALES, st.booleans(), st.booleans(), PLACES, PLACES)
@settings(max_examples=50, deadline=None, derandomize=True)
def test_of_two_maps_in_a_row_scales_multiply_and_rotations_add(r, s, a, b, flip, flop, x, y):
    first, second = Transform(turned(r, a, flip, (5, -3))), Transform(turned(s, b, flop, (-70, 11)))
    m = second.matrix[:, :2] @ first.matrix
    m[:, 2] += second.matrix[:, 2]
    both = Transform(m)
    # products of numbers of 1e5, rounded
    np.testing.assert_allclose(both(x, y), second(*first(x, y)), atol=1e-8)
    assert both.scale == pytest.approx(a * b, rel=1e-10)
    assert both.mirrored == (flip != flop)
    turn = s - r if flop else s + r  # a mirror turns what was before it the other way
    assert np.cos(np.deg2rad(both.rotation - turn)) == pytest.approx(1, abs=1e-9)


@given(ANGLES, SCALES, st.booleans(), st.integers(0, 10**6), st.integers(2, 6))
@settings(max_examples=40, deadline=None, derandomize=True)
def test_the_inverse_brings_back(angle, scale, mirrored, seed, order):
    matrix = turned(angle, scale, mirrored, (300, -500))
    t = curved(seed, order, 3.0 * scale, matrix=matrix)
    x, y = grid(-500, 2500, 13).T  # within the stars' box and far beyond
    u, v = t.inverse(*t(x, y))
    # told: 1e-6 px of the output
    np.testing.assert_allclose(u, x, atol=1e-6)
    np.testing.assert_allclose(v, y, atol=1e-6)


def test_positions_may_have_any_shape():
    t = curved()
    x, y = grid(0, 2000, 6).T
    flat = np.array(t(x, y))
    np.testing.assert_array_equal(np.array(t(x.reshape(6, 6), y.reshape(6, 6))).reshape(2, -1), flat)
    one = t(float(x[7]), float(y[7]))
    assert (np.ndim(one[0]), np.ndim(one[1])) == (0, 0)
    np.testing.assert_allclose(one, flat[:, 7], rtol=1e-14)
    assert np.shape(t.error(x.reshape(4, 9), y.reshape(4, 9))) == (4, 9)
    for some in (t, Transform(turned(5))):
        assert some(np.zeros(0), np.zeros(0))[0].shape == (0,)
        assert some.inverse(np.zeros(0), np.zeros(0))[0].shape == (0,)
        assert some.inverse(*some(3.0, 4.0)) == pytest.approx((3, 4), abs=1e-6)


@pytest.mark.parametrize("t", [curved(), Transform(turned(12, 3)), curved(5, 9)])
def test_a_map_survives_json_exactly(t):
    back = Transform.from_dict(json.loads(json.dumps(t.to_dict())))
    assert (back.order, back.box) == (t.order, t.box)
    for name in ("matrix", "surface", "covariance"):
        np.testing.assert_array_equal(getattr(back, name), getattr(t, name))
    x, y = grid(-100, 2200, 7).T
    np.testing.assert_array_equal(back(x, y), t(x, y))
    np.testing.assert_array_equal(back.error(x, y), t.error(x, y))


@given(PLACES, PLACES, st.floats(-4000, 4000), st.floats(-4000, 4000))
@settings(max_examples=40, deadline=None, derandomize=True)
def test_a_moved_map_is_the_same_map_from_another_corner(x, y, x0, y0):
    t = curved()
    part = t.moved(x0, y0)
    # rounding of places of 1e4, through the slopes of the surface
    np.testing.assert_allclose(part(x - x0, y - y0), t(x, y), atol=1e-8)
    assert part.error(x - x0, y - y0) == pytest.approx(float(t.error(x, y)), rel=1e-8)


@pytest.mark.parametrize("shape, step", [((50, 70), 16), ((49, 65), 16), ((1, 1), 8)])
def test_a_lattice_covers_the_image(shape, step):
    t = curved(box=(0.0, 69.0, 0.0, 49.0))
    x, y = t.lattice(shape, step)
    assert x.shape == y.shape == ((shape[0] - 1) // step + 2, (shape[1] - 1) // step + 2)
    assert (x.shape[0] - 1) * step >= shape[0] - 1
    for i, j in ((0, 0), (1, 0), (0, 1), (x.shape[0] - 1, x.shape[1] - 1)):
        np.testing.assert_allclose((x[i, j], y[i, j]), t(step * j, step * i), rtol=1e-13)


@pytest.mark.parametrize("order", [0, 1, 2, 5, 9])
def test_terms_are_products_of_chebyshev_polynomials(order):
    u, v = np.random.default_rng(2).uniform(-1, 1, (2, 20))
    values = terms(u, v, order)
    assert [a + b for a, b in powers(order)] == sorted(a + b for a, b in powers(order))
    assert len(set(powers(order))) == len(values) == (max(order, 1) + 1) * (max(order, 1) + 2) // 2
    for (a, b), value in zip(powers(order), values, strict=True):
        # cos(n arccos u) is the same polynomial
        np.testing.assert_allclose(value, np.cos(a * np.arccos(u)) * np.cos(b * np.arccos(v)), atol=1e-12)
        for along, w in ((0, (a, b)), (1, (b, a))):
            slope = chebyshev.chebval((u, v)[along], chebyshev.chebder(np.eye(w[0] + 1)[-1]))
            other = chebyshev.chebval((v, u)[along], np.eye(w[1] + 1)[-1])
            found = terms(u, v, order, along=along)[powers(order).index((a, b))]
            np.testing.assert_allclose(found, slope * other, atol=1e-10)  # slopes reach 81


@given(st.integers(0, 10**6), ANGLES, SCALES, st.booleans(), st.integers(3, 30))
@settings(max_examples=50, deadline=None, derandomize=True)
def test_a_similarity_is_found_as_by_lstsq(seed, angle, scale, mirrored, n):
    rng = np.random.default_rng(seed)
    out = stars(rng, n)
    true = turned(angle, scale, mirrored, (100, 200))
    into = applied(true, out) + scale * rng.normal(0, 1e-3, (n, 2))
    weight = rng.uniform(0.5, 2, n)
    matrix, left = similarity(out @ [1, 1j], into @ [1, 1j], weight)
    # the four numbers of the linear problem x' = a x - b y + c, y' = b x + a y + d, x mirrored before
    x, y = np.where(mirrored, -1, 1) * out[:, 0], out[:, 1]
    zero, one = np.zeros(n), np.ones(n)
    design = np.vstack([np.column_stack([x, -y, one, zero]), np.column_stack([y, x, zero, one])])
    root = np.sqrt(np.r_[weight, weight])
    a, b, c, d = np.linalg.lstsq(root[:, None] * design, root * into.T.ravel(), rcond=None)[0]
    flip = -1 if mirrored else 1
    expected = np.array([[flip * a, -b, c], [flip * b, a, d]])
    # one problem solved in two ways; the stars of three may lie nearly in a point: places of 1e4 over 10 px
    np.testing.assert_allclose(applied(matrix, out), applied(expected, out), atol=1e-7)
    distance = ((into - applied(matrix, out)) ** 2).sum(axis=1)
    assert left == pytest.approx(np.sqrt((weight * distance).sum() / weight.sum()), rel=1e-3, abs=1e-9)


def test_without_noise_a_similarity_is_exact():
    out = stars(np.random.default_rng(3), 5)
    for mirrored in (False, True):
        true = turned(77, 2.5, mirrored, (4, 5))
        matrix, left = similarity(out @ [1, 1j], applied(true, out) @ [1, 1j])
        np.testing.assert_allclose(matrix, true, atol=1e-9)  # rounding of places of 1e4
        assert left < 1e-9


@pytest.mark.parametrize("n", [3, 4, 10, 200])
def test_an_affine_map_is_found_as_by_lstsq_with_its_error(n):
    rng = np.random.default_rng(n)
    out = stars(rng, n)
    into = out @ rng.normal(0, 1, (2, 2)) + [30, -900] + rng.normal(0, 0.5, (n, 2))
    weight = rng.uniform(0.5, 4, n)
    weight[n - 1 : n * (n > 3)] = 0.0  # one that does not count
    found = solve(out, into, weight, (1,))
    design = np.column_stack([out, np.ones(n)])
    root = np.sqrt(weight)[:, None]
    expected = np.linalg.lstsq(root * design, root * into, rcond=None)[0].T
    assert found.order == 1
    # one problem solved in two ways, places of 1e3
    np.testing.assert_allclose(mapped(found, out), applied(expected, out), atol=1e-7)
    covariance = np.linalg.inv(design.T @ (weight[:, None] * design))
    place = np.array([[0.0, 0, 1], [2000, 100, 1], [-500, 5000, 1]])
    error = np.sqrt(np.einsum("ij,jk,ik->i", place, covariance, place))
    np.testing.assert_allclose(found.error(*place[:, :2].T), error, rtol=1e-5)


def test_stars_on_which_nothing_hangs_do_not_count():
    rng = np.random.default_rng(4)
    out = stars(rng, 40)
    into = applied(turned(20, 1.1), out) + rng.normal(0, 0.05, out.shape)
    weight = np.full(40, 400.0)
    alone = solve(out, into, weight, ANY)
    more = np.vstack([out, stars(rng, 5, -9e4, 9e4)])
    wild = np.vstack([into, stars(rng, 5)])
    both = solve(more, wild, np.r_[weight, np.zeros(5)], ANY)
    np.testing.assert_array_equal(both.matrix, alone.matrix)
    assert both.box == alone.box


@pytest.mark.parametrize("n", [8, 30, 150])
def test_a_similarity_asks_for_no_more(n):
    """Of forty noisy similarities nearly all are found as such, and no map is much worse than the best."""
    orders, bests, frees = [], [], []
    where = grid()
    for seed in range(40):
        rng = np.random.default_rng(1000 * n + seed)
        out, true = stars(rng, n), turned(40, 1.2, seed % 2 == 1, (10, 20))
        into = applied(true, out) + rng.normal(0, 0.05, out.shape)
        weight = np.full(n, 0.05**-2)
        best, free = solve(out, into, weight, (0,)), solve(out, into, weight, ANY)
        orders.append(free.order)
        bests.append(rms(mapped(best, where) - applied(true, where)))
        frees.append(rms(mapped(free, where) - applied(true, where)))
    # a gain of one standard error by chance, of maps that fit noise and so predict worse: some per cent
    assert sum(o <= 1 for o in orders) >= 37
    typical = np.sqrt(np.mean(np.square(bests)))
    assert np.sqrt(np.mean(np.square(frees))) < 1.15 * typical
    # an affine map has 1.5 times as many terms, and is taken where noise asks for it most
    assert max(frees) < 3 * typical


def test_a_distortion_is_found_with_two_dozen_stars():
    true, errors = turned(25, 1.0, False, (50, -30)), []
    where = grid(100, FIELD - 101)
    for seed in range(20):
        rng = np.random.default_rng(seed)
        out = stars(rng, 24)
        into = applied(true, out + cubic(out, 6.0)) + rng.normal(0, 0.03, out.shape)
        found = solve(out, into, np.full(24, 0.03**-2), ANY)
        assert found.order >= 3
        errors.append(rms(mapped(found, where) - applied(true, where + cubic(where, 6.0))))
    # ten terms from 24 stars: 0.03 sqrt(2 10 / 24) = 0.03 px where they are, some times that in empty corners
    assert np.median(errors) < 0.1
    assert max(errors) < 0.5


@pytest.mark.parametrize("order", [0, 1, 3])
@pytest.mark.parametrize("n", [12, 100])
def test_the_error_of_a_map_is_as_told(order, n):
    if order == 3 and n == 12:
        n = 30
    box = (0.0, FIELD - 1.0, 0.0, FIELD - 1.0)
    truth = curved(3, 3, 5.0, box, turned(25, 1.0, True)) if order == 3 else Transform(turned(25, 1.0, True))
    pulls = []
    for seed in range(150):
        rng = np.random.default_rng(100 * order + 10_000 * n + seed)
        out = stars(rng, n)
        error = rng.uniform(0.02, 0.2, n)
        into = mapped(truth, out) + rng.normal(0, 1, out.shape) * error[:, None]
        found = solve(out, into, error**-2, (order,))
        where = rng.uniform([found.box[0], found.box[2]], [found.box[1], found.box[3]], (20, 2))
        pulls.append((mapped(found, where) - mapped(truth, where)) / found.error(*where.T)[:, None])
    variance = (np.array(pulls) ** 2).mean(axis=(1, 2))  # one number of each seed, which are independent
    # its mean is one; four standard errors, and three per cent for what the covariance leaves out:
    # the correlation of shift and slope of a similarity, the prior of a surface
    assert variance.mean() == pytest.approx(1, abs=4 * variance.std() / np.sqrt(150) + 0.03)


PARTS = {
    "a corner": lambda rng, n: rng.uniform(0, 700, (n, 2)),
    "a diagonal band": lambda rng, n: (
        rng.uniform(0, FIELD - 1, (n, 1)) + rng.uniform(-120, 120, (n, 2))
    ).clip(0, FIELD - 1),
    "a strip": lambda rng, n: rng.uniform([0, 900], [FIELD - 1, 1100], (n, 2)),
    "two corners": lambda rng, n: rng.uniform(0, 400, (n, 2)) + np.where(np.arange(n) % 2, 1600, 0)[:, None],
}


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("n", [15, 40, 120])
def test_where_no_star_is_the_surface_stays_as_small_as_the_distortion(part, n):
    amplitude = 10.0  # at the corners of the field
    where = grid(-500, FIELD + 500, 41)
    for seed in range(10):
        rng = np.random.default_rng(seed)
        out = PARTS[part](rng, n)
        into = applied(turned(10), out + cubic(out, amplitude)) + rng.normal(0, 0.05, out.shape)
        weight = np.full(n, 0.05**-2)
        found, flat = solve(out, into, weight, ANY), solve(out, into, weight, (1,))
        beside = np.hypot(*(mapped(found, where) - mapped(flat, where)).T).max()
        # 500 px beyond the corners the true distortion is 3.3 times what it is there
        assert beside < 4 * amplitude, (seed, found.order)


@pytest.mark.parametrize("seed", range(4))
def test_a_map_goes_on_without_a_step_or_a_bend_across_the_border_of_the_stars(seed):
    t = curved(seed, 6, 5.0)
    x0, x1, y0, y1 = t.box
    rng = np.random.default_rng(seed)
    h = 1e-3
    for _ in range(30):
        x, y = rng.uniform(x0, x1), rng.uniform(y0, y1)
        for px, py, dx, dy in ((x0, y, 1, 0), (x1, y, 1, 0), (x, y0, 0, 1), (x, y1, 0, 1)):
            below, here, above = (np.array(t(px + k * dx, py + k * dy)) for k in (-h, 0, h))
            # second differences: a curvature of some 36² 5 px / 900² px² and rounding, no bend
            np.testing.assert_allclose(above - 2 * here + below, 0, atol=1e-8)


def test_far_from_the_stars_the_residual_is_constant():
    t = curved(1, 6, 5.0)
    x0, x1, _, _ = t.box
    far = x1 + BEYOND * (x1 - x0) / 2
    x = far + np.array([1.0, 100, 1e4, 1e6])
    here = np.array(t(x, np.full(4, 800.0))) - t.matrix[:, :2] @ [x, np.full(4, 800.0)]
    np.testing.assert_allclose(here, here[:, :1] + np.zeros(4), atol=1e-8)  # rounding of 1e6
    edge = np.array(t(x1, 800.0)) - t.matrix[:, :2] @ [x1, 800.0]
    assert np.hypot(*(here[:, 0] - edge)) < 5.0 * 6  # a fifth of half a box along the slope


@pytest.mark.parametrize("orders", [ANY, (0,), (1,), (3,)])
def test_stars_in_a_row_do_not_crash_and_are_mapped_themselves(orders):
    along = np.linspace(0, 1000, 30)
    out = np.column_stack([along, 2 * along])
    into = out + np.array([5, -7])
    found = solve(out, into, np.ones(30), orders)
    assert found.order == (orders[0] if len(orders) == 1 else 0)
    # a singular problem, of places of 1e3, by its normal equations
    np.testing.assert_allclose(mapped(found, out), into, atol=0.01)
    assert np.isfinite(found.error(*out.T)).all()


@pytest.mark.parametrize("n", [2, 3, 4, 5])
def test_few_stars_give_what_they_carry(n):
    out = stars(np.random.default_rng(n), n)
    true = turned(50, 1.5, n % 2 == 0 and n > 2, (1, 2))
    found = solve(out, applied(true, out), np.ones(n), ANY)
    assert found.order <= 1
    np.testing.assert_allclose(mapped(found, out), applied(true, out), atol=1e-8)  # rounding


def test_an_outlier_does_not_make_the_map_stiff_or_soft():
    """The loss of one star is capped: a bad one among forty must not decide for or against a distortion."""
    for amplitude, wanted in ((0.0, (0, 1)), (10.0, tuple(range(3, 10)))):
        orders = []
        for seed in range(10):
            rng = np.random.default_rng(seed)
            out = stars(rng, 60)
            into = out + cubic(out, amplitude) + rng.normal(0, 0.03, out.shape)
            into[0] += [1.0, -1.0]  # 33 sigma
            orders.append(solve(out, into, np.full(60, 0.03**-2), ANY).order)
        # by chance one of ten may differ
        assert sum(o in wanted for o in orders) >= 9, orders
