"""Real or not: each peak of S_corr compared with what else could have made it.

For every row of the table of transients the likelihoods of other explanations are worked out in closed form
(`zogyp.core.hypotheses`), its surroundings are looked at, and all of that becomes one number, ``p_real``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from astropy.table import Table
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from zogyp.core import zogy
from zogyp.core.fourier import embed, fast_length, inverse
from zogyp.core.hypotheses import NAMES, Likelihoods, Shapes, compare, shapes
from zogyp.core.masks import has, places
from zogyp.core.stamps import cut_stamps
from zogyp.fluxscale import Match
from zogyp.image import Flag, FloatImage, MaskImage
from zogyp.measure.exposure import Exposure
from zogyp.realness import SHAPE_ERROR, p_real

F8 = NDArray[np.float64]
KernelsAt = Callable[[float, float, tuple[int, int]], zogy.Kernels]

HALF = 2.5  # FWHM: half the side of a stamp
SMALLEST, LARGEST = 9, 48  # px, bounds of it
BATCH = 500  # stamps at a time
GRID = 5  # nodes along each axis where the shapes are made, where they vary
BLUR = 0.8  # standard deviation of the extended shape's blur, in those of the PSF
NEAR_STAR = 1.0  # FWHM within which a catalogued source is the one that has changed
FAR_SATURATED = 5.0  # FWHM
COMPANY = 8.0  # FWHM within which other candidates are counted
TOLD = 5.0  # ln of the likelihood ratio beyond which a hypothesis is named in the flags
STAR_RESIDUAL = 0.03  # of a star's flux below which a change of it may be a residual
NO_STAR = 100.0  # what ``change`` says where there is no star

WORDS = {
    "delta_new": "pixel_new",
    "delta_ref": "pixel_ref",
    "dipole": "moved",
}
DESCRIPTIONS: dict[str, str] = {
    "chi2": "reduced chi² of a point source in D, within its FWHM",
    "lr_delta_new": "ln likelihood of a single pixel of the new image over that of a point source",
    "lr_delta_ref": "the same of a single pixel of the reference",
    "lr_extended": "the same of a blurred source",
    "lr_dipole": "the same of a source that has moved",
    "lr_ring": "the same of a star subtracted with a PSF of another width",
    "excess": "variance of S over that of blank sky",
    "change": "|flux| over the flux of the source in both images that it lies on; 100 where there is none",
    "saturated": "distance of the nearest saturated pixel, in FWHM, 5 at most",
    "company": "other candidates within 8 FWHM",
    "p_real": "probability that it is a real point source that has changed",
}


def vet(
    table: Table,
    planes: tuple[FloatImage, FloatImage, MaskImage],
    kernels_at: KernelsAt,
    exposures: tuple[Exposure, Exposure, Match],
    fwhm: float,
) -> Table:
    """The table with what separates real from bogus, and ``p_real``.

    Parameters
    ----------
    table : Table
        As `zogyp.transients.find` gives it.
    planes : (D, V, mask)
        (ny, nx) each; D NaN where it cannot be judged.
    kernels_at : callable
        Kernels of the subtraction at a place (x, y), of a shape.
    exposures : (new, ref, matched)
    fwhm : float
        Of the PSF of D [px].

    Returns
    -------
    Table : columns of `DESCRIPTIONS` are added; flags gain pixel_new, pixel_ref (a single bright pixel of
        either image explains it better), hole_ref (a dark one of the reference), moved, star_residual.
    """
    d, variance, mask = planes
    x, y = (np.asarray(table[c], dtype=np.float64) for c in ("x", "y"))
    blank = float(np.median(variance[::5, ::5]))
    ny, nx = d.shape
    row, column = np.rint(y).astype(int).clip(0, ny - 1), np.rint(x).astype(int).clip(0, nx - 1)
    excess = np.maximum(variance[row, column] / blank, 1e-3)
    likelihoods = _likelihoods(d, (x, y), excess, np.asarray(table["snr"]), kernels_at, fwhm)
    told: dict[str, F8] = {"chi2": likelihoods.chi2}
    told |= {f"lr_{name}": likelihoods.ratios[name] for name in NAMES}
    told["excess"] = excess
    told["change"] = _change(np.asarray(table["flux"]), (x, y), exposures, fwhm)
    told["saturated"] = _saturated(mask, (x, y), fwhm)
    told["company"] = _company(x, y, COMPANY * fwhm)
    out = table.copy()
    for name, values in told.items():
        out[name] = values
    out["flags"] = _words(out, likelihoods)
    out["p_real"] = p_real(out)
    for name, text in DESCRIPTIONS.items():
        out[name].description = text
    return out


def _likelihoods(
    d: FloatImage, at: tuple[F8, F8], excess: F8, snr: F8, kernels_at: KernelsAt, fwhm: float
) -> Likelihoods:
    """How well the hypotheses explain D at each place."""
    half = int(np.clip(np.ceil(HALF * fwhm), SMALLEST, LARGEST))
    n = fast_length(2 * half + 1)
    m = snr.size
    ratios, amplitudes = ({k: np.zeros(m) for k in keys} for keys in (NAMES, ("delta_new", "delta_ref")))
    point, chi2 = np.zeros(m), np.ones(m)
    # shapes are known to a part of the source's light: what that makes counts as noise
    spread = np.asarray(excess * (1 + (SHAPE_ERROR * snr) ** 2), dtype=np.float64)
    for kinds, some in _batches(at, d.shape, kernels_at, n, fwhm):
        x, y = at[0][some], at[1][some]
        stamps = np.nan_to_num(cut_stamps(d, x, y, n // 2, 0.0)[:, :n, :n].astype(np.float64))
        offset = x - np.rint(x), y - np.rint(y)
        found = compare(stamps, offset, kinds, max(fwhm, 1.5), spread[some])
        point[some], chi2[some] = found.point, found.chi2
        for mine, its in ((ratios, found.ratios), (amplitudes, found.amplitudes)):
            for name, values in its.items():
                mine[name][some] = values
    return Likelihoods(point, ratios, amplitudes, chi2)


def _batches(
    at: tuple[F8, F8], shape: tuple[int, int], kernels_at: KernelsAt, n: int, fwhm: float
) -> Iterator[tuple[Shapes, NDArray[np.intp]]]:
    """Shapes, and the rows they serve, node by node."""
    if at[0].size == 0:
        return
    sides = [(np.arange(GRID) + 0.5) * length / GRID - 0.5 for length in shape[::-1]]
    nodes = np.column_stack([a.ravel() for a in np.meshgrid(*sides)])
    _, nearest = cKDTree(nodes).query(np.column_stack(at))
    for i in np.unique(nearest):
        kernels = kernels_at(float(nodes[i, 0]), float(nodes[i, 1]), (n, n))
        point = embed(kernels.P_D, (n, n)).astype(np.float64)
        deltas = (
            inverse(kernels.D_n, n).astype(np.float64) / kernels.sigma_n,
            -inverse(kernels.D_r, n).astype(np.float64) / kernels.sigma_r,
        )
        kinds = shapes(point, deltas, BLUR * fwhm / 2.3548)
        rows = np.flatnonzero(nearest == i)
        for first in range(0, rows.size, BATCH):
            yield kinds, rows[first : first + BATCH]


def _change(flux: F8, at: tuple[F8, F8], exposures: tuple[Exposure, Exposure, Match], fwhm: float) -> F8:
    """|flux| over that of the source which both images have there."""
    new, ref, matched = exposures
    shown = []
    for exposure, scaled in ((new, False), (ref, True)):
        s = exposure.sources
        if len(s) == 0 or flux.size == 0:
            return np.full(flux.size, NO_STAR)
        light = np.where(np.isfinite(s.flux), s.flux, 0.0)
        if scaled:
            light = light / matched.flux_ratio.grid(s.x, s.y)
        near = cKDTree(np.column_stack([s.x, s.y])).query_ball_point(
            np.column_stack(at), max(NEAR_STAR * fwhm, 1.5)
        )
        shown.append(np.array([max((light[i] for i in found), default=0.0) for found in near]))
    common = np.minimum(*shown)
    change = np.abs(flux) / np.maximum(common, np.abs(flux) / NO_STAR)
    return np.asarray(change, dtype=np.float64)


def _saturated(mask: MaskImage, at: tuple[F8, F8], fwhm: float) -> F8:
    """Distance to the nearest saturated pixel of either image [FWHM], bounded."""
    rows, columns = places(has(mask, Flag.SATURATED | Flag.SATURATED.ref()))
    if rows.size == 0 or at[0].size == 0:
        return np.full(at[0].size, FAR_SATURATED)
    distance, _ = cKDTree(np.column_stack([columns, rows])).query(np.column_stack(at))
    return np.asarray(np.minimum(distance / max(fwhm, 1.0), FAR_SATURATED), dtype=np.float64)


def _company(x: F8, y: F8, radius: float) -> F8:
    """How many others lie within a radius."""
    if x.size == 0:
        return np.zeros(0)
    tree = cKDTree(np.column_stack([x, y]))
    return np.array([len(found) - 1.0 for found in tree.query_ball_point(np.column_stack([x, y]), radius)])


def _words(table: Table, likelihoods: Likelihoods) -> list[str]:
    """The flags, with what the likelihoods and the surroundings say."""
    ratios = likelihoods.ratios
    best = np.max([ratios[k] for k in WORDS], axis=0) if len(table) else np.zeros(0)
    sign = np.asarray(table["sign"])
    conditions = {word: (ratios[k] > TOLD) & (ratios[k] >= best) for k, word in WORDS.items()}
    # a dark pixel of the reference looks like a new source
    hole = conditions["pixel_ref"] & (sign > 0)
    conditions["hole_ref"] = hole
    conditions["pixel_ref"] = conditions["pixel_ref"] & ~hole
    conditions["star_residual"] = np.asarray(table["change"]) < STAR_RESIDUAL
    old = [str(flags).split(",") if flags else [] for flags in table["flags"]]
    return [
        ",".join([*words, *(word for word, true in conditions.items() if true[i])])
        for i, words in enumerate(old)
    ]
