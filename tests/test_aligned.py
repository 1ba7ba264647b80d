"""Files of an alignment: what is in them, that zogyp and astropy read them, and that no input is replaced."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS

import mapped
import zogyp
from zogyp.aligned import CARDS, write_aligned, write_solution
from zogyp.errors import OptionError, OutputError
from zogyp.image import UNUSABLE, Flag
from zogyp.options import AlignOptions

GRID, OTHER = (300, 320), (310, 290)
ONE = AlignOptions(threads=1)
KNOWN = mapped.turned(GRID, OTHER, angle=-15.0, shift=(4.3, 2.2))
BAD = (150, 140)  # row and column of a bad pixel of the image


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A reference with TAN, and an image with a SIP, PV cards and a wrong place on the sky of its own."""
    folder = tmp_path_factory.mktemp("aligned")
    stars = mapped.stars(3, 200, GRID)
    ref = mapped.save(
        folder / "ref.fits", mapped.noisy(stars.light(mapped.IDENTITY, GRID, 3.0), 4), mapped.wcs()
    )
    header = mapped.wcs(KNOWN, error=(9.0, 5.0)).to_header()
    header["CTYPE1"], header["CTYPE2"] = "RA---TAN-SIP", "DEC--TAN-SIP"
    header.update({"A_ORDER": 2, "B_ORDER": 2, "A_2_0": 1e-6, "B_0_2": 2e-6, "AP_ORDER": 2, "BP_ORDER": 2})
    header.update({"GAIN": mapped.GAIN, "OBSERVER": "Herschel", "PV1_1": 1.0, "MJD-OBS": 58849.5})
    data = mapped.noisy(stars.light(KNOWN, OTHER, 3.2), 5)
    data[BAD] = np.nan
    fits.writeto(folder / "image.fits", data, header)
    return ref, folder / "image.fits"


@pytest.fixture(scope="module")
def aligned(files):
    return zogyp.align(files[1], to=files[0], options=ONE)


@pytest.fixture(scope="module")
def written(files, aligned, tmp_path_factory):
    path = tmp_path_factory.mktemp("written") / "out.fits"
    assert write_aligned(path, *aligned, inputs=tuple(map(str, files))) == path
    return path


def test_pixels_variance_and_mask_are_in_one_file(written, aligned):
    image, _ = aligned
    with fits.open(written) as hdus:
        hdus.verify("exception")
        assert [h.name for h in hdus] == ["PRIMARY", "VAR", "MASK"]
        assert [h.data.shape for h in hdus] == [GRID] * 3
        empty = (image.mask & (Flag.NO_DATA | Flag.BAD)) > 0
        assert np.array_equal(np.isnan(hdus[0].data), empty)
        assert np.array_equal(hdus[0].data[~empty], image.data[~empty])
        assert np.array_equal(hdus["VAR"].data, image.variance, equal_nan=True)
        assert np.array_equal(hdus["MASK"].data, image.mask)
        assert hdus["MASK"].header["BIT00"] == "BAD" and hdus["MASK"].header["BIT05"] == "REACHED"


@pytest.mark.parametrize("extension", [0, "VAR", "MASK"])
def test_the_coordinates_are_those_of_the_grid(written, extension):
    """Nothing of the image's own SIP and PV stays."""
    with fits.open(written) as hdus:
        header = hdus[extension].header
    for card in ("A_ORDER", "B_ORDER", "A_2_0", "B_0_2", "AP_ORDER", "BP_ORDER", "PV1_1"):
        assert card not in header
    x, y = np.random.default_rng(1).uniform(0, 300, (2, 50))
    here, there = WCS(header).pixel_to_world(x, y), mapped.wcs().pixel_to_world(x, y)
    assert here.separation(there).arcsec.max() < 1e-4  # digits of a double


def test_the_header_tells_what_was_done(written, aligned):
    header = fits.getheader(written)
    figures = aligned[1].figures()
    assert header["OBSERVER"] == "Herschel" and header["GAIN"] == mapped.GAIN
    for card, name, _ in CARDS:
        assert header[card] == figures[name] or header[card] == pytest.approx(figures[name], rel=1e-12)
    assert any("resampled by bspline5" in line for line in header["HISTORY"])


def test_zogyp_reads_back_what_it_wrote(written, aligned):
    image, _ = aligned
    again = zogyp.read(written)
    bad = (image.mask & np.uint16(UNUSABLE)) > 0
    only_reached = (image.mask & Flag.REACHED > 0) & ~bad
    assert only_reached.sum() > 20
    assert not (again.mask[only_reached] & np.uint16(UNUSABLE)).any(), "a warning is not a verdict"
    assert np.array_equal(again.good, ~bad)
    assert np.array_equal(again.data[~bad], image.data[~bad])
    assert np.array_equal(again.variance[~bad], image.variance[~bad])
    assert any("VAR" in note for note in again.notes) and any("MASK" in note for note in again.notes)


