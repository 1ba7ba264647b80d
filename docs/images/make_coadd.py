"""Make docs/images/coadd.png anew: ``python docs/images/make_coadd.py`` from the project's root.

Twelve exposures of one field; one of them, their median, their proper coadd, and how many reached each pixel.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from astropy.io import fits

import zogyp
from zogyp.image import FloatImage
from zogyp.show import canvas

HERE = Path(__file__).parent
SHAPE = (330, 330)
PART = (slice(60, 270), slice(60, 270))
SEEING = (2.5, 4.4, 3.1, 2.8, 3.9, 2.6, 3.4, 4.0, 2.9, 3.3, 4.2, 2.7)  # px
TRAILS = {1: (0.6, 70.0), 6: (-0.8, 290.0)}  # slope and row at column 0 of satellites, by exposure


def exposures() -> list[zogyp.Image]:
    """The stack: dithered, of unlike seeing and transparency, with cosmic rays and two satellites."""
    rng = np.random.default_rng(7)
    n, (ny, nx) = 300, SHAPE
    x, y = rng.uniform(-10, nx + 10, n), rng.uniform(-10, ny + 10, n)
    flux = 100 * rng.uniform(0.002, 1, n) ** -1.0
    rows, columns = np.arange(ny)[:, None], np.arange(nx)[:, None]
    stack = []
    for i, seeing in enumerate(SEEING):
        s = seeing / 2.3548
        dx, dy = rng.uniform(-8, 8, 2) if i else (0.0, 0.0)
        along = np.exp(-0.5 * ((columns - x + dx) / s) ** 2)
        up = np.exp(-0.5 * ((rows - y + dy) / s) ** 2)
        light = rng.uniform(0.7, 1) * (flux / (2 * np.pi * s**2) * up) @ along.T
        if i in TRAILS:
            slope, start = TRAILS[i]
            light += 220 * np.exp(-0.5 * ((rows - slope * columns.T - start) / (s * np.hypot(1, slope))) ** 2)
        pixels = (rng.poisson(2 * (light + 400)) + rng.normal(0, 6, SHAPE)) / 2
        struck = rng.integers(0, nx, (2, 60))
        pixels[tuple(struck)] += rng.uniform(200, 3000, 60)
        header = fits.Header({"GAIN": 2.0, "RDNOISE": 6.0, "SATURATE": 60000.0})
        stack.append(
            zogyp.Image(
                pixels.astype(np.float32),
                np.zeros(SHAPE, np.uint16),
                header=header,
                gain=2.0,
                read_noise=6.0,
                saturation=60000.0,
                name=f"exposure {i + 1}",
            )
        )
    return stack


def main() -> None:
    """Co-add twice and draw."""
    stack = exposures()
    proper = zogyp.coadd(stack)
    median = zogyp.coadd(stack, options=zogyp.CoaddOptions(method="median"))
    one = stack[6].data - np.median(stack[6].data)
    noise = 1 / proper.F_R
    planes: tuple[tuple[str, FloatImage], ...] = (
        ("one exposure", one),
        ("median of 12", median.R),
        ("proper coadd, R / F_R", proper.flux),
    )
    figure = canvas.new_figure(12.0, 3.5)
    panels = figure.subplots(1, 4)
    for axes, (title, plane) in zip(panels, planes, strict=False):
        axes.imshow(plane[PART], origin="lower", cmap=canvas.sky_colours(), vmin=-2 * noise, vmax=9 * noise)
        axes.set_title(title, fontsize=10, loc="left", color=canvas.INK)
    axes = panels[3]
    out = len(stack) - proper.coverage[PART]
    picture = axes.imshow(out, origin="lower", cmap=canvas.sky_colours(), vmin=0, vmax=4)
    axes.set_title("exposures left out", fontsize=10, loc="left", color=canvas.INK)
    figure.colorbar(picture, ax=axes, shrink=0.8, ticks=range(5))
    for axes in panels:
        axes.set_xticks([])
        axes.set_yticks([])
    canvas.write_whole(HERE / "coadd.png", canvas.png_bytes(figure))


if __name__ == "__main__":
    main()
