"""Reading and writing FITS: what comes in is what astropy says it is, and what cannot be is a typed error."""

from __future__ import annotations

import bz2
import errno
import gzip
import io as memory
import json
import lzma
import os
import shutil
import subprocess
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from zogyp import io, lzw
from zogyp.errors import (
    FileError,
    HeaderError,
    InputError,
    NoImageError,
    OptionError,
    OutputError,
    PixelError,
    ShapeError,
    ZogypError,
)
from zogyp.image import Flag
from zogyp.options import InputOptions

RAMP = np.arange(42, dtype=np.float32).reshape(6, 7)


def save(path, data=RAMP, cards=(), **kwargs):
    """Write a primary image with astropy, the independent writer."""
    hdu = fits.PrimaryHDU(data)
    for key, value in dict(cards).items():
        hdu.header[key] = value
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        hdu.writeto(path, overwrite=True, **kwargs)
    return path


def raw(path, cards, payload=b""):
    """Write a FITS file from card images, checked by no one."""
    text = "".join(c.ljust(80) for c in [*cards, "END"])
    text += " " * (-len(text) % 2880)
    path.write_bytes(text.encode("latin-1") + payload + bytes(-len(payload) % 2880))
    return path


def image_cards(bitpix, nx, ny, *more):
    return [
        "SIMPLE  =                    T",
        f"BITPIX  = {bitpix:20d}",
        "NAXIS   =                    2",
        f"NAXIS1  = {nx:20d}",
        f"NAXIS2  = {ny:20d}",
        *more,
    ]


# ---------------------------------------------------------------- pixels


@pytest.mark.parametrize("code", ["u1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8"])
@pytest.mark.parametrize("how", ["plain", "gzip", "bzip2", "xz", "tiles"])
def test_every_type_and_packing(tmp_path, code, how):
    """Values near both ends of each type, exact up to the rounding of float32."""
    if how == "tiles" and code in ("i8", "u8"):
        pytest.skip("the standard has no tile compression of 64-bit integers that astropy writes")
    dtype = np.dtype(code)
    data = np.arange(600).reshape(20, 30).astype(dtype) % 250
    if dtype.kind != "f":
        data[0, :3] = [np.iinfo(dtype).min, np.iinfo(dtype).max, np.iinfo(dtype).max // 2]
    path = tmp_path / "a.fits"
    if how == "tiles":
        kind = "GZIP_1" if dtype.kind == "f" or code == "u4" else "RICE_1"
        hdu = fits.CompImageHDU(data, compression_type=kind, quantize_level=0)
        fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(path)
    else:
        save(path, data)
        pack = {"plain": bytes, "gzip": gzip.compress, "bzip2": bz2.compress, "xz": lzma.compress}[how]
        path.write_bytes(pack(path.read_bytes()))
    image = io.read(path)
    assert image.data.dtype == np.float32 and image.data.dtype.isnative
    np.testing.assert_array_equal(image.data, data.astype(np.float32))
    assert not image.mask.any()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    stored=hnp.arrays(
        st.sampled_from([np.dtype(c) for c in ("u1", "i2", "i4", "i8", "f4", "f8")]),
        hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=9),
    ),
    bscale=st.sampled_from([1.0, -2.5, 1e-3, 1e6]),
    bzero=st.sampled_from([0.0, 32768.0, 2.0**31, 2.0**63, -7.25]),
    blank=st.sampled_from([None, 0, 5, -1]),
)
def test_scaling_agrees_with_exact_arithmetic(tmp_path, stored, bscale, bzero, blank):
    """Oracle: each value in Python's own numbers (integers without limit), rounded once to float32."""
    integer = stored.dtype.kind != "f"
    more = [f"BSCALE  = {bscale!r:>20}", f"BZERO   = {bzero!r:>20}"]
    more += [f"BLANK   = {blank:20d}"] if blank is not None else []
    bitpix = stored.dtype.itemsize * (8 if integer else -8)
    ny, nx = stored.shape
    path = tmp_path / "h.fits"
    raw(path, image_cards(bitpix, nx, ny, *more), stored.astype(stored.dtype.newbyteorder(">")).tobytes())
    exact = integer and bscale == 1.0 and bzero.is_integer()
    with np.errstate(all="ignore"):
        wanted = np.array(
            [
                np.float32(v + int(bzero)) if exact else np.float32(v * bscale + bzero)
                for v in stored.ravel().tolist()
            ]
        ).reshape(stored.shape)
    if blank is not None and integer:
        wanted[np.array([v == blank for v in stored.ravel().tolist()]).reshape(stored.shape)] = np.nan
    try:
        got = io.read_plane(path)
    except HeaderError as error:
        # only offsets that leave an 8- or 16-bit image fewer than 256 steps (see the message) may be refused
        assert "BZERO" in str(error) and abs(bitpix) <= 16 and abs(bzero) >= 1e5 * abs(bscale)
        return
    # one rounding more than the oracle's is allowed: 2^-23 of the largest term
    with np.errstate(all="ignore"):
        size = np.abs(np.asarray(stored, dtype=np.float64) * bscale) + abs(bzero)
        near = np.abs(got - wanted) <= (0 if exact else 2.0**-52) * size + np.spacing(np.abs(wanted))
    assert np.all(near | (got == wanted) | (np.isnan(got) & np.isnan(wanted)))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    data=hnp.arrays(
        np.float32,
        hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=12),
        elements=st.floats(width=32, allow_nan=True, allow_infinity=True),
    ),
    order=st.sampled_from("<>"),
)
def test_round_trip_keeps_every_bit(tmp_path, data, order):
    path = io.write_image(tmp_path / "r.fits", data.astype(data.dtype.newbyteorder(order)))
    np.testing.assert_array_equal(io.read_plane(path), data)
    with fits.open(path) as hdus:
        hdus.verify("exception")
        np.testing.assert_array_equal(hdus[0].data, data)


