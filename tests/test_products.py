"""What a subtraction writes: names, pixels, provenance; all of it or nothing."""

from __future__ import annotations

import errno
import json
import os

import numpy as np
import pytest
from astropy import units as u
from astropy.io import fits
from astropy.table import Table
from astropy.wcs import WCS

from zogyp import io
from zogyp.errors import OptionError, OutputError
from zogyp.image import Flag, Image
from zogyp.products import Subtraction

SHAPE = (31, 37)
PLANES = ("D", "S", "Scorr", "Fpsf", "Fpsferr")
ENDINGS = {
    **{p: f"_{p}.fits" for p in (*PLANES, "mask", "psf")},
    "transients": "_transients.ecsv",
    "summary": "_summary.json",
}
SUMMARY = {
    "version": "2.0.0.dev0",
    "inputs": {
        "new": {
            "path": "/data/my new.fits",
            "name": "my new.fits",
            "gain": 1.5,
            "fwhm": 4.25,
            "exptime": None,
        },
        "ref": {"path": "/data/réf.fits", "name": "réf.fits", "gain": float("nan"), "fwhm": np.float32(3.5)},
    },
    "options": {
        "new": {"gain": None, "mask": "/a/" + "long/" * 60 + "m.fits"},
        "psf": {"order": None, "cut": 0.0},
        "tile": 1024,
        "psf_match": True,
    },
    "F_n": 1.0,
    "F_r": np.float64(0.875),
    "F_r_err": float("nan"),
    "sigma_n": 3.25,
    "sigma_r": np.float32(2.5),
    "registration": {"n_matched": 40, "rms_x": 0.03, "rms_y": 0.04, "dx": 0.0, "dy": 0.1},
    "scorr_mad": 1.01,
    "scorr_std": float("inf"),
    "limiting_flux": 55.5,
    "limiting_mag": None,
    "n_transients": 2,
    "notes": ["the gain was estimated", "ünicode\nand a line"],
    "timings": {"measure": 1.5},
}


@pytest.fixture
def result():
    rng = np.random.default_rng(5)
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.crval, wcs.wcs.crpix, wcs.wcs.cdelt = [150.0, 2.0], [18.0, 15.0], [-1e-4, 1e-4]
    header = wcs.to_header()
    header.update({"OBJECT": "field 7", "BUNIT": "adu", "BSCALE": 2.0, "BZERO": 9.0, "DATE": "1999-01-01"})
    planes = [rng.normal(size=SHAPE).astype(np.float32) for _ in PLANES]
    planes[2][4, 5] = np.nan
    mask = np.zeros(SHAPE, np.uint16)
    mask[4, 5] = Flag.UNJUDGED | Flag.BAD.ref() | 0x8000
    table = Table({"id": [1, 2], "x": [3.5, np.nan] * u.pix, "flux": [1.0, -2.0], "flags": ["", "edge"]})
    image = Image(planes[0], mask, wcs=wcs, header=header, name="field 7.fits.fz[SCI]")
    psf = np.full((9, 9), 1 / 81, np.float32)
    return Subtraction(*planes, mask, psf, table, image, image, SUMMARY)


def test_files_names_and_pixels(result, tmp_path):
    stages = []
    paths = result.write(tmp_path / "out", progress=lambda stage, done: stages.append((stage, done)))
    assert {k: p.name for k, p in paths.items()} == {k: f"field 7{end}" for k, end in ENDINGS.items()}
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == sorted(p.name for p in paths.values())
    for key, data in zip(
        PLANES, (result.D, result.S, result.Scorr, result.alpha, result.alpha_err), strict=True
    ):
        with fits.open(paths[key]) as hdus:
            hdus.verify("exception")
            assert hdus[0].header["BITPIX"] == -32
            np.testing.assert_array_equal(hdus[0].data, data)
            np.testing.assert_allclose(WCS(hdus[0].header).wcs.crpix, [18, 15], rtol=0)
    np.testing.assert_array_equal(fits.getdata(paths["mask"]), result.mask)
    np.testing.assert_array_equal(fits.getdata(paths["psf"]), result.psf)
    assert "CTYPE1" not in fits.getheader(paths["psf"])
    assert stages[-1] == ("write", 1.0) and [s[1] for s in stages] == sorted(s[1] for s in stages)


def test_compressed_files_hold_the_same_to_a_part_of_the_noise(result, tmp_path):
    paths = result.write(tmp_path / "out", compress=True)
    planes = {"D": result.D, "Scorr": result.Scorr, "Fpsferr": result.alpha_err}
    assert {k: p.name for k, p in paths.items()} == {
        k: f"field 7{end}" + (".fz" if end.endswith(".fits") and k != "psf" else "")
        for k, end in ENDINGS.items()
    }
    for key, data in planes.items():
        with fits.open(paths[key]) as hdus:
            hdus.verify("exception")
            assert hdus[1].compression_type == "RICE_1"
            assert hdus[1].header["PRODUCT"] == key
        back = io.read(paths[key])
        np.testing.assert_array_equal(np.isnan(back.data), np.isnan(data))
        np.testing.assert_allclose(
            back.data, data, atol=1 / 16
        )  # steps of a sixteenth of the noise, halves at most
        assert np.nanstd(back.data - data) > 0  # floats are not stored as they are
        np.testing.assert_allclose(back.wcs.wcs.crpix, [18, 15], rtol=0)
    with fits.open(paths["mask"]) as hdus:
        assert hdus[1].data.dtype == np.uint16
        np.testing.assert_array_equal(hdus[1].data, result.mask)
    np.testing.assert_array_equal(fits.getdata(paths["psf"]), result.psf)
    again = result.write(tmp_path / "again", compress=True)["S"]
    assert fits.getdata(again, 1).tobytes() == fits.getdata(paths["S"], 1).tobytes()


