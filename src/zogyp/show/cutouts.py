"""Cutouts of transients: new, reference, D and S_corr beside each other, at a glance."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from zogyp.products import Subtraction
from zogyp.show import canvas, colours, panels, pixels
from zogyp.show.colours import Indices, Scale

SIDE = 41  # of a cutout [px]; a strip has one pixel for each of the image's: who shows it enlarges it
GAP = 2  # between two cutouts [px]
PLANES = ("new", "reference", "D", "S_corr")


@dataclass(frozen=True)
class Cutout:
    """One transient: its row as plain values, and its strip of cutouts as PNG."""

    row: dict[str, Any]
    png: bytes


def gallery(subtraction: Subtraction, n: int = 24, *, side: int = SIDE) -> list[Cutout]:
    """The strips of the first ``n`` transients of the table.

    Parameters
    ----------
    subtraction : Subtraction
    n : int
        How many, at most.
    side : int
        Side of a cutout [px].
    """
    rows = panels.transient_rows(subtraction)[:n]
    planes = _planes(subtraction) if rows else []
    return [Cutout(row, colours.picture(_strip(planes, row["x"], row["y"], side))) for row in rows]


def save(subtraction: Subtraction, path: str | Path, n: int = 12) -> Path:
    """Write the strips of the first ``n`` transients, captions beside them, as one PNG.

    Raises
    ------
    MissingExtraError
        matplotlib is not installed.
    OutputError
        The file cannot be written.
    """
    rows = panels.transient_rows(subtraction)[:n]
    planes = _planes(subtraction) if rows else []
    height = 0.5 + 1.35 * max(1, len(rows))
    figure = canvas.new_figure(8.2, height, layout="none")
    for number, name in enumerate(PLANES):
        figure.text(0.01 + 0.1645 * number, 1 - 0.35 / height, name, fontsize=10, color=colours.INK)
    if not rows:
        figure.text(0.01, 0.4, "no transient found", fontsize=11, color=colours.INK)
    for number, row in enumerate(rows):
        bottom = 1 - (0.45 + 1.35 * (number + 1)) / height
        axes = figure.add_axes((0.01, bottom, 0.65, 1.28 / height))
        axes.imshow(colours.palette()[_strip(planes, row["x"], row["y"], SIDE)], interpolation="nearest")
        axes.set_axis_off()
        text = "\n".join(caption(row))
        figure.text(0.68, bottom + 0.64 / height, text, va="center", fontsize=9, parse_math=False)
    return canvas.save(figure, path)


def caption(row: dict[str, Any]) -> list[str]:
    """What to say of a transient, line by line: identity, significance and flux, flags."""
    lines = [
        f"{row['id']}   ({row['x']:.1f}, {row['y']:.1f}) px",
        f"{row['snr']:+.1f} sigma   flux {plus_minus(row['flux'], row['flux_err'])}",
    ]
    if np.isfinite(row["mag"]):
        lines.append(f"mag {plus_minus(row['mag'], row['mag_err'])}")
    if row["flags"]:
        lines.append(f"flags {canvas.clean(row['flags'], 40)}")
    return lines


def plus_minus(value: float, error: float) -> str:
    """A value with its error, both to the error's second digit: ``353.9 ± 5.1``."""
    if not (np.isfinite(value) and np.isfinite(error) and error > 0):
        return f"{value:.5g}" if np.isfinite(value) else "–"
    digits = 1 - int(np.floor(np.log10(error)))
    if not -5 < digits < 7:
        return f"{value:.4g} ± {error:.2g}"
    digits = max(0, digits)
    return f"{value:.{digits}f} ± {error:.{digits}f}"


def _planes(subtraction: Subtraction) -> list[tuple[pixels.Sliced, float, Scale]]:
    """Each plane with the level that is taken off and its colours, in the order of ``PLANES``."""
    result: list[tuple[pixels.Sliced, float, Scale]] = []
    for image in (subtraction.new, subtraction.ref):
        plane = panels.Masked(image)
        sky, noise, top = pixels.sky_limits(plane)
        result.append((plane, sky, Scale("sky", -2 * noise, max(top, 60 * noise), bend=5 * noise)))
    return [*result, *((plane, 0.0, panels.signed_scale()) for plane in (subtraction.D, subtraction.Scorr))]


def _strip(planes: list[tuple[pixels.Sliced, float, Scale]], x: float, y: float, side: int) -> Indices:
    """The cutouts side by side with ticks pointing at the source, as places in the palette."""
    strip = np.full((side, len(planes) * (side + GAP) - GAP), colours.WHITE, dtype=np.uint8)
    for number, (plane, level, scale) in enumerate(planes):
        start = number * (side + GAP)
        part = strip[:, start : start + side]
        part[:] = scale.indices(pixels.stamp(plane, x, y, side) - np.float32(level))[::-1]  # rows run down
        _point(part)
    return strip


def _point(picture: Indices) -> None:
    """Two short ticks that point at the middle pixel and leave it free."""
    middle = picture.shape[0] // 2
    picture[middle, middle + 5 : middle + 9] = colours.MARK
    picture[middle - 8 : middle - 4, middle] = colours.MARK