def test_large_image_crosses_the_pieces(tmp_path):
    """A size that is no multiple of the pieces copied at a time, in every stored type."""
    data = (np.arange(1025 * 1031) % 30011).reshape(1025, 1031)
    for code in ("i2", "f4", "f8"):
        path = save(tmp_path / "big.fits", data.astype(code))
        np.testing.assert_array_equal(io.read_plane(path), data.astype(np.float32))
    np.testing.assert_array_equal(io.read_plane(io.write_image(path, data.astype(np.uint16))), data)


def test_nan_infinity_blank_and_saturation_become_flags(tmp_path):
    data = RAMP.copy()
    data[0, 0], data[1, 1], data[2, 2] = np.nan, np.inf, -np.inf
    image = io.read(save(tmp_path / "n.fits", data, {"SATURATE": 40.0}))
    assert {tuple(p) for p in np.argwhere(image.mask == Flag.NO_DATA)} == {(0, 0), (1, 1), (2, 2)}
    assert np.isnan(image.data[[0, 1, 2], [0, 1, 2]]).all()
    assert {tuple(p) for p in np.argwhere(image.mask == Flag.SATURATED)} == {(5, 5), (5, 6)}
    blank = io.read(save(tmp_path / "b.fits", RAMP.astype(np.int16), {"BLANK": 3}))
    assert {tuple(p) for p in np.argwhere(blank.mask)} == {(0, 3)}


def test_double_precision_beyond_float32_has_no_data(tmp_path):
    data = RAMP.astype(np.float64)
    data[3, 3] = 1e300
    image = io.read(save(tmp_path / "d.fits", data))
    assert np.argwhere(image.mask).tolist() == [[3, 3]]


