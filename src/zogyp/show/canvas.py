"""The drawing surface: figures without global state, colours, PNG bytes, files written whole.

matplotlib is imported inside of functions only, and never through ``pyplot``: a figure here
belongs to its caller, so pictures can be drawn from any thread and without a display.
"""

from __future__ import annotations

import io
import unicodedata
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from zogyp.errors import MissingExtraError, OutputError
from zogyp.io import writing

if TYPE_CHECKING:
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure

DPI = 100
STEPS = 79  # of a colour map; as many as the eye needs, and two maps fit a palette of 256; odd: 0 is white
POSITIVE = "#c44e00"  # vermilion and blue stay apart for every kind of colour vision
NEGATIVE = "#0068b5"
INK = "#22262b"
MASKED = "#9b9b9b"


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
    """White sky to dark violet stars; holds no grey, which is left to masked pixels."""
    return _colours("sky", ["#ffffff", "#d9d3f0", "#9a8fd0", "#5b46a3", "#2a1460", "#0e0426"])


def signed_colours() -> Colormap:
    """Blue for negative, white for zero, red for positive; safe for every kind of colour vision."""
    # the ends stay light enough that one dark dot is seen to be red or blue
    reds = ["#fbe3d4", "#f4b08a", "#dd6a52", "#bf2233", "#8f0a20"]
    blues = ["#083f8c", "#2270b5", "#5aa3cd", "#a9d1e4", "#dfecf4"]
    return _colours("signed", [*blues, "#ffffff", *reds])


def _colours(name: str, stops: list[str]) -> Colormap:
    """A smooth colour map through ``stops``, grey where there is no value."""
    try:
        from matplotlib.colors import LinearSegmentedColormap
    except ImportError as error:
        raise MissingExtraError("matplotlib", "plot", "pictures") from error
    return LinearSegmentedColormap.from_list(name, stops, N=STEPS).with_extremes(bad=MASKED)


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
    try:
        from PIL import Image
    except ImportError as error:
        raise MissingExtraError("pillow", "plot", "pictures") from error
    palette = _palette()
    packed = rgb.astype(np.uint32) @ np.array([65536, 256, 1], dtype=np.uint32)
    colours, where = np.unique(packed, return_inverse=True)
    parts = np.stack([colours >> 16, colours >> 8 & 255, colours & 255], axis=-1).astype(np.float32)
    # the nearest of 256 for each of some thousand colours, by |a - b|² = |a|² - 2ab + |b|²
    grid = palette.astype(np.float32)
    nearest = np.argmin((grid**2).sum(axis=1) - 2 * parts @ grid.T, axis=1).astype(np.uint8)
    picture = Image.fromarray(nearest[where].reshape(rgb.shape[:2]))
    picture.putpalette(palette.ravel().tolist())
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def _palette() -> NDArray[np.uint8]:
    """The 256 colours of a picture, (256, 3): both maps, greys, and the marks fading into white."""
    from matplotlib.colors import to_rgb

    maps = [colours(np.arange(STEPS))[:, :3] for colours in (sky_colours(), signed_colours())]
    fade = np.linspace(0, 1, 12)[:, None]
    marks = [(1 - fade) * np.array(to_rgb(c)) + fade for c in (POSITIVE, NEGATIVE)]
    greys = np.repeat(np.linspace(0, 1, 256 - 2 * STEPS - 2 * len(fade) - 2)[:, None], 3, axis=1)
    plain = np.array([to_rgb(INK), to_rgb(MASKED)])
    palette: NDArray[np.uint8] = np.rint(255 * np.vstack([*maps, *marks, greys, plain])).astype(np.uint8)
    return palette


def clean(text: object, longest: int = 70) -> str:
    """Text fit for one line of a figure: no control characters, the middle left out when too long."""
    line = "".join(" " if unicodedata.category(c)[0] in "CZ" else c for c in str(text))
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
