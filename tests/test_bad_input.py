"""What cannot be subtracted: a typed error with its numbers, exit 1, one clear line, nothing half-written.

Every case goes through the program and through `zogyp.subtract`; each bad image comes once as the new
image and once as the reference. Warnings are errors (pyproject), in the processes started here too.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
import warnings
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table

import zogyp
from zogyp import io
from zogyp.cli import main
from zogyp.errors import (
    FileError,
    HeaderError,
    InputError,
    NoImageError,
    OptionError,
    OutputError,
    PixelError,
    RegistrationError,
    ShapeError,
    StarsError,
    ZogypError,
)
from zogyp.options import InputOptions, RegistrationOptions, SubtractOptions
from zogyp.simulate import psf_stamp, simulate, write_pair
from zogyp.sky import Sky

SHAPE = (300, 320)
SKY = Sky(shape=SHAPE, n_stars=90, n_galaxies=0, n_transients=4, transient_min=4000.0)
ONE = SubtractOptions(threads=1)
PRODUCTS = {"D", "S", "Scorr", "Fpsf", "Fpsferr", "mask", "psf", "transients", "summary"}


def content(folder):
    """Everything below a folder: paths, and the bytes of files."""
    return {p: p.read_bytes() if p.is_file() else None for p in sorted(folder.rglob("*"))}


def save(path, data, cards=()):
    """Write a primary image with astropy, the independent writer."""
    hdu = fits.PrimaryHDU(data)
    hdu.header.update(dict(cards))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # astropy warns of the wrong cards that are wanted here
        hdu.writeto(path)
    return path


def scaled(path, stored, cards):
    """Write integers with cards of one's own: astropy would not write wrong ones."""
    ny, nx = stored.shape
    said = [("SIMPLE", "T"), ("BITPIX", str(8 * stored.itemsize)), ("NAXIS", "2"), ("NAXIS1", str(nx))]
    said += [("NAXIS2", str(ny)), *cards]
    text = "".join(f"{key:<8}= {value:>20}".ljust(80) for key, value in said) + "END".ljust(80)
    payload = stored.astype(stored.dtype.newbyteorder(">")).tobytes()
    path.write_bytes(text.ljust(2880).encode() + payload + bytes(-len(payload) % 2880))
    return path


def process(*tokens, cwd=None):
    """The program as a user runs it, warnings being errors."""
    command = [sys.executable, "-W", "error", "-m", "zogyp", "subtract", *map(str, tokens)]
    environment = os.environ | {"NUMBA_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        command, capture_output=True, text=True, cwd=cwd, env=environment, timeout=300, check=False
    )


@pytest.fixture(scope="module")
def pair():
    """A small simulated pair that can be subtracted."""
    return simulate(SKY, seed=3)


@pytest.fixture(scope="module")
def good(pair, tmp_path_factory):
    """The pair's files; no test may change them."""
    folder = tmp_path_factory.mktemp("good")
    files = write_pair(pair, folder)
    before = content(folder)
    yield files["new"], files["ref"]
    assert content(folder) == before


@pytest.fixture
def refused(tmp_path, capsys):
    """Check that a pair is refused, by the program and by the function, as it should."""

    def check(new, ref, error, said, *, tokens=(), options=ONE, status=1):
        out = tmp_path / "deep" / "out"
        before = content(tmp_path)
        assert main(["subtract", str(new), str(ref), "-o", str(out), "--threads", "1", *tokens]) == status
        told = capsys.readouterr()
        assert told.out == ""
        assert told.err.startswith("zogyp: ") and told.err.count("\n") == 1  # one line
        assert "Traceback" not in told.err and "unexpected" not in told.err and "warning" not in told.err
        assert len(told.err) < 500, "an error is to be read by a human"
        for words in said:
            assert words in told.err, told.err
        with pytest.raises(error) as caught:
            zogyp.subtract(new, ref, options)
        assert isinstance(caught.value, ZogypError)
        assert content(tmp_path) == before, "nothing is written, not even a folder"
        return caught.value

    return check


def both_roles(bad, good):
    """The bad image as the new one and as the reference."""
    return (bad, good[1]), (good[0], bad)


# ---------------------------------------------------------------- files that hold no image


def test_missing_file(good, refused, tmp_path):
    for pair in both_roles(tmp_path / "not there.fits", good):
        error = refused(*pair, FileError, ["not there.fits", "no such file"])
        assert error.path.endswith("not there.fits")


