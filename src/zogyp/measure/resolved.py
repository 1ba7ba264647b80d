"""Which sources are larger than a star: galaxies, as a rule."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from zogyp.measure.exposure import Exposure
from zogyp.measure.sources import RADIUS_TO_FWHM, local_size

Bool = NDArray[np.bool_]
RESOLVED = 1.25  # times the size of a star there
RESOLVED_SNR = 15.0  # below it noise makes sizes
LONELY = 2.0  # FWHM within which a galaxy has no neighbour: two stars are no galaxy


def resolved(exposure: Exposure) -> Bool:
    """Sources larger than a star at their place, well exposed and alone; in a crowd none can be told."""
    s = exposure.sources
    if exposure.crowded or exposure.stars.size < 3:
        return np.zeros(len(s), dtype=bool)
    stellar = local_size(s.take(exposure.stars), exposure.image.shape, s)
    large = (s.radius > RESOLVED * stellar) & (s.flux > RESOLVED_SNR * s.flux_err) & ~s.saturated
    large &= s.radius < 5 * RADIUS_TO_FWHM * stellar  # no nebula, and no patch of sky
    places = np.column_stack([s.x, s.y])
    chosen = np.flatnonzero(large)
    near = cKDTree(places).query_ball_point(places[chosen], LONELY * exposure.psf.fwhm) if chosen.size else []
    for i, others in zip(chosen, near, strict=True):
        large[i] = (s.flux[others] > 0.1 * s.flux[i]).sum() == 1
    result: Bool = large
    return result
