"""`zogyp coadd` as a user runs it: what may be named, what it prints, where, and how it ends."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

import stacks
import zogyp
from stacks import Take
from zogyp.cli import main

SHAPE = (120, 128)
TAKES = (
    Take(2.6, 200, 1.0, 41),
    Take(3.0, 300, 0.8, 42, (3.2, -2.1)),
    Take(2.4, 150, 1.2, 43, (-2.7, 3.3)),
)
QUICK = ["--threads", "1", "--psf-order", "0"]


def one_line(text):
    """Whether a text is a single line that starts with the program's name."""
    return text.startswith("zogyp: ") and text.count("\n") == 1 and text.endswith("\n")


def same_pixels(path, other):
    """Whether two coadds hold the same R."""
    return np.array_equal(fits.getdata(path), fits.getdata(other), equal_nan=True)


@pytest.fixture(scope="module")
def field():
    return stacks.random_field(9, SHAPE, 22, apart=12, flux=(5e3, 6e4))


@pytest.fixture(scope="module")
def night(field, tmp_path_factory):
    """A folder of three exposures, and of what lies about in such folders."""
    folder = tmp_path_factory.mktemp("a night") / "exposures"
    folder.mkdir()
    for i, take in enumerate(TAKES):
        field.write(take, folder / f"e{i}.fits")
    (folder / "notes.txt").write_text("clouds after midnight")
    (folder / ".hidden.fits").write_text("nothing")
    before = {p: p.read_bytes() for p in folder.iterdir()}
    yield folder
    assert {p: p.read_bytes() for p in folder.iterdir()} == before, "inputs are only read"


@pytest.fixture(scope="module")
def ran(night, tmp_path_factory):
    """`zogyp coadd FOLDER --json` as a process of its own, and its file."""
    out = tmp_path_factory.mktemp("out") / "sum.fits"
    command = [sys.executable, "-m", "zogyp", "coadd", str(night), "-o", str(out), "--json", *QUICK]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    return done, out


def test_json_is_json_and_nothing_else(ran, night):
    done, out = ran
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert done.stderr == ""
    assert told["method"] == "proper" and told["n_exposures"] == len(TAKES)
    assert told["version"] == zogyp.__version__ and told["files"] == {"coadd": str(out)}
    assert told["left_out"] == told["duplicates"] == []
    assert told["options"]["threads"] == 1 and told["options"]["psf"]["order"] == 0
    header = fits.getheader(out)
    assert header["NCOMBINE"] == len(TAKES) and header["F_R"] == pytest.approx(told["F_R"], rel=1e-6)
    F_R = np.sqrt(sum(t.depth for t in TAKES))
    assert told["F_R"] == pytest.approx(F_R, rel=0.03)  # noise to some per cent on so little sky
    assert [p.name for p in out.parent.iterdir()] == ["sum.fits"]


def test_a_folder_stands_for_its_exposures_by_name(ran, night):
    with fits.open(ran[1]) as hdus:
        assert [Path(f).name for f in hdus["INPUTS"].data["file"]] == ["e0.fits", "e1.fits", "e2.fits"]


def test_a_list_and_a_quoted_pattern_are_told_on_paper(ran, night, tmp_path, monkeypatch, capsys):
    """One after the other, the second in this folder by its default name; nothing twice."""
    monkeypatch.chdir(tmp_path)
    listed = tmp_path / "list.txt"
    listed.write_text(f"# the night\n{night / 'e0.fits'}\n\n{night / 'e1.fits'}  # clouds\n")
    assert main(["coadd", f"@{listed}", str(night / "e[12].fits"), *QUICK]) == 0
    out, err = capsys.readouterr()
    assert same_pixels("coadd.fits", ran[1])
    for word in ("e0.fits", "e1.fits", "e2.fits", "proper, 3 exposures", "seeing", "F_R", "coadd.fits"):
        assert word in out
    assert "\x1b" not in out and out.count("e1.fits") == 1
    assert err == f"zogyp: listed twice, counted once: {night / 'e1.fits'}\n"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["coadd.fits", "list.txt"]


def test_what_is_left_out_is_named_on_stderr(night, tmp_path, capsys):
    out, cut = tmp_path / "sum.fits", tmp_path / "cut.fits"
    cut.write_bytes((night / "e1.fits").read_bytes()[:30000])
    tokens = ["coadd", str(night / "e0.fits"), str(cut), str(tmp_path / "missing.fits"), "-o", str(out)]
    assert main([*tokens, *QUICK]) == 0
    told, err = capsys.readouterr()
    lines = err.splitlines()
    assert len(lines) == 2 and all(line.startswith("zogyp: left out: ") for line in lines)
    assert "cut.fits" in lines[0] and "truncated" in lines[0] and "missing.fits" in lines[1]
    assert "cut.fits" not in told and "proper, 1 exposures" in told
    assert main([*tokens, "--strict", *QUICK]) == 1
    told, err = capsys.readouterr()
    assert told == "" and one_line(err) and "2 of 3 exposures" in err


