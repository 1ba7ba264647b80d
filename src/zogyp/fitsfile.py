"""A FITS file as it lies on disk: what it holds, and the pixels of one image as native floats.

Every way a file can be wrong ends here, as a typed error: missing, empty, truncated, not FITS,
claiming more than it holds. astropy reads the headers and decompresses tiles; plain pixels are read
straight into the result, piece by piece, so that a large image is in memory once.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import math
import os
import re
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from zogyp import lzw
from zogyp.core.planes import Store, empty
from zogyp.errors import FileError, NoImageError
from zogyp.headers import BROKEN, cleaned, inherited, quiet
from zogyp.scaling import STORED, Scaling

PIECE = 1 << 18  # pixels handled at a time: stays in the processor's cache
MOST_COMPRESSED = 5000  # no image worth reading is compressed further; more is a hostile header

# Extensions that are never the image: masks, weights, errors, models, tables of distortion.
ASIDE = frozenset(
    {
        "BPM", "DQ", "DQM", "MASK", "MSK", "BADPIX", "FLAG", "FLAGS", "WHT", "WGT", "WEIGHT", "IVAR", "IVM",
        "INVVAR", "ERR", "ERROR", "ERRORS", "SIGMA", "STDDEV", "RMS", "NOISE", "UNCERT", "VAR", "VARIANCE",
        "CON", "CTX", "D2IMARR", "WCSDVARR", "PSF", "PSFVAR", "BKG", "BACKGROUND", "SEG", "SEGMAP",
        "SEGMENTATION", "COVERAGE", "SAMP", "TIME", "AREA", "WMAP",
    }
)  # fmt: skip


@dataclass(frozen=True)
class Entry:
    """One header-and-data unit: its number, name, version, kind and axes (NAXIS1 first)."""

    index: int
    name: str
    version: int
    kind: str
    axes: tuple[int, ...]
    bitpix: int
    offset: int
    compression: str | None = None

    @property
    def shape(self) -> tuple[int, int] | None:
        """(ny, nx) when this is a two-dimensional image; further axes of length 1 do not count."""
        flat = len(self.axes) >= 2 and min(self.axes) > 0 and all(n == 1 for n in self.axes[2:])
        if self.kind != "image" or not flat:
            return None
        return self.axes[1], self.axes[0]

    @property
    def aside(self) -> bool:
        """Whether the name says that this is a mask, a weight, an error ... of another image."""
        return any(word in ASIDE for word in re.split(r"[^A-Z0-9]+", self.name))

    @property
    def label(self) -> str:
        """For messages, such as ``1 SCI,1 (image 544 x 522)``."""
        name = f" {self.name}" + (f",{self.version}" if self.index else "")
        axes = f" {' x '.join(map(str, self.axes))}" if self.axes and self.kind == "image" else ""
        return f"{self.index}{name if self.name else ''} ({self.kind}{axes})"


def split_path(path: str | os.PathLike[str]) -> tuple[Path, str | None]:
    """``file.fits[ext]`` as file and extension; a file whose real name has brackets wins."""
    text = os.fspath(path)
    whole = Path(text).expanduser()
    match = re.fullmatch(r"(.+?)\[([^\[\]]*)\]", text, flags=re.DOTALL)
    if match is None or os.path.exists(whole):  # unlike Path.exists, it never raises
        return whole, None
    return Path(match[1]).expanduser(), match[2].strip()


class FitsFile:
    """An open FITS file.

    Attributes
    ----------
    path : Path
    entries : list of Entry
        All that it holds.
    """

    def __init__(self, path: Path, source: BinaryIO, hdus: fits.HDUList, size: int) -> None:
        self.path = path
        self.source = source
        self.hdus = hdus
        self.size = size
        self.entries = [_entry(i, hdu) for i, hdu in enumerate(hdus)]

    def choose(self, ext: str | None) -> Entry:
        """The image asked for by number, name or ``NAME,VER``; else the first not set aside by its name.

        Raises
        ------
        NoImageError
        """
        if ext is not None:
            return self._asked(ext)
        images = [e for e in self.entries if e.shape is not None]
        if images:
            return next((e for e in images if not e.aside), images[0])
        reason = "no two-dimensional image"
        cube = next((e for e in self.entries if e.kind == "image" and len(e.axes) > 2), None)
        if cube is not None:
            axes = ", ".join(f"NAXIS{i} = {n}" for i, n in enumerate(cube.axes, start=1))
            reason += (
                f": extension {cube.index} has {len(cube.axes)} axes ({axes}); cut a plane out of it first"
            )
        raise NoImageError(self.path, reason, self.labels)

    @property
    def labels(self) -> tuple[str, ...]:
        """What the file holds, for messages."""
        return tuple(e.label for e in self.entries[:20]) + (("...",) if len(self.entries) > 20 else ())

    def _asked(self, ext: str) -> Entry:
        name, _, version = (part.strip().upper() for part in ext.partition(","))
        if ext.isdecimal():
            found = [e for e in self.entries if e.index == int(ext)]
        else:
            found = [e for e in self.entries if e.name == name and version in ("", str(e.version))]
        if not found:
            raise NoImageError(self.path, f"there is no extension [{ext}]", self.labels)
        images = [e for e in found if e.shape is not None]
        if not images:
            raise NoImageError(self.path, f"extension [{ext}] is no two-dimensional image", self.labels)
        return images[0]

    def own_header(self, entry: Entry) -> tuple[fits.Header, int]:
        """The readable cards of one unit, and the number of those that are not."""
        return cleaned(self.hdus[entry.index].header)

    def header(self, entry: Entry) -> fits.Header:
        """The readable cards of one unit with what it inherits from the primary header."""
        own, _ = self.own_header(entry)
        return inherited(own, cleaned(self.hdus[0].header)[0]) if entry.index else own

    def pixels(
        self, entry: Entry, dtype: type[np.floating[Any]] = np.float32, store: Store | None = None
    ) -> NDArray[Any]:
        """The image's values (ny, nx), scaled by BSCALE and BZERO, NaN where BLANK; kept in a store if given.

        Raises
        ------
        FileError
            The file ends before the image does, or its compressed tiles are damaged.
        HeaderError
            BSCALE or BZERO cannot be.
        """
        shape = entry.shape
        if shape is None:
            raise NoImageError(self.path, f"extension {entry.index} is no two-dimensional image", self.labels)
        self._check_size(entry)
        scaling = Scaling.of(self.own_header(entry)[0], entry.bitpix, self.path)
        if entry.compression is not None:
            values = scaling.apply(self._tiles(entry), dtype).reshape(shape)
            return values if store is None else store.kept(values)
        out = empty((shape[0] * shape[1],), dtype, store)
        stored = np.dtype(STORED[entry.bitpix])
        direct = scaling.plain and stored == out.dtype
        piece = out if direct else np.empty(min(PIECE, out.size), dtype=stored)
        self.source.seek(entry.offset)
        for a in range(0, out.size, PIECE):
            part = out[a : a + PIECE]
            raw = part if direct else piece[: part.size]
            self._fill(raw)
            if sys.byteorder == "little":
                raw.byteswap(inplace=True)
            if not direct:
                part[:] = scaling.apply(raw, dtype)
        return out.reshape(shape)

    def _fill(self, raw: NDArray[Any]) -> None:
        """Read the next bytes of the file into ``raw``."""
        view = raw.view(np.uint8).data
        done = 0
        while done < len(view):
            n = self.source.readinto(view[done:])  # type: ignore[attr-defined]
            if not n:
                raise FileError(self.path, "truncated: the file ends before its image does")
            done += n

    def _tiles(self, entry: Entry) -> NDArray[Any]:
        """The stored values of a tile-compressed image, in the machine's byte order."""
        with quiet():
            try:
                data = np.asarray(self.hdus[entry.index].data)
            except Exception as error:  # the exceptions of the decoders have no public name
                raise FileError(self.path, f"the compressed image is damaged: {_one_line(error)}") from error
        return data.astype(data.dtype.newbyteorder("="), copy=False)

    def _check_size(self, entry: Entry) -> None:
        """Refuse headers that claim more pixels than the file can hold, before any memory is asked for."""
        claimed = math.prod(entry.axes) * abs(entry.bitpix) // 8
        if entry.compression is not None and claimed > MOST_COMPRESSED * self.size:
            reason = f"the header claims {claimed:.3g} bytes of pixels, the compressed file has {self.size}"
            raise FileError(self.path, reason)


