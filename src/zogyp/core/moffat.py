"""Elliptical Moffat profiles integrated over pixels: the stars of our simulated skies.

A star of flux f has the density ``f (beta - 1) / (pi a b) (1 + Q)^-beta`` with
``Q = q_xx x² + 2 q_xy x y + q_yy y²``, an ellipse of semi-axes a and b where Q = 1.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from zogyp.core.jit import compiled

CORE = 2.5  # FWHM within which a pixel is integrated by quadrature,
SHARP = 8.0  # and at least so many pixels: 1e-4 of what lies outside
REACH = 8.0  # FWHM to which even the faintest star is drawn; the brightest ten times as far
QUADRATURE = 5  # nodes per axis and pixel: 3e-6 of a pixel at a FWHM of 1.2 px


def shape_columns(
    fwhm: NDArray[np.float64], beta: float, ellipticity: NDArray[np.float64], angle: float
) -> NDArray[np.float64]:
    """Amplitude at unit flux, q_xx, q_xy, q_yy of each star: (n, 4).

    ``fwhm`` [px] is the geometric mean over the axes, ``ellipticity`` is 1 - b/a and
    ``angle`` [deg] turns the long axis from +x to +y.
    """
    alpha = fwhm / (2 * np.sqrt(2 ** (1 / beta) - 1))
    ratio = 1 - ellipticity
    long2, short2 = alpha**2 / ratio, alpha**2 * ratio
    c, s = np.cos(np.deg2rad(angle)), np.sin(np.deg2rad(angle))
    q_xx = c**2 / long2 + s**2 / short2
    q_yy = s**2 / long2 + c**2 / short2
    q_xy = c * s * (1 / long2 - 1 / short2)
    return np.stack([(beta - 1) / (np.pi * alpha**2), q_xx, q_xy, q_yy], axis=1)


def star_rows(
    position: tuple[NDArray[np.float64], NDArray[np.float64]],
    flux: NDArray[np.float64],
    fwhm: NDArray[np.float64],
    beta: float,
    shape: tuple[NDArray[np.float64], float],
    faint: float,
) -> NDArray[np.float64]:
    """What `add_stars` needs to know of n stars: (n, 9), sorted by y.

    ``position`` is (x, y) [px], ``shape`` is (ellipticity, angle [deg]), and a bright star's
    wing is drawn to where its density is ``faint`` [ADU/px].
    """
    rows = np.empty((flux.size, 9))
    rows[:, 0], rows[:, 1] = position
    rows[:, 2:6] = shape_columns(fwhm, beta, *shape)
    rows[:, 2] *= flux
    rows[:, 6] = beta
    wing = fwhm * (rows[:, 2] / faint) ** (1 / (2 * beta))
    rows[:, 7] = np.clip(wing, REACH * fwhm, 10 * REACH * fwhm)
    rows[:, 8] = np.maximum(CORE * fwhm, SHARP)
    return rows[np.argsort(rows[:, 1], kind="stable")]


def add_stars(image: NDArray[np.float32], first_row: int, stars: NDArray[np.float64]) -> None:
    """Add ``stars`` (n, 9) to the rows of an image that start at ``first_row``, in place."""
    node, weight = np.polynomial.legendre.leggauss(QUADRATURE)
    add_moffats(image, first_row, stars, node / 2, weight / 2)


@compiled
def add_moffats(
    image: NDArray[np.float32],
    first_row: int,
    stars: NDArray[np.float64],
    node: NDArray[np.float64],
    weight: NDArray[np.float64],
) -> None:
    """Add stars to the rows of an image that start at ``first_row``, in place.

    ``stars`` is (n, 9): x, y [px of the whole image], amplitude (peak density of the
    unintegrated profile), q_xx, q_xy, q_yy, beta, radius [px] beyond which nothing is
    added, and the core radius [px]. Within the core each pixel is integrated by
    Gauss-Legendre quadrature (``node``, ``weight`` on (-1/2, 1/2), summing to one);
    outside, where the profile is smooth, by its centre and the Laplacian / 24.
    """
    ny, nx = image.shape
    for i in range(stars.shape[0]):
        x, y, amplitude, qxx, qxy, qyy, beta, radius, core = stars[i]
        j0 = max(0, int(np.ceil(y - radius)) - first_row)
        j1 = min(ny, int(np.floor(y + radius)) + 1 - first_row)
        i0 = max(0, int(np.ceil(x - radius)))
        i1 = min(nx, int(np.floor(x + radius)) + 1)
        for j in range(j0, j1):
            v = j + first_row - y
            for k in range(i0, i1):
                u = k - x
                r2 = u * u + v * v
                if r2 > radius * radius:
                    continue
                total = 0.0
                if r2 < core * core:
                    for m in range(node.size):
                        vv = v + node[m]
                        for n in range(node.size):
                            uu = u + node[n]
                            q = qxx * uu * uu + 2 * qxy * uu * vv + qyy * vv * vv
                            total += weight[m] * weight[n] * (1 + q) ** (-beta)
                else:
                    q = 1 + qxx * u * u + 2 * qxy * u * v + qyy * v * v
                    slope2 = 4 * ((qxx * u + qxy * v) ** 2 + (qxy * u + qyy * v) ** 2)
                    laplacian = beta / q * (-2 * (qxx + qyy) + (beta + 1) / q * slope2)
                    total = q ** (-beta) * (1 + laplacian / 24)
                image[j, k] += amplitude * total