def test_median_by_flag(night, tmp_path, capsys):
    out = tmp_path / "median.fits"
    assert main(["coadd", str(night), "-o", str(out), "--method", "median", *QUICK]) == 0
    told, _ = capsys.readouterr()
    assert "median, 3 exposures" in told and "F_R" not in told
    with fits.open(out) as hdus:
        assert hdus[0].header["COADDMET"] == "median" and "PSF" not in [h.name for h in hdus]
        sky = hdus[0].data[np.isfinite(hdus[0].data)]
    assert abs(np.median(sky)) < TAKES[0].sigma


def test_added_to_in_place(night, ran, tmp_path, capsys):
    """Two in silence, then the third: the file that is added to is replaced, its copy is not."""
    two, three = tmp_path / "two.fits", tmp_path / "three.fits"
    two.write_text("what was there is replaced")
    first = [str(night / "e0.fits"), str(night / "e1.fits")]
    assert main(["coadd", *first, "-o", str(two), "--quiet", *QUICK]) == 0
    assert capsys.readouterr() == ("", ""), "quiet is silent"
    shutil.copy(two, three)
    before = two.read_bytes()
    assert main(["coadd", str(night / "e2.fits"), "--add-to", str(three), *QUICK]) == 0
    assert "three.fits" in capsys.readouterr().out
    assert two.read_bytes() == before
    with fits.open(three) as hdus:
        assert hdus[0].header["NCOMBINE"] == 3
        assert [Path(f).name for f in hdus["INPUTS"].data["file"]] == ["e0.fits", "e1.fits", "e2.fits"]
        all_at_once = fits.getheader(ran[1])
        assert hdus[0].header["F_R"] == pytest.approx(all_at_once["F_R"], rel=0.01)  # two estimates of noise


@pytest.mark.parametrize(
    ("tokens", "said"),
    [
        (["none.fits"], "none.fits"),
        (["text.fits", "none.fits"], "text.fits"),
        (["@none.txt"], "none.txt"),
        (["x*.fits"], "no file matches"),
        (["empty"], "no FITS file"),
        ([], "images"),
        (["text.fits", "--add-to", "text.fits"], "text.fits"),
        (["text.fits", "--tile", "3"], "--tile must be"),
        (["text.fits", "--memory", "much"], "--memory"),
        (["text.fits", "--scratch", "no/where"], "no/where"),
    ],
)
def test_an_error_is_exit_1_and_one_line(tokens, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("text.fits").write_text("not FITS")
    Path("empty").mkdir()
    assert main(["coadd", *tokens, "--json", *QUICK]) == 1
    out, err = capsys.readouterr()
    assert out == "" and one_line(err), err
    assert said in err
    assert not Path("coadd.fits").exists()


@pytest.mark.parametrize(
    ("tokens", "said"),
    [
        (["a.fits", "--method", "sum"], "--method"),
        (["a.fits", "--flub"], "--flub"),
        (["a.fits", "--reject-threshold", "x"], "--reject-threshold"),
    ],
)
def test_wrong_usage_is_exit_2_and_one_line(tokens, said, capsys):
    assert main(["coadd", *tokens]) == 2
    out, err = capsys.readouterr()
    assert out == "" and one_line(err) and said in err


def test_an_exposure_is_never_overwritten(night, capsys):
    """Neither by its name nor by another one; the fixture sees to its bytes."""
    for name in (night / "e0.fits", night / ".." / night.name / "e0.fits"):
        assert main(["coadd", str(night / "e0.fits"), "-o", str(name), *QUICK]) == 1
        out, err = capsys.readouterr()
        assert out == "" and one_line(err) and "output must be" in err


def test_neither_is_the_grid_nor_what_cannot_be_used(night, tmp_path, capsys):
    bad, grid = tmp_path / "text.fits", tmp_path / "grid.fits"
    bad.write_text("not FITS")
    shutil.copy(night / "e1.fits", grid)
    for path in (bad, grid):
        before = path.read_bytes()
        tokens = ["coadd", str(night / "e0.fits"), str(bad), "--onto", str(grid), "-o", str(path)]
        assert main([*tokens, *QUICK]) == 1
        out, err = capsys.readouterr()
        assert out == "" and one_line(err) and "output must be" in err
        assert path.read_bytes() == before


def test_a_coadd_among_the_exposures_is_not_added_to_itself(night, ran, tmp_path, capsys):
    for i in range(3):
        shutil.copy(night / f"e{i}.fits", tmp_path)
    shutil.copy(ran[1], tmp_path / "coadd.fits")
    out = tmp_path / "again.fits"
    assert main(["coadd", str(tmp_path), "-o", str(out), *QUICK]) == 0
    assert fits.getheader(out)["NCOMBINE"] == 3 and "coadd.fits" in capsys.readouterr().err
    assert same_pixels(out, ran[1])


def test_help_names_what_may_be_given(capsys):
    assert main(["coadd", "--help"]) == 0
    told = " ".join(capsys.readouterr().out.split())
    for word in ("--onto", "--add-to", "--remove-from", "--method", "--scratch", "@LIST.txt", "folder"):
        assert word in told
