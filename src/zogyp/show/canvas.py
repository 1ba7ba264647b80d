"""The drawing surface: matplotlib figures without global state, PNG bytes, files written whole.

matplotlib is imported inside of functions only, and never through ``pyplot``: a figure here
belongs to its caller, so pictures can be drawn from any thread and without a display.
"""

from __future__ import annotations

import unicodedata
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from zogyp.errors import MissingExtraError, OutputError
from zogyp.io import writing
from zogyp.show import colours

if TYPE_CHECKING:
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure

DPI = 100


def new_figure(width: float, height: float, *, layout: Any = "constrained") -> Figure:
    """An empty figure of ``width`` × ``height`` inches, tied to the Agg renderer and nothing else.

    Raises
    ------
    MissingExtraError
        matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError("matplotlib", "plot", "pictures") from error
    figure = Figure(figsize=(width, height), dpi=DPI, facecolor="white", layout=layout)
    FigureCanvasAgg(figure)
    return figure


def sky_colours() -> Colormap:
    """The map of images: white sky to dark violet stars."""
    return _map("sky")


def signed_colours() -> Colormap:
    """The map of differences: blue for negative, white for zero, red for positive."""
    return _map("signed")


def _map(name: str) -> Colormap:
    """One of our maps as matplotlib's, grey where there is no value."""
    try:
        from matplotlib.colors import ListedColormap
    except ImportError as error:
        raise MissingExtraError("matplotlib", "plot", "pictures") from error
    return ListedColormap(colours.table(name) / 255, name).with_extremes(bad=colours.MASKED)


def save(figure: Figure, path: str | Path) -> Path:
    """Draw a figure into a PNG file.

    Raises
    ------
    OutputError
        The file cannot be written.
    """
    return write_whole(path, png_bytes(figure))


def png_bytes(figure: Figure) -> bytes:
    """Draw a figure and return it as an 8-bit palette PNG."""
    canvas: Any = figure.canvas
    with warnings.catch_warnings():
        # a name may hold characters that no installed font has: they become boxes, not errors
        warnings.filterwarnings("ignore", message=".*[Gg]lyph")
        canvas.draw()
    return pack(np.asarray(canvas.buffer_rgba())[..., :3])


def pack(rgb: NDArray[np.uint8]) -> bytes:
    """An (ny, nx, 3) picture in our own colours as PNG with a palette.

    A picture of noise takes a third of the bytes of true colour that way, and the palette is made
    of the colour maps themselves, so no pixel changes its meaning.
    """
    return colours.picture(colours.nearest(rgb))


def clean(text: object, longest: int = 70) -> str:
    """Text fit for one line of a figure: no control characters, the middle left out when too long."""
    line = str(text)
    if not (line.isascii() and line.isprintable()):  # which is quickly seen of most
        line = "".join(" " if unicodedata.category(c)[0] in "CZ" else c for c in line)
    line = " ".join(line.split())
    if len(line) <= longest:
        return line
    head = (longest - 1) // 2
    return f"{line[:head]}…{line[len(line) - (longest - 1 - head) :]}"


def write_whole(path: str | Path, content: bytes) -> Path:
    """Write a file that appears under its name only when complete.

    Raises
    ------
    OutputError
        The folder cannot be made or written to.
    """
    target = Path(path)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(target, error.strerror or str(error)) from error
    with writing(target) as file:
        file.write(content)
    return target
