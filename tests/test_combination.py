"""Images combined by strips: the same pixels whatever the file, the memory and the threads."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
import tempfile
import threading
import warnings
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from zogyp import combination
from zogyp import rows as rows_module
from zogyp.combination import bytes_of, combine, median, strips
from zogyp.core.combine import LANES
from zogyp.errors import FileError, OptionError, OutputError, PixelError, ShapeError
from zogyp.image import UNUSABLE, Flag, Image
from zogyp.options import CombineOptions, InputOptions
from zogyp.rows import ArrayRows, FileRows, opened_rows

SHAPE = (23, 31)
LOTS = 1 << 30
PLAIN = InputOptions()


def pixels(seed, shape=SHAPE):
    """Whole numbers, so that every type of file holds them."""
    return np.rint(np.random.default_rng(seed).normal(1000, 50, shape)).astype(np.float32)


def save(path, data, cards=(), extensions=()):
    """Write with astropy, the independent writer."""
    header = fits.Header(list(dict(cards).items()))
    hdus = [fits.PrimaryHDU(data, header)]
    hdus += [fits.ImageHDU(plane, name=name) for name, plane in extensions]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fits.HDUList(hdus).writeto(path, overwrite=True)
    return path


def raw(path, stored, *cards):
    """Write stored values as they are, beside cards that tell their meaning."""
    bitpix = {"u1": 8, "i2": 16, "i4": 32, "i8": 64, "f4": -32, "f8": -64}[stored.dtype.str[1:]]
    ny, nx = stored.shape
    text = f"SIMPLE  =                    T|BITPIX  = {bitpix:20d}|NAXIS   =                    2|"
    text += f"NAXIS1  = {nx:20d}|NAXIS2  = {ny:20d}|" + "".join(f"{c}|" for c in cards) + "END"
    header = "".join(card.ljust(80) for card in text.split("|"))
    data = stored.astype(stored.dtype.newbyteorder(">")).tobytes()
    path.write_bytes(header.ljust(2880).encode() + data + bytes(-len(data) % 2880))
    return path


def arrays(n, shape=SHAPE, *, holes=0.1, spikes=0.0):
    rng = np.random.default_rng(n)
    data = rng.normal(100, 5, (n, *shape)).astype(np.float32)
    data[rng.random(data.shape) < spikes] += 1000
    data[rng.random(data.shape) < holes] = np.nan
    return data


def nanmedian(data):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # all NaN
        return np.nanmedian(np.asarray(data, np.float64), axis=0).astype(np.float32)


def read_rows(path, scratch, options=PLAIN):
    """The whole image, by strips of some rows."""
    rows = opened_rows(path, options, scratch)
    ny = rows.shape[0]
    parts = [rows.rows(low, min(low + 5, ny)) for low in range(0, ny, 5)]
    assert all(part.dtype == np.float32 and part.dtype.isnative for part in parts)
    return np.concatenate(parts)


# ---------------------------------------------------------------- sizes


@pytest.mark.parametrize(
    "text, size",
    [
        ("1G", 2**30),
        ("500M", 500 * 2**20),
        ("1.5GiB", 3 * 2**29),
        ("2e9", 2_000_000_000),
        ("1000000", 1_000_000),
        (" 64 mb ", 64 * 2**20),
        ("2048K", 2**21),
        ("0.5t", 2**39),
        ("2e3kB", 2000 * 1024),
    ],
)
def test_sizes(text, size):
    assert bytes_of(text) == size


@pytest.mark.parametrize(
    "text",
    ["", "much", "1X", "-1G", "G", "1 2G", "999999", "0", "nan", "inf", "1e400", "1,5G", "1GG", "1e30"],
)
def test_what_is_no_size(text):
    with pytest.raises(OptionError, match="a size like 500M or 2G") as caught:
        bytes_of(text)
    assert caught.value.name == "memory" and caught.value.value == text


# ---------------------------------------------------------------- rows of arrays


def test_rows_of_an_array():
    data = pixels(1)
    mask = np.zeros(SHAPE, np.uint16)
    for i, flag in enumerate(Flag):
        mask[0, i] = flag
    rows = ArrayRows(data, mask, scale=4.0, name="a")
    assert rows.shape == SHAPE and rows.name == "a"
    bad = (mask & np.uint16(UNUSABLE)) > 0
    truth = np.where(bad, np.nan, data / 4)
    np.testing.assert_array_equal(rows.rows(0, 3), truth[:3])
    np.testing.assert_array_equal(rows.rows(20, 23), truth[20:])
    chosen = ArrayRows(data, mask, unusable=int(Flag.EDGE | Flag.BAD)).rows(0, 1)[0]
    assert np.flatnonzero(np.isnan(chosen)).tolist() == [0, 4]
    assert np.isfinite(data).all(), "the array itself is left alone"


@pytest.mark.parametrize("code", [">f4", "<f8", ">f8", "u1", ">i2", "<u2", "i8", "?"])
def test_arrays_of_any_type(code):
    data = np.abs(pixels(2) - 1000).clip(0, 1).astype(code)
    part = ArrayRows(data).rows(2, 9)
    assert part.dtype == np.float32 and part.dtype.isnative
    np.testing.assert_array_equal(part, data[2:9].astype(np.float64))


def test_arrays_mapped_from_disk(tmp_path):
    path = tmp_path / "a.npy"
    np.save(path, pixels(3))
    data = np.load(path, mmap_mode="r")
    np.testing.assert_array_equal(ArrayRows(data, scale=2.0).rows(1, 4), pixels(3)[1:4] / 2)


def test_doubles_that_no_float_holds_are_missing():
    data = np.full(SHAPE, 5.0)
    data[3, 4] = 1e300
    made = combine([ArrayRows(data)], method="median", memory=LOTS, n_threads=1)
    assert made.count[3, 4] == 0 and np.isnan(made.data[3, 4]) and made.count.sum() == data.size - 1


def test_arrays_that_cannot_be():
    with pytest.raises(ShapeError, match="the mask of a"):
        ArrayRows(np.zeros((3, 4)), np.zeros((4, 3), np.uint16), name="a")
    for scale in (0.0, np.nan, np.inf):
        with pytest.raises(OptionError, match="scale"):
            ArrayRows(np.zeros((3, 4)), scale=scale)


# ---------------------------------------------------------------- rows of files


@pytest.mark.parametrize("code", ["u1", "i2", "u2", "i4", "u4", "i8", "f4", "f8"])
def test_files_of_every_type_are_read_in_parts(tmp_path, code):
    data = (pixels(4) - 900).clip(0, 255).astype(code)
    path = save(tmp_path / "a.fits", data)
    np.testing.assert_array_equal(read_rows(path, tmp_path), data.astype(np.float64))
    assert isinstance(opened_rows(path, PLAIN, tmp_path), FileRows)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.fits"], "nothing was put aside"


def test_scaled_integers_with_blank(tmp_path):
    stored = np.arange(12, dtype=np.int16).reshape(3, 4)
    cards = (
        "BSCALE  =                  0.5",
        "BZERO   =                 10.0",
        "BLANK   =                    7",
    )
    path = raw(tmp_path / "a.fits", stored, *cards)
    truth = np.where(stored == 7, np.nan, stored * 0.5 + 10)
    np.testing.assert_array_equal(read_rows(path, tmp_path), truth)


def test_unsigned_integers_with_blank(tmp_path):
    stored = np.array([[-32768, 0, 32767, 5]], np.int16)
    path = raw(
        tmp_path / "a.fits", stored, "BZERO   =                32768", "BLANK   =                    5"
    )
    np.testing.assert_array_equal(read_rows(path, tmp_path), [[0, 32768, 65535, np.nan]])


def test_big_doubles_and_not_a_number(tmp_path):
    data = pixels(5).astype(np.float64) / 3
    data[4, 5], data[6, 7] = np.nan, 1e300
    path = raw(tmp_path / "a.fits", data)
    seen = read_rows(path, tmp_path)
    assert np.isnan(seen[4, 5]) and not np.isfinite(seen[6, 7])
    seen[6, 7] = data[6, 7] = data[4, 5] = seen[4, 5] = 0
    np.testing.assert_array_equal(seen, data.astype(np.float32))


def test_an_extension_by_name(tmp_path):
    """It begins somewhere within the file."""
    first, second = pixels(6), pixels(7, (9, 12))
    path = save(tmp_path / "a.fits", None, extensions=[("ONE", first), ("TWO", second)])
    np.testing.assert_array_equal(read_rows(f"{path}[TWO]", tmp_path), second)
    np.testing.assert_array_equal(read_rows(path, tmp_path), first)
    assert opened_rows(f"{path}[two]", PLAIN, tmp_path).name == "a.fits[two]"
    assert any("file with 2 images" in note for note in opened_rows(path, PLAIN, tmp_path).notes)


@pytest.mark.parametrize("kind", ["gz", "fz"])
def test_compressed_files_are_put_aside(tmp_path, kind):
    data, scratch = pixels(8).astype(np.int32), tmp_path / "scratch"
    scratch.mkdir()
    path = tmp_path / f"a.fits.{kind}"
    if kind == "gz":
        save(path, data)
    else:
        fits.HDUList([fits.PrimaryHDU(), fits.CompImageHDU(data)]).writeto(path)
    np.testing.assert_array_equal(read_rows(path, scratch), data)
    assert len(list(scratch.iterdir())) == 1
    assert opened_rows(path, PLAIN, scratch).path.parent == scratch


@pytest.mark.parametrize("name", ["MASK", "BPM"])
def test_a_mask_in_the_file(tmp_path, name):
    data, bad = pixels(9), np.random.default_rng(9).random(SHAPE) < 0.1
    path = save(tmp_path / "a.fits", data, extensions=[(name, bad.astype(np.uint8))])
    np.testing.assert_array_equal(read_rows(path, tmp_path), np.where(bad, np.nan, data))


def test_a_weight_without_zeros_is_no_reason_to_put_the_pixels_aside(tmp_path):
    path = save(tmp_path / "a.fits", pixels(9), extensions=[("WHT", np.ones(SHAPE, np.float32))])
    np.testing.assert_array_equal(read_rows(path, tmp_path), pixels(9))
    assert opened_rows(path, PLAIN, tmp_path).path == path


def test_masks_and_weights_of_other_files(tmp_path):
    data, bad = pixels(10), np.random.default_rng(10).random(SHAPE) < 0.1
    path = save(tmp_path / "a.fits", data)
    mask = str(save(tmp_path / "m.fits", bad.astype(np.uint8)))
    weight = str(save(tmp_path / "w.fits", np.where(bad, 0, 2.0).astype(np.float32)))
    for options in (InputOptions(mask=mask), InputOptions(weight=weight)):
        np.testing.assert_array_equal(read_rows(path, tmp_path, options), np.where(bad, np.nan, data))
    wrong = InputOptions(mask=str(save(tmp_path / "s.fits", np.zeros((3, 3), np.uint8))))
    with pytest.raises(ShapeError):
        opened_rows(path, wrong, tmp_path)


def flagged():
    """A pixel of each flag, and which of them a plain combination does without."""
    mask = np.zeros(SHAPE, np.uint16)
    for i, flag in enumerate(Flag):
        mask[i, i] = flag
    return mask, (mask & np.uint16(Flag.BAD | Flag.NO_DATA | Flag.COSMIC_RAY)) > 0


def test_saturated_pixels_of_an_image_are_used(tmp_path):
    mask, bad = flagged()
    seen = opened_rows(Image(pixels(11), mask), PLAIN, tmp_path).rows(0, SHAPE[0])
    np.testing.assert_array_equal(np.isnan(seen), bad)


def test_saturated_pixels_of_our_own_masks_are_used(tmp_path):
    mask, bad = flagged()
    path = save(tmp_path / "a.fits", pixels(11), extensions=[("MASK", mask)])
    fits.setval(path, "BIT00", value="BAD", extname="MASK")
    np.testing.assert_array_equal(np.isnan(read_rows(path, tmp_path)), bad)


def test_the_saturation_of_the_header_hides_nothing(tmp_path):
    path = save(tmp_path / "a.fits", pixels(12), {"SATURATE": 1010.0})
    np.testing.assert_array_equal(read_rows(path, tmp_path), pixels(12))


def test_a_file_that_shrinks_while_it_is_read(tmp_path):
    path = save(tmp_path / "a.fits", pixels(13))
    rows = opened_rows(path, PLAIN, tmp_path)
    path.write_bytes(path.read_bytes()[:3500])
    with pytest.raises(FileError, match="truncated"):
        rows.rows(0, SHAPE[0])
    path.unlink()
    with pytest.raises(FileError, match="cannot be read"):
        rows.rows(0, 1)


def test_a_folder_that_cannot_be_written_to(tmp_path):
    path = save(tmp_path / "a.fits.gz", pixels(14))
    with pytest.raises(OutputError):
        opened_rows(path, PLAIN, tmp_path / "nowhere")


# ---------------------------------------------------------------- combine


@pytest.mark.parametrize("n", [1, 2, 5, 8])
def test_median_of_arrays(n):
    data = arrays(n)
    made = combine([ArrayRows(d) for d in data], method="median", memory=LOTS, n_threads=2)
    np.testing.assert_array_equal(made.data, nanmedian(data))
    np.testing.assert_array_equal(made.count, np.isfinite(data).sum(axis=0))
    assert made.weight is None
    assert (made.data.dtype, made.count.dtype) == (np.float32, np.uint16)


def test_weighted_mean_of_arrays():
    data, weights = arrays(6), [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
    made = combine([ArrayRows(d) for d in data], method="mean", weights=weights, memory=LOTS, n_threads=2)
    w = np.array(weights)[:, None, None] * np.isfinite(data)
    np.testing.assert_allclose(made.weight, w.sum(axis=0), rtol=1e-6)
    np.testing.assert_allclose(made.data, (w * np.nan_to_num(data)).sum(axis=0) / w.sum(axis=0), rtol=1e-6)


@pytest.mark.parametrize("sigmas", [None, [5.0] * 12])
def test_clipped_mean_of_arrays(sigmas):
    data = arrays(12, holes=0, spikes=0.08)
    weights = np.arange(1.0, 13.0)
    made = combine(
        [ArrayRows(d) for d in data],
        method="clipped",
        weights=weights,
        sigmas=sigmas,
        clip=20.0,  # spikes are 200 sigma high, and the scatter of twelve may be small by chance
        share=0.0,
        memory=LOTS,
        n_threads=2,
    )
    w = weights[:, None, None] * (data < 500)
    np.testing.assert_allclose(made.data, (w * data).sum(axis=0) / w.sum(axis=0), rtol=1e-6)
    np.testing.assert_array_equal(made.count, (data < 500).sum(axis=0))
    np.testing.assert_array_equal(made.weight, w.sum(axis=0))
    assert (made.count < 12).mean() > 0.3


def test_share_and_clip_reach_the_pixels():
    sources = [ArrayRows(np.full(SHAPE, value, np.float32)) for value in (10, 10, 10, 12.5)]
    said = {"method": "clipped", "sigmas": [0.5] * 4, "memory": LOTS, "n_threads": 1}
    assert combine(sources, **said, clip=4.0, share=0.0).data[0, 0] == 10
    assert combine(sources, **said, clip=5.0, share=0.0).data[0, 0] == 10.625
    assert combine(sources, **said, clip=4.0, share=0.1).data[0, 0] == 10.625
    assert combine(sources, **said).data[0, 0] == 10.625, "4 sigma and 0.3 unless told"


@pytest.mark.parametrize("method", ["median", "mean", "clipped"])
def test_memory_and_threads_do_not_show(method):
    """Bit by bit; the strips are one row high in one case."""
    shape = (37, 2 * LANES + 5)
    sources = [ArrayRows(d) for d in arrays(9, shape, spikes=0.05)]
    least = strips_least(9, shape)
    assert strips(9, shape, least, 3) == (1, 1)
    makings = [
        combine(sources, method=method, weights=np.arange(1, 10), memory=memory, n_threads=n)
        for memory, n in ((LOTS, 1), (LOTS, 3), (least, 1), (4 * least, 3), (LOTS, 64))
    ]
    for made in makings[1:]:
        for plane in dataclasses.fields(made):
            one, other = getattr(makings[0], plane.name), getattr(made, plane.name)
            assert (one is None and other is None) or one.tobytes() == other.tobytes()


def strips_least(n, shape):
    """The least memory, as the error tells it."""
    with pytest.raises(OptionError) as caught:
        strips(n, shape, 1, 1)
    return int(caught.value.allowed.split()[2])


def test_the_least_memory_is_told(tmp_path):
    sources = [ArrayRows(d) for d in arrays(4)]
    least = strips_least(4, SHAPE)
    combine(sources, method="median", memory=least, n_threads=8)
    with pytest.raises(OptionError, match="a row of 4 images") as caught:
        combine(sources, method="median", memory=least - 1, n_threads=8)
    assert (caught.value.name, caught.value.value) == ("memory", least - 1)


@pytest.mark.parametrize("n", [1, 7, 100, 1000])
@pytest.mark.parametrize("shape", [(1, 50_000), (2048, 2048), (9000, 30), (6000, 8000)])
@pytest.mark.parametrize("threads", [1, 2, 16])
def test_strips_stay_within_the_memory(n, shape, threads):
    for memory in (3 * 10**7, 10**8, 10**9, 10**11):
        if n * shape[1] * 5 > memory:
            continue
        height, used = strips(n, shape, memory, threads)
        assert 1 <= height <= shape[0] and 1 <= used <= threads
        # blocks of float32, and half as much again of one image's rows in doubles
        assert used * height * shape[1] * (4 * n + 12) <= memory
        assert height == shape[0] or height * shape[1] * 4 < 2 << 20, "no more than helps"


class Watched:
    """Rows that take notes of who asks for what."""

    shape, name = (40, 300), "watched"

    def __init__(self):
        self.asked = []
        self.inside = self.most = 0
        self.lock = threading.Lock()

    def rows(self, low, high):
        with self.lock:
            self.asked.append((low, high))
            self.inside += 1
            self.most = max(self.most, self.inside)
        values = np.full((high - low, 300), low, np.float32)
        threading.Event().wait(0.002)
        with self.lock:
            self.inside -= 1
        return values


@pytest.mark.parametrize("memory, n_threads, most", [(40_000, 1, 1), (100_000, 4, 4), (LOTS, 2, 2)])
def test_every_row_is_read_once_by_as_many_threads_as_fit(memory, n_threads, most):
    source = Watched()
    told = []
    combine([source], method="median", memory=memory, n_threads=n_threads, progress=told.append)
    height, used = strips(1, source.shape, memory, n_threads)
    assert sorted(r for low, high in source.asked for r in range(low, high)) == list(range(40))
    assert max(high - low for low, high in source.asked) == height
    assert source.most <= used <= most
    assert told == sorted(told) and told[-1] == 1 and len(told) == len(source.asked)


def test_threads_work_at_the_same_time():
    source = Watched()
    combine([source], method="median", memory=200_000, n_threads=4)
    assert source.most > 1


def test_an_error_stops_the_work():
    class Broken(Watched):
        def rows(self, low, high):
            super().rows(low, high)
            raise FileError("x", "gone")

    source = Broken()
    with pytest.raises(FileError, match="gone"):
        combine([source], method="median", memory=40_000, n_threads=2)
    assert len(source.asked) < 10, "the strips that had not begun never do"


def test_other_shapes_are_named():
    sources = [ArrayRows(np.zeros(s), name=f"image {i}") for i, s in enumerate([(3, 4), (3, 4), (4, 3)])]
    with pytest.raises(ShapeError, match="image 2") as caught:
        combine(sources, method="median", memory=LOTS, n_threads=1)
    assert (caught.value.shape, caught.value.wanted) == ((4, 3), (3, 4))


@pytest.mark.parametrize(
    "said, name",
    [
        ({"method": "average"}, "method"),
        ({"method": "mean", "weights": [1.0]}, "weights"),
        ({"method": "mean", "weights": [1.0, 0.0, 1.0]}, "weights"),
        ({"method": "mean", "weights": [1.0, np.nan, 1.0]}, "weights"),
        ({"method": "clipped", "sigmas": [1.0, -1.0, 1.0]}, "sigmas"),
        ({"method": "clipped", "sigmas": [1.0, 1.0]}, "sigmas"),
        ({"method": "clipped", "clip": -1.0}, "clip"),
        ({"method": "clipped", "share": np.inf}, "share"),
    ],
)
def test_options_that_cannot_be(said, name):
    sources = [ArrayRows(np.zeros((3, 4)))] * 3
    with pytest.raises(OptionError) as caught:
        combine(sources, **said, memory=LOTS, n_threads=1)
    assert caught.value.name == name


def test_words_that_mean_nothing():
    with pytest.raises(TypeError, match="wieghts"):
        combine([ArrayRows(np.zeros((3, 4)))], method="mean", wieghts=[1.0], memory=LOTS, n_threads=1)
    with pytest.raises(TypeError, match="method"):
        combine([ArrayRows(np.zeros((3, 4)))], memory=LOTS, n_threads=1)


def test_no_images():
    with pytest.raises(OptionError, match="images"):
        combine([], method="median", memory=LOTS, n_threads=1)


# ---------------------------------------------------------------- the public function


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Where temporary files go."""
    place = tmp_path / "temporary"
    place.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    return place


