"""Places to be measured, from any table: pixels, or right ascension and declination."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from zogyp.errors import FileError, InputError
from zogyp.headers import quiet

if TYPE_CHECKING:
    from astropy.table import Table

Floats = NDArray[np.float64]

RA = ("ra", "raj2000", "_raj2000", "ra_icrs", "ra_deg", "radeg", "alpha_j2000")
DEC = ("dec", "dej2000", "decj2000", "_dej2000", "de_icrs", "dec_icrs", "dec_deg", "decdeg", "delta_j2000")
LABELS = ("id", "name")
FORMATS = {
    ".csv": "ascii.csv", ".ecsv": "ascii.ecsv", ".fits": "fits", ".fit": "fits", ".fts": "fits",
    ".xml": "votable", ".vot": "votable", ".votable": "votable",
}  # fmt: skip
OFF = 1.0  # px: a place on the sky may be that far from where its pixel lies, else it has none


@dataclass(frozen=True)
class Positions:
    """Places to be measured; float64, (n,).

    Attributes
    ----------
    x, y : ndarray
        Pixels, 0-based, centres on integers [px]; NaN where the sky decides.
    ra, dec : ndarray
        Right ascension and declination, ICRS [deg]; NaN where they are not given.
    labels : dict
        Columns that are carried along: ``id``, ``name``.
    source : str
        For messages.
    """

    x: Floats
    y: Floats
    ra: Floats
    dec: Floats
    labels: dict[str, list[Any]] = field(default_factory=dict)
    source: str = "positions"

    def __len__(self) -> int:
        return self.x.size

    def inside(self, shape: tuple[int, int]) -> NDArray[np.bool_]:
        """Which places lie on an image of this shape (ny, nx)."""
        ny, nx = shape
        with np.errstate(invalid="ignore"):
            inside: NDArray[np.bool_] = (self.x >= -0.5) & (self.y >= -0.5)
            inside &= (self.x < nx - 0.5) & (self.y < ny - 0.5)
        return inside

    def on(self, wcs: Any, image: str) -> Positions:
        """With pixels and coordinates both, as far as they can be known.

        Parameters
        ----------
        wcs : WCS or None
            Of the pixels. Places that have coordinates get their pixels from it, and those that have pixels
            only their coordinates.
        image : str
            Whose pixels they are, for messages.

        Raises
        ------
        InputError
            Coordinates alone are given, and there is no WCS.
        """
        x, y, ra, dec = (a.copy() for a in (self.x, self.y, self.ra, self.dec))
        celestial = None if wcs is None or not wcs.has_celestial else wcs.celestial
        told = np.isfinite(ra) & np.isfinite(dec)
        if celestial is None:
            if told.any() and not np.isfinite(x + y).any():
                text = (
                    f"{self.source}: ra and dec need celestial coordinates (a WCS) in the header of {image}. "
                )
                raise InputError(text + "Give x and y, its pixels.")
            return Positions(x, y, ra, dec, self.labels, self.source)
        if told.any():
            x[told], y[told] = _pixels(celestial, ra[told], dec[told])
        rest = ~told & np.isfinite(x + y)
        if rest.any():
            with quiet():
                sky = celestial.pixel_to_world(x[rest], y[rest]).icrs
            ra[rest], dec[rest] = sky.ra.deg, sky.dec.deg
        return Positions(x, y, ra, dec, self.labels, self.source)


def positions_of(given: str | os.PathLike[str] | Table) -> Positions:
    """The places that a table names.

    Parameters
    ----------
    given : path or Table
        A file of CSV, ECSV, FITS or VOTable, told by its ending; any other is text in columns. Its columns
        ``ra`` and ``dec`` [deg, ICRS, or text such as ``18:15:29`` with ra in hours; RAJ2000 and the like
        will do], or ``x`` and ``y`` [px, 0-based]; of both, ra and dec count where they are known. Upper and
        lower case are one. ``id`` and ``name`` are carried along.

    Raises
    ------
    FileError
        The file cannot be read, has no such columns, no rows, or text where numbers must be.
    InputError
        The same of a Table.
    """
    table, source, path = given, "positions", None
    if isinstance(given, str | os.PathLike):
        path = Path(given)
        table, source = _read(path), str(path)
    try:
        return _from_table(table, source)
    except ValueError as error:
        if path is not None:
            raise FileError(path, str(error)) from error
        raise InputError(f"{source}: {error}") from error


def _read(path: Path) -> Any:
    """A table of a file."""
    from astropy.table import Table

    try:
        with path.open("rb") as file:
            file.read(1)
    except FileNotFoundError as error:
        raise FileError(path, "there is no such file") from error
    except OSError as error:
        raise FileError(path, error.strerror or str(error)) from error
    name = path.name.lower().removesuffix(".gz")
    kind = next((k for ending, k in FORMATS.items() if name.endswith(ending)), "ascii")
    more: dict[str, Any] = {"comment": r"\s*#"} if kind == "ascii.csv" else {}
    try:
        with quiet():
            return Table.read(path, format=kind, **more)
    except Exception as error:  # readers of foreign formats raise what they like
        reason = " ".join(str(error).split())[:200]
        raise FileError(path, f"not a table that can be read ({reason or type(error).__name__})") from error


def _from_table(table: Any, source: str) -> Positions:
    """The places of a table; a ValueError says what is wrong with it."""
    names = {str(name).lower().strip(): name for name in reversed(table.colnames)}
    n = len(table)
    x, y, ra, dec = (np.full(n, np.nan) for _ in range(4))
    sky = [next((names[n] for n in known if n in names), None) for known in (RA, DEC)]
    pixels = [names.get("x"), names.get("y")]
    if None in sky and None in pixels:
        there = ", ".join(map(str, table.colnames[:12])) or "none"
        raise ValueError(f"columns x and y, or ra and dec, are needed; the table has: {there}")
    if n == 0:
        raise ValueError("the table has no rows")
    if None not in pixels:
        x, y = (_numbers(table[name], str(name)) for name in pixels)
    if None not in sky:
        ra = _degrees(table[sky[0]], str(sky[0]), hours=True)
        dec = _degrees(table[sky[1]], str(sky[1]), hours=False)
    labels = {key: _labels(table[names[key]]) for key in LABELS if key in names}
    return Positions(x, y, ra, dec, labels, source)


def _numbers(column: Any, name: str) -> Floats:
    """A column as numbers (n,); masked ones are NaN."""
    values = np.ma.asarray(getattr(column, "value", column))
    if values.ndim != 1:
        raise ValueError(f"column {name} must hold one number in each row")
    try:
        return np.asarray(np.ma.filled(values.astype(np.float64), np.nan), dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"column {name} must hold numbers ({error})") from error


def _degrees(column: Any, name: str, *, hours: bool) -> Floats:
    """Angles [deg]: of numbers in the column's unit, or of text, sexagesimal or not."""
    from astropy import units
    from astropy.coordinates import Angle

    values = getattr(column, "value", column)
    if getattr(values, "dtype", np.dtype(object)).kind in "USO":
        texts = [str(v).strip() for v in np.ma.filled(np.ma.asarray(values).astype("U"), "nan")]
        turned = [hours and any(c in t for c in ": hH") for t in texts]
        try:
            found = [
                Angle(t, units.hourangle if h else units.deg).deg if t.lower() != "nan" else np.nan
                for t, h in zip(texts, turned, strict=True)
            ]
        except (ValueError, TypeError) as error:
            raise ValueError(
                f"column {name} must hold angles ({' '.join(str(error).split())[:100]})"
            ) from error
        return np.array(found, dtype=np.float64)
    numbers, unit = _numbers(column, name), getattr(column, "unit", None)
    if unit is None:
        return numbers
    try:
        return np.asarray(units.Unit(unit).to(units.deg, numbers), dtype=np.float64)
    except (units.UnitConversionError, ValueError, TypeError) as error:
        raise ValueError(f"column {name} must be an angle, not {unit}") from error


