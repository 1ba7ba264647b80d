"""Many images against one reference: each result is that of its own subtraction, and failures stop none."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from astropy.io import fits

import zogyp
from zogyp import Reference, SubtractOptions
from zogyp.cli import main
from zogyp.errors import OptionError
from zogyp.simulate import simulate, write_pair
from zogyp.sky import Sky
from zogyp.survey.series import subtract_series

SKY = Sky(shape=(300, 320), n_stars=150, n_galaxies=4, n_transients=4)
OPTIONS = SubtractOptions(threads=2)


@pytest.fixture(scope="module")
def night(tmp_path_factory):
    """Two exposures of one field, the second shifted, a broken file, and the reference."""
    folder = tmp_path_factory.mktemp("night")
    made = simulate(SKY, 3)
    write_pair(made, folder)
    (folder / "new.fits").rename(folder / "first.fits")
    other = simulate(replace(SKY, shift=(6.3, -4.2)), 3)
    write_pair(other, folder / "moved")
    (folder / "moved" / "ref.fits").rename(folder / "second.fits")  # the sky as the reference has it, moved
    (folder / "broken.fits").write_bytes((folder / "first.fits").read_bytes()[:9000])
    return folder


def test_each_result_is_that_of_its_own_subtraction(night):
    known = Reference(night / "ref.fits", OPTIONS)
    for name in ("first.fits", "second.fits", "first.fits"):
        one = zogyp.subtract(night / name, night / "ref.fits", OPTIONS)
        again = zogyp.subtract(night / name, known, OPTIONS)
        for plane in ("D", "S", "Scorr", "alpha", "alpha_err", "mask"):
            np.testing.assert_array_equal(getattr(again, plane), getattr(one, plane), err_msg=plane)
        assert again.summary["certificate"] == one.summary["certificate"]
    assert one.summary["alignment"]["resampled"] is False


def test_a_failure_stops_none(night):
    written = []
    outcomes = subtract_series(
        [night / n for n in ("broken.fits", "first.fits")],
        night / "ref.fits",
        OPTIONS,
        write=lambda result: written.append(result.new.name) or {},
    )
    assert [o.error is None for o in outcomes] == [False, True]
    assert "broken" in outcomes[0].error and written == ["first.fits"]
    assert outcomes[1].figures["n_transients"] >= 1


def test_images_of_one_name_are_refused(night):
    with pytest.raises(OptionError, match="first"):
        subtract_series([night / "first.fits"] * 2, night / "ref.fits", write=lambda result: {})


def test_the_command_takes_many_images(night, tmp_path, capsys):
    (night / "list.txt").write_text(f"{night / 'first.fits'}  # good\n{night / 'broken.fits'}\n")
    common = ["--no-report", "-o", str(tmp_path), "--threads", "2"]
    images = [str(night / n) for n in ("first.fits", "second.fits", "ref.fits")]
    assert main(["subtract", *images, *common, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["n_failed"] == 0 and [i["error"] for i in told["images"]] == [None, None]
    assert {p.name for p in tmp_path.glob("*_Scorr.fits")} == {"first_Scorr.fits", "second_Scorr.fits"}
    assert fits.getheader(tmp_path / "second_D.fits")["NAXIS1"] == SKY.shape[1]
    assert main(["subtract", f"@{night / 'list.txt'}", images[-1], *common]) == 1
    shown = capsys.readouterr()
    assert "good" in shown.out and "failed" in shown.out and "1 of 2" in shown.err
    assert main(["subtract", *images, *common, "--name", "night"]) == 1
    assert "name" in capsys.readouterr().err


def test_a_reference_measured_in_another_way_is_refused(night):
    known = Reference(night / "ref.fits", OPTIONS)
    other = replace(OPTIONS, detect=replace(OPTIONS.detect, threshold=9.0))
    with pytest.raises(OptionError, match="detect"):
        zogyp.subtract(night / "first.fits", known, other)
