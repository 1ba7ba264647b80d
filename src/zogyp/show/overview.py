"""The overview on a page: each of the four planes as a drawing of its own, transients marked."""

from __future__ import annotations

from typing import Any

from zogyp.products import Subtraction
from zogyp.show.charts import Chart, Span
from zogyp.show.colours import NEGATIVE, POSITIVE
from zogyp.show.panels import MOST_LABELS, Panel, mark_size, marked, overview_panels

SIDE = 480.0  # longer side of a panel [px]; two stand beside each other on a desktop
LEAST = 40.0  # shorter side of a panel [px], however long the image
TALL = 150.0  # height from which on there is room for a label and all values at the colours


def drawings(subtraction: Subtraction, rows: list[dict[str, Any]]) -> list[str]:
    """New image, reference, D and S_corr as SVG, with the transients of ``rows``."""
    size = subtraction.Scorr.shape
    panels = overview_panels(subtraction)
    return [_drawing(panel, size, rows, label=panel is panels[-1]) for panel in panels]


def _drawing(panel: Panel, size: tuple[int, ...], rows: list[dict[str, Any]], *, label: bool) -> str:
    ny, nx = size
    longest = max(ny, nx)
    width, height = (max(LEAST, SIDE * n / longest) for n in (nx, ny))
    across, up = Span(-0.5, nx - 0.5), Span(-0.5, ny - 0.5)
    room = max(88.0, 420 - width)  # for the title above a narrow panel
    chart = Chart(width, height, across, up, left=60, top=24, right=room, bottom=40)
    chart.picture(panel.picture)
    chart.axes("x [px]", "y [px]")
    chart.text(chart.left, 15, panel.title)
    if height > TALL:
        chart.bar(panel.scale, panel.ticks, panel.label)
    else:
        chart.bar(panel.scale, [panel.ticks[0], panel.ticks[-1]])
    if not panel.judged:
        chart.text(chart.left + 8, chart.top + 18, "no pixel could be judged")
    _mark(chart, rows, longest, label=label and len(rows) <= MOST_LABELS)
    return chart.svg(panel.title)


def _mark(chart: Chart, rows: list[dict[str, Any]], longest: int, *, label: bool) -> None:
    """Circle what rose and square what fell."""
    shown = marked(rows)
    size = SIDE * mark_size(len(rows), longest)
    for sign, colour in ((1, POSITIVE), (-1, NEGATIVE)):
        told = [
            (row["x"], row["y"], colour, f"{row['id']}: {row['snr']:+.1f} sigma")
            for row in shown
            if (row["sign"] > 0) == (sign > 0)
        ]
        chart.marks(told, size, square=sign < 0)
    if label:
        for row in shown:
            fill = POSITIVE if row["sign"] > 0 else NEGATIVE  # on white, whatever the page
            ((x, y),) = chart.places(row["x"], row["y"])
            chart.text(x + size / 2 + 2, y - size / 2 + 4, str(row["id"]), fill=fill)
