"""PSF files: PSFEx's tables and stamps are read as meant, and written so that others can read them."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from zogyp.core.psfmodel import PSF
from zogyp.errors import FileError, InputError, NoImageError, OutputError
from zogyp.psf_files import read_psf, write_psf

SHAPE = (500, 640)  # rows, columns of the simulated field


def widths(x, y):
    """x and y sigma [px] of the simulated Gaussian stars: a different polynomial for each."""
    u, v = x / SHAPE[1] - 0.5, y / SHAPE[0] - 0.5
    return 1.8 + 0.8 * u + 0.6 * u * v, 2.0 - 0.5 * v + 0.4 * u * u


def gaussian(n, sx, sy, x0=0.0, y0=0.0):
    """Unit-sum Gaussian (n, n), centred at pixel n // 2 plus (x0, y0)."""
    axis = np.arange(n) - n // 2
    stamp = np.outer(np.exp(-0.5 * ((axis - y0) / sy) ** 2), np.exp(-0.5 * ((axis - x0) / sx) ** 2))
    return stamp / stamp.sum()


def field(seed=1, n=220):
    """Stars of varying width on a noisy sky."""
    rng = np.random.default_rng(seed)
    image = rng.normal(100, 3, SHAPE)
    axis_y, axis_x = np.arange(SHAPE[0]), np.arange(SHAPE[1])
    for x, y, flux in zip(
        rng.uniform(0, SHAPE[1], n), rng.uniform(0, SHAPE[0], n), 10 ** rng.uniform(4, 5.2, n), strict=True
    ):
        sx, sy = widths(x, y)
        star = np.outer(np.exp(-0.5 * ((axis_y - y) / sy) ** 2), np.exp(-0.5 * ((axis_x - x) / sx) ** 2))
        image += flux * star / (2 * np.pi * sx * sy)
    return image.astype(np.float32)


@pytest.fixture(scope="module")
def real_psf(tmp_path_factory):
    """A .psf made by the real programs from a field whose PSF is known."""
    sextractor = next(filter(shutil.which, ("source-extractor", "sextractor", "sex")), None)
    if sextractor is None or shutil.which("psfex") is None:
        pytest.skip("source-extractor and psfex are not installed")
    folder = tmp_path_factory.mktemp("psfex")
    fits.writeto(folder / "field.fits", field())
    columns = (
        "X_IMAGE Y_IMAGE FLUX_RADIUS FLUX_APER(1) FLUXERR_APER(1) ELONGATION SNR_WIN FLAGS VIGNET(41,41)"
    )
    (folder / "stars.param").write_text("\n".join(columns.split()))
    run = [sextractor, "field.fits", "-PARAMETERS_NAME", "stars.param", "-FILTER", "N", "-DETECT_THRESH", "5"]
    run += ["-CATALOG_TYPE", "FITS_LDAC", "-CATALOG_NAME", "stars.ldac", "-PHOT_APERTURES", "14"]
    subprocess.run(run, cwd=folder, check=True, capture_output=True)
    run = ["psfex", "stars.ldac", "-PSF_SIZE", "33,33", "-PSFVAR_DEGREES", "2", "-PSFVAR_NSNAP", "1"]
    run += ["-CHECKPLOT_TYPE", "NONE", "-CHECKIMAGE_TYPE", "NONE", "-WRITE_XML", "N"]
    subprocess.run(run, cwd=folder, check=True, capture_output=True)
    return folder / "stars.psf"