def test_compress_program_with_clear_codes(tmp_path):
    """`.Z` with few bits and cleared tables, written by a compressor of our own, read by gzip as well."""
    content = save(tmp_path / "z.fits", np.random.default_rng(3).integers(0, 50, (60, 60)).astype(np.int16))
    plain = content.read_bytes()
    packed = _compress(plain, longest=11)
    assert lzw.decompress(packed) == plain
    path = tmp_path / "z.fits.Z"
    path.write_bytes(packed)
    if shutil.which("gzip"):
        assert subprocess.run(["gzip", "-dc", str(path)], capture_output=True, check=True).stdout == plain
    np.testing.assert_array_equal(io.read_plane(path), io.read_plane(content))
    path.write_bytes(packed[: len(packed) // 2])
    with pytest.raises(FileError, match="truncated"):
        io.read(path)


def _compress(data, longest):
    """LZW whose table is cleared when full; codes in groups of eight, as `compress` writes them."""
    out, group, width, sent = bytearray([0x1F, 0x9D, 0x80 | longest]), [], 9, 0

    def flush(*, last=False):
        size = -(-len(group) * width // 8) if last or not group else width
        out.extend(sum(c << (width * i) for i, c in enumerate(group)).to_bytes(size, "little"))
        group.clear()

    def send(code):
        nonlocal width, sent
        # entries the reader has by now: 257, and one for each code after the first
        if width < longest and 257 + max(sent - 1, 0) >= 1 << width:
            flush()
            width += 1
        group.append(code)
        sent += 1
        if len(group) == 8 or code == 256:
            flush()
        if code == 256:
            width, sent = 9, 0

    table, word = {bytes([i]): i for i in range(256)}, b""
    for byte in data:
        longer = word + bytes([byte])
        if longer in table:
            word = longer
            continue
        send(table[word])
        if len(table) + 1 < 1 << longest:
            table[longer] = len(table) + 1  # 256 means "clear"
        else:
            send(256)
            table = {bytes([i]): i for i in range(256)}
        word = bytes([byte])
    send(table[word])
    flush(last=True)
    return bytes(out)


# ---------------------------------------------------------------- which image


@pytest.fixture
def mef(tmp_path):
    """An empty primary, an image set aside by its name, two science images, a cube and a table."""
    table = fits.BinTableHDU.from_columns([fits.Column("a", "E", array=np.zeros(3))], name="CAT")
    hdus = [
        fits.PrimaryHDU(),
        fits.ImageHDU(np.ones((6, 7), np.int16), name="BPM", ver=7),
        fits.ImageHDU(RAMP, name="SCI", ver=1),
        fits.ImageHDU(RAMP * 2, name="SCI", ver=2),
        fits.ImageHDU(np.zeros((2, 3, 4), np.float32), name="CUBE"),
        table,
    ]
    hdus[0].header["GAIN"] = 2.5
    hdus[0].header["CRVAL1"] = 10.0
    hdus[0].header["EXPTIME"] = 30.0
    path = tmp_path / "mef.fits"
    fits.HDUList(hdus).writeto(path)
    return path


@pytest.mark.parametrize("ext", ["[2]", "[SCI]", "[sci]", "[SCI,1]", "[ sci , 1 ]"])
def test_asked_extension(mef, ext):
    image = io.read(f"{mef}{ext}")
    np.testing.assert_array_equal(image.data, RAMP)
    assert image.name == f"mef.fits{ext.replace('[ sci , 1 ]', '[sci , 1]')}"
    np.testing.assert_array_equal(io.read_plane(f"{mef}[SCI,2]"), RAMP * 2)


def test_first_science_image_with_what_it_inherits(mef):
    image = io.read(mef)
    np.testing.assert_array_equal(image.data, RAMP)
    assert image.gain == 2.5 and image.exptime == 30 and image.wcs is None
    assert "CRVAL1" not in image.header and image.header["EXTNAME"] == "SCI"
    assert any("others: 3 SCI,2" in note for note in image.notes)


@pytest.mark.parametrize("ext", ["9", "WHT", "SCI,3", "", "CUBE", "CAT", "0", "-1"])
def test_wrong_extension_lists_what_there_is(mef, ext):
    with pytest.raises(NoImageError, match=r"2 SCI,1 \(image 7 x 6\)"):
        io.read(f"{mef}[{ext}]")


def test_cube_names_its_axes_and_length_one_does_not_count(tmp_path):
    path = save(tmp_path / "cube.fits", np.zeros((2, 6, 7), np.float32))
    with pytest.raises(NoImageError, match=r"NAXIS1 = 7, NAXIS2 = 6, NAXIS3 = 2"):
        io.read(path)
    cards = {"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CTYPE3": "FREQ", "CDELT1": -0.1, "CDELT2": 0.1}
    flat = io.read(save(path, RAMP[None, None], cards))
    np.testing.assert_array_equal(flat.data, RAMP)
    assert flat.wcs.naxis == 2
    again = io.read(io.write_image(tmp_path / "flat.fits", flat.data, flat.header, flat.wcs))
    assert again.wcs.naxis == 2 and "CTYPE3" not in again.header


@pytest.mark.parametrize("data", [None, np.arange(9, dtype=np.int16)])
def test_no_image(tmp_path, data):
    with pytest.raises(NoImageError, match="no two-dimensional image"):
        io.read(save(tmp_path / "none.fits", data))


# ---------------------------------------------------------------- figures of the header


@pytest.mark.parametrize(
    ("cards", "gain", "noise", "saturation", "zero"),
    [
        ({"GAIN": 1.9, "RDNOISE": 5.0, "SATURATE": 60.0, "MAGZERO": 25.1}, 1.9, 5.0, 60.0, 25.1),
        ({"gain": "1.9", "READNOIS": 0, "SATLEVEL": 7e4, "MAGZPT": 24}, 1.9, 0.0, 7e4, 24.0),
        ({"GAIN": 120, "EGAIN": 0.8, "RON": 3, "MAXLIN": 50, "SATURATE": 60, "ZP": 27}, 0.8, 3.0, 50.0, 27.0),
        ({"GAINA": 4.0, "GAINB": 5.0, "RDNOISEA": 3.0, "RDNOISEB": 4.0}, 4.5, 12.5**0.5, None, None),
        ({"HIERARCH ESO DET OUT1 CONAD": 2.1, "HIERARCH ESO DET OUT1 GAIN": 0.47}, 2.1, None, None, None),
        ({"HIERARCH ESO DET OUT1 RON": 4.4, "HIERARCH SEXTRACTOR GAIN": 0.0}, None, 4.4, None, None),
        ({"GAIN": 0.0, "CCDGAIN": 1.5, "MAXLIN": 0.0, "MAGZERO": 0.0}, 1.5, None, None, None),
        ({"GAIN": 2.0, "BUNIT": "electron"}, 1.0, None, None, None),
        ({"GAIN": 2.0, "BUNIT": "ADU"}, 2.0, None, None, None),
        ({"BUNIT": "ELECTRONS/S", "EXPTIME": 30.0}, 30.0, None, None, None),
        ({"GAIN": 2.0, "BUNIT": "counts s-1", "EXPTIME": 30.0}, 60.0, None, None, None),
        ({"GAIN": 2.0, "BUNIT": "adu/s"}, None, None, None, None),
        ({"RDNOISE": "low", "SATURATE": "unknown", "GAIN": ""}, None, None, None, None),
        ({}, None, None, None, None),
    ],
)
def test_detector_figures(tmp_path, cards, gain, noise, saturation, zero):
    image = io.read(save(tmp_path / "g.fits", cards=cards))
    got = [image.gain, image.read_noise, image.saturation, image.zero_point]
    wanted = [gain, noise, saturation, zero]
    assert [v is None for v in got] == [v is None for v in wanted]
    np.testing.assert_allclose([v or 0 for v in got], [v or 0 for v in wanted], rtol=1e-12)  # a mean of two


@pytest.mark.parametrize("value", [0, 0.0, -1.5, "high", "nan", True, 1e300])
def test_gain_that_cannot_be(tmp_path, value):
    path = save(tmp_path / "g.fits", cards={"GAIN": value})
    with pytest.raises(
        HeaderError, match=r"keyword GAIN must be a positive number.*--new-gain or --ref-gain"
    ):
        io.read(path)
    assert io.read(path, InputOptions(gain=2.0)).gain == 2.0


@pytest.mark.parametrize("text", ["NaN", "1.2.3", "'unfinished"])
def test_gain_of_an_illegal_card(tmp_path, text):
    payload = RAMP.astype(">f4").tobytes()
    path = raw(tmp_path / "g.fits", image_cards(-32, 7, 6, f"GAIN    = {text}"), payload)
    with pytest.raises(HeaderError, match="GAIN"):
        io.read(path)


def test_options_win_over_the_header(tmp_path):
    path = save(tmp_path / "o.fits", cards={"GAIN": 1.0, "RDNOISE": 2.0, "SATURATE": 30.0})
    image = io.read(path, InputOptions(gain=3.0, read_noise=0.0, saturation=40.0), name="mine")
    assert (image.gain, image.read_noise, image.saturation, image.name) == (3.0, 0.0, 40.0, "mine")
    assert np.array_equal(image.mask == Flag.SATURATED, RAMP >= 40)
    with pytest.raises(OptionError, match="saturation"):
        io.read(path, InputOptions(saturation=float("nan")))


def test_absurd_saturation_of_the_header_is_ignored_but_not_the_option(tmp_path):
    path = save(tmp_path / "s.fits", cards={"SATURATE": 0.5})
    image = io.read(path)
    assert image.saturation is None and not image.mask.any() and "condemn" in image.notes[-1]
    with pytest.raises(PixelError, match="every pixel"):
        io.read(path, InputOptions(saturation=-1.0))


def test_illegal_cards_are_left_out_and_said(tmp_path):
    cards = image_cards(-32, 7, 6, "BAD KEY!= 5", "lower   =   1.5", "WORSE   = 'open", "LATIN   = 'caf\xe9'")
    image = io.read(raw(tmp_path / "i.fits", [*cards, "GAIN    = 2.5"], RAMP.astype(">f4").tobytes()))
    assert image.gain == 2.5
    np.testing.assert_array_equal(image.data, RAMP)
    with fits.open(io.write_image(tmp_path / "o.fits", image.data, image.header)) as hdus:
        hdus.verify("exception")


@pytest.mark.parametrize("second", ["DEC--SIN", "DEC--TAN"])
def test_broken_wcs_is_a_note(tmp_path, second):
    """Two projections at once, and a matrix without inverse."""
    cards = {"CTYPE1": "RA---TAN", "CTYPE2": second} | dict.fromkeys(
        ("CD1_1", "CD1_2", "CD2_1", "CD2_2"), 1e-4
    )
    image = io.read(save(tmp_path / "w.fits", cards=cards))
    assert image.wcs is None and "WCS" in image.notes[-1]


@pytest.mark.parametrize(
    ("bitpix", "cards", "name"),
    [
        (16, ["BZERO   = 1.0E300"], "BZERO"),
        (16, ["BZERO   = 1.0E12"], "BZERO"),
        (16, ["BZERO   = 'many'"], "BZERO"),
        (32, ["BZERO   = 3.4E38", "BSCALE  = 1.0E28"], "BZERO"),
        (32, ["BSCALE  = 1.0E36"], "BSCALE"),
        (16, ["BSCALE  = 0.0"], "BSCALE"),
        (-32, ["BSCALE  = 1.0E999"], "BSCALE"),
    ],
)
def test_scaling_that_overflows(tmp_path, bitpix, cards, name):
    payload = RAMP.astype(">f4" if bitpix < 0 else f">i{bitpix // 8}").tobytes()
    with pytest.raises(HeaderError, match=name):
        io.read(raw(tmp_path / "z.fits", image_cards(bitpix, 7, 6, *cards), payload))


# ---------------------------------------------------------------- noise, weights, masks


def test_separate_noise_weight_and_mask(tmp_path):
    path = save(tmp_path / "image.fits")
    sigma = np.full(RAMP.shape, 2.0, np.float32)
    sigma[0, :4] = [0, -1, np.nan, np.inf]
    noise = save(tmp_path / "sigma.fits", sigma)
    image = io.read(path, InputOptions(noise=str(noise)))
    assert np.array_equal(image.mask == Flag.BAD, ~(sigma > 0) | np.isinf(sigma))
    np.testing.assert_array_equal(image.variance, np.full(RAMP.shape, 4, np.float32))
    weight = save(tmp_path / "w.fits", np.where(RAMP == 9, 0, np.float32(0.25)))
    mask = save(tmp_path / "m.fits", (RAMP == 11).astype(np.uint8))
    image = io.read(path, InputOptions(weight=str(weight), mask=f"{mask}[0]"))
    assert np.array_equal(image.mask == Flag.BAD, (RAMP == 9) | (RAMP == 11))
    np.testing.assert_array_equal(image.variance, np.full(RAMP.shape, 4, np.float32))
    assert io.read(path).variance is None
    with pytest.raises(OptionError, match="weight"):
        io.read(path, InputOptions(weight=str(weight), noise=str(noise)))
    with pytest.raises(PixelError, match="every pixel"):
        io.read(path, InputOptions(mask=str(save(tmp_path / "all.fits", np.ones(RAMP.shape, np.uint8)))))


@pytest.mark.parametrize("what", ["noise", "weight", "mask"])
def test_planes_of_another_shape(tmp_path, what):
    other = save(tmp_path / "other.fits", np.ones((5, 7), np.float32))
    with pytest.raises(ShapeError, match=rf"{what} other.fits has shape \(5, 7\).*\(6, 7\)"):
        io.read(save(tmp_path / "image.fits"), InputOptions(**{what: str(other)}))
    with pytest.raises(FileError, match="no such file"):
        io.read(tmp_path / "image.fits", InputOptions(**{what: str(tmp_path / "nowhere.fits")}))


def with_companions(path, *companions, primary=()):
    """Two science images, each with its companions, as the Hubble pipeline lays them out."""
    hdus = [fits.PrimaryHDU()]
    for key, value in dict(primary).items():
        hdus[0].header[key] = value
    for ver in (1, 2):
        hdus.append(fits.ImageHDU(RAMP * ver, name="SCI", ver=ver))
        hdus += [fits.ImageHDU(data * ver, header, name=n, ver=ver) for n, data, header in companions]
    fits.HDUList(hdus).writeto(path)
    return path


def test_companions_in_the_same_file(tmp_path):
    bad = (RAMP == 3).astype(np.int16)
    sigma = np.full(RAMP.shape, 3, np.float32)
    path = with_companions(tmp_path / "c.fits", ("ERR", sigma, None), ("DQ", bad, None))
    for ver in (1, 2):
        image = io.read(f"{path}[SCI,{ver}]")
        assert np.array_equal(image.mask == Flag.BAD, RAMP == 3)
        np.testing.assert_array_equal(image.variance, np.full(RAMP.shape, 9 * ver**2, np.float32))
    given = save(tmp_path / "s.fits", sigma * 10)
    image = io.read(path, InputOptions(noise=str(given)))  # a file of the user's wins over the extension
    np.testing.assert_array_equal(image.variance, np.full(RAMP.shape, 900, np.float32))


@pytest.mark.parametrize(
    ("name", "value", "variance"), [("VAR", 4.0, 4.0), ("IVAR", 4.0, 0.25), ("WHT", 4.0, None)]
)
def test_kinds_of_companions(tmp_path, name, value, variance):
    plane = np.where(RAMP == 5, 0, np.float32(value))
    image = io.read(with_companions(tmp_path / "k.fits", (name, plane, None)))
    assert np.array_equal(image.mask == Flag.BAD, RAMP == 5)
    assert image.variance is None if variance is None else np.all(image.variance == np.float32(variance))


def test_masks_that_also_mark_good_pixels(tmp_path):
    planes = fits.Header({"MP_BAD": 0, "MP_SAT": 2, "HIERARCH MP_DETECTED": 5})
    mask = np.where(RAMP == 1, 1, np.where(RAMP == 2, 4, 32)).astype(np.int32)
    hdus = [fits.PrimaryHDU(), fits.ImageHDU(RAMP, name="IMAGE"), fits.ImageHDU(mask, planes, name="MASK")]
    fits.HDUList(hdus).writeto(tmp_path / "rubin.fits")
    image = io.read(tmp_path / "rubin.fits")
    assert np.array_equal(image.mask == Flag.BAD, (RAMP == 1) | (RAMP == 2))
    quality = np.where(RAMP == 7, 2**30 + 1, 2**30 + 4).astype(np.uint32)  # beyond float32's 24 bits
    hdus = [fits.PrimaryHDU(), fits.ImageHDU(RAMP, name="SCI"), fits.ImageHDU(quality, name="DQ")]
    hdus[0].header["TELESCOP"] = "JWST"
    fits.HDUList(hdus).writeto(tmp_path / "jwst.fits")
    assert np.array_equal(io.read(tmp_path / "jwst.fits").mask == Flag.BAD, RAMP == 7)


def test_companion_that_condemns_everything_is_ignored(tmp_path):
    path = with_companions(tmp_path / "z.fits", ("ERR", np.zeros(RAMP.shape, np.float32), None))
    image = io.read(f"{path}[SCI,1]")
    assert image.variance is None and not image.mask.any() and "100%" in image.notes[-1]


def test_mosaic_files_share_the_extension(tmp_path):
    """ooi[2] with ooi's weights in another file of the same layout."""
    paths = []
    for name, factor in (("ooi", 1.0), ("oow", 0.5)):
        hdus = [fits.PrimaryHDU()]
        hdus += [fits.ImageHDU((RAMP + 1) * factor * k, name=f"N{k}") for k in (1, 2)]
        fits.HDUList(hdus).writeto(tmp_path / f"{name}.fits")
        paths.append(tmp_path / f"{name}.fits")
    image = io.read(f"{paths[0]}[N2]", InputOptions(weight=str(paths[1])))
    np.testing.assert_allclose(image.variance, 1 / (RAMP + 1), rtol=1e-6)  # one float32 division


# ---------------------------------------------------------------- bad files


def test_bad_files(tmp_path):
    (tmp_path / "empty.fits").write_bytes(b"")
    (tmp_path / "text.fits").write_text("not an image\n" * 500)
    (tmp_path / "dir.fits").mkdir()
    os.mkfifo(tmp_path / "pipe.fits")
    cases = {
        "missing.fits": "no such file",
        "empty.fits": "is empty",
        "text.fits": "not a FITS file",
        "dir.fits": "is a directory",
        "pipe.fits": "not a regular file",
        "n\0ul.fits": "no such file",
        "x" * 300: "cannot be opened|no such file",
    }
    for name, message in cases.items():
        with pytest.raises(FileError, match=message):
            io.read(f"{tmp_path}/{name}")
    assert all("\n" not in str(e) for e in _errors(tmp_path, cases))


def _errors(folder, names):
    for name in names:
        try:
            io.read(f"{folder}/{name}")
        except FileError as error:
            yield error


@pytest.mark.parametrize("packed", [False, True])
def test_every_truncation_is_an_error(tmp_path, packed):
    """Cut anywhere before the last pixel: never an image, never a warning, never another kind of error."""
    whole = save(tmp_path / "whole.fits", np.random.default_rng(1).normal(size=(40, 40)).astype(np.float32))
    last = 2880 + 40 * 40 * 4
    content = whole.read_bytes()
    cut = tmp_path / "cut.fits"
    content = gzip.compress(content) if packed else content
    for length in [
        1,
        5,
        80,
        1000,
        2879,
        2880,
        2881,
        5000,
        len(content) // 2,
        (len(content) if packed else last) - 1,
    ]:
        cut.write_bytes(content[:length])
        with pytest.raises(FileError):
            io.read(cut)
    if not packed:
        cut.write_bytes(content[:last])  # only the padding lacks
        assert io.read(cut).shape == (40, 40)


def test_truncated_extensions_and_tiles(tmp_path):
    data = np.random.default_rng(1).normal(size=(80, 80)).astype(np.float32)
    hdus = [fits.PrimaryHDU(data), fits.CompImageHDU(data, name="T")]
    fits.HDUList(hdus).writeto(tmp_path / "mef.fits")
    content = (tmp_path / "mef.fits").read_bytes()
    for drop in (3000, 9000):
        (tmp_path / "cut.fits").write_bytes(content[:-drop])
        with pytest.raises(FileError, match="truncated"):
            io.read(tmp_path / "cut.fits")
    damaged = bytearray(content)
    damaged[-12000:-6000] = bytes(range(250)) * 24
    (tmp_path / "damaged.fits").write_bytes(damaged)
    try:
        io.read(f"{tmp_path}/damaged.fits[T]")
    except ZogypError as error:
        assert isinstance(error, InputError)


@pytest.mark.parametrize("axes", [(10**6, 10**6), (10**9, 10**9), (2**31, 2**31), (2, 10**12)])
def test_hostile_headers_claim_more_than_there_is(tmp_path, axes):
    """Refused before memory is asked for: the process stays below 1 GB however much is claimed."""
    path = raw(tmp_path / "huge.fits", image_cards(-32, *axes), bytes(2880))
    with pytest.raises(FileError, match="truncated"):
        io.read(path)
    tiles = [
        "XTENSION= 'BINTABLE'", "BITPIX  =                    8", "NAXIS   =                    2",
        "NAXIS1  =                    8", "NAXIS2  =                    1", "PCOUNT  =                   64",
        "GCOUNT  =                    1", "TFIELDS =                    1", "TTYPE1  = 'COMPRESSED_DATA'",
        "TFORM1  = '1PB(64)'", "ZIMAGE  =                    T", "ZBITPIX =                  -32",
        "ZNAXIS  =                    2", f"ZNAXIS1 = {axes[0]:20d}", f"ZNAXIS2 = {axes[1]:20d}",
        f"ZTILE1  = {axes[0]:20d}", f"ZTILE2  = {axes[1]:20d}", "ZCMPTYPE= 'GZIP_1'",
    ]  # fmt: skip
    start = raw(
        tmp_path / "p.fits", ["SIMPLE  =                    T", "BITPIX  = 8", "NAXIS   = 0"]
    ).read_bytes()
    end = raw(tmp_path / "t.fits", tiles, bytes(72)).read_bytes()
    path.write_bytes(start + end)
    with pytest.raises(InputError):
        io.read(path)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(where=st.integers(0, 2879), what=st.binary(min_size=1, max_size=12))
def test_scribbled_headers_give_an_image_or_a_typed_error(tmp_path, where, what):
    content = save(
        tmp_path / "s.fits", cards={"GAIN": 2.0, "CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN"}
    ).read_bytes()
    path = tmp_path / "scribbled.fits"
    path.write_bytes(content[:where] + what + content[where + len(what) :])
    try:
        io.read(path)
    except ZogypError:
        return


@pytest.mark.parametrize(
    ("value", "message"), [(np.nan, "no pixel has a value"), (7.0, "constant image: every pixel is 7")]
)
def test_images_without_information(tmp_path, value, message):
    with pytest.raises(PixelError, match=message):
        io.read(save(tmp_path / "c.fits", np.full((6, 7), value, np.float32)))
    data = np.full((6, 7), value, np.float32)
    data[0, 0] = np.nan
    with pytest.raises(PixelError, match=message):
        io.read(save(tmp_path / "c.fits", data))


@pytest.mark.parametrize(
    "name",
    [
        "with space.fits",
        "ref.fits",
        "referee ref.fits",
        "[1].fits",
        "a[b]c.fits",
        "a.fits[1]",
        "üñí 銀河.fits",
        "no ending",
    ],
)
def test_names(tmp_path, name):
    """A file is what it is called; brackets ask for an extension only when no file has that name."""
    folder = tmp_path / "a folder, ref [2]"
    folder.mkdir()
    path = save(folder / name)
    np.testing.assert_array_equal(io.read(path).data, RAMP)
    np.testing.assert_array_equal(io.read(f"{path}[0]").data, RAMP)
    image = io.read(str(path))
    written = io.read(io.write_image(folder / f"out {name}", image.data, image.header))
    np.testing.assert_array_equal(written.data, RAMP)


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("a.fits", "a"),
        ("/x/b.fits.fz[SCI]", "b"),
        ("c.d.fit.gz", "c.d"),
        ("e", "e"),
        (".fits", "image"),
        ("r.FTS", "r"),
    ],
)
def test_stem(name, stem):
    assert io.stem(name) == stem


def test_describe(mef, tmp_path):
    about = io.describe(mef)
    assert json.loads(json.dumps(about, allow_nan=False)) == about
    assert [e["used"] for e in about["extensions"]] == [False, False, True, False, False, False]
    assert about["image"]["shape"] == [6, 7] and about["image"]["median"] == 20.5 and about["error"] is None
    nothing = io.describe(save(tmp_path / "none.fits", None))
    assert nothing["image"] is None and "no two-dimensional image" in nothing["error"]
    with pytest.raises(FileError):
        io.describe(tmp_path / "nowhere.fits")


def test_nothing_is_said(mef, capfd):
    """Files that astropy warns about are read in silence (warnings are errors in these tests)."""
    io.read(mef)
    assert capfd.readouterr() == ("", "")


def test_threads_leave_the_filters_of_warnings_alone(mef):
    """Filters belong to the process: reading in threads must not leave "ignore" behind."""
    before = list(warnings.filters)
    with ThreadPoolExecutor(8) as pool:
        images = list(pool.map(lambda _: io.read(mef), range(40)))
    assert warnings.filters == before
    assert all(np.array_equal(image.data, RAMP) for image in images)


# ---------------------------------------------------------------- writing


def simple_wcs():
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.crval, wcs.wcs.crpix, wcs.wcs.cdelt = [10.0, -20.0], [3.0, 4.0], [-1e-4, 1e-4]
    return wcs


def test_cards_are_kept_and_the_old_structure_is_not(tmp_path):
    cards = {
        "OBJECT": "M31", "BZERO": 32768, "BSCALE": 1, "CHECKSUM": "abc", "DATASUM": "1", "BLANK": 5,
        "EXTNAME": "SCI", "ZCMPTYPE": "RICE_1", "NAXIS3": 4, "LONG": "word " * 40, "BUNIT": "adu",
        "HIERARCH ESO INS": 3,
    }  # fmt: skip
    header = fits.Header(cards)
    header.add_history("kept")
    path = io.write_image(tmp_path / "k.fits", RAMP.astype(np.float64), header, simple_wcs())
    with fits.open(path, checksum=True) as hdus:
        hdus.verify("exception")
        new = hdus[0].header
        assert {k: new[k] for k in ("OBJECT", "LONG", "BUNIT", "ESO INS")} == {
            "OBJECT": "M31", "LONG": ("word " * 40).rstrip(), "BUNIT": "adu", "ESO INS": 3,
        }  # fmt: skip
        assert "kept" in str(new["HISTORY"])
        assert not {"BZERO", "BSCALE", "CHECKSUM", "DATASUM", "BLANK", "EXTNAME", "ZCMPTYPE", "NAXIS3"} & set(
            new
        )
        assert new["BITPIX"] == -32 and new["CRVAL1"] == 10


def test_no_wcs_no_coordinates(tmp_path):
    """Pixels may have moved: coordinates come from the wcs, never from a header alone."""
    header = simple_wcs().to_header()
    assert io.read(io.write_image(tmp_path / "n.fits", RAMP, header)).wcs is None
    moved = simple_wcs()
    moved.wcs.crval = [11.0, -21.0]
    image = io.read(io.write_image(tmp_path / "m.fits", RAMP, header, moved))
    assert image.wcs.wcs.crval.tolist() == [11.0, -21.0]
    cut = io.read(io.write_image(tmp_path / "c.fits", RAMP[2:, 1:], header, simple_wcs()[2:, 1:]))
    assert cut.wcs.wcs.crpix.tolist() == [2.0, 2.0]


@pytest.mark.parametrize("dtype", [np.uint16, np.int16, np.uint8, np.int32, bool])
def test_integers_stay_integers(tmp_path, dtype):
    data = (np.arange(42).reshape(6, 7) * 1561).astype(dtype)
    with fits.open(io.write_image(tmp_path / "i.fits", data)) as hdus:
        np.testing.assert_array_equal(hdus[0].data, data)


def test_strided_planes_and_gzip(tmp_path):
    plane = np.arange(200.0).reshape(20, 10)[::2, ::-1].T
    np.testing.assert_array_equal(io.read_plane(io.write_image(tmp_path / "s.fits", plane)), plane)
    path = io.write_image(tmp_path / "s.fits.gz", plane)
    assert path.read_bytes()[:2] == b"\x1f\x8b"
    np.testing.assert_array_equal(io.read_plane(path), plane)


def test_tiles_by_name_and_what_has_another_shape_beside_them(tmp_path):
    rng = np.random.default_rng(3)
    plane = rng.normal(100, 3, (40, 60)).astype(np.float32)[:, ::-1]
    plane[3, 7], flags = np.nan, rng.integers(0, 2**16, plane.shape, np.uint16)
    psf = rng.random((2, 9, 9)).astype(np.float32)
    none = fits.Header()
    further = [("FLAGS", flags, none), ("GOOD", flags > 9, none), ("PSFS", psf, none)]
    path = io.write_image(tmp_path / "t.fits.fz", plane, extensions=further)
    np.testing.assert_allclose(io.read_plane(path), plane, atol=3 / 16)  # half a step, dithered, is less
    with fits.open(path) as hdus:
        np.testing.assert_array_equal(hdus["FLAGS"].data, flags)
        np.testing.assert_array_equal(hdus["GOOD"].data, flags > 9)
        np.testing.assert_array_equal(hdus["PSFS"].data, psf)  # a PSF has no noise to be stored in steps of
    assert not [p for p in tmp_path.iterdir() if p != path]
    plane[5, 9] = np.inf
    np.testing.assert_array_equal(
        fits.getdata(io.write_image(tmp_path / "i.fits.fz", plane), 1), plane
    )  # one infinity must not cost its row
    flat = io.write_image(tmp_path / "flat.fits.fz", np.full((5, 4), 7.5))
    np.testing.assert_array_equal(io.read_plane(flat), np.full((5, 4), 7.5))


def test_overwrite_and_directories(tmp_path):
    path = io.write_image(tmp_path / "a.fits", RAMP)
    io.write_image(path, RAMP + 1)
    with pytest.raises(OutputError, match="exists already"):
        io.write_image(path, RAMP, overwrite=False)
    np.testing.assert_array_equal(io.read_plane(path), RAMP + 1)
    (tmp_path / "dir").mkdir()
    for target in (
        tmp_path / "dir",
        tmp_path / "nowhere" / "a.fits",
        path / "a.fits",
        tmp_path / ("x" * 300),
    ):
        with pytest.raises(OutputError):
            io.write_image(target, RAMP)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.fits", "dir"]


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_failure_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, call):
    path = io.write_image(tmp_path / "a.fits", RAMP)

    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(*((os, "fsync") if call == "fsync" else (Path, "replace")), full)
    with pytest.raises(OutputError, match="No space left on device"):
        io.write_image(path, RAMP + 1)
    monkeypatch.undo()
    np.testing.assert_array_equal(io.read_plane(path), RAMP)
    assert [p.name for p in tmp_path.iterdir()] == ["a.fits"]


