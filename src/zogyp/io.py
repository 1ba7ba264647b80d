"""FITS files in and out: the only place that opens or writes a file.

Reading takes any image a telescope writes and gives an `zogyp.image.Image`, or a typed error of one
line. Writing is atomic: a file gets its name when all of it is on the disk.
"""

from __future__ import annotations

import gzip
import json
import math
import os
import re
import shutil
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from zogyp import companions
from zogyp.core.masks import mark_from, without_values
from zogyp.core.planes import Store, like
from zogyp.errors import InputError, OutputError, PixelError
from zogyp.fitsbytes import Plane, put
from zogyp.fitsfile import Entry, FitsFile, open_fits, split_path
from zogyp.fitstiles import put_tiles
from zogyp.headers import carried, celestial, detector, quiet
from zogyp.image import Flag, FloatImage, Image
from zogyp.obstime import mid_exposure
from zogyp.options import InputOptions


def read(
    path: str | os.PathLike[str], options: InputOptions | None = None, *, name: str | None = None
) -> Image:
    """Read an image, its mask and its variance, and what the header says of them.

    Parameters
    ----------
    path : str or path
        A FITS file, plain, multi-extension, tile-compressed (``.fz``), or compressed as a whole (gzip,
        bzip2, xz, ``.Z``). ``file.fits[ext]`` asks for an extension by number, name or ``NAME,VER``; else the
        first two-dimensional image is taken that is not, by its name, a mask or the like.
    options : InputOptions
        What overrides or completes the header.
    name : str
        For messages; default: the file's name.

    Returns
    -------
    Image
        float32 pixels (ny, nx), NaN where there are none (`Flag.NO_DATA`); `Flag.SATURATED` at and above
        the saturation level; `Flag.BAD` where a mask, noise or weight plane says so. Noise, weight and mask
        come from the files of ``options``, else from extensions of the same file whose names leave no
        doubt (`zogyp.companions`). What zogyp wrote beside the pixels comes back as it was: the bits of the
        mask, whether the variance is per unit frequency (``resampled``), the PSF. ``notes`` tells what was
        chosen or left out.

    Raises
    ------
    FileError, NoImageError, HeaderError, PixelError, ShapeError, OptionError
    """
    return read_into(None, path, options or InputOptions(), name)


def read_into(
    store: Store | None, path: str | os.PathLike[str], options: InputOptions, name: str | None = None
) -> Image:
    """`read`, the planes kept in a store, if one is given, as are those that will be made of them."""
    file_path, ext = split_path(path)
    label = name or file_path.name + (f"[{ext}]" if ext else "")
    with open_fits(file_path) as file:
        entry = file.choose(ext)
        data: FloatImage = file.pixels(entry, store=store)
        own, dropped = file.own_header(entry)
        header = file.header(entry)
        found = detector(header, options, label)
        wcs, note = celestial(own, file.hdus)
        planes = companions.inside(file, entry)
        notes = _choice(file, entry, ext)
    companions.from_files(options, data.shape, ext, planes)
    notes += found.notes + planes.notes + ([note] if note else [])
    if dropped:
        notes.append(f"{dropped} cards of the header cannot be read and were left out")
    image = Image(
        data=data,
        mask=like(data, np.uint16),  # to be filled
        variance=planes.variance if store is None or planes.variance is None else store.kept(planes.variance),
        wcs=wcs,
        header=header,
        gain=found.gain,
        read_noise=found.read_noise,
        saturation=found.saturation,
        zero_point=found.zero_point,
        name=label,
        notes=tuple(notes),
        exptime=found.exptime,
        path=str(path),
        resampled=planes.resampled,
        psf=planes.psf,
        mjd=mid_exposure(header, found.exptime),
    )
    return _flagged(image, planes, trusted=options.saturation is not None)


def read_plane(
    path: str | os.PathLike[str], *, shape: tuple[int, int] | None = None, what: str = "image"
) -> FloatImage:
    """The pixels of any two-dimensional image: float32 (ny, nx), NaN where there are none.

    Raises
    ------
    ShapeError
        ``shape`` is given and differs.
    FileError, NoImageError, HeaderError
    """
    return companions.plane(path, shape, what)


def stem(name: str) -> str:
    """A file's name without folder, ``[ext]`` and endings: ``a/b.fits.fz[SCI]`` gives ``b``."""
    name = re.sub(r"\[[^\[\]]*\]$", "", re.split(r"[/\\]", name)[-1])
    return re.sub(r"(?:\.(?:fits?|fts|imh|gz|fz|z|bz2|xz))+$", "", name, flags=re.IGNORECASE) or "image"


