"""Which points of two lists are the same: nearest neighbours, and votes for a shift."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

F8 = NDArray[np.float64]
Index = NDArray[np.intp]


def mutual_nearest(a: F8, b: F8, reach: float) -> tuple[Index, Index]:
    """Points of two lists that are each other's nearest, and not further apart than ``reach``.

    Parameters
    ----------
    a, b : (n, 2) and (m, 2) positions [px].

    Returns
    -------
    i, j : indices into ``a`` and ``b``, i rising.
    """
    if len(a) == 0 or len(b) == 0:
        return np.zeros(0, np.intp), np.zeros(0, np.intp)
    distance, partner = cKDTree(b).query(a, distance_upper_bound=reach)
    _, back = cKDTree(a).query(b, distance_upper_bound=reach)
    found = np.flatnonzero(np.isfinite(distance))
    found = found[back[partner[found]] == found]
    return found, partner[found].astype(np.intp)


def voted_shift(a: F8, b: F8, cell: float) -> tuple[F8, int]:
    """The shift b - a that most pairs of points agree on, and how many do.

    Parameters
    ----------
    a, b : (n, 2) and (m, 2) positions [px]; the brightest few hundred are enough.
    cell : pairs agree within this distance [px].

    Returns
    -------
    shift : (2,)
    votes : pairs within ``cell`` of it.
    """
    if len(a) == 0 or len(b) == 0:
        return np.zeros(2), 0
    shifts = (b[None, :, :] - a[:, None, :]).reshape(-1, 2)
    tree = cKDTree(shifts)
    # a coarse histogram finds the crowded places; the tree counts there
    square = np.floor(shifts / cell).astype(np.int64)
    square -= square.min(axis=0)
    number = square[:, 0] * (square[:, 1].max() + 1) + square[:, 1]
    _, inverse, counts = np.unique(number, return_inverse=True, return_counts=True)
    crowded = np.argsort(-counts, kind="stable")[:20]
    candidates = np.flatnonzero(np.isin(inverse, crowded))
    votes = tree.query_ball_point(shifts[candidates], cell, return_length=True)
    best = int(candidates[np.argmax(votes)])
    near = tree.query_ball_point(shifts[best], cell)
    centre: F8 = np.median(shifts[near], axis=0)
    return centre, len(near)
