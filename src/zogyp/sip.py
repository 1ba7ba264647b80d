"""A map onto a grid with a sky, written as the image's own header: TAN, and SIP where it bends."""

from __future__ import annotations

from typing import Any

import numpy as np
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.wcs import WCS
from numpy.typing import NDArray

from zogyp.core.transform import Transform
from zogyp.headers import quiet

F8 = NDArray[np.float64]
EXACT = 0.01  # px to which the map is followed
HIGHEST = 9  # order of SIP
POINTS = 40  # per axis, at which the map is sampled


def sip_header(
    transform: Transform, grid_wcs: Any, shape: tuple[int, int]
) -> tuple[fits.Header, float] | None:
    """Celestial coordinates of an image that a transform brings onto a grid.

    Parameters
    ----------
    transform : Transform
        From the grid's pixels to the image's.
    grid_wcs : WCS or None
        Of the grid.
    shape : (ny, nx)
        Of the image.

    Returns
    -------
    header : Header
        TAN about the image's middle, with SIP terms and their inverse of the lowest order that does.
    error : float
        Largest distance of the header's map from the transform [px].
    None
        The grid has no celestial coordinates, or none for this image.
    """
    if grid_wcs is None:
        return None
    ny, nx = shape
    x, y = (a.ravel() for a in np.meshgrid(np.linspace(0, nx - 1, POINTS), np.linspace(0, ny - 1, POINTS)))
    middle = np.array([(nx - 1) / 2, (ny - 1) / 2])
    with quiet():
        sky = grid_wcs.pixel_to_world(*transform.inverse(np.append(x, middle[0]), np.append(y, middle[1])))
    if not isinstance(sky, SkyCoord):
        return None
    lon, lat = sky.icrs.ra.deg, sky.icrs.dec.deg
    if not np.isfinite(lon[-1]):
        return None
    plane = _tangent_plane(lon[-1], lat[-1])
    with quiet():
        xi, eta = plane.wcs_world2pix(lon[:-1], lat[:-1], 0)
    known = np.isfinite(xi) & np.isfinite(eta)
    offset = np.column_stack([x, y])[known] - middle
    flat = np.column_stack([xi, eta])[known]
    size = float(np.abs(offset).max())
    for order in range(1, HIGHEST + 1):
        matrix, bend = _fit(offset, flat, order, size)
        error = _error(matrix, bend, offset, flat)
        if error < EXACT:
            break
    return _header(
        (lon[-1], lat[-1]), middle, matrix, _cards(matrix, bend, offset, flat, (order, size))
    ), error


def _tangent_plane(lon: float, lat: float) -> WCS:
    """Plane coordinates in degrees about a place of the sky."""
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.crval = [lon, lat]
    wcs.wcs.crpix = [1.0, 1.0]
    wcs.wcs.cdelt = [1.0, 1.0]
    return wcs


def _powers(order: int, lowest: int = 1) -> list[tuple[int, int]]:
    return [(d - q, q) for d in range(lowest, order + 1) for q in range(d + 1)]


def _design(offset: F8, order: int, size: float, lowest: int = 1) -> F8:
    u, v = offset.T / size
    return np.column_stack([u**p * v**q for p, q in _powers(order, lowest)])


def _fit(offset: F8, flat: F8, order: int, size: float) -> tuple[F8, F8]:
    """CD matrix [deg / px] and the bend of each point before it [px]; nothing moves in the middle."""
    found = np.linalg.lstsq(_design(offset, order, size), flat, rcond=None)[0]
    matrix = np.asarray(found[:2].T / size, dtype=np.float64)
    bend: F8 = _design(offset, order, size)[:, 2:] @ found[2:] @ np.linalg.inv(matrix).T
    return matrix, bend


def _error(matrix: F8, bend: F8, offset: F8, flat: F8) -> float:
    """Largest distance of the fit from the points [px]."""
    focal = flat @ np.linalg.inv(matrix).T
    return float(np.hypot(*(offset + bend - focal).T).max())


def _cards(matrix: F8, bend: F8, offset: F8, flat: F8, how: tuple[int, float]) -> dict[str, float]:
    """SIP's A, B and their inverse AP, BP; none for a flat map."""
    order, size = how
    if order < 2:
        return {}
    focal = flat @ np.linalg.inv(matrix).T
    forward = np.linalg.lstsq(_design(offset, order, size, 2), bend, rcond=None)[0]
    backward = np.linalg.lstsq(_design(focal, order, size), offset - focal, rcond=None)[0]
    cards: dict[str, float] = {}
    for names, found, lowest in ((("A", "B"), forward, 2), (("AP", "BP"), backward, 1)):
        for axis, name in enumerate(names):
            cards[f"{name}_ORDER"] = order
            for (p, q), value in zip(_powers(order, lowest), found[:, axis], strict=True):
                cards[f"{name}_{p}_{q}"] = float(value / size ** (p + q))
    return cards


def _header(place: tuple[float, float], middle: F8, matrix: F8, cards: dict[str, float]) -> fits.Header:
    suffix = "-SIP" if cards else ""
    header = fits.Header()
    header["CTYPE1"], header["CTYPE2"] = f"RA---TAN{suffix}", f"DEC--TAN{suffix}"
    header["RADESYS"] = "ICRS"
    header["CUNIT1"] = header["CUNIT2"] = "deg"
    header["CRVAL1"], header["CRVAL2"] = float(place[0]), float(place[1])
    header["CRPIX1"], header["CRPIX2"] = float(middle[0] + 1), float(middle[1] + 1)
    for i in (0, 1):
        for j in (0, 1):
            header[f"CD{i + 1}_{j + 1}"] = float(matrix[i, j])
    header.update(cards)
    return header
