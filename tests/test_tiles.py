"""Tiles: windows that add up to one, blocks that hold what they should, one answer for any threads."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zogyp.core.tiles import Blend, gather, plan, run, split
from zogyp.core.zogy import Side, zogy
from zogyp.errors import OptionError, ShapeError

# rectangular, odd, prime, smaller than a tile, thin
CASES = [
    ((64, 64), 32, 8, 4),
    ((101, 61), 32, 32, 10),
    ((97, 103), 20, 5, 0),
    ((30, 200), 50, 16, 7),
    ((7, 5), 100, 20, 3),
    ((1, 90), 30, 0, 2),
    ((65, 64), 64, 16, 5),
]


def sum_of_windows(shape, tiles):
    total = np.zeros(shape, dtype=np.float32)
    for tile in tiles:
        total[tile.inner] += tile.window
    return total


@pytest.mark.parametrize(("shape", "step", "ramp", "margin"), CASES)
def test_windows_add_up_to_exactly_one(shape, step, ramp, margin):
    tiles = plan(shape, step, ramp, margin)
    np.testing.assert_array_equal(sum_of_windows(shape, tiles), 1)
    for tile in tiles:
        assert tile.window.min() > 0


@given(
    st.tuples(st.integers(1, 300), st.integers(1, 300)),
    st.floats(1, 400),
    st.floats(0, 400),
    st.integers(0, 50),
)
@settings(max_examples=60, deadline=None, derandomize=True)
def test_any_plan_covers_any_image(shape, step, ramp, margin):
    if shape[0] * shape[1] / step**2 > 400:
        step = max(max(shape) / 10, 1)
    tiles = plan(shape, step, ramp, margin)
    np.testing.assert_array_equal(sum_of_windows(shape, tiles), 1)
    for tile in tiles:
        for inner, start, length in zip(tile.inner, tile.start, tile.shape, strict=True):
            assert start <= inner.start - margin
            assert start + length >= inner.stop + margin


def test_tiles_are_even_without_small_remainders():
    tiles = plan((1030, 4099), 1024, 64, 30)
    widths = {t.window.shape[1] for t in tiles}
    assert len(tiles) == 2 * 5
    assert max(widths) - min(widths) <= 64 + 1  # the outermost lack one of two half ramps


def test_alike_tiles_share_one_shape():
    tiles = plan((3001, 5003), 700, 64, 40)
    assert len({t.shape for t in tiles}) <= 4  # corner, two kinds of border, inside


def test_windows_are_flat_and_fall_linearly():
    tiles = plan((1, 90), 30, 10, 0)
    first, second, third = (t.wx for t in tiles)
    assert (len(first), len(second), len(third)) == (35, 40, 35)
    np.testing.assert_array_equal(first[:25], 1)
    np.testing.assert_allclose(first[25:], np.arange(9.5, 0, -1) / 10, atol=1 / 8192)  # steps of 1/4096
    np.testing.assert_array_equal(second, second[::-1])
    np.testing.assert_array_equal(third, first[::-1])


@pytest.mark.parametrize("shape", [(80, 120), (81, 37), (1, 200), (7, 5)])
def test_full_ramps_are_linear_interpolation_up_to_the_border(shape):
    tiles = plan(shape, 40, 40, 0)
    out = np.zeros(shape, dtype=np.float32)
    run(tiles, lambda t: {"v": 3.0 + 0.5 * t.x - 0.25 * t.y}, {"v": out})
    y, x = np.mgrid[: shape[0], : shape[1]]
    # windows come in steps of 1/4096, and nodes 40 px apart differ by up to 20 and 10
    np.testing.assert_allclose(out, 3.0 + 0.5 * x - 0.25 * y, atol=30 / 8192 + 1e-4)
    assert {t.x for t in tiles} >= {0.0, shape[1] - 1.0}
    assert {t.y for t in tiles} >= {0.0, shape[0] - 1.0}


def test_nodes_of_short_ramps_are_the_middles_of_the_cells():
    assert [t.x for t in plan((1, 90), 30, 10, 0)] == [14.5, 44.5, 74.5]
    assert [t.y for t in plan((81, 1), 30, 10, 0)] == [13, 40, 67]


def test_blocks_are_cut_around_their_tile():
    image = np.arange(20 * 30, dtype=np.float32).reshape(20, 30)
    for tile in plan((20, 30), 10, 4, 5):
        block = gather(image, tile, -7.0)
        assert block.shape == tile.shape
        assert block.dtype == image.dtype
        np.testing.assert_array_equal(tile.cut(block), image[tile.inner])
        rows = np.arange(tile.shape[0]) + tile.start[0]
        columns = np.arange(tile.shape[1]) + tile.start[1]
        for i, r in enumerate(rows):
            for j, c in enumerate(columns):
                inside = 0 <= r < 20 and 0 <= c < 30
                assert block[i, j] == (image[r, c] if inside else -7.0)


def test_a_block_is_a_copy_of_any_type():
    mask = np.zeros((5, 5), dtype=np.uint16)
    tile = plan((5, 5), 10, 0, 2)[0]
    gather(mask, tile, 1)[:] = 9
    assert not mask.any()
    assert gather(mask, tile, 1).dtype == np.uint16
    assert gather(mask, tile, 1)[0, 0] == 1


@pytest.mark.parametrize("n_threads", [1, 2, 5])
def test_the_answer_does_not_depend_on_the_threads(n_threads):
    rng = np.random.default_rng(1)
    image = rng.normal(size=(150, 131)).astype(np.float32)
    tiles = plan(image.shape, 40, 40, 6)

    def work(tile):
        time.sleep(0.002 * (tile.index % 3))  # finish out of order
        return {"v": np.exp(tile.cut(gather(image, tile, 0.0))) / (1 + tile.index), "one": 1.0}

    serial = {name: np.zeros(image.shape, np.float32) for name in ("v", "one")}
    run(tiles, work, serial)
    threaded = {name: np.zeros(image.shape, np.float32) for name in ("v", "one")}
    run(tiles, work, threaded, n_threads=n_threads)
    np.testing.assert_array_equal(serial["v"], threaded["v"])  # to the last bit
    np.testing.assert_array_equal(threaded["one"], 1)


def test_an_executor_may_be_given():
    tiles = plan((50, 50), 20, 5, 0)
    names = set()

    def work(tile):
        names.add(threading.current_thread().name)
        return {"v": 2.0}

    out = np.zeros((50, 50), np.float32)
    with ThreadPoolExecutor(1, thread_name_prefix="given") as pool:
        run(tiles, work, {"v": out}, executor=pool)
    np.testing.assert_array_equal(out, 2)
    assert names == {"given_0"}


def test_few_finished_blocks_wait():
    started, collected, lead = [], [], []

    def work(tile):
        started.append(tile.index)
        return {"v": 1.0}

    def progress(fraction):
        collected.append(fraction)
        lead.append(len(started) - len(collected))
        time.sleep(0.002)

    tiles = plan((10, 400), 10, 2, 0)
    run(tiles, work, {"v": np.zeros((10, 400), np.float32)}, n_threads=2, progress=progress)
    assert max(lead) <= 4
    np.testing.assert_allclose(collected, np.arange(1, 41) / 40)


def test_only_what_is_asked_for_is_collected():
    out = np.zeros((10, 10), np.float32)
    run(plan((10, 10), 10, 0, 0), lambda t: {"v": 1.0, "other": np.ones((10, 10))}, {"v": out})
    np.testing.assert_array_equal(out, 1)


@pytest.mark.parametrize("n_threads", [1, 2])
def test_an_error_in_a_tile_comes_out(n_threads):
    def work(tile):
        if tile.index == 3:
            raise ZeroDivisionError("tile 3")
        return {"v": 1.0}

    with pytest.raises(ZeroDivisionError, match="tile 3"):
        run(plan((90, 90), 30, 4, 0), work, {"v": np.zeros((90, 90), np.float32)}, n_threads=n_threads)


def test_an_answer_of_another_shape_is_refused():
    with pytest.raises(ShapeError, match="v of tile 0"):
        run(
            plan((90, 90), 30, 4, 5),
            lambda t: {"v": np.zeros(t.shape)},
            {"v": np.zeros((90, 90), np.float32)},
        )


@pytest.mark.parametrize("values", [(0.5, 0, 0), (float("nan"), 0, 0), (10, -1, 0), (10, 0, -1)])
def test_plans_that_make_no_sense_are_refused(values):
    with pytest.raises(OptionError, match="at least"):
        plan((10, 10), *values)


def test_one_bad_pixel_stays_in_its_tile():
    image = np.zeros((60, 60), np.float32)
    image[5, 5] = np.nan
    out = np.zeros_like(image)

    def work(tile):
        block = tile.cut(gather(image, tile, 0.0))
        return {"v": block + block.sum()}  # spreads it over the tile

    run(plan((60, 60), 20, 4, 0), work, {"v": out})
    assert np.isnan(out[:18, :18]).all()
    assert np.isfinite(out[22:, :]).all()
    assert np.isfinite(out[:, 22:]).all()


def subtract_in_tiles(new, ref, step, ramp, margin):
    """S_corr of a pair by tiles of one PSF."""
    shape = new.data.shape
    out = {"S": np.zeros(shape, np.float32), "V": np.zeros(shape, np.float32)}

    def work(tile):
        sides = [
            Side(
                gather(s.data, tile, 0.0),
                gather(s.variance, tile, s.sigma**2),
                s.psf,
                s.sigma,
                s.flux,
                s.psf_noise,
            )
            for s in (new, ref)
        ]
        got = zogy(*sides)
        return {"S": tile.cut(got.S), "V": tile.cut(got.V)}

    run(plan(shape, step, ramp, margin), work, out)
    return out["S"] / np.sqrt(out["V"])


def test_the_size_of_tiles_does_not_show():
    rng = np.random.default_rng(2)
    shape = (211, 173)
    y, x = np.mgrid[-12:13, -12:13]
    sides = []
    for sigma, width, flux in ((3.0, 1.5, 1.0), (2.0, 1.9, 0.7)):
        stamp = np.exp(-(x**2 + y**2) / 2 / width**2)
        data = rng.normal(0, sigma, shape)
        data[50, 60] += 3e4  # a bright star beside a seam
        variance = np.full(shape, sigma**2, dtype=np.float32)
        sides.append(Side(data.astype(np.float32), variance, stamp / stamp.sum(), sigma, flux, 1e-3))
    whole = subtract_in_tiles(*sides, 1000, 0, 40)
    # 0.02 is what is promised; 40 px hold all but 1e-3 of the kernels, 3e4 / 3 sigma times what is left
    assert np.abs(subtract_in_tiles(*sides, 60, 16, 40) - whole).max() < 0.02
    assert np.abs(subtract_in_tiles(*sides, 60, 60, 40) - whole).max() < 0.02


def test_split_tiles_give_the_same_sum_in_smaller_blocks():
    rng = np.random.default_rng(5)
    shape, margin = (301, 467), 12
    image = rng.normal(size=shape).astype(np.float32)

    def smooth(tile):
        return {"out": tile.cut(gather(image, tile, 0.0)) * np.float32(tile.x + 2 * tile.y)}

    answers = []
    whole = plan(shape, 130, 130, margin)
    for tiles in (whole, split(whole, 96, margin)):
        out = {"out": np.zeros(shape, np.float32)}
        run(tiles, smooth, out)
        answers.append(out["out"])
    assert max(max(t.shape) for t in split(whole, 96, margin)) <= 100  # 96 and a fast length above it
    np.testing.assert_array_equal(*answers)  # the same windows, nodes and pixels, in another order


@pytest.mark.parametrize("step, ramp", [(130, 130), (150, 40)])
def test_numbers_are_blended_as_planes_are(step, ramp):
    shape = (301, 467)
    tiles = split(plan(shape, step, ramp, 10), 120, 10)
    out = {"v": np.zeros(shape, np.float32)}
    numbers = run(tiles, lambda t: {"v": t.x - 0.3 * t.y, "w": t.x - 0.3 * t.y}, out)
    blend = Blend(shape, tiles, numbers["w"])
    np.testing.assert_allclose(blend.plane(), out["v"], rtol=1e-5, atol=1e-3)  # values to 500
    for rows, band in blend.bands():
        np.testing.assert_array_equal(band, blend.plane()[rows])
    rng = np.random.default_rng(1)
    row, column = rng.integers(0, 301, 50), rng.integers(0, 467, 50)
    np.testing.assert_allclose(blend.at(row, column), out["v"][row, column], rtol=1e-5, atol=1e-3)
    assert (Blend(shape, tiles, [2.5] * len(tiles)).rows(7, 9) == 2.5).all()
