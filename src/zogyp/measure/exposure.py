"""Everything that one image tells of itself: sky, noise, stars, PSF."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from zogyp.core.meshes import MeshSurface
from zogyp.core.morphology import dilated
from zogyp.core.planes import copied
from zogyp.core.psfmodel import PSF
from zogyp.core.threads import bands
from zogyp.errors import StarsError
from zogyp.image import FloatImage, Image
from zogyp.measure.background import sky_surface
from zogyp.measure.crowd import hidden_sources, stars_of_the_crowd
from zogyp.measure.firstlook import FirstLook, look, take_off
from zogyp.measure.moffat import Moffat
from zogyp.measure.noise import SkyNoise
from zogyp.measure.psf import STEPS, fit_profile, fit_psf, grid_for, moffat_psf, order_for
from zogyp.measure.psf_solver import Grid
from zogyp.measure.radial import bend
from zogyp.measure.robust import robust_sigma, sample
from zogyp.measure.scene import Scene, fit_scene, star_stamps
from zogyp.measure.sources import Sources, choose_stars
from zogyp.options import BackgroundOptions, DetectOptions, PSFOptions

Bool = NDArray[np.bool_]
SWEEPS = 8  # with a given PSF: stars that the border cuts start half a pixel off, and move slowly
LIKE_PSF = 5.0  # reduced chi² within the core beyond which a source is not a star


@dataclass(frozen=True)
class Step:
    """A round of fitting PSF and scene in turn.

    Attributes
    ----------
    psf_error : float
        Relative error of the PSF's pixels that the scene allows for.
    of_model : float
        Hidden sources are looked for that have this share of the modelled light; 0: none are.
    chosen_anew : bool
        The PSF's stars are chosen anew of all that the scene has shown.
    effort : int
        Steps of each round of the PSF's fit.
    """

    psf_error: float
    of_model: float = 0.0
    chosen_anew: bool = False
    effort: int = STEPS


SEEING = (1.2, 30.0)  # px, FWHM that a first profile may have
LOST = 100.0  # times the brightest source: a flux beyond it is one that a fit has lost
STAGES = (Step(0.02, effort=8), Step(0.01))
# the better the PSF is known, the fainter are the neighbours that can be told from its errors
CROWD_STAGES = (
    Step(0.05, 1.0),
    Step(0.03, 0.5),
    Step(0.02, 0.25),
    Step(0.01, 0.1, chosen_anew=True),
    Step(0.01, 0.1, chosen_anew=True),
    Step(0.01, 0.1, chosen_anew=True),
)


@dataclass(frozen=True)
class Exposure:
    """An image with all that was measured on it.

    Attributes
    ----------
    image : Image
    data : ndarray, float32, (ny, nx)
        Pixels without the sky [ADU]; unusable ones are 0.
    level : MeshSurface
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
    crowded : bool
        The light of stars runs together.
    psf_given : bool
        The PSF was not measured here.
    """

    image: Image
    data: FloatImage
    level: MeshSurface
    noise: SkyNoise
    variance: FloatImage
    sources: Sources
    position_err: NDArray[np.float64]
    psf: PSF
    stars: NDArray[np.intp]
    notes: tuple[str, ...] = ()
    crowded: bool = False
    psf_given: bool = False

    @property
    def sigma(self) -> float:
        """Typical standard deviation of the sky [ADU]."""
        return self.noise.sigma.typical

    def without_pixels(self) -> Exposure:
        """The same for who needs what was measured, but neither ``data`` nor ``variance``."""
        none = np.zeros((0, 0), np.float32)
        return replace(self, data=none, variance=none)


def measure(
    given: Image | FirstLook,
    *,
    background_options: BackgroundOptions = BackgroundOptions(),
    detect: DetectOptions = DetectOptions(),
    psf_options: PSFOptions = PSFOptions(),
    psf: PSF | None = None,
    spend: bool = False,
) -> Exposure:
    """Measure sky, noise, stars and PSF of an image.

    Parameters
    ----------
    given : Image or FirstLook
        An image, or what a first look at it has shown.
    background_options, detect, psf_options
        How.
    psf : PSF or None
        When given it is taken as it is.
    spend : bool
        The pixels of a first look may be overwritten: nobody needs them any more.

    Raises
    ------
    PixelError
        The image is constant or has no usable pixel.
    StarsError
        Fewer stars than ``psf_options.min_stars`` and no PSF given.
    """
    if isinstance(given, FirstLook):
        seen = given
    else:
        seen = look(given, background_options=background_options, detect=detect)
    image, level = seen.image, seen.level
    spend |= not isinstance(given, FirstLook)
    data = seen.data if spend and not seen.crowded else copied(seen.data)  # a crowd may have to begin anew
    bad = ~image.good
    given_psf = psf is not None
    if psf is None:
        psf, scene, stars, sky = _model(seen, data, psf_options, background_options)
        level = level + sky
    else:
        scene = fit_scene(data, seen.variance, ~bad, seen.sources, psf, sweeps=SWEEPS)
        reach, most = psf.size / 2, psf_options.max_stars
        stars = choose_stars(seen.sources, image.shape, fwhm=seen.fwhm, reach=reach, most=most)
        stars = stars[scene.chi2[stars] < LIKE_PSF]  # a given PSF tells stars from galaxies
    data[bad] = 0
    return Exposure(
        image=image,
        data=data,
        level=level,
        noise=seen.noise,
        variance=seen.variance,
        sources=scene.sources,
        position_err=scene.position_err,
        psf=psf,
        stars=stars,
        notes=seen.notes,
        crowded=seen.crowded,
        psf_given=given_psf,
    )


def _model(
    seen: FirstLook,
    data: FloatImage,
    options: PSFOptions,
    sky_options: BackgroundOptions,
) -> tuple[PSF, Scene, NDArray[np.intp], MeshSurface]:
    """PSF and scene in turn, up to the full model, and the sky that has left ``data`` meanwhile."""
    hint = "Give a PSF file, or a larger or deeper image."
    image, variance, sources, fwhm = seen.image, seen.variance, seen.sources, seen.fwhm
    if not np.isfinite(fwhm):
        raise StarsError(f"PSF of {image.name}", 0, options.min_stars, hint)
    fwhm = float(np.clip(fwhm, *SEEING))
    good = image.good
    grid = grid_for(fwhm, options.size, options.sampling)
    chosen = choose_stars(sources, image.shape, fwhm=fwhm, reach=grid.radius, most=options.max_stars)
    if chosen.size < options.min_stars:
        raise StarsError(f"PSF of {image.name}", int(chosen.size), options.min_stars, hint)
    psf, profile, scene, some = _first_model(seen, data, chosen, grid)
    level = seen.level * 0.0
    for step in CROWD_STAGES if seen.crowded else STAGES:
        whole = len(scene.sources) >= len(sources)
        if whole:
            sky = _sky_between_stars(scene, good, sky_options)
            take_off(data, sky)
            level = level + sky
        if step.chosen_anew:
            most = options.max_stars
            chosen = stars_of_the_crowd(scene.sources, image.shape, fwhm=fwhm, reach=2 * fwhm, most=most)
        index = _consistent(scene, chosen if whole else np.searchsorted(some, chosen), options.min_stars)
        chosen = index if whole else some[index]
        stamps = star_stamps(scene, variance, good, psf, index, grid.radius)
        order = order_for(chosen.size, options.order)
        # neighbours that nobody can tell apart would bend the profile of a crowd's stars
        prior = profile if seen.crowded else bend(profile, stamps, grid)
        psf = fit_psf(stamps, grid, order, prior, image.shape, psf, step.effort)
        started, sweeps = (scene.sources, 1) if whole else (sources, 2)
        room = scene.residual
        scene = fit_scene(
            data, variance, good, started, psf, sweeps=sweeps, psf_error=step.psf_error, room=room
        )
        if step.of_model:
            hidden = hidden_sources(scene.residual, data - scene.residual, variance, good, psf, step.of_model)
            everything = scene.sources.joined(hidden)
            scene = fit_scene(
                data, variance, good, everything, psf, sweeps=1, psf_error=step.psf_error, room=room
            )
            if not np.abs(scene.sources.flux).max() <= LOST * np.abs(sources.flux).max():
                # too few stars for a PSF that holds everywhere: only those that stand out
                data[:] = seen.data
                return _model(replace(seen, crowded=False), data, options, sky_options)
    return psf, scene, chosen, level


def _first_model(
    seen: FirstLook, data: FloatImage, chosen: NDArray[np.intp], grid: Grid
) -> tuple[PSF, Moffat, Scene, NDArray[np.intp]]:
    """A profile for the stars, a scene by it, and which sources that holds.

    A profile needs the chosen stars and what reaches into their stamps, not the whole image; in a crowd that
    is nearly all.
    """
    variance, good, sources = seen.variance, seen.image.good, seen.sources
    some = np.arange(len(sources)) if seen.crowded else _about(sources, chosen, 2 * grid.radius)
    profile = Moffat(float(np.clip(seen.fwhm, *SEEING)))
    psf = moffat_psf(profile, grid)
    scene = fit_scene(data, variance, good, sources.take(some), psf, sweeps=2, psf_error=0.2)
    stamps = star_stamps(scene, variance, good, psf, np.searchsorted(some, chosen), grid.radius)
    profile = fit_profile(stamps, grid, profile)
    psf = moffat_psf(profile, grid)
    room = scene.residual
    scene = fit_scene(data, variance, good, scene.sources, psf, sweeps=1, psf_error=0.1, room=room)
    return psf, profile, scene, some


def _about(sources: Sources, chosen: NDArray[np.intp], reach: float) -> NDArray[np.intp]:
    """Indices of the chosen sources and all within ``reach`` px along both axes of one, in order."""
    places = np.column_stack([sources.x, sources.y])
    near = cKDTree(places[chosen]).query(places, distance_upper_bound=reach, p=np.inf)[0]
    return np.flatnonzero(np.isfinite(near))


def _sky_between_stars(scene: Scene, good: Bool, options: BackgroundOptions) -> MeshSurface:
    """Sky that is left when all stars are taken off with their wings: in crowded fields a better one."""
    rest = scene.residual
    limit = 4 * robust_sigma(sample(rest)[sample(good)])
    loud = np.empty(good.shape, dtype=np.bool_)
    for rows in bands(len(loud)):
        np.greater(np.abs(rest[rows]), limit, out=loud[rows])
        loud[rows] |= ~good[rows]
    return sky_surface(rest, dilated(loud, 5), options)


def _consistent(scene: Scene, chosen: NDArray[np.intp], least: int) -> NDArray[np.intp]:
    """Stars that the present model fits about as well as it fits the others."""
    chi2 = scene.chi2[chosen]
    snr = scene.sources.flux[chosen] / scene.sources.flux_err[chosen]
    keep = (snr > 5) & (chi2 < 4 * np.median(chi2) + 3)
    return chosen[keep] if keep.sum() >= least else chosen
