"""Forced photometry: fluxes at known places against the truth, tables of places, series, times, program."""

from __future__ import annotations

import dataclasses
import json
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import MaskedColumn, Table
from astropy.wcs import WCS
from scipy.spatial import cKDTree

import skies
import zogyp
from zogyp import forced
from zogyp.cli import main
from zogyp.errors import FileError, InputError, OptionError, ZogypError
from zogyp.fluxrows import COLUMNS
from zogyp.headers import carried
from zogyp.image import Flag
from zogyp.obstime import mid_exposure
from zogyp.options import InputOptions, PhotOptions
from zogyp.positions import positions_of
from zogyp.psfflux import psf_fluxes
from zogyp.simulate import simulate, write_pair
from zogyp.sky import Sky

ONE = PhotOptions(threads=1)
SKY = Sky(
    shape=(480, 500),
    n_stars=220,
    n_galaxies=0,
    n_transients=40,
    transient_min=400,
    transient_max=8000,
    flux_max=3e5,
)


def header(**cards):
    """A header of these cards; ``_`` stands for ``-``."""
    made = fits.Header()
    for name, value in cards.items():
        made[name.replace("_", "-")] = value
    return made


# ---------------------------------------------------------------- against the truth


@pytest.fixture(scope="module")
def pair():
    return simulate(SKY, seed=4)


@pytest.fixture(scope="module")
def measured(pair):
    return zogyp.photometry(pair.new, pair.ref, pair.transients, ONE).table


@pytest.fixture(scope="module")
def alone(pair):
    """Transients without another source within two FWHM, which both images would blend with them."""
    x, y = np.array(pair.truth["x"]), np.array(pair.truth["y"])
    at = np.column_stack([pair.transients["x"], pair.transients["y"]])
    nearest = cKDTree(np.column_stack([x, y])).query(at, k=2)[0][:, 1]
    return nearest > 2 * SKY.new.fwhm


@pytest.mark.parametrize(
    ("name", "truth", "ratio"),
    [("flux_diff", "flux", 1.0), ("flux_new", "flux_new", 1.0), ("flux_ref", "flux_ref", SKY.flux_ratio)],
)
def test_fluxes_are_the_truth_within_their_errors(pair, measured, alone, name, truth, ratio):
    """n pulls: mean 0 within 4 / sqrt(n), spread 1 within 4 / sqrt(2 n), none beyond 4.5."""
    pulls = (measured[name] - pair.transients[truth] / ratio) / measured[f"{name}_err"]
    pulls = np.array(pulls)[alone]
    n = pulls.size
    assert n > 25
    assert abs(pulls.mean()) < 4 / np.sqrt(n)
    assert abs(pulls.std() - 1) < 4 / np.sqrt(2 * n)
    assert np.abs(pulls).max() < 4.5


def test_columns_units_and_what_they_say_of_each_other(pair, measured):
    assert measured.colnames == [name for name, *_ in COLUMNS if name != "name"]
    for name, unit, description in COLUMNS:
        if name != "name":
            assert (
                str(measured[name].unit or "") == (unit or "") and measured[name].description == description
            )
    assert list(measured["id"]) == list(pair.transients["id"])
    assert np.allclose(measured["scale"], 1 / SKY.flux_ratio, rtol=0.01)  # what some hundred stars give
    assert np.allclose(measured["flux"], measured["flux_diff"] / measured["scale"])
    assert np.allclose(measured["flux_err"], measured["flux_diff_err"] / measured["scale"])
    total = measured["flux"] + measured["flux_ref"] / measured["scale"]
    seen = np.array(total) > 0
    assert np.allclose(measured["mag"][seen], pair.ref.zero_point - 2.5 * np.log10(total[seen]))
    assert np.isnan(measured["mag"][~seen]).all()
    error = 2.5 / np.log(10) * measured["flux_err"] / total
    assert np.allclose(measured["mag_err"][seen], error[seen])
    assert set(measured["flags"]) <= {"", "edge"}
    assert np.isnan(measured["time"]).all()


