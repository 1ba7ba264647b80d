"""Images that hand out some of their rows, so that many can be worked on in little memory.

A plain FITS file does so without being held. What cannot be read in parts (compressed, or with bad pixels
that another plane tells of) is read once and waits on disk as floats.
"""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from zogyp import companions, inputs
from zogyp.errors import FileError, OptionError, OutputError, ShapeError
from zogyp.fitsfile import Entry, FitsFile, open_fits, split_path
from zogyp.image import UNUSABLE, Flag, FloatImage, Image, MaskImage
from zogyp.inputs import Given
from zogyp.options import InputOptions
from zogyp.scaling import STORED, Scaling

HOLES = int(UNUSABLE & ~Flag.SATURATED)  # of a plain combination; see `opened_rows`
SPARE = 32  # bytes per pixel that reading some rows of an image needs for a moment


class Rows(Protocol):
    """An image that hands out its rows. Several threads may ask at once."""

    @property
    def shape(self) -> tuple[int, int]:
        """(ny, nx)."""

    @property
    def name(self) -> str:
        """For messages."""

    def rows(self, low: int, high: int) -> FloatImage:
        """Pixels (high - low, nx), NaN or infinite where unusable; not to be written to."""


@dataclass(frozen=True)
class ArrayRows:
    """An image in memory, or mapped into it.

    Attributes
    ----------
    data : ndarray, any real type and byte order, (ny, nx)
        What is not finite is unusable.
    mask : ndarray, uint16, (ny, nx) or None
        Bits of `zogyp.Flag`.
    unusable : int
        Those whose pixels must not be used.
    scale : float
        The values are divided by it.
    name : str
        For messages.

    Raises
    ------
    ShapeError
        The mask is not on the data's grid.
    OptionError
        The scale is 0 or not finite.
    """

    data: NDArray[Any]
    mask: MaskImage | None = None
    unusable: int = int(UNUSABLE)
    scale: float = 1.0
    name: str = "image"

    def __post_init__(self) -> None:
        if self.mask is not None and self.mask.shape != self.data.shape:
            raise ShapeError(f"the mask of {self.name}", self.mask.shape, self.data.shape)
        if self.scale == 0 or not math.isfinite(self.scale):
            raise OptionError("scale", self.scale, "a number other than 0")

    @property
    def shape(self) -> tuple[int, int]:
        """(ny, nx)."""
        ny, nx = self.data.shape
        return ny, nx

    def rows(self, low: int, high: int) -> FloatImage:
        """Pixels (high - low, nx), NaN or infinite where unusable; may be a view of ``data``."""
        part: FloatImage
        with np.errstate(over="ignore", invalid="ignore"):
            part = self.data[low:high].astype(np.float32, copy=False)
            if self.scale != 1:
                part = part / np.float32(self.scale)
        if self.mask is None:
            return part
        bad = (self.mask[low:high] & np.uint16(self.unusable)) != 0
        return np.where(bad, np.float32(np.nan), part) if bad.any() else part


@dataclass(frozen=True)
class FileRows:
    """An image on disk that is read by strips: one of a FITS file, or floats as they are in memory.

    Attributes
    ----------
    path : Path
    name : str
        For messages.
    shape : (int, int)
        (ny, nx).
    offset : int
        Of the first pixel in the file [bytes].
    scaling : Scaling
        How stored values become pixel values.
    swapped : bool
        Stored in the byte order of FITS, the most significant first; else in the machine's own.
    notes : tuple of str
        What was chosen or left out on opening.
    """

    path: Path
    name: str
    shape: tuple[int, int]
    offset: int
    scaling: Scaling
    swapped: bool = True
    notes: tuple[str, ...] = ()

    def rows(self, low: int, high: int) -> FloatImage:
        """Pixels (high - low, nx), NaN or infinite where unusable.

        Raises
        ------
        FileError
            The file is gone, shorter than it was, or cannot be read.
        """
        out = np.empty((high - low, self.shape[1]), dtype=np.float32)
        self.read(low, out)
        return out

    def read(self, low: int, out: FloatImage) -> None:
        """Fill a contiguous array (rows, nx) with the pixels from row ``low`` on; see `rows`."""
        native = np.dtype(STORED[self.scaling.bitpix])
        stored = native.newbyteorder(">" if self.swapped else "=")
        direct = self.scaling.plain and stored == out.dtype
        raw = out if direct else np.empty(out.shape, dtype=stored)
        self._fill(raw, self.offset + low * self.shape[1] * stored.itemsize)
        if direct:
            return
        if self.scaling.plain and native == out.dtype:
            out[:] = raw  # swaps the bytes several times faster than numpy's byteswap
        else:
            out[:] = self.scaling.apply(raw.astype(native, copy=False), np.float32)

    def _fill(self, raw: NDArray[Any], at: int) -> None:
        """Read the bytes of an array from a place in the file."""
        view, done = raw.view(np.uint8).reshape(-1).data, 0
        try:
            with self.path.open("rb", buffering=0) as file:
                file.seek(at)
                while done < len(view):
                    n = file.readinto(view[done:])
                    if not n:
                        raise FileError(self.path, "truncated: the file ends before its image does")
                    done += n
        except OSError as error:
            raise FileError(self.path, f"cannot be read ({error.strerror or error})") from error