def test_empty_file(good, refused, tmp_path):
    (tmp_path / "empty.fits").write_bytes(b"")
    for pair in both_roles(tmp_path / "empty.fits", good):
        refused(*pair, FileError, ["empty.fits", "empty (0 bytes)"])


@pytest.mark.parametrize("part", [0.0001, 0.01, 0.5, 0.99])
def test_truncated_file(good, refused, tmp_path, part):
    whole = good[0].read_bytes()
    (tmp_path / "cut.fits").write_bytes(whole[: int(part * len(whole))])
    for pair in both_roles(tmp_path / "cut.fits", good):
        refused(*pair, FileError, ["cut.fits"])


def test_truncation_tells_how_much_is_missing(good, refused, tmp_path):
    whole = good[0].read_bytes()
    (tmp_path / "cut.fits").write_bytes(whole[:200000])
    refused(tmp_path / "cut.fits", good[1], FileError, ["truncated", "needs 386880 bytes", "has 200000"])


@pytest.mark.parametrize(
    "start",
    [
        b"not a FITS file\n",
        b"\x89PNG\r\n\x1a\n" + bytes(5000),
        b"\x1f\x8b damaged gzip",
        bytes(9000),
        b"SIMPLE",
    ],
    ids=["text", "png", "gzip", "zeros", "start"],
)
def test_file_that_is_not_fits(good, refused, tmp_path, start):
    (tmp_path / "wrong.fits").write_bytes(start)
    for pair in both_roles(tmp_path / "wrong.fits", good):
        refused(*pair, FileError, ["wrong.fits"])


def test_directory_instead_of_a_file(good, refused, tmp_path):
    (tmp_path / "folder.fits").mkdir()
    for pair in both_roles(tmp_path / "folder.fits", good):
        refused(*pair, FileError, ["folder.fits", "directory"])


def test_no_image_in_the_file(good, refused, tmp_path):
    fits.PrimaryHDU().writeto(tmp_path / "bare.fits")
    table = fits.BinTableHDU(Table({"a": [1, 2]}), name="CAT")
    fits.HDUList([fits.PrimaryHDU(), table]).writeto(tmp_path / "table.fits")
    save(tmp_path / "row.fits", np.arange(9, dtype=np.float32))
    for name, words in (("bare", "no data"), ("table", "1 CAT,1 (table)"), ("row", "image 9")):
        for pair in both_roles(tmp_path / f"{name}.fits", good):
            error = refused(*pair, NoImageError, [f"{name}.fits", "no two-dimensional image", words])
            assert error.extensions


def test_cube(good, refused, tmp_path):
    save(tmp_path / "cube.fits", np.ones((3, 20, 30), np.float32))
    for pair in both_roles(tmp_path / "cube.fits", good):
        refused(*pair, NoImageError, ["3 axes", "NAXIS1 = 30, NAXIS2 = 20, NAXIS3 = 3", "cut a plane"])


@pytest.mark.parametrize("ext", ["1", "SCI", "SCI,2", "-1", ""])
def test_wrong_extension(good, refused, ext):
    new, ref = map(str, good)
    for pair in ((f"{new}[{ext}]", ref), (new, f"{ref}[{ext}]")):
        error = refused(*pair, NoImageError, [f"no extension [{ext}]", "0 PRIMARY (image 320 x 300)"])
        assert error.extensions == ("0 PRIMARY (image 320 x 300)",)


def test_extension_that_is_no_image(good, refused, tmp_path):
    table = fits.BinTableHDU(Table({"a": [1, 2]}), name="CAT")
    fits.HDUList([fits.PrimaryHDU(np.ones(SHAPE)), table]).writeto(tmp_path / "mef.fits")
    for pair in both_roles(f"{tmp_path / 'mef.fits'}[CAT]", good):
        refused(*pair, NoImageError, ["[CAT] is no two-dimensional image"])


# ---------------------------------------------------------------- pixels that cannot be used


def test_different_shapes_without_alignment(good, refused, tmp_path, pair):
    options = replace(ONE, align=RegistrationOptions(mode="none"))
    no = {"tokens": ["--align", "none"], "options": options}
    save(tmp_path / "small.fits", pair.ref.data[:250])
    words = ["small.fits", "(250, 320)", "(300, 320)", "--align none"]
    error = refused(good[0], tmp_path / "small.fits", ShapeError, words, **no)
    assert (error.shape, error.wanted) == ((250, 320), SHAPE)
    # an image turned by 90 degrees has as many pixels, and still another shape
    save(tmp_path / "turned.fits", np.ascontiguousarray(pair.new.data.T))
    error = refused(tmp_path / "turned.fits", good[1], ShapeError, ["(300, 320)", "(320, 300)"], **no)
    assert (error.shape, error.wanted) == (SHAPE, (320, 300))