def test_nothing_is_measured_where_nothing_is(pair):
    """Empty places: fluxes are zero within their errors in both images and in the difference."""
    y, x = (a.ravel() for a in np.mgrid[30:450:14, 30:470:14])
    at = np.column_stack([pair.truth["x"], pair.truth["y"]])
    bright = np.array(pair.truth["flux_new"] + pair.truth["flux_ref"]) > 0
    far = cKDTree(at[bright]).query(np.column_stack([x, y]))[0] > 12
    got = zogyp.photometry(pair.new, pair.ref, Table({"x": x[far], "y": y[far]}), ONE).table
    n = far.sum()
    assert n > 200
    for name in ("flux_diff", "flux_new", "flux_ref"):
        pulls = np.array(got[name] / got[f"{name}_err"])
        # the level of the sky, which the error does not hold, is known to about 0.2 sigma of a star's flux
        assert abs(pulls.mean()) < 4 / np.sqrt(n) + 0.2, name
        assert abs(pulls.std() - 1) < 4 / np.sqrt(2 * n), name


def test_sky_and_pixels_are_the_same_places(pair, measured):
    pixels = pair.transients["x", "y"]
    got = zogyp.photometry(pair.new, pair.ref, pixels, ONE).table
    for name in ("x", "y", "ra", "dec", "snr", "flux", "flux_new", "flux_ref"):
        # the WCS and back is good to 1e-9 px; the fluxes follow
        assert np.allclose(got[name], measured[name], rtol=1e-5, atol=1e-6), name
    assert list(got["id"]) == list(range(1, len(pixels) + 1))


def test_fluxes_of_one_image_by_hand():
    """A star beside a brighter one, drawn without zogyp: its light is taken off, its own is measured."""
    mixture = skies.gaussian(3.5)
    image = np.zeros((60, 70))
    places = [(30.3, 28.6, 4000.0), (36.8, 31.2, 9e4)]
    for x, y, flux in places:
        skies.add(image, x, y, flux, mixture)
    known = skies.catalogue(*zip(*places, strict=True), flux_err=20)
    exposure = skies.exposure(image, known, skies.true_psf(mixture))
    x, y = (np.array(a) for a in ([30.3, 36.8, 12.0], [28.6, 31.2, 12.0]))
    flux, error = psf_fluxes(exposure, x, y)
    # the quintic B-spline follows a Gaussian of 3.5 px to some 1e-4
    assert flux == pytest.approx([4000, 9e4, 0], rel=2e-3, abs=1)
    p = skies.stamp(mixture, 0, 0, 45)
    assert error[2] == pytest.approx(5 / np.sqrt((p**2).sum()), rel=0.01)  # sky alone: sigma / |P|
    assert error[0] > np.hypot(error[2], np.sqrt(4000 / 2) * 0.8)  # and photons, the neighbour's too


def test_masked_and_cut_places():
    """Half of the PSF's weight decides; what is left of it gives the flux."""
    mixture = skies.gaussian(4.0)
    image = np.zeros((60, 60))
    for x, y in ((20, 20), (40, 40), (0, 30)):
        skies.add(image, x, y, 1e4, mixture)
    mask = np.zeros(image.shape, np.uint16)
    mask[20, 20] = Flag.BAD
    mask[37:44, 37:44] = Flag.SATURATED
    none = skies.catalogue([], [], [], flux_err=1)
    exposure = skies.exposure(image, none, skies.true_psf(mixture), mask=mask)
    x, y = (np.array(a, dtype=float) for a in ([20, 40, 0, -30, 90], [20, 40, 30, 30, 30]))
    flux, error = psf_fluxes(exposure, x, y)
    assert flux[[0, 2]] == pytest.approx([1e4, 1e4], rel=2e-3)
    assert np.isnan(flux[[1, 3, 4]]).all() and np.isnan(error[[1, 3, 4]]).all()


def test_flags_of_masked_and_outside_places(pair):
    mask = pair.new.mask.copy()
    mask[95:106, 195:206] = Flag.BAD
    new = dataclasses.replace(pair.new, mask=mask)
    at = Table({"x": [200.0, 209.0, 250.0, -40.0, 300.0], "y": [100.0, 100, 200, 5, np.nan]})
    got = zogyp.photometry(new, pair.ref, at, ONE).table
    assert [str(f) for f in got["flags"]] == ["near_bad,unjudged", "near_bad", "", "outside", "outside"]
    for name in ("snr", "flux", "flux_new", "mag"):
        assert np.isnan(got[name][[0, 3, 4]]).all(), name
    assert np.isfinite(got["flux"][[1, 2]]).all()
    assert np.isfinite(got["flux_ref"][0])


