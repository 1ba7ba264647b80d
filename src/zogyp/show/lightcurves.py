"""Light curves: what forced photometry found at each place, over time."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from zogyp.forced import Photometry
from zogyp.show import canvas, colours

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST = 9  # places that are drawn, the first of the table
ACROSS = 3  # panels side by side
DOUBTFUL = ("near_saturated", "near_bad", "edge")

Floats = NDArray[np.float64]


def save(result: Photometry, path: str | Path) -> Path:
    """Draw the light curves of the first nine places, with error bars, as one PNG.

    Parameters
    ----------
    result : Photometry
    path : str or Path
        The PNG to write; its folder is made when absent. Replaced atomically.

    Raises
    ------
    MissingExtraError
        matplotlib is not installed.
    OutputError
        The file cannot be written.
    """
    return canvas.save(figure_of(result), path)


def figure_of(result: Photometry) -> Figure:
    """One panel for each place: ``flux`` over time, or over the images' numbers where none is known."""
    table = result.table
    images = list(dict.fromkeys(table["image"]))
    n = len(table) // max(len(images), 1)
    drawn = min(n, MOST)
    across = min(drawn, ACROSS)
    down = -(-drawn // across)
    width = {1: 7.0, 2: 9.0}.get(across, 11.0)
    figure = canvas.new_figure(width, 0.7 + 2.7 * down)
    panels: Any = figure.subplots(down, across, squeeze=False, sharex=True)
    when, label = _axis(np.asarray(table["time"], dtype=float)[::n])
    unit = canvas.clean(result.unit, 20)
    for k, axes in enumerate(panels.flat):
        if k >= drawn:
            axes.set_axis_off()
            continue
        rows = table[k::n]
        _curve(axes, when, rows)
        axes.set_title(_title(rows[0]), fontsize=10, loc="left", color=colours.INK, parse_math=False)
        if k % across == 0:
            axes.set_ylabel(f"flux − reference [{unit}]", fontsize=9, parse_math=False)
        if k + across >= drawn:
            axes.set_xlabel(label, fontsize=9)
            axes.tick_params(labelbottom=True)
    more = f"; the first {drawn} of {n} places" if n > drawn else ""
    text = f"{len(images)} image{'' if len(images) == 1 else 's'} against {result.reference}{more}"
    figure.suptitle(canvas.clean(text, 90), fontsize=11, color=colours.INK, parse_math=False)
    return figure


def _axis(time: Floats) -> tuple[Floats, str]:
    """Where the images stand on the axis, and what to write at it."""
    if not np.isfinite(time).any():
        return np.arange(1.0, time.size + 1), "image"
    start = float(np.floor(np.nanmin(time)))
    return time - start, f"MJD − {start:.0f} [d]"


def _curve(axes: Axes, when: Floats, rows: Any) -> None:
    """Points with error bars; hollow where a flag tells to doubt them."""
    flux, error = (np.asarray(rows[name], dtype=float) for name in ("flux", "flux_err"))
    doubt = np.array([any(word in str(flags) for word in DOUBTFUL) for flags in rows["flags"]])
    axes.axhline(0, color=colours.MASKED, linewidth=1)
    for chosen, face in ((~doubt, colours.NEGATIVE), (doubt, "white")):
        good = chosen & np.isfinite(flux) & np.isfinite(when)
        if good.any():
            axes.errorbar(
                when[good],
                flux[good],
                error[good],
                fmt="o",
                markersize=4,
                color=colours.NEGATIVE,
                markerfacecolor=face,
                linewidth=1,
                capsize=2,
            )
    if not np.isfinite(flux).any():
        axes.text(0.5, 0.5, "not judged", ha="center", transform=axes.transAxes, color=colours.INK)
    axes.tick_params(labelsize=8, colors=colours.INK)
    axes.ticklabel_format(style="plain", useOffset=False, axis="x")


def _title(row: Any) -> str:
    """Which place a panel shows."""
    label = row["name"] if "name" in row.colnames and str(row["name"]) else row["id"]
    return canvas.clean(f"{label}   ({row['x']:.1f}, {row['y']:.1f}) px", 40)
