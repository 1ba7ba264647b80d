"""The figures of a subtraction: plain numbers that JSON can hold, and right ones."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

import zogyp
from zogyp.simulate import simulate
from zogyp.sky import Sky
from zogyp.summary import neighbour_correlation

KEYS = [
    "version",
    "inputs",
    "options",
    "F_n",
    "F_r",
    "F_r_err",
    "flux_order",
    "sigma_n",
    "sigma_r",
    "registration",
    "scorr_mad",
    "scorr_std",
    "neighbour_corr",
    "limiting_flux",
    "limiting_mag",
    "n_transients",
    "masked_fraction",
    "notes",
    "timings",
    "peak_memory_mb",
]
FIGURES = [
    "name",
    "shape",
    "gain",
    "read_noise",
    "saturation",
    "sigma",
    "background",
    "fwhm",
    "n_stars",
    "psf_chi2",
]


def test_white_noise_has_no_correlation_and_smooth_noise_that_of_its_kernel():
    white = np.random.default_rng(1).normal(size=(600, 600)).astype(np.float32)
    assert neighbour_correlation(white) == pytest.approx(0, abs=0.008)  # 4 / sqrt(2 x 360,000)
    smooth = gaussian_filter(white, 1.0, mode="wrap")
    # of a Gaussian kernel: exp(-1 / (4 s²))
    assert neighbour_correlation(smooth / smooth.std()) == pytest.approx(np.exp(-0.25), abs=0.01)


def test_peaks_and_nan_do_not_count():
    white = np.random.default_rng(2).normal(size=(600, 600)).astype(np.float32)
    white[100:130, 100:130] = 50
    white[300:350] = np.nan
    assert neighbour_correlation(white) == pytest.approx(0, abs=0.01)
    assert neighbour_correlation(np.zeros((9, 9), np.float32)) == 0
    assert np.isnan(neighbour_correlation(np.full((9, 9), np.nan, np.float32)))


@pytest.fixture(scope="module")
def pair():
    return simulate(Sky(shape=(320, 400), n_stars=150, n_galaxies=5, n_transients=6, flux_max=3e5), seed=4)


@pytest.fixture(scope="module")
def result(pair):
    return zogyp.subtract(pair.new, pair.ref, zogyp.SubtractOptions(threads=1))


def test_json_holds_it_and_gives_it_back(result):
    text = json.dumps(result.summary, allow_nan=False)
    assert json.loads(text) == json.loads(json.dumps(result.summary))


def test_every_figure_is_there(result):
    assert set(KEYS) <= set(result.summary)
    for side in ("new", "ref"):
        assert set(FIGURES) <= set(result.summary["inputs"][side])
    assert set(result.summary["registration"]) >= {"n_matched", "rms_x", "rms_y", "dx", "dy"}
    assert list(result.summary["timings"])[:4] == ["read", "align", "measure", "match"]
    costs = result.summary["costs"]
    assert list(costs) == list(result.summary["timings"])
    # no more CPU seconds than the cores have, but for the clocks' steps of ten milliseconds
    cores = os.cpu_count()
    assert all(0 <= c["cpu"] <= cores * result.summary["timings"][k] + 0.02 for k, c in costs.items())
    peaks = [c["peak_mb"] for c in costs.values()]
    assert peaks[0] > 0 and peaks == sorted(peaks)


def test_alignment_tells_that_the_pair_shares_its_pixels(result):
    told = result.summary["alignment"]
    assert told["resampled"] is False
    assert told["n_matched"] >= told["n_required"]
    # the simulated pair lies on one grid: half a hundred stars of 0.05 px and better
    assert (told["scale"], told["rotation"]) == (pytest.approx(1, abs=1e-3), pytest.approx(0, abs=0.05))
    assert np.array(told["transform"]["matrix"])[:, 2] == pytest.approx([0, 0], abs=0.1)
    assert not told["mirrored"]


def test_figures_agree_with_the_truth_and_with_the_planes(pair, result):
    s = result.summary
    sky = pair.sky
    assert s["version"] == zogyp.__version__
    assert s["F_n"] == 1
    # about a hundred stars of half a per cent
    assert s["F_r"] == pytest.approx(sky.flux_ratio, rel=0.005)
    assert s["F_r_err"] < 0.005 * s["F_r"]
    for name, side, seen in (("new", sky.new, s["sigma_n"]), ("ref", sky.ref, s["sigma_r"])):
        assert seen == pytest.approx(
            np.sqrt(side.sky / side.gain + (side.read_noise / side.gain) ** 2), rel=0.03
        )
        figures = s["inputs"][name]
        assert figures["background"] == pytest.approx(side.sky, rel=0.01)
        assert figures["gain"] == side.gain
        assert figures["fwhm"] == pytest.approx(side.fwhm, rel=0.1)
        assert figures["shape"] == [320, 400]
    good = result.Scorr[np.isfinite(result.Scorr)]
    assert s["scorr_std"] == pytest.approx(np.std(good.astype(float)), rel=1e-6)
    assert s["scorr_mad"] == pytest.approx(1.4826 * np.median(np.abs(good - np.median(good))), rel=1e-3)
    assert s["masked_fraction"] == pytest.approx(1 - good.size / result.Scorr.size, abs=1e-9)
    assert s["n_transients"] == len(result.transients)
    assert s["limiting_flux"] == pytest.approx(5 * np.nanmedian(result.alpha_err), rel=1e-5)
    assert s["limiting_mag"] == pytest.approx(25 - 2.5 * np.log10(s["limiting_flux"]))


def test_identical_images_say_so(pair):
    summary = zogyp.subtract(pair.new, pair.new, zogyp.SubtractOptions(threads=1)).summary
    assert any("identical" in note for note in summary["notes"])
    assert summary["scorr_std"] == 0
    json.dumps(summary, allow_nan=False)