# ---------------------------------------------------------------- a series


@dataclasses.dataclass
class Series:
    """Exposures of a field with one star that varies, and how bright it is in each."""

    images: list
    flux: np.ndarray
    depth: np.ndarray
    at: tuple


@pytest.fixture(scope="module")
def series():
    """Four exposures, the first the reference: of other depth, seeing and place, one moved by 0.8 px."""
    at, flux = (120.4, 100.7), np.array([6e3, 2e4, 9e3, 2e3])
    depth, moved = np.array([1.0, 0.7, 1.3, 1.0]), [(0, 0), (5.3, -3.6), (0.6, 0.5), (-4, 7)]
    rng = np.random.default_rng(8)
    n = 70
    x, y, bright = rng.uniform(-8, 248, n), rng.uniform(-8, 228, n), np.exp(rng.uniform(8, 11.5, n))
    apart = np.hypot(x - at[0], y - at[1]) > 15
    images = []
    for i in range(4):
        plane = np.zeros((220, 240))
        mixture = skies.gaussian((3.2, 3.9, 3.4, 3.6)[i], wings=0.05)
        for a, b, f in zip(x[apart], y[apart], bright[apart], strict=True):
            skies.add(plane, a + moved[i][0], b + moved[i][1], depth[i] * f, mixture)
        skies.add(plane, at[0] + moved[i][0], at[1] + moved[i][1], depth[i] * flux[i], mixture)
        electrons = rng.poisson((plane + 200) * 2.0) + rng.normal(0, 5, plane.shape)
        pixels = (electrons / 2.0).astype(np.float32)
        cards = header(GAIN=2.0, RDNOISE=5.0, MJD_OBS=60000.0 + i, EXPTIME=172.8)
        image = zogyp.Image(
            pixels,
            np.zeros(pixels.shape, np.uint16),
            gain=2.0,
            read_noise=5.0,
            header=cards,
            mjd=mid_exposure(cards, 172.8),
            name=f"e{i}",
        )
        images.append(image)
    return Series(images, flux, depth, at)


@pytest.fixture(scope="module")
def curve(series):
    at = Table({"x": [series.at[0]], "y": [series.at[1]], "NAME": ["V1"]})
    return zogyp.photometry(series.images[1:], series.images[0], at, ONE)


def test_a_light_curve_is_in_the_unit_of_the_reference(series, curve):
    table = curve.table
    assert list(table["image"]) == ["e1", "e2", "e3"] and list(table["name"]) == ["V1"] * 3
    assert table["time"] == pytest.approx([60001.001, 60002.001, 60003.001], abs=1e-9)
    assert table["scale"] == pytest.approx(series.depth[1:], rel=0.01)
    pulls = (table["flux"] - (series.flux[1:] - series.flux[0])) / table["flux_err"]
    assert np.abs(pulls).max() < 4
    # each image measures the same reference again; its flux is that of the star in it
    ref = np.array(table["flux_ref"] / table["scale"])
    assert np.abs(ref - series.flux[0]).max() < 5 * (table["flux_ref_err"] / table["scale"]).max()
    assert np.isnan(table["mag"]).all() and curve.left_out == () and curve.unit == "adu"
    assert np.allclose(table["x"], series.at[0])


def test_an_image_moved_by_less_than_a_pixel_is_measured_where_it_lies(series, curve):
    """Such an image is not resampled, so the place is another in it: its flux there must be all of it."""
    row = curve.table[1]
    off = row["flux_new"] - series.depth[2] * series.flux[2]
    # 0.78 px beside a star of 3.4 px, 1 - exp(-0.78² / 4 sigma²) = 7 per cent of its flux would be lost
    assert abs(off) < 3 * row["flux_new_err"]
    assert 0.07 * series.depth[2] * series.flux[2] > 6 * row["flux_new_err"]


def test_side_by_side_gives_the_same(series, curve):
    at = Table({"x": [series.at[0]], "y": [series.at[1]], "NAME": ["V1"]})
    told = []
    with ThreadPoolExecutor(2) as pool:
        other = zogyp.photometry(
            series.images[1:],
            series.images[0],
            at,
            PhotOptions(threads=2),
            executor=pool,
            progress=lambda *a: told.append(a),
        )
    for name in curve.table.colnames:
        assert list(other.table[name]) == pytest.approx(list(curve.table[name]), nan_ok=True), name
    assert [done for _, done in told] == pytest.approx([1 / 3, 2 / 3, 1])


