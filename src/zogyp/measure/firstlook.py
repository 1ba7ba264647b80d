"""The first look at an image: its sky, its noise, where its sources are. What comes before any PSF."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from zogyp.core.counting import extremes, histogram
from zogyp.core.filters import filter_row
from zogyp.core.jit import compiled
from zogyp.core.masks import has, marked
from zogyp.core.meshes import MeshSurface, in_bands
from zogyp.core.morphology import dilated
from zogyp.core.planes import copied
from zogyp.core.spikes import spikes
from zogyp.errors import PixelError
from zogyp.image import Flag, FloatImage, Image
from zogyp.measure.background import sky_surface
from zogyp.measure.crowd import is_crowd, sized_in_crowd
from zogyp.measure.detection import find_sources
from zogyp.measure.noise import SkyNoise, at_seeing, from_variance, quantum, single_sigma, sky_noise
from zogyp.measure.robust import lower_sigma, of_sample, sample
from zogyp.measure.sources import Sources, with_fixed_apertures
from zogyp.options import BackgroundOptions, DetectOptions

Bool = NDArray[np.bool_]
FIRST_FILTER = 2.5  # px, FWHM of the filter for a first detection
BROAD = 4.0  # px, seeing beyond which a second detection is worth its time
SPILT = 1  # px that charge spills from a saturated pixel to its neighbours
INTERPOLATED = 4  # px that an interpolated core spoils: what was filled in for it was too low by thousands
AS_EXPECTED = 0.05  # relative difference of the noise from that of photons and read-out
STEP = 7  # rows of which one tells as much as all
COVERED = 1.3  # sigma of single pixels beyond which a mean of nine pixels is under a source


@dataclass(frozen=True)
class FirstLook:
    """An image, its sky, noise and sources.

    Attributes
    ----------
    image : Image
        With saturated pixels marked.
    data : ndarray, float32, (ny, nx)
        Pixels without the sky [ADU]; unusable ones are 0, saturated ones as they are.
    level : MeshSurface
        The sky [ADU].
    noise : SkyNoise
    variance : ndarray, float32, (ny, nx)
        Variance of each pixel [ADU²], sources included.
    sources : Sources
        Brightest first.
    fwhm : float
        Seeing [px]; NaN without sources.
    notes : tuple of str
        What had to be estimated or assumed.
    crowded : bool
        The light of stars runs together.
    """

    image: Image
    data: FloatImage
    level: MeshSurface
    noise: SkyNoise
    variance: FloatImage
    sources: Sources
    fwhm: float
    notes: tuple[str, ...] = ()
    crowded: bool = False


def look(
    image: Image,
    *,
    background_options: BackgroundOptions = BackgroundOptions(),
    detect: DetectOptions = DetectOptions(),
) -> FirstLook:
    """Measure the sky and its noise, and find the sources of an image.

    Raises
    ------
    PixelError
        The image is constant or has no usable pixel.
    """
    if not image.good.any():
        raise PixelError(image.name, "no usable pixel", 0, image.data.size)
    image, notes = _with_saturation(image)
    bad = ~image.good
    if bad.all():
        raise PixelError(image.name, "every pixel is bad or saturated", 0, bad.size)
    data, level = _sky(image, bad, background_options)
    given = None if image.variance is None else from_variance(image.variance, ~bad, data, image.gain)
    if given is not None and image.resampled:  # single pixels do not show what counts for sources
        noise = given
    else:
        noise = sky_noise(data, level, bad, fwhm=3.0, gain=image.gain, read_noise=image.read_noise)
    sources, fwhm, crowded = _sources(data, bad, (noise, given or noise), detect)
    noise = given or noise
    told = noise.sigma.typical
    if np.isfinite(fwhm) and not image.resampled and not _is_photon_noise(image, noise, level):
        noise = at_seeing(noise, data, bad, fwhm, image.gain is not None)
    if detect.cosmic_rays and np.isfinite(fwhm) and not image.resampled:  # what is resampled is sharp no more
        image, sources = _without_spikes(image, data, noise, sources, fwhm)
        bad = ~image.good
    variance = _variance(image, noise, data, (noise.sigma.typical / told) ** 2)
    noise = _explained(image, noise, data, bad)
    data[bad & ~has(image.mask, Flag.SATURATED)] = 0
    notes = image.notes + notes + noise.notes
    return FirstLook(image, data, level, noise, variance, sources, fwhm, notes, crowded)


def _explained(image: Image, noise: SkyNoise, data: FloatImage, bad: Bool) -> SkyNoise:
    """The noise with what is known of its parts."""
    good = ~bad
    if image.resampled:
        single = lower_sigma((data[::STEP] / noise.sigma.plane()[::STEP])[good[::STEP]])
        return replace(noise, correlation=max(1.0, 1 / single) if single > 0 else 1.0)
    return replace(noise, quantum=quantum(sample(image.data)[sample(good)]))


def _is_photon_noise(image: Image, noise: SkyNoise, level: MeshSurface) -> bool:
    """Whether the pixels' noise is that of sky and read-out, so that the pixels are the detector's own.

    Nobody has interpolated them: whatever looks like correlated noise is unresolved light.
    """
    if image.gain is None or image.read_noise is None or image.variance is not None:
        return False
    expected = level.typical / image.gain + (image.read_noise / image.gain) ** 2
    if not expected > 0:
        return False
    return abs(noise.sigma.typical / float(np.sqrt(expected)) - 1) < AS_EXPECTED


def _without_spikes(
    image: Image, data: FloatImage, noise: SkyNoise, sources: Sources, fwhm: float
) -> tuple[Image, Sources]:
    """Mark cosmic rays and hot pixels, and forget the sources that they are."""
    found = spikes(data, noise.sigma, ~image.good, fwhm, noise.gain)
    if not found.any():
        return image, sources
    image = replace(image, mask=marked(image.mask, found, Flag.COSMIC_RAY))
    ny, nx = image.shape
    row, column = (np.rint(a).astype(int).clip(0, n - 1) for a, n in ((sources.y, ny), (sources.x, nx)))
    return image, sources.take(~found[row, column])


def _sources(
    data: FloatImage, bad: Bool, noises: tuple[SkyNoise, SkyNoise], detect: DetectOptions
) -> tuple[Sources, float, bool]:
    """Sources, the seeing, and whether the field is crowded; ``noises`` of single pixels, and as told."""
    noise, told = noises
    sources, fwhm = with_fixed_apertures(data, bad, _detect(data, noise.sigma, bad, detect))
    if not np.isfinite(fwhm):
        return sources, fwhm, False
    if _crowded(data, bad, told, fwhm):
        return *sized_in_crowd(data, bad, sources, fwhm), True
    if fwhm > BROAD:  # a filter of the seeing's width finds fainter stars, and one star in a ring of light
        sources, fwhm = with_fixed_apertures(data, bad, _detect(data, noise.sigma, bad, detect, fwhm))
    return sources, fwhm, False


def _crowded(data: FloatImage, bad: Bool, noise: SkyNoise, fwhm: float) -> bool:
    """Whether the light of stars runs together, be the noise of pixels correlated or not."""
    if not is_crowd(data, bad, noise.sigma.typical, fwhm):
        return False
    return is_crowd(data, bad, at_seeing(noise, data, bad, fwhm, True).sigma.typical, fwhm)


def _detect(
    data: FloatImage, sigma: MeshSurface, bad: Bool, options: DetectOptions, fwhm: float = FIRST_FILTER
) -> Sources:
    """Sources by our own detection, or by another where asked."""
    if options.detector == "sextractor":
        from zogyp.measure.astromatic import sextractor_sources  # an external program, only where asked

        return sextractor_sources(data, sigma.plane(), bad, options)
    if options.detector == "sep":
        from zogyp.measure.sepsources import sep_sources

        return sep_sources(data, sigma.plane(), bad, options, fwhm)
    return find_sources(data, sigma, bad, options, fwhm)


def _with_saturation(image: Image) -> tuple[Image, tuple[str, ...]]:
    """Mark saturated pixels, and those that they spoil; estimate the level when nobody told."""
    notes: tuple[str, ...] = ()
    level = image.saturation
    if level is None:
        level = _plateau(image.data, image.good)
        if level is not None:
            notes = (f"saturation unknown: {level:.6g} taken, where the brightest pixels pile up",)
    if level is None:
        return image, notes
    full = image.data >= level
    full &= ~has(image.mask, Flag.NO_DATA)
    full |= has(image.mask, Flag.SATURATED)
    if not full.any():
        return replace(image, saturation=level), notes
    spilt = INTERPOLATED if image.resampled else SPILT
    full = dilated(full, 2 * spilt + 1)
    return replace(image, mask=marked(image.mask, full, Flag.SATURATED), saturation=level), notes


def _plateau(data: FloatImage, good: Bool) -> float | None:
    """Level at which the brightest pixels pile up, if they do.

    Cores of stars have ever fewer pixels towards their peaks; a pile of them in the upper half of the
    range is saturation, be it sharp or smeared by resampling.
    """
    top, low = extremes(data, good)[1], of_sample(np.median, data, good)
    if not top > low:
        return None
    counts = histogram(data, good, low, top, 50)  # two per cent of the range each
    pile = counts[:-1] + counts[1:]
    level = None
    for i in range(25, pile.size):
        below = float(np.median(counts[i - 15 : i - 2]))
        if pile[i] >= max(8.0, 8 * below) and pile[i] == pile[25:].max():
            start = i
            while counts[start - 1] > 2.5 * below + 2:
                start -= 1
            level = low + start * (top - low) / counts.size
    return level


def _sky(image: Image, bad: Bool, options: BackgroundOptions) -> tuple[FloatImage, MeshSurface]:
    """Pixels without sky, and the sky: twice, the second time with the sources masked."""
    data = copied(image.data)
    data[bad] = of_sample(np.median, data, ~bad)
    if float(data.max()) == float(data.min()):
        raise PixelError(image.name, "the image is constant", int((~bad).sum()), bad.size)
    level = sky_surface(data, bad, options)
    sigma = single_sigma(data, bad)
    if not sigma > 0:
        raise PixelError(image.name, "the image has no noise", int((~bad).sum()), bad.size)
    covered = _covered(data, level, COVERED * sigma)
    covered |= bad
    if np.count_nonzero(covered) < 0.9 * covered.size:
        level = sky_surface(data, covered, options)
    saturated = bad & ~has(image.mask, Flag.NO_DATA | Flag.BAD)
    data[saturated] = image.data[saturated]
    take_off(data, level)
    return data, level


def _covered(data: FloatImage, level: MeshSurface, limit: float) -> Bool:
    """Pixels near to where a mean of nine stands out of the level."""
    bright = np.empty(data.shape, dtype=np.bool_)
    for rows, sky in in_bands(level):
        _bright(data, sky, rows.start, limit, bright)
    return dilated(bright, 9)


@compiled
def _bright(data: FloatImage, level: FloatImage, first: int, limit: float, out: Bool) -> None:
    """Where the mean of nine pixels is ``limit`` above the level, in its rows, from row ``first`` on."""
    nx = data.shape[1]
    taps = np.full(3, np.float32(1 / 3), np.float32)
    line, row = np.empty(nx + 3, np.float32), np.empty(nx, np.float32)
    for i in range(level.shape[0]):
        filter_row(data, taps, first + i, line, row)
        for x in range(nx):
            out[first + i, x] = row[x] - level[i, x] > limit


def take_off(data: FloatImage, level: MeshSurface) -> None:
    """Subtract a surface from an image in place."""
    for rows, sky in in_bands(level):
        data[rows] -= sky


def _variance(image: Image, noise: SkyNoise, data: FloatImage, factor: float) -> FloatImage:
    """Variance per pixel: as given times ``factor``, else sky plus photons of what is there."""
    if image.variance is None:
        return noise.variance(data)
    usable = image.good & (image.variance > 0)
    usual = np.float32(of_sample(np.median, image.variance, usable))
    out = copied(image.variance)
    out[~usable] = usual
    out *= np.float32(factor)
    return out
