"""What an overview shows of a subtraction: its planes made small, their colours, and its transients.

Nothing here draws.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zogyp.image import Image
from zogyp.products import Subtraction
from zogyp.show import canvas, pixels
from zogyp.show.colours import Indices, Scale

PANEL = 560  # most pixels of a plane along a panel's side; what a panel has on the screen
LIMIT = 7.0  # range of the colours of S_corr and D [sigma]
PEAK = 5.0  # beyond this a single pixel stays visible in a reduced picture [sigma]
MOST_MARKS = 400  # more circles than this hide what they point at
MOST_LABELS = 40


@dataclass(frozen=True)
class Masked:
    """An image as a plane that is NaN where a pixel is unusable; made of those parts that are asked for."""

    image: Image

    @property
    def shape(self) -> tuple[int, ...]:
        """(ny, nx)."""
        return self.image.shape

    def __getitem__(self, box: tuple[slice, slice], /) -> NDArray[np.float32]:
        part = Image(self.image.data[box], self.image.mask[box])
        return np.where(part.good, part.data, np.float32(np.nan))


@dataclass(frozen=True)
class Panel:
    """One plane of an overview.

    Attributes
    ----------
    title, label : what it is, and what its colours are.
    plane : (ny, nx), at most `PANEL` pixels a side.
    scale : the colours of its values.
    ticks : values to name beside the colours, rising.
    judged : whether any pixel has a value.
    """

    title: str
    label: str
    plane: NDArray[np.float32]
    scale: Scale
    ticks: list[float]
    judged: bool

    @property
    def picture(self) -> Indices:
        """Places of its colours in the palette, the top row first."""
        return self.scale.indices(self.plane)[::-1]


def overview_panels(subtraction: Subtraction, letters: int = 60) -> list[Panel]:
    """New image, reference, D and S_corr; of the images' names as many ``letters`` as there is room for."""
    unit = image_unit(subtraction)
    new, ref = (canvas.clean(image.name, letters) for image in (subtraction.new, subtraction.ref))
    return [
        _sky(Masked(subtraction.new), f"new: {new}", unit),
        _sky(Masked(subtraction.ref), f"reference: {ref}", unit),
        _signed(subtraction.D, "D: difference, noise of unit variance", "[sigma per pixel]"),
        _signed(subtraction.Scorr, "S_corr: significance of a point source", "[sigma]"),
    ]


def _sky(data: Masked, title: str, unit: str) -> Panel:
    """An image as asinh of its height above the sky."""
    sky, noise, top = pixels.sky_limits(data)
    plane = pixels.pool_mean(data, pixels.pool_factor(data.image.shape, PANEL)) - np.float32(sky)
    scale = Scale("sky", -noise, top, bend=5 * noise)
    ticks = [0.0, *_round_ticks(noise, top)]
    return Panel(title, f"above the sky of {sky:.5g} [{unit}]", plane, scale, ticks, judged=True)


def _round_ticks(noise: float, top: float) -> list[float]:
    """Powers of ten and their threefold between the noise and the top, thinned to at most four."""
    powers = range(int(np.floor(np.log10(noise))), int(np.floor(np.log10(top))) + 1)
    inside = [k for p in powers for k in (10.0**p, 3 * 10.0**p) if 3 * noise <= k <= top]
    return inside[:: max(1, -(-len(inside) // 4))] or [top]


def _signed(data: NDArray[np.float32], title: str, label: str) -> Panel:
    """A plane in units of its own noise, symmetric about zero."""
    ny, nx = data.shape
    plane = pixels.pool_peak(data, pixels.pool_factor((ny, nx), PANEL), PEAK)
    judged = bool(np.isfinite(plane).any() or np.isfinite(data).any())
    return Panel(title, label, plane, signed_scale(), [-5.0, -3.0, 0.0, 3.0, 5.0], judged)


def signed_scale() -> Scale:
    """The colours of D and S_corr."""
    return Scale("signed", -LIMIT, LIMIT)


def headline(subtraction: Subtraction) -> str:
    """One line: what was subtracted from what, how many transients, how wide S_corr is."""
    rows = transient_rows(subtraction)
    risen = sum(1 for row in rows if row["sign"] > 0)
    new, ref = canvas.clean(subtraction.new.name, 36), canvas.clean(subtraction.ref.name, 36)
    spread = measured_spread(subtraction)
    count = f"{len(rows)} transient{'' if len(rows) == 1 else 's'} ({risen} up, {len(rows) - risen} down)"
    wide = f"S_corr spread {spread:.3f}" if np.isfinite(spread) else "no pixel could be judged"
    return f"{new} minus {ref}:  {count},  {wide}"


def measured_spread(subtraction: Subtraction) -> float:
    """Robust spread of S_corr: the summary's, else measured here; nan when nothing can be judged."""
    known = subtraction.summary.get("scorr_mad")
    if isinstance(known, (int, float)) and np.isfinite(known):
        return float(known)
    return pixels.centre_and_spread(pixels.thin(subtraction.Scorr))[1]


def transient_rows(subtraction: Subtraction) -> list[dict[str, Any]]:
    """The transients as plain values; a masked or absent number is nan, an absent sign follows snr."""
    table = subtraction.transients
    columns = [_plain(table[name]) for name in table.colnames]
    rows = []
    for number, values in enumerate(zip(*columns, strict=True), start=1):
        row = dict(zip(table.colnames, values, strict=True))
        for name in ("x", "y", "snr", "flux", "flux_err", "mag", "mag_err", "ra", "dec"):
            row.setdefault(name, float("nan"))
        row.setdefault("id", number)
        row.setdefault("flags", 0)
        row.setdefault("sign", -1 if row["snr"] < 0 else 1)
        rows.append(row)
    return rows


def _plain(column: Any) -> list[Any]:
    """A table's column as Python values; masked is nan."""
    values = getattr(column, "value", column)  # of a Quantity
    return [float("nan") if value is None else value for value in values.tolist()]


def marked(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The transients that an overview marks, the most significant first."""
    return sorted(rows, key=lambda row: -abs(row["snr"]))[:MOST_MARKS]


def mark_size(n: int, longest: int) -> float:
    """Size of a mark among ``n``, as a share of the panel's longer side."""
    # one fortieth (less in a crowd), or 16 pixels of an image so small that its pixels are large
    return max(0.0255 if n <= 100 else 0.0162, min(0.139, 16 / longest))


def image_unit(subtraction: Subtraction) -> str:
    """Unit of the new image's pixels as its header states it, else ADU."""
    header = subtraction.new.header
    unit = header.get("BUNIT") if header is not None else None
    return canvas.clean(unit, 20) if isinstance(unit, str) and unit.strip() else "ADU"