@pytest.mark.parametrize("workers", [0, 1])
def test_the_reference_is_measured_once_for_a_batch(monkeypatch, workers):
    """Six images: without an executor together, else in three batches for each worker."""
    small = simulate(dataclasses.replace(SKY, shape=(240, 250), n_stars=70, n_transients=4), seed=4)
    images = [dataclasses.replace(small.new, name=f"n{i}") for i in range(6)]
    ref, at = small.ref, Table({"x": [100.0], "y": [120.0]})
    made = []

    class Counted(forced.Reference):
        def __init__(self, *args):
            made.append(args)
            super().__init__(*args)

    monkeypatch.setattr(forced, "Reference", Counted)
    options = PhotOptions(threads=max(workers, 1))
    pool = ThreadPoolExecutor(workers) if workers else None
    got = zogyp.photometry(images, ref, at, options, executor=pool)
    assert len(got.table) == 6 and len(made) == (3 if workers else 1)
    alone = zogyp.photometry(images[:1], ref, at, options)
    for row in got.table:
        assert row["flux"] == alone.table[0]["flux"] and row["flux_err"] == alone.table[0]["flux_err"]


def test_an_image_that_fails_is_left_out_and_named(series, tmp_path):
    blank = dataclasses.replace(series.images[2], data=np.full((220, 240), 3, np.float32), name="blank")
    at = Table({"x": [series.at[0]], "y": [series.at[1]]})
    told = []
    got = zogyp.photometry(
        [blank, series.images[1]], series.images[0], at, ONE, progress=lambda *a: told.append(a)
    )
    assert list(got.table["image"]) == ["e1"] and len(got.left_out) == 1
    assert got.left_out[0][0] == "blank" and "constant" in got.left_out[0][1]
    fractions = [done for _, done in told]
    assert fractions == sorted(fractions) and fractions[-1] == 1 and told[-1][0] == "e1: done"
    with pytest.raises(
        ZogypError, match=r"none of the 2 images could be measured; the first: blank: .*constant"
    ):
        zogyp.photometry([blank, blank], series.images[0], at, ONE)
    with pytest.raises(zogyp.errors.PixelError):
        zogyp.photometry(blank, series.images[0], at, ONE)


def test_options_of_a_subtraction_will_do(series, curve):
    """What `grid` says does not count, and cannot be told where it has no meaning."""
    at = Table({"x": [series.at[0]], "y": [series.at[1]]})
    options = zogyp.SubtractOptions(threads=1, grid="new")
    got = zogyp.photometry([series.images[1]], series.images[0], at, options).table
    assert got["flux"][0] == curve.table["flux"][0] and got["x"][0] == series.at[0]
    with pytest.raises(TypeError):
        PhotOptions(grid="new")


# ---------------------------------------------------------------- places


def written(table, path):
    """A table as a file of the kind that its ending says."""
    kinds = {
        ".csv": "ascii.csv",
        ".ecsv": "ascii.ecsv",
        ".fits": "fits",
        ".xml": "votable",
        ".txt": "ascii.basic",
    }
    table.write(path, format=kinds[path.suffix])
    return path


@pytest.mark.parametrize("ending", [".csv", ".ecsv", ".fits", ".xml", ".txt"])
def test_tables_of_every_kind(tmp_path, ending):
    table = Table({"ID": [7, 9], "Name": ["a", "b"], "X": [1.5, 2.5], "Y": [3.0, 4.0]})
    got = positions_of(written(table, tmp_path / f"p{ending}"))
    assert list(got.x) == [1.5, 2.5] and list(got.y) == [3, 4] and np.isnan(got.ra).all()
    assert got.labels == {"id": [7, 9], "name": ["a", "b"]}