def _entry(index: int, hdu: Any) -> Entry:
    """Describe one unit, whatever its header holds."""
    header, _ = cleaned(hdu.header)
    compressed = isinstance(hdu, fits.CompImageHDU)
    naxis = header.get("NAXIS", 0)
    lengths = [header.get(f"NAXIS{i}", 0) for i in range(1, (naxis if isinstance(naxis, int) else 0) + 1)]
    axes = tuple(n if isinstance(n, int) else 0 for n in lengths)
    bitpix = header.get("BITPIX", 8)
    known = isinstance(hdu, fits.PrimaryHDU | fits.ImageHDU | fits.CompImageHDU)
    if known and not isinstance(hdu, fits.GroupsHDU) and bitpix in STORED:
        kind = "image" if axes and min(axes) > 0 else "no data"
    else:
        kind = "table" if isinstance(hdu, fits.BinTableHDU | fits.TableHDU) else "unknown"
    version = header.get("EXTVER", 1)
    return Entry(
        index=index,
        name=str(header.get("EXTNAME", "PRIMARY" if index == 0 else "")).strip().upper(),
        version=version if isinstance(version, int) else 1,
        kind=kind,
        axes=axes,
        bitpix=bitpix if bitpix in STORED else 8,
        offset=_where(hdu)[0],
        compression=str(getattr(hdu, "compression_type", "unknown")) if compressed else None,
    )


