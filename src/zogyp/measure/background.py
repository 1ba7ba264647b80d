"""The sky under the sources of one image."""

from __future__ import annotations

from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt, median_filter

from zogyp.core.meshes import MeshSurface, clipped_means, modes
from zogyp.image import FloatImage
from zogyp.measure.robust import excess_variance
from zogyp.options import BackgroundOptions

F8 = NDArray[np.float64]
Bool = NDArray[np.bool_]
BETWEEN_NODES = 0.25  # of a mesh's departure from its neighbours that lines between the meshes miss
LEAST_SHARE = 0.1  # of a mesh's pixels that are good, or nothing is told of it


def background(data: FloatImage, bad: Bool, options: BackgroundOptions = BackgroundOptions()) -> FloatImage:
    """`sky_surface` at every pixel."""
    return sky_surface(data, bad, options).plane()


def sky_surface(data: FloatImage, bad: Bool, options: BackgroundOptions = BackgroundOptions()) -> MeshSurface:
    """Smooth sky level of an image by sigma-clipped modes of meshes.

    Parameters
    ----------
    data : ndarray, float32, (ny, nx)
        Pixel values [ADU]; bad ones may hold anything.
    bad : ndarray, bool, (ny, nx)
        Pixels to leave out: unusable ones and those under sources.
    options : BackgroundOptions
        Mesh and filter.

    Returns
    -------
    MeshSurface
        Sky level [ADU]. Meshes with too few usable pixels take the level of the nearest ones that have them;
        where there are none, the median of all pixels.
    """
    ny, nx = data.shape
    mesh = (_even_mesh(ny, options.mesh), _even_mesh(nx, options.mesh))
    table = np.empty((-(-ny // mesh[0]), -(-nx // mesh[1])))
    modes(np.ascontiguousarray(data), bad, mesh, table)
    unknown = np.isnan(table)
    if unknown.all():
        table[:] = np.median(data[::7, ::7])
    elif unknown.any():
        nearest = distance_transform_edt(unknown, return_distances=False, return_indices=True)
        table = table[tuple(nearest)]
    return MeshSurface(
        _calmed(table, options.filter // 2), (ny, nx), (float(mesh[0]), float(mesh[1])), cubic=True
    )


def _calmed(table: F8, half: int) -> F8:
    """Median of each mesh and its neighbours up to ``half`` meshes away, of as many on either side.

    Towards the border the window shrinks, so that it stays about its mesh and a slope keeps its level.
    """
    rows, columns = (np.minimum(np.arange(n), np.arange(n)[::-1]).clip(0, half) for n in table.shape)
    out = np.empty_like(table)
    for j, i in product(np.unique(rows), np.unique(columns)):
        here = np.ix_(rows == j, columns == i)
        out[here] = median_filter(table, (2 * j + 1, 2 * i + 1), mode="nearest")[here]
    return out


def _even_mesh(n: int, mesh: int) -> int:
    """Mesh size near ``mesh`` that leaves no thin last mesh."""
    return -(-n // max(1, round(n / mesh)))


def mesh_level(plane: FloatImage, bad: Bool, mesh: int, *, calm: bool = True) -> MeshSurface:
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
    MeshSurface
        Level; meshes with too few good pixels take the typical one.
    """
    return level_and_unevenness(plane, bad, mesh, calm=calm)[0]


def level_and_unevenness(
    plane: FloatImage, bad: Bool, mesh: int, *, calm: bool = True
) -> tuple[MeshSurface, float]:
    """`mesh_level`, and the standard deviation of what it does not follow of the plane's true level.

    The second is told by how far meshes lie beside their neighbours, beyond the noise of their own means,
    which is that of independent pixels of unit variance (of D, say): 0 where nothing is seen of it.
    """
    rows, columns = (split_evenly(n, max(1, round(n / mesh))) for n in plane.shape)
    table, count = np.zeros((rows.size - 1, columns.size - 1)), np.zeros((rows.size - 1, columns.size - 1))
    clipped_means(np.ascontiguousarray(plane), bad, rows, columns, table, count)
    known = count > LEAST_SHARE * np.diff(rows)[:, None] * np.diff(columns)[None, :]
    if not known.any():
        return MeshSurface.flat(0.0, plane.shape), 0.0
    table[~known] = np.median(table[known])
    unevenness = _unevenness(table, 1 / np.maximum(count, 1), known)
    if calm and min(table.shape) >= 3:
        table = median_filter(table, 3, mode="nearest")
    elif not calm:
        unevenness *= BETWEEN_NODES
    return over_image(table, plane.shape), unevenness


def split_evenly(n: int, parts: int) -> NDArray[np.int64]:
    """Borders of ``parts`` of an axis of n pixels that differ by one pixel at most, the longer ones first."""
    size, more = divmod(n, parts)
    return np.append(0, np.cumsum(np.full(parts, size) + (np.arange(parts) < more))).astype(np.int64)


def over_image(table: F8, shape: tuple[int, ...]) -> MeshSurface:
    """Values at the middles of meshes that share an image out evenly, with straight lines between them."""
    ny, nx = shape
    return MeshSurface(table, (ny, nx), (ny / table.shape[0], nx / table.shape[1]))


def _unevenness(table: F8, noise: F8, known: Bool) -> float:
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