@pytest.mark.parametrize(
    ("text", "ra", "dec"),
    [
        ("ra,dec\n# a comment\n10.5,-3\n", 10.5, -3),
        ("RAJ2000,DEJ2000\n10.5,-3\n", 10.5, -3),
        ("ra,dec\n18:15:29,-25:17:06\n", 273.870833, -25.285),
        ("RA_ICRS,DE_ICRS\n18h15m29s,-25d17m06s\n", 273.870833, -25.285),
    ],
)
def test_coordinates_by_any_name_and_in_any_way(tmp_path, text, ra, dec):
    path = tmp_path / "p.csv"
    path.write_text(text)
    got = positions_of(path)
    assert got.ra == pytest.approx([ra], abs=1e-6) and got.dec == pytest.approx([dec], abs=1e-6)
    assert np.isnan(got.x).all()


def test_units_of_columns_count():
    table = Table({"ra": [1.0], "dec": [0.5]}, units={"ra": "hourangle", "dec": "rad"})
    got = positions_of(table)
    assert got.ra == pytest.approx([15]) and got.dec == pytest.approx([np.rad2deg(0.5)])


def test_the_sky_decides_where_it_is_known(pair):
    """Rows without coordinates are taken by their pixels; masked values are none."""
    ra = MaskedColumn([150.0, 0.0], mask=[False, True])
    table = Table({"ra": ra, "dec": [2.0, 2.0], "x": [3.0, 40.0], "y": [3.0, 50.0]})
    got = positions_of(table).on(pair.ref.wcs, "ref")
    assert got.x == pytest.approx([249.5, 40]) and got.y == pytest.approx([239.5, 50])
    assert np.isfinite(got.ra).all()
    blind = positions_of(table).on(None, "ref")
    assert list(blind.x) == [3, 40] and np.isnan(blind.ra[1])


