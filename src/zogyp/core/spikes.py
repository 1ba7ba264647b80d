"""Pixels sharper than any star: cosmic rays and hot pixels.

Light that came through the telescope is blurred by the PSF: a pixel cannot stand out from the mean of
two opposite neighbours by more than the PSF's own peak does. A cosmic ray does, in one direction at least.
"""

from __future__ import annotations

from math import erf, sqrt

import numpy as np
from numpy.typing import NDArray

from zogyp.core.jit import compiled, inner
from zogyp.core.meshes import MeshSurface, in_bands

F4 = NDArray[np.float32]
Bool = NDArray[np.bool_]
SHARPER = 0.85  # of the seeing: the sharpest PSF that is allowed for
BROADEST = (
    2.0  # px, seeing up to which the test gets stricter: where it was measured on galaxies it is too wide
)
MARGIN = 0.75  # of the neighbours' share in the PSF's peak: slopes, noise in the seeing, other shapes
SEED = 5.0  # sigma by which a neighbourhood must be too low
GROWN = 3.0  # the same beside a pixel that was found


def spikes(data: F4, sigma: MeshSurface, bad: Bool, fwhm: float, gain: float | None) -> Bool:
    """Find pixels that are sharper than a PSF of ``fwhm`` px allows.

    Parameters
    ----------
    data : (ny, nx) pixels without sky [ADU].
    sigma : standard deviation of the sky [ADU].
    bad : (ny, nx) pixels to take no notice of.
    fwhm : of the PSF [px].
    gain : [e-/ADU], or None where sources add no noise.

    Returns
    -------
    (ny, nx) bool
    """
    side = _neighbour(SHARPER * min(fwhm, BROADEST))
    shares = np.array([side, side, side**2, side**2]) * MARGIN
    state = np.left_shift(bad.view(np.uint8), np.uint8(1))
    data = np.ascontiguousarray(data)
    per_adu = 0.0 if gain is None else 1 / gain
    seeds = [_seeds(data, s, rows.start, state, shares, per_adu) for rows, s in in_bands(sigma)]
    if seeds:
        _grow(data, np.concatenate(seeds), state, shares, per_adu)
    found: Bool = state == 1
    return found


def _neighbour(fwhm: float) -> float:
    """Of a Gaussian centred on a pixel, the light of the next pixel beside its own."""
    edge = 0.5 * 2.3548 / (sqrt(2) * max(fwhm, 0.5))
    return (erf(3 * edge) - erf(edge)) / (2 * erf(edge))


@compiled
def _seeds(
    data: F4, sigma: F4, first: int, state: NDArray[np.uint8], shares: NDArray[np.float64], per_adu: float
) -> NDArray[np.float64]:
    """Spikes (y, x, sigma) in the rows of ``sigma``, from row ``first`` on; in ``state`` 2 is a bad pixel."""
    ny, nx = data.shape
    found = [(0.0, 0.0, 0.0)]
    for i in range(max(0, 1 - first), min(sigma.shape[0], ny - 1 - first)):
        y = first + i
        for x in range(1, nx - 1):
            s = sigma[i, x]
            if data[y, x] > SEED * s and _sharp(data, s, state, (y, x), shares, per_adu, SEED):
                found.append((float(y), float(x), float(s)))
    out = np.empty((len(found) - 1, 3))
    for k in range(1, len(found)):
        out[k - 1, 0], out[k - 1, 1], out[k - 1, 2] = found[k]
    return out


@compiled
def _grow(
    data: F4,
    seeds: NDArray[np.float64],
    state: NDArray[np.uint8],
    shares: NDArray[np.float64],
    per_adu: float,
) -> None:
    """Mark spikes by 1 in ``state``, and pixels beside them nearly as sharp."""
    ny, nx = data.shape
    waiting = [(0, 0, 0.0)]
    waiting.clear()
    for k in range(len(seeds)):
        y, x = int(seeds[k, 0]), int(seeds[k, 1])
        state[y, x] = 1
        waiting.append((y, x, seeds[k, 2]))
    while len(waiting) > 0:
        y, x, known = waiting.pop()
        s = np.float32(known)  # as where the seeds were found: another type would be compiled for
        for v in range(max(y - 1, 1), min(y + 2, ny - 1)):
            for u in range(max(x - 1, 1), min(x + 2, nx - 1)):
                if data[v, u] > GROWN * s and _sharp(data, s, state, (v, u), shares, per_adu, GROWN):
                    state[v, u] = 1
                    waiting.append((v, u, known))


@inner
def _sharp(
    data: F4,
    sigma: np.float32,
    state: NDArray[np.uint8],
    at: tuple[int, int],
    shares: NDArray[np.float64],
    per_adu: float,
    limit: float,
) -> bool:
    """Whether a pixel stands out too far from two opposite neighbours."""
    y, x = at
    if state[y, x] != 0:
        return False
    p, s2 = data[y, x], sigma * sigma
    steps = ((0, 1), (1, 0), (1, 1), (1, -1))
    for k in range(4):
        dy, dx = steps[k]
        if state[y + dy, x + dx] == 2 or state[y - dy, x - dx] == 2:
            continue
        a, b = data[y + dy, x + dx], data[y - dy, x - dx]
        low = shares[k] * p - 0.5 * (a + b)
        noise = (shares[k] ** 2 + 0.5) * s2 + per_adu * (shares[k] ** 2 * p + 0.25 * max(a + b, 0.0))
        if low > limit * sqrt(noise):
            return True
    return False