def test_different_shapes_are_brought_together_by_their_stars(good, tmp_path, pair):
    """Whatever the shape: the transients are found where they are, on the new image's pixels."""
    # the files have no header, and the brightest star is saturated
    told = InputOptions(saturation=pair.new.saturation)
    options = replace(ONE, new=told, ref=told)
    save(tmp_path / "small.fits", pair.ref.data[:250])
    assert_transients(zogyp.subtract(good[0], tmp_path / "small.fits", options).transients, pair.transients)
    save(tmp_path / "turned.fits", np.ascontiguousarray(pair.new.data.T))
    turned = pair.transients.copy()
    turned["x"], turned["y"] = pair.transients["y"], pair.transients["x"]
    result = zogyp.subtract(tmp_path / "turned.fits", good[1], options)
    assert result.D.shape == SHAPE[::-1]
    assert_transients(result.transients, turned)


def test_different_fields(good, refused, tmp_path):
    """Neither of one shape nor of two is a map believed that chance could make."""
    other = simulate(SKY, seed=8)
    save(tmp_path / "other.fits", other.ref.data)
    save(tmp_path / "less.fits", other.ref.data[:250])
    for name in ("other.fits", "less.fits"):
        for pair in both_roles(tmp_path / name, good):
            error = refused(*pair, RegistrationError, ["cannot be registered", "sources were found"])
            assert error.n_matched < error.n_required


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_no_finite_pixel(good, refused, tmp_path, value):
    save(tmp_path / "nan.fits", np.full(SHAPE, value, np.float32))
    for pair in both_roles(tmp_path / "nan.fits", good):
        error = refused(*pair, PixelError, ["nan.fits", "no pixel has a value", "0 usable of 96000"])
        assert (error.n_good, error.n_pixels) == (0, 96000)


@pytest.mark.parametrize("value", [0, 1, -7.5, 65535])
def test_constant_image(good, refused, tmp_path, value):
    save(tmp_path / "flat.fits", np.full(SHAPE, value, np.float32))
    for pair in both_roles(tmp_path / "flat.fits", good):
        error = refused(*pair, PixelError, ["flat.fits", "constant image", f"{value:g}"])
        assert error.n_good == error.n_pixels == 96000


def test_mask_that_leaves_nothing(good, refused, tmp_path):
    save(tmp_path / "all.fits", np.ones(SHAPE, np.uint8))
    mask = str(tmp_path / "all.fits")
    for name in ("new", "ref"):
        options = replace(ONE, **{name: InputOptions(mask=mask)})
        refused(
            *good, PixelError, [f"{name}.fits", "0 usable"], tokens=[f"--{name}-mask", mask], options=options
        )
    refused(*good, PixelError, ["0 usable"], tokens=["--mask", mask], options=replace(ONE, mask=mask))


# ---------------------------------------------------------------- headers that cannot be true


@pytest.mark.parametrize(
    "cards",
    [[("BZERO", "1.0E300")], [("BZERO", "1.0E12")], [("BZERO", "'many'")], [("BSCALE", "1.0E36")]],
    ids=lambda cards: f"{cards[0][0]}={cards[0][1]}",
)
def test_scaling_that_overflows(good, refused, tmp_path, pair, cards):
    stored = np.round(pair.new.data - 500).astype(np.int16)
    path = scaled(tmp_path / "scaled.fits", stored, cards)
    for both in both_roles(path, good):
        error = refused(*both, HeaderError, ["scaled.fits", cards[0][0]])
        assert cards[0][0] in error.name


def test_scaling_at_the_limit_of_the_type_works(pair, tmp_path):
    """Unsigned integers as FITS stores them: BZERO is just beyond the type's range."""
    counts = np.round(pair.new.data.astype(np.float64)).clip(0, 65535)
    plain = save(tmp_path / "float.fits", counts.astype(np.float32))
    u2 = scaled(tmp_path / "u2.fits", (counts - 32768).astype(np.int16), [("BZERO", "32768")])
    u4 = scaled(tmp_path / "u4.fits", (counts - 2147483648).astype(np.int32), [("BZERO", "2147483648")])
    expected = io.read(plain).data
    for path in (u2, u4):
        assert np.array_equal(io.read(path).data, expected)


