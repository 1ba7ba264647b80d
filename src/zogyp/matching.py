"""Find the map between two lists of stars, and do not believe it before it is verified.

Candidates come from hints (the same grid, a WCS), whose shift the stars vote for, and from asterisms,
which need no hint. Each is grown: stars that fall near their partners correct the map, which brings more
stars near theirs. A candidate is believed when it matches so many stars that chance cannot.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammainc

from zogyp.core import asterisms
from zogyp.core.pairing import mutual_nearest, voted_shift
from zogyp.core.transform import HIGHEST, Transform, matrix_of, similarity, solve
from zogyp.errors import RegistrationError
from zogyp.measure.robust import excess_variance
from zogyp.measure.starlist import StarList

F8 = NDArray[np.float64]
Index = NDArray[np.intp]

FEWEST = 5  # stars that any map must match
FREE = 2  # stars that a similarity matches whatever it is
BY_CHANCE = 1e-9  # probability that as many stars match where none does, at most
CONVINCING = 0.4  # share of the stars matched, with which no other candidate is looked for
CROWDED = 0.1  # chance of a false partner within reach, at most: fainter stars wait for a smaller reach
CLOSEST = 0.25  # px, smallest distance at which matched stars are counted
CLIP = 4.0  # sigma
NEAR_REACH = 2.5  # px within which a hint may be right as it is
HINT_CELL, HINT_REACH = 6.0, 8.0  # px, when the stars vote for a shift of it
BRIGHT = 200  # stars that vote for a shift
LADDERS = (((25, 60, 150, 400), 6), ((60, 200, 800, 2000), 8))  # depths and neighbours, quick and thorough
CODE = 0.015  # distance of two codes of one figure, at most
PAIRED, PAIR_REACH = 50, 20.0  # brightest stars whose pairs vote; px
GROWING = 3  # order of the map while it grows


@dataclass(frozen=True)
class Hint:
    """A first guess of the map, and where it comes from."""

    name: str
    transform: Transform


@dataclass(frozen=True)
class Matched:
    """A map and the stars it stands on.

    Attributes
    ----------
    transform : Transform
        From the output's to the input's pixels.
    out, into : indices of the matched stars in the two lists.
    residual : (n, 2) measured minus mapped place [px of the input].
    scatter : (x, y) standard deviation of single stars beyond their own errors [px of the input].
    reach : distance within which a star counts as matched [px of the input].
    n_near : matched stars within the distance at which they are the strongest evidence.
    n_required : so many must be that near, or the map is not believed.
    share : of the stars in the common field that are matched: of the brightest ones or of all of the image
        that has fewer, whichever is less.
    way : what led to it.
    """

    transform: Transform
    out: Index
    into: Index
    residual: F8
    scatter: tuple[float, float]
    reach: float
    n_near: int = 0
    n_required: int = FEWEST
    share: float = 0.0
    way: str = ""

    @property
    def believed(self) -> bool:
        """Whether chance cannot match as many."""
        return self.n_near >= self.n_required

    @property
    def evidence(self) -> int:
        """Matched stars beyond those that chance would give."""
        return self.n_near - self.n_required


def find_map(
    out: StarList, into: StarList, hints: Sequence[Hint] = (), *, order: int | None = None, blind: bool = True
) -> Matched:
    """The map from one image's pixels to another's, from the places of their stars.

    Parameters
    ----------
    out, into : StarList
        Of the output (the grid to be filled) and the input (the image that fills it).
    hints : sequence of Hint
        Tried before asterisms.
    order : int or None
        Order of the map; None: as the stars demand.
    blind : bool
        Whether asterisms are tried at all.

    Raises
    ------
    RegistrationError
        No map is believed.
    """
    best: Matched | None = None
    tried: list[str] = []
    if min(len(out), len(into)) >= FEWEST:
        for way, start, reach in _candidates(out, into, hints, blind):
            tried += [way] if way not in tried else []
            grown = _grow(out, into, start, reach)
            if grown is None:
                continue
            grown = replace(_judged(out, into, grown), way=way)
            if best is None or grown.evidence > best.evidence:
                best = grown
            # hot pixels agree at once on the same pixels: the hint as it is never ends the search
            if best.believed and best.share > CONVINCING and reach != NEAR_REACH:
                break
    flat = best is not None and best.believed and not _spread_out(out, best)
    if best is not None and best.believed and not flat:
        final = replace(_judged(out, into, _refined(out, into, best, order)), way=best.way)
        if final.believed and _spread_out(out, final):
            return final
    n_matched = 0 if best is None else best.n_near
    n_required = FEWEST if best is None else best.n_required
    hint = "Do they show one field? --align wcs takes the map from the headers alone."
    if flat:
        hint = "They lie on a line, so that mirror images cannot be told apart."
    raise RegistrationError(n_matched, n_required, (len(out), len(into)), tuple(tried), hint)


def check_map(out: StarList, into: StarList, transform: Transform, way: str) -> Matched:
    """What the stars say of a map that is given: the map stays as it is."""
    reach = max(1.5, 0.5 * into.fwhm)
    i, j, residual = _pairs(out, into, transform, reach, _depth(into, reach))
    scale = transform.scale
    known = into.error[j] ** 2 + (scale * out.error[i]) ** 2
    x, y = (float(np.sqrt(_excess(residual[:, k], known))) if i.size else 0.0 for k in (0, 1))
    return replace(_judged(out, into, Matched(transform, i, j, residual, (x, y), reach)), way=way)


def _candidates(
    out: StarList, into: StarList, hints: Sequence[Hint], blind: bool
) -> Iterator[tuple[str, Transform, float]]:
    """First guesses, the likeliest first: what led to it, the map, how far away partners may be [px]."""
    for hint in hints:
        yield hint.name, hint.transform, NEAR_REACH
        mapped = np.column_stack(hint.transform(*out.xy[:BRIGHT].T))
        seen = _inside(mapped, into.shape, margin=100)
        shift, _ = voted_shift(mapped[seen], into.xy[:BRIGHT], HINT_CELL)
        matrix = hint.transform.matrix.copy()
        matrix[:, 2] += shift
        yield hint.name, replace(hint.transform, matrix=matrix), HINT_REACH
    middle = complex((out.shape[1] - 1) / 2, (out.shape[0] - 1) / 2)
    size = float(np.hypot(*out.shape))
    for depths, neighbours in LADDERS if blind else ():
        figures = [asterisms.quads(s.z, depths, neighbours, max(10.0, 4 * s.fwhm)) for s in (out, into)]
        votes = asterisms.votes(out.z, into.z, figures[0], figures[1], CODE)
        for group in asterisms.parties(votes, middle, size):
            i, j = asterisms.paired_stars(votes.take(group))
            matrix, rms = similarity(out.z[i], into.z[j])
            way = f"asterisms of {min(max(depths), len(out), len(into))} stars"
            yield way, Transform(matrix, 0), float(np.clip(3 * rms, 4, 20))
    if blind:
        few = min(PAIRED, len(out), len(into))
        for found in asterisms.pair_votes(out.z[:few], into.z[:few], max(into.shape)):
            yield f"pairs of {few} stars", Transform(matrix_of(*found), 0), PAIR_REACH


def _inside(xy: F8, shape: tuple[int, int], margin: float = 0.0) -> NDArray[np.bool_]:
    ny, nx = shape
    x, y = xy.T
    inside: NDArray[np.bool_] = (x > -margin) & (x < nx - 1 + margin) & (y > -margin) & (y < ny - 1 + margin)
    return inside


def _pairs(
    out: StarList, into: StarList, transform: Transform, reach: float, depth: int
) -> tuple[Index, Index, F8]:
    """Stars of the first ``depth`` that are partners, and how far apart (n, 2)."""
    mapped = np.column_stack(transform(*out.xy[:depth].T))
    i, j = mutual_nearest(mapped, into.xy[:depth], reach)
    return i, j, into.xy[j] - mapped[i]


def _depth(into: StarList, reach: float) -> int:
    """Number of the brightest stars among which a false partner within reach is rare."""
    area = into.shape[0] * into.shape[1]
    return max(int(CROWDED * area / (np.pi * reach**2)), 30)


def _grow(out: StarList, into: StarList, start: Transform, reach: float) -> Matched | None:
    """Let a first guess gather stars: at a constant reach until no more come, then closer."""
    transform, most, grown = start, 0, None
    for _ in range(16):
        i, j, _ = _pairs(out, into, transform, reach, _depth(into, reach))
        if i.size < 3:
            return None
        highest = GROWING if i.size >= 40 else 1
        grown = _fitted(out, into, (i, j), reach, range(highest + 1))
        transform, n = grown.transform, grown.out.size
        if n <= 1.02 * most:
            closer = max(1.0, 5 * float(np.hypot(*grown.scatter)), 3 * _typical_error(out, into, grown))
            if reach <= 1.2 * closer:
                break
            reach, most = max(closer, 0.5 * reach), 0
            continue
        most = n
    return grown


def _typical_error(out: StarList, into: StarList, m: Matched) -> float:
    errors = np.hypot(into.error[m.into], m.transform.scale * out.error[m.out])
    return float(np.median(errors)) if errors.size else 1.0


def _fitted(
    out: StarList, into: StarList, pairs: tuple[Index, Index], reach: float, orders: Sequence[int]
) -> Matched:
    """The map through pairs of stars, clipped and weighted by their errors and what they scatter beyond."""
    i, j = pairs
    there, here = out.xy[i], into.xy[j]
    scale = Transform(similarity(out.z[i], into.z[j])[0]).scale
    error = np.hypot(into.error[j], scale * out.error[i])
    used = np.ones(i.size, dtype=bool)
    scatter = (reach / 2, reach / 2)
    tried: Sequence[int] = orders
    for _ in range(12):
        variance = error**2 + 0.5 * (scatter[0] ** 2 + scatter[1] ** 2) + 1e-8
        transform = solve(there, here, np.where(used, 1 / variance, 0.0), tried)
        residual = here - np.column_stack(transform(*there.T))
        known = error[used] ** 2
        x, y = (float(np.sqrt(_excess(residual[used, k], known))) for k in (0, 1))
        total = np.sqrt(error**2 + 0.5 * (x**2 + y**2) + 1e-8)
        inside = np.hypot(*residual.T) < CLIP * total
        settled = bool((inside == used).all()) and abs(x - scatter[0]) + abs(y - scatter[1]) < 0.02 * (x + y)
        used, scatter = inside if inside.sum() >= 3 else used, (x, y)
        if settled and tried is orders:
            break
        # the order is chosen at first and when all else has settled: that is what costs
        tried = orders if settled else (transform.order,)
    return Matched(transform, i[used], j[used], residual[used], scatter, reach)


def _excess(residual: F8, known: F8) -> float:
    """Variance beyond the known one; of few stars by the plain mean."""
    if residual.size >= 10:
        return excess_variance(residual**2, known)
    return max(float(np.mean(residual**2 - known)), 0.0)


def _refined(out: StarList, into: StarList, grown: Matched, order: int | None) -> Matched:
    """The map by all stars that are near, of the order they demand."""
    orders = range(HIGHEST + 1) if order is None else (order,)
    for _ in range(3):
        reach = max(1.0, 4 * float(np.hypot(*grown.scatter)))
        i, j, _ = _pairs(out, into, grown.transform, reach, _depth(into, reach))
        before, grown = grown.out.size, _fitted(out, into, (i, j), reach, orders)
        if abs(grown.out.size - before) <= 0.01 * before:
            break
    return grown


def _judged(out: StarList, into: StarList, grown: Matched) -> Matched:
    """Whether chance could match as many stars as near, and which share of the bright ones is matched."""
    mapped = np.column_stack(grown.transform(*out.xy.T))
    back = np.column_stack(grown.transform.inverse(*into.xy.T))
    here, there = _inside(mapped, into.shape), _inside(back, out.shape)
    share_of_field = _common_area(grown.transform, out.shape, into.shape)
    density = there.sum() / max(share_of_field * into.shape[0] * into.shape[1], 1.0)
    distance = np.hypot(*grown.residual.T)
    reaches = np.geomspace(CLOSEST, max(grown.reach, 2 * CLOSEST), 8)
    near = np.array([(distance <= r).sum() for r in reaches])
    expected = here.sum() * -np.expm1(-density * np.pi * reaches**2)
    needed = np.maximum(FREE + 1 + _seldom(np.maximum(expected, 1e-9)), FEWEST)
    k = int(np.argmax(near - needed))
    of_all = grown.out.size / max(min(here.sum(), there.sum()), 1)
    shares = []
    for inside, matched in ((here, grown.out), (there, grown.into)):
        bright = np.flatnonzero(inside)[: BRIGHT // 4]
        shares.append(float(np.isin(bright, matched).mean()) if bright.size else 0.0)
    return replace(grown, n_near=int(near[k]), n_required=int(needed[k]), share=min(max(shares), of_all))


def _seldom(mean: F8) -> F8:
    """The smallest numbers that Poisson deviates of these means exceed by less than `BY_CHANCE`."""
    counts = np.empty(mean.size)
    for n, mu in enumerate(mean):  # scipy.stats knows it, and takes a second to load
        k = np.arange(np.floor(mu), mu + 20 * np.sqrt(mu) + 40)
        counts[n] = k[int(np.argmax(gammainc(k + 1, mu) <= BY_CHANCE))]
    return counts


def _common_area(transform: Transform, out: tuple[int, int], into: tuple[int, int]) -> float:
    """Share of the input image that lies within the output."""
    y, x = (np.linspace(0, n - 1, 24) for n in into)
    grid = np.column_stack([a.ravel() for a in np.meshgrid(x, y)])
    return float(_inside(np.column_stack(transform.inverse(*grid.T)), out).mean())


def _spread_out(out: StarList, found: Matched) -> bool:
    """Whether the stars lie in a plane rather than on a line: else mirror images cannot be told apart."""
    xy = out.xy[found.out]
    widths = np.linalg.svd(xy - xy.mean(axis=0), compute_uv=False) / np.sqrt(len(xy))
    return bool(widths[1] > max(3.0, 10 * float(np.hypot(*found.scatter))))
