"""Make the picture of the page on PSFs anew: ``python docs/images/make_psf.py`` from the project's root."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zogyp.core.psfmodel import PSF
from zogyp.measure.exposure import measure
from zogyp.show import canvas
from zogyp.simulate import SimulatedPair, simulate
from zogyp.sky import Side, Sky

PLACES = (0.1, 0.5, 0.9)  # of the image's width and height
SIZE = 25  # px of a stamp shown
RANGE = 2.0  # per cent of the peak, of the colours of the differences


def mosaic(stamps: list[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Nine stamps in rows, the first below."""
    rows = [np.hstack(stamps[3 * i : 3 * i + 3]) for i in range(3)]
    return np.vstack(rows)


def panel(axes: Any, plane: NDArray[np.float64], title: str, **how: Any) -> Any:
    """A mosaic with lines between its stamps."""
    shown = axes.imshow(plane, origin="lower", interpolation="nearest", **how)
    for at in (SIZE, 2 * SIZE):
        axes.axhline(at - 0.5, color="#d5d5de", lw=0.8)
        axes.axvline(at - 0.5, color="#d5d5de", lw=0.8)
    axes.set_title(title, fontsize=10)
    axes.set_xticks([])
    axes.set_yticks([])
    return shown


def profile(axes: Any, psf: PSF, pair: SimulatedPair) -> None:
    """Radial profile at the centre: truth, model and its own error."""
    ny, nx = pair.sky.shape
    x, y = (nx - 1) / 2, (ny - 1) / 2
    model, n = psf.at(x, y), psf.size
    p = np.arange(n) - n // 2
    radius = np.hypot(p[:, None], p[None, :]).ravel()
    order = np.argsort(radius)
    true = pair.psf_new(x, y, n)
    bins = np.arange(0.0, n // 2, 1.0)
    which = np.digitize(radius, bins) - 1

    def mean(a: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.array([a.ravel()[which == i].mean() for i in range(bins.size)])

    assert psf.variance is not None
    at = mean(radius)
    axes.plot(radius[order], true.ravel()[order], ".", color="#b9b9c6", ms=2, label="truth, every pixel")
    axes.plot(at, mean(model), color=canvas.POSITIVE, lw=1.5, label="model, mean of a ring")
    axes.plot(
        at, np.sqrt(mean(psf.variance)), color=canvas.NEGATIVE, lw=1.2, ls="--", label="its error, one pixel"
    )
    axes.set_yscale("log")
    axes.set_ylim(1e-7, 0.2)
    axes.set_xlim(0, n // 2)
    axes.set_xlabel("distance from the centre [px]", fontsize=9)
    axes.set_title("share of the flux in a pixel", fontsize=10)
    axes.tick_params(labelsize=8)
    axes.legend(fontsize=8, frameon=False)


def main() -> None:
    """Model the PSF of a simulated image and draw it beside the truth."""
    side = Side(fwhm=3.5, ellipticity=0.15, variation=0.15)
    pair = simulate(Sky(new=side, n_stars=1500, n_transients=0), seed=2)
    psf = measure(pair.new).psf
    ny, nx = pair.sky.shape
    places = [(fx * (nx - 1), fy * (ny - 1)) for fy in PLACES for fx in PLACES]
    models = [psf.at(x, y, size=SIZE) for x, y in places]
    truths = [pair.psf_new(x, y, psf.size) for x, y in places]
    cut = (psf.size - SIZE) // 2
    truths = [t[cut : cut + SIZE, cut : cut + SIZE] for t in truths]
    figure = canvas.new_figure(12.5, 3.4)
    axes = figure.subplots(1, 4, width_ratios=(1, 1, 1, 1.25))
    light = {"cmap": canvas.sky_colours(), "vmin": 0, "vmax": max(t.max() for t in truths) ** 0.5}
    for ax, stamps, title in ((axes[0], truths, "truth at nine places"), (axes[1], models, "model")):
        panel(ax, mosaic([np.sqrt(np.maximum(s, 0)) for s in stamps]), title, **light)
    off = [100 * (m - t) / t.max() for m, t in zip(models, truths, strict=True)]
    signed = {"cmap": canvas.signed_colours(), "vmin": -RANGE, "vmax": RANGE}
    shown = panel(axes[2], mosaic(off), "model − truth [% of the peak]", **signed)
    figure.colorbar(shown, ax=axes[2], shrink=0.9).ax.tick_params(labelsize=8)
    profile(axes[3], psf, pair)
    canvas.write_whole(Path(__file__).parent / "psf.png", canvas.png_bytes(figure))
    worst = max(np.abs(o).max() for o in off)
    print(f"{psf.n_stars} stars, order {psf.order}, largest difference {worst:.2f} %")


if __name__ == "__main__":
    main()
