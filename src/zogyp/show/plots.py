"""The one picture that most people want: the overview of a subtraction, drawn by matplotlib.

`overview_figure` returns a matplotlib Figure that its caller owns.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from zogyp.products import Subtraction
from zogyp.show import canvas
from zogyp.show.colours import INK, MASKED, NEGATIVE, POSITIVE, Indices, palette
from zogyp.show.panels import (
    MOST_LABELS,
    Panel,
    headline,
    mark_size,
    marked,
    overview_panels,
    transient_rows,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SIDE = 6.0  # longer side of a panel [inches]


def save_overview(subtraction: Subtraction, path: str | Path) -> Path:
    """Write new, reference, D and S_corr side by side, transients marked, as one PNG.

    Large images are reduced before drawing (skies averaged, D and S_corr sampled with every peak
    kept), so that the file stays below 1.5 MB.

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
    return canvas.save(overview_figure(subtraction), path)


def overview_figure(subtraction: Subtraction) -> Figure:
    """The four panels of `save_overview`."""
    ny, nx = subtraction.new.shape
    width, height = _panel_inches(nx, ny)
    figure = canvas.new_figure(2 * (width + 1.25), 2 * (height + 0.45) + 0.9, layout="compressed")
    axes: Any = figure.subplots(2, 2, sharex=True, sharey=True, squeeze=True)
    rows = transient_rows(subtraction)
    for ax, panel in zip(axes.flat, overview_panels(subtraction, int(8 * width)), strict=True):
        _draw(ax, panel, (nx, ny))
        _mark(ax, rows, max(ny, nx), label=ax is axes[1, 1])
        ax.set_xlim(-0.5, nx - 0.5)
        ax.set_ylim(-0.5, ny - 0.5)
    for ax in axes[1]:
        ax.set_xlabel("x [px]")
    for ax in axes[:, 0]:
        ax.set_ylabel("y [px]")
    figure.suptitle(headline(subtraction), fontsize=11, color=INK, parse_math=False)
    _legend(figure)
    return figure


def _panel_inches(nx: int, ny: int) -> tuple[float, float]:
    """Size of a panel, with room for its texts along the shorter side."""
    longest = max(nx, ny)
    return max(SIDE * nx / longest, 1.6), max(SIDE * ny / longest, 0.6)


def _draw(axes: Axes, panel: Panel, size: tuple[int, int]) -> None:
    """A plane in the coordinates of the whole image of ``size`` (nx, ny), its colours beside it."""
    nx, ny = size
    _image(axes, panel.picture, (-0.5, nx - 0.5, -0.5, ny - 0.5))
    axes.set_title(panel.title, fontsize=10, color=INK, loc="left", parse_math=False)
    axes.tick_params(labelsize=8, colors=INK)
    axes.ticklabel_format(style="plain", useOffset=False)
    if not panel.judged:
        axes.text(0.5, 0.5, "no pixel could be judged", ha="center", transform=axes.transAxes)
    tall = _panel_inches(nx, ny)[1] > 2
    shown = panel.ticks if tall else [panel.ticks[0], panel.ticks[-1]]
    # inside of the panel's own coordinates, so that it stays as tall as an image of any aspect
    bar = axes.inset_axes((1.015, 0.0, 0.025, 1.0))
    _image(bar, panel.scale.bar(), (0, 1, 0, 1))
    bar.set_aspect("auto")
    bar.set_xticks([])
    bar.yaxis.tick_right()
    bar.yaxis.set_label_position("right")
    bar.set_yticks(panel.scale.fraction(shown).tolist(), [f"{tick:g}" for tick in shown])
    bar.tick_params(labelsize=8)
    bar.set_ylabel(panel.label if tall else "", fontsize=8, parse_math=False)
    bar.set_frame_on(False)


def _image(axes: Axes, picture: Indices, extent: tuple[float, float, float, float]) -> None:
    axes.imshow(palette()[picture], extent=extent, interpolation="nearest")


def _mark(axes: Axes, rows: list[dict[str, Any]], longest: int, *, label: bool) -> None:
    """Circle what rose and square what fell."""
    ranked = marked(rows)
    size = 72 * SIDE * mark_size(len(rows), longest)
    for sign, marker, colour in ((1, "o", POSITIVE), (-1, "s", NEGATIVE)):
        chosen = [row for row in ranked if (row["sign"] > 0) == (sign > 0)]
        if chosen:
            axes.scatter(
                [row["x"] for row in chosen],
                [row["y"] for row in chosen],
                s=size**2,
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
                xytext=(0.55 * size + 2, 5),
                textcoords="offset points",
                fontsize=8,
                color=POSITIVE if row["sign"] > 0 else NEGATIVE,
                parse_math=False,
                annotation_clip=True,
            )


def _legend(figure: Figure) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    hollow: dict[str, Any] = {"linestyle": "none", "markerfacecolor": "none", "markersize": 9}
    figure.legend(
        handles=[
            Line2D([], [], marker="o", color=POSITIVE, label="transient, brighter in new", **hollow),
            Line2D([], [], marker="s", color=NEGATIVE, label="transient, fainter in new", **hollow),
            Patch(color=MASKED, label="unusable, or not judged"),
        ],
        loc="outside lower center",
        ncols=3,
        fontsize=9,
        frameon=False,
    )