def _one_line(error: BaseException) -> str:
    """What an error says, in one line of bearable length."""
    return " ".join(str(error).split())[:200] or type(error).__name__


@contextmanager
def open_fits(path: Path) -> Iterator[FitsFile]:
    """Open a FITS file, plain or compressed as a whole (gzip, bzip2, xz, compress).

    Raises
    ------
    FileError
        Missing, no file, empty, not FITS, truncated or damaged.
    """
    with _source(path) as source:
        size = source.seek(0, os.SEEK_END)
        source.seek(0)
        start = source.read(9)
        if not start.startswith(b"SIMPLE"):
            raise FileError(path, f"not a FITS file: it starts with {start!r} instead of 'SIMPLE  ='")
        source.seek(0)
        with quiet():
            try:
                hdus = fits.open(source, memmap=False, lazy_load_hdus=False, do_not_scale_image_data=True)
                _ = len(hdus)
            except (*BROKEN, MemoryError, OverflowError, AssertionError) as error:
                raise FileError(
                    path, f"not a readable FITS file (truncated or damaged): {_one_line(error)}"
                ) from error
            file = FitsFile(path, source, hdus, size)
        _check_whole(file)
        try:
            yield file
        finally:
            with quiet():
                hdus.close(closed=False)


def _check_whole(file: FitsFile) -> None:
    """Refuse a file that ends before the last of its parts does; only the padding may lack."""
    end = 0
    for entry, hdu in zip(file.entries, file.hdus, strict=True):
        start, span = _where(hdu)
        if entry.kind == "image" and entry.compression is None:
            needed = entry.offset + math.prod(entry.axes) * abs(entry.bitpix) // 8
        else:
            needed = start + max(span - 2879, 0)
        if file.size < needed:
            reason = f"truncated: extension {entry.index} needs {needed} bytes, the file has {file.size}"
            raise FileError(file.path, reason)
        end = start + span
    file.source.seek(end)
    rest = file.source.read(1 << 20) if file.size > end > 0 else b""
    unfinished = all(rest[i : i + 8].rstrip() != b"END" for i in range(0, len(rest), 80))
    if rest and b"XTENSION".startswith(rest[:8]) and unfinished:
        raise FileError(file.path, f"truncated: the header of extension {len(file.entries)} does not end")


def _where(hdu: Any) -> tuple[int, int]:
    """Where the data of a unit begin in the file and how many bytes they span; zeros when it is corrupted."""
    if not hasattr(hdu, "fileinfo"):
        return 0, 0
    info = hdu.fileinfo()
    return info["datLoc"], info["datSpan"]


@contextmanager
def _source(path: Path) -> Iterator[BinaryIO]:
    """The bytes of the FITS file inside ``path``: the file itself, or its decompressed content in memory."""
    try:
        if path.is_dir():
            raise FileError(path, "is a directory, not a FITS file")
        if not path.exists():
            raise FileError(path, "there is no such file")
        if not path.is_file():
            raise FileError(path, "is not a regular file")
        file = path.open("rb")
    except (OSError, ValueError) as error:
        raise FileError(path, f"cannot be opened ({getattr(error, 'strerror', None) or error})") from error
    with file:
        magic = file.read(6)
        file.seek(0)
        if not magic:
            raise FileError(path, "is empty (0 bytes)")
        content = _content(path, file, magic)
        if content is None:
            yield file
        else:
            with io.BytesIO(content) as memory:
                yield memory


def _content(path: Path, file: BinaryIO, magic: bytes) -> bytes | None:
    """The decompressed bytes of a file compressed as a whole; None for any other."""
    try:
        if magic.startswith(b"\x1f\x8b"):
            with gzip.GzipFile(fileobj=file) as unzipped:
                return unzipped.read()
        if magic.startswith(b"BZh"):
            return bz2.decompress(file.read())
        if magic == b"\xfd7zXZ\x00":
            return lzma.decompress(file.read())
        if magic.startswith(b"\x1f\x9d"):
            return lzw.decompress(file.read())
    except (OSError, EOFError, ValueError, IndexError, MemoryError, zlib.error, lzma.LZMAError) as error:
        raise FileError(path, f"truncated or damaged compressed file: {_one_line(error)}") from error
    return None
