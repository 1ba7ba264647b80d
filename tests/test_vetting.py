"""Candidates are told apart: real changes get a high p_real, each kind of defect a low one and its word."""

from __future__ import annotations

import json
from dataclasses import replace
from importlib.resources import files

import numpy as np
import pytest
from astropy.table import Table

from zogyp.core.hypotheses import NAMES
from zogyp.options import SubtractOptions
from zogyp.realness import FEATURES, features, p_real, probability, terms
from zogyp.simulate import psf_stamp, simulate
from zogyp.sky import Side, Sky
from zogyp.subtraction import subtract
from zogyp.vetting import DESCRIPTIONS

SKY = Sky(
    new=Side(fwhm=3.8, sky=800.0),
    ref=Side(fwhm=3.2, sky=600.0),
    shape=(640, 700),
    n_stars=350,
    n_galaxies=20,
    n_transients=36,
    transient_min=2500,
    transient_max=30000,
)
ONE = SubtractOptions(threads=1)


def star(side, x, y, flux):
    """A star's light on a plane of the sky's size, without noise."""
    column, row, half = round(x), round(y), 15
    plane = np.zeros(SKY.shape)
    stamp = psf_stamp(side, SKY.shape, (x, y), 2 * half + 1, (x - column, y - row))
    plane[row - half : row + half + 1, column - half : column + half + 1] = flux * stamp
    return plane


@pytest.fixture(scope="module")
def spoilt():
    """A sky with transients, and with defects at known places."""
    pair = simulate(SKY, 12)
    new, ref = (image.data.astype(np.float64) for image in (pair.new, pair.ref))
    stars = pair.truth[(pair.truth["kind"] == "star") & (pair.truth["flux_new"] > 2e4)]
    x, y = np.asarray(stars["x"]), np.asarray(stars["y"])
    inside = (x > 60) & (y > 60) & (x < 640) & (y < 580)
    moved = stars[inside][np.asarray(stars["flux_new"])[inside] < 1e5][:6]
    for row in moved:
        at, flux = (float(row["x"]), float(row["y"])), float(row["flux_new"])
        new += star(SKY.new, at[0] + 1.5, at[1] + 0.8, flux) - star(SKY.new, *at, flux)
    rng = np.random.default_rng(3)
    pixels = rng.integers(60, 580, (12, 2))
    for i, (row, column) in enumerate(pixels):
        (new if i % 2 == 0 else ref)[row, column] += 1500.0
    options = replace(ONE, detect=replace(ONE.detect, cosmic_rays=False))
    images = [
        replace(image, data=data.astype(np.float32)) for image, data in ((pair.new, new), (pair.ref, ref))
    ]
    table = subtract(*images, options).transients
    return pair, table, {"moved": np.column_stack([moved["x"], moved["y"]]), "pixels": pixels[:, ::-1]}


def near(table, places, radius):
    """Rows within a radius of places."""
    distance = np.hypot(
        np.asarray(table["x"])[:, None] - places[:, 0], np.asarray(table["y"])[:, None] - places[:, 1]
    )
    return table[distance.min(axis=1) < radius]


def test_the_table_says_what_its_columns_are(spoilt):
    _, table, _ = spoilt
    for name, text in DESCRIPTIONS.items():
        assert table[name].description == text
        assert np.isfinite(table[name]).all()
    assert ((table["p_real"] >= 0) & (table["p_real"] <= 1)).all()


def test_real_changes_are_likely(spoilt):
    pair, table, _ = spoilt
    truth = pair.transients[np.abs(pair.transients["snr"]) > 8]
    rows = near(table, np.column_stack([truth["x"], truth["y"]]), 1.0)
    assert len(rows) >= 0.9 * len(truth)
    # of 25 and more at most a few may lie on a star's core or beside a defect
    assert np.mean(rows["p_real"] > 0.5) > 0.9
    assert np.median(rows["p_real"]) > 0.95


def test_single_pixels_are_unlikely_and_named_for_their_image(spoilt):
    _, table, places = spoilt
    for which, word in ((0, "pixel_new"), (1, "pixel_ref")):
        rows = near(table, places["pixels"][which::2], 1.5)
        assert len(rows) >= 4
        assert (rows["p_real"] < 0.5).all()
        named = [word in str(flags).split(",") for flags in rows["flags"]]
        assert np.mean(named) > 0.7


