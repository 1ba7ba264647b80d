"""The loops of the proper co-addition: over the frequencies of a tile, over the pixels of the grid.

Numbers in brackets are equations of Zackay & Ofek 2017 (ApJ 836, 188). Rows of complex numbers are taken as
pairs of real ones: so several frequencies are worked on at once.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from zogyp.core.fourier import Spectrum
from zogyp.core.jit import compiled

F8 = NDArray[np.float64]
F4 = NDArray[np.float32]


@compiled
def add_weights(weight: F8, noise: F8, count: NDArray[np.int32], w: F4, variance: F4, sign: int) -> None:
    """Add an exposure's weights, their noise, and 1 where there are any, or take it off."""
    for i in range(w.shape[0]):
        for j in range(w.shape[1]):
            v = np.float64(w[i, j])
            weight[i, j] += sign * v
            noise[i, j] += sign * v * v * variance[i, j]
            count[i, j] += np.int32(sign) if v > 0 else np.int32(0)


@compiled
def _floored(re: float, im: float, power: float, floor: float) -> tuple[float, float, float]:
    """The PSF's transform over the root of the noise power, its noise replaced by a real constant; and how
    much of it is information: a phase that is noise would scatter the noise of pixels over the image."""
    n = re * re + im * im
    weight = n * n / (n * n + floor * floor)
    per_root = 1.0 / np.sqrt(power)
    return (weight * re + (1.0 - weight) * np.sqrt(floor * power)) * per_root, weight * im * per_root, weight


@compiled
def accumulate(
    sums: tuple[Spectrum, F8, F8],
    M: Spectrum,
    P: Spectrum,
    power: F4,
    shift: tuple[Spectrum, Spectrum],
    numbers: tuple[float, float, float],
) -> None:
    """Add one exposure's (F / sigma²) conj(P̂) M̂ to A, and (F² / sigma²) |P̂|² to B [6]."""
    A, B, T = sums
    rows, columns = shift[0].view(np.float32), shift[1].view(np.float32)
    gain, F, floor = numbers
    white = np.ones(B.shape[1], np.float32)
    for i in range(B.shape[0]):
        a, b, t = A[i].view(np.float32), B[i], T[i]
        m, p = M[i].view(np.float32), P[i].view(np.float32)
        v = white if power.size == 1 else power[i]
        c, s = np.float64(rows[2 * i]), np.float64(rows[2 * i + 1])
        for j in range(b.size):
            re, im = np.float64(p[2 * j]), np.float64(p[2 * j + 1])
            x, y, weight = _floored(re, im, np.float64(v[j]), floor)
            per_root = 1.0 / np.sqrt(np.float64(v[j]))
            b[j] += gain * F * (x * x + y * y)
            t[j] += gain * F * weight * (x * re + y * im) * per_root
            cx, sx = np.float64(columns[2 * j]), np.float64(columns[2 * j + 1])
            cos, sin = c * cx - s * sx, c * sx + s * cx
            u, w = gain * per_root * (x * cos + y * sin), gain * per_root * (x * sin - y * cos)
            re, im = np.float64(m[2 * j]), np.float64(m[2 * j + 1])
            a[2 * j] += np.float32(u * re - w * im)
            a[2 * j + 1] += np.float32(u * im + w * re)


@compiled
def prediction(
    P: Spectrum,
    sums: tuple[Spectrum, F8],
    power: F4,
    shift: tuple[Spectrum, Spectrum],
    numbers: tuple[float, float, float, float],
    nx: int,
) -> float:
    """Put F P̂ Â / B in place of P̂; the mean over frequencies of power (1 - F² |P̂|² / sigma² / B)."""
    A, B = sums
    rows, columns = shift[0].view(np.float32), shift[1].view(np.float32)
    F, per_variance, floor, least = numbers
    white = np.ones(B.shape[1], np.float32)
    free = np.zeros(B.shape[1])
    for i in range(B.shape[0]):
        a, p = A[i].view(np.float32), P[i].view(np.float32)
        v = white if power.size == 1 else power[i]
        c, s = np.float64(rows[2 * i]), np.float64(rows[2 * i + 1])
        for j in range(free.size):
            vj, per_b = np.float64(v[j]), 1.0 / max(B[i, j], least)
            x, y, _ = _floored(np.float64(p[2 * j]), np.float64(p[2 * j + 1]), vj, floor)
            free[j] += vj * (1.0 - F * F * per_variance * (x * x + y * y) * per_b)
            cx, sx = np.float64(columns[2 * j]), np.float64(columns[2 * j + 1])
            cos, sin = c * cx - s * sx, c * sx + s * cx
            gain = F * np.sqrt(vj) * per_b
            u, w = gain * (x * cos + y * sin), gain * (y * cos - x * sin)
            re, im = np.float64(a[2 * j]), np.float64(a[2 * j + 1])
            p[2 * j], p[2 * j + 1] = np.float32(u * re - w * im), np.float32(u * im + w * re)
    # columns but the first, and the last of an even side, stand for their conjugates too
    once = free[0] + (free[-1] if nx % 2 == 0 else 0.0)
    return float((2.0 * free.sum() - once) / (B.shape[0] * nx))
