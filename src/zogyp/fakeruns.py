"""One run with fakes: paint them, subtract, look for them; and the file that spares doing it again."""

from __future__ import annotations

import io as text_io
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from zogyp import io
from zogyp.errors import ZogypError
from zogyp.fakes import Brush
from zogyp.headers import quiet
from zogyp.image import FloatImage, Image
from zogyp.inputs import Given, opened
from zogyp.options import EfficiencyOptions
from zogyp.subtraction import subtract

if TYPE_CHECKING:
    from astropy.table import Table

    from zogyp.products import Subtraction

F8 = NDArray[np.float64]

COLUMNS: tuple[tuple[str, str, str | None, str], ...] = (
    ("run", "i8", None, "number of the run, from 1"),
    ("x", "f8", "pix", "true column, 0-based, on the grid of the results"),
    ("y", "f8", "pix", "true row, 0-based"),
    ("ra", "f8", "deg", "right ascension, ICRS"),
    ("dec", "f8", "deg", "declination, ICRS"),
    ("sign", "i8", None, "+1: put into the new image; -1: put into the reference"),
    ("place", "U8", None, "field, galaxy or star: what it was put on or beside"),
    ("true_flux", "f8", None, "flux that a subtraction should find, in the unit of the new image"),
    ("true_mag", "f8", "mag", "magnitude of |true_flux|"),
    ("predicted_snr", "f8", None, "true_flux over its error there, as told by the run without fakes"),
    ("masked", "bool", None, "its pixel could not be judged"),
    ("found", "bool", None, "a candidate of its sign lies within the match radius"),
    ("dx", "f8", "pix", "column of the candidate, minus the true one"),
    ("dy", "f8", "pix", "row of the candidate, minus the true one"),
    ("snr", "f8", None, "significance of the candidate [sigma]"),
    ("flux", "f8", None, "flux of the candidate"),
    ("flux_err", "f8", None, "standard deviation of flux"),
    ("scorr", "f8", None, "S_corr at the true place [sigma]"),
    ("alpha", "f8", None, "PSF flux at the true place"),
    ("alpha_err", "f8", None, "standard deviation of alpha"),
    ("p_real", "f8", None, "probability that the candidate is real; NaN where the table does not tell"),
    ("flags", "U96", None, "words of the candidate"),
)


@dataclass(frozen=True)
class Outcome:
    """What became of one run: a table of its fakes, or why there is none."""

    number: int
    table: Table | None = None
    error: str | None = None


@dataclass(frozen=True)
class Run:
    """One run, the same on one core, many, and other machines.

    Attributes
    ----------
    number : int
        From 1.
    images : new, reference
        Paths or images, as they were taken.
    options : EfficiencyOptions
    brushes : of the two images
    fakes : dict of columns
        What is known of the fakes beforehand: the columns x … predicted_snr.
    spots : for each image x, y, flux, (3, n)
        What is painted, on the grid of the results.
    seed : numpy.random.SeedSequence
        Of the photon noise.
    radius : float
        Match radius [px].
    digest : str
        Of all that decides the result.
    path : Path or None
        The file that the table is written to.
    """

    number: int
    images: tuple[Given, Given]
    options: EfficiencyOptions
    brushes: tuple[Brush, Brush]
    fakes: dict[str, Any]
    spots: tuple[F8, F8]
    seed: np.random.SeedSequence
    radius: float
    digest: str
    path: Path | None = None

    def __call__(self) -> Outcome:
        """Paint, subtract, look, write; an error becomes part of the outcome."""
        try:
            table = self.table()
            if self.path is not None:
                write_table(self.path, table)
            return Outcome(self.number, table)
        except ZogypError as error:
            return Outcome(self.number, error=" ".join(str(error).split()))
        except Exception as error:  # a bug, or no memory: the finished runs are not lost
            text = " ".join(str(error).split())
            return Outcome(self.number, error=f"unexpected {type(error).__name__}: {text}")

    def table(self) -> Table:
        """The fakes and what was found of them."""
        new, ref = self.painted()
        found = subtract(new, ref, bare(self.options))
        columns = self.fakes | _looked_for(found, self.fakes, self.radius)
        n = len(self.fakes["x"])
        columns["run"] = np.full(n, self.number)
        return described(columns, {"digest": self.digest, "run": self.number})

    def painted(self) -> tuple[Image, Image]:
        """The two images with the fakes of this run."""
        out = []
        sides = (self.options.new, self.options.ref)
        todo = zip(self.images, sides, self.brushes, self.spots, strict=True)
        for i, (given, side, brush, (x, y, flux)) in enumerate(todo):
            # not by ``spawn``, which remembers: the same run paints the same photons again
            seed = np.random.SeedSequence(self.seed.entropy, spawn_key=(*self.seed.spawn_key, i))
            u, v = brush.onto(x, y)
            out.append(brush.paint(opened(given, side), u, v, flux, np.random.default_rng(seed)))
        return out[0], out[1]


def bare(options: EfficiencyOptions) -> EfficiencyOptions:
    """The options for images that were opened: what their files told is in them, and must stay as it is."""
    files: dict[str, Any] = {"psf": None, "noise": None, "weight": None, "mask": None}
    return replace(options, new=replace(options.new, **files), ref=replace(options.ref, **files))