def test_moved_stars_are_unlikely_and_named(spoilt):
    _, table, places = spoilt
    rows = near(table, places["moved"], 5.0)
    assert len(rows) >= 8  # each has two peaks
    assert np.mean(rows["p_real"] < 0.5) > 0.8
    assert np.mean([{"moved", "dipole"} & set(str(f).split(",")) != set() for f in rows["flags"]]) > 0.8


def test_a_dark_pixel_of_the_reference_is_a_hole():
    bright = Side(fwhm=3.2, sky=3000.0)
    pair = simulate(replace(SKY, ref=bright, n_transients=0, n_stars=150), 5)
    ref = pair.ref.data.copy()
    ref[300, 311] = 0.0  # dead: 65 times the noise below the sky
    table = subtract(pair.new, replace(pair.ref, data=ref), ONE).transients
    rows = near(table, np.array([[311.0, 300.0]]), 2.0)
    assert len(rows) == 1
    assert rows["sign"][0] == 1
    assert "hole_ref" in str(rows["flags"][0]).split(",")
    assert rows["p_real"][0] < 0.3


def test_an_empty_table_has_all_columns():
    quiet = replace(SKY, n_transients=0, n_stars=120, n_galaxies=0, shape=(200, 220))
    pair = simulate(quiet, 2)
    options = replace(ONE, transients=replace(ONE.transients, threshold=30))
    table = subtract(pair.new, pair.ref, options).transients
    assert len(table) == 0
    assert set(DESCRIPTIONS) <= set(table.colnames)


def test_the_model_in_the_package_is_whole():
    model = json.loads(files("zogyp").joinpath("data/p_real.json").read_text())
    assert tuple(model["features"]) == FEATURES
    assert len(model["mean"]) == len(model["scale"]) == len(FEATURES)
    assert len(model["weights"]) == 3 * len(FEATURES) - len(NAMES)
    told = model["made"]["left_out"]
    assert told["area_under_roc"] > 0.95
    assert told["n"] > 500


def test_its_probabilities_are_calibrated_on_skies_left_out():
    """Of the candidates that got a probability that share was real, in the file's own record."""
    told = json.loads(files("zogyp").joinpath("data/p_real.json").read_text())["made"]["left_out"]
    for expected, real, n in told["reliability"]:
        if n >= 20:
            # a binomial share; scenes differ among each other by as much again
            assert abs(real - expected) < 4 * np.sqrt(0.25 / n) + 0.05, (expected, real, n)


def test_the_terms_are_a_constant_features_squares_and_products():
    n = len(FEATURES)
    raw = np.arange(n, dtype=float)[None] / 4 + 0.5
    made = terms(raw, np.full(n, 0.5), np.ones(n))
    z = np.arange(n) / 4
    squares = [z[i] ** 2 for i, name in enumerate(FEATURES) if name not in NAMES]
    np.testing.assert_allclose(made[0], [1, *z, *squares, *(z[0] * z[1:])])
    assert np.abs(terms(raw * 1e9, np.zeros(n), np.ones(n))).max() == 16.0  # bounded at four deviations
    assert probability(np.array([[1.0, 2.0]]), np.array([0.0, 0.5]))[0] == pytest.approx(1 / (1 + np.exp(-1)))


def test_a_clear_source_is_likely_and_a_pixel_is_not():
    row = {
        "snr": 20.0, "chi2": 1.0, "lr_delta_new": -120.0, "lr_delta_ref": -120.0, "lr_extended": -12.0,
        "lr_dipole": -80.0, "lr_ring": -100.0, "excess": 1.1, "change": 100.0, "partner": 0.0, "shape": 0.0,
        "saturated": 5.0, "company": 0.0, "flags": "",
    }  # fmt: skip
    pixel = row | {"lr_delta_new": 90.0, "shape": -6.0, "chi2": 6.0, "lr_extended": -60.0}
    table = Table(rows=[row, pixel])
    assert features(table).shape == (2, len(FEATURES))
    likely, unlikely = p_real(table)
    assert likely > 0.95
    assert unlikely < 0.05
