"""The 1.x alignment by its old names, and the 1.x subtraction with it."""

from __future__ import annotations

import inspect
import shutil
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

import mapped
import zogyp
from zogyp.errors import FileError, OptionError, RegistrationError
from zogyp.spali2 import spalipy
from zogyp.zip import run_ZOGY
from zogyp.ZOGY import main

GRID, OTHER = (300, 320), (310, 290)
KNOWN = mapped.turned(GRID, OTHER, angle=8.0, shift=(12.3, -7.2))
PLACE, FLUX = (171.4, 132.7), 6000.0  # of a transient of the science image, on the reference's grid


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("spali")
    stars = mapped.stars(3, 200, GRID)
    far = np.hypot(stars.x - PLACE[0], stars.y - PLACE[1]) > 12
    stars = mapped.Stars(stars.x[far], stars.y[far], stars.flux[far])
    light = stars.light(mapped.IDENTITY, GRID, 3.0)
    ref = mapped.save(folder / "ref.fits", mapped.noisy(light, 4), mapped.wcs())
    light = stars.plus(*PLACE, FLUX).light(KNOWN, OTHER, 3.4)
    sci = mapped.save(folder / "sci.fits", mapped.noisy(light, 5))
    other = mapped.stars(33, 200, GRID).light(mapped.IDENTITY, OTHER, 3.0)
    mapped.save(folder / "elsewhere.fits", mapped.noisy(other, 8))
    before = {p: p.read_bytes() for p in folder.iterdir()}
    yield sci, ref
    assert {p: p.read_bytes() for p in folder.iterdir()} == before


@pytest.fixture(autouse=True)
def work(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_name_is_what_comes_back(files):
    assert zogyp.spali2.spalipy is spalipy
    told = spalipy(str(files[0]), str(files[1]))
    assert told == "aligned.fits"
    assert [p.name for p in Path().iterdir()] == ["aligned.fits"]
    expected, _ = zogyp.align(files[0], to=files[1])
    data = fits.getdata(told)
    ok = np.isfinite(data)
    assert np.array_equal(data[ok], expected.data[ok]) and data.shape == GRID
    # a mirrored or shifted result would be NaN elsewhere: the corner pixels are where the map leads
    y, x = np.indices(GRID)
    u, v = KNOWN(x, y)
    covered = (u > 0) & (v > 0) & (u < OTHER[1] - 1) & (v < OTHER[0] - 1)
    assert ok[covered].all() and (ok == covered).mean() > 0.99


def test_with_data_the_pixels_come_too(files):
    name, data = spalipy(files[0], files[1], name="other.fits", data=True)
    assert name == "other.fits" and Path(name).is_file()
    assert data.shape == GRID and data.dtype == np.float32
    np.testing.assert_array_equal(fits.getdata(name), data)


@pytest.mark.parametrize(("spline", "most"), [(False, 1), (True, 9)])
def test_without_spline_the_map_is_affine(files, spline, most):
    header = fits.getheader(spalipy(files[0], files[1], spline=spline))
    assert header["REGORDER"] == 1 if not spline else header["REGORDER"] <= most
    assert header["REGROT"] == pytest.approx(8.0, abs=0.03)  # 0.05 px over the image
    assert header["CRVAL1"] == 150.0


def test_arguments_are_those_of_the_old_version():
    names = inspect.signature(spalipy).parameters
    assert list(names) == ["image1", "image2", "name", "data", "spline"]
    assert [p.default for p in names.values()][2:] == ["aligned.fits", False, True]


def test_an_input_is_never_replaced(files):
    for source in files:
        shutil.copy(source, source.name)
    for name in ("sci.fits", "ref.fits"):
        with pytest.raises(OptionError, match="input"):
            spalipy("sci.fits", "ref.fits", name=name)
    for source in files:
        assert Path(source.name).read_bytes() == source.read_bytes()


def test_a_failure_leaves_nothing(files, work, capsys):
    other = files[0].parent / "elsewhere.fits"
    with pytest.raises(RegistrationError):
        spalipy(other, files[1])
    with pytest.raises(FileError):
        spalipy("none.fits", files[1])
    assert main([str(other), str(files[1]), "-align", "True"]) == 1
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("ZOGY: ") and err.count("\n") == 1
    assert "cannot be registered" in err
    assert not list(work.iterdir())


# ---------------------------------------------------------------- subtraction with alignment


def found_in_place(scorr):
    """The transient is the brightest peak of S_corr, on the pixels of the reference."""
    assert scorr.shape == GRID
    row, column = np.unravel_index(np.nanargmax(scorr), GRID)
    # S_corr of a bright source has a flat top of a pixel or two
    assert np.hypot(column - PLACE[0], row - PLACE[1]) < 2
    assert np.nanmax(scorr) > 15
    # 60,000 pixels of some 30 correlated ones: 2 % by chance, as much for the PSFs
    assert 1.4826 * np.nanmedian(np.abs(scorr)) == pytest.approx(1, abs=0.05)


def test_run_zogy_aligns_the_science_image_to_the_reference(files):
    paths = run_ZOGY(files[0], files[1], align=True)
    assert paths == [f"Zoutput/data_{kind}1.fits" for kind in ("D", "S", "Scorr")]
    found_in_place(fits.getdata(paths[2]))
    header = fits.getheader(paths[2])
    assert (header["CRVAL1"], header["CRVAL2"]) == (150.0, 2.0)  # of the reference: the other has none


def test_the_command_aligns_too(files, capsys):
    assert main([str(files[0]), str(files[1]), "-align", "True", "-sub_imagey", "2"]) == 0
    told = capsys.readouterr().out.split()
    assert told == [f"Zoutput/ZOGY_sub_{kind}{i}.fits" for i in (1, 2) for kind in ("D", "S", "Scorr")]
    found_in_place(np.concatenate([fits.getdata(told[i]) for i in (2, 5)]))
    assert main([str(files[0]), str(files[1])]) == 1  # without, shapes must agree
    assert capsys.readouterr().err.count("\n") == 1
