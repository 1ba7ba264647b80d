"""Sources of one image, and which of them are stars to make a PSF of."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from zogyp.core.apertures import circles, half_radii
from zogyp.core.psfmodel import polynomial
from zogyp.image import FloatImage

F8 = NDArray[np.float64]
Bool = NDArray[np.bool_]
RADIUS_TO_FWHM = 1.6  # FWHM over half-light radius of seeing-limited stars within two FWHM
KERNEL = 0.06  # relative width by which sizes are smoothed
FEIGNED = 0.65  # of the size that nine tenths of the bright sources exceed: no star is below
ALIKE = 1.25  # median over that size, up to which the bright sources are of one kind
SIZED = 5000  # brightest sources whose sizes tell the seeing
LADDER = (30, 15, 8, 5)  # S/N above which stars are looked for, the best first


@dataclass(frozen=True)
class Sources:
    """Detected sources, one element each.

    Attributes
    ----------
    x, y : float64
        Position [px, 0-based].
    flux, flux_err : float64
        Flux within the isophote, then of the PSF fit [ADU].
    peak : float64
        Highest pixel above the sky [ADU].
    radius : float64
        Half-light radius [px].
    saturated : bool
        A saturated or unusable pixel lies in the core.
    """

    x: F8
    y: F8
    flux: F8
    flux_err: F8
    peak: F8
    radius: F8
    saturated: Bool

    def __len__(self) -> int:
        return self.x.size

    def take(self, index: NDArray[np.intp] | Bool) -> Sources:
        """The chosen ones."""
        return Sources(*(getattr(self, f)[index] for f in self.__dataclass_fields__))

    def joined(self, others: Sources) -> Sources:
        """These, and after them the others."""
        pairs = ((getattr(self, f), getattr(others, f)) for f in self.__dataclass_fields__)
        return Sources(*(np.concatenate(p) for p in pairs))


def seeing(sources: Sources) -> float:
    """First guess of the FWHM [px] from the sizes of well-exposed sources: the stellar locus."""
    use = ~sources.saturated & (sources.radius > 0.5) & (sources.flux > 15 * sources.flux_err)
    if use.sum() < 5:
        use = ~sources.saturated & (sources.radius > 0.5)
    sizes = sources.radius[use][:2000]
    return RADIUS_TO_FWHM * locus(sizes) if sizes.size else float("nan")


def with_fixed_apertures(data: FloatImage, bad: Bool, sources: Sources) -> tuple[Sources, float]:
    """Half-light radii within one aperture for all, so that bright and faint stars agree; and the seeing.

    Returns the sources with new radii and the FWHM [px] of the stellar locus (NaN without sources).
    """
    fwhm = seeing(sources)
    for most in (SIZED, len(sources)):  # the brightest tell the seeing, and by it the others are measured
        if not np.isfinite(fwhm):
            break
        some = sources.take(np.arange(min(most, len(sources))))
        aperture = np.full(len(some), 2.0 * fwhm)
        total = circles(data, bad, some.x, some.y, aperture)
        radius = sources.radius.copy()
        radius[: len(some)] = np.nan_to_num(half_radii(data, bad, some.x, some.y, aperture, total))
        sources = replace(sources, radius=radius)
        fwhm = seeing(sources)
    return sources, fwhm


def stellar_size(sizes: F8) -> float:
    """The smallest size that many sources share: stars do; galaxies are larger and differ."""
    at = np.linspace(np.log(0.5), np.log(max(float(sizes.max()), 1.0)), 400)
    place = (np.log(sizes[sizes > 0]) - at[0]) / (at[1] - at[0])
    share = place - np.floor(place)
    counts = np.zeros(at.size + 2)  # what lies beyond the ends is far from all that counts
    for beside, weight in ((0, 1 - share), (1, share)):
        np.add.at(counts, (np.floor(place).astype(int) + beside + 1).clip(0, at.size + 1), weight)
    reach = int(5 * KERNEL / (at[1] - at[0]))
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) * (at[1] - at[0]) / KERNEL) ** 2)
    density = np.convolve(counts[1:-1], kernel, mode="same")
    inner = density[1:-1]
    enough = max(0.1 * float(density.max()), min(4.0, 0.5 * float(density.max())))  # about as many sources
    peaks = 1 + np.flatnonzero((inner >= density[:-2]) & (inner >= density[2:]) & (inner > enough))
    return float(np.exp(at[peaks[0]])) if peaks.size else float(np.median(sizes))


def locus(sizes: F8) -> float:
    """`stellar_size` of sources, the brightest first, whatever hot pixels and noise feign below it.

    A size that nearly all bright sources exceed by far is none of stars, if these share a size themselves.
    """
    size = stellar_size(sizes)
    if sizes.size < 15:
        return size
    least, typical = np.quantile(sizes[:100], [0.1, 0.5])
    feigned = size < FEIGNED * least and typical < ALIKE * least
    return float(typical) if feigned else size


def choose_stars(
    sources: Sources, shape: tuple[int, int], *, fwhm: float, reach: float, most: int
) -> NDArray[np.intp]:
    """Indices of sources to make a PSF of: unsaturated, well exposed, on the stellar locus, fairly alone.

    Parameters
    ----------
    fwhm : float
        Seeing [px].
    reach : float
        Radius of the PSF [px]; nearer to the border no star is taken.
    most : int
        Most stars wanted; spread over the image.
    """
    if not np.isfinite(fwhm):
        return np.zeros(0, dtype=np.intp)
    snr = sources.flux / sources.flux_err
    use = ~sources.saturated & (sources.radius > 0.6 * fwhm / RADIUS_TO_FWHM)
    use &= inside(sources, shape, reach)
    for least in LADDER:  # the locus is where the best sources say
        known = sources.take(use & (snr > least))
        if len(known) >= 15:
            break
    for least in LADDER:
        chosen = np.flatnonzero(use & (snr > least))
        chosen = chosen[_on_locus(sources.take(chosen), known, shape, fwhm)]
        chosen = chosen[_alone(sources, chosen, fwhm)]
        if chosen.size >= 40:
            break
    return spread_out(sources, chosen, shape, most)


def inside(sources: Sources, shape: tuple[int, int], reach: float) -> Bool:
    """Which sources lie ``reach`` px from the border, or a tenth of the image should that be less."""
    ny, nx = shape
    rim = min(reach, 0.1 * min(ny, nx))
    x, y = sources.x, sources.y
    result: Bool = (x > rim) & (x < nx - 1 - rim) & (y > rim) & (y < ny - 1 - rim)
    return result


def _on_locus(sources: Sources, known: Sources, shape: tuple[int, int], fwhm: float) -> Bool:
    """Sizes near the most common one around, which stars share and galaxies and cosmic rays do not.

    The locus is that of the well-exposed sources ``known``: noise moves the sizes of faint ones.
    """
    if len(known) < 5:
        return np.abs(sources.radius - fwhm / RADIUS_TO_FWHM) < 0.15 * fwhm
    ratio = sources.radius / local_size(known, shape, sources)
    best = known.radius / local_size(known, shape)
    smaller = best[(best < 1) & (best > 0.7)]  # no galaxies on this side
    width = float(np.sqrt(np.mean((smaller - 1) ** 2))) if smaller.size > 3 else 0.05
    result: Bool = np.abs(ratio - 1) < min(max(2.5 * width, 0.08), 0.25)
    return result


def local_size(sources: Sources, shape: tuple[int, int], at: Sources | None = None) -> F8:
    """Size of a star at each place of ``at`` (or of the sources): the seeing may vary over the field."""
    at = sources if at is None else at
    radius = sources.radius
    typical = locus(radius)
    size = np.full(len(at), typical)
    cells = int(min(4, np.sqrt(radius.size / 25)))
    if cells < 2:
        return size
    ny, nx = shape
    column = np.clip((sources.x * cells / nx).astype(int), 0, cells - 1)
    row = np.clip((sources.y * cells / ny).astype(int), 0, cells - 1)
    x, y, value, weight = [], [], [], []
    for c in range(cells * cells):
        inside = row * cells + column == c
        if inside.sum() >= 10:
            x.append(sources.x[inside].mean() / nx)
            y.append(sources.y[inside].mean() / ny)
            value.append(np.clip(stellar_size(radius[inside]), 0.6 * typical, 1.8 * typical))
            weight.append(np.sqrt(inside.sum()))
    order = 2 if len(x) >= 9 else 1 if len(x) >= 4 else 0
    design = polynomial(np.array(x), np.array(y), order).T
    w = np.array(weight)
    for _ in range(3):  # a cell of galaxies must not bend the surface
        fit = np.linalg.lstsq(design * w[:, None], np.array(value) * w, rcond=None)[0]
        off = np.abs(np.array(value) - design @ fit)
        w = np.array(weight) / (1 + (off / (0.05 * typical)) ** 2)
    surface: F8 = polynomial(at.x / nx, at.y / ny, order).T @ fit
    return np.clip(surface, 0.6 * typical, 1.8 * typical)


def _alone(sources: Sources, chosen: NDArray[np.intp], fwhm: float) -> Bool:
    """Within 2.5 FWHM no neighbour brighter than a fifth; within 6 none saturated or five times brighter."""
    if not chosen.size:
        return np.zeros(0, dtype=bool)
    places = np.column_stack([sources.x, sources.y])
    near = cKDTree(places).query_ball_point(places[chosen], 6 * fwhm)
    who = np.repeat(np.arange(chosen.size), [len(some) for some in near])
    one, other = chosen[who], np.array([j for some in near for j in some], dtype=np.intp)
    close = np.hypot(*(places[one] - places[other]).T) < 2.5 * fwhm
    brighter = sources.flux[other] > np.where(close, 0.2, 5.0) * sources.flux[one]
    disturbed = (sources.saturated[other] | brighter) & (one != other)
    alone = np.ones(chosen.size, dtype=bool)
    alone[who[disturbed]] = False
    return alone


def spread_out(
    sources: Sources, chosen: NDArray[np.intp], shape: tuple[int, int], most: int
) -> NDArray[np.intp]:
    """The brightest of each part of the image in turn, until there are enough."""
    if chosen.size <= most:
        return chosen
    ny, nx = shape
    cell = (sources.y[chosen] * 8 / ny).astype(int) * 8 + (sources.x[chosen] * 8 / nx).astype(int)
    rank = np.zeros(chosen.size, dtype=int)
    for c in np.unique(cell):
        inside = np.flatnonzero(cell == c)
        rank[inside] = np.argsort(np.argsort(-sources.flux[chosen[inside]]))
    best = np.lexsort((-sources.flux[chosen], rank))[:most]
    return np.sort(chosen[best])
