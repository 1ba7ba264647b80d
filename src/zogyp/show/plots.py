"""Pictures of a subtraction: the four-panel overview and the diagnostics of the report.

Each ``*_figure`` function returns a matplotlib Figure that its caller owns; ``save_overview``
writes the one picture that most people want.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from zogyp.products import Subtraction
from zogyp.show import canvas, pixels

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PANEL = 560  # most pixels of a plane along a panel's side; what a panel has on the screen
LIMIT = 7.0  # range of the colours of S_corr and D [sigma]
PEAK = 5.0  # beyond this a single pixel stays visible in a reduced picture [sigma]
MOST_MARKS = 400  # more circles than this hide what they point at
MOST_LABELS = 40


def save_overview(subtraction: Subtraction, path: str | Path) -> Path:
    """Write new, reference, D and S_corr side by side, transients marked, as one PNG.

    Large images are reduced before drawing (skies averaged, D and S_corr sampled with every peak
    kept), so that 24 million pixels take a few seconds and the file stays below 1.5 MB.

    Parameters
    ----------
    subtraction : Subtraction
    path : str or Path
        The PNG to write; its folder is made when absent. Replaced atomically.

    Returns
    -------
    Path

    Raises
    ------
    MissingExtraError
        matplotlib is not installed.
    OutputError
        The file cannot be written.
    """
    return canvas.write_whole(path, canvas.png_bytes(overview_figure(subtraction)))


def masked_planes(subtraction: Subtraction) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The new image and the reference, (ny, nx) each, NaN where a pixel is unusable."""
    new, ref = subtraction.new, subtraction.ref
    nan = np.float32(np.nan)
    return np.where(new.good, new.data, nan), np.where(ref.good, ref.data, nan)


def overview_figure(subtraction: Subtraction) -> Figure:
    """The four panels of `save_overview`."""
    new, ref = masked_planes(subtraction)
    ny, nx = new.shape
    width, height = _panel_inches(nx, ny)
    figure = canvas.new_figure(2 * (width + 1.25), 2 * (height + 0.45) + 0.9, layout="compressed")
    panels = figure.subplots(2, 2, sharex=True, sharey=True, squeeze=True)
    unit = image_unit(subtraction)
    letters = int(8 * width)  # that fit above a panel
    _draw_sky(panels[0, 0], new, "new: " + canvas.clean(subtraction.new.name, letters), unit)
    _draw_sky(panels[0, 1], ref, "reference: " + canvas.clean(subtraction.ref.name, letters), unit)
    _draw_signed(panels[1, 0], subtraction.D, "D: difference, noise of unit variance", "sigma per pixel")
    _draw_signed(panels[1, 1], subtraction.Scorr, "S_corr: significance of a point source", "sigma")
    rows = transient_rows(subtraction)
    for panel in panels.flat:
        _mark(panel, rows, max(ny, nx), label=panel is panels[1, 1])
        panel.set_xlim(-0.5, nx - 0.5)
        panel.set_ylim(-0.5, ny - 0.5)
    for panel in panels[1]:
        panel.set_xlabel("x [px]")
    for panel in panels[:, 0]:
        panel.set_ylabel("y [px]")
    figure.suptitle(headline(subtraction), fontsize=11, color=canvas.INK, parse_math=False)
    _legend(figure)
    return figure


def headline(subtraction: Subtraction) -> str:
    """One line: what was subtracted from what, how many transients, how wide S_corr is."""
    rows = transient_rows(subtraction)
    risen = sum(1 for row in rows if row["sign"] > 0)
    new, ref = canvas.clean(subtraction.new.name, 36), canvas.clean(subtraction.ref.name, 36)
    spread = measured_spread(subtraction)
    count = f"{len(rows)} transient{'' if len(rows) == 1 else 's'} ({risen} up, {len(rows) - risen} down)"
    wide = f"S_corr spread {spread:.3f}" if np.isfinite(spread) else "no pixel could be judged"
    return f"{new} minus {ref}:  {count},  {wide}"


def measured_spread(subtraction: Subtraction) -> float:
    """Robust spread of S_corr: the summary's, else measured here; nan when nothing can be judged."""
    known = subtraction.summary.get("scorr_mad")
    if isinstance(known, (int, float)) and np.isfinite(known):
        return float(known)
    return pixels.centre_and_spread(pixels.thin(subtraction.Scorr))[1]


def transient_rows(subtraction: Subtraction) -> list[dict[str, Any]]:
    """The transients as plain values; a masked or absent number is nan, an absent sign follows snr."""
    table = subtraction.transients
    rows = []
    for number, record in enumerate(table, start=1):
        row = {name: _plain(record[name]) for name in table.colnames}
        for name in ("x", "y", "snr", "flux", "flux_err", "mag", "mag_err", "ra", "dec"):
            row.setdefault(name, float("nan"))
        row.setdefault("id", number)
        row.setdefault("flags", 0)
        row.setdefault("sign", -1 if row["snr"] < 0 else 1)
        rows.append(row)
    return rows


def _plain(value: Any) -> Any:
    """A table's cell as Python value; masked is nan."""
    if value is np.ma.masked:
        return float("nan")
    value = getattr(value, "value", value)  # a Quantity
    return value.item() if isinstance(value, np.generic) else value


def image_unit(subtraction: Subtraction) -> str:
    """Unit of the new image's pixels as its header states it, else ADU."""
    header = subtraction.new.header
    unit = header.get("BUNIT") if header is not None else None
    return canvas.clean(unit, 20) if isinstance(unit, str) and unit.strip() else "ADU"