def _choice(file: FitsFile, entry: Entry, ext: str | None) -> list[str]:
    """Note that there were other images to choose from."""
    others = [e for e in file.entries if e.shape is not None and not e.aside and e.index != entry.index]
    others = [e for e in others if entry.index or e.name != "FLUX"]  # a coadd's own pixels in another unit
    if ext is not None or not others:
        return []
    return [f"extension {entry.label} is used; others: {', '.join(e.label for e in others[:5])}"]


def _flagged(image: Image, planes: companions.Companions, *, trusted: bool) -> Image:
    """Fill the mask, and refuse pixels that no one can use.

    A saturation level of the header that condemns more than half of the image is not ``trusted``.
    """
    data, mask, bad = image.data, image.mask, planes.bad
    n_good, low, high = without_values(data, np.uint16(Flag.NO_DATA), mask)
    if n_good == 0:
        raise PixelError(image.name, "no pixel has a value: all are NaN, blank or infinite", 0, data.size)
    if low == high:
        raise PixelError(image.name, f"constant image: every pixel is {low:g}", n_good, data.size)
    if planes.flags is not None:
        # bad pixels were written as NaN: that alone does not make them a border of the coverage
        mask[planes.flags & np.uint16(Flag.BAD) != 0] = 0
        mask |= planes.flags
    if image.saturation is not None and high >= image.saturation:
        level = np.float32(image.saturation)
        if np.count_nonzero(data >= level) > n_good / 2 and not trusted:
            note = f"the header's saturation {image.saturation:g} would condemn most pixels: ignored"
            image = replace(image, saturation=None, notes=(*image.notes, note))
        else:
            mark_from(data, level, np.uint16(Flag.SATURATED), mask)
    if bad is not None:
        mask[bad] |= np.uint16(Flag.BAD)
    if mask.all():
        raise PixelError(image.name, "every pixel is bad, saturated or without a value", 0, data.size)
    return image


def describe(path: str | os.PathLike[str], options: InputOptions | None = None) -> dict[str, Any]:
    """What a FITS file holds, and what `read` makes of it with ``options``, ready for JSON.

    Returns
    -------
    dict
        ``path, bytes, extensions: [{index, name, version, kind, axes, bitpix, compression, used}]``,
        ``image``: ``{name, shape, gain, read_noise, saturation, zero_point, exptime, mjd,
        n_unusable, has_variance, minimum, median, maximum, projection, center [deg], scale [arcsec/px],
        notes}``
        or None, and then ``error`` says why.

    Raises
    ------
    FileError
    """
    file_path, ext = split_path(path)
    with open_fits(file_path) as file:
        entries = list(file.entries)
        used = None
        with suppress(InputError):
            used = file.choose(ext).index
    shown = ("index", "name", "version", "kind", "axes", "bitpix", "compression")
    extensions = [{k: getattr(e, k) for k in shown} | {"used": e.index == used} for e in entries]
    n_bytes = file_path.stat().st_size
    about: dict[str, Any] = {"path": str(file_path), "bytes": n_bytes, "extensions": extensions}
    try:
        about |= {"image": _figures(read(path, options)), "error": None}
    except InputError as error:
        about |= {"image": None, "error": str(error)}
    result: dict[str, Any] = json_ready(about)
    return result


def _figures(image: Image) -> dict[str, Any]:
    """The figures of one image for `describe`."""
    keys = ("name", "shape", "gain", "read_noise", "saturation", "zero_point", "exptime", "mjd")
    good = image.data[image.good]
    figures = {key: getattr(image, key) for key in keys}
    figures |= {"n_unusable": image.data.size - good.size, "has_variance": image.variance is not None}
    figures |= {"minimum": good.min(), "median": np.median(good), "maximum": good.max()}
    projection = center = scale = None
    if image.wcs is not None:
        with quiet():
            sky = image.wcs.pixel_to_world((image.shape[1] - 1) / 2, (image.shape[0] - 1) / 2)
            axes = np.array(image.wcs.proj_plane_pixel_area().to_value("arcsec2"))
        projection, scale = str(image.wcs.wcs.ctype[0]), float(np.sqrt(axes))
        center = [sky.spherical.lon.deg, sky.spherical.lat.deg]
    return figures | {"projection": projection, "center": center, "scale": scale, "notes": list(image.notes)}