def fill(source: Rows, low: int, out: FloatImage) -> None:
    """Fill a contiguous array (rows, nx) with pixels from row ``low`` on: what ``source.rows`` gives."""
    if isinstance(source, FileRows):
        source.read(low, out)  # spares a copy
    else:
        out[:] = source.rows(low, low + len(out))


def opened_rows(given: Given, options: InputOptions, scratch: Path) -> Rows:
    """An image ready to be read by strips.

    Unusable are pixels without a value, those that a mask, noise or weight plane calls bad, and cosmic rays.
    Saturated pixels are used, where the mask is our own or there is none: their value is a lower limit of the
    truth, and in images of one depth all that there is of a bright star; a hole would be worse.

    Parameters
    ----------
    given : path or Image
        A path as `zogyp.read` takes it. Of a plain file only the rows asked for are read. One that is
        compressed, or whose pixels a plane of its own or of ``options`` calls bad, is read at once.
    options : InputOptions
        ``mask``, ``noise`` and ``weight`` count.
    scratch : Path
        A folder, where pixels read at once are put; whoever made it removes it when the rows are done with.

    Raises
    ------
    InputError
        The file cannot be used, or no pixel of the `Image` can.
    ShapeError
        A mask, noise or weight is not on the image's grid.
    OutputError
        The folder is full or cannot be written to.
    """
    if isinstance(given, Image):
        image = inputs.opened(given, options)
        return ArrayRows(image.data, image.mask, unusable=HOLES, name=image.name)
    path, ext = split_path(given)
    name = path.name + (f"[{ext}]" if ext else "")
    with open_fits(path) as file:
        entry = file.choose(ext)
        shape = entry.axes[1], entry.axes[0]
        planes = companions.inside(file, entry)
        companions.from_files(options, shape, ext, planes)
        notes = (*_choice(file, entry, ext), *planes.notes)
        if planes.flags is not None:
            planes.add_bad((planes.flags & np.uint16(HOLES)) != 0)
        bad = planes.bad if planes.bad is not None and planes.bad.any() else None
        in_parts = entry.compression is None and not isinstance(file.source, io.BytesIO)
        if in_parts and bad is None:
            scaling = Scaling.of(file.own_header(entry)[0], entry.bitpix, path)
            return FileRows(path, name, shape, entry.offset, scaling, notes=notes)
        values: FloatImage = file.pixels(entry)
    if bad is not None:
        values[bad] = np.nan
    return _put_aside(values, scratch, name, notes)


def _choice(file: FitsFile, entry: Entry, ext: str | None) -> tuple[str, ...]:
    """Note that there were other images to choose from."""
    images = [e for e in file.entries if e.shape is not None and not e.aside]
    if ext is not None or len(images) < 2:
        return ()
    return (f"extension {entry.label} is used of a file with {len(images)} images",)


def _put_aside(values: FloatImage, scratch: Path, name: str, notes: tuple[str, ...]) -> FileRows:
    """Write pixels to a file of their own in the folder ``scratch``."""
    try:
        with NamedTemporaryFile(dir=scratch, suffix=".npy", delete=False) as file:
            np.save(file, values)
            offset = file.tell() - values.nbytes
    except OSError as error:
        raise OutputError(scratch, error.strerror or str(error)) from error
    shape = values.shape[0], values.shape[1]
    return FileRows(Path(file.name), name, shape, offset, Scaling(-32), swapped=False, notes=notes)
