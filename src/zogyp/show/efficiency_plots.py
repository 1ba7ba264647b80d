"""One picture of what became of fakes: completeness, false positives, photometry, the map of limits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from zogyp.completeness import Curve
from zogyp.show import canvas, colours

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from zogyp.efficiency import Efficiency

Rows = Sequence[Mapping[str, Any]]
# of the palette of every picture
COLOURS = {"all": colours.INK, "field": colours.NEGATIVE, "galaxy": colours.POSITIVE, "star": "#9a8fd0"}
MARKS = {"all": "o", "field": "s", "galaxy": "^", "star": "D"}
SNR_SHOWN = (2.0, 60.0)
FAINT = 20.0  # sigma below which fakes are marked on the map


def save_efficiency(result: Efficiency, path: str | Path) -> Path:
    """Write the six panels of `efficiency_figure` as one PNG.

    Parameters
    ----------
    result : Efficiency
    path : str or Path
        Replaced atomically; its folder is made when absent.

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
    return canvas.save(efficiency_figure(result), path)


def efficiency_figure(result: Efficiency) -> Figure:
    """Completeness against S/N and magnitude; false positives; bias and pull; limits with the fakes."""
    figure = canvas.new_figure(13.0, 8.2)
    panels = figure.subplots(2, 3)
    told = result.summary
    _by_snr(panels[0, 0], told)
    _by_mag(panels[0, 1], told)
    _false(panels[0, 2], told)
    _bias(panels[1, 0], told)
    _pull(panels[1, 1], told)
    _map(figure, panels[1, 2], result)
    for panel in panels.flat:
        panel.tick_params(labelsize=8, colors=colours.INK)
        panel.title.set_fontsize(10)
    for panel in panels.flat[:5]:
        for edge in ("top", "right"):
            panel.spines[edge].set_visible(False)
    figure.suptitle(_headline(result), fontsize=11, color=colours.INK, parse_math=False)
    return figure


def _headline(result: Efficiency) -> str:
    told, everything = result.summary, result.summary["completeness"]["all"]
    unit = "mag" if told["zero_point_known"] else "mag (instrumental)"
    halfway = f"{everything['m50']:.2f}" if np.isfinite(everything["m50"]) else "not reached"
    text = f"{told['n_fakes']} fakes in {told['n_runs']} runs:  half found at {halfway},  5 sigma at "
    return f"{canvas.clean(result.name, 36)}:  {text}{told['m5sigma']:.2f} {unit}"


def _points(axes: Axes, rows: Rows, kind: str, shift: float, log: bool = False) -> None:
    """Completeness in bins with its 68 per cent interval; kinds stand a little beside each other."""
    rows = [row for row in rows if row["n"]]
    if log:
        x = np.array([np.sqrt(max(row["from"], 1.0) * row["to"]) for row in rows]) * (1 + 0.012 * shift)
    else:
        x = np.array([0.5 * (row["from"] + row["to"]) for row in rows]) + 0.05 * shift
    y = np.array([row["completeness"] for row in rows])
    bars = np.array([[row["completeness"] - row["low"] for row in rows], [row["high"] for row in rows] - y])
    axes.errorbar(
        x,
        y,
        yerr=np.maximum(bars, 0),
        fmt=MARKS[kind],
        color=COLOURS[kind],
        markersize=4.5,
        linewidth=1,
        label=f"{kind} ({sum(row['n'] for row in rows)})",
    )


def _by_snr(axes: Axes, told: Mapping[str, Any]) -> None:
    from scipy.special import ndtr

    grid = np.geomspace(*SNR_SHOWN, 200)
    axes.plot(grid, ndtr(grid - told["threshold"]), color=colours.MASKED, linewidth=1.5, label="noise alone")
    for shift, (kind, rows) in enumerate(told["completeness"].items()):
        _points(axes, rows["by_snr"], kind, shift - 1.5, log=True)
    axes.axvline(told["threshold"], color=colours.MASKED, linewidth=0.8, linestyle=":")
    axes.set_xscale("log")
    axes.set_xlim(*SNR_SHOWN)
    axes.set_xticks([2, 3, 5, 10, 20, 50], ["2", "3", "5", "10", "20", "50"])
    axes.set_xticks([], minor=True)
    axes.set_ylim(-0.03, 1.05)
    axes.set(title="found, by predicted S/N", xlabel="predicted S/N", ylabel="share found")
    axes.legend(fontsize=8, frameon=False, loc="lower right")


def _by_mag(axes: Axes, told: Mapping[str, Any]) -> None:
    for shift, (kind, rows) in enumerate(told["completeness"].items()):
        _points(axes, rows["by_mag"], kind, shift - 1.5)
        if np.isfinite(rows["middle"]):
            bins = rows["by_mag"]
            mag = np.linspace(bins[0]["from"], bins[-1]["to"], 200)
            curve = Curve(rows["middle"], rows["width"], rows["top"])
            axes.plot(mag, curve.at(mag), color=COLOURS[kind], linewidth=1.2 if kind == "all" else 0.8)
    axes.axvline(told["m5sigma"], color=colours.MASKED, linewidth=0.8, linestyle=":")
    axes.annotate("5 sigma", (told["m5sigma"], 1.02), fontsize=8, color=colours.INK, ha="right", rotation=0)
    axes.set_ylim(-0.03, 1.08)
    axes.set(title="found, by magnitude, and fitted", xlabel="magnitude", ylabel="share found")


