"""From two measured exposures to the planes of their difference: tiles, PSFs, noise."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, field, replace
from itertools import product
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from zogyp.core import tiles, zogy
from zogyp.core.meshes import in_bands
from zogyp.core.morphology import dilated
from zogyp.core.planes import like
from zogyp.core.psfmodel import PSF
from zogyp.core.threads import bands, in_parts
from zogyp.fluxscale import Match
from zogyp.halves import Half, prepared
from zogyp.image import FloatImage
from zogyp.measure.background import level_and_unevenness, mesh_level
from zogyp.measure.exposure import Exposure
from zogyp.measure.moffat import fit_moffat
from zogyp.noiseledger import Ledger
from zogyp.options import BackgroundOptions, SubtractOptions
from zogyp.starnoise import add_star_variance

F8 = NDArray[np.float64]
RAMP = 48  # px over which tiles of one PSF are blended
WIDE = 850  # px between nodes of PSFs that hardly vary
NODES = 450  # px between nodes of PSFs that vary, at most
LEAST_SHIFT = 0.003  # px below which moving the reference is not worth it
INTERPOLATION_ERROR = 0.004  # of the PSF's norm that linear interpolation between nodes may leave
LARGEST_MARGIN = 96  # px
CROWD_MESH = 8.0  # FWHM: size of the meshes of D's level in a crowd
ODD = 3.5  # sigma beyond which a pixel does not tell the level of D


@dataclass(frozen=True)
class Planes:
    """The difference on the whole grid; planes float32 (ny, nx).

    ``noise`` holds the share of V that each kind has, `Ledger.shares`; ``kernels_at`` gives the kernels at
    a place (x, y), of a shape (ny, nx).
    """

    D: FloatImage
    S: FloatImage
    V: FloatImage
    F_S: tiles.Blend
    P_D: NDArray[np.float32]
    F_D: float
    fwhm: float
    reach: int
    n_tiles: int
    noise: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    kernels_at: Callable[[float, float, tuple[int, int]], zogy.Kernels] | None = None


def difference(
    new: Exposure,
    ref: Exposure,
    matched: Match,
    options: SubtractOptions,
    *,
    executor: Executor | None = None,
    progress: Callable[[float], None] | None = None,
) -> Planes:
    """Subtract the exposures tile by tile.

    Returns
    -------
    Planes
        D, S, V (variance of S), F_S at every pixel; nothing is set to NaN yet.
    """
    halves = halved(new, ref, matched, options)
    return of_halves(*halves, matched, options, executor=executor, progress=progress)


def halved(
    new: Exposure, ref: Exposure, matched: Match, options: SubtractOptions
) -> tuple[list[Half], Ledger]:
    """All that `of_halves` needs: the pixels of the exposures may be let go of before."""
    ledger = Ledger(new, ref, matched)
    return [*prepared(new, ref, matched, options, ledger)], ledger


def of_halves(
    halves: list[Half],
    ledger: Ledger,
    matched: Match,
    options: SubtractOptions,
    *,
    executor: Executor | None = None,
    progress: Callable[[float], None] | None = None,
) -> Planes:
    """`difference` of exposures that are prepared; the list of the two halves is emptied on the way."""
    counted = options.noise
    new, ref = (half.exposure for half in halves)
    work = _Work(halves[0], halves[1], matched, _astrometric(matched, options), counted.flux_ratio)
    plan = work.plan(options.tile)
    outputs = {name: like(new.image.mask) for name in ("D", "S", "V")}
    for plane in outputs.values():
        plane[:] = 0
    numbers = tiles.run(
        plan, work, outputs, n_threads=options.n_threads, progress=progress, executor=executor
    )
    F_S, F_D = (tiles.Blend(new.image.shape, plan, numbers[name]) for name in ("F_S", "F_D"))
    ledger.fill(work, (work.new, work.ref))
    halves.clear()
    work.forget_pixels()
    if options.background_match:
        unevenness = _match_background(outputs, F_D, work, options.background)
        if counted.background:
            with ledger.entry("background", outputs["V"]):
                for rows, f_d in F_D.bands():
                    outputs["V"][rows] += (unevenness * f_d) ** 2
    if counted.stars:
        with ledger.entry("stars", outputs["V"]):
            add_star_variance(outputs, F_S, new, ref, matched)
    ny, nx = new.image.shape
    kernels = work.kernels_at((nx - 1) / 2, (ny - 1) / 2, (256, 256))
    fwhm = fit_moffat(kernels.P_D.astype(np.float64), 1.0, min(new.psf.fwhm, ref.psf.fwhm)).fwhm
    return Planes(
        D=outputs["D"],
        S=outputs["S"],
        V=outputs["V"],
        F_S=F_S,
        P_D=kernels.P_D,
        F_D=kernels.F_D,
        fwhm=fwhm,
        reach=work.reach(0.05),
        n_tiles=len(plan),
        noise=ledger.shares(outputs["V"]),
        kernels_at=work.kernels_at,
    )


def significance(
    planes: Planes, unjudged: NDArray[np.bool_], n_threads: int = 1
) -> tuple[FloatImage, FloatImage, FloatImage]:
    """S_corr, the PSF flux of a transient at each pixel and its error; NaN where nothing can be judged.

    There D and S become NaN, too.
    """
    scorr, alpha, alpha_err = (like(planes.S) for _ in range(3))

    def judge(rows: slice) -> None:
        given = (planes.D[rows], planes.S[rows], planes.V[rows], planes.F_S.rows(rows.start, rows.stop))
        zogy.judge(given, unjudged[rows], (scorr[rows], alpha[rows], alpha_err[rows]))

    in_parts(judge, bands(len(scorr)), n_threads)
    return scorr, alpha, alpha_err


def _astrometric(matched: Match, options: SubtractOptions) -> tuple[float, float]:
    """Registration error per axis of each image: half of the variance that the two show together."""
    if not options.noise.registration:
        rms = (0.0, 0.0)
    elif options.astrometric_noise is not None:
        rms = (options.astrometric_noise, options.astrometric_noise)
    else:
        rms = (np.hypot(matched.dx.scatter, matched.dx.error), np.hypot(matched.dy.scatter, matched.dy.error))
    return float(rms[0] / np.sqrt(2)), float(rms[1] / np.sqrt(2))


class _Work:
    """The function that is called for every tile."""

    def __init__(
        self, new: Half, ref: Half, matched: Match, astrometric: tuple[float, float], flux_noise: bool
    ) -> None:
        self.flux_noise = flux_noise
        self.new, self.ref, self.matched, self.astrometric = new, ref, matched, astrometric
        self.size = max(new.exposure.psf.size, ref.exposure.psf.size)
        self.move = any(
            s.significant and (s.order > 0 or abs(s.typical) > LEAST_SHIFT) for s in (matched.dx, matched.dy)
        )
        surfaces = (matched.flux_ratio, matched.dx, matched.dy) if self.move else (matched.flux_ratio,)
        self.even = all(s.order == 0 for s in surfaces)  # nothing but the PSFs may vary
        self.constant = self.even and self._drift(None) <= 1
        self._shared: dict[tuple[int, int], zogy.Kernels] = {}
        self._lock = Lock()

    def forget_pixels(self) -> None:
        """Let go of the images: who asks for kernels needs none."""
        self.new, self.ref = (half.without_pixels() for half in (self.new, self.ref))

    def sides(self, x: float, y: float) -> tuple[zogy.Side, zogy.Side]:
        """The two sides at a position, without pixels."""
        flux = self.matched.flux_ratio.at(x, y)
        n, r = self.new, self.ref
        return (
            n.side(x, y, self.size, 1.0, n.exposure.sigma),
            r.side(x, y, self.size, flux, r.exposure.sigma),
        )

    def kernels_at(self, x: float, y: float, shape: tuple[int, int]) -> zogy.Kernels:
        """Kernels at a position; one set for all positions where nothing varies."""
        if not self.constant:
            return zogy.kernels(*self.sides(x, y), shape, self._shift(x, y))
        ny, nx = self.new.exposure.image.shape
        x, y = (nx - 1) / 2, (ny - 1) / 2  # whichever tile comes first must not decide
        with self._lock:
            if shape not in self._shared:
                self._shared[shape] = zogy.kernels(*self.sides(x, y), shape, self._shift(x, y))
            return self._shared[shape]

    def _shift(self, x: float, y: float) -> tuple[float, float]:
        return (self.matched.dx.at(x, y), self.matched.dy.at(x, y)) if self.move else (0.0, 0.0)

    def flux_error(self, x: float, y: float) -> float:
        """Relative error of the flux ratio at a position, as far as it is to be counted."""
        ratio = self.matched.flux_ratio
        if not self.flux_noise:
            return 0.0
        return ratio.error_at(x, y) / (1.0 if ratio.log else ratio.at(x, y))

    def reach(self, level: float) -> int:
        """Half the side of the box that holds the kernels at the middle of the image."""
        ny, nx = self.new.exposure.image.shape
        return zogy.reach(*self.sides((nx - 1) / 2, (ny - 1) / 2), level=level, n=256)

    def plan(self, largest: int) -> list[tiles.Tile]:
        """Tiles no larger than asked, and close enough together to follow the PSF."""
        margin = min(max(self.reach(2e-3), self.size // 2), LARGEST_MARGIN)
        shape = self.new.exposure.image.shape
        if self.constant:
            return tiles.plan(shape, max(largest - 2 * margin - RAMP, 64), RAMP, margin)
        # the PSFs say where kernels change, not the size of a tile: the answer must not depend on it
        if self.even and self._drift(WIDE) <= 1:
            return tiles.split(tiles.plan(shape, WIDE, RAMP, margin), largest, margin)
        step = NODES
        while step > 96 and self._bend(step) > INTERPOLATION_ERROR:
            step = step * 3 // 4
        return tiles.split(tiles.plan(shape, step, step, margin), largest, margin)

    def _drift(self, step: float | None) -> float:
        """Largest change of a PSF within half a ``step``, or over the image, in units of what is tolerated.

        Less than the PSF's own error is not known to be a change at all.
        """
        ny, nx = self.new.exposure.image.shape
        worst = 0.0
        for half in (self.new, self.ref):
            psf = half.exposure.psf
            if psf.order == 0:
                continue
            norm = float(np.sqrt((psf.at((nx - 1) / 2, (ny - 1) / 2) ** 2).sum()))
            known = max(INTERPOLATION_ERROR * norm, half.psf_noise)
            for fx, fy in product((0.05, 0.5, 0.95), repeat=2):
                x, y = fx * nx, fy * ny
                if step is None:
                    pairs = [((nx - 1) / 2, (ny - 1) / 2)]
                else:  # towards the middle: outside of the image nobody asks
                    there = (x + np.copysign(step / 2, nx / 2 - x), y + np.copysign(step / 2, ny / 2 - y))
                    pairs = [(float(there[0]), y), (x, float(there[1]))]
                for place in pairs:
                    change = float(np.sqrt(((psf.at(x, y) - psf.at(*place)) ** 2).sum()))
                    worst = max(worst, change / max(known, psf.change_noise((x, y), place)))
        return worst

    def _bend(self, step: float) -> float:
        """Largest relative difference of a PSF and its linear interpolation between nodes ``step`` apart."""
        ny, nx = self.new.exposure.image.shape
        worst = 0.0
        for psf in (self.new.exposure.psf, self.ref.exposure.psf):
            if psf.order < 2:
                continue
            for fx, fy in product((0.1, 0.5, 0.9), repeat=2):
                worst = max(worst, _curvature(psf, fx * nx, fy * ny, step))
        return worst

    def __call__(self, tile: tiles.Tile) -> dict[str, FloatImage | float]:
        """Subtract one tile."""
        kernels = self.kernels_at(tile.x, tile.y, tile.shape)
        blocks = []
        for half in (self.new, self.ref):
            pixels, fill = half.pixels, half.exposure.sigma**2
            there = replace(tile, start=(tile.start[0] + pixels.pad, tile.start[1] + pixels.pad))
            blocks.append((tiles.gather(pixels.data, there, 0.0), tiles.gather(pixels.variance, there, fill)))
        d = zogy.apply(kernels, blocks[0], blocks[1], self.astrometric, self.flux_error(tile.x, tile.y))
        return {"D": tile.cut(d.D), "S": tile.cut(d.S), "V": tile.cut(d.V), "F_S": d.F_S, "F_D": d.F_D}


def _curvature(psf: PSF, x: float, y: float, step: float) -> float:
    """Relative error of linear interpolation midway between nodes, along both axes."""
    here = psf.at(x, y)
    norm = float(np.sqrt((here**2).sum()))
    worst = 0.0
    for ux, uy in ((step / 2, 0.0), (0.0, step / 2)):
        between = 0.5 * (psf.at(x - ux, y - uy) + psf.at(x + ux, y + uy))
        worst = max(worst, float(np.sqrt(((between - here) ** 2).sum())) / norm)
    return worst


def _match_background(
    outputs: dict[str, FloatImage], F_D: tiles.Blend, work: _Work, options: BackgroundOptions
) -> float:
    """Take off the smooth level that the two skies leave in D, and what it does to S.

    The PSF of D has unit sum, so a constant d in D is F_D d in S. What the level takes of the noise it
    takes of S, too, so that its own noise is no error; what it does not follow is: the standard deviation
    of that in D is returned.
    """
    s = outputs["S"]
    bad = ~(work.new.exposure.image.good & work.ref.exposure.image.good)
    flat = like(s)
    for rows, f_d in F_D.bands():
        np.divide(s[rows], f_d, out=flat[rows])
    mesh, calm = 2 * options.mesh, True
    new, ref = work.new.exposure, work.ref.exposure
    if new.crowded and ref.crowded:  # neither shows its sky, so what differs is told where it differs
        mesh, calm = min(mesh, int(CROWD_MESH * max(new.psf.fwhm, ref.psf.fwhm))), False
    # what is odd stands out of the level: of the one that a first look shows
    first = mesh_level(flat, bad, mesh, calm=calm)
    odd = np.empty(bad.shape, dtype=np.bool_)
    for (rows, level), (_, f_d) in zip(in_bands(first), F_D.bands(), strict=True):
        odd[rows] = bad[rows] | ((s[rows] - f_d * level) ** 2 > ODD**2 * outputs["V"][rows])
    found, unevenness = level_and_unevenness(flat, dilated(odd, 7), mesh, calm=calm)
    for (rows, level), (_, f_d) in zip(in_bands(found), F_D.bands(), strict=True):
        outputs["D"][rows] -= level
        s[rows] -= f_d * level
    return unevenness
