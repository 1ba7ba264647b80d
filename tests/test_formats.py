"""Real files of every awkward kind: the right pixels or the right error, and never a word besides."""

from __future__ import annotations

import io as memory
import subprocess
import warnings

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS

from zogyp import io
from zogyp.errors import NoImageError, PixelError
from zogyp.image import Flag
from zogyp.options import InputOptions

# File: the extension that holds the image, or the error that tells why there is none.
FORMATS = {
    "TESS_sfft_diff4check.fits.fz": 1,
    "banzai_test_frame.fits.fz": 1,
    "blank.fits": PixelError,  # one pixel, and it is blank
    "c4d_130105_065255_ood_r_a1-N15.fits.fz": PixelError,  # a mask that is 0 everywhere
    "c4d_130105_065255_ooi_r_a1-N15.fits.fz": 1,
    "c4d_130105_065255_oow_r_a1-N15.fits.fz": 1,
    "checksum_false.fits": 0,
    "compressed_float_bzero.fits": NoImageError,  # one-dimensional
    "compressed_with_nan.fits": 1,
    "dist_lookup.fits.gz": 1,
    "double_ext.fits": PixelError,  # 0 everywhere
    "eso_bad_continue.fits": 0,
    "eso_cube.fits": NoImageError,
    "eso_xamber.fits": NoImageError,  # tables
    "header_newlines.fits": PixelError,  # one pixel
    "history_header.fits": NoImageError,  # no data
    "lzw.fits.Z": 0,
    "m13.fits": 0,
    "m13_gzip.fits": 1,
    "m13_hcomp.fits": 1,
    "m13_plio.fits": 1,
    "m13_rice.fits": 1,
    "m13real.fits": 0,
    "m13real_rice.fits": 1,
    "mef_raw_test_frame.fits": 1,
    "mro_test_frame.fits": 0,
    "scale.fits": 0,
    "sip.fits": NoImageError,  # a header only
    "wcs_1904-66_ZPN.fits": 0,
    "wcs_pole.fits": 0,
    "wcs_razero.fits": 0,
    "wcs_sipsample.fits": 0,
    "wcs_tanflip.fits": 0,
    "wcs_tanpv.fits": 0,
    "wcs_tnx.fits": 0,
    "wcs_tpv.fits": 0,
    "wcs_zpx.fits": 0,
    "zerowidth.fits": NoImageError,
}
IMAGES = [name for name, what in FORMATS.items() if isinstance(what, int)]
WITHOUT_WCS = {"compressed_with_nan.fits", "lzw.fits.Z", "mef_raw_test_frame.fits", "mro_test_frame.fits"}


def by_astropy(path, ext):
    """Pixels and coordinates as astropy gives them when asked directly."""
    source = path
    if path.suffix == ".Z":
        unpacked = subprocess.run(["gzip", "-dc", str(path)], capture_output=True, check=True).stdout
        source = memory.BytesIO(unpacked)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with fits.open(source) as hdus:
            data = np.array(hdus[ext].data, dtype=np.float64)
            header = hdus[ext].header
            if path.name == "eso_bad_continue.fits":  # astropy's WCS stops at the card that is broken
                header = fits.Header([c for c in header.cards if c.keyword != "XMMSEP"])
            return data, WCS(header, hdus) if "CTYPE1" in header else None


def test_no_file_is_forgotten(shared_data):
    assert {p.name for p in (shared_data / "formats").iterdir()} == set(FORMATS)


@pytest.mark.parametrize("name", IMAGES)
def test_pixels(shared_data, name, capfd):
    path = shared_data / "formats" / name
    image = io.read(path)
    assert capfd.readouterr() == ("", "")
    data, _ = by_astropy(path, FORMATS[name])
    no_data = ~np.isfinite(data)
    # exact, but for one file whose BSCALE astropy multiplies in single precision: two roundings
    rtol = 2.0**-22 if name == "scale.fits" else 0
    np.testing.assert_allclose(image.data[~no_data], data[~no_data].astype(np.float32), rtol=rtol)
    assert np.array_equal((image.mask & Flag.NO_DATA) != 0, no_data)
    assert image.data.dtype == np.float32 and image.data.flags.writeable
    assert image.mask.dtype == np.uint16 and image.mask.shape == image.data.shape


@pytest.mark.parametrize("name", [n for n, what in FORMATS.items() if not isinstance(what, int)])
def test_files_without_an_image(shared_data, name, capfd):
    with pytest.raises(FORMATS[name]) as caught:
        io.read(shared_data / "formats" / name)
    assert name in str(caught.value) and "\n" not in str(caught.value)
    about = io.describe(shared_data / "formats" / name)
    assert about["image"] is None and about["error"] == str(caught.value)
    assert capfd.readouterr() == ("", "")


def pixels_of(shape):
    ny, nx = shape
    return np.array([[0, 0], [nx - 1, 0], [0, ny - 1], [nx / 2, ny / 2], [nx / 3.7, ny / 1.3]])


