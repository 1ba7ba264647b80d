"""The certificate: figures of a sound subtraction are sound, and each defect is named for what it is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from zogyp.certificate import Reason, verdict
from zogyp.options import CertificateOptions, NoiseOptions, SubtractOptions
from zogyp.simulate import simulate
from zogyp.sky import Side, Sky
from zogyp.subtraction import subtract

SKY = Sky(
    new=Side(fwhm=3.6, saturation=30000),
    ref=Side(fwhm=3.1, saturation=40000),
    shape=(620, 700),
    n_stars=900,
    flux_max=3e6,
    n_galaxies=60,
    n_transients=10,
)
ONE = SubtractOptions(threads=1)


@pytest.fixture(scope="module")
def pair():
    return simulate(SKY, 6)


@pytest.fixture(scope="module")
def sound(pair):
    return subtract(pair.new, pair.ref, ONE).summary["certificate"]


def reasons(certificate):
    return {Reason(row["reason"]) for row in certificate["reasons"]}


def test_a_sound_subtraction_is_good(sound):
    assert sound["verdict"] == "good"
    assert sound["reasons"] == []


def test_its_figures_are_those_of_noise(sound):
    sky = sound["sky"]
    assert abs(sky["spread"] - 1) < 4 * sky["error"]
    assert 0.002 < sky["error"] < 0.02
    assert 0.3 < sky["share"] < 0.95
    assert sum(row["n"] for row in sound["stars"]) >= 30
    for row in sound["stars"]:
        assert row["flux"][0] >= row["flux"][1]
        assert row["mag"][0] <= row["mag"][1]
        assert abs(row["spread"] - 1) < 4 * row["error"]
    assert sound["galaxies"]["n"] > 5
    assert sound["saturated"]["n"] > 100
    assert abs(sound["whiteness"]["neighbours"]) < 0.02
    assert abs(sound["whiteness"]["largest"]) < 0.03


def test_peaks_in_blank_sky_are_those_of_noise_and_elsewhere_transients_come_on_top(sound):
    four, five = sound["peaks"]["4"], sound["peaks"]["5"]
    both = four["sky"]["positive"] + four["sky"]["negative"]
    expected = 2 * four["sky"]["expected"]
    # transients on blank sky make some of them; of noise a Poisson number
    assert expected - 4 * np.sqrt(expected) < both < expected + 4 * np.sqrt(expected) + 10
    assert five["all"]["positive"] + five["all"]["negative"] >= 8
    assert five["all"]["expected"] < 1


def test_noise_that_is_not_counted_is_named(pair):
    variance = np.full(pair.new.shape, 0.25 * SKY.new.sky / SKY.new.gain, np.float32)
    blind = replace(pair.new, variance=variance)
    told = subtract(blind, replace(pair.ref, variance=variance), ONE).summary["certificate"]
    assert told["verdict"] == "doubtful"
    assert Reason.UNDERESTIMATED in reasons(told)
    assert Reason.PEAKS in reasons(told)
    loud = replace(pair.new, variance=16 * variance), replace(pair.ref, variance=16 * variance)
    assert Reason.OVERESTIMATED in reasons(subtract(*loud, ONE).summary["certificate"])


def test_a_wrong_psf_is_named(pair):
    """Stars widened in one image only where they are bright, and no noise counted for it."""
    options = replace(ONE, noise=NoiseOptions(photons=False, psf=False, stars=False, flux_ratio=False))
    told = subtract(pair.new, pair.ref, options).summary["certificate"]
    assert Reason.PSF in reasons(told)
    assert told["stars"][0]["spread"] > 2
    assert abs(told["sky"]["spread"] - 1) < 0.05


def test_the_same_image_twice_is_named(pair):
    told = subtract(pair.new, pair.new, ONE).summary["certificate"]
    assert Reason.IDENTICAL in reasons(told)


def summary(**changed):
    """Figures of a good subtraction, with some that are not."""
    figures = {
        "masked_fraction": 0.1,
        "scorr_std": 1.0,
        "registration": {"n_matched": 100, "rms_x": 0.02, "rms_y": 0.02},
        "inputs": {"new": {"fwhm": 3.0}, "ref": {"fwhm": 4.0}},
        "F_r": 2.0,
        "F_r_err": 0.001,
    }
    return figures | changed


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"masked_fraction": 0.8}, Reason.OVERLAP),
        ({"masked_fraction": 1.0}, Reason.NOTHING),
        ({"registration": {"n_matched": 3, "rms_x": 0.02, "rms_y": 0.02}}, Reason.STARS),
        ({"registration": {"n_matched": 100, "rms_x": 0.5, "rms_y": 0.02}}, Reason.REGISTRATION),
        ({"F_r_err": 0.1}, Reason.FLUX),
    ],
)
def test_limits_decide(sound, changed, reason):
    options = CertificateOptions()
    assert verdict(sound, summary(), options)["verdict"] == "good"
    told = verdict(sound, summary(**changed), options)
    assert reasons(told) == {reason}


def test_a_coloured_difference_is_named(sound):
    coloured = sound | {"whiteness": {"neighbours": -0.3, "largest": -0.3, "lag": [0, 1]}}
    told = verdict(coloured, summary(), CertificateOptions())
    assert reasons(told) == {Reason.COLOURED}
    assert verdict(coloured, summary(), CertificateOptions(whiteness=0.5))["verdict"] == "good"
