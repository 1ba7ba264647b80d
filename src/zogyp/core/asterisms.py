"""Asterisms: figures of four stars that keep their shape under shift, rotation, scale and mirroring.

The two stars furthest apart make a frame in which they lie at 0 and 1 of the complex plane; the
places of the other two are the code (Lang et al. 2010, AJ 139, 1782). A mirror image has the
conjugate code. Figures are made of neighbours, so that images need share but a part of the sky, and
of neighbours among the brightest few, some more, many, so that depth and scale may differ.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

F8 = NDArray[np.float64]
C16 = NDArray[np.complex128]
Index = NDArray[np.intp]
PAIR_SCALE = 0.02  # cell of votes of pairs: relative scale, and rotation [radian]
PAIR_PLACE = 0.01  # the same, place as a share of the size
LEADERS = 400  # votes about which groups are looked for
NEAREST = 3  # figures of the other image that are compared with one


@dataclass(frozen=True)
class Quads:
    """Figures of four stars.

    Attributes
    ----------
    code : (n, 4) real and imaginary parts of the places of the third and the fourth star.
    stars : (n, 4) indices of the stars, those of the frame first.
    """

    code: F8
    stars: Index

    def __len__(self) -> int:
        return len(self.code)


@dataclass(frozen=True)
class Votes:
    """Similarities z_in = alpha z + beta, where z is z_out or its mirror image -conj(z_out).

    One for each pair of like figures.

    Attributes
    ----------
    alpha, beta : (n,) complex.
    mirrored : (n,) bool.
    out, into : (n, 4) indices of the stars that were paired.
    """

    alpha: C16
    beta: C16
    mirrored: NDArray[np.bool_]
    out: Index
    into: Index

    def __len__(self) -> int:
        return self.alpha.size

    def take(self, which: NDArray[np.generic]) -> Votes:
        """Some of them."""
        return Votes(*(getattr(self, f)[which] for f in self.__dataclass_fields__))


def quads(z: C16, depths: tuple[int, ...], neighbours: int, smallest: float) -> Quads:
    """Figures of four among the first ``depths[0]``, ``depths[1]``, ... stars.

    Parameters
    ----------
    z : (n,) positions x + i y [px], the brightest first.
    depths : numbers of stars.
    neighbours : each star is combined with three of this many nearest ones.
    smallest : figures smaller than this are left out [px]; their shape is uncertain.
    """
    stars = [_neighbours(z[:n], neighbours) for n in sorted({min(n, z.size) for n in depths}) if n >= 4]
    if not stars:
        return Quads(np.zeros((0, 4)), np.zeros((0, 4), np.intp))
    found = np.unique(np.concatenate(stars), axis=0)
    return _coded(z, found, smallest)


def _neighbours(z: C16, neighbours: int) -> Index:
    """Each star with three of its nearest, the indices of a figure rising."""
    k = min(neighbours, z.size - 1)
    _, near = cKDTree(np.column_stack([z.real, z.imag])).query(np.column_stack([z.real, z.imag]), k=k + 1)
    chosen = np.array(list(combinations(range(1, k + 1), 3)))
    figures = np.concatenate(
        [np.repeat(near[:, :1], len(chosen), axis=0), near[:, chosen].reshape(-1, 3)], axis=1
    )
    result: Index = np.sort(figures, axis=1).astype(np.intp)
    return result


def _coded(z: C16, stars: Index, smallest: float) -> Quads:
    """The code of each figure; the order of its stars is made unique."""
    place = z[stars]
    pairs = np.array(list(combinations(range(4), 2)))
    length = np.abs(place[:, pairs[:, 0]] - place[:, pairs[:, 1]])
    widest = length.argmax(axis=1)
    keep = (length.max(axis=1) > smallest) & (length.min(axis=1) > 0.1 * smallest)
    stars, place, widest = stars[keep], place[keep], widest[keep]
    rest = np.array([[k for k in range(4) if k not in pair] for pair in pairs.tolist()])
    order = np.concatenate([pairs[widest], rest[widest]], axis=1)
    row = np.arange(len(stars))[:, None]
    stars, place = stars[row, order], place[row, order]
    inner = (place[:, 2:] - place[:, :1]) / (place[:, 1:2] - place[:, :1])
    turned = inner.real.sum(axis=1) > 1  # the end of the frame that the two are nearer to is 0
    stars[turned] = stars[turned][:, [1, 0, 2, 3]]
    inner[turned] = 1 - inner[turned]
    swapped = inner[:, 0].real > inner[:, 1].real
    stars[swapped] = stars[swapped][:, [0, 1, 3, 2]]
    inner[swapped] = inner[swapped][:, ::-1]
    code = np.column_stack([inner[:, 0].real, inner[:, 0].imag, inner[:, 1].real, inner[:, 1].imag])
    return Quads(code, stars)


def votes(z_out: C16, z_in: C16, quads_out: Quads, quads_in: Quads, tolerance: float) -> Votes:
    """The similarities that pairs of like figures stand for.

    Parameters
    ----------
    z_out, z_in : (n,), (m,) positions x + i y [px].
    tolerance : largest distance of two codes.
    """
    if len(quads_out) == 0 or len(quads_in) == 0:
        nothing = np.zeros(0, complex)
        none = np.zeros((0, 4), np.intp)
        return Votes(nothing, nothing, np.zeros(0, bool), none, none)
    tree = cKDTree(quads_in.code)
    found = []
    for mirrored in (False, True):
        code = quads_out.code * [1, -1, 1, -1] if mirrored else quads_out.code
        distance, partner = tree.query(code, k=NEAREST, distance_upper_bound=tolerance)
        i, n = np.nonzero(np.isfinite(distance))
        found.append((quads_out.stars[i], quads_in.stars[partner[i, n]], np.full(i.size, mirrored)))
    out, into, flipped = (np.concatenate(parts) for parts in zip(*found, strict=True))
    z = np.where(flipped[:, None], -np.conj(z_out[out]), z_out[out])
    w = z_in[into]
    centre, there = z.mean(axis=1, keepdims=True), w.mean(axis=1, keepdims=True)
    alpha = (np.conj(z - centre) * (w - there)).sum(axis=1) / (np.abs(z - centre) ** 2).sum(axis=1)
    return Votes(alpha, there[:, 0] - alpha * centre[:, 0], flipped, out, into)


def parties(
    votes: Votes, middle: complex, size: float, *, scale: float = 0.02, place: float = 0.03, most: int = 12
) -> list[Index]:
    """Groups of votes that agree about the map, the largest first; each vote is in one group at most.

    Parameters
    ----------
    middle : x + i y of the output's middle [px].
    size : of the output [px].
    scale : tolerance of scale (relative) and of rotation [radian].
    place : tolerance of the place where the middle goes, as a share of the size.
    most : groups wanted.
    """
    if len(votes) == 0:
        return []
    z = np.where(votes.mirrored, -np.conj(middle), middle)
    length = np.abs(votes.alpha)
    there = (votes.alpha * z + votes.beta) / (size * place * np.median(length))
    turn = votes.alpha / length
    parity = np.where(votes.mirrored, 10.0, 0.0)
    space = [np.log(length) / scale, turn.real / scale, turn.imag / scale, there.real, there.imag, parity]
    points = np.column_stack(space)
    tree = cKDTree(points)
    # only votes in the fullest cells can lead: counting for all of them would take most of the time
    _, cell, size_of_cell = np.unique(np.floor(points), axis=0, return_inverse=True, return_counts=True)
    leaders = np.argsort(-size_of_cell[cell.ravel()], kind="stable")[:LEADERS]
    counts = tree.query_ball_point(points[leaders], 1.0, return_length=True)
    free = np.ones(len(votes), dtype=bool)
    found: list[Index] = []
    for leader in leaders[np.argsort(-counts, kind="stable")]:
        if not free[leader]:
            continue
        members = np.asarray(tree.query_ball_point(points[leader], 1.0), dtype=np.intp)
        members = members[free[members]]
        free[members] = False
        found.append(members)
        if len(found) >= 4 * most:
            break
    return sorted(found, key=lambda group: -group.size)[:most]


def paired_stars(votes: Votes) -> tuple[Index, Index]:
    """The pairs of stars that votes stand for, each star once: with the partner named most often."""
    pairs, counts = np.unique(
        np.column_stack([votes.out.ravel(), votes.into.ravel()]), axis=0, return_counts=True
    )
    taken_out: set[int] = set()
    taken_in: set[int] = set()
    chosen = []
    for k in np.argsort(-counts, kind="stable"):
        i, j = int(pairs[k, 0]), int(pairs[k, 1])
        if i not in taken_out and j not in taken_in:
            taken_out.add(i)
            taken_in.add(j)
            chosen.append(k)
    result = pairs[chosen]
    return result[:, 0], result[:, 1]


def pair_votes(z_out: C16, z_in: C16, size: float, *, most: int = 12) -> list[tuple[complex, complex, bool]]:
    """The similarities that most pairs of pairs of stars agree on: slow, but few stars in much junk suffice.

    Every pair of stars of one image laid on every pair of the other stands for one similarity with a
    scale of 0.25 to 4. The true one gets a vote from each pair of common stars.

    Parameters
    ----------
    z_out, z_in : positions x + i y [px] of the brightest; 50 of each make 6 million votes.
    size : of the input [px].
    most : candidates wanted.

    Returns
    -------
    list of (alpha, beta, mirrored) : as in `Votes`, the one with the most votes first.
    """
    if min(np.unique(z_out).size, np.unique(z_in).size) < 2:
        return []
    i, j = np.triu_indices(z_out.size, 1)
    apart = z_out[i] != z_out[j]
    i, j = i[apart], j[apart]
    k, m = np.nonzero(~np.eye(z_in.size, dtype=bool))
    middle = z_out.mean()
    found = []
    for mirrored in (False, True):
        z = -np.conj(z_out - middle) if mirrored else z_out - middle
        alpha = ((z_in[m] - z_in[k])[None, :] / (z[j] - z[i])[:, None]).ravel()
        beta = (z_in[k][None, :] - alpha.reshape(i.size, -1) * z[i][:, None]).ravel()
        scale = np.abs(alpha)
        likely = (scale > 0.25) & (scale < 4) & (np.abs(beta - size / 2 * (1 + 1j)) < 2.5 * size)
        alpha, beta, scale = alpha[likely], beta[likely], scale[likely]
        cell = np.floor(np.log(scale) / PAIR_SCALE).astype(np.int64) + 100
        cell = cell * 1000 + np.floor((np.angle(alpha) + np.pi) / PAIR_SCALE).astype(np.int64)
        for part in (beta.real, beta.imag):
            cell = cell * 1000 + np.floor((part / size + 2.5) / PAIR_PLACE).astype(np.int64)
        _, first, counts = np.unique(cell, return_index=True, return_counts=True)
        for b in np.argsort(-counts, kind="stable")[:most]:
            a = complex(alpha[first[b]])
            centre = -np.conj(middle) if mirrored else middle
            found.append((int(counts[b]), a, complex(beta[first[b]]) - a * complex(centre), mirrored))
    found.sort(key=lambda f: -f[0])
    return [f[1:] for f in found[:most]]