def test_a_written_image_can_be_subtracted(written, files):
    """On its new grid it is a partner for the reference, and all is noise."""
    result = zogyp.subtract(written, files[0], zogyp.SubtractOptions(threads=1))
    assert result.summary["alignment"]["resampled"] is False
    scorr = result.Scorr[np.isfinite(result.Scorr)]
    # 60,000 pixels of some 30 correlated ones know their spread to 2 %, twice that is allowed
    assert 1.4826 * np.median(np.abs(scorr - np.median(scorr))) == pytest.approx(1, abs=0.05)


def test_gzip_and_an_image_made_in_memory(aligned, tmp_path):
    """Neither header nor variance nor coordinates are needed."""
    image = replace(aligned[0], header=None, variance=None, wcs=None, path=None)
    path = write_aligned(tmp_path / "a.fits.gz", image, aligned[1])
    assert path.read_bytes()[:2] == b"\x1f\x8b"
    with fits.open(path) as hdus:
        assert [h.name for h in hdus] == ["PRIMARY", "MASK"]
        assert "CRVAL1" not in hdus[0].header


@pytest.mark.parametrize("role", [0, 1])
@pytest.mark.parametrize("how", ["itself", "link", "hard link", "extension"])
def test_an_input_is_never_replaced(files, aligned, tmp_path, role, how):
    copies = [tmp_path / "ref.fits", tmp_path / "image.fits"]
    for source, copy in zip(files, copies, strict=True):
        shutil.copy(source, copy)
    image = replace(aligned[0], path=f"{copies[1]}[0]" if how == "extension" else str(copies[1]))
    path = copies[role]
    if how in ("link", "hard link"):
        path = tmp_path / "other name.fits"
        (path.symlink_to if how == "link" else path.hardlink_to)(copies[role])
    before = [c.read_bytes() for c in copies]
    with pytest.raises(OptionError, match="input of this run"):
        write_aligned(path, image, aligned[1], inputs=(str(copies[0]),))
    assert [c.read_bytes() for c in copies] == before


def test_what_cannot_be_written_leaves_nothing(aligned, tmp_path):
    (tmp_path / "file").write_text("kept")
    with pytest.raises(OutputError):
        write_aligned(tmp_path / "file" / "out.fits", *aligned)
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


# ---------------------------------------------------------------- the solution alone


def test_a_solution_gives_the_same_map_again(files, aligned, tmp_path):
    registration = aligned[1]
    paths = write_solution(tmp_path / "a.b", registration, aligned[0].wcs, zogyp.read(files[1]))
    assert {k: p.name for k, p in paths.items()} == {"solution": "a.b.json", "header": "a.b.head"}
    told = json.loads(paths["solution"].read_text())
    assert told["shape"] == list(OTHER) and told["image"] == str(files[1])
    again = zogyp.Transform.from_dict(told["transform"])
    x, y = np.random.default_rng(2).uniform(-50, 350, (2, 100))
    assert np.array_equal(again(x, y), registration.transform(x, y))  # JSON keeps every digit
    assert np.array_equal(again.error(x, y), registration.transform.error(x, y))
    assert told["header_error"] < 0.02


def test_the_head_file_shows_the_sky_of_the_grid(files, aligned, tmp_path):
    """The image's own pixels, by astropy, on the sky of the grid under the true map."""
    paths = write_solution(tmp_path / "a", aligned[1], mapped.wcs(), zogyp.read(files[1]))
    header = fits.Header.fromtextfile(paths["header"])
    assert header["RADESYS"] == "ICRS"
    x, y = np.random.default_rng(2).uniform(60, 240, (2, 100))
    here = WCS(header).pixel_to_world(*KNOWN(x, y))
    there = mapped.wcs().pixel_to_world(x, y)
    # one second of arc a pixel: the registration's own 0.04 px, and 0.01 of the header
    assert here.separation(there).arcsec.max() < 0.05
    lines = paths["header"].read_text().splitlines()
    assert lines[-1].strip() == "END" and all(len(line) <= 80 for line in lines)


def test_without_a_sky_there_is_no_head_file(files, aligned, tmp_path):
    paths = write_solution(tmp_path / "a", aligned[1], None, zogyp.read(files[1]))
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"] == [p.name for p in paths.values()]
    assert "header_error" not in json.loads(paths["solution"].read_text())