def evaluate(path, x, y, n):
    """A .psf at 0-based (x, y), read here from scratch, sinc interpolation: unit sum, centre at n // 2."""
    with fits.open(path) as hdus:
        h, planes = hdus[1].header, hdus[1].data["PSF_MASK"][0].astype(float)
    u = (x + 1 - h["POLZERO1"]) / h["POLSCAL1"]
    v = (y + 1 - h["POLZERO2"]) / h["POLSCAL2"]
    model = np.einsum("j,jab->ab", [1, u, u * u, v, u * v, v * v], planes)
    k = model.shape[0]
    position = (np.arange(n) - n // 2) / h["PSF_SAMP"] + k // 2
    w = np.sinc(position[:, None] - np.arange(k)[None, :])
    stamp = w @ model @ w.T
    return stamp / stamp.sum()


@pytest.mark.parametrize("where", [(40, 40), (600, 40), (40, 460), (600, 460), (320, 250)])
def test_psfex_file_is_evaluated_as_psfex_means_it(real_psf, where):
    psf = read_psf(real_psf)
    ours = psf.at(*where, size=25)
    theirs = evaluate(real_psf, *where, 25)
    # quintic B-spline against sinc between the same samples, five to a FWHM: their own difference is 2e-4
    assert np.abs(ours / ours.sum() - theirs).max() < 1e-3 * theirs.max()
    truth = gaussian(25, *widths(*where))
    # PSFEx's own error with 124 stars is 4 % in the worst corner; x and y exchanged give 8 to 27 %
    assert np.abs(ours - truth).max() < 0.05 * truth.max()
    assert np.abs(ours - truth.T).max() > 0.07 * truth.max()


def test_psfex_header_is_kept(real_psf):
    psf = read_psf(real_psf)
    header = fits.getheader(real_psf, 1)
    assert (psf.order, psf.n_stars) == (header["POLDEG1"], header["ACCEPTED"])
    assert psf.sampling == header["PSF_SAMP"]
    assert psf.chi2 == header["CHI2"]
    # the width is the model's own, not PSFEx's figure for its sample; 3 %: the model's own error
    assert psf.fwhm == pytest.approx(2.355 * np.sqrt(np.prod(widths(*psf.origin))), rel=0.03)
    assert psf.origin == (header["POLZERO1"] - 1, header["POLZERO2"] - 1)  # pixels from 1 become from 0


def test_round_trip_of_a_psfex_file_changes_nothing(real_psf, tmp_path):
    first = read_psf(real_psf)
    second = read_psf(write_psf(tmp_path / "again.psf", first))
    np.testing.assert_array_equal(first.basis, second.basis)
    assert (first.order, first.sampling, first.n_stars, first.chi2, first.fwhm) == (
        second.order, second.sampling, second.n_stars, second.chi2, second.fwhm,
    )  # fmt: skip
    np.testing.assert_allclose([first.origin, first.scale], [second.origin, second.scale], rtol=1e-12)


def test_sextractor_accepts_what_we_write(real_psf, tmp_path):
    fits.writeto(tmp_path / "field.fits", field())
    write_psf(tmp_path / "ours.psf", read_psf(real_psf))
    (tmp_path / "psf.param").write_text(
        "X_IMAGE\nY_IMAGE\nXPSF_IMAGE\nYPSF_IMAGE\nFLUX_PSF\nFLUX_AUTO\nFLAGS\n"
    )
    found = {}
    for name, model in (("theirs", real_psf), ("ours", tmp_path / "ours.psf")):
        sextractor = next(filter(shutil.which, ("source-extractor", "sextractor", "sex")))
        run = [
            sextractor,
            "field.fits",
            "-PARAMETERS_NAME",
            "psf.param",
            "-FILTER",
            "N",
            "-PSF_NAME",
            str(model),
        ]
        run += ["-CATALOG_TYPE", "FITS_1.0", "-CATALOG_NAME", name, "-DETECT_THRESH", "20"]
        subprocess.run(run, cwd=tmp_path, check=True, capture_output=True)
        found[name] = fits.getdata(tmp_path / name)
    for column in ("XPSF_IMAGE", "FLUX_PSF"):  # the same model, so the same fits
        np.testing.assert_allclose(found["ours"][column], found["theirs"][column], rtol=1e-5)


def test_round_trip_of_our_own(tmp_path):
    rng = np.random.default_rng(3)
    basis = np.stack([gaussian(21, 2, 2.5), *rng.normal(0, 1e-3, (2, 21, 21))]).astype(np.float32)
    psf = PSF(
        basis=basis, order=1, origin=(99.5, 49.5), scale=(99.5, 49.5), sampling=0.5,
        variance=rng.uniform(0, 1e-6, (21, 21)).astype(np.float32), fwhm=5.1, n_stars=77, chi2=1.02,
    )  # fmt: skip
    path = write_psf(tmp_path / "a b é.psf", psf)
    again = read_psf(path)
    for name in ("basis", "variance"):
        np.testing.assert_array_equal(getattr(again, name), getattr(psf, name))
    for name in ("order", "origin", "scale", "sampling", "fwhm", "n_stars", "chi2"):
        assert getattr(again, name) == getattr(psf, name)
    np.testing.assert_array_equal(again.at(10, 20), psf.at(10, 20))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a b é.psf"]  # nothing temporary left


def test_constant_psf_has_no_polynomial(tmp_path):
    write_psf(tmp_path / "c.psf", PSF(basis=gaussian(15, 2, 2)[None].astype(np.float32)))
    header = fits.getheader(tmp_path / "c.psf", 1)
    assert header["POLNAXIS"] == 0 and "POLDEG1" not in header
    # 2.355 sigma of a Gaussian; half a fine pixel (1/7 px) of the area's border
    assert header["PSF_FWHM"] == pytest.approx(2 * 2.355, abs=0.05)
    assert read_psf(tmp_path / "c.psf").order == 0


def test_table_of_an_even_size_keeps_its_centre(tmp_path):
    plane = gaussian(20, 2, 2)  # centre at pixel 10 of 0 ... 19
    column = fits.Column("PSF_MASK", "400E", dim="(20,20,1)", array=plane[None, None].astype(np.float32))
    hdu = fits.BinTableHDU.from_columns([column], name="PSF_DATA")
    hdu.writeto(tmp_path / "even.psf")
    stamp = read_psf(tmp_path / "even.psf").at(0, 0, size=15)
    # the float32 of the file and the spline, which passes through the samples
    np.testing.assert_allclose(stamp, gaussian(21, 2, 2)[3:18, 3:18], atol=1e-6)


@pytest.mark.parametrize("n", [20, 21, 40, 41])
@pytest.mark.parametrize("shift", [(0, 0), (-0.5, -0.5), (0.3, -0.2), (-0.7, 0.2)])
def test_stamp_is_centred(tmp_path, n, shift):
    if n % 2 and shift == (-0.5, -0.5):
        shift = (0.5, 0.5)
    fits.writeto(tmp_path / "s.fits", 37 * gaussian(n, 1.7, 2.2, *shift))
    psf = read_psf(tmp_path / "s.fits")
    stamp = psf.at(123, 456, size=15)
    truth = gaussian(31, 1.7, 2.2)[8:23, 8:23]
    # the quintic spline errs by < 0.2 % of the peak at a sigma of 1.7 px, the cut wings of n = 20 by the rest
    assert np.abs(stamp - truth).max() < 4e-3 * truth.max()
    assert psf.order == 0 and psf.size % 2 == 1
    assert psf.basis.sum() == pytest.approx(1, abs=1e-6)
    assert psf.fwhm == pytest.approx(2.355 * np.sqrt(1.7 * 2.2), rel=0.02)


def test_well_centred_odd_stamp_is_left_alone(tmp_path):
    stamp = gaussian(25, 1.5, 1.5).astype(np.float32)
    fits.writeto(tmp_path / "s.fits", stamp)
    np.testing.assert_allclose(read_psf(tmp_path / "s.fits").basis[0], stamp / stamp.sum(), rtol=1e-6)


def test_rectangular_stamp_in_an_extension_and_any_number_type(tmp_path):
    stamp = np.rint(1e4 * gaussian(31, 2, 2))[4:27].astype(np.int16)  # 23 rows, 31 columns
    fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(stamp, name="PSF")]).writeto(tmp_path / "s.fits")
    psf = read_psf(tmp_path / "s.fits")
    assert psf.basis.shape == (1, 31, 31)
    # integers of a peak of 398 round by 0.5
    assert np.abs(psf.at(0, 0) - gaussian(31, 2, 2)).max() < 1e-4