@pytest.fixture
def mixed(tmp_path):
    """The same sky in files of all kinds and in memory: what to combine, and its pixels."""
    data = [pixels(seed) for seed in range(6)]
    bad = np.random.default_rng(7).random(SHAPE) < 0.2
    mask = np.where(bad, np.uint16(Flag.COSMIC_RAY), np.uint16(0))
    cards = {"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": 150.0, "CRVAL2": 2.0, "CD1_1": -1e-4,
             "CD2_2": 1e-4, "CRPIX1": 3.0, "CRPIX2": 4.0, "OBSERVER": "Huggins", "EXPTIME": 60.0}  # fmt: skip
    given = [
        save(tmp_path / "0.fits", data[0].astype(np.uint16), cards),
        str(save(tmp_path / "1.fits.gz", data[1])),
        tmp_path / "2.fits.fz",
        Image(data[3].astype(">f8"), mask, name="three"),
        save(tmp_path / "4.fits", data[4], extensions=[("BPM", bad.astype(np.int16))]),
        save(tmp_path / "5.fits", data[5].astype(np.float64)),
    ]
    fits.HDUList([fits.PrimaryHDU(), fits.CompImageHDU(data[2].astype(np.int16))]).writeto(given[2])
    seen = np.array(data)
    seen[3][bad] = seen[4][bad] = np.nan
    return given, seen


