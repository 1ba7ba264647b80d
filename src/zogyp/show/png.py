"""A PNG file of 8-bit palette colours."""

from __future__ import annotations

import base64
import struct
import zlib

import numpy as np
from numpy.typing import NDArray

SIGNATURE = b"\x89PNG\r\n\x1a\n"
PALETTE_COLOURS = 3  # the kind of pixels, in the file's header


def encode(indices: NDArray[np.uint8], palette: NDArray[np.uint8]) -> bytes:
    """A picture as PNG.

    Parameters
    ----------
    indices : ndarray, uint8, (ny, nx)
        Each pixel's colour, by its place in the palette; the top row first.
    palette : ndarray, uint8, (n, 3)
        Red, green and blue of at most 256 colours.
    """
    ny, nx = indices.shape
    lines = np.zeros((ny, nx + 1), dtype=np.uint8)  # each line begins with the number of its filter: none
    lines[:, 1:] = indices
    header = struct.pack(">IIBBBBB", nx, ny, 8, PALETTE_COLOURS, 0, 0, 0)
    return SIGNATURE + b"".join(
        (
            _chunk(b"IHDR", header),
            _chunk(b"PLTE", palette.tobytes()),
            _chunk(b"IDAT", zlib.compress(lines.tobytes(), 4)),
            _chunk(b"IEND", b""),
        )
    )


def address(content: bytes) -> str:
    """A PNG as the address of an image in a page."""
    return "data:image/png;base64," + base64.b64encode(content).decode("ascii")


def _chunk(kind: bytes, content: bytes) -> bytes:
    """A piece of the file with its length before and its check sum behind it."""
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
