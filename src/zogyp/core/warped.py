"""The PSF that an image has after it was put onto another grid by `zogyp.core.resample`.

A star at output position x shows ``P_out(u) = |det J| (P_in * k)(J u)``, with J the Jacobian of the map at x
and k the interpolation kernel: the mean over all places of a star within its old pixel, of which single stars
differ where the old image is undersampled. Where output pixels are coarser, the mean over their sub-positions
comes on top.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy.fft import fftfreq, irfft2, rfft2, rfftfreq
from scipy.ndimage import map_coordinates, spline_filter

from zogyp.core.fourier import fast_length
from zogyp.core.kernels import kernel
from zogyp.core.psfmodel import PSF, SPLINE, fwhm_of, polynomial
from zogyp.core.resample import Lattice, sub_positions
from zogyp.core.transform import Transform

F8 = NDArray[np.float64]

STEP = 16  # px between the positions of a grid that are mapped exactly; bilinear in between
DENSE = 64  # positions per axis at which the coverage is looked up
NODES = 5  # positions per axis at which the PSF is warped, at least
FAINT = 1e-3  # weight of a position outside of the old image: only where nothing else decides
RAISED = 2  # orders by which a distortion may raise that of the polynomial
LEFT = 3e-4  # of the PSF's norm that the polynomial may leave before its order is raised
ALIKE = 0.1  # relative difference of scale below which the step of the PSF's grid stays
BEYOND = 12.0  # px that kernel and sub-positions reach beyond a PSF
PHASES = 32  # places in a pixel over which a kernel is averaged


def warped(
    psf: PSF,
    transform: Transform,
    shape: tuple[int, int],
    kernel_name: str = "bspline5",
    *,
    into: tuple[int, int] | None = None,
) -> PSF:
    """The PSF of an image after resampling.

    Parameters
    ----------
    psf : PSF
        Of the image before, in its own pixels.
    transform : Transform
        From output to input pixels.
    shape : (ny, nx)
        Of the output grid.
    kernel_name : str
        One of `zogyp.core.kernels.NAMES`.
    into : (ny, nx) or None
        Of the image before. With it the PSF is right where the image covers the grid, whatever the PSF's
        polynomial does outside of the image; without it everywhere.

    Returns
    -------
    PSF
        Unit sum, in pixels of the output grid. A polynomial of the same order, raised by up to two where the
        map's distortion demands it. The step of its grid is the old one in new pixels, at most one pixel; the
        same number where the scales are alike to 10 per cent. Its variance is warped by the mean map.

    Raises
    ------
    OptionError
        There is no such kernel.
    """
    raised = 0 if transform.order < 2 else RAISED
    x, y, weight = _nodes(transform, shape, into, psf.order + raised)
    jacobians = _jacobians(transform, x, y)
    area = np.abs(np.linalg.det(jacobians))
    scale = float(np.sqrt(np.average(area, weights=weight)))
    parts = _parts(transform, shape, into)
    step = psf.sampling if abs(scale - 1) < ALIKE else min(psf.sampling / scale, max(psf.sampling, 1.0))
    half = psf.basis.shape[-1] // 2 * psf.sampling / scale  # px of the output
    k = 2 * int(np.ceil(half / step - 1e-9)) + 1
    u, v = _inside(*transform(x, y), into)
    spread = _Spread(psf, kernel_name, parts)
    if raised:
        places = zip(psf.terms(u, v).T, jacobians, strict=True)
        planes = np.stack([spread.warped(np.tensordot(t, psf.basis, axes=1), j, k, step) for t, j in places])
    else:  # the map is the same everywhere, and warping linear
        basis = np.stack([spread.warped(b, jacobians[0], k, step) for b in psf.basis])
        planes = np.tensordot(psf.terms(u, v).T, basis, axes=1)
    middle = ((shape[1] - 1) / 2, (shape[0] - 1) / 2)
    unit = (max(middle[0], 0.5), max(middle[1], 0.5))
    place = ((x - middle[0]) / unit[0], (y - middle[1]) / unit[1])
    planes *= area[:, None, None]  # flux per pixel
    fitted, order = _fitted(planes, place, weight, range(psf.order, psf.order + raised + 1))
    made = replace(
        psf,
        basis=fitted.astype(np.float32),
        order=order,
        origin=middle,
        scale=unit,
        sampling=step,
        variance=None if psf.variance is None else _variance(psf, _central(x, y, weight, jacobians), k, step),
    )
    # the same measure before and after, so that whoever measured the width before is followed
    fwhm = psf.fwhm * fwhm_of(made) / fwhm_of(psf) if psf.fwhm > 0 else fwhm_of(made)
    return replace(made, basis=(fitted / made.total).astype(np.float32), fwhm=fwhm)


def mean_transfer(kernel_name: str, frequency: F8) -> F8:
    """What is left of a wave after interpolation, the mean over its phases.

    Parameters
    ----------
    kernel_name : str
    frequency : ndarray
        [cycles per old px], any shape.
    """
    chosen = kernel(kernel_name)
    t = (np.arange(PHASES) + 0.5) / PHASES
    weight = chosen.weights(t).astype(np.float64)
    x = t[:, None] + chosen.taps // 2 - 1 - np.arange(chosen.taps)
    turn = 2 * np.pi * frequency
    total: F8 = np.tensordot(np.cos(turn[..., None, None] * x), weight, axes=2) / PHASES
    if chosen.prefilter:  # the weights are for coefficients of the quintic B-spline
        total /= (66 + 52 * np.cos(turn) + 2 * np.cos(2 * turn)) / 120
    return total


class _Spread:
    """Warps planes of a PSF, and broadens them as resampling does."""

    def __init__(self, psf: PSF, kernel_name: str, parts: int) -> None:
        self.sampling, self.parts = psf.sampling, parts
        k = psf.basis.shape[-1]
        self.pad = int(np.ceil(BEYOND / psf.sampling))
        self.n = fast_length(k + 2 * self.pad)
        self.fy, self.fx = fftfreq(self.n) / psf.sampling, rfftfreq(self.n) / psf.sampling
        along, down = (mean_transfer(kernel_name, f) for f in (self.fx, self.fy))
        self.transfer = down[:, None] * along[None, :]

    def warped(self, plane: NDArray[np.floating], jacobian: F8, k: int, step: float) -> F8:
        """A plane of the PSF's grid, broadened, at the points of an output grid (k, k) around ``k // 2``."""
        values = np.zeros((self.n, self.n))
        side = slice(self.pad, self.pad + plane.shape[0])
        values[side, side] = plane
        spectrum = rfft2(values) * self.transfer * self._coarse(jacobian)
        values = spline_filter(irfft2(spectrum, s=values.shape), order=SPLINE, mode="mirror")
        at = _points(jacobian, k, step) / self.sampling + self.pad + plane.shape[0] // 2
        result: F8 = map_coordinates(values, at[::-1], order=SPLINE, mode="constant", prefilter=False)
        return result

    def _coarse(self, jacobian: F8) -> F8:
        """Transfer function of the mean over sub-positions of an output pixel."""
        if self.parts == 1:
            return np.ones(())
        shift = (np.arange(self.parts) + 0.5) / self.parts - 0.5
        result: F8 = np.ones(self.transfer.shape)
        for axis in (0, 1):  # symmetric pairs of shifts: the mean of exponentials is that of cosines
            along = jacobian[0, axis] * self.fx[None, :] + jacobian[1, axis] * self.fy[:, None]
            result *= np.mean([np.cos(2 * np.pi * s * along) for s in shift], axis=0)
        return result


