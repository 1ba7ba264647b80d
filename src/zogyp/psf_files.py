"""PSFs in files: PSFEx's ``.psf``, images that carry their PSF, and plain FITS stamps in; ``.psf`` out."""

from __future__ import annotations

import warnings
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from zogyp import io
from zogyp.core.psfmodel import PSF, fwhm_of
from zogyp.errors import FileError, InputError, NoImageError
from zogyp.psf_cards import COLUMN, check, psf_cards, psf_inside, psf_of, psf_planes, square

__all__ = ["psf_planes", "read_psf", "write_psf"]

F8 = NDArray[np.float64]

TABLE = "PSF_DATA"  # the extension PSFEx writes
VARIANCE = "PSF_VARIANCE"  # our own extension, which other programs pass over
MOST_OFF = 1.0  # a stamp whose light lies farther from the middle [px] is not a PSF
WELL_CENTRED = 0.01  # below this offset [px] a stamp is left as it is


def read_psf(path: str | Path) -> PSF:
    """Read a PSF from a PSFEx ``.psf`` file or from a FITS stamp.

    Parameters
    ----------
    path : str or Path
        A ``.psf`` file of PSFEx (or of `write_psf`), an image of zogyp that carries its PSF (extension
        ``PSF``), or a FITS file whose first image is a stamp of one star without background, of any size,
        even or odd, not necessarily square.

    Returns
    -------
    PSF
        A stamp becomes a constant PSF of unit sum, on an odd square grid. Its windowed flux
        centroid is moved to the centre (quintic B-spline) if it lies within 1 px of the middle of
        the stamp, so that even and odd sizes, and either habit of centring, give the same PSF.

    Raises
    ------
    FileError
        No such file, not FITS, truncated.
    NoImageError
        Neither a PSFEx table nor an image within; or a cube.
    InputError
        Not finite, no positive sum, off-centre, or a polynomial other than one group in x and y.
    """
    path = Path(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", fits.verify.VerifyWarning)
            with fits.open(path, memmap=False) as hdus:
                return _from_hdus(path, hdus)
    except FileNotFoundError:
        raise FileError(path, "no such file") from None
    except InputError:
        raise
    except (OSError, ValueError, TypeError, KeyError, IndexError, Warning) as error:
        raise FileError(path, f"not a readable FITS file ({error})") from error


def _from_hdus(path: Path, hdus: fits.HDUList) -> PSF:
    """The PSF in an open FITS file."""
    names = tuple(f"{i} {h.name or 'PRIMARY'}" for i, h in enumerate(hdus))
    for hdu in hdus:
        if isinstance(hdu, fits.BinTableHDU) and COLUMN in hdu.columns.names:
            planes = np.asarray(hdu.data[COLUMN][0], dtype=np.float64)
            variance = np.asarray(hdus[VARIANCE].data, dtype=np.float32) if VARIANCE in hdus else None
            return psf_of(path, planes, hdu.header, variance)
    carried = psf_inside(path, hdus)
    if carried is not None:
        return carried
    for hdu in hdus:
        if hdu.is_image and hdu.data is not None:
            if hdu.data.ndim != 2:
                raise NoImageError(path, f"a PSF stamp must be 2-D, got {hdu.data.ndim} dimensions", names)
            return _from_stamp(path, np.asarray(hdu.data, dtype=np.float64))
    raise NoImageError(path, "neither a PSFEx table nor a 2-D stamp", names)


def _from_stamp(path: Path, stamp: F8) -> PSF:
    """A constant PSF of a stamp."""
    check(path, stamp, stamp)
    squared = square((stamp / stamp.sum())[None])[0]
    # the middle of an even side lies between two pixels, of which square() put the later at the centre
    middle = -0.5 * np.array([stamp.shape[1] % 2 == 0, stamp.shape[0] % 2 == 0])
    offset = _offset(squared, middle)
    off = float(np.hypot(*(offset - middle)))
    if not off <= MOST_OFF:
        raise InputError(
            f"{path}: the light of a PSF stamp must be centred within {MOST_OFF:g} px of its middle, "
            f"got {off:.1f} px. Cut the stamp around the star and take the background off."
        )
    if np.hypot(*offset) > WELL_CENTRED:
        squared = PSF(basis=squared[None].astype(np.float32)).at(0, 0, dx=-offset[0], dy=-offset[1])
    psf = PSF(basis=(squared / squared.sum())[None].astype(np.float32))
    return replace(psf, fwhm=fwhm_of(psf))


def _offset(stamp: F8, start: F8) -> F8:
    """x and y [px] of the light from pixel ``size // 2``, weighted by a Gaussian as wide as the star."""
    axis = np.arange(stamp.shape[0]) - stamp.shape[0] // 2.0
    area = float((stamp > 0.5 * stamp.max()).sum())
    width = max(2 * np.sqrt(area / np.pi) / 2.355, 0.8)
    x, y = start
    for _ in range(30):
        wx, wy = (np.exp(-0.5 * ((axis - c) / width) ** 2) for c in (x, y))
        total = wy @ stamp @ wx
        # twice, because the window pulls the mean half-way back to its own centre
        dx = 2 * (wy @ stamp @ (wx * (axis - x))) / total
        dy = 2 * ((wy * (axis - y)) @ stamp @ wx) / total
        x, y = x + dx, y + dy
        if not (np.hypot(dx, dy) > 1e-5 and np.hypot(x, y) < stamp.shape[0]):
            break
    return np.array([x, y])


def write_psf(path: str | Path, psf: PSF) -> Path:
    """Write a PSF as a ``.psf`` file that PSFEx, SExtractor and `read_psf` understand.

    Parameters
    ----------
    path : str or Path
        File to write; replaced only when the new one is complete.
    psf : PSF
        Its variance, if any, goes to an extension of its own.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    OutputError
        The file cannot be written.
    """
    path = Path(path)
    n, ny, nx = psf.basis.shape
    column = fits.Column(
        name=COLUMN,
        format=f"{psf.basis.size}E",
        dim=f"({nx}, {ny}, {n})",
        array=np.asarray(psf.basis, dtype=np.float32)[None],
    )
    table = fits.BinTableHDU.from_columns([column], name=TABLE)
    table.header.extend(psf_cards(psf))
    hdus = fits.HDUList([fits.PrimaryHDU(), table])
    if psf.variance is not None:
        hdus.append(fits.ImageHDU(np.asarray(psf.variance, dtype=np.float32), name=VARIANCE))
    buffer = BytesIO()
    hdus.writeto(buffer)
    with io.writing(path) as file:
        file.write(buffer.getbuffer())
    return path
