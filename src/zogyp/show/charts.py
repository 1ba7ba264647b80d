"""Charts as SVG for a page: axes with round ticks, lines, steps, pictures, bars of colours; nothing but text.

A chart takes font and ink (``currentColor``) of the page it stands in, and is read on light and on
dark ones. All text is escaped here.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from html import escape

import numpy as np
from numpy.typing import ArrayLike, NDArray

from zogyp.show import colours, png
from zogyp.show.colours import Indices, Scale

BAR = 12  # width of a bar of colours [px]
TICK = 4  # length of a tick [px]
COARSE = 200  # pictures of fewer pixels a side show them as squares

Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class Span:
    """What an axis shows: from ``low`` to ``high``, by its logarithm if so told."""

    low: float
    high: float
    log: bool = False

    def fraction(self, values: ArrayLike) -> Numbers:
        """How far along the axis values lie, 0 at its low end and 1 at its high end."""
        ends, shown = np.array([self.low, self.high]), np.asarray(values, dtype=np.float64)
        if self.log:
            ends, shown = np.log10(ends), np.log10(shown)
        result: Numbers = (shown - ends[0]) / (ends[1] - ends[0])
        return result

    def ticks(self, most: int = 6) -> list[float]:
        """Round values inside, at most ``most``."""
        if self.log:
            powers = np.arange(np.ceil(np.log10(self.low)), np.floor(np.log10(self.high)) + 1)
            return [float(10.0**p) for p in powers[:: max(1, -(-len(powers) // most))]]
        return round_ticks(self.low, self.high, most)


def round_ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Multiples of 1, 2 or 5 times a power of ten from ``low`` to ``high``, at most ``most``."""
    least = (high - low) / max(1, most)
    if not (np.isfinite(least) and least > 0):
        return []
    power = float(10.0 ** np.floor(np.log10(least)))
    for step in (power * k for k in (1, 2, 5, 10, 20)):
        first, last = np.ceil(low / step - 1e-9), np.floor(high / step + 1e-9)
        if last - first < most:
            break
    # the sum turns -0 into 0
    return [float(f"{k * step:.12g}") + 0.0 for k in np.arange(first, last + 1)]


