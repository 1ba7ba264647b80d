"""The 1.x co-addition by its old names, without the traps of 1.6.3."""

from __future__ import annotations

import inspect
import os
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

import mapped
import skies
import zogyp
from zogyp.coadd_files import read_coadd
from zogyp.errors import FileError, InputError, OptionError, OutputError, ShapeError, ZogypError
from zogyp.zo_coadd import med_comb, prop_coad

SHAPE, FWHM = (256, 256), 3.0
SHIFT = (3.4, -2.7)  # px, of the third exposure
PLACE, FLUX = (101.3, 142.8), 4000.0  # of a transient of a later exposure
NAMES = ["a.fits", "b.fits", "c.fits"]


def drawn():
    """Stars on the grid, none near the transient."""
    stars = mapped.stars(11, 70, SHAPE, beyond=20, flux=(3e3, 8e4))
    far = np.hypot(stars.x - PLACE[0], stars.y - PLACE[1]) > 15
    return mapped.Stars(stars.x[far], stars.y[far], stars.flux[far])


STARS = drawn()


@pytest.fixture(scope="module")
def sky(tmp_path_factory):
    """Three exposures, the third moved, beside them a later one with a transient; nobody changes them."""
    folder = tmp_path_factory.mktemp("sky") / "my images (é)"
    folder.mkdir()
    moved = mapped.Known(np.array([[1, 0, SHIFT[0]], [0, 1, SHIFT[1]]]))
    for seed, (name, known) in enumerate(zip(NAMES, (mapped.IDENTITY, mapped.IDENTITY, moved), strict=True)):
        mapped.save(folder / name, mapped.noisy(STARS.light(known, SHAPE, FWHM), seed + 1), mapped.wcs(known))
    light = STARS.plus(*PLACE, FLUX).light(mapped.IDENTITY, SHAPE, FWHM)
    mapped.save(folder.parent / "later.fits", mapped.noisy(light, 9), mapped.wcs())
    before = {p: p.read_bytes() for p in folder.iterdir()}
    yield folder
    assert {p: p.read_bytes() for p in folder.iterdir()} == before


@pytest.fixture
def images(sky, tmp_path, monkeypatch):
    """Copies in a folder ``images`` of the working directory."""
    folder = tmp_path / "images"
    shutil.copytree(sky, folder)
    monkeypatch.chdir(tmp_path)
    return folder


@pytest.fixture(scope="module")
def made(sky, tmp_path_factory):
    """A folder with ``images`` and the coadd among them; its name, and R."""
    folder = tmp_path_factory.mktemp("made")
    shutil.copytree(sky, folder / "images")
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("error")
        patch.chdir(folder)
        name, R = prop_coad(["images"], make_fits=True)
    return folder, name, R


def pixels(folder, names=NAMES):
    return np.array([fits.getdata(folder / name) for name in names])


def listing(folder):
    return sorted(path.name for path in folder.iterdir())


def inputs(name):
    return fits.getdata(name, "INPUTS")


