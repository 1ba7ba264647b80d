"""How stored numbers become pixel values: BSCALE, BZERO and BLANK, and what float32 cannot hold."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from zogyp.errors import HeaderError

LARGEST = float(np.finfo(np.float32).max)
STORED = {8: "u1", 16: "i2", 32: "i4", 64: "i8", -32: "f4", -64: "f8"}  # numpy types by BITPIX


@dataclass(frozen=True)
class Scaling:
    """How stored values become pixel values: ``bzero + bscale * stored``, NaN where ``blank`` is stored."""

    bitpix: int
    bscale: float = 1.0
    bzero: float = 0.0
    blank: int | None = None

    @classmethod
    def of(cls, header: fits.Header, bitpix: int, path: Path) -> Scaling:
        """Read BSCALE, BZERO and BLANK and refuse what float32 cannot hold."""
        bscale = _scale_card(header, "BSCALE", 1, path)
        bzero = _scale_card(header, "BZERO", 0, path)
        blank = header.get("BLANK") if bitpix > 0 else None
        if isinstance(blank, bool) or not isinstance(blank, int):
            blank = None
        if bscale == 0:
            raise HeaderError(f"{path}: header keyword BSCALE", bscale, "other than 0")
        allowed = "small enough for the pixels to fit into float32"
        if bitpix > 0 and abs(bscale) * 2.0**bitpix + abs(bzero) > LARGEST:
            key = "BZERO" if abs(bzero) > abs(bscale) * 2.0**bitpix else "BSCALE"
            raise HeaderError(f"{path}: header keyword {key}", bzero if key == "BZERO" else bscale, allowed)
        # an offset so large that fewer than 256 of the 2^bitpix steps survive rounding to 24 bits
        if bitpix in (8, 16) and np.spacing(np.float32(abs(bzero))) > 2.0 ** (bitpix - 8) * abs(bscale):
            allowed = "small enough for float32 to tell the steps of BSCALE apart"
            raise HeaderError(f"{path}: header keyword BZERO", bzero, allowed)
        return cls(bitpix, bscale, bzero, blank)

    @property
    def plain(self) -> bool:
        """Whether the stored values are the pixel values."""
        return self.bscale == 1 and self.bzero == 0 and self.blank is None

    def apply(self, raw: NDArray[Any], dtype: type[np.floating[Any]]) -> NDArray[Any]:
        """Pixel values of stored ones, both in the machine's byte order."""
        with np.errstate(over="ignore", invalid="ignore"):
            if self.bscale == 1 and self.bzero == 0:
                out = raw.astype(dtype, copy=not raw.flags.writeable)
            elif self.bscale == 1 and self.bitpix > 8 and self.bzero == 2.0 ** (self.bitpix - 1):
                # unsigned integers, exactly: flip the sign bit; adding 2^63 in floats would lose the low bits
                unsigned = np.dtype(f"u{raw.dtype.itemsize}")
                out = (raw.view(unsigned) ^ unsigned.type(1 << (self.bitpix - 1))).astype(dtype)
            else:
                out = (raw * np.float64(self.bscale) + self.bzero).astype(dtype)
        if self.blank is not None:
            out[raw == self.blank] = np.nan
        return out


def _scale_card(header: fits.Header, key: str, default: float, path: Path) -> float:
    """BSCALE or BZERO as a float that float32 can hold."""
    value = header.get(key, default)
    if isinstance(value, fits.card.Undefined) or value is None:
        return float(default)
    good = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= LARGEST
    if not good:
        raise HeaderError(f"{path}: header keyword {key}", value, "a number that float32 can hold")
    return float(value)
