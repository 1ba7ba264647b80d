"""Bad pixels: a smooth continuation of their good surroundings in their place, and their mark on these.

A recursive filter rings around every step, and a hole is the worst of steps. What is put into holes here is
no measurement: it only keeps what lies outside of them as it would be without a hole.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from zogyp.core.jit import compiled
from zogyp.core.kernels import mirror
from zogyp.core.planes import copied

F4 = NDArray[np.float32]
I4 = NDArray[np.int32]
U1 = NDArray[np.uint8]
U2 = NDArray[np.uint16]

LARGEST = 1e34  # |value| that single precision can still filter: the B-spline's prefilter amplifies
LAYERS = 12  # depth [px] to which good surroundings are continued: 0.43^12 of a step is 4e-5
SWEEPS = 10  # of bending: enough for holes of three pixels, and for the rim of larger ones
_SAMPLE = 20_000  # pixels of which a typical value is taken

_KNOWN, _UNKNOWN, _QUEUED = 0, 1, 2


def fill(data: F4, bad: NDArray[np.bool_]) -> F4:
    """A copy of an image in which bad pixels continue their good surroundings smoothly.

    From the rim inwards each bad pixel becomes the mean of its known neighbours, `LAYERS` pixels deep. These
    are then bent like a thin plate that continues values and slopes of the surroundings: across a bad column
    it is a cubic, which follows the flank of a star. What lies deeper gets the median of the good pixels.
    Where no pixel is good, all become 0. Values may go beyond those of the good pixels.

    Parameters
    ----------
    data : ndarray, float32, (ny, nx)
        Pixel values. Bad pixels may hold anything; NaN, infinity and what is beyond `LARGEST` count as bad.
    bad : ndarray, bool, (ny, nx)
        Pixels to fill.

    Returns
    -------
    ndarray, float32, (ny, nx)
        Good pixels are as they were.
    """
    out = copied(np.asarray(data, dtype=np.float32))
    state, queue, n = _rim(out, bad)
    if queue.size == 0:
        return out
    n = _grow(out, state, queue, n)
    if n < queue.size:
        deep = state == _UNKNOWN
        out[deep] = _typical(out, deep) if n else 0.0
    _bend(out, queue[:n])
    return out


def _typical(values: F4, unknown: NDArray[np.bool_]) -> np.float32:
    """Median of a sample of the known pixels."""
    stride = max(1, values.size // _SAMPLE) | 1  # odd, so as not to walk down one column of an even width
    known = values.ravel()[::stride][~unknown.ravel()[::stride]]
    return np.float32(np.median(known if known.size else values[~unknown]))


@compiled
def _rim(values: F4, bad: NDArray[np.bool_]) -> tuple[U1, I4, int]:
    """State of each pixel; room for (y, x) of all bad ones; how many lie beside a known pixel: the first."""
    ny, nx = values.shape
    state = np.empty((ny, nx), np.uint8)
    count = 0
    for y in range(ny):
        for x in range(nx):
            hole = bad[y, x] | (not abs(values[y, x]) < LARGEST)
            state[y, x] = hole
            count += hole
    queue = np.empty((count, 2), np.int32)
    n = 0
    if count == 0:
        return state, queue, n
    for y in range(ny):
        for x in range(nx):
            if state[y, x] == _UNKNOWN and _beside_known(state, y, x):
                queue[n, 0], queue[n, 1] = y, x
                n += 1
    for i in range(n):
        state[queue[i, 0], queue[i, 1]] = _QUEUED
    return state, queue, n


@compiled
def _beside_known(state: U1, y: int, x: int) -> bool:
    ny, nx = state.shape
    for v in range(max(0, y - 1), min(ny, y + 2)):
        for u in range(max(0, x - 1), min(nx, x + 2)):
            if state[v, u] == _KNOWN:
                return True
    return False


@compiled
def _mean_of_known(values: F4, state: U1, y: int, x: int) -> float:
    ny, nx = state.shape
    total, count = 0.0, 0
    for v in range(max(0, y - 1), min(ny, y + 2)):
        for u in range(max(0, x - 1), min(nx, x + 2)):
            if state[v, u] == _KNOWN:
                total += values[v, u]
                count += 1
    return total / count


@compiled
def _grow(values: F4, state: U1, queue: I4, n: int) -> int:
    """Fill layer after layer; returns how many pixels were filled, which are the first in ``queue``."""
    ny, nx = values.shape
    start = 0
    for layer in range(LAYERS):
        end = n
        for i in range(start, end):
            values[queue[i, 0], queue[i, 1]] = _mean_of_known(values, state, queue[i, 0], queue[i, 1])
        for i in range(start, end):
            state[queue[i, 0], queue[i, 1]] = _KNOWN
        for i in range(start, end if layer + 1 < LAYERS else start):
            y, x = queue[i, 0], queue[i, 1]
            for v in range(max(0, y - 1), min(ny, y + 2)):
                for u in range(max(0, x - 1), min(nx, x + 2)):
                    if state[v, u] == _UNKNOWN:
                        state[v, u] = _QUEUED
                        queue[n, 0], queue[n, 1] = v, u
                        n += 1
        start = end
    return n


@compiled
def _bend(values: F4, filled: I4) -> None:
    """Sweeps of Gauss and Seidel, inwards and outwards, that bend what was filled like a thin plate.

    The plate's equation is that the Laplacian's Laplacian is zero: here for one pixel, with 12 neighbours.
    Borders mirror, as they do in the prefilter.
    """
    ny, nx = values.shape
    n = len(filled)
    for sweep in range(SWEEPS):
        for i in range(n):
            k = i if sweep % 2 == 0 else n - 1 - i
            y, x = filled[k, 0], filled[k, 1]
            here = values[y]
            above, below = values[mirror(y - 1, ny)], values[mirror(y + 1, ny)]
            left, right = mirror(x - 1, nx), mirror(x + 1, nx)
            beside = above[x] + below[x] + here[left] + here[right]
            corners = above[left] + above[right] + below[left] + below[right]
            far = here[mirror(x - 2, nx)] + here[mirror(x + 2, nx)]
            far += values[mirror(y - 2, ny), x] + values[mirror(y + 2, ny), x]
            here[x] = np.float32(0.4) * beside - np.float32(0.1) * corners - np.float32(0.05) * far


@compiled
def spread_bits(mask: U2, kinds: tuple[int, int, int], reach: tuple[int, int, int], out: U2) -> None:
    """Spread the bits of a mask to the pixels around, in ``out``, which begins as its copy.

    Parameters
    ----------
    mask, out : ndarray, uint16, (ny, nx)
    kinds : (int, int, int)
        The bits of unusable pixels, of saturated ones, and the bit that says that such a pixel is near.
    reach : (int, int, int)
        Distances along x and y [px]: of all bits, and of the last of ``kinds`` from pixels that are unusable
        and from those that are saturated as well.
    """
    ny, nx = mask.shape
    unusable, saturated, reached = kinds
    for y in range(ny):
        x = 0
        while x < nx:
            end = x + 1
            bits = np.int64(mask[y, x])
            if bits != 0:  # a run of equal flags is marked at once: bad columns and borders are long
                while end < nx and mask[y, end] == bits:
                    end += 1
                for kind in range(2 if bits & unusable else 1):
                    r = reach[0] if kind == 0 else reach[2 if bits & saturated else 1]
                    mark = bits if kind == 0 else reached
                    for v in range(max(0, y - r), min(ny, y + r + 1)):
                        for u in range(max(0, x - r), min(nx, end + r)):
                            out[v, u] |= mark
            x = end