@pytest.mark.parametrize("name", IMAGES)
def test_coordinates_are_kept(shared_data, tmp_path, name):
    """As read, as written again, and as written after a cutout: the sky of each pixel as astropy has it."""
    path = shared_data / "formats" / name
    image = io.read(path)
    if name in WITHOUT_WCS:
        assert image.wcs is None
        return
    pixels = pixels_of(image.shape)
    _, wcs = by_astropy(path, FORMATS[name])
    wanted = wcs.all_pix2world(pixels, 0)
    np.testing.assert_array_equal(image.wcs.all_pix2world(pixels, 0), wanted)
    whole = io.write_image(tmp_path / "whole.fits", image.data, image.header, image.wcs)
    _, again = by_astropy(whole, 0)
    # 1e-9 deg is 4 micro-arcsec: what cards of 15 digits can hold
    np.testing.assert_allclose(again.all_pix2world(pixels, 0), wanted, rtol=0, atol=1e-9, equal_nan=True)
    if name == "dist_lookup.fits.gz":
        return  # astropy cannot cut a WCS that has lookup tables
    part = image.cutout((slice(3, None), slice(5, None)))
    cut = io.write_image(tmp_path / "cut.fits", part.data, part.header, part.wcs)
    _, moved = by_astropy(cut, 0)
    shifted = moved.all_pix2world(pixels - [5, 3], 0)
    np.testing.assert_allclose(shifted, wanted, rtol=0, atol=1e-9, equal_nan=True)


@pytest.mark.parametrize("name", ["wcs_tpv.fits", "wcs_sipsample.fits", "wcs_tnx.fits", "wcs_zpx.fits"])
def test_distortion_cards_are_the_original_ones(shared_data, tmp_path, name):
    image = io.read(shared_data / "formats" / name)
    path = io.write_image(tmp_path / "w.fits", image.data, image.header, image.wcs)
    with fits.open(path) as hdus:
        keys = [k for k in image.header if k.startswith(("PV1_", "A_", "B_", "WAT1_", "CD1_"))]
        assert len(keys) > 3
        assert {k: hdus[0].header[k] for k in keys} == {k: image.header[k] for k in keys}


@pytest.mark.parametrize("kind", ["gzip", "hcomp", "plio", "rice"])
def test_compressions_of_one_image(shared_data, kind):
    """Lossless, so the plain file is the oracle."""
    folder = shared_data / "formats"
    np.testing.assert_array_equal(
        io.read_plane(folder / f"m13_{kind}.fits"), io.read_plane(folder / "m13.fits")
    )


def test_lossy_floats_stay_within_the_quantum(shared_data):
    folder = shared_data / "formats"
    plain, packed = (io.read_plane(folder / f"m13real{end}.fits") for end in ("", "_rice"))
    # cfitsio's quantum is the noise of a tile / 4; no value moves by more than that
    quantum = 1.48 * np.median(np.abs(np.diff(plain, axis=1))) / 2**0.5 / 4
    assert 0 < np.abs(plain - packed).max() <= quantum


def test_camera_with_weights_and_flags(shared_data):
    """DECam's image, weight and data-quality files: amplifiers averaged, weights read as inverse variance."""
    folder = shared_data / "formats"
    paths = {k: folder / f"c4d_130105_065255_oo{k}_r_a1-N15.fits.fz" for k in "idw"}
    image = io.read(paths["i"], InputOptions(weight=str(paths["w"]), mask=str(paths["d"])))
    weight, _ = by_astropy(paths["w"], 1)
    assert image.gain == pytest.approx((4.41111601235 + 4.53720508167) / 2)
    assert image.saturation == 37655 and image.zero_point == 29.816 and image.exptime == 60
    good = weight > 0
    assert np.array_equal((image.mask & Flag.BAD) == 0, good)
    np.testing.assert_allclose(image.variance[good], 1 / weight[good], rtol=1e-6)  # float32
    assert any("GAINA, GAINB" in note for note in image.notes)


def test_bad_pixels_of_the_same_file(shared_data):
    image = io.read(shared_data / "formats" / "banzai_test_frame.fits.fz")
    assert any("BPM" in note and "bad pixels" in note for note in image.notes)
    assert image.read_noise == 16.4 and image.saturation == 153440  # MAXLIN = 0 means not known


def test_raw_amplifiers(shared_data):
    """Each amplifier has its own gain; the primary's GAIN = 0 is not asked, its pointing not inherited."""
    path = shared_data / "formats" / "mef_raw_test_frame.fits"
    assert [io.read(f"{path}[SCI,{i}]").gain for i in (1, 2, 3, 4)] == [6.42, 6.23, 6.27, 6.26]
    assert io.read(path).read_noise == 7.0 and io.read(path).wcs is None


def test_noise_maps_of_the_space_telescope(shared_data):
    folder = shared_data / "nircam"
    options = InputOptions(noise=str(folder / "new_noise.fits"), mask=str(folder / "mask.fits"))
    image = io.read(folder / "new.fits", options)
    sigma, _ = by_astropy(folder / "new_noise.fits", 0)
    mask, _ = by_astropy(folder / "mask.fits", 0)
    bad = ~(sigma > 0) | (mask != 0)
    assert np.array_equal((image.mask & Flag.BAD) != 0, bad)
    np.testing.assert_allclose(image.variance[~bad], sigma[~bad] ** 2, rtol=1e-6)  # float32
    assert 0 < bad.mean() < 1


@pytest.mark.parametrize("folder", ["bulge", "decam", "goto"])
def test_science_images(shared_data, folder, capfd):
    for path in sorted((shared_data / folder).glob("*.fits"))[:6]:
        image = io.read(path)
        data, _ = by_astropy(path, 0)
        np.testing.assert_array_equal(image.data, data.astype(np.float32))
        assert (image.gain is None) == (folder == "goto")
    assert capfd.readouterr() == ("", "")
