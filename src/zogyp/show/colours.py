"""The colours of every picture: two maps, the marks, and the one palette that holds them all."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from zogyp.show import png

STEPS = 79  # of a colour map; as many as the eye needs, and two maps fit a palette of 256; odd: 0 is white
POSITIVE = "#c44e00"  # vermilion and blue stay apart for every kind of colour vision
NEGATIVE = "#0068b5"
INK = "#22262b"
MASKED = "#9b9b9b"
FADES = 12  # steps of a mark's colour into white

# sky: white to dark violet stars; holds no grey, which is left to masked pixels.
# signed: blue for negative, white for zero, red for positive; its ends stay light enough that one dark
# dot is seen to be red or blue.
STOPS = {
    "sky": ("#ffffff", "#d9d3f0", "#9a8fd0", "#5b46a3", "#2a1460", "#0e0426"),
    "signed": (
        "#083f8c", "#2270b5", "#5aa3cd", "#a9d1e4", "#dfecf4", "#ffffff",
        "#fbe3d4", "#f4b08a", "#dd6a52", "#bf2233", "#8f0a20",
    ),
}  # fmt: skip
FIRST = {"sky": 0, "signed": STEPS}  # where the maps begin in the palette
MARK, WHITE, GREY = 2 * STEPS, 253, 255  # places of POSITIVE, white and MASKED in the palette

Indices = NDArray[np.uint8]


@dataclass(frozen=True)
class Scale:
    """Which value has which colour.

    Attributes
    ----------
    name : "sky" or "signed", the map.
    low, high : values of its two ends; what lies beyond has the colour of the end.
    bend : values below this are shown linearly, those above logarithmically; all linearly when None.
    """

    name: str
    low: float
    high: float
    bend: float | None = None

    def fraction(self, values: ArrayLike) -> NDArray[np.float64]:
        """Where between the ends values lie, 0 to 1; NaN for NaN."""
        ends = np.array([self.low, self.high])
        shown = np.asarray(values, dtype=np.float64)
        if self.bend is not None:
            ends, shown = np.arcsinh(ends / self.bend), np.arcsinh(shown / self.bend)
        part: NDArray[np.float64] = np.clip((shown - ends[0]) / (ends[1] - ends[0]), 0, 1)
        return part

    def indices(self, values: ArrayLike) -> Indices:
        """Places of the values' colours in the palette; grey where there is no value."""
        part = self.fraction(values)
        known = np.isfinite(np.asarray(values))
        step = np.minimum(np.where(known, part, 0) * STEPS, STEPS - 1).astype(np.uint8)
        return np.where(known, step + np.uint8(FIRST[self.name]), np.uint8(GREY))

    def bar(self) -> Indices:
        """The map as one column of a picture, the high end at its top."""
        return (FIRST[self.name] + np.arange(STEPS, dtype=np.uint8)[::-1])[:, None]


def rgb(colour: str) -> NDArray[np.float64]:
    """``#rrggbb`` as three numbers from 0 to 255."""
    return np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)], dtype=np.float64)


def table(name: str) -> NDArray[np.float64]:
    """A map, (STEPS, 3), from 0 to 255."""
    stops = np.array([rgb(stop) for stop in STOPS[name]])
    places, wanted = np.linspace(0, 1, len(stops)), np.linspace(0, 1, STEPS)
    return np.stack([np.interp(wanted, places, channel) for channel in stops.T], axis=1)


@cache
def palette() -> NDArray[np.uint8]:
    """The 256 colours of a picture, (256, 3): maps, marks fading into white, greys, INK and MASKED."""
    fade = np.linspace(0, 1, FADES)[:, None]
    marks = [(1 - fade) * rgb(colour) + 255 * fade for colour in (POSITIVE, NEGATIVE)]
    n_greys = 256 - 2 * STEPS - 2 * FADES - 2
    greys = np.repeat(np.linspace(0, 255, n_greys)[:, None], 3, axis=1)
    colours = np.vstack([table("sky"), table("signed"), *marks, greys, rgb(INK), rgb(MASKED)])
    return np.rint(colours).astype(np.uint8)


def picture(indices: Indices) -> bytes:
    """A picture in places of the palette, (ny, nx) with its top row first, as PNG."""
    return png.encode(indices, palette())


def nearest(picture: NDArray[Any]) -> Indices:
    """Places in the palette of the nearest colours of an (ny, nx, 3) picture of 8 bits."""
    packed = picture.astype(np.uint32) @ np.array([65536, 256, 1], dtype=np.uint32)
    found, where = np.unique(packed, return_inverse=True)
    parts = np.stack([found >> 16, found >> 8 & 255, found & 255], axis=-1).astype(np.float32)
    # the nearest of 256 for each of some thousand colours, by |a - b|² = |a|² - 2ab + |b|²
    grid = palette().astype(np.float32)
    places = np.argmin((grid**2).sum(axis=1) - 2 * parts @ grid.T, axis=1).astype(np.uint8)
    result: Indices = places[where].reshape(picture.shape[:2])
    return result
