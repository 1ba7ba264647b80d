"""Make the pictures of these pages anew: ``python docs/images/make.py`` from the project's root."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

import zogyp
from zogyp.products import Subtraction
from zogyp.show import canvas, cutouts, diagnostics, plots
from zogyp.simulate import simulate
from zogyp.sky import Sky

HERE = Path(__file__).parent
PART = (slice(425, 640), slice(30, 385))  # rows and columns of the overview: noise makes large files


def part_of(result: Subtraction) -> Subtraction:
    """The part of a subtraction that the overview shows."""
    rows, columns = PART
    planes = {name: getattr(result, name)[PART] for name in ("D", "S", "Scorr", "alpha", "alpha_err", "mask")}
    table = result.transients.copy()
    table["x"] -= columns.start
    table["y"] -= rows.start
    ny, nx = planes["D"].shape
    table = table[(table["x"] > 0) & (table["x"] < nx) & (table["y"] > 0) & (table["y"] < ny)]
    return replace(
        result, transients=table, new=result.new.cutout(PART), ref=result.ref.cutout(PART), **planes
    )


def main() -> None:
    """Subtract a simulated pair and draw it."""
    pair = simulate(Sky(shape=(700, 900), n_stars=500, n_galaxies=40, n_transients=16), seed=3)
    result = zogyp.subtract(pair.new, pair.ref)
    plots.save_overview(part_of(result), HERE / "overview.png")
    cutouts.save(result, HERE / "cutouts.png", n=5)
    figures = (
        diagnostics.histogram_figure(result),
        diagnostics.spread_figure(result),
        diagnostics.autocorrelation_figure(result),
        diagnostics.psf_figure(diagnostics.psf_stamps(result)),
    )
    panels = [np.asarray(Image.open(io.BytesIO(canvas.png_bytes(f))).convert("RGB")) for f in figures]
    height, width = (max(panel.shape[axis] for panel in panels) for axis in (0, 1))
    sheet = np.full((2 * height, 2 * width, 3), 255, dtype=np.uint8)
    for number, panel in enumerate(panels):
        y, x = divmod(number, 2)
        sheet[y * height : y * height + panel.shape[0], x * width : x * width + panel.shape[1]] = panel
    canvas.write_whole(HERE / "diagnostics.png", canvas.pack(sheet))


if __name__ == "__main__":
    main()