def _panel_inches(nx: int, ny: int) -> tuple[float, float]:
    """Size of a panel: 6 inches along the longer side, room for its texts along the shorter."""
    longest = max(nx, ny)
    return max(6.0 * nx / longest, 1.6), max(6.0 * ny / longest, 0.6)


def _frame(axes: Axes, title: str) -> None:
    axes.set_title(title, fontsize=10, color=canvas.INK, loc="left", parse_math=False)
    axes.tick_params(labelsize=8, colors=canvas.INK)
    axes.ticklabel_format(style="plain", useOffset=False)


def _image(axes: Axes, plane: NDArray[Any], factor: int, **colours: Any) -> Any:
    """Draw a reduced plane in the coordinates of the whole one."""
    ny, nx = plane.shape
    extent = (-0.5, nx * factor - 0.5, -0.5, ny * factor - 0.5)
    return axes.imshow(plane, origin="lower", extent=extent, interpolation="nearest", **colours)


def _draw_sky(axes: Axes, data: NDArray[np.float32], title: str, unit: str) -> None:
    """An image as asinh of its height above the sky."""
    from matplotlib.colors import AsinhNorm

    sky, noise, top = pixels.sky_limits(data)
    factor = pixels.pool_factor(data.shape, PANEL)
    plane = pixels.pool_mean(data, factor) - np.float32(sky)
    norm = AsinhNorm(linear_width=5 * noise, vmin=-noise, vmax=top)
    picture = _image(axes, plane, factor, cmap=canvas.sky_colours(), norm=norm)
    _frame(axes, title)
    ticks = [0.0, *_round_ticks(noise, top)]
    _colour_bar(axes, picture, f"above the sky of {sky:.5g} [{unit}]", ticks)


def _round_ticks(noise: float, top: float) -> list[float]:
    """Powers of ten between the noise and the top, thinned to at most four."""
    low, high = int(np.ceil(np.log10(3 * noise))), int(np.floor(np.log10(top)))
    powers = list(range(low, high + 1))
    return [10.0**p for p in powers[:: max(1, -(-len(powers) // 4))]] or [top]


def _draw_signed(axes: Axes, data: NDArray[np.float32], title: str, unit: str) -> None:
    """A plane in units of its own noise, symmetric about zero."""
    factor = pixels.pool_factor(data.shape, PANEL)
    plane = pixels.pool_peak(data, factor, PEAK)
    picture = _image(axes, plane, factor, cmap=canvas.signed_colours(), vmin=-LIMIT, vmax=LIMIT)
    _frame(axes, title)
    if not np.isfinite(data).any():
        axes.text(0.5, 0.5, "no pixel could be judged", ha="center", transform=axes.transAxes)
    _colour_bar(axes, picture, f"[{unit}]", [-5.0, -3.0, 0.0, 3.0, 5.0])


def _colour_bar(axes: Axes, picture: Any, label: str, ticks: list[float]) -> None:
    figure: Any = axes.figure
    tall = _panel_inches(*_extent(picture))[1] > 2
    shown = ticks if tall else [ticks[0], ticks[-1]]
    # inside of the panel's own coordinates, so that it stays as tall as an image of any aspect
    bar = figure.colorbar(picture, cax=axes.inset_axes((1.015, 0.0, 0.025, 1.0)), ticks=shown)
    bar.ax.set_yticklabels([f"{tick:g}" for tick in shown])
    bar.ax.minorticks_off()
    bar.ax.tick_params(labelsize=8)
    bar.ax.set_ylabel(label if tall else "", fontsize=8, parse_math=False)
    bar.outline.set_visible(False)


def _extent(picture: Any) -> tuple[int, int]:
    """Width and height of a drawn plane [px]."""
    left, right, bottom, top = picture.get_extent()
    return round(right - left), round(top - bottom)


def _mark(axes: Axes, rows: list[dict[str, Any]], longest: int, *, label: bool) -> None:
    """Circle what rose and square what fell, the most significant first."""
    ranked = sorted(rows, key=lambda row: -abs(row["snr"]))[:MOST_MARKS]
    # 11 points across (fewer in a crowd), or 16 pixels of an image so small that its pixels are large
    size = max(11.0 if len(rows) <= 100 else 7.0, min(60.0, 16 * 72 * 6 / longest)) ** 2
    for sign, marker, colour in ((1, "o", canvas.POSITIVE), (-1, "s", canvas.NEGATIVE)):
        chosen = [row for row in ranked if (row["sign"] > 0) == (sign > 0)]
        if chosen:
            axes.scatter(
                [row["x"] for row in chosen],
                [row["y"] for row in chosen],
                s=size,
                marker=marker,
                facecolors="none",
                edgecolors=colour,
                linewidths=1.3,
            )
    if label and len(rows) <= MOST_LABELS:
        for row in ranked:
            axes.annotate(
                str(row["id"]),
                (row["x"], row["y"]),
                xytext=(0.55 * np.sqrt(size) + 2, 5),
                textcoords="offset points",
                fontsize=8,
                color=canvas.POSITIVE if row["sign"] > 0 else canvas.NEGATIVE,
                parse_math=False,
                annotation_clip=True,
            )


def _legend(figure: Figure) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    hollow: dict[str, Any] = {"linestyle": "none", "markerfacecolor": "none", "markersize": 9}
    figure.legend(
        handles=[
            Line2D([], [], marker="o", color=canvas.POSITIVE, label="transient, brighter in new", **hollow),
            Line2D([], [], marker="s", color=canvas.NEGATIVE, label="transient, fainter in new", **hollow),
            Patch(color=canvas.MASKED, label="unusable, or not judged"),
        ],
        loc="outside lower center",
        ncols=3,
        fontsize=9,
        frameon=False,
    )
