"""Make docs/images/align.png: ``python docs/images/make_align.py``."""

from __future__ import annotations

from pathlib import Path

import numpy as np

import zogyp
from zogyp.show import canvas
from zogyp.sky import Sky

HERE = Path(__file__).parent


def main() -> None:
    """Turn one image of a simulated pair, align it, draw what comes out."""
    pair = zogyp.simulate.simulate(Sky(shape=(500, 600), n_stars=300, n_galaxies=10, n_transients=6), seed=5)
    turned = np.ascontiguousarray(np.rot90(pair.new.data[40:, 25:]))
    source = zogyp.Image(turned, np.zeros(turned.shape, np.uint16), gain=pair.new.gain, name="turned")
    image, found = zogyp.align(source, to=pair.ref)
    figure = canvas.new_figure(11.0, 3.4)
    panels = figure.subplots(1, 4)
    titles = ("reference", "image", "image, aligned")
    for axes, data, title in zip(panels, (pair.ref.data, turned, image.data), titles, strict=False):
        low, high = np.nanpercentile(data, [5, 99.3])
        axes.imshow(data, origin="lower", cmap=canvas.sky_colours(), vmin=low, vmax=high)
        axes.set_title(title, fontsize=9)
    axes = panels[3]
    arrows = axes.quiver(
        found.x, found.y, found.dx, found.dy, color=canvas.POSITIVE, angles="xy", scale_units="xy", scale=0.01
    )
    axes.quiverkey(arrows, 0.8, 1.05, 0.2, "0.2 px", labelpos="E", fontproperties={"size": 8})
    axes.set_aspect("equal")
    axes.set_xlim(-0.5, image.shape[1] - 0.5)
    axes.set_ylim(-0.5, image.shape[0] - 0.5)
    axes.set_title("residuals of stars", fontsize=9, loc="left")
    for axes in panels:
        axes.set_xticks([])
        axes.set_yticks([])
    canvas.write_whole(HERE / "align.png", canvas.png_bytes(figure))


if __name__ == "__main__":
    main()