def _false(axes: Axes, told: Mapping[str, Any]) -> None:
    false = told["false_positives"]
    x, y = np.array(false["thresholds"]), np.array(false["per_image"], dtype=float)
    axes.step(x, np.where(y > 0, y, np.nan), where="post", color=colours.INK, linewidth=1.2)
    axes.plot(x[y > 0], y[y > 0], "o", color=colours.INK, markersize=3)
    axes.axhline(10, color=colours.MASKED, linewidth=0.8, linestyle=":")
    axes.axvline(told["threshold"], color=colours.POSITIVE, linewidth=1, label="threshold of this run")
    axes.set_yscale("log")
    axes.set_ylim(0.7, max(20.0, 1.5 * float(y.max())))
    title = "false positives without fakes"
    axes.set(title=title, xlabel="threshold [sigma]", ylabel="candidates in the image")
    axes.legend(fontsize=8, frameon=False, loc="upper right")


def _bars(axes: Axes, rows: Rows, name: str, colour: str, label: str, shift: float = 0.0) -> None:
    rows = [r for r in rows if np.isfinite(r[name]) and np.isfinite(r[f"{name}_err"])]
    x = [0.5 * (row["from"] + row["to"]) + shift for row in rows]
    y, bars = [row[name] for row in rows], [row[f"{name}_err"] for row in rows]
    axes.errorbar(x, y, yerr=bars, fmt="o", color=colour, markersize=4.5, linewidth=1, label=label)


def _bias(axes: Axes, told: Mapping[str, Any]) -> None:
    axes.axhline(0, color=colours.MASKED, linewidth=0.8)
    rows = told["photometry"]["by_mag"]
    _bars(axes, rows, "bias", colours.INK, "at the true places")
    bounds = [abs(r["bias"]) + r["bias_err"] for r in rows if np.isfinite(r["bias"] + r["bias_err"])]
    largest = min(0.5, 1.2 * max([0.02, *bounds]))
    axes.set_ylim(-largest, largest)
    title = "bias of the flux"
    axes.set(title=title, xlabel="magnitude", ylabel="median of flux / true flux - 1")


def _pull(axes: Axes, told: Mapping[str, Any]) -> None:
    for level in (0, 1):
        axes.axhline(level, color=colours.MASKED, linewidth=0.8)
    _bars(axes, told["photometry"]["by_mag"], "pull_mean", colours.NEGATIVE, "mean (0 is right)", -0.04)
    _bars(axes, told["photometry"]["by_mag"], "pull_spread", colours.POSITIVE, "spread (1 is right)", 0.04)
    axes.set(title="pull: (flux - true flux) / error", xlabel="magnitude", ylabel="sigma")
    low, high = axes.get_ylim()
    axes.set_ylim(min(low, -0.5), max(high, 1.9))
    axes.legend(fontsize=8, frameon=False, loc="upper right", ncols=2)


def _map(figure: Figure, axes: Axes, result: Efficiency) -> None:
    cells = result.summary["limit_map"]
    mag = np.array(cells["mag"], dtype=float)
    picture = axes.pcolormesh(cells["x"], cells["y"], mag, cmap=canvas.sky_colours().reversed(), alpha=1.0)
    middle = float(np.nanmedian(mag)) if np.isfinite(mag).any() else 0.0
    half = max(0.05, float(np.nanmax(np.abs(mag - middle), initial=0.0)))
    picture.set_clim(middle - 2.5 * half, middle + half)  # light colours, on which the marks are seen
    fakes, threshold = result.fakes, result.summary["threshold"]
    snr = np.abs(np.asarray(fakes["predicted_snr"]))
    found, masked = np.asarray(fakes["found"]), np.asarray(fakes["masked"])
    # the brightest are found everywhere; around the limit it is seen where they are not
    faint = ~masked & (snr < FAINT)
    for use, colour, mark, label in (
        (faint & ~found & (snr < threshold), colours.INK, "x", "missed, below the threshold"),
        (faint & found, colours.NEGATIVE, "o", "found"),
        (~masked & ~found & (snr >= threshold), colours.POSITIVE, "X", "missed, above it"),
        (masked, colours.INK, "s", "not judged"),
    ):
        if use.any():
            x, y = np.asarray(fakes["x"])[use], np.asarray(fakes["y"])[use]
            size = 8 if mark == "x" else 20
            axes.scatter(x, y, s=size, c=colour, marker=mark, linewidths=0.8, label=label)
    bar = figure.colorbar(picture, ax=axes, fraction=0.045, pad=0.02)
    bar.set_label("magnitude of 5 sigma", fontsize=8)
    bar.ax.tick_params(labelsize=7)
    axes.set_aspect("equal")
    axes.set_xlim(cells["x"][0], cells["x"][-1])
    axes.set_ylim(cells["y"][0], cells["y"][-1])
    axes.set(title=f"limits, and fakes of less than {FAINT:g} sigma", xlabel="x [px]", ylabel="y [px]")
    legend = axes.legend(
        fontsize=7, loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=2, facecolor="#d9d3f0"
    )
    legend.get_frame().set_linewidth(0)