def test_places_behind_the_sky_have_no_pixel(pair):
    table = Table({"ra": [330.0, 150.0, 10.0], "dec": [-2.0, 2.0, 100.0]})
    got = positions_of(table).on(pair.ref.wcs, "ref")
    assert np.isfinite(got.x).tolist() == [False, True, False]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a,b\n1,2\n", "columns x and y, or ra and dec, are needed; the table has: a, b"),
        ("x,ra\n1,2\n", "the table has: x, ra"),
        ("x,y\n", "no rows"),
        ("x,y\n1,two\n", "column y must hold numbers"),
        ("ra,dec\nhere,there\n", "column ra must hold angles"),
        ("", "not a table"),
    ],
)
def test_tables_that_cannot_be_used(tmp_path, text, words):
    path = tmp_path / "p.csv"
    path.write_text(text)
    with pytest.raises(FileError, match=words) as caught:
        positions_of(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(FileError, match="there is no such file"):
        positions_of(tmp_path / "none.csv")
    with pytest.raises(FileError, match="directory"):
        positions_of(tmp_path)
    for ending in (".fits", ".xml", ".ecsv"):
        path = tmp_path / f"p{ending}"
        path.write_bytes(b"\x00\xff nothing of the kind" * 100)
        with pytest.raises(FileError, match="not a table that can be read"):
            positions_of(path)


def test_tables_in_memory_that_cannot_be_used(pair):
    wrong = [
        (Table({"a": [1]}), "columns x and y"),
        (Table({"x": [[1, 2]], "y": [[1, 2]]}), "one number in each row"),
        (Table({"ra": [1.0], "dec": [1.0]}, units={"ra": "m"}), "must be an angle, not m"),
        (Table({"x": [-50.0, 900.0], "y": [3.0, 3.0]}), r"none of the 2 places lies on ref \(500 x 480 px\)"),
        (Table({"ra": [20.0], "dec": [2.0]}), "none of the 1 places"),
    ]
    for table, words in wrong:
        with pytest.raises(InputError, match=words):
            zogyp.photometry(pair.new, pair.ref, table, ONE)
    bare = dataclasses.replace(pair.ref, wcs=None)
    with pytest.raises(InputError, match=r"ra and dec need .* header of ref. Give x and y"):
        zogyp.photometry(pair.new, bare, Table({"ra": [150.0], "dec": [2.0]}), ONE)
    with pytest.raises(OptionError, match="images must be one at least"):
        zogyp.photometry([], pair.ref, Table({"x": [1.0], "y": [1.0]}), ONE)


# ---------------------------------------------------------------- times


@pytest.mark.parametrize(
    ("cards", "exptime", "mjd"),
    [
        ({"MJD_OBS": 56507.79418}, 200.0, 56507.79418 + 100 / 86400),
        ({"MJD_OBS": "56507.79418"}, None, 56507.79418),
        ({"MJD": 2456508.29418}, None, 56507.79418),
        ({"JD": 2451545.0}, None, 51544.5),
        ({"JD": 2451545.0}, 86400.0, 51545.0),
        ({"MJD_AVG": 51544.5, "MJD_OBS": 51544.4}, 86400.0, 51544.5),
        ({"DATE_AVG": "2000-01-01T12:00:00"}, 60.0, 51544.5),
        ({"DATE_OBS": "2000-01-01T12:00:00.0"}, None, 51544.5),
        ({"DATE_OBS": "2000-01-01T12:00:00Z"}, None, 51544.5),
        ({"DATE_OBS": "2000-01-01", "TIME_OBS": "12:00:00"}, None, 51544.5),
        ({"DATE_OBS": "2000-01-01", "UT": " 06:00:00.00 "}, 43200.0, 51544.5),
        ({"DATE_OBS": "01/01/99", "UT": "12:00"}, None, 51179.5),
        ({"DATE_OBS": "1999-12-31T23:59:60.5"}, None, 51544 + 0.5 / 86400),
        ({"MJD_OBS": 0.0, "DATE_OBS": "2000-01-01T12:00:00"}, None, 51544.5),
        ({"DATE_OBS": "2000-01-01"}, None, None),  # which hour of the day?
        ({"DATE_OBS": "2000-01-01", "UT": "noon"}, None, None),
        ({"DATE_OBS": "2000-13-41T12:00:00"}, None, None),
        ({"DATE_OBS": "2000-01-01T25:00:00"}, None, None),
        ({"DATE_OBS": "yesterday", "MJD_OBS": "late", "JD": True}, None, None),
        ({"MJD_OBS": 1e9}, None, None),
        ({}, 30.0, None),
    ],
)
def test_when_an_image_was_taken(cards, exptime, mjd):
    got = mid_exposure(header(**cards), exptime)
    if mjd is None:
        assert got is None
    else:
        assert got == pytest.approx(mjd, abs=1e-8)


def test_the_time_is_read_and_stays_with_an_image(pair, tmp_path):
    """Cutouts keep it; an image on the grid of another keeps its own, also in a file."""
    path = tmp_path / "a.fits"
    cards = pair.new.header.copy()
    cards["DATE-OBS"], cards["EXPTIME"] = "2000-01-01T11:59:30", 60.0
    fits.writeto(path, pair.new.data, cards)
    image = zogyp.read(path)
    assert image.mjd == pytest.approx(51544.5, abs=1e-8)
    assert image.cutout(np.s_[:50, :50]).mjd == image.mjd
    grid = pair.new.header.copy()
    grid["MJD-OBS"], grid["CRVAL1"] = 58000.0, grid["CRVAL1"] + 0.001
    kept, _ = carried(image.header, WCS(grid))
    assert mid_exposure(kept, 60.0) == pytest.approx(51544.5, abs=1e-8) and "MJD-OBS" not in kept


# ---------------------------------------------------------------- the program


@pytest.fixture(scope="module")
def night(series, tmp_path_factory):
    """The series in files, and the place of its star."""
    folder = tmp_path_factory.mktemp("a night")
    for image in series.images:
        fits.writeto(folder / f"{image.name}.fits", image.data, image.header)
    (folder / "at.csv").write_text(f"name,x,y\nV1,{series.at[0]},{series.at[1]}\nsky,60,60\n")
    return folder


def test_the_program_writes_a_light_curve(night, curve, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    tokens = [str(night / f"e{i}.fits") for i in (1, 2, 3, 0)]
    cut = tmp_path / "cut.fits"
    cut.write_bytes((night / "e1.fits").read_bytes()[:9000])
    assert main(["phot", str(cut), *tokens, "--at", str(night / "at.csv"), "--threads", "1"]) == 0
    out, err = capsys.readouterr()
    assert "lightcurve.ecsv" in out and "lightcurve.png" in out and out.count("V1") == 3
    assert err.startswith(f"zogyp: left out: {cut}: ") and err.count("\n") == 1 and "truncated" in err
    got = Table.read("lightcurve.ecsv")
    assert len(got) == 6 and list(got["name"][:2]) == ["V1", "sky"]
    assert list(got["flux"][::2]) == pytest.approx(list(curve.table["flux"]), rel=1e-6)
    assert list(got["time"][::2]) == pytest.approx(list(curve.table["time"]))
    assert str(got["time"].unit) == "d" and got["flux"].description
    assert sorted(p.name for p in tmp_path.iterdir()) == ["cut.fits", "lightcurve.ecsv", "lightcurve.png"]


def test_json_and_names_of_files(night, tmp_path, capsys):
    out = tmp_path / "new folder" / "v1.csv"
    (tmp_path / "o.toml").write_text("threads = 1\n[new]\ngain = 2.0\n")
    tokens = ["phot", str(night / "e1.fits"), str(night / "e0.fits"), "--at", str(night / "at.csv")]
    assert main([*tokens, "-o", str(out), "--json", "--config", str(tmp_path / "o.toml")]) == 0
    printed, err = capsys.readouterr()
    told = json.loads(printed)
    assert err == "" and told["files"] == {"table": str(out), "picture": str(out.with_suffix(".png"))}
    assert told["reference"] == "e0.fits" and told["left_out"] == [] and len(told["rows"]) == 2
    assert told["rows"][0]["name"] == "V1" and told["rows"][0]["mag"] is None
    assert Table.read(out, format="ascii.csv")["flux"][0] == pytest.approx(told["rows"][0]["flux"])
    assert main([*tokens, "-o", str(tmp_path), "--quiet", "--threads", "1"]) == 0
    assert capsys.readouterr() == ("", "") and (tmp_path / "e1_phot.ecsv").exists()


@pytest.mark.parametrize(
    ("tokens", "status", "words"),
    [
        (["e1.fits", "--at", "at.csv"], 1, "one new image at least, and last the reference"),
        (["e1.fits", "e0.fits", "--at", "none.csv"], 1, "none.csv: there is no such file"),
        (["e1.fits", "gone.fits", "--at", "at.csv"], 1, "gone.fits: there is no such file"),
        (["gone.fits", "e0.fits", "--at", "at.csv"], 1, "gone.fits: there is no such file"),
        (["gone.fits", "away.fits", "e0.fits", "--at", "at.csv"], 1, "none of the 2 images"),
        (["e1.fits", "e0.fits", "--at", "at.csv", "-o", "at.csv"], 1, "another file than the inputs"),
        (["e1.fits", "e0.fits", "--at", "at.csv", "-o", "a.png"], 1, "….ecsv or ….csv"),
        (["e1.fits", "e0.fits"], 2, "--at"),
        (["e1.fits", "e0.fits", "--at", "at.csv", "--grid", "new"], 2, "--grid"),
    ],
)
def test_wrong_usage_is_told_in_a_line(night, tokens, status, words, monkeypatch, capsys):
    monkeypatch.chdir(night)
    before = sorted(p.name for p in night.iterdir())
    assert main(["phot", *tokens]) == status
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("zogyp: ") and err.count("\n") == 1 and words in err
    assert sorted(p.name for p in night.iterdir()) == before


def test_the_picture_shows_nine_places_at_most(pair, tmp_path):
    from zogyp.show.lightcurves import figure_of

    got = zogyp.photometry(pair.new, pair.ref, pair.transients[:11], ONE)
    figure = figure_of(got)
    shown = [axes for axes in figure.axes if axes.axison]
    assert len(shown) == 9 and "the first 9 of 11 places" in figure.get_suptitle()
    assert shown[-1].get_xlabel() == "image" and "adu" in shown[0].get_ylabel()


def test_files_and_memory_give_the_same(pair, measured, tmp_path):
    files = write_pair(pair, tmp_path)
    got = zogyp.photometry(files["new"], str(files["ref"]), pair.transients, ONE)
    for name in ("snr", "flux", "flux_new"):
        # the WCS of the file moves the places by 1e-12 px
        assert list(got.table[name]) == pytest.approx(list(measured[name]), rel=1e-6)
    assert got.inputs == (str(files["new"]), str(files["ref"]))
    with pytest.raises(OptionError, match="another file than the inputs"):
        got.write(files["ref"])
    options = dataclasses.replace(ONE, new=InputOptions(gain=3.0))
    other = zogyp.photometry(files["new"], files["ref"], pair.transients, options).table
    bright = measured["flux_new"] > 3000  # a larger gain: the photons of the source make less noise
    assert bright.any() and (other["flux_new_err"] < got.table["flux_new_err"])[bright].all()