@pytest.mark.parametrize("value", [0, -1.5, "high"])
def test_gain_of_the_header(good, refused, tmp_path, pair, value):
    save(tmp_path / "gain.fits", pair.new.data, {"GAIN": value})
    for both in both_roles(tmp_path / "gain.fits", good):
        error = refused(
            *both, HeaderError, ["gain.fits", "GAIN", "positive number", repr(value), "--new-gain"]
        )
        assert error.value == value


@pytest.mark.parametrize("role", ["new", "ref"])
@pytest.mark.parametrize("value", ["0", "-1.5", "nan", "inf"])
def test_gain_of_an_option(good, refused, role, value, capsys):
    tokens = [f"--{role}-gain", value]
    assert main(["subtract", *map(str, good), *tokens]) == 1
    told = capsys.readouterr()
    assert told.out == "" and told.err.count("\n") == 1
    assert f"{role}-gain" in told.err or f"{role}.gain" in told.err or "gain must be" in told.err
    with pytest.raises(OptionError) as caught:
        zogyp.subtract(*good, replace(ONE, **{role: InputOptions(gain=float(value))}))
    assert caught.value.name == "gain"
    assert repr(caught.value.value) == repr(float(value))


def test_gain_of_an_option_that_is_text_is_wrong_usage(good, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(["subtract", *map(str, good), "--new-gain", "high", "-o", str(out)]) == 2
    told = capsys.readouterr()
    assert told.out == "" and told.err.count("\n") == 1
    assert "--new-gain" in told.err and "high" in told.err
    assert not out.exists()


# ---------------------------------------------------------------- too few stars


def sky_files(folder, n_stars, flux, n_transients=0):
    """A sky with a given number of stars of about one flux."""
    sky = Sky(
        shape=SHAPE,
        n_stars=n_stars,
        flux_min=flux,
        flux_max=10 * flux,
        n_galaxies=0,
        n_transients=n_transients,
        transient_min=4000.0,
    )
    made = simulate(sky, seed=1)
    files = write_pair(made, folder)
    io.write_image(folder / "new_psf.fits", made.psf_new(150, 150))
    io.write_image(folder / "ref_psf.fits", made.psf_ref(150, 150))
    return made, (files["new"], files["ref"])


@pytest.mark.parametrize("n", [0, 1, 2])
def test_too_few_stars(refused, tmp_path, n):
    """No star, one, two: told how many there are, how many it takes, and what helps."""
    _, files = sky_files(tmp_path, n, 2e4)
    error = refused(
        *files, StarsError, ["PSF of", "usable stars found, at least 3 needed", "Give a PSF file"]
    )
    assert (error.n_found, error.n_required) == (n, 3)


def test_without_stars_the_hints_of_the_errors_help(tmp_path, capsys):
    """An empty sky, but for two transients: with PSFs the flux ratio lacks, and with that all is there."""
    made, files = sky_files(tmp_path, 0, 1.0, n_transients=2)
    psfs = ["--new-psf", str(tmp_path / "new_psf.fits"), "--ref-psf", str(tmp_path / "ref_psf.fits")]
    command = ["subtract", *map(str, files), *psfs, "-o", str(tmp_path / "out"), "--no-report"]
    assert main(command) == 1
    said = capsys.readouterr().err
    assert "flux ratio" in said and "give the flux ratio" in said
    assert not (tmp_path / "out").exists()
    assert main([*command, "--flux-ratio", str(made.sky.flux_ratio)]) == 0
    found = Table.read(tmp_path / "out" / "new_transients.ecsv")
    assert_transients(found, made.transients)


def test_five_stars_are_enough(tmp_path, capsys):
    """Five well-exposed stars make a PSF: a right answer, not an error."""
    made, files = sky_files(tmp_path, 5, 2e4, n_transients=2)
    assert main(["subtract", *map(str, files), "-o", str(tmp_path / "out"), "--no-report", "--json"]) == 0
    told = capsys.readouterr()
    summary = json.loads(told.out)
    assert told.err == ""
    # 96000 pixels of about 50 correlated ones: the spread is known to 1.5 %, its median estimator to 2 %;
    # five stars of S/N 100 to 300 leave a PSF error of 1 %: 4 standard errors
    assert abs(summary["scorr_mad"] - 1) < 0.1
    assert_transients(Table.read(tmp_path / "out" / "new_transients.ecsv"), made.transients)


def assert_transients(found, truth):
    """All transients of the truth and no others, within half a pixel (their S/N is above 20)."""
    assert len(found) == len(truth)
    for row in truth:
        near = found[np.hypot(found["x"] - row["x"], found["y"] - row["y"]) < 0.5]
        assert len(near) == 1
        assert near["sign"][0] == np.sign(row["flux"])


def test_one_saturated_giant(refused, tmp_path):
    """A saturated star shows no core: nothing to make a PSF of, and its halo is no star either."""
    _, files = sky_files(tmp_path, 1, 3e6)
    error = refused(*files, StarsError, ["PSF of", "at least 3 needed", "Give a PSF file"])
    assert error.n_found <= 1


# ---------------------------------------------------------------- the output folder


@contextmanager
def small_disk(folder):
    """A file system of 256 kB mounted on the folder, where the machine allows it."""
    folder.mkdir()
    root = hasattr(os, "geteuid") and os.geteuid() == 0 and shutil.which("mount") is not None
    command = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)]
    if not root or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("needs root and leave to mount")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def unwritable(good, out):
    """Run the program with a folder that cannot be written to; returns what it says."""
    done = process(*good, "-o", out, "--no-report", "--threads", "1")
    assert done.returncode == 1, done.stderr
    assert done.stdout == ""
    assert done.stderr.startswith("zogyp: cannot write ") and done.stderr.count("\n") == 1
    return done.stderr


