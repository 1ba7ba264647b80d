"""Planes in files: they hold what was put there, leave the memory, and change no result."""

from __future__ import annotations

import gc
import threading
import time
import tracemalloc
import warnings

import numpy as np
import pytest

import zogyp
from zogyp import SubtractOptions
from zogyp.core import planes
from zogyp.core.masks import has, marked
from zogyp.core.planes import Store, copied, kept_in, like, resident_memory, room
from zogyp.errors import OptionError, OutputError
from zogyp.image import UNUSABLE, Flag, Image
from zogyp.simulate import simulate, write_pair
from zogyp.sky import Sky

MILLION = 1_000_000
SHAPE = (700, 900)  # 20 planes of it take 50 MB


def store(tmp_path, limit=MILLION):
    return Store(limit, tmp_path)


def test_small_planes_stay_in_memory(tmp_path):
    plane = store(tmp_path, 100 * MILLION).empty(SHAPE)
    assert kept_in(plane) is None
    assert plane.flags.owndata


def test_a_plane_in_a_file_is_an_array_like_any(tmp_path):
    keeper = store(tmp_path)
    for dtype in (np.float32, np.uint16, np.bool_):
        plane = keeper.empty(SHAPE, dtype)
        assert (
            plane.shape == SHAPE
            and plane.dtype == dtype
            and plane.flags.c_contiguous
            and plane.flags.writeable
        )
    assert not list(tmp_path.iterdir())  # files have no name: nothing is left behind by a crash


def test_what_was_written_comes_back_after_release(tmp_path):
    keeper = store(tmp_path)
    plane = keeper.empty(SHAPE)
    truth = np.random.default_rng(1).normal(size=SHAPE).astype(np.float32)
    plane[:] = truth
    keeper.release()
    np.testing.assert_array_equal(plane, truth)
    plane[3] = 7
    keeper.release()
    assert (plane[3] == 7).all() and plane[4, 5] == truth[4, 5]


def test_memory_beyond_the_limit_is_given_back(tmp_path):
    keeper = store(tmp_path, resident_memory()[0] + 40 * MILLION)
    big = (4000, 4000)  # 64 MB each
    held = [keeper.empty(big) for _ in range(6)]
    for plane in held:
        plane[:] = 1
    deadline = time.monotonic() + 30
    while resident_memory()[0] > keeper.limit + planes.MORE and time.monotonic() < deadline:
        time.sleep(0.05)
    assert resident_memory()[0] < keeper.limit + planes.MORE  # without a watch there would be 384 MB more
    assert all(float(p.min()) == 1 for p in held)


def test_the_watch_ends_with_the_last_plane(tmp_path):
    keeper = store(tmp_path)
    plane = keeper.empty(SHAPE)
    assert any(t.name == "zogyp-memory" for t in threading.enumerate())
    view = plane[10:20, ::2]
    del plane
    gc.collect()
    view[:] = 3
    assert kept_in(view) is keeper
    del view
    gc.collect()
    deadline = time.monotonic() + 30
    while any(t.name == "zogyp-memory" for t in threading.enumerate()) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not any(t.name == "zogyp-memory" for t in threading.enumerate())
    assert kept_in(keeper.empty(SHAPE)) is keeper  # and begins anew with the next


def test_planes_made_of_a_plane_are_kept_where_it_is(tmp_path):
    keeper = store(tmp_path)
    plane = keeper.empty(SHAPE)
    plane[:] = 2
    for made in (
        like(plane),
        like(plane[1:], np.uint16),
        room(plane, (800, 1000)),
        copied(plane.T),
        plane[5:].T,
    ):
        assert kept_in(made) is keeper
    np.testing.assert_array_equal(copied(plane.T), plane.T)
    assert kept_in(like(np.zeros(SHAPE))) is None


def test_bits_of_masks():
    rng = np.random.default_rng(2)
    mask = rng.integers(0, 1 << 15, (203, 31)).astype(np.uint16)
    where = rng.random(mask.shape) < 0.3
    np.testing.assert_array_equal(has(mask, UNUSABLE), (mask & np.uint16(UNUSABLE)) != 0)
    before = mask.copy()
    np.testing.assert_array_equal(marked(mask, where, Flag.EDGE), np.where(where, mask | Flag.EDGE, mask))
    np.testing.assert_array_equal(mask, before)
    assert marked(mask, np.zeros_like(where), Flag.EDGE) is mask


def test_no_room_is_told_before_the_work(tmp_path):
    with pytest.raises(OutputError, match="--scratch"):
        store(tmp_path / "nowhere").empty(SHAPE)
    with pytest.raises(OutputError, match="a plane of 281474977 MB"):
        store(tmp_path).empty((1 << 24, 1 << 22))  # 280 TB


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pair")
    write_pair(simulate(Sky(shape=SHAPE, n_stars=500, n_galaxies=10, shift=(4.3, -2.2)), 3), folder)
    return folder / "new.fits", folder / "ref.fits"


def same(a, b):
    for name in ("D", "S", "Scorr", "alpha", "alpha_err", "mask"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))
    assert len(a.transients) == len(b.transients) > 0


def test_results_do_not_depend_on_the_memory(pair, tmp_path):
    plain = zogyp.subtract(*pair, SubtractOptions(threads=2))
    small = zogyp.subtract(*pair, SubtractOptions(threads=2, memory="1M", scratch=str(tmp_path)))
    same(plain, small)
    assert kept_in(plain.D) is None
    for plane in (small.D, small.S, small.Scorr, small.alpha, small.alpha_err, small.mask, small.new.data):
        assert kept_in(plane) is not None
    written = small.write(tmp_path / "out")
    again = zogyp.read(written["D"])
    np.testing.assert_array_equal(again.data, small.D)


def test_images_of_ones_own_are_not_touched(pair, tmp_path):
    images = [zogyp.read(path) for path in pair]
    before = [(i.data.copy(), i.mask.copy()) for i in images]
    options = SubtractOptions(threads=2, memory="1M", scratch=str(tmp_path))
    same(zogyp.subtract(*images, options), zogyp.subtract(*pair))
    for image, (data, mask) in zip(images, before, strict=True):
        np.testing.assert_array_equal(image.data, data)
        np.testing.assert_array_equal(image.mask, mask)


def test_little_is_left_in_memory(pair, tmp_path):
    def heap(**how):
        gc.collect()
        tracemalloc.start()
        result = zogyp.subtract(*pair, SubtractOptions(threads=1, **how))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak, result

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        _, first = heap()
        plain, _ = heap()
        small, _ = heap(memory="1M", scratch=str(tmp_path))
    # what is left are planes of truth values and stamps of stars; some sixteen planes of 2.5 MB are gone
    assert small < plain - 10 * first.D.nbytes


@pytest.mark.parametrize("bad", ["much", "3", "-2G", ""])
def test_a_memory_that_is_none_is_told(bad):
    with pytest.raises(OptionError, match="memory"):
        SubtractOptions(memory=bad)


def test_planes_of_an_image_given_stay_its_own_where_memory_serves():
    image = Image(np.ones((8, 8), np.float32), np.zeros((8, 8), np.uint16))
    assert Store(MILLION).kept(image.data) is image.data
