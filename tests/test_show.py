"""Pictures and reports: valid files, bounded sizes, hostile names, nothing to show, extras missing."""

from __future__ import annotations

import html.parser
import io
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from astropy.table import Table
from PIL import Image as Picture
from scipy.ndimage import gaussian_filter

from zogyp.errors import MissingExtraError, OutputError
from zogyp.image import Flag, Image
from zogyp.products import Subtraction
from zogyp.show import (
    canvas,
    charts,
    colours,
    cutouts,
    diagnostics,
    overview,
    panels,
    pixels,
    plots,
    png,
    report,
)

HOSTILE = "<script>alert('x')</script> & \"q\" $x_{$ \\frac 星 \U0001f52d \x00\n{{7*7}}.fits"


def made(shape=(120, 160), *, n=3, seed=5, name="new.fits", nothing=False) -> Subtraction:
    """A subtraction of white noise with ``n`` point sources in it and one masked column."""
    rng = np.random.default_rng(seed)
    ny, nx = shape
    x, y = rng.integers(0, nx, n), rng.integers(0, ny, n)
    snr = np.where(np.arange(n) % 2 == 0, 9.0, -8.0)
    sources = np.zeros(shape)
    np.add.at(sources, (y, x), snr)
    noise = rng.normal(size=shape)
    # a Gaussian filter of width 1.5 px divides white noise by 2 sqrt(pi) 1.5
    scorr = (gaussian_filter(noise, 1.5) * 2 * np.sqrt(np.pi) * 1.5).astype(np.float32)
    scorr += (gaussian_filter(sources, 2.0) * 2 * np.pi * 4).astype(np.float32)
    d = noise.astype(np.float32)
    mask = np.zeros(shape, np.uint16)
    mask[:, nx // 3] = int(Flag.BAD | Flag.UNJUDGED)
    for plane in (d, scorr):
        plane[mask > 0] = np.nan
        if nothing:
            plane[:] = np.nan
    table = Table(
        {
            "id": np.arange(1, n + 1), "x": x.astype(float), "y": y.astype(float),
            "ra": np.full(n, np.nan), "dec": np.full(n, np.nan), "snr": snr,
            "flux": 50 * snr, "flux_err": np.full(n, 50.0), "mag": np.full(n, np.nan),
            "mag_err": np.full(n, np.nan), "sign": np.sign(snr).astype(int),
            "flags": np.array(["dipole,near_bad"] * n, dtype="U96"),
        }
    )  # fmt: skip
    sky = (100 + 5 * noise).astype(np.float32)
    image = Image(np.full_like(sky, np.nan) if nothing else sky, mask, name=name)
    psf = np.zeros((11, 11), np.float32)
    psf[5, 5] = 1
    summary = {
        "version": "0", "notes": [f"note of {name}"], "limiting_flux": 250.0, "limiting_mag": None,
        "inputs": {"new": {"path": name, "shape": list(shape), "gain": 1.5}, "ref": {"gain": None}},
        "options": {"psf": {"order": None, "model": name}, "tile": 1024},
        "timings": {"read": 0.1, "subtract": 2.0}, "F_r": 0.9, "F_r_err": 0.01, "peak_memory_mb": 300.0,
        "registration": {"n_matched": 12, "rms_x": 0.02}, "masked_fraction": 0.01,
    }  # fmt: skip
    planes = {"S": scorr, "alpha": scorr, "alpha_err": scorr}
    return Subtraction(
        D=d,
        Scorr=scorr,
        mask=mask,
        psf=psf,
        transients=table,
        new=image,
        ref=image,
        summary=summary,
        **planes,
    )


class Reader(html.parser.HTMLParser):
    """Collects tags, addresses and text, and checks that what opens is closed."""

    VOID = frozenset({"meta", "img", "br", "link"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.words: list[str] = []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.addresses += [value for name, value in attrs if name in ("src", "href", "action", "data")]
        assert not any(name.startswith("on") for name, _ in attrs)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


def read_html(text: str) -> Reader:
    reader = Reader()
    reader.feed(text)
    assert reader.open == []
    return reader


def opened(content: bytes) -> Picture.Image:
    picture = Picture.open(io.BytesIO(content))
    picture.load()  # decodes everything: raises when truncated
    assert picture.format == "PNG"
    return picture


# ---------------------------------------------------------------- arrays


def test_pool_mean_is_the_mean_of_the_finite_pixels_of_each_block():
    data = np.arange(35, dtype=np.float32).reshape(5, 7)
    data[0, :2] = np.nan  # half of the first block: unknown
    data[2, 2] = np.nan  # a quarter of another
    pooled = pixels.pool_mean(data, 2)
    assert pooled.shape == (3, 4)
    assert np.isnan(pooled[0, 0])
    assert pooled[1, 1] == np.mean([17, 23, 24], dtype=np.float32)
    assert pooled[2, 3] == data[4, 6]  # the corner's block is one pixel


def test_pool_peak_keeps_the_noise_as_it_is_and_every_peak():
    rng = np.random.default_rng(1)
    data = rng.normal(size=(900, 900)).astype(np.float32)
    data[100, 200], data[801, 33], data[450:480, 450:480] = 9, -8, np.nan
    pooled = pixels.pool_peak(data, 9, 6)
    assert pooled[100 // 9, 200 // 9] == 9
    assert pooled[801 // 9, 33 // 9] == -8
    assert np.isnan(pooled[51, 51])
    # standard error of the spread of 10,000 Gaussian numbers is 0.7 %; a block maximum gives 2.4
    assert np.nanstd(pooled) == pytest.approx(1, abs=0.04)


@pytest.mark.parametrize(
    ("shape", "longest", "factor"), [((10, 10), 560, 1), ((561, 3), 560, 2), ((4, 6000), 560, 11)]
)
def test_pool_factor(shape, longest, factor):
    assert pixels.pool_factor(shape, longest) == factor


def test_autocorrelation_of_smoothed_noise():
    rng = np.random.default_rng(2)
    white = rng.normal(size=(400, 401)).astype(np.float32)
    data = np.empty_like(white)
    data[:] = (white + np.roll(white, 1, axis=1)) / 2  # neighbours in x share half of their noise
    data[50:80, 50:90] = np.nan
    values = pixels.autocorrelation([data[:200], data[200:]], lag=3)
    # an estimate from 159,000 pixels has a standard error of about 0.003; five of them
    expected = np.zeros((7, 7))
    expected[3, 2:5] = 0.5, 1, 0.5
    np.testing.assert_allclose(values, expected, atol=0.015)
    np.testing.assert_allclose(values, values[::-1, ::-1], atol=1e-12)


def test_statistics_of_nothing():
    nothing = np.full((20, 30), np.nan, np.float32)
    assert np.isnan(pixels.autocorrelation([nothing])).all()
    assert np.isnan(pixels.spread_map(nothing)).all()
    assert pixels.histogram(nothing, 5, 0.5)[2] == 0
    assert pixels.sky_limits(nothing) == (0, 1, 10)
    sky, noise, top = pixels.sky_limits(np.full((5, 5), 7, np.float32))
    assert sky == 7 and 0 < noise < top


def test_histogram_gathers_all_that_lies_beyond():
    data = np.array([[-100, -0.1, 0.1, 4.99, 5.01, np.inf, np.nan, 77]], np.float32)
    edges, counts, judged = pixels.histogram(data, 5, 1)
    assert judged == counts.sum() == 6
    assert counts[0] == 1 and counts[-1] == 3
    assert len(edges) == len(counts) + 1


def test_spread_map_shows_where_the_noise_is_wrong():
    rng = np.random.default_rng(3)
    data = rng.normal(size=(400, 800)).astype(np.float32)
    data[:, 400:] *= 2
    spread = pixels.spread_map(data)
    assert spread.shape == (4, 8)
    # the robust spread of 10,000 numbers has a standard error of 1.2 %; five of them
    np.testing.assert_allclose(spread, np.repeat([[1.0, 2.0]], 4, axis=0).repeat(4, axis=1), rtol=0.06)


@pytest.mark.parametrize("place", [(0, 0), (7, 4), (-3, 50), (3.4, 1.6), (float("nan"), 2)])
def test_stamp_is_nan_outside(place):
    data = np.arange(40, dtype=np.float32).reshape(5, 8)
    x, y = place
    cut = pixels.stamp(data, x, y, 5)
    for j in range(5):
        for i in range(5):
            if np.isnan(x):
                assert np.isnan(cut[j, i])
                continue
            row, column = round(y) - 2 + j, round(x) - 2 + i
            inside = 0 <= row < 5 and 0 <= column < 8
            assert cut[j, i] == data[row, column] if inside else np.isnan(cut[j, i])


# ---------------------------------------------------------------- pictures


@pytest.mark.parametrize("shape", [(120, 160), (1, 1), (3, 5), (20, 900), (900, 20)])
@pytest.mark.parametrize("n", [0, 3])
def test_overview_is_a_png(tmp_path, shape, n):
    path = plots.save_overview(made(shape, n=n), tmp_path / "deep" / "o.png")
    picture = opened(path.read_bytes())
    assert 300 < picture.width < 1700 and 200 < picture.height < 1700
    assert [p.name for p in path.parent.iterdir()] == ["o.png"]  # no temporary file stays


def test_overview_of_a_large_image_is_small(tmp_path):
    small = made((1000, 1500), n=40)
    repeated = {
        name: np.tile(getattr(small, name), (4, 4))
        for name in ("D", "S", "Scorr", "alpha", "alpha_err", "mask")
    }
    image = Image(np.tile(small.new.data, (4, 4)), repeated["mask"], name="large")
    large = Subtraction(
        psf=small.psf, transients=small.transients, new=image, ref=image, summary=small.summary, **repeated
    )
    path = plots.save_overview(large, tmp_path / "o.png")
    opened(path.read_bytes())
    assert path.stat().st_size < 1_500_000


def test_overview_marks_in_two_colours_and_masks_in_grey(tmp_path):
    picture = opened(plots.save_overview(made(), tmp_path / "o.png").read_bytes()).convert("RGB")
    present = {colour for _, colour in picture.getcolors(100_000)}
    for colour in (colours.POSITIVE, colours.NEGATIVE, colours.MASKED, "#ffffff"):
        assert tuple(int(colour[i : i + 2], 16) for i in (1, 3, 5)) in present


def test_nothing_judged(tmp_path):
    nothing = made(nothing=True, n=0)
    opened(plots.save_overview(nothing, tmp_path / "o.png").read_bytes())
    text = report.render(nothing)
    read_html(text)
    assert "Nothing could be judged" in text


def test_figures_are_small_and_valid():
    subtraction = made()
    stamps = {"a <b>": subtraction.psf, "b": np.full((5, 5), np.nan), "c": np.zeros((5, 5))}
    subtraction.summary["registration"]["residuals"] = {
        "x": [5, 90],
        "y": [9, 70],
        "dx": [0, 0.1],
        "dy": [0, -1],
    }
    for drawn in (
        diagnostics.histogram(subtraction),
        diagnostics.spread(subtraction),
        diagnostics.autocorrelation(subtraction),
        diagnostics.psfs(stamps),
        diagnostics.registration(subtraction),
    ):
        ElementTree.fromstring(drawn)
        assert "nan" not in drawn
        assert len(drawn) < 30_000


@pytest.mark.parametrize("shape", [(120, 160), (1, 1), (3, 5), (20, 900), (900, 20)])
def test_overview_on_a_page(shape):
    subtraction = made(shape, n=3)
    drawn = overview.drawings(subtraction, panels.transient_rows(subtraction))
    assert len(drawn) == 4
    for drawing in drawn:
        parts = [part.tag for part in ElementTree.fromstring(drawing).iter()]
        # two rose, one fell; a rectangle is a square's
        assert (parts.count("circle"), parts.count("rect"), parts.count("image")) == (2, 1, 2)


# ---------------------------------------------------------------- charts and colours


@pytest.mark.parametrize(
    ("low", "high", "most", "ticks"),
    [(0, 10, 6, [0, 2, 4, 6, 8, 10]), (-0.5, 2047.5, 5, [0, 500, 1000, 1500, 2000]),
     (-6.5, 6.5, 6, [-5, 0, 5]), (0.9, 1.1, 5, [0.9, 0.95, 1.0, 1.05, 1.1]), (3, 3, 5, []),
     (-0.1, 0.1, 3, [-0.1, 0, 0.1])],
)  # fmt: skip
def test_round_ticks(low, high, most, ticks):
    assert charts.round_ticks(low, high, most) == pytest.approx(ticks)


def test_ticks_of_a_logarithmic_axis_are_powers_of_ten():
    assert charts.Span(0.5, 2e4, log=True).ticks() == [1, 10, 100, 1000, 10000]
    assert charts.Span(1, 1e8, log=True).ticks(4) == [1, 1e3, 1e6]
    np.testing.assert_allclose(charts.Span(1, 1e4, log=True).fraction([1, 100, 1e4]), [0, 0.5, 1])


def test_places_on_a_chart():
    chart = charts.Chart(200, 100, charts.Span(0, 10), charts.Span(-1, 1), left=30, top=5)
    np.testing.assert_allclose(chart.places([0, 10], [-1, 1]), [[30, 105], [230, 5]])  # y runs up
    chart.steps([0, 5, 10], [-1, 0], "#000000")
    assert chart.parts == [
        '<path d="M30.0 105.0L30.0 105.0L130.0 105.0L130.0 55.0L230.0 55.0L230.0 105.0Z" fill="#000000"/>'
    ]


def test_text_of_a_chart_is_escaped():
    chart = charts.Chart(50, 50, charts.Span(0, 1), charts.Span(0, 1))
    chart.axes(HOSTILE.replace("\0", ""), "<b>")
    chart.marks([(0.5, 0.5, "#000000", "</title><script>")], 5, square=True)
    drawn = chart.svg('"><script>')
    tree = ElementTree.fromstring(drawn)
    assert "script" not in {part.tag for part in tree.iter()}
    assert tree.get("aria-label") == '"><script>'


def test_png_is_what_another_program_reads():
    rng = np.random.default_rng(4)
    table = rng.integers(0, 256, (256, 3), dtype=np.uint8)
    indices = rng.integers(0, 256, (31, 17), dtype=np.uint8)
    picture = opened(png.encode(indices, table))
    assert picture.mode == "P"
    np.testing.assert_array_equal(np.asarray(picture.convert("RGB")), table[indices])


def test_scale_gives_its_ends_and_grey():
    signed = colours.Scale("signed", -2, 2)
    shown = colours.palette()[signed.indices([-9, -2, 0, 2, np.nan, np.inf])]
    np.testing.assert_array_equal(shown[0], shown[1])
    for place, colour in ((1, "#083f8c"), (2, "#ffffff"), (3, "#8f0a20"), (4, "#9b9b9b"), (5, "#9b9b9b")):
        assert "#" + bytes(shown[place]).hex() == colour
    bent = colours.Scale("sky", 0, 1000, bend=10)
    # asinh(1) / asinh(100)
    np.testing.assert_allclose(bent.fraction([0, 10, 1000]), [0, 0.881374 / 5.298342, 1], rtol=1e-6)


def test_marks_of_the_palette():
    found = ["#" + bytes(colour).hex() for colour in colours.palette()]
    assert (found[colours.MARK], found[colours.WHITE], found[colours.GREY]) == (
        colours.POSITIVE,
        "#ffffff",
        colours.MASKED,
    )
    # each picture in the palette's colours is found in it again
    np.testing.assert_array_equal(
        colours.palette()[colours.nearest(colours.palette()[None])], colours.palette()[None]
    )


def test_pool_mean_of_large_blocks_takes_a_part_of_each():
    y, x = np.mgrid[:100, :130].astype(np.float32)
    pooled = pixels.pool_mean(y + 1000 * (x > 64), 13)
    assert pooled.shape == (8, 10)
    # samples 3 px apart, 4 or 5 of them in 13 px: their middle lies within 2 px of the block's
    np.testing.assert_allclose(pooled[:7, 0], 13 * np.arange(7) + 6, atol=2)
    np.testing.assert_array_equal(pooled[:, 5] - pooled[:, 4], 1000)
    assert pooled[7, 0] >= 90


def test_boxes_lie_evenly_inside():
    boxes = pixels.spread_out((1000, 90), side=250, most=3)
    assert boxes == [(slice(start, start + 250), slice(0, 90)) for start in (42, 375, 708)]
    assert pixels.spread_out((5, 5)) == [(slice(0, 5), slice(0, 5))]


def test_masked_plane_is_nan_where_unusable():
    mask = np.zeros((4, 6), np.uint16)
    mask[1, 2], mask[3, 3] = int(Flag.SATURATED), int(Flag.UNJUDGED)
    data = np.arange(24, dtype=np.float32).reshape(4, 6)
    shown = panels.Masked(Image(data, mask))[1:, 2:]
    assert np.isnan(shown[0, 0])
    np.testing.assert_array_equal(shown.ravel()[1:], data[1:, 2:].ravel()[1:])


def test_cutouts(tmp_path):
    subtraction = made(n=5)
    strips = cutouts.gallery(subtraction, 4)
    assert [strip.row["id"] for strip in strips] == [1, 2, 3, 4]
    picture = opened(strips[0].png)
    assert picture.size == (4 * (41 + 2) - 2, 41)
    for n in (0, 5):
        opened(cutouts.save(made(n=n), tmp_path / "c.png").read_bytes())


def test_the_strip_shows_the_source_in_its_middle():
    subtraction = made((80, 80), n=1)
    x, y = (int(subtraction.transients[name][0]) for name in "xy")
    picture = np.asarray(opened(cutouts.gallery(subtraction)[0].png).convert("RGB"), dtype=int)
    middle = picture[20, 3 * (41 + 2) + 20]  # of S_corr, the fourth cutout
    value = subtraction.Scorr[y, x]
    assert value > 5 or np.isnan(value)
    assert middle[0] > middle[2] + 20  # red: brighter in the new image


@pytest.mark.parametrize(
    ("value", "error", "shown"),
    [(353.87, 51.2, "354 ± 51"), (17.6389, 0.0612, "17.639 ± 0.061"), (1.0, np.nan, "1"), (np.nan, 1.0, "–"),
     (2.5e9, 1.2e8, "2.5e+09 ± 1.2e+08"), (-3e-9, 1e-10, "-3e-09 ± 1e-10")],
)  # fmt: skip
def test_plus_minus(value, error, shown):
    assert cutouts.plus_minus(value, error) == shown


# ---------------------------------------------------------------- report


def test_report_is_whole_and_asks_nothing_of_the_network(tmp_path):
    path = report.write_report(made(n=5), tmp_path / "r.html")
    text = path.read_text(encoding="utf-8")
    reader = read_html(text)
    assert "script" not in reader.tags and "link" not in reader.tags
    assert reader.addresses and all(a.startswith("data:image/png;base64,") for a in reader.addresses)
    assert re.search(r"url\(|@import|https?://", text) is None
    words = " ".join(" ".join(reader.words).split())
    for expected in (
        "1.5 e-/ADU",
        "0.900 ± 0.010",
        "dipole,near_bad",
        "peak memory 300 MB",
        "psf.order",
        "120 × 160 px",
    ):
        assert expected in words


def test_names_cannot_inject(tmp_path):
    subtraction = made(name=HOSTILE)
    subtraction.summary["options"]["<b>bold</b>"] = "<i>"
    subtraction.transients["flags"] = ["<u>"] * 3
    text = report.write_report(subtraction, tmp_path / "r.html").read_text(encoding="utf-8")
    reader = read_html(text)
    assert not {"script", "b>", "i", "u"} & set(reader.tags)
    assert reader.tags.count("b") == 1  # the verdict's own
    assert "<script>alert('x')</script>" in "".join(reader.words)
    assert "49.fits" not in text  # a name is no template
    opened(plots.save_overview(subtraction, tmp_path / "o.png").read_bytes())
    opened(cutouts.save(subtraction, tmp_path / "c.png").read_bytes())


def test_report_without_transients_or_summary():
    bare = made(n=0)
    bare.summary.clear()
    text = report.render(bare)
    read_html(text)
    assert "none beyond the threshold" in text


@pytest.mark.parametrize(
    ("spread", "level"),
    [(1.0, "good"), (1.03, "good"), (0.96, "fair"), (1.14, "fair"), (0.6, "bad"), (1.3, "bad"),
     (0.0, "fair"), (float("nan"), "bad")],
)  # fmt: skip
def test_verdict(spread, level):
    assert report.verdict(spread).level == level


def test_write_is_atomic(tmp_path):
    target = tmp_path / "o.png"
    target.write_bytes(b"old")
    canvas.write_whole(target, b"new")
    assert target.read_bytes() == b"new"
    with pytest.raises(OutputError, match="cannot write"):
        canvas.write_whole(target / "below" / "a.png", b"x")  # a file where a folder must be
    assert [p.name for p in tmp_path.iterdir()] == ["o.png"]


@pytest.mark.parametrize(
    ("module", "package", "work"),
    [
        ("matplotlib.figure", "matplotlib", plots.save_overview),
        ("matplotlib.figure", "matplotlib", cutouts.save),
        ("jinja2", "jinja2", report.write_report),
    ],
)
def test_missing_extra_tells_what_to_install(tmp_path, monkeypatch, module, package, work):
    monkeypatch.setitem(sys.modules, module, None)  # makes its import fail as if it were not installed
    with pytest.raises(
        MissingExtraError,
        match=re.escape(f'{package}, which is not installed. Try: pip install "zogyp[plot]"'),
    ):
        work(made(), tmp_path / "x")
    assert list(tmp_path.iterdir()) == []


def test_report_needs_no_other_program_to_draw(tmp_path, monkeypatch):
    for module in ("matplotlib", "PIL"):
        monkeypatch.setitem(sys.modules, module, None)
    read_html(report.write_report(made(), tmp_path / "r.html").read_text(encoding="utf-8"))


def test_importing_draws_in_nothing():
    code = (
        "import sys, zogyp.show.plots, zogyp.show.cutouts, zogyp.show.report, zogyp.show.diagnostics\n"
        "assert not {'matplotlib', 'PIL', 'jinja2'} & set(sys.modules), 'imported too early'\n"
        "figure = zogyp.show.canvas.new_figure(2, 2)\n"
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parent)


def test_identical_images(tmp_path):
    same = made(n=0)
    for plane in (same.D, same.Scorr):
        plane[:] = 0
    same.summary["scorr_mad"] = 0.0
    text = report.render(same)
    read_html(text)
    assert "the two images are the same" in text
    opened(plots.save_overview(same, tmp_path / "o.png").read_bytes())
