"""An image within a rim: its pixels, and a model's light where it has none."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from zogyp.core.jit import compiled

Plane = NDArray[np.float32]
Bool = NDArray[np.bool_]
I8 = NDArray[np.int64]


@compiled
def fill_rows(
    pixels: tuple[Plane, Plane], bad: Bool, sky: Plane, first: int, error: float, out: tuple[Plane, Plane]
) -> None:
    """Some rows of an image within its rim.

    Parameters
    ----------
    pixels : (ny, nx) data and variance of the image.
    bad : (ny, nx) pixels to be filled, like those of the rim.
    sky : (n, nx) standard deviation of the sky in the rows ``first``..., counted from the rim's first.
        Beside the image it is that of the nearest pixel.
    error : of what is filled in, relative.
    out : (ny + 2 pad, nx + 2 pad) data, to be set, and the model's light, to become the variance.
    """
    ny, nx = bad.shape
    pad = (out[0].shape[1] - nx) // 2
    e = np.float32(error)
    for i in range(sky.shape[0]):
        y = first + i - pad
        data, variance = out[0][first + i], out[1][first + i]
        whole = y < 0 or y >= ny
        if not whole:
            mine, its, hole = pixels[0][y], pixels[1][y], bad[y]
            light, spread = data[pad : pad + nx], variance[pad : pad + nx]
            for x in range(nx):
                model, s = spread[x], sky[i, x]
                filled = s * s + (e * model) * (e * model)
                light[x] = model if hole[x] else mine[x]
                spread[x] = filled if hole[x] else its[x]
        for x in range(data.size):
            if whole or x < pad or x >= pad + nx:
                s = sky[i, min(max(x - pad, 0), nx - 1)]
                data[x] = variance[x]
                variance[x] = s * s + (e * data[x]) * (e * data[x])


@compiled
def reaches(bad: Bool, x: I8, y: I8, reach: int) -> Bool:
    """Which of the squares around pixels touch a bad pixel or what lies beside the image."""
    ny, nx = bad.shape
    out = np.zeros(x.size, np.bool_)
    for k in range(x.size):
        top, bottom, left, right = y[k] - reach, y[k] + reach + 1, x[k] - reach, x[k] + reach + 1
        if top < 0 or left < 0 or bottom > ny or right > nx:
            out[k] = True
            continue
        for row in range(top, bottom):
            for column in range(left, right):
                out[k] |= bad[row, column]
    return out