def test_full_disk(good, tmp_path):
    with small_disk(tmp_path / "disk") as disk:
        (disk / "mine.txt").write_text("kept")
        assert "No space left" in unwritable(good, disk / "out")
        assert [p.name for p in disk.iterdir()] == ["mine.txt"]


def test_disk_that_fills_in_the_middle(good, tmp_path, monkeypatch, capsys):
    """The folder held an earlier run: that stays whole."""
    out = tmp_path / "out"
    command = ["subtract", *map(str, good), "-o", str(out), "--no-report", "--threads", "1", "--quiet"]
    assert main(command) == 0
    before = content(tmp_path)
    assert {p.stem.removeprefix("new_") for p in before if p.is_file()} == PRODUCTS
    calls = []
    true_fsync = os.fsync

    def full(descriptor):
        calls.append(descriptor)
        if len(calls) > 4:
            raise OSError(errno.ENOSPC, "No space left on device")
        true_fsync(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    assert main(command) == 1
    told = capsys.readouterr()
    assert told.out == "" and told.err.count("\n") == 1
    assert "No space left on device" in told.err
    monkeypatch.undo()
    assert content(tmp_path) == before


def test_folder_that_cannot_be_made(good, tmp_path):
    (tmp_path / "file").write_text("kept")
    before = content(tmp_path)
    unwritable(good, tmp_path / "file")
    unwritable(good, tmp_path / "file" / "below")
    assert content(tmp_path) == before


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
def test_folder_without_permission(good, tmp_path):
    (tmp_path / "mine").mkdir(mode=0o500)
    assert "Permission denied" in unwritable(good, tmp_path / "mine")
    assert not list((tmp_path / "mine").iterdir())


def test_product_whose_name_is_a_directory(good, tmp_path):
    """The last of the products cannot get its name: then none does."""
    (tmp_path / "out" / "new_transients.ecsv").mkdir(parents=True)
    before = content(tmp_path)
    assert "it is a directory" in unwritable(good, tmp_path / "out")
    assert content(tmp_path) == before


@pytest.mark.parametrize("name", ["", "a/b", "../x"])
def test_names_that_files_cannot_have(good, tmp_path, name, capsys):
    command = ["subtract", *map(str, good), "-o", str(tmp_path / "out"), "--name", name, "--threads", "1"]
    assert main(command) == 1
    told = capsys.readouterr()
    assert told.out == "" and told.err.count("\n") == 1 and "name must be" in told.err
    assert not content(tmp_path)


# ---------------------------------------------------------------- odd, but right


def test_the_same_file_twice(good, tmp_path):
    """S_corr is zero wherever it can be judged, and the summary and the program say so."""
    out = tmp_path / "out"
    done = process(good[0], good[0], "-o", out, "--no-report", "--threads", "1")
    assert done.returncode == 0, done.stderr
    assert done.stderr == "zogyp: the two images are identical: the difference is zero everywhere\n"
    summary = json.loads((out / "new_summary.json").read_text())
    assert any("identical" in note for note in summary["notes"])
    assert summary["n_transients"] == summary["scorr_mad"] == summary["scorr_std"] == 0
    assert summary["F_r"] == 1
    for name in ("D", "S", "Scorr", "Fpsf"):
        pixels = fits.getdata(out / f"new_{name}.fits")
        judged = np.isfinite(pixels)
        assert judged.mean() > 0.99
        assert not pixels[judged].any(), name
    assert not len(Table.read(out / "new_transients.ecsv"))


@pytest.mark.parametrize(
    "name",
    [
        "with space/new image.fits",
        "ref/ref_new_ref.fits",
        "größe/Ωmega — 新しい 🔭.fits",
        "[odd]/new[1].fits",
        "a'b/it's \"new\"; $(touch x).fits",
        "no_ending/new",
        "%41/100%.fit",
    ],
)
def test_any_path(good, tmp_path, name, capsys):
    """Both inputs lie in the folder of the results, where 1.x would have removed or overwritten them."""
    new = tmp_path / name
    ref = new.with_name(f"{new.stem} ref {new.suffix}")
    new.parent.mkdir(parents=True)
    shutil.copy(good[0], new)
    shutil.copy(good[1], ref)
    before = content(tmp_path)
    command = [
        "subtract",
        str(new),
        str(ref),
        "-o",
        str(new.parent),
        "--no-report",
        "--threads",
        "1",
        "--json",
    ]
    assert main(command) == 0
    told = capsys.readouterr()
    assert told.err == ""
    files = [Path(f) for f in json.loads(told.out)["files"].values()]
    assert len(files) == len(PRODUCTS)
    assert all(f.parent == new.parent and f.name.startswith(f"{io.stem(new.name)}_") for f in files)
    after = content(tmp_path)
    assert set(after) == set(before) | set(files)
    assert all(after[path] == before[path] for path in before)
    header = fits.getheader(new.parent / f"{io.stem(new.name)}_Scorr.fits")
    assert header["NEWFILE"].isascii()


@pytest.mark.parametrize("role", ["reference", "psf"])
def test_results_never_replace_their_inputs(good, tmp_path, capsys, role):
    """A reference, or a PSF, that is called as a result would be, in the folder of results."""
    new, ref = tmp_path / "n.fits", tmp_path / ("n_D.fits" if role == "reference" else "r.fits")
    shutil.copy(good[0], new)
    shutil.copy(good[1], ref)
    command = ["subtract", str(new), str(ref), "-o", str(tmp_path), "--no-report", "--threads", "1"]
    if role == "psf":
        io.write_image(tmp_path / "n_psf.fits", psf_stamp(SKY.new, SHAPE, (160.0, 150.0)))
        command += ["--new-psf", str(tmp_path / "n_psf.fits")]
    before = content(tmp_path)
    assert main(command) == 1
    told = capsys.readouterr()
    assert told.out == "" and told.err.count("\n") == 1
    assert "is an input" in told.err and f"n_{'D' if role == 'reference' else 'psf'}.fits" in told.err
    assert content(tmp_path) == before


def test_real_processes_say_one_line(good, tmp_path):
    """What holds in this process holds in one of its own: status, one line, no traceback, no warning."""
    save(tmp_path / "nan.fits", np.full(SHAPE, np.nan, np.float32))
    (tmp_path / "empty.fits").write_bytes(b"")
    for bad, words in (("missing.fits", "no such file"), ("empty.fits", "empty"), ("nan.fits", "0 usable")):
        before = content(tmp_path)
        done = process(bad, good[1], cwd=tmp_path)
        assert done.returncode == 1
        assert done.stdout == ""
        assert done.stderr.startswith("zogyp: ") and done.stderr.count("\n") == 1
        assert bad in done.stderr and words in done.stderr
        assert content(tmp_path) == before, "not even Zoutput"


def test_errors_can_be_caught_by_kind():
    """One `except` for all, or for a kind."""
    kinds = (FileError, NoImageError, HeaderError, PixelError)
    assert all(issubclass(kind, InputError) for kind in kinds)
    assert all(
        issubclass(k, ZogypError) for k in (InputError, OptionError, ShapeError, StarsError, OutputError)
    )