def _labels(column: Any) -> list[Any]:
    """A column that is carried along: whole numbers as they are, all else as text."""
    values: Sequence[Any] = column.tolist()
    if column.dtype.kind in "iu" and None not in values:
        return list(values)
    return [
        "" if v is None else v.decode("utf-8", "replace") if isinstance(v, bytes) else str(v) for v in values
    ]


def _pixels(wcs: Any, ra: Floats, dec: Floats) -> tuple[Floats, Floats]:
    """Pixels of places on the sky; NaN where the WCS cannot have them."""
    from astropy.coordinates import SkyCoord

    good = np.abs(dec) <= 90
    sky = SkyCoord(np.where(good, ra, 0), np.where(good, dec, 0), unit="deg", frame="icrs")
    with quiet():
        x, y = (np.asarray(a, dtype=np.float64) for a in wcs.world_to_pixel(sky))
        there = np.isfinite(x) & np.isfinite(y) & good
        back = wcs.pixel_to_world(np.where(there, x, 0), np.where(there, y, 0)).icrs
        step = np.sqrt(abs(np.linalg.det(np.asarray(wcs.pixel_scale_matrix))))  # deg
    # far outside, the inverse of a distortion need not converge: what does not come back was not found
    there &= back.separation(sky).deg < OFF * step
    return np.where(there, x, np.nan), np.where(there, y, np.nan)
