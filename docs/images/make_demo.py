"""Make docs/images/demo.png anew: ``python docs/images/make_demo.py`` from the project's root."""

from __future__ import annotations

import io
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from PIL import Image

from zogyp.demo import run_demo
from zogyp.show import canvas

HERE = Path(__file__).parent
WIDTH = 900  # px
EVERY = 2  # colour of the palette: 128 are enough, and make a file of 300 kB


def main() -> None:
    """Run the demonstration and shrink its picture."""
    with TemporaryDirectory() as folder:
        picture = Image.open(run_demo(folder).files["picture"]).convert("RGB")
    height = round(picture.height * WIDTH / picture.width)
    colours = Image.open(io.BytesIO(canvas.png_bytes(canvas.new_figure(1, 1)))).getpalette()
    palette = np.array(colours, dtype=np.float32).reshape(-1, 3)[::EVERY]
    rows = np.asarray(picture.resize((WIDTH, height), Image.Resampling.LANCZOS)).astype(np.float32)
    # the nearest colour by |a - b|², row by row for the memory's sake
    nearest = [np.argmin((palette**2).sum(axis=1) - 2 * row @ palette.T, axis=1) for row in rows]
    small = Image.fromarray(np.array(nearest, dtype=np.uint8))
    small.putpalette(palette.astype(np.uint8).ravel().tolist())
    buffer = io.BytesIO()
    small.save(buffer, "PNG", optimize=True)
    canvas.write_whole(HERE / "demo.png", buffer.getvalue())


if __name__ == "__main__":
    main()