def test_provenance(result, tmp_path):
    paths = result.write(tmp_path, "run")
    for key in ("D", "mask", "psf"):
        header = fits.getheader(paths[key])
        wanted = {
            "OBJECT": "field 7", "CREATOR": "2.0.0.dev0", "NEWFILE": "/data/my new.fits",
            "REFFILE": "/data/r\\xe9f.fits", "F_N": 1.0, "F_R": 0.875, "SIGMA_N": 3.25, "SIGMA_R": 2.5,
            "REGRMSX": 0.03, "REGRMSY": 0.04, "REGN": 40, "FWHM_N": 4.25, "FWHM_R": 3.5, "SCORRMAD": 1.01,
            "LIMFLUX": 55.5, "NTRANS": 2, "PRODUCT": key, "ZOGYP NEW GAIN": "auto", "ZOGYP PSF ORDER": "auto",
            "ZOGYP PSF CUT": 0.0, "ZOGYP TILE": 1024, "ZOGYP PSF_MATCH": True,
            "ZOGYP NEW MASK": SUMMARY["options"]["new"]["mask"],
        }  # fmt: skip
        assert {k: header.get(k) for k in wanted} == wanted
        assert not {"F_R_ERR", "SCORRSTD", "GAIN_R", "LIMMAG"} & set(header)  # NaN, infinite, unknown
        assert "the gain was estimated" in str(header["HISTORY"])
        assert header["DATE"].startswith("20") and header.count("DATE") == 1
    units = {key: fits.getheader(paths[key]).get("BUNIT") for key in ("D", "Scorr", "Fpsf", "mask", "psf")}
    assert units == {"D": None, "Scorr": "sigma", "Fpsf": "adu", "mask": None, "psf": None}


def test_mask_names_its_bits(result, tmp_path):
    header = fits.getheader(result.write(tmp_path, "run")["mask"])
    assert header["BIT06"] == "NEW_UNJUDGED" and header["BIT08"] == "REF_BAD"
    for flag in Flag:
        for image, value in (("NEW", int(flag)), ("REF", flag.ref())):
            assert header[f"BIT{value.bit_length() - 1:02d}"] == f"{image}_{flag.name}"


def test_table_and_summary(result, tmp_path):
    paths = result.write(tmp_path, "run")
    table = Table.read(paths["transients"], format="ascii.ecsv")
    assert table["x"].unit == u.pix and table["id"].tolist() == [1, 2] and np.isnan(table["x"][1])

    def refuse(text):
        raise AssertionError(f"{text} is not JSON")

    summary = json.loads(paths["summary"].read_text(encoding="utf-8"), parse_constant=refuse)
    assert summary["F_r_err"] is None and summary["scorr_std"] is None and summary["F_r"] == 0.875
    assert summary["inputs"]["ref"] == {
        "path": "/data/réf.fits",
        "name": "réf.fits",
        "gain": None,
        "fwhm": 3.5,
    }
    assert summary["timings"] == {"measure": 1.5} and summary["files"]["D"] == "run_D.fits"


@pytest.mark.parametrize("name", ["", "  ", "a/b", "a\\b", "../x", "a\0b"])
def test_names_that_cannot_be(result, tmp_path, name):
    with pytest.raises(OptionError, match="name must be"):
        result.write(tmp_path, name)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["with space", "üñí 銀河", "ref.new", "[1]", ".hidden"])
def test_names_that_can(result, tmp_path, name):
    paths = result.write(tmp_path / "ordner ü [2]", name)
    np.testing.assert_array_equal(io.read_plane(paths["D"]), result.D)


def test_a_second_run_replaces_the_first(result, tmp_path):
    result.write(tmp_path, "run")
    before = sorted(p.name for p in tmp_path.iterdir())
    result.write(tmp_path, "run")
    assert sorted(p.name for p in tmp_path.iterdir()) == before


def test_full_disk_leaves_the_former_files(result, tmp_path, monkeypatch):
    """The disk fills in the middle: none of the nine files is new, none is half-written."""
    paths = result.write(tmp_path, "run")
    before = {p: p.read_bytes() for p in paths.values()}
    calls = []
    true_fsync = os.fsync

    def full(descriptor):
        calls.append(descriptor)
        if len(calls) > 4:
            raise OSError(errno.ENOSPC, "No space left on device")
        true_fsync(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match=r"run_\w+\.\w+: No space left on device"):
        result.write(tmp_path, "run")
    monkeypatch.undo()
    assert {p: p.read_bytes() for p in tmp_path.iterdir()} == before


def test_places_that_cannot_be_written_to(result, tmp_path):
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "below", "/proc/nowhere", tmp_path / ("x" * 300)):
        with pytest.raises(OutputError, match="cannot write"):
            result.write(folder, "run")
    (tmp_path / "out" / "run_S.fits").mkdir(parents=True)
    with pytest.raises(OutputError, match=r"run_S\.fits: it is a directory"):
        result.write(tmp_path / "out", "run")
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["run_S.fits"]


def test_images_without_header_or_coordinates(result, tmp_path):
    bare = Image(result.D, result.mask, name="/some/where/x.fits")
    paths = Subtraction(*[result.D] * 5, result.mask, result.psf, result.transients, bare, bare).write(
        tmp_path
    )
    assert paths["Fpsf"].name == "x_Fpsf.fits" and fits.getheader(paths["Fpsf"])["BUNIT"] == "adu"
    assert io.read(paths["D"]).wcs is None