def test_images_of_all_kinds(mixed, folder):
    given, seen = mixed
    told = []
    image = median(given, progress=lambda stage, fraction: told.append((stage, fraction)))
    np.testing.assert_array_equal(image.data, nanmedian(seen))
    assert not image.mask.any() and image.mask.dtype == np.uint16
    assert image.wcs.wcs.crval.tolist() == [150.0, 2.0]
    assert image.header["OBSERVER"] == "Huggins"
    assert image.exptime is None and image.gain is None and image.variance is None
    assert "median of 6 images" in image.notes and any("BPM" in note for note in image.notes)
    assert told[-1] == ("combine", 1.0) and [f for _, f in told] == sorted(f for _, f in told)
    assert list(folder.iterdir()) == [], "nothing is left behind"


@pytest.mark.parametrize("method", ["mean", "clipped"])
def test_other_methods(mixed, folder, method):
    given, seen = mixed
    image = median(given, CombineOptions(method=method, clip=1000))
    np.testing.assert_allclose(image.data, np.nanmean(seen.astype(np.float64), axis=0), rtol=1e-6)
    assert f"{method} of 6 images" in image.notes


def test_options_of_the_clipping_count():
    images = [
        Image(np.full(SHAPE, v, np.float32), np.zeros(SHAPE, np.uint16)) for v in (10, 10.5, 11, 11.5, 14)
    ]
    for image in images:
        image.data[0, 0] += 0.25  # no whole numbers

    def made(clip, share):
        return median(images, CombineOptions(method="clipped", clip=clip, share=share)).data[0, 0]

    assert made(1.5, 0.0) == pytest.approx(11.0)
    assert made(1.5, 0.3) == made(20.0, 0.0) == pytest.approx(11.65)


