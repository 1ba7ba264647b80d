"""Transients that a user's catalogue knows."""

from __future__ import annotations

import numpy as np
import pytest
from astropy.table import Table
from astropy.wcs import WCS

from zogyp.crossmatch import cross_match
from zogyp.errors import FileError, InputError


def found():
    return Table({"x": [10.0, 50.0, 80.0], "y": [10.0, 20.0, 80.0], "flags": ["", "edge", "sharp,extended"]})


def tangential():
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.crval, wcs.wcs.crpix, wcs.wcs.cdelt = [30, -20], [50, 50], [-2e-4, 2e-4]
    return wcs


def test_pixels_are_matched_within_the_radius(tmp_path):
    path = tmp_path / "known.csv"
    Table({"x": [11.0, 50.0, 300.0], "y": [10.0, 25.0, 5.0], "name": ["a", "b", "c"]}).write(path)
    table = cross_match(found(), str(path), wcs=None, name="new", radius=2.0)
    assert list(table["known"]) == ["a", "", ""]
    assert list(table["flags"]) == ["known", "edge", "sharp,extended"]
    assert table["known_distance"][0] == pytest.approx(1.0)
    assert np.isnan(table["known_distance"][1])
    wider = cross_match(found(), str(path), wcs=None, name="new", radius=6.0)
    assert list(wider["known"]) == ["a", "b", ""]
    assert list(wider["flags"]) == ["known", "edge,known", "sharp,extended"]


def test_coordinates_are_matched_by_the_wcs(tmp_path):
    wcs = tangential()
    ra, dec = wcs.wcs_pix2world([80.5, 10.0], [80.0, 60.0], 0)
    path = tmp_path / "known.ecsv"
    Table({"RA": ra, "DEC": dec}).write(path)
    table = cross_match(found(), str(path), wcs=wcs, name="new", radius=2.0)
    assert list(table["known"]) == ["", "", "1"]
    assert table["known_distance"][2] == pytest.approx(0.5, abs=1e-6)


def test_no_transients_is_no_error(tmp_path):
    path = tmp_path / "known.csv"
    Table({"x": [11.0], "y": [10.0]}).write(path)
    table = cross_match(found()[:0], str(path), wcs=None, name="new", radius=2.0)
    assert len(table) == 0
    assert {"known", "known_distance"} <= set(table.colnames)


def test_what_cannot_be_used_is_told(tmp_path):
    with pytest.raises(FileError, match="no such file"):
        cross_match(found(), str(tmp_path / "none.csv"), wcs=None, name="new", radius=2.0)
    path = tmp_path / "known.csv"
    Table({"ra": [30.0], "dec": [-20.0]}).write(path)
    with pytest.raises(InputError, match="WCS"):
        cross_match(found(), str(path), wcs=None, name="new", radius=2.0)
