"""Transients that are known objects, by a user's own catalogue."""

from __future__ import annotations

from typing import Any

import numpy as np
from astropy.table import Table
from scipy.spatial import cKDTree

from zogyp.positions import positions_of


def cross_match(table: Table, catalog: str, *, wcs: Any, name: str, radius: float) -> Table:
    """The table with the columns ``known`` and ``known_distance``.

    Parameters
    ----------
    table : Table
        Transients, with x and y [px].
    catalog : path
        Any table that astropy reads, with ra and dec [deg] or x and y [px, 0-based], and id or name where
        it has them.
    wcs : WCS or None
        Of the pixels.
    name : str
        Of the image, for messages.
    radius : float
        Distance up to which a transient is a known object [px].

    Returns
    -------
    Table : ``known`` is the id, else the name, else the number of the catalogue's row (from 1), empty where
        nothing is known; ``known_distance`` [px] is NaN there. Flags gain ``known``.

    Raises
    ------
    FileError
        The catalogue cannot be read or has no such columns.
    InputError
        It has coordinates only, and the image has none.
    """
    places = positions_of(catalog).on(wcs, name)
    label = np.array(
        places.labels.get("name") or places.labels.get("id") or np.arange(1, len(places) + 1), dtype=str
    )
    usable = np.isfinite(places.x) & np.isfinite(places.y)
    known = np.full(len(table), "", dtype="U64")
    distance = np.full(len(table), np.nan)
    if usable.any() and len(table):
        tree = cKDTree(np.column_stack([places.x[usable], places.y[usable]]))
        far, nearest = tree.query(np.column_stack([table["x"], table["y"]]), distance_upper_bound=radius)
        hit = np.isfinite(far)
        known[hit] = label[usable][nearest[hit]]
        distance[hit] = far[hit]
    out = table.copy()
    out["known"], out["known_distance"] = known, distance
    out["known"].description = "which object of the catalogue it is"
    out["known_distance"].unit = "pix"
    out["known_distance"].description = "distance from that object"
    out["flags"] = [
        ",".join(filter(None, [str(flags), "known" if k else ""]))
        for flags, k in zip(table["flags"], known, strict=True)
    ]
    return out