def test_pixels_that_no_image_has(tmp_path, folder):
    data = np.array([pixels(seed) for seed in range(3)])
    data[:, 2, 3] = np.nan
    data[:2, 4, 5] = np.nan
    image = median([save(tmp_path / f"{i}.fits", d) for i, d in enumerate(data)])
    np.testing.assert_array_equal(image.data, nanmedian(data))
    truth = np.zeros(SHAPE, np.uint16)
    truth[2, 3] = Flag.NO_DATA
    np.testing.assert_array_equal(image.mask, truth)
    assert any("1 pixels have no usable value" in note for note in image.notes)


def test_nothing_at_all_is_an_error(tmp_path):
    path = save(tmp_path / "a.fits", np.full(SHAPE, np.nan, np.float32))
    with pytest.raises(PixelError, match="median of 2 images"):
        median([path, path])


@pytest.mark.parametrize("broken", ["no file", "garbage", "another shape"])
def test_errors_leave_nothing_behind(mixed, tmp_path, folder, broken):
    given, _ = mixed
    wrong = tmp_path / "wrong.fits"
    if broken == "garbage":
        wrong.write_bytes(b"hello")
    elif broken == "another shape":
        save(wrong, pixels(1, (5, 6)))
    with pytest.raises(ShapeError if broken == "another shape" else FileError, match="wrong"):
        median([*given, wrong])
    assert list(folder.iterdir()) == []