def _points(jacobian: F8, k: int, step: float) -> F8:
    """Where the points of an output grid (k, k) lie in the input: x and y [px] from the centre, (2, k, k)."""
    p = (np.arange(k) - k // 2) * step
    result: F8 = np.tensordot(jacobian, np.stack(np.meshgrid(p, p)), axes=1)
    return result


def _nodes(
    transform: Transform, shape: tuple[int, int], into: tuple[int, int] | None, order: int
) -> tuple[F8, F8, F8]:
    """Output positions all over the part of the grid that the image covers, and their weights."""
    sides = [np.linspace(0, n - 1, DENSE) for n in shape[::-1]]
    x, y = np.meshgrid(*sides)
    covered = _covered(transform, x, y, into)
    if not covered.any():
        covered[:] = True
    n = max(NODES, order + 3)
    seen = (np.flatnonzero(covered.any(axis=axis)) for axis in (0, 1))
    x, y = (
        a.ravel()
        for a in np.meshgrid(*(np.linspace(s[i[0]], s[i[-1]], n) for s, i in zip(sides, seen, strict=True)))
    )
    return x, y, np.where(_covered(transform, x, y, into), 1.0, FAINT)


def _covered(transform: Transform, x: F8, y: F8, into: tuple[int, int] | None) -> NDArray[np.bool_]:
    u, v = transform(x, y)
    if into is None:
        return np.ones(u.shape, dtype=bool)
    result: NDArray[np.bool_] = (u >= -0.5) & (u <= into[1] - 0.5) & (v >= -0.5) & (v <= into[0] - 0.5)
    return result


def _inside(u: F8, v: F8, into: tuple[int, int] | None) -> tuple[F8, F8]:
    """Input positions, those outside of the image moved to its border: no polynomial may be trusted there."""
    return (u, v) if into is None else (u.clip(0, into[1] - 1), v.clip(0, into[0] - 1))


def _jacobians(transform: Transform, x: F8, y: F8) -> F8:
    """Derivatives of input by output positions, (n, 2, 2): [n, input axis, output axis]."""
    h = 0.5
    along = np.subtract(transform(x + h, y), transform(x - h, y)) / (2 * h)
    down = np.subtract(transform(x, y + h), transform(x, y - h)) / (2 * h)
    return np.stack([along, down], axis=-1).transpose(1, 0, 2)


def _parts(transform: Transform, shape: tuple[int, int], into: tuple[int, int] | None) -> int:
    """Sub-positions per axis of an output pixel, as `resample` will take them."""
    x, y = transform.lattice(shape, STEP)
    if into is None:  # every position counts
        x, y = x - x.min(), y - y.min()
        into = (int(np.ceil(y.max())) + 1, int(np.ceil(x.max())) + 1)
    return sub_positions(Lattice(STEP, x, y, shape), into)


def _fitted(planes: F8, place: tuple[F8, F8], weight: F8, orders: range) -> tuple[F8, int]:
    """Planes (n, k, k) at places as a polynomial of the first order that serves: its basis, its order."""
    flat = planes.reshape(len(planes), -1)
    norm = float(np.sqrt((flat**2).sum(axis=1).mean()))
    for tried in orders:
        terms = polynomial(*place, tried).T
        found = np.linalg.lstsq(terms * weight[:, None], flat * weight[:, None], rcond=None)[0]
        basis: F8 = np.asarray(found, dtype=np.float64)
        left = np.sqrt(((flat - terms @ basis) ** 2).sum(axis=1))[weight == 1]
        if left.size == 0 or left.max() < LEFT * norm:
            break
    return basis.reshape(-1, *planes.shape[1:]), tried


def _central(x: F8, y: F8, weight: F8, jacobians: F8) -> F8:
    """The Jacobian of the covered position that is nearest to the middle of all."""
    away = (x - x.mean()) ** 2 + (y - y.mean()) ** 2
    nearest: F8 = jacobians[np.argmin(np.where(weight == 1, away, np.inf))]
    return nearest


def _variance(psf: PSF, jacobian: F8, k: int, step: float) -> NDArray[np.float32]:
    """The PSF's own variance on an output grid (k, k): that of a density, so it goes as the area squared."""
    at = _points(jacobian, k, step) / psf.sampling + psf.basis.shape[-1] // 2
    values = map_coordinates(psf.variance, at[::-1], order=1, mode="constant")
    result: NDArray[np.float32] = (np.linalg.det(jacobian) ** 2 * values).astype(np.float32)
    return result
