"""The sky under the sources of one image."""

from __future__ import annotations

import numpy as np
import sep
from numpy.typing import NDArray
from scipy.ndimage import median_filter

from zogyp.image import FloatImage
from zogyp.measure.robust import excess_variance
from zogyp.options import BackgroundOptions

BETWEEN_NODES = 0.25  # of a mesh's departure from its neighbours that lines between the meshes miss


def background(
    data: FloatImage, bad: NDArray[np.bool_], options: BackgroundOptions = BackgroundOptions()
) -> FloatImage:
    """Smooth sky level of an image by sigma-clipped modes of meshes.

    Parameters
    ----------
    data : ndarray, float32, (ny, nx)
        Finite pixel values [ADU].
    bad : ndarray, bool, (ny, nx)
        Pixels to leave out: unusable ones and those under sources.
    options : BackgroundOptions
        Mesh and filter.

    Returns
    -------
    ndarray, float32, (ny, nx)
        Sky level [ADU].
    """
    ny, nx = data.shape
    # sep compares with float32 constants: bring any unit to order one first
    offset = float(np.median(data[::7, ::7]))
    scale = float(np.median(np.abs(data[::7, ::7] - offset))) or 1.0
    scaled = np.ascontiguousarray((data - offset) / scale, dtype=np.float32)
    mesh_x, mesh_y = (_even_mesh(n, options.mesh) for n in (nx, ny))
    sky = sep.Background(
        scaled, mask=bad, bw=mesh_x, bh=mesh_y, fw=options.filter, fh=options.filter, fthresh=0.0
    )
    level: FloatImage = sky.back(dtype=np.float32)
    level *= np.float32(scale)
    level += np.float32(offset)
    return level


def _even_mesh(n: int, mesh: int) -> int:
    """Mesh size near ``mesh`` that leaves no thin last mesh."""
    return -(-n // max(1, round(n / mesh)))


def mesh_level(plane: FloatImage, bad: NDArray[np.bool_], mesh: int, *, calm: bool = True) -> FloatImage:
    """Smooth level of a plane whose distribution is symmetric: clipped means of meshes.

    Parameters
    ----------
    plane : ndarray, float32, (ny, nx)
        A difference image, say.
    bad : ndarray, bool, (ny, nx)
        Pixels to leave out.
    mesh : int
        Size of a mesh [px].
    calm : bool
        Take the median with the neighbouring meshes, against what a single one may hold.

    Returns
    -------
    ndarray, float32, (ny, nx)
        Level; meshes with too few good pixels take the typical one.
    """
    return level_and_unevenness(plane, bad, mesh, calm=calm)[0]


def level_and_unevenness(
    plane: FloatImage, bad: NDArray[np.bool_], mesh: int, *, calm: bool = True
) -> tuple[FloatImage, float]:
    """`mesh_level`, and the standard deviation of what it does not follow of the plane's true level.

    The second is told by how far meshes lie beside their neighbours, beyond the noise of their own means,
    which is that of independent pixels of unit variance (of D, say): 0 where nothing is seen of it.
    """
    ny, nx = plane.shape
    my, mx = max(1, round(ny / mesh)), max(1, round(nx / mesh))
    table, noise = np.full((my, mx), np.nan), np.zeros((my, mx))
    for j, rows in enumerate(np.array_split(np.arange(ny), my)):
        for i, columns in enumerate(np.array_split(np.arange(nx), mx)):
            box = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
            values = plane[box][~bad[box]]
            if values.size > 0.1 * plane[box].size:
                table[j, i], noise[j, i] = _clipped_mean(values), 1 / values.size
    known = np.isfinite(table)
    if not known.any():
        return np.zeros_like(plane), 0.0
    table[~known] = np.median(table[known])
    unevenness = _unevenness(table, noise, known)
    if calm and min(my, mx) >= 3:
        table = median_filter(table, 3, mode="nearest")
    elif not calm:
        unevenness *= BETWEEN_NODES
    return spread_table(table, (ny, nx)), unevenness


def _unevenness(table: NDArray[np.float64], noise: NDArray[np.float64], known: NDArray[np.bool_]) -> float:
    """Standard deviation of meshes about the mean of their four neighbours, beyond their noise."""
    if min(table.shape) < 3:
        return 0.0
    inner = np.s_[1:-1, 1:-1]
    sides = (np.s_[:-2, 1:-1], np.s_[2:, 1:-1], np.s_[1:-1, :-2], np.s_[1:-1, 2:])
    apart = table[inner] - sum(table[s] for s in sides) / 4
    expected = noise[inner] + sum(noise[s] for s in sides) / 16
    use = known[inner] & np.logical_and.reduce([known[s] for s in sides])
    # meshes share neighbours: about half of the votes are independent
    return float(np.sqrt(excess_variance(apart[use] ** 2, expected[use], share=0.5)))


def spread_table(table: NDArray[np.float64], shape: tuple[int, int]) -> FloatImage:
    """Values at the centres of meshes, interpolated linearly to every pixel of ``shape``."""
    (my, mx), (ny, nx) = table.shape, shape
    y = np.clip((np.arange(ny) + 0.5) * my / ny - 0.5, 0, my - 1)
    x = np.clip((np.arange(nx) + 0.5) * mx / nx - 0.5, 0, mx - 1)
    return (_linear(my, y) @ table @ _linear(mx, x).T).astype(np.float32)


def _clipped_mean(values: FloatImage) -> float:
    """Mean of what lies within three robust sigma of the median."""
    centre = float(np.median(values))
    width = 3 * 1.4826 * float(np.median(np.abs(values - centre)))
    return float(values[np.abs(values - centre) <= width].mean(dtype=np.float64))


def _linear(n: int, position: NDArray[np.float64]) -> NDArray[np.float64]:
    """Matrix of linear interpolation between n nodes."""
    low = np.clip(np.floor(position).astype(int), 0, max(n - 2, 0))
    high = np.minimum(low + 1, n - 1)
    share = position - low if n > 1 else np.zeros_like(position)
    out = np.zeros((position.size, n))
    at = np.arange(position.size)
    np.add.at(out, (at, low), 1 - share)
    np.add.at(out, (at, high), share)
    return out
