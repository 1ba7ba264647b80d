"""The program itself: what it prints, where, and how it ends."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table

from zogyp import __version__
from zogyp.cli import main
from zogyp.demo import match
from zogyp.psf_files import read_psf
from zogyp.simulate import simulate, write_pair
from zogyp.sky import Sky

SMALL = Sky(shape=(400, 420), n_stars=150, n_galaxies=5, n_transients=6, transient_min=4000.0)
PRODUCTS = {"D", "S", "Scorr", "Fpsf", "Fpsferr", "mask", "psf", "transients", "summary", "report"}


def run(*tokens, cwd=None, **more):
    """`python -m zogyp` as a user runs it, away from a terminal."""
    command = [sys.executable, "-m", "zogyp", *map(str, tokens)]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, timeout=300, check=False, **more)


def one_line(text):
    """Whether a text is a single line that starts with the program's name."""
    return text.startswith("zogyp: ") and text.count("\n") == 1 and text.endswith("\n")


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """A small simulated pair in files."""
    folder = tmp_path_factory.mktemp("pair with space")
    made = simulate(SMALL, seed=3)
    write_pair(made, folder)
    return folder, made


@pytest.fixture(scope="module")
def subtracted(pair, tmp_path_factory):
    """The program run on the pair, and the folder of its results."""
    folder, _ = pair
    out = tmp_path_factory.mktemp("out") / "deep" / "er"
    done = run("subtract", folder / "new.fits", folder / "ref.fits", "-o", out, "--json")
    return done, out


def test_subtract_prints_its_summary_as_json_and_nothing_else(subtracted):
    done, out = subtracted
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert summary == json.loads((out / "new_summary.json").read_text()) | {"files": summary["files"]}
    assert summary["version"] == __version__
    assert summary["options"]["tile"] == 1024
    assert "Traceback" not in done.stderr


def test_subtract_leaves_all_products(subtracted, pair):
    done, out = subtracted
    files = json.loads(done.stdout)["files"]
    assert {p.name.removeprefix("new_").split(".")[0] for p in out.iterdir()} == PRODUCTS
    assert {Path(p) for p in files.values()} == set(out.iterdir())
    for name in ("D", "S", "Scorr", "Fpsf", "Fpsferr"):
        data = fits.getdata(out / f"new_{name}.fits")
        assert data.shape == SMALL.shape
        assert data.dtype.newbyteorder("=") == np.float32


def test_subtract_finds_the_transients(subtracted, pair):
    _, out = subtracted
    found = Table.read(out / "new_transients.ecsv")
    bright = pair[1].transients
    bright = bright[np.abs(bright["snr"]) > 10]  # beyond doubt: five sigma above the threshold
    matches, _ = match(bright, found)
    assert len(bright) >= 4
    assert all(matches["found"])


def test_subtract_on_paper(pair, tmp_path, monkeypatch, capsys):
    new, ref = (str(pair[0] / f"{n}.fits") for n in ("new", "ref"))
    monkeypatch.chdir(tmp_path)
    assert main(["subtract", new, ref, "--name", "night 1", "--no-report"]) == 0
    text = capsys.readouterr().out
    for word in ("new.fits - ref.fits", "seeing", "flux ratio", "S_corr", "limiting flux", "transients"):
        assert word in text
    # the default folder, the name asked for, paths in one piece
    for product in PRODUCTS - {"report"}:
        assert f"Zoutput/night 1_{product}." in text
    assert (tmp_path / "Zoutput" / "night 1_Scorr.fits").is_file()
    assert not list(tmp_path.rglob("*report*"))
    assert "\x1b" not in text


