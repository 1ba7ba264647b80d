"""The passes of a proper co-addition over measured exposures: a first sum, outliers, the sum; and its PSF."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates

from zogyp.combination import bytes_of
from zogyp.core import tiles
from zogyp.core.proper import ProperCoadd, ProperSum
from zogyp.core.psfmodel import PSF, fwhm_of, n_terms, polynomial
from zogyp.image import Flag, FloatImage, MaskImage
from zogyp.options import CoaddOptions
from zogyp.outliers import first_sky, gross, guess, judged
from zogyp.scaled import Scaled

F8 = NDArray[np.float64]
STEP = 400  # px between the nodes of tiles where something varies
RAMP = 96  # px over which tiles are blended
LARGEST_MARGIN = 96  # px
ROUNDS = 2  # of judging each exposure by the sum of all
WIDER = 1.5  # the root of a sum of PSFs' powers reaches further than they do


@dataclass(frozen=True)
class Summed:
    """All exposures summed.

    Attributes
    ----------
    total : ProperSum
    mask : (ny, nx) uint16
        Where nothing is known, why.
    rejected : list of int
        Pixels of each exposure that the others contradicted.
    """

    total: ProperSum
    mask: MaskImage
    rejected: list[int]


@dataclass(frozen=True)
class Base:
    """A coadd that exposures are added to.

    Attributes
    ----------
    scaled : Scaled
        R as an exposure of sigma 1.
    count : (ny, nx) int32
        Exposures in it that have a usable pixel here.
    """

    scaled: Scaled
    count: NDArray[np.int32]

    def begin(self, total: ProperSum) -> FloatImage:
        """Put the coadd into an empty sum; its sky [flux]."""
        data, bad = self.scaled.frame.plane("data"), self.scaled.unusable()
        total.add(self.scaled.layer(data, bad))
        total.count[:] = np.where(bad, 0, self.count)
        sky: FloatImage = np.where(bad, np.float32(0), data / np.float32(self.scaled.scale))
        return sky


def plan_for(frames: Sequence[Scaled], shape: tuple[int, int], options: CoaddOptions) -> list[tiles.Tile]:
    """Tiles close enough together to follow PSFs, flux scales and coverage."""
    widest = max(f.frame.psf.size for f in frames)
    margin = min(widest // 2 + 8, LARGEST_MARGIN)
    if all(f.even and f.frame.overlap > 0.9 for f in frames):
        return tiles.plan(shape, max(options.tile - 2 * margin - RAMP, 64), RAMP, margin)
    return tiles.plan(shape, min(STEP, max(options.tile - 2 * margin - RAMP, 64)), RAMP, margin)


def add_all(
    frames: Sequence[Scaled],
    shape: tuple[int, int],
    options: CoaddOptions,
    told: Callable[[float], None],
    base: Base | None = None,
) -> Summed:
    """Sum exposures properly, without what the others contradict.

    Parameters
    ----------
    frames : sequence of Scaled
        Those with ``sign`` -1 are in the base and are taken out of it.
    base : Base or None
        A coadd that they are added to; none of its pixels is doubted.
    told : callable
        Called with the fraction done.
    """
    plan = plan_for([*frames, *([] if base is None else [base.scaled])], shape, options)
    total = ProperSum(shape, plan, options.n_threads)
    why: MaskImage = np.zeros(shape, np.uint16)
    if base is None:
        sky = first_sky(frames, memory=bytes_of(options.memory), n_threads=options.n_threads)
    else:
        sky = base.begin(total)
        why |= base.scaled.frame.plane("mask")
    fwhm = float(np.median([f.frame.fwhm for f in frames])) if base is None else base.scaled.frame.fwhm
    seems = guess(sky, fwhm)
    told(0.1)
    for n, one in enumerate(frames, start=1):
        data, bad = gross(one, seems)
        one.frame.keep("bad", bad)
        if one.sign > 0:
            total.add(one.layer(data, bad))
        told(0.1 + 0.2 * n / len(frames))
    rejected = [0] * len(frames)
    inside = any(f.sign < 0 for f in frames)  # the coadd that they are in judges them
    rounds = ROUNDS if options.reject.outliers and not inside else 1
    for r in range(rounds):  # what is out no more misleads the judgement of the others
        before, total = total, ProperSum(shape, plan, options.n_threads)
        if base is not None:
            base.begin(total)
        for n, one in enumerate(frames):
            doubtful = one.frame.plane("bad")
            data, bad, out = judged(one, before, doubtful, options.reject, options.background)
            total.add(one.layer(data, bad), one.sign)
            one.frame.keep("bad", bad)
            rejected[n] = int(out.sum())
            told(0.3 + 0.7 * (r + (n + 1) / len(frames)) / rounds)
    for one in frames:
        bad, own = one.frame.plane("bad"), one.frame.plane("mask")
        why |= own | np.where(bad & (own == 0), np.uint16(Flag.COSMIC_RAY), np.uint16(0))
    nothing = total.count <= 0
    why = np.where(nothing, np.where(why > 0, why, np.uint16(Flag.NO_DATA)), np.uint16(0)).astype(np.uint16)
    return Summed(total, why, rejected)


def stamp_size(frames: Sequence[Scaled], plan: Sequence[tiles.Tile], base: Base | None = None) -> int:
    """Side of the stamps of the coadd's PSF [px]."""
    largest = min(min(t.shape) for t in plan)
    size = max(int(WIDER * f.frame.psf.size) for f in frames)
    if base is not None:
        size = max(size, base.scaled.frame.psf.size)
    return min(size, largest - 1) // 2 * 2 + 1


def psf_of(made: ProperCoadd, frames: Sequence[Scaled], shape: tuple[int, int]) -> PSF:
    """P_R as a polynomial in x and y through its stamps at the tiles' nodes."""
    ny, nx = shape
    x, y = (np.array([node[0][i] for node in made.nodes]) for i in (0, 1))
    stamps = np.array([stamp for _, stamp in made.nodes])
    origin, scale = ((nx - 1) / 2, (ny - 1) / 2), (max(nx / 2, 1.0), max(ny / 2, 1.0))
    order = max(f.frame.psf.order for f in frames)
    while order > 0 and n_terms(order) > len(stamps) / 1.5:
        order -= 1
    design = polynomial((x - origin[0]) / scale[0], (y - origin[1]) / scale[1], order)
    planes = np.linalg.lstsq(design.T, stamps.reshape(len(stamps), -1), rcond=None)[0]
    basis = planes.reshape(-1, *stamps.shape[1:]).astype(np.float32)
    n_stars = sum(f.frame.psf.n_stars for f in frames)
    psf = PSF(basis, order, origin, scale, variance=_variance(frames, basis.shape[-1]), n_stars=n_stars)
    return replace(psf, fwhm=fwhm_of(psf))


def _variance(frames: Sequence[Scaled], size: int) -> FloatImage | None:
    """Variance of P_R: to first order it is the mean of the PSFs, weighted by depth."""
    depth = np.array([f.depth for f in frames])
    share = depth / depth.sum()
    out = np.zeros((size, size))
    axis = np.arange(size) - size // 2
    for one, s in zip(frames, share, strict=True):
        psf = one.frame.psf
        if psf.variance is not None and one.sign > 0:
            position = axis / psf.sampling + psf.variance.shape[0] // 2
            y, x = np.meshgrid(position, position, indexing="ij")
            out += s**2 * map_coordinates(psf.variance, [y, x], order=1, mode="constant", cval=0.0)
    return out.astype(np.float32) if out.any() else None