def test_real_stamps(shared_data):
    for name in ("new", "ref"):
        psf = read_psf(shared_data / "nircam" / f"{name}_psf.fits")
        assert psf.size == 205
        assert 2.0 < psf.fwhm < 2.3  # NIRCam F200W on 0.03" pixels: 0.066" / 0.0307"
        y, x = np.unravel_index(psf.at(0, 0).argmax(), (205, 205))
        assert (x, y) == (102, 102)


def table(planes, **cards):
    n, ny, nx = planes.shape
    column = fits.Column("PSF_MASK", f"{planes.size}E", dim=f"({nx},{ny},{n})", array=planes[None])
    hdu = fits.BinTableHDU.from_columns([column], name="PSF_DATA")
    hdu.header.update(cards)
    return hdu


GOOD = gaussian(15, 2, 2).astype(np.float32)
NAN, NEGATIVE, OFF = GOOD.copy(), -GOOD, gaussian(15, 1, 1, 4, 0)
NAN[3, 3] = np.nan
TWO_GROUPS = {
    "POLNAXIS": 2, "POLNGRP": 2, "POLNAME1": "X_IMAGE", "POLNAME2": "Y_IMAGE", "POLDEG1": 1,
    "POLZERO1": 1.0, "POLZERO2": 1.0, "POLSCAL1": 1.0, "POLSCAL2": 1.0,
}  # fmt: skip


