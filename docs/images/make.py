"""Make the pictures of these pages anew: ``python docs/images/make.py`` from the project's root."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

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


def sheet(figures: Sequence[str]) -> str:
    """Drawings two by two on white paper, as one SVG file."""
    places = ((10, 10), (500, 10), (10, 325), (410, 325))
    cells = [
        figure.replace("<svg ", f'<svg x="{x}" y="{y}" ', 1)
        for figure, (x, y) in zip(figures, places, strict=True)
    ]
    size = 'width="1034" height="620"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} viewBox="0 0 1034 620" font-family="sans-serif">'
    return f'{head}<rect {size} fill="#fff"/>{"".join(cells)}</svg>\n'


def main() -> None:
    """Subtract a simulated pair and draw it."""
    pair = simulate(Sky(shape=(700, 900), n_stars=500, n_galaxies=40, n_transients=16), seed=3)
    result = zogyp.subtract(pair.new, pair.ref)
    plots.save_overview(part_of(result), HERE / "overview.png")
    cutouts.save(result, HERE / "cutouts.png", n=5)
    figures = (
        diagnostics.histogram(result),
        diagnostics.spread(result),
        diagnostics.autocorrelation(result),
        diagnostics.psfs(diagnostics.psf_stamps(result)),
    )
    canvas.write_whole(HERE / "diagnostics.svg", sheet(figures).encode())


if __name__ == "__main__":
    main()