def described(columns: dict[str, Any], meta: dict[str, Any] | None = None) -> Table:
    """The table of fakes with its types, units and descriptions."""
    from astropy.table import Table

    table = Table(meta=meta)
    for name, dtype, unit, description in COLUMNS:
        table[name] = np.asarray(columns[name], dtype=dtype)
        table[name].unit = unit
        table[name].description = description
    return table


def write_table(path: Path, table: Table) -> Path:
    """Write a table as ECSV, atomically.

    Raises
    ------
    OutputError
    """
    buffer = text_io.StringIO()
    with quiet():
        table.write(buffer, format="ascii.ecsv")
    return io.write_text(path, buffer.getvalue())


def finished(path: Path | None, digest: str) -> Table | None:
    """The table of a run that was done before, of just these images and options; else None."""
    from astropy.table import Table

    if path is None or not path.is_file():
        return None
    with quiet():
        try:
            table = Table.read(path, format="ascii.ecsv")
        except (OSError, ValueError, TypeError, KeyError):  # damaged: it is done again
            return None
    whole = table.meta.get("digest") == digest and set(table.colnames) == {name for name, *_ in COLUMNS}
    if not whole:
        return None
    # an empty text may come back as a masked value
    text = np.ma.filled(np.ma.asarray(table["flags"]).astype("U96"), "")
    return described({**{n: table[n] for n in table.colnames}, "flags": text}, dict(table.meta))


def value_at(plane: FloatImage, x: F8, y: F8) -> F8:
    """Values of a plane between its pixels.

    Parameters
    ----------
    plane : (ny, nx)
        Smooth, as what was filtered with a PSF is.
    x, y : (n,)
        Places [px].

    Returns
    -------
    ndarray (n,)
        By a polynomial through 5 x 5 pixels; where one of them has no value, or lies outside, that of the
        nearest pixel.
    """
    ny, nx = plane.shape
    column, row = np.rint(x).astype(int), np.rint(y).astype(int)
    step = np.arange(-2, 3)
    rows, columns = row[:, None, None] + step[:, None], column[:, None, None] + step[None, :]
    inside = (rows >= 0) & (rows < ny) & (columns >= 0) & (columns < nx)
    near = np.where(inside, plane[rows.clip(0, ny - 1), columns.clip(0, nx - 1)], np.nan).astype(np.float64)
    weights = [_through(t) for t in (y - row, x - column)]
    between = np.einsum("nij,ni,nj->n", near, *weights)
    return np.where(np.isfinite(between), between, near[:, 2, 2])


def _through(t: F8) -> F8:
    """Weights of the points -2 … 2 for the value at ``t``, (n, 5)."""
    points = range(-2, 3)
    weights = []
    for p in points:
        others = [q for q in points if q != p]
        weights.append(np.prod([(t - q) / (p - q) for q in others], axis=0))
    return np.stack(weights, axis=-1)


def _looked_for(found: Subtraction, fakes: dict[str, Any], radius: float) -> dict[str, Any]:
    """The columns that a subtraction fills."""
    x, y = np.asarray(fakes["x"]), np.asarray(fakes["y"])
    candidates = found.transients
    which = paired(
        (x, y, np.asarray(fakes["true_flux"])),
        tuple(np.asarray(candidates[k], dtype=np.float64) for k in ("x", "y", "snr")),
        radius,
    )
    hit = which >= 0
    columns: dict[str, Any] = {"found": hit}
    for name in ("x", "y", "snr", "flux", "flux_err", "p_real"):
        values = np.full(x.size, np.nan)
        if name in candidates.colnames:
            values[hit] = np.ma.filled(np.ma.asarray(candidates[name], dtype=np.float64), np.nan)[which[hit]]
        columns[name] = values
    columns |= {"dx": columns.pop("x") - x, "dy": columns.pop("y") - y}
    columns["flags"] = [str(candidates["flags"][i] or "") if i >= 0 else "" for i in which]
    for name, plane in (("scorr", found.Scorr), ("alpha", found.alpha), ("alpha_err", found.alpha_err)):
        columns[name] = value_at(plane, x, y)
    columns["masked"] = ~np.isfinite(found.Scorr[np.rint(y).astype(int), np.rint(x).astype(int)])
    return columns


def paired(fakes: tuple[F8, F8, F8], candidates: tuple[F8, ...], radius: float) -> NDArray[np.intp]:
    """For each fake the candidate that it is, or -1.

    Parameters
    ----------
    fakes : x, y, signed flux
        The brightest chooses first.
    candidates : x, y, signed significance
    radius : float
        [px]

    Returns
    -------
    ndarray of indices (n,)
        The nearest candidate of the fake's sign within the radius; each belongs to one fake.
    """
    x, y, flux = fakes
    u, v, snr = candidates
    which = np.full(x.size, -1, dtype=np.intp)
    free = np.ones(u.size, dtype=bool)
    for i in np.argsort(-np.abs(flux), kind="stable"):
        distance = np.hypot(u - x[i], v - y[i])
        able = free & (distance <= radius) & (np.sign(snr) == np.sign(flux[i]))
        if able.any():
            best = int(np.argmin(np.where(able, distance, np.inf)))
            which[i], free[best] = best, False
    return which