@pytest.mark.parametrize(
    ("hdu", "error", "words"),
    [
        (fits.PrimaryHDU(), NoImageError, "neither"),
        (fits.BinTableHDU.from_columns([fits.Column("X", "E", array=[1.0])]), NoImageError, "neither"),
        (fits.PrimaryHDU(np.ones((2, 9, 9))), NoImageError, "3 dimensions"),
        (fits.PrimaryHDU(np.ones(9)), NoImageError, "1 dimension"),
        (fits.PrimaryHDU(np.ones((1, 2))), InputError, "3 x 3"),
        (fits.PrimaryHDU(NAN), InputError, "1 of 225"),
        (fits.PrimaryHDU(np.zeros((9, 9))), InputError, "positive sum"),
        (fits.PrimaryHDU(NEGATIVE), InputError, "positive sum"),
        (fits.PrimaryHDU(OFF), InputError, "centred within 1 px"),
        (table(NAN[None]), InputError, "finite"),
        (table(NEGATIVE[None]), InputError, "positive sum"),
        (table(GOOD[None], PSF_SAMP=0.0), InputError, "PSF_SAMP"),
        (table(np.stack([GOOD] * 3), **TWO_GROUPS), InputError, "one group"),
        (
            table(np.stack([GOOD] * 3), **{**TWO_GROUPS, "POLNGRP": 1, "POLNAME1": "MAG_AUTO"}),
            InputError,
            "MAG",
        ),
        (table(np.stack([GOOD] * 2), **{**TWO_GROUPS, "POLNGRP": 1}), InputError, "3 planes, got 2"),
        (table(np.stack([GOOD] * 3), **{**TWO_GROUPS, "POLNGRP": 1, "POLSCAL1": 0.0}), InputError, "POLSCAL"),
    ],
)
def test_what_is_no_psf_is_refused(tmp_path, hdu, error, words):
    path = tmp_path / "bad.fits"
    hdus = [hdu] if isinstance(hdu, fits.PrimaryHDU) else [fits.PrimaryHDU(), hdu]
    fits.HDUList(hdus).writeto(path)
    with pytest.raises(error, match=words) as caught:
        read_psf(path)
    assert str(path) in str(caught.value)


def test_unreadable_files(tmp_path):
    with pytest.raises(FileError, match="no such file"):
        read_psf(tmp_path / "none.psf")
    (tmp_path / "empty.psf").touch()
    (tmp_path / "text.psf").write_text("not a FITS file\n" * 300)
    write_psf(tmp_path / "cut.psf", PSF(basis=GOOD[None]))
    whole = (tmp_path / "cut.psf").read_bytes()
    (tmp_path / "cut.psf").write_bytes(whole[:-2880])
    for name in ("empty.psf", "text.psf", "cut.psf"):
        with pytest.raises(FileError, match=name):
            read_psf(tmp_path / name)
    with pytest.raises(FileError):
        read_psf(tmp_path)


def test_write_fails_cleanly(tmp_path):
    with pytest.raises(OutputError, match="cannot write"):
        write_psf(tmp_path / "no" / "such" / "folder.psf", PSF(basis=GOOD[None]))
    (tmp_path / "taken").mkdir()
    with pytest.raises(OutputError):
        write_psf(tmp_path / "taken", PSF(basis=GOOD[None]))
    assert [p.name for p in Path(tmp_path).iterdir()] == ["taken"]
