"""PSFs in files: PSFEx's ``.psf`` and plain FITS stamps in, ``.psf`` out.

PSFEx counts pixels from 1 and the centre of its planes is the middle of pixel ``size // 2``
counted from 0; its polynomial runs fastest in x, like `zogyp.core.psfmodel.polynomial`.
"""

from __future__ import annotations

import warnings
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from zogyp import io
from zogyp.core.psfmodel import PSF, n_terms
from zogyp.errors import FileError, InputError, NoImageError

F8 = NDArray[np.float64]

TABLE = "PSF_DATA"  # the extension PSFEx writes
WRITER = "ZOGYPPSF"
COLUMN = "PSF_MASK"  # and its column
VARIANCE = "PSF_VARIANCE"  # our own extension, which other programs pass over
MOST_OFF = 1.0  # a stamp whose light lies farther from the middle [px] is not a PSF
FINE = 7  # points per pixel and axis to measure a width on
WELL_CENTRED = 0.01  # below this offset [px] a stamp is left as it is


def read_psf(path: str | Path) -> PSF:
    """Read a PSF from a PSFEx ``.psf`` file or from a FITS stamp.

    Parameters
    ----------
    path : str or Path
        A ``.psf`` file of PSFEx (or of `write_psf`), or a FITS file whose first image is a stamp
        of one star without background, of any size, even or odd, not necessarily square.

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
            return _from_psfex(path, hdu, hdus)
    for hdu in hdus:
        if hdu.is_image and hdu.data is not None:
            if hdu.data.ndim != 2:
                raise NoImageError(path, f"a PSF stamp must be 2-D, got {hdu.data.ndim} dimensions", names)
            return _from_stamp(path, np.asarray(hdu.data, dtype=np.float64))
    raise NoImageError(path, "neither a PSFEx table nor a 2-D stamp", names)


def _from_psfex(path: Path, hdu: fits.BinTableHDU, hdus: fits.HDUList) -> PSF:
    """The PSF of a PSFEx table."""
    header = hdu.header
    planes = np.asarray(hdu.data[COLUMN][0], dtype=np.float64)
    if planes.ndim == 2:
        planes = planes[None]
    if planes.ndim != 3:
        raise InputError(f"{path}: {COLUMN} must be a cube (terms, y, x), got {planes.ndim} dimensions.")
    order, origin, scale = _polynomial(path, header)
    if planes.shape[0] != n_terms(order):
        raise InputError(
            f"{path}: a polynomial of order {order} needs {n_terms(order)} planes, got {planes.shape[0]}."
        )
    sampling = float(header.get("PSF_SAMP", 1.0))
    if not sampling > 0:
        raise InputError(f"{path}: PSF_SAMP must be positive, got {sampling}.")
    _check(path, planes, planes[0])
    variance = None
    if VARIANCE in hdus:
        variance = np.asarray(hdus[VARIANCE].data, dtype=np.float32)
    psf = PSF(
        basis=_square(planes).astype(np.float32),
        order=order,
        origin=origin,
        scale=scale,
        sampling=sampling,
        variance=variance,
        n_stars=int(header.get("ACCEPTED", 0)),
        chi2=float(header.get("CHI2", np.nan)),
    )
    # PSFEx's own PSF_FWHM is that of its sample of stars by half-light radii: a quarter off for wings
    known = header.get("PSF_FWHM") if WRITER in header else None
    return replace(psf, fwhm=float(known) if known else _fwhm(psf))


def _polynomial(path: Path, header: fits.Header) -> tuple[int, tuple[float, float], tuple[float, float]]:
    """Order, origin (0-based) and scale of the polynomial of a PSFEx header."""
    n_axes = int(header.get("POLNAXIS", 0))
    if n_axes == 0:
        return 0, (0.0, 0.0), (1.0, 1.0)
    names = [str(header.get(f"POLNAME{i + 1}", "")) for i in range(n_axes)]
    groups = int(header.get("POLNGRP", 1))
    if n_axes != 2 or groups != 1 or not (names[0].startswith("X") and names[1].startswith("Y")):
        raise InputError(
            f"{path}: the PSF must vary with x and y in one group, got {groups} group(s) of {names}. "
            "Run psfex with PSFVAR_KEYS X_IMAGE,Y_IMAGE and PSFVAR_GROUPS 1,1."
        )
    order = int(header.get("POLDEG1", 0))
    zero = (float(header["POLZERO1"]) - 1, float(header["POLZERO2"]) - 1)
    scale = (float(header["POLSCAL1"]), float(header["POLSCAL2"]))
    if not (np.isfinite([*zero, *scale]).all() and scale[0] != 0 and scale[1] != 0):
        raise InputError(f"{path}: POLZERO {zero} and POLSCAL {scale} must be finite and not zero.")
    return order, zero, scale


def _check(path: Path, pixels: F8, constant: F8) -> None:
    """Refuse what cannot be a PSF."""
    bad = int((~np.isfinite(pixels)).sum())
    if bad:
        raise InputError(f"{path}: a PSF must be finite, {bad} of {pixels.size} values are not.")
    if min(constant.shape) < 3:
        raise InputError(f"{path}: a PSF must have at least 3 x 3 values, got {constant.shape}.")
    total = float(constant.sum())
    if not total > 1e-6 * float(np.abs(constant).sum()):
        raise InputError(f"{path}: a PSF must have a positive sum, got {total:g}.")


def _square(planes: F8) -> F8:
    """Zero-pad planes (n, ny, nx) to one odd size, their centres ``size // 2`` on one another."""
    ny, nx = planes.shape[1:]
    k = max(ny, nx) | 1
    y, x = k // 2 - ny // 2, k // 2 - nx // 2
    return np.pad(planes, ((0, 0), (y, k - ny - y), (x, k - nx - x)))