@dataclass
class Chart:
    """A drawing with one pair of axes, built part by part.

    Attributes
    ----------
    width, height : of the area inside of the axes [px].
    x, y : what the axes show.
    left, top, right, bottom : room around it [px].
    """

    width: float
    height: float
    x: Span
    y: Span
    left: float = 52
    top: float = 8
    right: float = 8
    bottom: float = 38
    parts: list[str] = field(default_factory=list)

    def places(self, x: ArrayLike, y: ArrayLike) -> Numbers:
        """Where values lie in the drawing [px], (n, 2)."""
        across = self.left + self.width * self.x.fraction(x)
        down = self.top + self.height * (1 - self.y.fraction(y))
        return np.stack(np.broadcast_arrays(across, down), axis=-1).reshape(-1, 2)

    def axes(self, x_label: str = "", y_label: str = "", most: int = 6) -> None:
        """Lines, ticks and labels at the left and below."""
        bottom, right = self.top + self.height, self.left + self.width
        lines = [f"M{self.left:.1f} {self.top:.1f}V{bottom:.1f}H{right:.1f}"]
        for tick in self.x.ticks(most):
            at = self.left + self.width * float(self.x.fraction(tick))
            lines.append(f"M{at:.1f} {bottom:.1f}v{TICK}")
            self.text(at, bottom + 15, f"{tick:g}", anchor="middle")
        for tick in self.y.ticks(most):
            at = bottom - self.height * float(self.y.fraction(tick))
            lines.append(f"M{self.left:.1f} {at:.1f}h-{TICK}")
            self.text(self.left - 7, at + 4, f"{tick:g}", anchor="end")
        self.path("".join(lines), "currentColor", opacity=0.6)
        self.text(self.left + self.width / 2, bottom + 32, x_label, anchor="middle")
        self.text(12, self.top + self.height / 2, y_label, anchor="middle", turned=True)

    def text(
        self, x: float, y: float, words: str, *, anchor: str = "start", turned: bool = False, fill: str = ""
    ) -> None:
        """Words at a place of the drawing, read from below when turned."""
        if words:
            turn = f' transform="rotate(-90 {x:.1f} {y:.1f})"' if turned else ""
            place = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"'
            colour = f' fill="{fill}"' if fill else ""
            self.parts.append(f"<text {place}{turn}{colour}>{escape(words)}</text>")

    def path(self, drawn: str, stroke: str, *, width: float = 1, opacity: float = 1) -> None:
        """A line along an SVG path."""
        style = f'fill="none" stroke="{stroke}" stroke-width="{width:g}" stroke-opacity="{opacity:g}"'
        self.parts.append(f'<path d="{drawn}" {style}/>')

    def line(self, x: ArrayLike, y: ArrayLike, stroke: str = "currentColor", *, width: float = 1.4) -> None:
        """A line through points."""
        self.path(_through(self.places(x, y)), stroke, width=width)

    def steps(self, edges: ArrayLike, heights: ArrayLike, fill: str) -> None:
        """A filled histogram that stands on the lower axis; heights below it are none."""
        floor = self.y.low
        x = np.repeat(np.asarray(edges, dtype=np.float64), 2)
        y = np.concatenate([[floor], np.repeat(np.maximum(heights, floor), 2), [floor]])
        self.parts.append(f'<path d="{_through(self.places(x, y))}Z" fill="{fill}"/>')

    def picture(self, indices: Indices) -> None:
        """A picture that fills the axes, its top row first."""
        self.image(indices, (self.left, self.top, self.width, self.height))

    def image(self, indices: Indices, box: tuple[float, float, float, float]) -> None:
        """A picture in a box of the drawing: left, top, width and height [px]."""
        x, y, width, height = box
        style = ' style="image-rendering:pixelated"' if max(indices.shape) < COARSE else ""
        place = f'x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}"'
        source = png.address(colours.picture(indices))
        self.parts.append(f'<image {place} preserveAspectRatio="none"{style} href="{source}"/>')

    def bar(self, scale: Scale, ticks: Sequence[float], label: str = "", names: Iterable[str] = ()) -> None:
        """The colours of a scale at the right of the axes, with values beside them, or their names."""
        x = self.left + self.width + 10
        self.image(scale.bar(), (x, self.top, BAR, self.height))
        named = list(names) or [f"{tick:g}" for tick in ticks]
        for tick, name in zip(ticks, named, strict=True):
            y = self.top + self.height * (1 - float(scale.fraction(tick)))
            self.path(f"M{x + BAR:.1f} {y:.1f}h{TICK}", "currentColor", opacity=0.6)
            self.text(x + BAR + TICK + 3, y + 4, name)
        self.text(x + BAR + 52, self.top + self.height / 2, label, anchor="middle", turned=True)

    def marks(self, rows: Iterable[tuple[float, float, str, str]], size: float, *, square: bool) -> None:
        """Hollow circles or squares at (x, y), each in its colour and with words that a pointer shows."""
        for x, y, stroke, words in rows:
            ((across, down),) = self.places(x, y)
            shape = f'circle cx="{across:.1f}" cy="{down:.1f}" r="{size / 2:.1f}"'
            if square:
                corner = f'x="{across - size / 2:.1f}" y="{down - size / 2:.1f}"'
                shape = f'rect {corner} width="{size:.1f}" height="{size:.1f}"'
            # its inside is transparent, not empty: the pointer shall find it
            style = f'fill="transparent" stroke="{stroke}" stroke-width="1.6"'
            self.parts.append(f"<{shape} {style}><title>{escape(words)}</title></{shape.split()[0]}>")

    def svg(self, words: str) -> str:
        """The whole drawing; ``words`` say what it shows to who cannot see it."""
        width, height = self.left + self.width + self.right, self.top + self.height + self.bottom
        return drawing(self.parts, width, height, words)


def drawing(parts: Iterable[str], width: float, height: float, words: str) -> str:
    """Parts of charts as one drawing."""
    size = f'viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" height="{height:.0f}"'
    opened = f'<svg {size} font-size="12" fill="currentColor" role="img" aria-label="{escape(words)}">'
    return f"{opened}{''.join(parts)}</svg>"


def _through(points: Numbers) -> str:
    """An SVG path through points."""
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
