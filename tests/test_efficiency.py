"""Fakes: they land where it is said, with the flux that is said, and what is counted of them is right."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from astropy.table import Table
from scipy.special import ndtr

import skies
import zogyp
from zogyp import completeness, fakeruns
from zogyp.cli import main
from zogyp.core.transform import Transform
from zogyp.efficiency_summary import limit_map
from zogyp.errors import FileError, OptionError, ZogypError
from zogyp.fakeruns import finished, paired, value_at, write_table
from zogyp.fakes import Brush, Ground, drawn, places
from zogyp.image import Image
from zogyp.options import EfficiencyOptions, FakeOptions
from zogyp.simulate import simulate, write_pair
from zogyp.sky import Sky

CLEAN = Sky(shape=(300, 320), n_stars=60, n_galaxies=0, n_transients=0, flux_max=2e5)
FEW = FakeOptions(n=36, images=3, bright=1.2, faint=0.8, seed=5)
PLAIN = EfficiencyOptions(threads=1, fakes=FEW)
SHORT = replace(PLAIN, fakes=FakeOptions(n=8, images=2, seed=2))


@pytest.fixture(scope="module")
def pair():
    return simulate(CLEAN, 11)


@pytest.fixture(scope="module")
def result(pair):
    return zogyp.measure_efficiency(pair.new, pair.ref, PLAIN)


@pytest.fixture(scope="module")
def short(pair, tmp_path_factory):
    """A small result and the folder of its runs."""
    folder = tmp_path_factory.mktemp("runs")
    return zogyp.measure_efficiency(pair.new, pair.ref, SHORT, directory=folder, name="a"), folder


def column(table, name):
    return np.asarray(table[name])


def same(a, b):
    """Whether two tables of fakes are equal, NaN included."""
    return a.colnames == b.colnames and all(
        np.array_equal(column(a, n), column(b, n), equal_nan=a[n].dtype.kind == "f") for n in a.colnames
    )


# ---------------------------------------------------------------- painting


def blank(shape=(80, 90), level=100.0, **known):
    return Image(np.full(shape, level, np.float32), np.zeros(shape, np.uint16), **known)


def test_a_fake_is_the_star_that_is_said():
    """Against a mixture of Gaussians integrated over the pixels: between pixels, and over the border."""
    mixture = skies.gaussian(3.2, wings=0.05)
    x, y, flux = np.array([30.37, 1.8, 88.9]), np.array([41.81, 60.2, 78.6]), np.array([1000.0, 500.0, 250.0])
    truth = np.zeros((80, 90))
    for star in zip(x, y, flux, strict=True):
        skies.add(truth, *star, mixture, n=45)
    painted = Brush(skies.true_psf(mixture), None).paint(blank(), x, y, flux, np.random.default_rng(1))
    light = painted.data - 100
    assert np.abs(light - truth).max() < 2e-3 * truth.max()
    assert light[25:60, 12:50].sum() == pytest.approx(1000, rel=2e-3)


def test_a_fake_far_outside_changes_nothing():
    psf = skies.true_psf(skies.gaussian(3.0))
    assert not drawn((50, 50), psf, np.array([-60.0, 200.0]), np.array([10.0, 10.0]), np.ones(2)).any()


def test_photons_of_a_fake_make_noise_and_count_in_the_variance():
    """Poisson noise by the gain: the total of a fake varies by flux / gain."""
    gain, flux = 2.0, 5000.0
    brush = Brush(skies.true_psf(skies.gaussian(3.0)), gain)
    image = blank((60, 60), variance=np.full((60, 60), 9.0, np.float32))
    rng = np.random.default_rng(3)
    totals = []
    for _ in range(300):
        painted = brush.paint(image, np.array([30.2]), np.array([29.7]), np.array([flux]), rng)
        totals.append(float((painted.data - 100.0).sum()))
    assert np.mean(totals) == pytest.approx(flux, abs=4 * np.sqrt(flux / gain / 300))
    assert np.var(totals) == pytest.approx(flux / gain, rel=0.35)  # 4 sigma of a variance of 300
    assert (painted.variance - 9).sum() == pytest.approx(flux / gain, rel=1e-2)
    assert image.variance.max() == 9 and image.data.max() == 100


def test_a_fake_saturates():
    """No pixel is lifted beyond the level; one that was beyond it before stays."""
    image = blank((60, 60))
    image.data[30, 33] = 700
    brush = Brush(skies.true_psf(skies.gaussian(3.0)), None, saturation=500.0)
    painted = brush.paint(
        image, np.array([30.0]), np.array([30.0]), np.array([20000.0]), np.random.default_rng(1)
    )
    assert painted.data[30, 30] == 500 and painted.data[30, 33] == 700
    assert (painted.data == 500).sum() > 5


def test_a_transform_is_followed():
    turn = Transform(np.array([[0.0, -1.0, 70.0], [1.0, 0.0, 5.0]]))
    brush = Brush(skies.true_psf(skies.gaussian(3.0)), None, transform=turn)
    u, v = brush.onto(np.array([20.0]), np.array([30.0]))
    assert (u[0], v[0]) == (40, 25)
    light = brush.paint(blank(), u, v, np.array([100.0]), np.random.default_rng(1)).data - 100
    assert np.unravel_index(light.argmax(), light.shape) == (25, 40)
    assert light.sum() == pytest.approx(100, rel=1e-3)


# ---------------------------------------------------------------- placing


def test_places_keep_their_distance_and_their_hosts():
    """Shares on galaxies and beside stars; none on closed ground, none near another."""
    free = np.ones((600, 500), dtype=bool)
    free[:, :100] = False
    galaxies = np.column_stack([np.linspace(120, 480, 12), np.linspace(30, 570, 12), np.full(12, 3.0)])
    stars = np.column_stack([np.linspace(480, 120, 12), np.linspace(30, 570, 12)])
    here = Ground(free, 3.0, stars, galaxies)
    options = FakeOptions(share_galaxies=0.2, share_stars=0.1)
    x, y, names = places(here, options, 50, np.random.default_rng(4))
    names = np.array(names)
    counts = {name: int((names == name).sum()) for name in ("galaxy", "star", "field")}
    assert counts == {"galaxy": 10, "star": 5, "field": 35}
    assert x.min() >= 99.5
    apart = np.hypot(x[:, None] - x, y[:, None] - y) + 1e9 * np.eye(50)
    assert apart.min() > 18
    for i in np.flatnonzero(names == "galaxy"):
        assert np.hypot(galaxies[:, 0] - x[i], galaxies[:, 1] - y[i]).min() < 15
    for i in np.flatnonzero(names == "star"):
        assert 3 <= np.hypot(stars[:, 0] - x[i], stars[:, 1] - y[i]).min() <= 12


def test_what_finds_no_host_goes_to_the_field():
    here = Ground(np.ones((300, 300), bool), 3.0, np.zeros((0, 2)), np.zeros((0, 3)))
    _, _, names = places(here, FakeOptions(), 20, np.random.default_rng(4))
    assert names == ["field"] * 20
    assert here.capacity(FakeOptions()) == 60 and here.capacity(FakeOptions(n=7)) == 7
    assert Ground(np.ones((90, 90), bool), 3.0, here.stars, here.galaxies).capacity(FakeOptions()) == 9
    assert replace(here, n_sources=80).capacity(FakeOptions()) == 20
    assert replace(here, n_sources=3).capacity(FakeOptions()) == 8


# ---------------------------------------------------------------- matching


def test_pairs_are_near_of_one_sign_and_one_to_one():
    fakes = (np.array([10.0, 11.0, 50.0, 70.0]), np.full(4, 10.0), np.array([100.0, 900.0, -50.0, 80.0]))
    candidates = (np.array([10.8, 50.5, 72.5]), np.full(3, 10.0), np.array([6.0, 7.0, 8.0]))
    assert paired(fakes, candidates, 2.0).tolist() == [-1, 0, -1, -1]
    assert paired(fakes, candidates, 3.0).tolist() == [-1, 0, -1, 2]
    flipped = (candidates[0], candidates[1], -candidates[2])
    assert paired(fakes, flipped, 2.0).tolist() == [-1, -1, 1, -1]
    assert paired(fakes, (np.zeros(0),) * 3, 2.0).tolist() == [-1] * 4


def test_values_between_pixels():
    y, x = np.mgrid[:40, :50]
    plane = np.exp(-((x - 21.3) ** 2 + (y - 17.6) ** 2) / 18).astype(np.float32)
    assert value_at(plane, np.array([21.3]), np.array([17.6]))[0] == pytest.approx(1, abs=2e-3)
    plane[17, 20] = np.nan
    assert value_at(plane, np.array([21.3]), np.array([17.6]))[0] == plane[18, 21]
    assert np.isnan(value_at(plane, np.array([20.0]), np.array([17.0]))[0])
    assert value_at(plane, np.array([49.4]), np.array([0.0]))[0] == plane[0, 49]


# ---------------------------------------------------------------- statistics


@pytest.mark.parametrize(
    ("k", "n", "z"), [(0, 10, 1.0), (3, 10, 1.0), (7, 9, 1.96), (10, 10, 2.0), (50, 400, 1.0)]
)
def test_wilson_against_its_definition(k, n, z):
    """The shares p from which k / n is no further than z standard deviations, by looking at them all."""
    p = np.linspace(0, 1, 2_000_001)
    allowed = p[np.abs(k / n - p) <= z * np.sqrt(p * (1 - p) / n) + 1e-12]
    low, high = completeness.wilson(k, n, z)
    assert (float(low), float(high)) == pytest.approx((allowed.min(), allowed.max()), abs=2e-6)


def test_wilson_without_trials_and_with_nonsense():
    assert [float(v) for v in completeness.wilson(0, 0)] == [0, 1]
    with pytest.raises(OptionError, match="between 0 and n"):
        completeness.wilson(5, 4)


def test_bins_hold_their_lower_edge():
    rows = completeness.binned(
        np.array([1.0, 2.0, 2.5, 3.0]), np.array([True, False, True, True]), (1, 2, 3, 4, 5)
    )
    assert [(r["n"], r["n_found"], r["completeness"]) for r in rows] == [
        (1, 1, 1),
        (2, 1, 0.5),
        (1, 1, 1),
        (0, 0, None),
    ]


def test_a_curve_is_found_again():
    """Within four of its errors, which are those that repetitions show."""
    truth = completeness.Curve(21.3, 0.3, 0.95)
    offs, errors = [], []
    for seed in range(8):
        rng = np.random.default_rng(seed)
        mag = rng.uniform(18, 23, 400)
        found = rng.uniform(size=400) < truth.at(mag)
        told = completeness.limits(mag, found, np.random.SeedSequence(seed))
        offs.append([told[f"m{level}"] - truth.magnitude(level / 100) for level in (80, 50, 20)])
        errors.append([told[f"m{level}_err"] for level in (80, 50, 20)])
    pull = np.array(offs) / np.array(errors)
    assert np.abs(pull).max() < 4
    assert 0.5 < np.sqrt((pull**2).mean()) < 1.6
    assert np.mean(errors) < 0.15


def test_a_curve_needs_fakes_that_were_missed_and_found():
    mag = np.linspace(18, 22, 40)
    for found in (np.ones(40, bool), np.zeros(40, bool)):
        told = completeness.limits(mag, found, np.random.SeedSequence(1))
        assert np.isnan([told["m80"], told["m50"], told["m20"], told["m50_err"]]).all()
    assert completeness.fitted(mag[:5], np.array([1, 1, 0, 0, 0], bool)) is None
    assert np.isnan(completeness.Curve(20, 0.3, 0.7).magnitude(0.8))


def test_the_threshold_of_ten_false_positives():
    snr = np.array([-9.0, 8, 7, -6, 5.5, 5, 4.5, 4, 3.9, -3.8, 3.7])
    assert completeness.threshold_of(snr, 10, 3.0) == (3.8, True)
    assert completeness.threshold_of(snr[:9], 10, 3.0) == (3.0, False)
    assert completeness.cumulative(snr, [3, 5, 8, 10]) == [11, 6, 2, 0]


def test_the_figure_of_merit_by_hand():
    """1.0 m_th + 0.8 m80 + 0.6 m20 + 0.3 m5 + 0.2 m_ph10, the field once, galaxies half, over the weights."""
    field = {"m_th": 22.0, "m80": 21.0, "m20": 21.5, "m5sigma": 21.4, "m_ph10": 20.5}
    galaxy = {"m_th": 22.0, "m80": 20.0, "m20": 21.0, "m5sigma": 21.4, "m_ph10": 19.5}
    one = 22.0 + 0.8 * 21 + 0.6 * 21.5 + 0.3 * 21.4 + 0.2 * 20.5
    two = 22.0 + 0.8 * 20 + 0.6 * 21 + 0.3 * 21.4 + 0.2 * 19.5
    both = completeness.figure_of_merit({"field": field, "galaxy": galaxy})
    assert both == pytest.approx((one + 0.5 * two) / (1.5 * 2.9))
    assert completeness.figure_of_merit({"field": field}) == pytest.approx(one / 2.9)
    assert np.isnan(completeness.figure_of_merit({"field": field | {"m_ph10": np.nan}}))
    assert np.isnan(completeness.figure_of_merit({}))


def test_good_photometry_where_the_errors_say_so():
    """Noise of a fifth at the limit, and a floor of 2 per cent: a tenth is reached at 0.77 mag above it."""
    rng = np.random.default_rng(8)
    mag = rng.uniform(17, 22, 3000)
    s = np.hypot(0.02, 0.2 * 10 ** (0.4 * (mag - 21)))
    truth = 21 + 2.5 * np.log10(np.sqrt(0.1**2 - 0.02**2) / 0.2)
    relative = rng.normal(0, s)
    relative[:30] = 5.0  # wild ones
    assert completeness.good_photometry(mag, relative, 21) == pytest.approx(truth, abs=0.15)
    assert np.isnan(completeness.good_photometry(mag, rng.normal(0, 0.3, 3000), 21))


def test_pull_and_bias():
    rng = np.random.default_rng(9)
    true = rng.uniform(100, 1000, 2000)
    flux = 1.02 * true + rng.normal(0, 5, 2000)
    told = completeness.photometry(flux - 0.02 * true, np.full(2000, 5.0), true)
    assert told["pull_mean"] == pytest.approx(0, abs=4 * told["pull_mean_err"])
    assert told["pull_spread"] == pytest.approx(1, abs=4 * told["pull_spread_err"])
    middle, error, n = completeness.bias(flux, true)
    assert middle == pytest.approx(0.02, abs=4 * error) and n == 2000
    assert np.isnan(completeness.bias(flux[:1], true[:1])[0])


def test_the_map_of_limits():
    error = np.full((250, 420), 2.0, np.float32)
    error[:, 210:] = 4.0
    error[:125, :105] = np.nan
    told = limit_map(error, 25.0)
    mag = np.array(told["mag"])
    assert mag.shape == (2, 4) and told["x"][0] == -0.5 and told["x"][-1] == 419.5
    assert np.isnan(mag[0, 0])
    assert mag[1, 0] == pytest.approx(25 - 2.5 * np.log10(10)) and mag[0, 3] == pytest.approx(
        25 - 2.5 * np.log10(20)
    )


# ---------------------------------------------------------------- the whole


def test_completeness_is_what_the_noise_says(result):
    """On a clean sky the share found is Phi(S/N - 5), a little more as the peak is looked for nearby."""
    use = ~column(result.fakes, "masked")
    snr = np.abs(column(result.fakes, "predicted_snr"))[use]
    found = column(result.fakes, "found")[use]
    assert use.sum() > 90
    least, most = ndtr(snr - 5), ndtr(np.sqrt(snr**2 + 2) - 5)
    error = np.sqrt((most * (1 - most)).sum() + 0.25)
    assert least.sum() - 3 * error < found.sum() < most.sum() + 3 * error
    assert not found[snr < 2].any() and found[snr > 8].all()
    m50 = result.summary["completeness"]["all"]
    assert m50["m50"] == pytest.approx(result.summary["m5sigma"], abs=0.1 + 3 * m50["m50_err"])
    check = result.summary["limit_check"]
    assert len(check) == 3
    assert all(
        abs(row["m50_minus_limit"]) < 0.1 + 4 * row["error"] for row in check if np.isfinite(row["error"])
    )


def test_fluxes_are_right_in_both_signs(result):
    photo = result.summary["photometry"]
    for name in ("positive", "negative"):
        one = photo[name]
        assert one["n"] > 40
        assert abs(one["pull_mean"]) < 4 * one["pull_mean_err"]
        assert one["pull_spread"] == pytest.approx(1, abs=0.05 + 4 * one["pull_spread_err"])
    found = result.fakes[column(result.fakes, "found")]
    assert (np.sign(found["snr"]) == found["sign"]).all() and (np.sign(found["flux"]) == found["sign"]).all()
    assert np.hypot(found["dx"], found["dy"]).max() <= result.summary["match_radius"]


def test_the_summary_is_plain_and_complete(result, tmp_path):
    files = result.write(tmp_path)
    told = json.loads(files["efficiency"].read_text())
    assert told["n_fakes"] == len(result.fakes) == len(Table.read(files["fakes"]))
    assert told["n_runs"] == 3 and told["zero_point_known"] and told["zero_point"] == 25
    assert told["false_positives"]["per_image"][0] == len(result.false_positives)
    rows = told["completeness"]["all"]["by_mag"]
    assert sum(r["n"] for r in rows) == told["n_fakes"] - told["n_masked"]
    assert any("no galaxies" in note for note in told["notes"])
    merit = told["figure_of_merit"]
    assert merit["value"] == pytest.approx(completeness.figure_of_merit(merit["terms"]))
    assert merit["terms"]["field"]["m_th"] == pytest.approx(
        told["m5sigma"] - 2.5 * np.log10(told["false_positives"]["threshold_of_10"] / 5)
    )


@pytest.mark.parametrize(
    ("angle", "shift", "grid"),
    [(7.0, (5.3, 3.8), "new"), (7.0, (5.3, 3.8), "reference"), (0.0, (0.55, -0.4), "new")],
    ids=["turned", "turned, on the reference", "a little off"],
)
def test_fakes_lie_where_the_images_do(angle, shift, grid):
    """The reference is brighter, turned or a little off: found where and as bright as said, both signs."""
    field = skies.star_field(
        21, 80, lambda x, y: skies.gaussian(3.0, 0.03), shape=(300, 310), apart=9, flux=(2e3, 1e5)
    )
    a = np.deg2rad(angle)
    turn = np.array([[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]])
    u, v = turn @ np.stack([field.x - 150, field.y - 150]) + np.array(shift)[:, None] + 150
    image = np.zeros((300, 310))
    for star in zip(u, v, 2 * field.flux, strict=True):
        if -20 < star[0] < 330 and -20 < star[1] < 320:
            skies.add(image, *star, skies.gaussian(3.6, 0.03))
    other = skies.Field(image, u, v, field.flux, field.profile, np.random.default_rng(6))
    new, ref = (
        Image(f.exposed(), np.zeros(f.image.shape, np.uint16), gain=2.0, read_noise=5.0, name=name)
        for f, name in ((field, "new"), (other, "ref"))
    )
    fakes = FakeOptions(n=30, images=1, bright=4.0, faint=-1.2, share_galaxies=0, share_stars=0, seed=3)
    done = zogyp.measure_efficiency(new, ref, EfficiencyOptions(threads=1, fakes=fakes, grid=grid))
    assert done.plain.summary["alignment"]["resampled"] == (angle > 0)
    assert not done.summary["zero_point_known"] and any("no zero point" in n for n in done.summary["notes"])
    judged = done.fakes[~column(done.fakes, "masked")]
    assert len(judged) > 20 and column(judged, "found").mean() > 0.9
    for sign in (1, -1):
        mine = judged[(column(judged, "sign") == sign) & column(judged, "found")]
        assert abs(np.median(mine["dx"])) < 0.1 and abs(np.median(mine["dy"])) < 0.1
        ratio = column(mine, "alpha") / column(mine, "true_flux")
        error = np.abs(column(mine, "alpha_err") / column(mine, "true_flux"))
        mean = np.average(ratio, weights=error**-2)
        assert mean == pytest.approx(1, abs=0.02 + 4 / np.sqrt((error**-2).sum()))


# ---------------------------------------------------------------- runs


def counted(monkeypatch):
    """Counts the subtractions with fakes from now on."""
    calls = []
    real = fakeruns.subtract
    monkeypatch.setattr(fakeruns, "subtract", lambda *a, **k: calls.append(1) or real(*a, **k))
    return calls


def test_finished_runs_are_not_done_again(pair, short, monkeypatch):
    first, folder = short
    calls = counted(monkeypatch)
    again = zogyp.measure_efficiency(pair.new, pair.ref, SHORT, directory=folder, name="a")
    assert not calls and same(again.fakes, first.fakes)
    (folder / "a_fakes" / "run_0002.ecsv").write_text("half a fi")
    again = zogyp.measure_efficiency(pair.new, pair.ref, SHORT, directory=folder, name="a")
    assert len(calls) == 1 and same(again.fakes, first.fakes)
    more = replace(SHORT, threads=2, fakes=replace(SHORT.fakes, images=3))
    third = zogyp.measure_efficiency(pair.new, pair.ref, more, directory=folder, name="a")
    assert len(calls) == 2 and same(third.fakes[: len(first.fakes)], first.fakes)


def test_changed_options_are_done_again(pair, short, tmp_path, monkeypatch):
    folder = short[1]
    run = folder / "a_fakes" / "run_0001.ecsv"
    digest = Table.read(run, format="ascii.ecsv").meta["digest"]
    assert finished(run, digest) is not None and finished(run, "another") is None
    (tmp_path / "a_fakes").mkdir()
    (tmp_path / "a_fakes" / "run_0001.ecsv").write_bytes(run.read_bytes())
    calls = counted(monkeypatch)
    one = replace(SHORT, fakes=replace(SHORT.fakes, images=1))
    zogyp.measure_efficiency(pair.new, pair.ref, one, directory=tmp_path, name="a")
    assert not calls
    other = replace(one, background_match=False)
    zogyp.measure_efficiency(pair.new, pair.ref, other, directory=tmp_path, name="a")
    assert len(calls) == 1
    brighter = replace(pair.new, data=pair.new.data + np.float32(1))
    zogyp.measure_efficiency(brighter, pair.ref, other, directory=tmp_path, name="a")
    assert len(calls) == 2


def test_a_table_of_a_run_comes_back_as_it_was(short, tmp_path):
    first, _ = short
    table = first.fakes.copy()
    table.meta["digest"] = "abc"
    write_table(tmp_path / "one.ecsv", table)
    assert same(finished(tmp_path / "one.ecsv", "abc"), table)
    assert finished(tmp_path / "none.ecsv", "abc") is None and finished(None, "abc") is None


def test_the_answer_does_not_depend_on_the_workers(pair, short):
    first, _ = short
    two = zogyp.measure_efficiency(pair.new, pair.ref, replace(SHORT, threads=2))
    assert same(two.fakes, first.fakes)
    with ThreadPoolExecutor(2) as pool:
        other = zogyp.measure_efficiency(pair.new, pair.ref, SHORT, executor=pool)
    assert same(other.fakes, first.fakes)
    skip = {"options", "notes", "scorr_mad"}
    for key in first.summary.keys() - skip:
        assert json.dumps(two.summary[key]) == json.dumps(first.summary[key]), key


def test_a_run_paints_the_same_twice(pair):
    image = blank()
    brush = Brush(skies.true_psf(skies.gaussian(3.0)), 2.0)
    spot = np.array([[30.0], [30.0], [1000.0]])
    run = fakeruns.Run(
        1, (image, image), PLAIN, (brush, brush), {}, (spot, spot), np.random.SeedSequence(4), 2.0, ""
    )
    once, again = run.painted(), run.painted()
    assert np.array_equal(once[0].data, again[0].data) and np.array_equal(once[1].data, again[1].data)
    assert not np.array_equal(once[0].data, once[1].data)  # each image has its own photons


def test_a_run_that_fails_is_named(pair, monkeypatch):
    def broken(*_, **__):
        raise OptionError("something", 1, "another")

    monkeypatch.setattr(fakeruns, "subtract", broken)
    with pytest.raises(ZogypError, match=r"run [12] of 2 with fakes failed: something must be another"):
        zogyp.measure_efficiency(pair.new, pair.ref, SHORT)
    monkeypatch.setattr(fakeruns, "subtract", lambda *_, **__: 1 / 0)
    with pytest.raises(ZogypError, match="unexpected ZeroDivisionError"):
        zogyp.measure_efficiency(pair.new, pair.ref, SHORT)


def test_known_objects_are_no_false_positives(pair, short, tmp_path):
    first, folder = short
    false = first.false_positives
    assert len(false) > 4
    some = false[:3]
    for names, file in ((("x", "y"), "pixels.csv"), (("ra", "dec"), "sky.ecsv")):
        some[list(names)].write(tmp_path / file)
        done = zogyp.measure_efficiency(
            pair.new, pair.ref, SHORT, directory=folder, name="a", known=tmp_path / file
        )
        assert len(done.false_positives) == len(false) - 3
        assert set(done.false_positives["id"]) == set(false["id"]) - set(some["id"])


@pytest.mark.parametrize(
    ("known", "error", "words"),
    [
        ("missing.csv", FileError, "missing.csv: not a table that can be read"),
        (Table({"a": [1.0]}), OptionError, r"known must be a table with columns x, y \[px\] or ra, dec"),
    ],
)
def test_known_objects_that_cannot_be_read(pair, known, error, words):
    with pytest.raises(error, match=words):
        zogyp.measure_efficiency(pair.new, pair.ref, SHORT, known=known)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"bright": -2.0}, "bright must be more than -1.5"),
        ({"share_galaxies": 0.6, "share_stars": 0.5}, "share_stars must be at most 0.4"),
        ({"n": 0}, "n must be at least 1"),
        ({"match_radius": 0.0}, "match_radius must be at least"),
    ],
)
def test_fakes_that_cannot_be(change, words):
    with pytest.raises(OptionError, match=words):
        FakeOptions(**change)


def test_the_command(pair, tmp_path, capsys, monkeypatch):
    """Flags reach the fakes; JSON is all that is printed; then the table for people, and the picture."""
    monkeypatch.chdir(tmp_path)
    write_pair(pair, tmp_path)
    words = ["efficiency", "new.fits", "ref.fits", "-o", "out", "--threads", "1"]
    words += ["--fakes-n", "8", "--fakes-images", "2", "--fakes-seed", "2"]
    assert main([*words, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["n_fakes"] == 16 and told["options"]["fakes"]["seed"] == 2
    assert set(told["files"]) == {"fakes", "efficiency", "picture"}
    assert (tmp_path / "out" / "new_efficiency.png").read_bytes()[:4] == b"\x89PNG"
    assert len(list((tmp_path / "out" / "new_fakes").glob("run_*.ecsv"))) == 2
    assert main([*words, "--no-picture"]) == 0
    printed = capsys.readouterr().out
    assert all(word in printed for word in ("field", "m50", "figure of merit", "new_fakes.ecsv"))
