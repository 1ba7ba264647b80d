"""A PSF as planes and cards of a header: what ``.psf`` files and images that carry their PSF share.

PSFEx counts pixels from 1 and the centre of its planes is the middle of pixel ``size // 2``
counted from 0; its polynomial runs fastest in x, like `zogyp.core.psfmodel.polynomial`.

An image of zogyp may carry its PSF as the extension ``PSF``, a cube (n_terms, k, k) under the cards of a
``.psf`` file, and the PSF's own variance as the extension ``PSFVAR`` (k, k).
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from zogyp.core.psfmodel import PSF, fwhm_of, n_terms
from zogyp.errors import InputError
from zogyp.fitsbytes import Plane
from zogyp.headers import cleaned

F8 = NDArray[np.float64]

WRITER = "ZOGYPPSF"  # card of PSFs that zogyp wrote
COLUMN = "PSF_MASK"  # of PSFEx's table
EXTENSION, EXTENSION_VARIANCE = "PSF", "PSFVAR"


def psf_planes(psf: PSF) -> list[Plane]:
    """A PSF as planes that an image file may carry, for the ``extensions`` of `zogyp.io.write_image`.

    Parameters
    ----------
    psf : PSF

    Returns
    -------
    list of (name, ndarray, Header)
        ``PSF``, float32 (n_terms, k, k); ``PSFVAR``, float32 (k, k), where it has a variance.
    """
    header = fits.Header()
    header.extend(psf_cards(psf))
    planes: list[Plane] = [(EXTENSION, np.asarray(psf.basis, dtype=np.float32), header)]
    if psf.variance is not None:
        header = fits.Header([(WRITER, True, "Written by zogyp: variance of the unit-sum PSF")])
        planes.append((EXTENSION_VARIANCE, np.asarray(psf.variance, dtype=np.float32), header))
    return planes


def psf_inside(path: Path, hdus: fits.HDUList) -> PSF | None:
    """The PSF that an open image file carries; None when it has none that zogyp wrote.

    Raises
    ------
    InputError
        There is one, but it cannot be a PSF.
    """
    found: dict[str, Any] = {}
    for hdu in hdus:
        image = isinstance(hdu, fits.ImageHDU | fits.CompImageHDU)
        if image and hdu.name in (EXTENSION, EXTENSION_VARIANCE) and hdu.header.get(WRITER) is True:
            found.setdefault(hdu.name, hdu)
    if EXTENSION not in found:
        return None
    planes, spread = (None if h is None else h.data for h in map(found.get, (EXTENSION, EXTENSION_VARIANCE)))
    if planes is None:
        raise InputError(f"{path}: the extension {EXTENSION} is empty.")
    variance = None if spread is None else np.asarray(spread, dtype=np.float32)
    header, _ = cleaned(found[EXTENSION].header)
    return psf_of(path, np.asarray(planes, dtype=np.float64), header, variance)


def psf_of(path: Path, planes: F8, header: fits.Header, variance: NDArray[np.float32] | None) -> PSF:
    """The PSF of planes (n_terms, ny, nx) and their cards.

    Raises
    ------
    InputError
        They cannot be a PSF.
    """
    if planes.ndim == 2:
        planes = planes[None]
    if planes.ndim != 3:
        raise InputError(
            f"{path}: the planes of a PSF must be a cube (terms, y, x), got {planes.ndim} dimensions."
        )
    order, origin, scale = polynomial_of(path, header)
    if planes.shape[0] != n_terms(order):
        raise InputError(
            f"{path}: a polynomial of order {order} needs {n_terms(order)} planes, got {planes.shape[0]}."
        )
    sampling = float(header.get("PSF_SAMP", 1.0))
    if not 0 < sampling < np.inf:
        raise InputError(f"{path}: PSF_SAMP must be positive, got {sampling}.")
    check(path, planes, planes[0])
    ours = header.get(WRITER) is True
    chi2 = float(header.get("CHI2", np.nan))
    if ours and chi2 == 0:
        chi2 = np.nan
    basis = square(planes).astype(np.float32)
    if variance is not None and (variance.shape != basis.shape[1:] or not (variance >= 0).all()):
        raise InputError(f"{path}: the variance of a PSF must be {basis.shape[1:]} numbers of at least 0.")
    psf = PSF(
        basis=basis,
        order=order,
        origin=origin,
        scale=scale,
        sampling=sampling,
        variance=variance,
        n_stars=int(header.get("ACCEPTED", 0)),
        chi2=chi2,
    )
    # PSFEx's own PSF_FWHM is that of its sample of stars by half-light radii: a quarter off for wings
    known = header.get("PSF_FWHM") if ours else None
    return replace(psf, fwhm=float(known) if known else fwhm_of(psf))


def psf_cards(psf: PSF) -> list[tuple[str, Any, str]]:
    """Cards of a PSFEx table, of which the reader wants all but the names."""
    n, ny, nx = psf.basis.shape
    fwhm = psf.fwhm if np.isfinite(psf.fwhm) else fwhm_of(psf)
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


def polynomial_of(path: Path, header: fits.Header) -> tuple[int, tuple[float, float], tuple[float, float]]:
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


def check(path: Path, pixels: F8, constant: F8) -> None:
    """Refuse what cannot be a PSF."""
    bad = int((~np.isfinite(pixels)).sum())
    if bad:
        raise InputError(f"{path}: a PSF must be finite, {bad} of {pixels.size} values are not.")
    if min(constant.shape) < 3:
        raise InputError(f"{path}: a PSF must have at least 3 x 3 values, got {constant.shape}.")
    total = float(constant.sum())
    if not total > 1e-6 * float(np.abs(constant).sum()):
        raise InputError(f"{path}: a PSF must have a positive sum, got {total:g}.")


def square(planes: F8) -> F8:
    """Zero-pad planes (n, ny, nx) to one odd size, their centres ``size // 2`` on one another."""
    ny, nx = planes.shape[1:]
    k = max(ny, nx) | 1
    y, x = k // 2 - ny // 2, k // 2 - nx // 2
    return np.pad(planes, ((0, 0), (y, k - ny - y), (x, k - nx - x)))
