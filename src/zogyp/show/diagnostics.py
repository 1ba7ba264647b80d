"""The small figures of the report: is S_corr Gaussian, even, white; what do the PSFs look like."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from zogyp.products import Subtraction
from zogyp.show import canvas, pixels

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH, HEIGHT = 5.2, 3.7  # inches; two fit beside each other on a desktop
RANGE = 10.0  # of the histogram [sigma]
STEP = 0.2  # of the histogram [sigma]
LAG = 6  # of the autocorrelation [px]


def histogram_figure(subtraction: Subtraction) -> Figure:
    """Distribution of S_corr over the judged pixels beside the Gaussian of unit width.

    Both ends gather what lies beyond them. Counts are pixels, which S_corr's own smoothness
    correlates: the bump of one transient is many pixels.
    """
    edges, counts, judged = pixels.histogram(subtraction.Scorr, RANGE, STEP)
    figure = canvas.new_figure(WIDTH, HEIGHT)
    axes = figure.subplots()
    axes.stairs(np.maximum(counts, 0.5), edges, baseline=0.5, fill=True, color="#b9aee0", label="measured")
    middle = (edges[1:] + edges[:-1]) / 2
    expected = judged * STEP * np.exp(-(middle**2) / 2) / np.sqrt(2 * np.pi)
    shown = expected > 0.5
    axes.plot(middle[shown], expected[shown], color=canvas.INK, linewidth=1.4, label="Gaussian of width 1")
    axes.set_yscale("log")
    axes.set_ylim(0.5, max(2.0, 3 * counts.max(initial=1)))
    axes.set_xlim(-RANGE, RANGE)
    axes.set_xlabel("S_corr [sigma]", fontsize=9)
    axes.set_ylabel(f"pixels per {STEP:g} sigma", fontsize=9)
    axes.legend(fontsize=8, frameon=False, loc="upper left")
    _tidy(axes)
    return figure


def spread_figure(subtraction: Subtraction) -> Figure:
    """Robust spread of S_corr in cells over the image: is the noise model right everywhere?"""
    spread = pixels.spread_map(subtraction.Scorr)
    ny, nx = subtraction.Scorr.shape
    figure = canvas.new_figure(WIDTH, HEIGHT)
    axes = figure.subplots()
    known = spread[np.isfinite(spread)]
    reach = max(0.1, min(1.0, float(np.percentile(np.abs(known - 1), 95)) if known.size else 0.1))
    picture = axes.imshow(
        spread,
        origin="lower",
        extent=(-0.5, nx - 0.5, -0.5, ny - 0.5),
        cmap=canvas.signed_colours(),
        vmin=1 - reach,
        vmax=1 + reach,
        interpolation="nearest",
    )
    axes.set_xlabel("x [px]", fontsize=9)
    axes.set_ylabel("y [px]", fontsize=9)
    bar = figure.colorbar(picture, ax=axes)
    bar.ax.tick_params(labelsize=8)
    bar.set_label("spread of S_corr", fontsize=9)
    _tidy(axes)
    return figure


def autocorrelation_figure(subtraction: Subtraction) -> Figure:
    """Correlation of D between neighbouring pixels, sources left out: white noise has none."""
    quiet = np.abs(np.nan_to_num(subtraction.Scorr, nan=np.inf)) < 4
    values = pixels.autocorrelation(np.where(quiet, subtraction.D, np.float32(np.nan)), LAG)
    middle = values[LAG, LAG]
    values[LAG, LAG] = np.nan
    figure = canvas.new_figure(WIDTH, HEIGHT)
    axes = figure.subplots()
    picture = axes.imshow(
        values,
        origin="lower",
        extent=(-LAG - 0.5, LAG + 0.5, -LAG - 0.5, LAG + 0.5),
        cmap=canvas.signed_colours(),
        vmin=-0.1,
        vmax=0.1,
        interpolation="nearest",
    )
    axes.set_xlabel("lag in x [px]", fontsize=9)
    axes.set_ylabel("lag in y [px]", fontsize=9)
    if np.isfinite(middle):
        axes.text(0, 0, "1", ha="center", va="center", fontsize=8, color="white")
    bar = figure.colorbar(picture, ax=axes)
    bar.ax.tick_params(labelsize=8)
    bar.set_label("correlation coefficient of D", fontsize=9)
    _tidy(axes)
    return figure


def registration_figure(subtraction: Subtraction) -> Figure | None:
    """How far stars of the two images lie from each other, as arrows; None without stars."""
    told = (subtraction.summary.get("registration") or {}).get("residuals") or {}
    x, y, dx, dy = (np.asarray(told.get(k, ()), dtype=np.float64) for k in ("x", "y", "dx", "dy"))
    if x.size == 0:
        return None
    ny, nx = subtraction.Scorr.shape
    figure = canvas.new_figure(WIDTH, HEIGHT)
    axes = figure.subplots()
    typical = float(np.median(np.hypot(dx, dy)))
    unit = float(f"{max(2 * typical, 1e-3):.1g}")  # length of the key [px]
    drawn: dict[str, Any] = {"angles": "xy", "scale_units": "width", "scale": 10 * unit, "width": 0.003}
    arrows = axes.quiver(x, y, dx, dy, color=canvas.POSITIVE, **drawn)
    axes.quiverkey(arrows, 1.15, 0.95, unit, f"{unit:g} px", labelpos="S", fontproperties={"size": 8})
    axes.set_xlim(-0.5, nx - 0.5)
    axes.set_ylim(-0.5, ny - 0.5)
    axes.set_aspect("equal")
    axes.set_xlabel("x [px]", fontsize=9)
    axes.set_ylabel("y [px]", fontsize=9)
    _tidy(axes)
    return figure


def psf_stamps(subtraction: Subtraction) -> dict[str, NDArray[Any]]:
    """The PSFs a subtraction carries, by title: of D, and of the images where it keeps them."""
    stamps = {
        "new": getattr(subtraction, "psf_new", None),
        "reference": getattr(subtraction, "psf_ref", None),
    }
    return {**{title: s for title, s in stamps.items() if s is not None}, "difference D": subtraction.psf}


def psf_figure(stamps: dict[str, NDArray[Any]]) -> Figure:
    """PSF stamps beside each other, as the logarithm of their height over four decades.

    Parameters
    ----------
    stamps : dict of (k, k) arrays
        Title of each and its pixels, at least one.
    """
    figure = canvas.new_figure(2.5 * len(stamps) + 0.6, 2.9)
    panels = figure.subplots(1, len(stamps), squeeze=False)[0]
    picture: Any = None
    for axes, (title, stamp) in zip(panels, stamps.items(), strict=True):
        values = np.asarray(stamp, dtype=np.float64)
        peak = np.nanmax(np.abs(values), initial=0.0)
        height = np.abs(values) / peak if np.isfinite(peak) and peak > 0 else np.full(values.shape, np.nan)
        half = values.shape[-1] / 2
        picture = axes.imshow(
            np.log10(np.maximum(height, 1e-5)),
            origin="lower",
            extent=(-half, half, -half, half),
            cmap=canvas.sky_colours(),
            vmin=-4,
            vmax=0,
            interpolation="nearest",
        )
        axes.set_title(title, fontsize=9, color=canvas.INK, parse_math=False)
        axes.tick_params(labelsize=7)
    bar = figure.colorbar(picture, ax=panels, ticks=[-4, -3, -2, -1, 0], fraction=0.04, pad=0.01)
    bar.ax.set_yticklabels(["1e-4", "1e-3", "0.01", "0.1", "peak"])
    bar.ax.tick_params(labelsize=7)
    return figure


def _tidy(axes: Axes) -> None:
    axes.tick_params(labelsize=8, colors=canvas.INK)
    for edge in ("top", "right"):
        axes.spines[edge].set_visible(False)
