"""The sky under the sources of one image."""

from __future__ import annotations

import numpy as np
import sep
from numpy.typing import NDArray

from zogyp.image import FloatImage
from zogyp.options import BackgroundOptions


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
