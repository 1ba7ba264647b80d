"""The small figures of the report: is S_corr Gaussian, even, white; what do the PSFs look like.

Each is a drawing in SVG, for a page.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from zogyp.products import Subtraction
from zogyp.show import colours, pixels
from zogyp.show.charts import BAR, Chart, Span, drawing
from zogyp.show.colours import Scale

WIDTH, HEIGHT = 350.0, 240.0  # inside of the axes [px]; two or three figures stand beside each other
BESIDE = BAR + 62.0  # room for a bar of colours with its values and its label [px]
RANGE = 10.0  # of the histogram [sigma]
STEP = 0.2  # of the histogram [sigma]
LAG = 6  # of the autocorrelation [px]
QUIET = 4.0  # pixels beyond it [sigma] hold sources
MOST_ARROWS = 600
DECADES = 4  # of a PSF's height


def histogram(subtraction: Subtraction) -> str:
    """Distribution of S_corr over the judged pixels beside the Gaussian of unit width.

    Both ends gather what lies beyond them. Counts are pixels, which S_corr's own smoothness
    correlates: the bump of one transient is many pixels.
    """
    edges, counts, judged = pixels.histogram(subtraction.Scorr, RANGE, STEP)
    highest = max(2.0, 3 * float(counts.max(initial=1)))
    chart = Chart(WIDTH, HEIGHT, Span(-RANGE, RANGE), Span(0.5, highest, log=True), left=66)
    chart.steps(edges, counts, "#b9aee0")
    middle = (edges[1:] + edges[:-1]) / 2
    expected = judged * STEP * np.exp(-(middle**2) / 2) / np.sqrt(2 * np.pi)
    shown = expected > 0.5
    if shown.any():
        chart.line(middle[shown], expected[shown])
    chart.axes("S_corr [sigma]", f"pixels per {STEP:g} sigma")
    for row, (stroke, words) in enumerate((("#b9aee0", "measured"), ("currentColor", "Gaussian of width 1"))):
        y = chart.top + 10 + 16 * row
        chart.path(f"M{chart.left + 10:.1f} {y:.1f}h18", stroke, width=(9, 1.4)[row])
        chart.text(chart.left + 34, y + 4, words)
    return chart.svg("distribution of S_corr")


def spread(subtraction: Subtraction) -> str:
    """Robust spread of S_corr in cells over the image: is the noise model right everywhere?"""
    cells = pixels.spread_map(subtraction.Scorr)
    known = cells[np.isfinite(cells)]
    reach = max(0.1, min(1.0, float(np.percentile(np.abs(known - 1), 95)) if known.size else 0.1))
    scale = Scale("signed", 1 - reach, 1 + reach)
    chart = _map(subtraction.Scorr.shape)
    chart.picture(scale.indices(cells)[::-1])
    chart.axes("x [px]", "y [px]")
    chart.bar(scale, Span(scale.low, scale.high).ticks(5), "spread of S_corr")
    return chart.svg("spread of S_corr over the image")


def autocorrelation(subtraction: Subtraction) -> str:
    """Correlation of D between neighbouring pixels, sources left out: white noise has none."""
    ny, nx = subtraction.D.shape
    parts = [
        np.where(np.abs(subtraction.Scorr[box]) < QUIET, subtraction.D[box], np.float32(np.nan))
        for box in pixels.spread_out((ny, nx))
    ]
    values = pixels.autocorrelation(parts, LAG)
    known = np.isfinite(values[LAG, LAG])
    values[LAG, LAG] = np.nan  # always 1, and grey for that
    scale = Scale("signed", -0.1, 0.1)
    reach = Span(-LAG - 0.5, LAG + 0.5)
    chart = Chart(HEIGHT, HEIGHT, reach, reach, right=BESIDE)
    chart.picture(scale.indices(values)[::-1])
    chart.axes("lag in x [px]", "lag in y [px]")
    if known:
        chart.text(chart.left + HEIGHT / 2, chart.top + HEIGHT / 2 + 4, "1", anchor="middle", fill="#ffffff")
    chart.bar(scale, [-0.1, -0.05, 0.0, 0.05, 0.1], "correlation coefficient of D")
    return chart.svg("correlation of D between pixels")


def registration(subtraction: Subtraction) -> str | None:
    """How far stars of the two images lie from each other, as arrows; None without stars."""
    told = (subtraction.summary.get("registration") or {}).get("residuals") or {}
    x, y, dx, dy = (np.asarray(told.get(k, ()), dtype=np.float64) for k in ("x", "y", "dx", "dy"))
    if x.size == 0:
        return None
    chosen = slice(None, None, -(-x.size // MOST_ARROWS))
    x, y, dx, dy = x[chosen], y[chosen], dx[chosen], dy[chosen]
    typical = float(np.median(np.hypot(dx, dy)))
    unit = float(f"{max(2 * typical, 1e-3):.1g}")  # length of the key [px]
    chart = _map(subtraction.Scorr.shape)
    scale = 0.1 * max(chart.width, chart.height) / unit
    starts = chart.places(x, y)
    ends = starts + scale * np.stack([dx, -dy], axis=1)
    chart.path("".join(_arrow(*pair) for pair in zip(starts, ends, strict=True)), colours.POSITIVE)
    chart.axes("x [px]", "y [px]")
    x0, y0 = chart.left + chart.width + 10, chart.top + 12
    key = np.array([[x0, y0], [x0 + scale * unit, y0]])
    chart.path(_arrow(*key), colours.POSITIVE)
    chart.text(x0, y0 + 18, f"{unit:g} px")
    return chart.svg("residuals of the registration")


def _arrow(start: NDArray[Any], end: NDArray[Any]) -> str:
    """An arrow as SVG path."""
    along = end - start
    length = float(np.hypot(*along)) or 1.0
    back, aside = -along / length, np.array([-along[1], along[0]]) / length
    head = min(5.0, 0.4 * length)
    corners = [end + head * (back + 0.5 * aside), end, end + head * (back - 0.5 * aside)]
    points = "L".join(f"{x:.1f} {y:.1f}" for x, y in corners)
    return f"M{start[0]:.1f} {start[1]:.1f}L{end[0]:.1f} {end[1]:.1f}M{points}"


def psf_stamps(subtraction: Subtraction) -> dict[str, NDArray[Any]]:
    """The PSFs a subtraction carries, by title: of D, and of the images where it keeps them."""
    stamps = {
        "new": getattr(subtraction, "psf_new", None),
        "reference": getattr(subtraction, "psf_ref", None),
    }
    return {**{title: s for title, s in stamps.items() if s is not None}, "difference D": subtraction.psf}


def psfs(stamps: dict[str, NDArray[Any]]) -> str:
    """PSF stamps beside each other, as the logarithm of their height over four decades.

    Parameters
    ----------
    stamps : dict of (k, k) arrays
        Title of each and its pixels, at least one.
    """
    side, gap = 150.0, 34.0
    scale = Scale("sky", -DECADES, 0)
    parts: list[str] = []
    chart = Chart(side, side, Span(0, 1), Span(0, 1))
    for number, (title, stamp) in enumerate(stamps.items()):
        values = np.asarray(stamp, dtype=np.float64)
        peak = np.nanmax(np.abs(values), initial=0.0)
        height = np.abs(values) / peak if np.isfinite(peak) and peak > 0 else np.full(values.shape, np.nan)
        reach = Span(-values.shape[-1] / 2, values.shape[-1] / 2)
        left = gap + number * (side + gap)
        chart = Chart(side, side, reach, reach, left=left, top=22, right=48, bottom=24, parts=parts)
        chart.picture(scale.indices(np.log10(np.maximum(height, 1e-5)))[::-1])
        chart.axes(most=4)
        chart.text(left + side / 2, 14, title, anchor="middle")
    names = ["1e-4", "1e-3", "0.01", "0.1", "peak"]
    chart.bar(scale, [float(k) for k in range(-DECADES, 1)], names=names)
    return drawing(parts, chart.left + side + BAR + 50, side + 46, "point spread functions")


def _map(shape: tuple[int, ...]) -> Chart:
    """Axes in the shape of an image, with room at the right."""
    ny, nx = shape
    scale = min(WIDTH / nx, HEIGHT * 1.2 / ny)
    width, height = max(nx * scale, 40.0), max(ny * scale, 40.0)
    return Chart(width, height, Span(-0.5, nx - 0.5), Span(-0.5, ny - 0.5), right=BESIDE)
