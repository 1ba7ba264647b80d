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
from zogyp.measure.moffat import fit_moffat
from zogyp.options import CoaddOptions, RejectOptions
from zogyp.outliers import Judgement, first_sky, gross, guess, judged
from zogyp.scaled import Scaled

F8 = NDArray[np.float64]
STEP = 400  # px between the nodes of tiles where something varies
RAMP = 96  # px over which tiles are blended
LARGEST_MARGIN = 96  # px
CONTRADICTED = 0.3  # share of its light beyond which an exposure shows another sky than the others
NOTHING = np.zeros((0, 0), np.float32)
WIDER = 1.5  # the root of a sum of PSFs' powers reaches further than they do


@dataclass(frozen=True)
class Summed:
    """All exposures summed.

    Attributes
    ----------
    total : ProperSum
    mask : (ny, nx) uint16
        Where nothing is known, why.
    frames : list of Scaled
        Those that are in it.
    rejected : list of int
        Pixels of each of them that the others contradicted.
    dropped : list of (Scaled, float)
        Those that are not, because they show another sky, and how much of its light the others contradict.
    """

    total: ProperSum
    mask: MaskImage
    frames: list[Scaled]
    rejected: list[int]
    dropped: list[tuple[Scaled, float]]


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
    work = _Work(frames, shape, plan, options, base)
    total = work.first()
    told(0.3)
    inside = any(f.sign < 0 for f in frames)  # the coadd that they are in judges them
    several = len(frames) + (base is not None) > 1
    if several and options.reject.outliers and not inside:
        total = work.without_the_worst(total, told)
    told(0.65)
    total, rejected = work.without_outliers(total, told, judge=several)
    why: MaskImage = np.zeros(shape, np.uint16)
    for one in [f.frame for f in work.frames] + ([] if base is None else [base.scaled.frame]):
        why |= one.plane("mask")
        if one.has("bad"):
            out = one.plane("bad") & (one.plane("mask") == 0)
            why |= np.where(out, np.uint16(Flag.COSMIC_RAY), np.uint16(0))
    nothing = total.count <= 0
    why = np.where(nothing, np.where(why > 0, why, np.uint16(Flag.NO_DATA)), np.uint16(0)).astype(np.uint16)
    return Summed(total, why, work.frames, rejected, work.dropped)


class _Work:
    """The passes over all exposures; what they leave for one another waits on the disk."""

    def __init__(
        self,
        frames: Sequence[Scaled],
        shape: tuple[int, int],
        plan: list[tiles.Tile],
        options: CoaddOptions,
        base: Base | None,
    ) -> None:
        self.frames, self.shape, self.plan, self.options, self.base = list(frames), shape, plan, options, base
        self.dropped: list[tuple[Scaled, float]] = []

    def _begun(self) -> ProperSum:
        """A sum that holds the base, if there is one."""
        total = ProperSum(self.shape, self.plan, self.options.n_threads)
        if self.base is not None:
            self.base.begin(total)
        return total

    def first(self) -> ProperSum:
        """The sum of all, without what no star could be."""
        total = ProperSum(self.shape, self.plan, self.options.n_threads)
        if self.base is None:
            memory, threads = bytes_of(self.options.memory), self.options.n_threads
            sky = first_sky(self.frames, memory=memory, n_threads=threads)
            fwhm = float(np.median([f.frame.fwhm for f in self.frames]))
        else:
            sky, fwhm = self.base.begin(total), self.base.scaled.frame.fwhm
        seems = guess(sky, fwhm)
        for one in self.frames:
            data, bad = gross(one, seems)
            one.frame.keep("bad", bad)
            if one.sign > 0:
                total.add_light(one.view(), data, ~bad)
        return total

    def without_the_worst(self, before: ProperSum, told: Callable[[float], None]) -> ProperSum:
        """The sum without the worst exposure of each pixel, and without exposures that show another sky.

        What is far too bright misleads the first sum, and with few exposures all of them seem wrong there.
        """
        worst = np.zeros(self.shape[0] * self.shape[1], np.float32)
        found: list[tuple[Scaled, Judgement]] = []
        for n, one in enumerate(self.frames, start=1):
            said = self._judge(one, before, self.options.reject)
            if said.contradicted > CONTRADICTED and len(self.frames) > 2:
                self.dropped.append((one, said.contradicted))
                continue
            one.frame.keep("filled", said.data)
            one.frame.keep("bad", said.bad)
            worst[said.out] = np.maximum(worst[said.out], said.z)
            found.append((one, replace(said, data=NOTHING, bad=NOTHING > 0)))  # pixels are on the disk
            told(0.3 + 0.2 * n / len(self.frames))
        if len(found) < 2:  # nobody agrees with anybody: there is no saying who is wrong
            self.dropped = []
            return before
        total = self._begun()
        for n, (one, said) in enumerate(found, start=1):
            spared = said.z < worst[said.out]
            data, bad = one.frame.plane("filled").copy(), one.frame.plane("bad").copy()
            data.reshape(-1)[said.out[spared]] = said.own[spared]
            bad.reshape(-1)[said.out[spared]] = False
            total.add_light(one.view(), data, ~bad, one.sign)
            told(0.5 + 0.15 * n / len(found))
        self.frames = [one for one, _ in found]
        return total

    def without_outliers(
        self, before: ProperSum, told: Callable[[float], None], *, judge: bool
    ) -> tuple[ProperSum, list[int]]:
        """The sum without all that it contradicts, and how many pixels of each exposure that are."""
        options = self.options.reject if judge else replace(self.options.reject, outliers=False)
        total, rejected = self._begun(), []
        for n, one in enumerate(self.frames, start=1):
            said = self._judge(one, before, options)
            total.add(one.layer(said.data, said.bad), one.sign)
            one.frame.keep("bad", said.bad)
            rejected.append(said.out.size)
            told(0.65 + 0.35 * n / len(self.frames))
        return total, rejected

    def _judge(self, one: Scaled, total: ProperSum, options: RejectOptions) -> Judgement:
        return judged(one, total, one.frame.plane("bad"), options, self.options.background)


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
    # the profile's, before pixels, as for a single exposure
    seeing = fit_moffat(psf.at(*origin), 1.0, fwhm_of(psf)).fwhm
    return replace(psf, fwhm=seeing)


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