def json_ready(value: Any) -> Any:
    """Plain Python values that JSON knows: NaN and infinity become None, arrays lists, paths text."""
    if isinstance(value, dict):
        return {str(k): json_ready(v) for k, v in value.items()}
    if isinstance(value, list | tuple | set | np.ndarray):
        return [json_ready(v) for v in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def make_folder(folder: str | os.PathLike[str]) -> Path:
    """Make a folder and those above it, if they are not there.

    Raises
    ------
    OutputError
    """
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(Path(folder), error.strerror or str(error)) from error
    return Path(folder)


@contextmanager
def writing(path: str | os.PathLike[str], *, overwrite: bool = True) -> Iterator[BinaryIO]:
    """A binary file that becomes ``path`` when all of it is on the disk; on any error it is gone.

    Raises
    ------
    OutputError
        The folder cannot be written to or is full; ``path`` is a directory, or exists and may not be
        overwritten.
    """
    path = Path(path)
    if os.path.isdir(path):  # os.path: unlike Path's methods these never raise
        raise OutputError(path, "it is a directory")
    if os.path.exists(path) and not overwrite:
        raise OutputError(path, "it exists already")
    temporary = path.with_name(f".{uuid.uuid4().hex}.part")
    try:
        with temporary.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise OutputError(path, error.strerror or str(error)) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


@contextmanager
def staging(directory: str | os.PathLike[str]) -> Iterator[Path]:
    """A folder inside ``directory`` whose files move up together at the end; none of them on an error.

    Raises
    ------
    OutputError
    """
    directory = Path(directory)
    stage = directory / f".{uuid.uuid4().hex}.part"
    made = not os.path.exists(directory)
    done = False
    try:
        stage.mkdir(parents=True)
        yield stage
        targets = {file: directory / file.name for file in sorted(stage.iterdir())}
        for target in targets.values():
            if target.is_dir():
                raise OutputError(target, "it is a directory")
        for file, target in targets.items():
            file.replace(target)
        done = True
    except OutputError as error:
        raise OutputError(directory / Path(error.path).name, error.reason) from error
    except OSError as error:
        raise OutputError(directory, error.strerror or str(error)) from error
    finally:
        shutil.rmtree(stage, ignore_errors=True)
        if made and not done:
            with suppress(OSError):
                directory.rmdir()


def write_image(
    path: str | os.PathLike[str],
    data: NDArray[Any],
    header: fits.Header | None = None,
    wcs: Any = None,
    *,
    extensions: Sequence[Plane] = (),
    tables: Sequence[fits.BinTableHDU] = (),
    overwrite: bool = True,
) -> Path:
    """Write one image, atomically: floats as float32, masks as integers.

    Parameters
    ----------
    path : str or path
        ``.gz`` at its end compresses the file as a whole, ``.fz`` its images by tiles (`zogyp.fitstiles`).
    data : ndarray (..., ny, nx)
    header : Header, optional
        Cards to keep; those that describe the old file's structure and coordinates are dropped.
    wcs : WCS, optional
        Coordinates of the pixels written. Without it the file has none, whatever the header says.
    extensions : sequence of (name, ndarray, Header)
        Further planes. Those of the image's shape show the same pixels and get the same coordinates; those of
        any other shape, a PSF for one, get none.
    tables : sequence of BinTableHDU
        Tables at the end of the file.

    Raises
    ------
    OutputError
    """
    path = Path(path)
    cards, lookup = carried(header, wcs)
    # coordinates that need tables are told once, in the first header
    beside = None if lookup else wcs
    further = [
        (name, plane, carried(own, beside if plane.shape == np.shape(data) else None)[0])
        for name, plane, own in extensions
    ]
    with writing(path, overwrite=overwrite) as file:
        if path.suffix.lower() == ".fz":
            put_tiles(file, np.asarray(data), cards, [*lookup, *tables], further)
        elif path.suffix.lower() == ".gz":
            with gzip.GzipFile(filename="", mode="wb", fileobj=file, compresslevel=4, mtime=0) as packed:
                put(packed, np.asarray(data), cards, [*lookup, *tables], further)  # type: ignore[arg-type]
        else:
            put(file, np.asarray(data), cards, [*lookup, *tables], further)
    return path


def write_text(path: str | os.PathLike[str], text: str) -> Path:
    """Write a text file, atomically, in UTF-8."""
    with writing(path) as file:
        file.write(text.encode())
    return Path(path)


def write_json(path: str | os.PathLike[str], value: Any) -> Path:
    """Write valid JSON, atomically: NaN and infinity become null."""
    return write_text(path, json.dumps(json_ready(value), indent=2, allow_nan=False) + "\n")
