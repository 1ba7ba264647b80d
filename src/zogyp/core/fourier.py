"""Real Fourier transforms of images: where the centre goes, what a shift is, what a mean is.

Planes have shape (ny, nx) float32, their transforms (ny, nx // 2 + 1) complex64: the half of the
frequencies with f_x >= 0, of which the rest are complex conjugates. Nothing is normalised on the
way there; the inverse divides by ny nx. Convolution is therefore a plain product.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from zogyp.errors import ShapeError

Plane = NDArray[np.float32]
Spectrum = NDArray[np.complex64]


def forward(plane: Plane) -> Spectrum:
    """Transform a real plane (ny, nx) into its half spectrum (ny, nx // 2 + 1)."""
    result: Spectrum = fft.rfft2(plane, workers=1)
    return result


def inverse(spectrum: Spectrum, nx: int, *, overwrite: bool = False) -> Plane:
    """Transform a half spectrum back into a plane of ``nx`` columns; may destroy the spectrum."""
    result: Plane = fft.irfft2(spectrum, s=(spectrum.shape[0], nx), workers=1, overwrite_x=overwrite)
    return result


def fast_length(n: int) -> int:
    """The smallest length >= n whose real transform is quick."""
    return int(fft.next_fast_len(n, real=True))


def convolved(plane: Plane, stamp: NDArray[np.floating]) -> Plane:
    """A plane convolved with a stamp centred on its pixel k // 2; beyond the border there is nothing."""
    ny, nx = plane.shape
    shape = (fast_length(ny + stamp.shape[0]), fast_length(nx + stamp.shape[1]))
    padded = np.zeros(shape, np.float32)
    padded[:ny, :nx] = plane
    return inverse(forward(padded) * forward(embed(stamp, shape)), shape[1], overwrite=True)[:ny, :nx]


def embed(stamp: NDArray[np.floating], shape: tuple[int, int]) -> Plane:
    """Lay a stamp into a plane so that its pixel (ky // 2, kx // 2) falls on [0, 0].

    What lies left of or below the centre continues at the far end of the plane, so that the
    convolution by the plane moves nothing. A stamp larger than the plane is folded into it,
    as the periodicity of the transform wants.

    Parameters
    ----------
    stamp : (ky, kx)
    shape : (ny, nx)

    Returns
    -------
    (ny, nx) float32

    Raises
    ------
    ShapeError : the stamp is not two-dimensional.
    """
    if stamp.ndim != 2 or 0 in stamp.shape:
        raise ShapeError("the stamp", stamp.shape, (1, 1), "Any two-dimensional stamp will do.")
    ny, nx = shape
    ky, kx = stamp.shape
    rows = (np.arange(ky) - ky // 2) % ny
    columns = (np.arange(kx) - kx // 2) % nx
    plane = np.zeros(shape, dtype=np.float64)
    np.add.at(plane, (rows[:, None], columns[None, :]), stamp)
    return plane.astype(np.float32)


def stamp_of(plane: Plane, size: int) -> Plane:
    """The inverse of `embed`: a (size, size) stamp centred on size // 2 around the plane's [0, 0]."""
    ny, nx = plane.shape
    offsets = np.arange(size) - size // 2
    return plane[np.ix_(offsets % ny, offsets % nx)]


def phases(shape: tuple[int, int], shift: tuple[float, float]) -> tuple[Spectrum, Spectrum]:
    """Factors that move an image back by ``shift``: a star at x + shift_x comes to x.

    The spectrum is to be multiplied by ``rows[:, None] * columns[None, :]``. All factors have
    modulus 1, so white noise stays white. On the Nyquist frequency of an even side a wave and its
    conjugate are the same, and only the real factors +1 and -1 keep an image real: the sign of
    cos(pi shift) is taken, which is exact for whole pixels.

    Parameters
    ----------
    shape : (ny, nx)
    shift : (dx, dy) [px]

    Returns
    -------
    rows : (ny,) complex64
    columns : (nx // 2 + 1,) complex64
    """
    ny, nx = shape
    rows = np.exp(2j * np.pi * np.fft.fftfreq(ny) * shift[1])
    columns = np.exp(2j * np.pi * np.fft.rfftfreq(nx) * shift[0])
    if ny % 2 == 0:
        rows[ny // 2] = _sign(np.cos(np.pi * shift[1]))
    if nx % 2 == 0:
        columns[nx // 2] = _sign(np.cos(np.pi * shift[0]))
    return rows.astype(np.complex64), columns.astype(np.complex64)


def _sign(value: float) -> float:
    return -1.0 if value < 0 else 1.0


def half_weights(nx: int) -> NDArray[np.float64]:
    """How often each column of a half spectrum occurs in the full one: 1 or 2, shape (nx // 2 + 1,)."""
    weights = np.full(nx // 2 + 1, 2.0)
    weights[0] = 1.0
    if nx % 2 == 0:
        weights[-1] = 1.0
    return weights
