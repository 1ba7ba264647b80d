"""Cutouts of transients: new, reference, D and S_corr beside each other, at a glance."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zogyp.products import Subtraction
from zogyp.show import canvas, pixels, plots

SIDE = 41  # of a cutout [px of the image]
ZOOM = 3  # screen pixels per image pixel
GAP = 6  # between two cutouts [screen px]
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

    Raises
    ------
    MissingExtraError
        matplotlib is not installed.
    """
    rows = plots.transient_rows(subtraction)[:n]
    planes = _planes(subtraction) if rows else []
    return [Cutout(row, canvas.pack(_strip(planes, row["x"], row["y"], side))) for row in rows]


def save(subtraction: Subtraction, path: str | Path, n: int = 12) -> Path:
    """Write the strips of the first ``n`` transients, captions beside them, as one PNG.

    Raises
    ------
    MissingExtraError
        matplotlib is not installed.
    OutputError
        The file cannot be written.
    """
    rows = plots.transient_rows(subtraction)[:n]
    planes = _planes(subtraction) if rows else []
    height = 0.5 + 1.35 * max(1, len(rows))
    figure = canvas.new_figure(8.2, height, layout="none")
    for number, name in enumerate(PLANES):
        figure.text(0.01 + 0.1645 * number, 1 - 0.35 / height, name, fontsize=10, color=canvas.INK)
    if not rows:
        figure.text(0.01, 0.4, "no transient found", fontsize=11, color=canvas.INK)
    for number, row in enumerate(rows):
        bottom = 1 - (0.45 + 1.35 * (number + 1)) / height
        axes = figure.add_axes((0.01, bottom, 0.65, 1.28 / height))
        axes.imshow(_strip(planes, row["x"], row["y"], SIDE), interpolation="nearest")
        axes.set_axis_off()
        text = "\n".join(caption(row))
        figure.text(0.68, bottom + 0.64 / height, text, va="center", fontsize=9, parse_math=False)
    return canvas.write_whole(path, canvas.png_bytes(figure))


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


def _planes(subtraction: Subtraction) -> list[tuple[NDArray[np.float32], Any, Any]]:
    """Each plane with its limits and its colours, in the order of ``PLANES``."""
    from matplotlib.colors import AsinhNorm, Normalize

    result: list[tuple[NDArray[np.float32], Any, Any]] = []
    for image in plots.masked_planes(subtraction):
        sky, noise, top = pixels.sky_limits(image)
        norm = AsinhNorm(linear_width=5 * noise, vmin=-2 * noise, vmax=max(top, 60 * noise), clip=True)
        result.append((image - np.float32(sky), norm, canvas.sky_colours()))
    for plane in (subtraction.D, subtraction.Scorr):
        result.append((plane, Normalize(-plots.LIMIT, plots.LIMIT, clip=True), canvas.signed_colours()))
    return result


def _strip(planes: list[Any], x: float, y: float, side: int) -> NDArray[np.uint8]:
    """The cutouts side by side with ticks pointing at the source, (side · zoom, ..., 3) RGB."""
    wide = side * ZOOM
    strip = np.full((wide, len(planes) * (wide + GAP) - GAP, 3), 255, dtype=np.uint8)
    for number, (plane, norm, colours) in enumerate(planes):
        values = pixels.stamp(plane, x, y, side)[::-1]  # a picture's rows run downward
        rgb = colours(np.ma.masked_invalid(norm(np.ma.masked_invalid(values))), bytes=True)[..., :3]
        large = np.repeat(np.repeat(rgb, ZOOM, axis=0), ZOOM, axis=1)
        _point(large)
        start = number * (wide + GAP)
        strip[:, start : start + wide] = large
    return strip


def _point(picture: NDArray[np.uint8]) -> None:
    """Two short ticks that point at the middle pixel and leave it free."""
    from matplotlib.colors import to_rgb

    # as thick as an image pixel, so that a browser that shrinks the strip cannot lose them
    thick = slice(picture.shape[0] // 2 - ZOOM // 2, picture.shape[0] // 2 - ZOOM // 2 + ZOOM)
    near, far = picture.shape[0] // 2 + 5 * ZOOM, picture.shape[0] // 2 + 9 * ZOOM
    ink = np.array([round(255 * c) for c in to_rgb(canvas.POSITIVE)], dtype=np.uint8)
    picture[thick, near:far] = ink
    picture[picture.shape[0] - far : picture.shape[0] - near, thick] = ink