def test_interrupted_writing_leaves_nothing(tmp_path):
    with pytest.raises(KeyboardInterrupt), io.writing(tmp_path / "a.fits") as file:
        file.write(b"half")
        raise KeyboardInterrupt
    assert not list(tmp_path.iterdir())


def test_staged_files_come_together_or_not_at_all(tmp_path):
    folder = tmp_path / "out"
    with pytest.raises(RuntimeError), io.staging(folder) as stage:
        io.write_text(stage / "a.txt", "x")
        raise RuntimeError
    assert not folder.exists()
    (folder / "b.txt").mkdir(parents=True)
    with pytest.raises(OutputError, match=r"b\.txt: it is a directory"), io.staging(folder) as stage:
        io.write_text(stage / "a.txt", "x")
        io.write_text(stage / "b.txt", "x")
    assert [p.name for p in folder.iterdir()] == ["b.txt"]
    with io.staging(folder) as stage:
        io.write_text(stage / "ü.txt", "ü")
    assert (folder / "ü.txt").read_text(encoding="utf-8") == "ü"


def test_full_disk(tmp_path):
    """A real file system of 64 kB, where the machine allows to mount one."""
    mounted = hasattr(os, "geteuid") and os.geteuid() == 0 and shutil.which("mount") is not None
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(tmp_path)]
    if not mounted or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("needs root and leave to mount")
    try:
        with pytest.raises(OutputError, match="No space left"):
            io.write_image(tmp_path / "a.fits", np.zeros((300, 300)))
        with pytest.raises(OutputError, match="No space left"), io.staging(tmp_path / "out") as stage:
            io.write_image(stage / "b.fits", np.zeros((300, 300)))
        assert not list(tmp_path.iterdir())
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


def test_json_is_valid_whatever_comes(tmp_path):
    value = {
        "a": np.float32("nan"),
        "b": [np.inf, 1, np.int64(2)],
        "c": Path("x"),
        "d": np.arange(2),
        3: (True, None),
    }
    path = io.write_json(tmp_path / "s.json", value)
    assert json.loads(path.read_text()) == {
        "a": None, "b": [None, 1, 2], "c": "x", "d": [0, 1], "3": [True, None],
    }  # fmt: skip


def test_memory_buffers_are_not_paths():
    with pytest.raises(TypeError):
        io.read(memory.BytesIO(b""))
