"""The 1.x co-addition by its old names. New programs call `zogyp.coadd` and `zogyp.median`."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Iterable, Mapping, Sequence, Set
from datetime import UTC, datetime
from hashlib import blake2b
from pathlib import Path

import numpy as np
from astropy.io import fits

from zogyp import __version__, io
from zogyp.coadd_files import FORMAT, write_coadd
from zogyp.coaddition import coadd
from zogyp.combination import median
from zogyp.errors import FileError, InputError, OptionError, OutputError
from zogyp.fitsfile import open_fits, split_path
from zogyp.headers import put, without_detector
from zogyp.image import FloatImage, Image
from zogyp.survey.filelists import in_folder

COAD, MED_COMB = "_COAD", "_MED_COMB"  # what the names of the results end with, before .fits
FILE_ENDING = re.compile(r"\.(?:fits?|fts)(?:\.(?:fz|gz|z|bz2|xz))?$", re.IGNORECASE)
File = str | os.PathLike[str]
Files = File | Iterable[File]


def prop_coad(coadd_ims: Files, make_fits: bool = False) -> FloatImage | tuple[str, FloatImage]:
    """Proper coadd R of exposures of one field, on the pixels of the first.

    Parameters
    ----------
    coadd_ims : list of paths, or ["directory"]
        FITS files, with whatever shift, rotation or scale; they are only read. A directory stands for the
        FITS files in it, by name, but for those that are results of a co-addition. One path will do, too.
        An exposure that cannot be used is left out with a warning; so is one that comes twice, the second
        time.
    make_fits : bool
        Write ``<first>_COAD.fits`` beside the first file, ``x_COAD.fits`` beside ``x.fits``; replaced if it
        exists. It holds the PSF too, and all else that makes it a reference image for `zogyp.subtract`.

    Returns
    -------
    ndarray, float32, (ny, nx)
        R: white noise of unit variance, NaN where no exposure has a usable pixel. With ``make_fits`` the
        tuple of the file's name and R.

    Raises
    ------
    FileError
        No exposure in a directory.
    OptionError
        Nothing is listed.
    OutputError
        The result would replace one of the files listed, or cannot be written.
    ZogypError
        No exposure can be used.
    """
    names = _listed(coadd_ims)
    path = _beside(names, COAD) if make_fits else None
    result = coadd([Path(name) for name in names])
    for out in result.summary["left_out"]:
        reason = str(out["reason"]).removeprefix(f"{out['path']}: ")
        warnings.warn(f"{out['path']} cannot be used and is left out: {reason}", UserWarning, stacklevel=2)
    for again in result.summary["duplicates"]:
        warnings.warn(f"an exposure comes twice and is counted once: {again}", UserWarning, stacklevel=2)
    return result.R if path is None else (str(write_coadd(path, result)), result.R)


def med_comb(med_ims: Files, make_fits: bool = False) -> FloatImage | tuple[str, FloatImage]:
    """Median of images that share their pixels: no alignment, no scaling, no sky taken off.

    Parameters
    ----------
    med_ims : list of paths, or ["directory"]
        As for `prop_coad`, but all of one shape, and an image that cannot be used is an error.
    make_fits : bool
        Write ``<first>_MED_COMB.fits`` beside the first file; replaced if it exists.

    Returns
    -------
    ndarray, float32, (ny, nx)
        In the unit of the images, NaN where none has a value. With ``make_fits`` the tuple of the file's
        name and the median.

    Raises
    ------
    ShapeError
        The images differ in shape.
    InputError
        An image cannot be used, or there is none in a directory.
    OptionError
        Nothing is listed.
    OutputError
        The result would replace one of the files listed, or cannot be written.
    """
    names = _listed(med_ims)
    path = _beside(names, MED_COMB) if make_fits else None
    kept, duplicates = _once(names)
    for again in duplicates:
        warnings.warn(f"an image comes twice and is counted once: {again}", UserWarning, stacklevel=2)
    image = median(kept)
    if path is None:
        return image.data
    return str(io.write_image(path, image.data, _cards(image, kept), image.wcs)), image.data


def _listed(given: Files) -> list[str]:
    """Names of files, a directory replaced by the exposures in it.

    Raises
    ------
    FileError
        A directory without exposures.
    OptionError
        Nothing is named.
    """
    if isinstance(given, str | os.PathLike):
        given = [given]
    if isinstance(given, Set | Mapping | Image | bytes) or not isinstance(given, Iterable):
        raise TypeError(f"images must be a list of paths, or of one directory, not {type(given).__name__}")
    found: list[str] = []
    for one in given:
        if not isinstance(one, str | os.PathLike):
            raise TypeError(f"an image must be named by a path, not {type(one).__name__}")
        folder = os.path.expanduser(os.fspath(one))
        found += _exposures(folder) if os.path.isdir(folder) else [str(os.fspath(one))]
    if not found:
        raise OptionError("images", "none", "one at least")
    return found


def _exposures(folder: str) -> list[str]:
    """The FITS files of a directory, without the results of co-additions."""
    files = in_folder(folder)
    exposures = [path for path in files if not _is_result(path)]
    if not exposures:
        many = f"{len(files)} FITS files" if len(files) > 1 else "one FITS file"
        raise FileError(folder, f"no exposure in this folder, but {many} that co-additions left; list them")
    return exposures


def _is_result(path: str) -> bool:
    """Whether a file is a coadd or a median by its name, or a coadd by its header.

    A file that cannot be read is none: whoever uses it will tell.
    """
    if FILE_ENDING.sub("", path).endswith((COAD, MED_COMB)):
        return True
    try:
        with open_fits(Path(path)) as file:
            return FORMAT in file.header(file.choose(None))  # also of a coadd that was compressed since
    except InputError:
        return False


def _once(names: Sequence[str]) -> tuple[list[str], list[str]]:
    """Images without those of the very pixels of an earlier one, as `zogyp.coadd` has it; and what went.

    Raises
    ------
    InputError
    """
    first: dict[tuple[tuple[int, ...], bytes], str] = {}
    kept, again = [], []
    for name in names:
        pixels = np.ascontiguousarray(io.read_plane(name))
        key = pixels.shape, blake2b(pixels.data, digest_size=16).digest()
        if key in first:
            again.append(name if name == first[key] else f"{name} (the pixels of {first[key]})")
        else:
            first[key] = name
            kept.append(name)
    return kept, again


def _beside(names: Sequence[str], ending: str) -> Path:
    """The file that a result goes to, beside the first of the files listed.

    Raises
    ------
    FileError
        The first name is empty.
    OutputError
        It cannot be written, which is better known before than after the work; or it is listed.
    """
    first, _ = split_path(names[0])
    if not first.name:
        raise FileError(names[0], "is no name of a file")
    path = first.with_name(FILE_ENDING.sub("", first.name) + f"{ending}.fits")
    if os.path.isdir(path):
        raise OutputError(path, "it is a directory")
    if os.path.isdir(path.parent) and not os.access(path.parent, os.W_OK):
        raise OutputError(path, "the folder cannot be written to; make_fits=False gives the pixels alone")
    for name in names:
        source, _ = split_path(name)
        if os.path.exists(path) and os.path.exists(source) and path.samefile(source):
            raise OutputError(path, "it is one of the images; list it first, or rename it")
    return path


def _cards(image: Image, names: Sequence[str]) -> fits.Header:
    """The cards of the first image that still hold, and what the median is made of."""
    given = fits.Header() if image.header is None else image.header
    header = without_detector(given)
    header.remove(FORMAT, ignore_missing=True, remove_all=True)  # of a coadd among the images
    if "BUNIT" in given:
        put(header, "BUNIT", given["BUNIT"], "unit of the pixels")
    put(header, "COMBMET", "median", "how the images were combined")
    put(header, "NCOMBINE", len(names), "images in the median")
    put(header, "ZOGYPVER", __version__, "version of zogyp")
    put(header, "DATE", datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S"), "when this file was made, UTC")
    for line in (*image.notes, *(f"image {i}: {name}" for i, name in enumerate(names, start=1))):
        text = line.encode("ascii", "backslashreplace").decode()
        header.add_history("zogyp: " + "".join(c if c.isprintable() else " " for c in text))
    return header