def test_subtract_takes_flags_over_a_file(pair, tmp_path, capsys):
    config = tmp_path / "c.toml"
    config.write_text("tile = 256\nthreads = 1\n[transients]\nthreshold = 8.0\n")
    images = [str(pair[0] / f"{n}.fits") for n in ("new", "ref")]
    tokens = ["subtract", *images, "-o", str(tmp_path), "--no-report", "--json", "--quiet", "--tile", "512"]
    assert main([*tokens, "--config", str(config)]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    options = json.loads(out)["options"]
    assert (options["tile"], options["threads"], options["transients"]["threshold"]) == (512, 1, 8.0)


def test_subtract_of_what_is_not_there(tmp_path, pair):
    done = run("subtract", tmp_path / "no.fits", pair[0] / "ref.fits", "-o", tmp_path / "out")
    assert done.returncode == 1
    assert done.stdout == ""
    assert one_line(done.stderr)
    assert "no.fits" in done.stderr
    assert not (tmp_path / "out").exists()


@pytest.fixture(scope="module")
def demonstrated(tmp_path_factory):
    """The demonstration, without its report."""
    return run("demo", "-o", tmp_path_factory.mktemp("demo"), "--no-report", "--json")


def test_demo_compares_with_the_truth(demonstrated):
    assert demonstrated.returncode == 0, demonstrated.stderr
    told = json.loads(demonstrated.stdout)
    assert told["n_true"] == len(told["transients"]) == Sky().n_transients
    # true S/N at least the threshold: noise may push a few that lie near it under it
    assert told["n_found_detectable"] >= told["n_detectable"] - 3
    assert told["n_detectable"] >= 15
    assert told["n_false"] == len(told["false"])
    # Gaussian noise gives 0.4 peaks beyond 5 sigma in a megapixel; 2 or fewer with 99 %. Peaks at
    # the border, where half of a star is missing, are flagged so.
    assert sum("edge" not in peak["flags"] for peak in told["false"]) <= 2
    strong = [t for t in told["transients"] if abs(t["true_snr"]) > 10]
    assert all(t["found"] and t["flux"] * t["true_flux"] > 0 for t in strong)
    assert {"new", "ref", "truth", "picture", "Scorr"} <= told["files"].keys()
    assert all(Path(p).is_file() for p in told["files"].values())


def test_simulate_writes_a_pair(tmp_path):
    tokens = ["simulate", tmp_path, "--shape", "64", "80", "--n-stars", "3", "--n-galaxies", "0", "--quiet"]
    done = run(*tokens, "--n-transients", "2", "--ref-angle", "-5", "--seed", "7")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    truth = Table.read(tmp_path / "truth.ecsv")
    assert len(truth) == 5
    assert fits.getdata(tmp_path / "new.fits").shape == (64, 80)


def test_psf_writes_a_file_that_can_be_read(pair, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["psf", str(pair[0] / "new.fits"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    psf = read_psf(tmp_path / "new.psf")
    assert told["file"] == "new.psf"
    assert told["n_stars"] >= 5
    # seeing of the simulation; a few per cent is what so few stars allow
    assert told["fwhm"] == pytest.approx(SMALL.new.fwhm, rel=0.05)
    assert psf.fwhm == pytest.approx(told["fwhm"], rel=1e-5)
    assert main(["psf", str(pair[0] / "new.fits"), "-o", str(tmp_path / "other.psf")]) == 0
    assert "FWHM" in capsys.readouterr().out
    assert (tmp_path / "other.psf").is_file()


@pytest.mark.skipif(shutil.which("psfex") is None, reason="psfex is not installed")
def test_psf_by_psfex(pair, tmp_path, capsys):
    path = tmp_path / "p.psf"
    assert main(["psf", str(pair[0] / "new.fits"), "--psf", "psfex", "-o", str(path), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert fits.getheader(path, 1)["ACCEPTED"] == told["n_stars"] >= 5
    # the model itself, not PSF_FWHM, which is twice the half-light radius
    stamp = read_psf(path).at(200, 200)
    truth = pair[1].psf_new(200, 200, stamp.shape[0])
    assert stamp.max() == pytest.approx(truth.max(), rel=0.05)


def test_info_tells_what_was_read(pair, capsys):
    path = str(pair[0] / "new.fits")
    assert main(["info", path, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["image"]["shape"] == [400, 420]
    assert told["image"]["gain"] == SMALL.new.gain
    assert main(["info", path, "--json", "--gain", "2.5", "--saturation", "5000"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["image"]["gain"], told["image"]["saturation"]) == (2.5, 5000)
    assert told["image"]["n_unusable"] == np.count_nonzero(pair[1].new.data >= 5000)
    assert main(["info", path]) == 0
    text = capsys.readouterr().out
    assert "400 x 420" in text
    assert "1.5 e-/ADU" in text
    assert "RA---TAN" in text


def test_info_on_real_files(shared_data, capsys):
    for path in sorted((shared_data / "formats").glob("*.f*ts*"))[:12]:
        status = main(["info", str(path)])
        out, err = capsys.readouterr()
        assert status == 0 or (status == 1 and one_line(err)), path
        assert path.name in out + err


def test_help_and_version():
    assert run("--version").stdout.strip() == __version__
    for tokens in ((), ("--help",), ("subtract", "--help")):
        done = run(*tokens)
        assert done.returncode == 0
        assert "Usage: zogyp" in done.stdout
        assert done.stderr == ""


def test_help_imports_nothing_slow():
    code = (
        "import sys, zogyp.cli\n"
        "zogyp.cli.main(['--help'])\n"
        "slow = {'numpy', 'scipy', 'astropy', 'numba', 'sep', 'matplotlib'} & set(sys.modules)\n"
        "sys.exit(f'imported {slow}' if slow else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("tokens", "said"),
    [
        (["subtract"], "NEW"),
        (["subtract", "a.fits"], "REF"),
        (["simulate", "a", "b"], "unexpected argument b"),
        (["subtract", "a", "b", "--tile", "big"], "--tile"),
        (["subtract", "a", "b", "--psf", "best"], "psfex"),
        (["subtract", "a", "b", "--flub"], "--flub"),
        (["subtrac", "a", "b"], "subtract"),
        (["simulate", "d", "--shape", "64"], "--shape"),
    ],
)
def test_wrong_usage_is_exit_2_and_one_line(tokens, said, capsys):
    assert main(tokens) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert one_line(err)
    assert said in err
    assert "--help" in err


@pytest.mark.parametrize(
    ("tokens", "said"),
    [
        (["info", "missing.fits"], "missing.fits"),
        (["info", "text.fits"], "text.fits"),
        (["psf", "text.fits"], "text.fits"),
        (["subtract", "a", "b", "--new-gain", "0"], "--new-gain must be at least"),
        (["subtract", "a", "b", "--config", "missing.toml"], "missing.toml"),
        (["subtract", "a", "b", "--config", "wrong.toml"], "psf.modle"),
        (["simulate", "text.fits", "--shape", "64", "64"], "text.fits"),
        (["simulate", "x", "--shape", "4", "64"], "--shape must be"),
    ],
)
def test_an_error_is_exit_1_and_one_line(tokens, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("text.fits").write_text("not FITS")
    Path("wrong.toml").write_text("[psf]\nmodle = 'psfex'\n")
    assert main([*tokens, "--json"]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert one_line(err)
    assert said in err


def test_debug_shows_where_an_error_came_from(tmp_path, capsys):
    assert main(["info", str(tmp_path / "no.fits"), "--debug"]) == 1
    err = capsys.readouterr().err
    assert "Traceback" in err
    assert one_line(err.splitlines(keepends=True)[-1])


def test_a_bug_is_told_in_one_line_too(monkeypatch, capsys):
    def broken(*_):
        raise RuntimeError("two\nlines")

    monkeypatch.setattr("zogyp.io.describe", broken)
    assert main(["info", "x"]) == 1
    err = capsys.readouterr().err
    assert one_line(err)
    assert re.search(r"RuntimeError: two lines.*--debug", err)


def test_warnings_take_a_line_each(monkeypatch, capsys):
    import warnings

    def noisy(*_):
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.warn("first\nsecond", UserWarning, stacklevel=1)
        raise SystemExit(0)

    monkeypatch.setattr("zogyp.io.describe", noisy)
    with pytest.raises(SystemExit):
        main(["info", "x"])
    assert capsys.readouterr().err == "zogyp: warning: first second\n"


def test_interrupt_is_exit_130_and_one_line(tmp_path):
    pipe = tmp_path / "config.toml"
    os.mkfifo(pipe)
    command = [sys.executable, "-m", "zogyp", "subtract", "a", "b", "--config", str(pipe)]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # a shell starts what runs in its background deaf to this signal, and children inherit that
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
    )
    with process, pipe.open("w"):  # opens when the program has begun to read
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert out == ""
    assert err == "zogyp: interrupted\n"


@pytest.mark.parametrize("tokens", [["info", "new.fits"], ["info", "new.fits", "--json"]])
def test_closed_pipe_is_silent(tokens, pair):
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "zogyp", *tokens]
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, cwd=pair[0], check=False)
    os.close(writer)
    assert done.stderr == ""
    assert done.returncode == 141  # as the shell reports a program that SIGPIPE ends


def test_names_that_look_like_markup(pair, tmp_path, capsys):
    path = tmp_path / "a[red]:smile: ü.fits"
    path.write_bytes((pair[0] / "new.fits").read_bytes())
    assert main(["info", str(path)]) == 0
    assert path.name in capsys.readouterr().out


def test_scripts_are_declared():
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
    assert project["scripts"]["zogyp"] == "zogyp.__main__:run"
