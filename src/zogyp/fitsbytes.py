"""A FITS image as bytes: header, pixels, further planes, the tables that its coordinates need.

Pixels are byte-swapped piece by piece, so that a large image is in memory once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, BinaryIO

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from zogyp.headers import quiet

Plane = tuple[str, NDArray[Any], fits.Header]  # name, pixels, cards

PIECE = 1 << 18  # pixels converted at a time
BLOCK = 2880  # bytes; a FITS file is made of such
BITPIX = {"f": (-32, ">f4"), "u2": (16, ">i2"), "i2": (16, ">i2"), "u1": (8, "u1"), "i4": (32, ">i4")}


def put(
    file: BinaryIO, data: NDArray[Any], cards: fits.Header, tables: list[Any], further: Sequence[Plane]
) -> None:
    """Write one image, further planes, and the tables that the coordinates need."""
    _put_plane(file, data, cards)
    for name, plane, own in further:
        _put_plane(file, plane, own, name)
    for table in tables:
        with quiet():
            file.write(table.header.tostring().encode("ascii"))
            values = np.ascontiguousarray(table.data).astype(np.dtype(table.data.dtype).newbyteorder(">"))
            file.write(values.tobytes())
            file.write(bytes(-values.nbytes % BLOCK))


def _put_plane(file: BinaryIO, data: NDArray[Any], cards: fits.Header, extension: str | None = None) -> None:
    """Write one image, the first or an extension, byte-swapped piece by piece."""
    data = np.atleast_2d(data)
    code = {"f": "f", "b": "u1"}.get(data.dtype.kind, data.dtype.str[1:])
    bitpix, stored = BITPIX.get(code, BITPIX["f"])
    kind = ("SIMPLE", True, "FITS") if extension is None else ("XTENSION", "IMAGE", "image extension")
    structure: list[tuple[str, Any, str]] = [
        kind,
        ("BITPIX", bitpix, "bits per pixel"),
        ("NAXIS", data.ndim, "axes"),
    ]
    structure += [(f"NAXIS{i}", n, "") for i, n in enumerate(data.shape[::-1], start=1)]
    if extension is None:
        structure += [("EXTEND", True, "")]
    else:
        structure += [
            ("PCOUNT", 0, ""),
            ("GCOUNT", 1, ""),
            ("EXTNAME", extension, "what this extension holds"),
        ]
    structure += [("BSCALE", 1, ""), ("BZERO", 32768, "unsigned")] if code == "u2" else []
    header = fits.Header([fits.Card(*card) for card in structure])
    with quiet():
        header.extend(cards.cards, unique=False, end=True)
        file.write(header.tostring().encode("ascii"))
    flat = data.reshape(-1)
    for a in range(0, flat.size, PIECE):
        part = flat[a : a + PIECE]
        if code == "u2":
            part = (part ^ np.uint16(0x8000)).view(np.int16)
        with np.errstate(over="ignore"):
            file.write(part.astype(stored).view(np.uint8).data)
    file.write(bytes(-flat.size * abs(bitpix) // 8 % BLOCK))
