"""What a co-addition gives: planes, PSF, inputs, figures."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from astropy.table import Column, Table
from numpy.typing import NDArray

from zogyp.core.psfmodel import PSF, n_terms
from zogyp.fluxscale import STIFFEST, Surface
from zogyp.headers import put, without_detector
from zogyp.image import Flag, FloatImage, Image, MaskImage
from zogyp.scaled import Scaled

HIDDEN = np.uint16(Flag.BAD | Flag.NO_DATA)  # bits of pixels that have no value of their own


@dataclass(frozen=True)
class Coadd:
    """Exposures summed.

    All planes are on one grid, shape (ny, nx), float32; NaN where no exposure has a usable pixel.

    Attributes
    ----------
    R : of a proper coadd: white noise of unit variance where most exposures reach; a star of flux f shows
        as ``F_R f psf``. Of the plain methods: flux.
    psf : PSF
        P_R, for a proper coadd; else None.
    variance : of R, stars' own noise included.
    weight : inverse variance of the sky in units of flux [1/ADU²]; 0 where there is nothing.
    coverage : int32, exposures that have a usable pixel here.
    mask : uint16 bits of `zogyp.image.Flag`.
    inputs : Table
        One row for each exposure in the sum: file, weight, seeing, flux scale, noise, zero point, offsets ...
    F_R : flux scale of R; 1 for the plain methods.
    psf_noise : typical error of the exposures' PSFs at any frequency, of unit sum: where P_R falls below it,
        more exposures are added to a coadd as the exposures in it were.
    image : Image
        R as an image with all that is known of it: what `zogyp.subtract` takes as well as the written file.
    summary : JSON-ready figures: method, exposures left out, timings, ...
    """

    R: FloatImage
    psf: PSF | None
    variance: FloatImage
    weight: FloatImage
    coverage: NDArray[np.int32]
    mask: MaskImage
    inputs: Table
    F_R: float
    psf_noise: float
    image: Image
    summary: dict[str, Any] = field(default_factory=dict)

    @property
    def flux(self) -> FloatImage:
        """R / F_R [ADU of the first exposure]."""
        return self.R / np.float32(self.F_R)

    def write(self, path: str | os.PathLike[str]) -> Path:
        """Write one FITS file that holds all of it; see `zogyp.coadd_files.write_coadd`."""
        from zogyp.coadd_files import write_coadd  # which knows this class

        return write_coadd(path, self)


def input_table(frames: Sequence[Scaled], rejected: Sequence[int], adu: float) -> Table:
    """What each exposure is and what it brings.

    Parameters
    ----------
    frames : sequence of Scaled
    rejected : sequence of int
        Pixels of each that the others contradicted.
    adu : float
        Unit of flux in ADU of the first exposure.
    """
    total = sum(f.sign * f.depth for f in frames)
    columns: dict[str, tuple[list[Any], str, str]] = {
        "file": ([f.frame.path for f in frames], "", "exposure"),
        "weight": ([f.depth / total for f in frames], "", "share of the sum of F^2 / sigma^2"),
        "fwhm": ([f.frame.fwhm for f in frames], "pix", "seeing on the grid"),
        "flux_scale": ([f.scale / adu for f in frames], "", "F: counts of a star of flux 1"),
        "flux_scale_err": ([f.flux.error for f in frames], "", "its relative error"),
        "sigma": ([f.sigma for f in frames], "adu", "noise of the sky"),
        "sky": ([f.frame.sky for f in frames], "adu", "level of the sky"),
        "gain": ([_number(f.frame.exposure.noise.gain) for f in frames], "", "gain [e-/adu]"),
        "read_noise": (
            [_number(f.frame.exposure.image.read_noise) for f in frames],
            "",
            "read noise [e-]",
        ),
        "zero_point": ([_zero_point(f) for f in frames], "mag", "magnitude of 1 ADU, from the header"),
        "exptime": ([_number(f.frame.exposure.image.exptime) for f in frames], "s", "exposure time"),
        "dx": (
            [_offset(f)[0] for f in frames],
            "pix",
            "where the middle of the grid lies in it, less itself",
        ),
        "dy": ([_offset(f)[1] for f in frames], "pix", "the same along y"),
        "rotation": ([_offset(f)[2] for f in frames], "deg", "rotation"),
        "n_matched": ([_registered(f, "n_matched", 0) for f in frames], "", "stars that placed it"),
        "rms": ([_rms(f) for f in frames], "pix", "rms of its stars about their places"),
        "resampled": ([f.frame.moved for f in frames], "", "its pixels were interpolated"),
        "overlap": ([f.frame.overlap for f in frames], "", "share of the grid with usable pixels"),
        "n_stars": ([f.frame.psf.n_stars for f in frames], "", "stars its PSF was made of"),
        "rejected": (list(rejected), "", "pixels that the other exposures contradict"),
        **surfaces(frames, adu),
        "digest": ([f.frame.digest.hex() for f in frames], "", "of the pixels as they were read"),
        "seconds": ([round(f.frame.seconds, 2) for f in frames], "s", "to measure it"),
    }
    return Table(
        [
            Column(values, name=name, unit=unit or None, description=text)
            for name, (values, unit, text) in columns.items()
        ]
    )


def surfaces(frames: Sequence[Scaled], adu: float) -> dict[str, tuple[list[Any], str, str]]:
    """How flux scales and places vary over the grid: an exposure can be taken out as it was put in."""
    widest = {"flux": n_terms(2), "dx": n_terms(STIFFEST), "dy": n_terms(STIFFEST)}
    columns: dict[str, tuple[list[Any], str, str]] = {
        "flux_unit": (
            [f.unit / adu for f in frames],
            "",
            "by which the surface of the flux scale is multiplied",
        ),
        "flux_log": ([f.flux.log for f in frames], "", "the surface is of its logarithm"),
    }
    for name, n in widest.items():
        still = [name != "flux" and not f.moves for f in frames]  # a shift that is not significant is none
        terms = [
            np.zeros(1) if s else getattr(f, name).coefficients for f, s in zip(frames, still, strict=True)
        ]
        padded = [np.pad(t, (0, n - t.size), constant_values=np.nan) for t in terms]
        columns[f"{name}_terms"] = (padded, "", "terms of its polynomial over the grid")
    return columns


def surface_of(terms: NDArray[np.float64], shape: tuple[int, int], *, log: bool = False) -> Surface:
    """A surface from the terms that a table of inputs holds."""
    known = np.asarray(terms, dtype=np.float64)[np.isfinite(terms)]
    order = next(k for k in range(STIFFEST + 1) if n_terms(k) == known.size)
    ny, nx = shape
    return Surface(known, order, (max((nx - 1) / 2, 0.5), max((ny - 1) / 2, 0.5)), log=log)


def _number(value: float | None) -> float:
    return np.nan if value is None else float(value)


def _zero_point(one: Scaled) -> float:
    return _number(one.frame.exposure.image.zero_point)


def _registered(one: Scaled, name: str, otherwise: Any) -> Any:
    return otherwise if one.frame.registration is None else getattr(one.frame.registration, name)


def _rms(one: Scaled) -> float:
    return float(np.hypot(_registered(one, "rms_x", 0.0), _registered(one, "rms_y", 0.0)))


def _offset(one: Scaled) -> tuple[float, float, float]:
    """How the middle of the grid lies in the exposure: x, y [px], rotation [deg]."""
    registration = one.frame.registration
    if registration is None:
        return 0.0, 0.0, 0.0
    ny, nx = one.frame.plane("mask").shape
    x, y = np.array([(nx - 1) / 2]), np.array([(ny - 1) / 2])
    u, v = registration.transform(x, y)
    return float(u[0] - x[0]), float(v[0] - y[0]), registration.transform.rotation


def typical_noise(frames: Sequence[Scaled]) -> float:
    """Error of the PSFs at any frequency, root of the mean square weighted by depth."""
    depth, noise = (np.array([getattr(f, name) for f in frames]) for name in ("depth", "psf_noise"))
    added = np.array([f.sign > 0 for f in frames])
    return float(np.sqrt((depth * noise**2)[added].sum() / depth[added].sum()))


@dataclass(frozen=True)
class Detector:
    """The gain, read noise, saturation and zero point of a coadd, as if a camera had taken it.

    All in its own unit [e-/unit], [e-], [unit], [mag]; None where an exposure's are not known.
    """

    gain: float | None
    read_noise: float | None
    saturation: float | None
    zero_point: float | None
    exptime: float | None


def detector(frames: Sequence[Scaled], F_R: float, adu: float, peak: float | None) -> Detector:
    """What the mean of exposures, weighted by depth, has for a gain and the like.

    A source of flux f has the variance f times the sum of share² / (F g) in units of flux.

    Parameters
    ----------
    frames : sequence of Scaled
    F_R : flux scale of the coadd's pixels [unit / ADU of the first exposure].
    adu : as in `input_table`.
    peak : largest value of the coadd's PSF; None: its pixels are a mean of the exposures'.
    """
    depth, sign = (np.array([getattr(f, name) for f in frames]) for name in ("depth", "sign"))
    share2 = sign * (depth / (sign * depth).sum()) ** 2
    F = np.array([f.scale / adu for f in frames])
    g, rn = (
        np.array([_number(v) for v in values])
        for values in (
            [f.frame.exposure.noise.gain for f in frames],
            [f.frame.exposure.image.read_noise for f in frames],
        )
    )
    gain = read = None
    if np.isfinite(g).all():
        gain = float(1 / (share2 / (F * g)).sum() / F_R)
        if np.isfinite(rn).all():
            read = float(np.sqrt(max((share2 * (rn / g / F) ** 2).sum(), 0.0)) * F_R * gain)
    full = [_brightest(f, adu, peak) for f in frames if f.sign > 0]
    saturation = None if None in full else max(v for v in full if v is not None) * F_R
    first = frames[0].frame.exposure.image
    zero = None if first.zero_point is None else first.zero_point + 2.5 * float(np.log10(F_R / F[0]))
    times = [f.frame.exposure.image.exptime for f in frames]
    exptime = (
        None
        if None in times
        else float(sum(s * t for s, t in zip(sign, times, strict=True) if t is not None))
    )
    return Detector(gain, read, saturation, zero, exptime)


def _brightest(one: Scaled, adu: float, peak: float | None) -> float | None:
    """Flux in the coadd's brightest pixel [flux] of a star that just saturates an exposure."""
    level = one.frame.exposure.image.saturation
    if level is None:
        return None
    flux = (level - one.frame.sky) / (one.scale / adu)
    if peak is None:
        return flux
    psf = one.frame.psf
    return flux / float(psf.at(*psf.origin).max()) * peak


def described(
    R: FloatImage, variance: FloatImage, mask: MaskImage, found: Detector, frames: Sequence[Scaled], wcs: Any
) -> Image:
    """R as an image with all that is known of it."""
    first = frames[0].frame.exposure.image
    header = fits.Header() if first.header is None else without_detector(first.header)
    for card, value, comment in (
        ("GAIN", found.gain, "[e-/unit of the pixels] effective gain"),
        ("RDNOISE", found.read_noise, "[e-] effective read noise"),
        ("SATURATE", found.saturation, "[unit of the pixels] peak of a star that saturates everywhere"),
        ("MAGZERO", found.zero_point, "[mag] of 1 unit of the pixels"),
        ("EXPTIME", found.exptime, "[s] sum of the exposures"),
    ):
        if value is not None:
            put(header, card, value, comment)
    return Image(
        data=R,
        mask=mask,
        variance=variance,
        wcs=wcs,
        header=header,
        gain=found.gain,
        read_noise=found.read_noise,
        saturation=found.saturation,
        zero_point=found.zero_point,
        exptime=found.exptime,
        name=f"coadd of {len(frames)}",
        resampled=True,
    )