def _from_stamp(path: Path, stamp: F8) -> PSF:
    """A constant PSF of a stamp."""
    _check(path, stamp, stamp)
    squared = _square((stamp / stamp.sum())[None])[0]
    # the middle of an even side lies between two pixels, of which _square put the later at the centre
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
    return replace(psf, fwhm=_fwhm(psf))


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


def _fwhm(psf: PSF) -> float:
    """Full width at half maximum [px] at the origin, from the area above half of the peak."""
    fine = (np.arange(FINE) - FINE // 2) / FINE
    x, y = psf.origin
    values = np.array([psf.at(x, y, dx=dx, dy=dy) for dx in fine for dy in fine])
    area = float((values > 0.5 * values.max()).sum()) / FINE**2
    return float(2 * np.sqrt(area / np.pi))


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
    table.header.extend(_cards(psf))
    hdus = fits.HDUList([fits.PrimaryHDU(), table])
    if psf.variance is not None:
        hdus.append(fits.ImageHDU(np.asarray(psf.variance, dtype=np.float32), name=VARIANCE))
    buffer = BytesIO()
    hdus.writeto(buffer)
    with io.writing(path) as file:
        file.write(buffer.getbuffer())
    return path


def _cards(psf: PSF) -> list[tuple[str, Any, str]]:
    """Header of a PSFEx table."""
    n, ny, nx = psf.basis.shape
    fwhm = psf.fwhm if np.isfinite(psf.fwhm) else _fwhm(psf)
    cards: list[tuple[str, Any, str]] = [
        ("LOADED", psf.n_stars, "Number of loaded sources"),
        ("ACCEPTED", psf.n_stars, "Number of accepted sources"),
        ("CHI2", psf.chi2 if np.isfinite(psf.chi2) else 0.0, "Final reduced chi2 (0: unknown)"),
        ("POLNAXIS", 2 if psf.order else 0, "Number of context parameters"),
    ]
    if psf.order:
        for i, name in enumerate(("X_IMAGE", "Y_IMAGE")):
            cards += [
                (f"POLGRP{i + 1}", 1, "Polynom group for this context parameter"),
                (f"POLNAME{i + 1}", name, "Name of this context parameter"),
                (f"POLZERO{i + 1}", psf.origin[i] + 1, "Offset, pixels counted from 1"),
                (f"POLSCAL{i + 1}", psf.scale[i], "Scale"),
            ]
    cards.append(("POLNGRP", 1 if psf.order else 0, "Number of context groups"))
    if psf.order:
        cards.append(("POLDEG1", psf.order, "Polynom degree for this group"))
    cards += [
        (WRITER, True, "Written by zogyp: PSF_FWHM is the model's"),
        ("PSF_FWHM", fwhm, "FWHM [pixels of the image]"),
        ("PSF_SAMP", psf.sampling, "Step of the planes [pixels of the image]"),
        ("PSFNAXIS", 3, "Dimensions of the planes"),
        ("PSFAXIS1", nx, "Columns of a plane"),
        ("PSFAXIS2", ny, "Rows of a plane"),
        ("PSFAXIS3", n, "Number of planes, terms of the polynomial"),
    ]
    return cards
