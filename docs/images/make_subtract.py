"""Make docs/images/subtract.png anew: ``python docs/images/make_subtract.py`` from the project's root.

One simulated pair: S_corr as it should be, and what three common mistakes look like.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

import zogyp
from zogyp.core.psfmodel import PSF
from zogyp.image import FloatImage
from zogyp.options import InputOptions, RegistrationOptions, SubtractOptions
from zogyp.show import canvas, colours
from zogyp.simulate import SimulatedPair, psf_stamp, simulate
from zogyp.sky import Side, Sky

HERE = Path(__file__).parent
SKY = Sky(shape=(400, 500), n_stars=250, n_galaxies=10, n_transients=8, transient_min=3000)
PART = (slice(150, 360), slice(150, 380))
LIMIT = 7.0  # range of the colours [sigma]


def cases(pair: SimulatedPair, folder: Path) -> Iterator[tuple[str, FloatImage]]:
    """Title and plane of each panel."""
    yield "S_corr as it should be", zogyp.subtract(pair.new, pair.ref).Scorr
    moved = replace(pair.ref, data=np.roll(pair.ref.data, (1, 2), (0, 1)))
    unchecked = SubtractOptions(align=RegistrationOptions(mode="none"))
    yield "S_corr, reference misaligned by (2, 1) px", zogyp.subtract(pair.new, moved, unchecked).Scorr
    wide = psf_stamp(Side(fwhm=1.06 * pair.sky.new.fwhm), pair.sky.shape, (250, 200), 41)
    path = zogyp.write_psf(folder / "wide.psf", PSF(wide[None].astype(np.float32)))
    options = SubtractOptions(new=InputOptions(psf=str(path)))
    yield "D, PSF file of the new image 6 % too wide", zogyp.subtract(pair.new, pair.ref, options).D
    rng = np.random.default_rng(1)
    data = pair.new.data.copy()
    data[:, 300] -= 150
    data[rng.integers(0, 400, 300), rng.integers(0, 500, 300)] += 600
    yield (
        "S_corr, bad pixels that no mask names",
        zogyp.subtract(replace(pair.new, data=data), pair.ref).Scorr,
    )


def main() -> None:
    """Draw the four panels."""
    from tempfile import TemporaryDirectory

    pair = simulate(SKY, seed=3)
    figure = canvas.new_figure(8.4, 7.8)
    panels = figure.subplots(2, 2)
    with TemporaryDirectory() as folder:
        for axes, (title, scorr) in zip(panels.flat, cases(pair, Path(folder)), strict=True):
            picture = axes.imshow(
                scorr[PART], origin="lower", cmap=canvas.signed_colours(), vmin=-LIMIT, vmax=LIMIT
            )
            axes.set_title(title, fontsize=10, loc="left", color=colours.INK)
            axes.set_xticks([])
            axes.set_yticks([])
    figure.colorbar(picture, ax=panels, shrink=0.6, label="[sigma]")
    canvas.save(figure, HERE / "subtract.png")


if __name__ == "__main__":
    main()
