"""All stars of an image at once: fit fluxes and positions so that each is free of its neighbours."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from zogyp.core.planes import like
from zogyp.core.psfmodel import PSF
from zogyp.core.stacks import stack_draw
from zogyp.core.stamps import add_stars, cut_stamps, sweep
from zogyp.image import FloatImage
from zogyp.measure.psf_solver import StarStamps
from zogyp.measure.sources import Sources

F8 = NDArray[np.float64]
Bool = NDArray[np.bool_]
FAINT = 0.05  # sigma of a pixel below which a star's wing need not be drawn


@dataclass(frozen=True)
class Scene:
    """A model of all sources and what it leaves.

    Attributes
    ----------
    sources : Sources
        With fluxes of the PSF fit.
    residual : ndarray, float32, (ny, nx)
        Image minus model [ADU].
    radius : ndarray, int64, (n,)
        To which each star is drawn [px].
    position_err : ndarray, float64, (n,)
        Formal error of the position along one axis [px]; inf where it was not fitted.
    chi2 : ndarray, float64, (n,)
        Reduced chi² within each star's core.
    """

    sources: Sources
    residual: FloatImage
    radius: NDArray[np.int64]
    position_err: F8
    chi2: F8


def fit_scene(
    data: FloatImage,
    variance: FloatImage,
    good: Bool,
    sources: Sources,
    psf: PSF,
    *,
    sweeps: int = 2,
    psf_error: float = 0.02,
    room: FloatImage | None = None,
) -> Scene:
    """Fit the fluxes and positions of all sources by the PSF, neighbours included.

    Parameters
    ----------
    data, variance, good : (ny, nx)
        Pixels without sky [ADU], their variance [ADU²], which of them are usable.
    sources : Sources
        First positions and fluxes, brightest first.
    sweeps : int
        Passes over all stars.
    psf_error : float
        Relative error of the PSF's pixels: keeps bright cores from deciding alone.
    room : ndarray, float32, (ny, nx) or None
        Where to put the residual; what it held is lost.
    """
    terms = np.ascontiguousarray(psf.terms(sources.x, sources.y).T)
    planes = _unit(psf)
    sigma = float(np.sqrt(np.median(variance[::7, ::7])))
    radius = star_radii(psf, sources.flux, sigma)
    fit = np.minimum(radius, np.where(sources.saturated, radius, np.ceil(1.3 * psf.fwhm)))
    stars = np.column_stack([sources.x, sources.y, sources.flux, radius, fit]).astype(np.float64)
    residual = like(data) if room is None else room
    np.copyto(residual, data)
    x, y, flux = np.ascontiguousarray(stars[:, :3].T)
    add_stars(residual, x, y, -flux, radius, terms, planes, psf.sampling)
    out = np.zeros((len(sources), 4))
    for i in range(sweeps):
        how = np.array([psf_error, 1.0, 0.5 if i == 0 else 0.2])
        out = sweep(residual, variance, good, stars, terms, planes, psf.sampling, how)
    fitted = replace(
        sources,
        x=stars[:, 0].copy(),
        y=stars[:, 1].copy(),
        flux=stars[:, 2].copy(),
        flux_err=out[:, 0].copy(),
    )
    return Scene(
        sources=fitted,
        residual=residual,
        radius=radius,
        position_err=out[:, 1].copy(),
        chi2=out[:, 2] / np.maximum(out[:, 3] - 3, 1),
    )


def star_stamps(
    scene: Scene, variance: FloatImage, good: Bool, psf: PSF, index: NDArray[np.intp], radius: int
) -> StarStamps:
    """Stamps of the chosen stars with everything else taken off."""
    s = scene.sources
    x, y, flux = s.x[index], s.y[index], s.flux[index]
    terms = np.ascontiguousarray(psf.terms(x, y).T)
    data = cut_stamps(scene.residual, x, y, radius, 0.0)
    model = stack_draw(_unit(psf), x, y, terms, radius, psf.sampling)
    reach = np.arange(-radius, radius + 1)
    distance = np.maximum(np.abs(reach)[:, None], np.abs(reach)[None, :])
    drawn = distance[None] <= scene.radius[index][:, None, None]  # what was taken off, no more
    data += np.where(drawn, model * flux[:, None, None].astype(np.float32), 0)
    v = cut_stamps(variance, x, y, radius, np.inf)
    v[cut_stamps(good.view(np.uint8), x, y, radius, 0.0) == 0] = np.inf
    return StarStamps(data=data, variance=v, x=x, y=y, flux=flux)


def _unit(psf: PSF) -> F8:
    """Coefficients scaled so that the PSF at the origin has unit sum."""
    return psf.coefficients / psf.total


def star_radii(psf: PSF, flux: F8, sigma: float) -> NDArray[np.int64]:
    """Radius [px] at which each star's wing falls below the noise by `FAINT`."""
    k = psf.size
    plane = psf.at(*psf.origin)
    p = np.arange(k) - k // 2
    ring = np.hypot(p[:, None], p[None, :]).astype(int)
    profile = np.bincount(ring.ravel(), np.abs(plane).ravel()) / np.bincount(ring.ravel())
    profile = np.maximum.accumulate(profile[::-1])[::-1][: k // 2 + 1]  # falls outwards
    reach = np.searchsorted(-profile, -FAINT * sigma / np.maximum(flux, 1e-30 * sigma))
    least = int(np.ceil(1.5 * psf.fwhm)) + 1 if np.isfinite(psf.fwhm) else 5
    return np.clip(reach, min(least, k // 2), k // 2).astype(np.int64)