def flux_scale(R):
    """F_R by a matched filter on isolated stars: exposures of one PSF give a coadd that has it too."""
    n, found = 21, []
    for x, y, flux in zip(STARS.x, STARS.y, STARS.flux, strict=True):
        alone = np.sort(np.hypot(STARS.x - x, STARS.y - y))[1] > 15
        i, j = round(x), round(y)
        if alone and flux > 8e3 and min(i, j) > 15 and max(i, j) < 240:
            model = skies.stamp(skies.gaussian(FWHM), x - i, y - j, n)
            cut = R[j - n // 2 : j + n // 2 + 1, i - n // 2 : i + n // 2 + 1]
            found.append((cut * model).sum() / (model**2).sum() / flux)
    assert len(found) >= 8
    return np.median(found)


# ---------------------------------------------------------------- names


def test_names_and_arguments_are_those_of_the_old_version():
    assert zogyp.zo_coadd.prop_coad is prop_coad and zogyp.zo_coadd.med_comb is med_comb
    for call, first in ((prop_coad, "coadd_ims"), (med_comb, "med_ims")):
        parameters = inspect.signature(call).parameters
        assert list(parameters) == [first, "make_fits"]
        assert parameters["make_fits"].default is False


# ---------------------------------------------------------------- med_comb


@pytest.mark.parametrize("n", [1, 2, 3])
def test_median_is_that_of_numpy(images, n):
    names = NAMES[:n]
    result = med_comb([images / name for name in names])
    assert isinstance(result, np.ndarray) and result.dtype == np.float32
    np.testing.assert_array_equal(result, np.median(pixels(images, names), axis=0))
    assert listing(images) == NAMES


def test_median_as_a_file(images):
    name, result = med_comb(["images"], make_fits=True)
    assert name == "images/a_MED_COMB.fits"
    assert listing(images) == ["a.fits", "a_MED_COMB.fits", "b.fits", "c.fits"]
    np.testing.assert_array_equal(fits.getdata(name), result)
    np.testing.assert_array_equal(result, np.median(pixels(images), axis=0))
    header = fits.getheader(name)
    assert (header["NCOMBINE"], header["COMBMET"], header["CRVAL1"]) == (3, "median", 150.0)
    assert not {"GAIN", "RDNOISE"} & set(header)  # of one exposure, not of their median
    told = "".join(header["HISTORY"])
    assert all(f"image {i}: images/{n}" in told for i, n in enumerate(NAMES, start=1))
    # once more: the first result is no input of the second
    assert med_comb(["images"], make_fits=True)[0] == name
    np.testing.assert_array_equal(fits.getdata(name), result)


def test_median_that_cannot_be(images):
    fits.writeto("images/d.fits", np.ones((30, 40), np.float32))
    with pytest.raises(ShapeError, match=r"d\.fits"):
        med_comb(["images"], make_fits=True)
    Path("images/c.fits").write_bytes(b"no image at all")
    with pytest.raises(FileError, match=r"c\.fits"):
        med_comb([f"images/{name}" for name in NAMES], make_fits=True)
    assert listing(images) == [*NAMES, "d.fits"]


# ---------------------------------------------------------------- prop_coad


def test_coadd_and_its_file(made):
    folder, name, R = made
    assert name == "images/a_COAD.fits"
    assert listing(folder / "images") == ["a.fits", "a_COAD.fits", "b.fits", "c.fits"]
    assert isinstance(R, np.ndarray) and R.shape == SHAPE and R.dtype == np.float32
    np.testing.assert_array_equal(fits.getdata(folder / name), R)
    table = inputs(folder / name)
    assert list(table["file"]) == [f"images/{n}" for n in NAMES]
    assert table["weight"] == pytest.approx(np.full(3, 1 / 3), abs=0.02)  # noise and flux scale: 1 % each
    assert table["dx"][2] == pytest.approx(SHIFT[0], abs=0.1)
    # the border of the third lies within, and cosmic rays there are none
    assert (fits.getdata(folder / name, "COVERAGE")[20:-20, 20:-20] == 3).mean() > 0.99


def test_coadd_is_of_unit_noise(made):
    y, x = np.indices(SHAPE)
    blank = np.min(np.hypot(x[..., None] - STARS.x, y[..., None] - STARS.y), axis=-1) > 10
    values = made[2][blank & np.isfinite(made[2])]
    # 40,000 pixels and more give it to 0.5 %, noise and sky are measured to 1 %, faint wings are left
    assert 1.4826 * np.median(np.abs(values - np.median(values))) == pytest.approx(1, abs=0.03)


def test_directory_gives_the_same_once_more(made, tmp_path, monkeypatch):
    """Its products in it are no exposures: the coadd, that under another name, the median, one of 1.6.3."""
    shutil.copytree(made[0], tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    shutil.copy(made[1], "images/0.fits")
    fits.writeto("images/z_COAD.fits", made[2])
    med_comb(["images"], make_fits=True)
    name, again = prop_coad("images", make_fits=True)
    assert name == made[1]
    np.testing.assert_array_equal(again, made[2])
    np.testing.assert_array_equal(fits.getdata(name), made[2])
    assert list(inputs(name)["file"]) == [f"images/{n}" for n in NAMES]


def test_every_exposure_counts_once_the_first_included(made, images):
    """Without the first the coadd is as much shallower as it must be. What cannot be used is told."""
    Path("images/d.fits").touch()
    names = ["images/b.fits", "images/b.fits", "images/c.fits", "images/d.fits"]
    with pytest.warns(UserWarning) as told:
        name, R = prop_coad(names, make_fits=True)
    said = [str(w.message) for w in told]
    assert said == [
        "images/d.fits cannot be used and is left out: is empty (0 bytes)",
        "an exposure comes twice and is counted once: images/b.fits",
    ]
    assert {w.filename for w in told} == {__file__}
    assert name == "images/b_COAD.fits" and fits.getheader(name)["NLEFTOUT"] == 1
    assert list(inputs(name)["file"]) == ["images/b.fits", "images/c.fits"]
    # F / sigma of one exposure is known in closed form; noise and flux scale are measured to 1 % each
    three, two = flux_scale(made[2]), flux_scale(R)
    assert three == pytest.approx(np.sqrt(3) / mapped.SIGMA, rel=0.02)
    assert two == pytest.approx(np.sqrt(2) / mapped.SIGMA, rel=0.02)
    assert three / two == pytest.approx(np.sqrt(3 / 2), rel=0.015)


def test_no_exposure_can_be_used(images):
    for name in NAMES:
        (images / name).write_bytes(b"")
    with pytest.raises(ZogypError, match=r"no exposure can be used.*a\.fits"):
        prop_coad(["images"], make_fits=True)
    assert listing(images) == NAMES


def test_coadd_is_a_reference(made, sky):
    found = zogyp.subtract(sky.parent / "later.fits", made[0] / made[1]).transients
    found = found[[("edge" not in flags) for flags in found["flags"]]]
    assert len(found) == 1
    assert np.hypot(found["x"][0] - PLACE[0], found["y"][0] - PLACE[1]) < 0.3
    assert found["flux"][0] == pytest.approx(FLUX, rel=0.1)  # S/N of 50, and 1 % of scale
    assert read_coadd(made[0] / made[1]).psf.fwhm == pytest.approx(FWHM, rel=0.1)


# ---------------------------------------------------------------- which files


def test_duplicates_are_told_and_counted_once(images):
    os.link("images/b.fits", "images/link.fits")
    shutil.copy("images/b.fits", "images/copy.fits")
    names = ["images/b.fits", "images/b.fits", images / "b.fits", "images/../images/b.fits"]
    names += ["images/link.fits", "images/b.fits[0]", "images/copy.fits", "images/a.fits", "images/c.fits"]
    with pytest.warns(UserWarning, match="counted once") as told:
        result = med_comb(names)
    assert len(told) == 6 and {w.filename for w in told} == {__file__}
    assert str(told[0].message).endswith("counted once: images/b.fits")
    assert str(told[5].message).endswith("counted once: images/copy.fits (the pixels of images/b.fits)")
    np.testing.assert_array_equal(result, np.median(pixels(images), axis=0))


def test_lists_may_be_written_in_many_ways(images, sky, monkeypatch):
    whole = np.median(pixels(images), axis=0)
    monkeypatch.chdir(images)
    ways = [NAMES, tuple(NAMES), np.array(NAMES), (Path(n) for n in NAMES), ".", ["."], Path(".")]
    ways += [str(sky), [sky], [f"{sky}/"], ["./a.fits", *NAMES[1:]]]  # with spaces, brackets and an accent
    for way in ways:
        np.testing.assert_array_equal(med_comb(way), whole)
    np.testing.assert_array_equal(med_comb("a.fits"), fits.getdata("a.fits"))
    name, _ = med_comb("b.fits", make_fits=True)
    assert name == "b_MED_COMB.fits" and Path(name).is_file()
    # named, a result is taken; it is a result of one, and its name grows
    name, _ = med_comb(["b_MED_COMB.fits", "a.fits"], make_fits=True)
    assert name == "b_MED_COMB_MED_COMB.fits" and fits.getheader(name)["NCOMBINE"] == 2


@pytest.mark.parametrize(
    ("first", "result"),
    [
        ("a.fits", "a"),
        ("field.z.fits", "field.z"),  # a band, not a kind of compression
        ("a.b.FIT", "a.b"),
        ("plain", "plain"),
        ("a.fits.gz", "a"),
        ("a.fits.fz", "a"),
    ],
)
def test_names_of_results(images, first, result):
    data = pixels(images)[0]
    if first.endswith(".fz"):
        fits.CompImageHDU(data).writeto(first)
    else:
        plain = Path(first).with_suffix("") if first.endswith(".gz") else Path(first)
        fits.writeto(plain if not first.endswith(".gz") else first, data)
    assert med_comb([first], make_fits=True)[0] == f"{result}_MED_COMB.fits"


def test_an_input_is_never_replaced(images):
    name, _ = med_comb(["images"], make_fits=True)
    Path(name).rename("images/a_COAD.fits")
    before = {p: p.read_bytes() for p in images.iterdir()}
    with pytest.raises(OutputError, match=r"a_COAD\.fits: it is one of the images"):
        prop_coad(["images/a.fits", "images/a_COAD.fits"], make_fits=True)
    Path("images/a_MED_COMB.fits").symlink_to("b.fits")
    with pytest.raises(OutputError, match=r"a_MED_COMB\.fits: it is one of the images"):
        med_comb(["images"], make_fits=True)
    Path("images/a_MED_COMB.fits").unlink()
    assert {p: p.read_bytes() for p in images.iterdir()} == before


def test_a_result_that_cannot_be_written(images, monkeypatch):
    Path("images/a_COAD.fits").mkdir()
    with pytest.raises(OutputError, match="directory"):
        prop_coad(["images"], make_fits=True)
    monkeypatch.setattr("os.access", lambda path, mode: False)  # whoever runs the tests may write anywhere
    with pytest.raises(OutputError, match="make_fits=False"):
        med_comb(["images"], make_fits=True)


@pytest.mark.parametrize("call", [prop_coad, med_comb])
def test_nothing_to_combine(images, call):
    Path("empty").mkdir()
    with pytest.raises(FileError, match="no FITS file in this folder"):
        call(["empty"])
    shutil.copy("images/a.fits", "empty/a_MED_COMB.fits")
    with pytest.raises(FileError, match="no exposure in this folder, but one FITS file"):
        call(["empty"])
    for none in ([], ()):
        with pytest.raises(OptionError, match="one at least"):
            call(none)
    with pytest.raises(FileError):
        call([""], make_fits=True)
    with pytest.raises(ZogypError, match=r"none\.fits"):
        call(["none.fits"])
    for wrong in (None, 5, {"a.fits"}, b"a.fits", [np.zeros((9, 9))], np.zeros((9, 9))):
        with pytest.raises(TypeError, match="path"):
            call(wrong)
    assert issubclass(FileError, InputError)
