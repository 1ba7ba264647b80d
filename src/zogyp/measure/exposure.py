"""Everything that one image tells of itself: sky, noise, stars, PSF."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import maximum_filter, uniform_filter

from zogyp.core.psfmodel import PSF
from zogyp.errors import PixelError, StarsError
from zogyp.image import Flag, FloatImage, Image
from zogyp.measure.background import background
from zogyp.measure.moffat import Moffat
from zogyp.measure.noise import SkyNoise, at_seeing, from_variance, high_pass, robust_sigma, sky_noise
from zogyp.measure.psf import fit_profile, fit_psf, grid_for, moffat_psf, order_for
from zogyp.measure.scene import Scene, fit_scene, star_stamps
from zogyp.measure.sources import Sources, choose_stars, find_sources, with_fixed_apertures
from zogyp.options import BackgroundOptions, DetectOptions, PSFOptions

Bool = NDArray[np.bool_]
FIRST_FILTER = 2.5  # px, FWHM of the filter for a first detection
BROAD = 4.0  # px, seeing beyond which a second detection is worth its time
LIKE_PSF = 5.0  # reduced chi² within the core beyond which a source is not a star
COVERED = 1.3  # sigma of single pixels beyond which a mean of nine pixels is under a source


@dataclass(frozen=True)
class Exposure:
    """An image with all that was measured on it.

    Attributes
    ----------
    image : Image
    data : ndarray, float32, (ny, nx)
        Pixels without the sky [ADU]; unusable ones are 0.
    level : ndarray, float32, (ny, nx)
        The sky [ADU].
    noise : SkyNoise
    variance : ndarray, float32, (ny, nx)
        Variance of each pixel [ADU²], sources included.
    sources : Sources
        With PSF fluxes.
    position_err : ndarray, float64
        Error of the sources' positions along one axis [px].
    psf : PSF
    stars : ndarray of indices
        Which sources are well-exposed single stars; the PSF was made of them, unless it was given.
    notes : tuple of str
        What had to be estimated or assumed.
    """

    image: Image
    data: FloatImage
    level: FloatImage
    noise: SkyNoise
    variance: FloatImage
    sources: Sources
    position_err: NDArray[np.float64]
    psf: PSF
    stars: NDArray[np.intp]
    notes: tuple[str, ...] = ()

    @property
    def sigma(self) -> float:
        """Typical standard deviation of the sky [ADU]."""
        return float(np.median(self.noise.sigma[::3, ::3]))


def measure(
    image: Image,
    *,
    background_options: BackgroundOptions = BackgroundOptions(),
    detect: DetectOptions = DetectOptions(),
    psf_options: PSFOptions = PSFOptions(),
    psf: PSF | None = None,
) -> Exposure:
    """Measure sky, noise, stars and PSF of an image.

    Parameters
    ----------
    image : Image
    background_options, detect, psf_options
        How.
    psf : PSF or None
        When given it is taken as it is.

    Raises
    ------
    PixelError
        The image is constant or has no usable pixel.
    StarsError
        Fewer stars than ``psf_options.min_stars`` and no PSF given.
    """
    if not image.good.any():
        raise PixelError(image.name, "no usable pixel", 0, image.data.size)
    image, notes = _with_saturation(image)
    bad = ~image.good
    if bad.all():
        raise PixelError(image.name, "every pixel is bad or saturated", 0, bad.size)
    data, level, noise = _sky(image, bad, background_options)
    sources, fwhm = with_fixed_apertures(data, bad, _detect(data, noise.sigma, bad, detect))
    if fwhm > BROAD:  # a filter of the seeing's width finds fainter stars, and one star in a ring of light
        sources, fwhm = with_fixed_apertures(data, bad, _detect(data, noise.sigma, bad, detect, fwhm))
    if image.variance is not None:
        noise = from_variance(image.variance, ~bad, data, image.gain)
    told = noise.sigma
    if np.isfinite(fwhm):
        noise = at_seeing(noise, data, bad, fwhm, image.gain is not None)
    variance = _variance(image, noise, data, float(noise.sigma[0, 0] / told[0, 0]) ** 2)
    data[bad & ((image.mask & np.uint16(Flag.SATURATED)) == 0)] = 0
    if psf is None:
        before = data.copy()
        psf, scene, stars = _model(image, data, variance, (sources, fwhm), psf_options, background_options)
        level = level + (before - data)
    else:
        scene = fit_scene(data, variance, ~bad, sources, psf)
        reach, most = psf.size / 2, psf_options.max_stars
        stars = choose_stars(sources, image.shape, fwhm=fwhm, reach=reach, most=most)
        stars = stars[scene.chi2[stars] < LIKE_PSF]  # a given PSF tells stars from galaxies
    data[bad] = 0
    return Exposure(
        image=image,
        data=data,
        level=level,
        noise=noise,
        variance=variance,
        sources=scene.sources,
        position_err=scene.position_err,
        psf=psf,
        stars=stars,
        notes=image.notes + notes + noise.notes,
    )


def _detect(
    data: FloatImage, sigma: FloatImage, bad: Bool, options: DetectOptions, fwhm: float = FIRST_FILTER
) -> Sources:
    """Sources by sep, or by SExtractor where asked."""
    if options.detector == "sextractor":
        from zogyp.measure.astromatic import sextractor_sources  # an external program, only where asked

        return sextractor_sources(data, sigma, bad, options)[0]
    return find_sources(data, sigma, bad, options, fwhm)[0]


def _with_saturation(image: Image) -> tuple[Image, tuple[str, ...]]:
    """Mark saturated pixels, and those that touch them; estimate the level when nobody told."""
    notes: tuple[str, ...] = ()
    level = image.saturation
    if level is None:
        level = _plateau(image.data[image.good])
        if level is not None:
            notes = (f"saturation unknown: {level:.6g} taken, where the brightest pixels pile up",)
    if level is None:
        return image, notes
    full = (image.data >= level) & ((image.mask & np.uint16(Flag.NO_DATA)) == 0)
    full |= (image.mask & np.uint16(Flag.SATURATED)) > 0
    if not full.any():
        return replace(image, saturation=level), notes
    full = maximum_filter(full.view(np.uint8), 3) > 0  # charge spills to the neighbours
    mask = image.mask | np.where(full, np.uint16(Flag.SATURATED), np.uint16(0))
    return replace(image, mask=mask, saturation=level), notes


def _plateau(values: FloatImage) -> float | None:
    """Level at which the brightest pixels pile up, if they do.

    Cores of stars have ever fewer pixels towards their peaks; a pile of them in the upper half of the
    range is saturation, be it sharp or smeared by resampling.
    """
    top, low = float(values.max()), float(np.median(values))
    if not top > low:
        return None
    counts, edges = np.histogram(values, bins=50, range=(low, top))  # two per cent of the range each
    pile = counts[:-1] + counts[1:]
    level = None
    for i in range(25, pile.size):
        below = float(np.median(counts[i - 15 : i - 2]))
        if pile[i] >= max(8.0, 8 * below) and pile[i] == pile[25:].max():
            start = i
            while counts[start - 1] > 2.5 * below + 2:
                start -= 1
            level = float(edges[start])
    return level


def _sky(image: Image, bad: Bool, options: BackgroundOptions) -> tuple[FloatImage, FloatImage, SkyNoise]:
    """Pixels without sky, the sky, its noise: twice, the second time with the sources masked."""
    filled = np.where(bad, np.float32(0), image.data)
    filled[bad] = np.median(image.data[~bad])
    if float(filled.max()) == float(filled.min()):
        raise PixelError(image.name, "the image is constant", int((~bad).sum()), bad.size)
    known = {"gain": image.gain, "read_noise": image.read_noise}
    level = background(filled, bad, options)
    sigma = robust_sigma(high_pass(filled, 3.0)[~bad])
    if not sigma > 0:
        raise PixelError(image.name, "the image has no noise", int((~bad).sum()), bad.size)
    bright = uniform_filter(filled - level, 3) > COVERED * sigma
    covered = bad | (maximum_filter(bright.view(np.uint8), 9) > 0)
    if covered.mean() < 0.9:
        level = background(filled, covered, options)
    data = filled - level
    saturated = bad & ((image.mask & np.uint16(Flag.NO_DATA | Flag.BAD)) == 0)
    data[saturated] = image.data[saturated] - level[saturated]
    noise = sky_noise(data, level, bad, fwhm=3.0, **known)
    return data.astype(np.float32), level, noise


def _variance(image: Image, noise: SkyNoise, data: FloatImage, factor: float) -> FloatImage:
    """Variance per pixel: as given times ``factor``, else sky plus photons of what is there."""
    if image.variance is None:
        return noise.variance(data)
    usable = image.good & (image.variance > 0)
    typical = np.float32(np.median(image.variance[usable]))
    return np.where(usable, image.variance, typical) * np.float32(factor)


def _model(
    image: Image,
    data: FloatImage,
    variance: FloatImage,
    detected: tuple[Sources, float],
    options: PSFOptions,
    sky_options: BackgroundOptions,
) -> tuple[PSF, Scene, NDArray[np.intp]]:
    """PSF and scene in turn, from a profile to the full model; sky that comes to light leaves ``data``."""
    hint = "Give a PSF file, or a larger or deeper image."
    sources, fwhm = detected
    if not np.isfinite(fwhm):
        raise StarsError(f"PSF of {image.name}", 0, options.min_stars, hint)
    fwhm = float(np.clip(fwhm, 1.2, 30))
    good = image.good
    grid = grid_for(fwhm, options.size, options.sampling)
    chosen = choose_stars(sources, image.shape, fwhm=fwhm, reach=grid.radius, most=options.max_stars)
    if chosen.size < options.min_stars:
        raise StarsError(f"PSF of {image.name}", int(chosen.size), options.min_stars, hint)
    profile = Moffat(fwhm)
    psf = moffat_psf(profile, grid)
    scene = fit_scene(data, variance, good, sources, psf, sweeps=2, psf_error=0.2)
    stamps = star_stamps(scene, variance, good, psf, chosen, grid.radius)
    profile = fit_profile(stamps, grid, profile)
    psf = moffat_psf(profile, grid)
    scene = fit_scene(data, variance, good, scene.sources, psf, sweeps=1, psf_error=0.1)
    for error in (0.02, 0.01):
        data -= _sky_between_stars(scene, good, sky_options)
        chosen = _consistent(scene, chosen, options.min_stars)
        stamps = star_stamps(scene, variance, good, psf, chosen, grid.radius)
        order = order_for(chosen.size, options.order)
        psf = fit_psf(stamps, grid, order, profile, image.shape, psf)
        scene = fit_scene(data, variance, good, scene.sources, psf, sweeps=1, psf_error=error)
    return psf, scene, chosen


def _sky_between_stars(scene: Scene, good: Bool, options: BackgroundOptions) -> FloatImage:
    """Sky that is left when all stars are taken off with their wings: in crowded fields a better one."""
    loud = ~good | (np.abs(scene.residual) > 4 * robust_sigma(scene.residual[good]))
    return background(scene.residual, maximum_filter(loud.view(np.uint8), 5) > 0, options)


def _consistent(scene: Scene, chosen: NDArray[np.intp], least: int) -> NDArray[np.intp]:
    """Stars that the present model fits about as well as it fits the others."""
    chi2 = scene.chi2[chosen]
    snr = scene.sources.flux[chosen] / scene.sources.flux_err[chosen]
    keep = (snr > 5) & (chi2 < 4 * np.median(chi2) + 3)
    return chosen[keep] if keep.sum() >= least else chosen