def test_the_folder_is_in_use_before(mixed, folder, monkeypatch):
    """What the test above would not see if pixels were put elsewhere."""
    given, _ = mixed
    seen = []
    rows = FileRows.read

    def read(self, low, out):
        seen.extend(self.path.parents)
        rows(self, low, out)

    monkeypatch.setattr(rows_module.FileRows, "read", read)
    median(given)
    assert folder in seen


def test_no_temporary_folder(mixed, monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
    with pytest.raises(OutputError, match="temporary"):
        median(mixed[0])


def test_what_median_does_not_take(mixed):
    given, _ = mixed
    for one in (given[0], str(given[0]), given[3]):
        with pytest.raises(TypeError, match="list"):
            median(one)
    with pytest.raises(OptionError, match="images"):
        median([])
    with pytest.raises(OptionError, match="memory"):
        median(given, CombineOptions(memory="plenty"))
    with pytest.raises(OptionError, match="clip"):
        CombineOptions(clip=0.5)
    with pytest.raises(OptionError, match="share"):
        CombineOptions(share=-0.1)


def test_memory_and_threads_of_the_options(mixed, monkeypatch):
    assert CombineOptions(threads=3).n_threads == 3 and CombineOptions().n_threads >= 1
    asked = []

    def watched(n, shape, memory, n_threads):
        asked.append((n, shape, memory, n_threads))
        return strips(n, shape, memory, n_threads)

    monkeypatch.setattr(combination, "strips", watched)
    given, _ = mixed
    one, many = (median(given, CombineOptions(threads=n, memory=f"{n}M")) for n in (1, 5))
    assert one.data.tobytes() == many.data.tobytes()
    assert asked == [(6, SHAPE, 1 << 20, 1), (6, SHAPE, 5 << 20, 5)]


PEAK = """
import sys
from zogyp.combination import median
from zogyp.stopwatch import peak_memory_mb as peak
from zogyp.options import CombineOptions
import numpy as np
from zogyp.image import Image
small = Image(np.ones((4, 4), np.float32), np.zeros((4, 4), np.uint16))
median([small, small])
before = peak()
image = median(sys.argv[1:], CombineOptions(memory="64M", threads=2))
print(peak() - before, image.data[700, 800], image.data[1499, 1499])
"""


def test_peak_memory_of_many_large_files(tmp_path):
    """360 MB of pixels; the result takes 9 + 4.5 + 4.5 MB."""
    shape, n = (1500, 1500), 40
    data = np.zeros(shape, np.float32)
    paths = [save(tmp_path / f"{i}.fits", data + np.float32(i)) for i in range(n)]
    assert sum(Path(p).stat().st_size for p in paths) > 350e6
    command = [sys.executable, "-W", "error", "-c", PEAK, *map(str, paths)]
    # compiling takes memory too: a first process leaves compiled code on disk for the one that is measured
    subprocess.run(command[:7], capture_output=True, timeout=120, check=True)
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    grown, *values = map(float, done.stdout.split())
    assert values == [19.5, 19.5]
    assert 5 < grown < 64 + 18 + 60
