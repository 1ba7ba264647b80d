"""Every tunable of zogyp: its default, unit, allowed values and help. The only place.

The command line, the TOML configuration and the Python API are made from these
frozen dataclasses, so they cannot disagree. A group of options travels whole to the
step that owns it. ``dataclasses.replace`` makes a changed copy.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field, fields
from math import isnan
from typing import Any, Literal

from zogyp.errors import OptionError

LEAST = 1_000_000  # bytes that `bytes_of` accepts
FACTORS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
SIZE = re.compile(r"((?:\d+\.?\d*|\.\d+)(?:E[+-]?\d+)?)\s*([KMGT]?)(?:I?B)?", re.IGNORECASE)


def opt(default: Any, help: str, *, low: float | None = None, high: float | None = None) -> Any:
    """A dataclass field that carries its help and the closed range allowed for it."""
    return field(default=default, metadata={"help": help, "low": low, "high": high})


class _Checked:
    """Check every number against the range stated beside its default."""

    def __post_init__(self) -> None:
        for f in fields(self):  # type: ignore[arg-type]
            value = getattr(self, f.name)
            low, high = f.metadata.get("low"), f.metadata.get("high")
            if value is None or isinstance(value, (str, bool)) or (low is None and high is None):
                continue
            too_low = low is not None and value < low
            too_high = high is not None and value > high
            if too_low or too_high or isnan(value):
                limits = f"at least {low}" if high is None else f"between {low} and {high}"
                raise OptionError(f.name, value, limits if low is not None else f"at most {high}")


class _Threaded(_Checked):
    """Options with a number of threads."""

    threads: int

    @property
    def n_threads(self) -> int:
        """Number of threads to use."""
        return available(self.threads)


class _Bounded(_Threaded):
    """Options with a bound of memory, too."""

    memory: str | None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.memory is not None:
            bytes_of(self.memory)


@dataclass(frozen=True)
class InputOptions(_Checked):
    """What is known of one input image beside its pixels; a value here overrides the header's."""

    gain: float | None = opt(None, "gain [e-/ADU]; default: from the header, else estimated", low=1e-30)
    read_noise: float | None = opt(None, "read noise [e-]; default: from the header, else estimated", low=0)
    saturation: float | None = opt(None, "saturation level [ADU]; default: from the header, else estimated")
    psf: str | None = opt(None, "PSF file: PSFEx .psf or FITS stamp; default: measured")
    noise: str | None = opt(None, "FITS image of the standard deviation of each pixel")
    weight: str | None = opt(None, "FITS image of the inverse variance of each pixel (0 = bad)")
    mask: str | None = opt(None, "FITS image of bad pixels (0 = good)")
    psf_cut: float | None = opt(
        None, "set this PSF to zero below this fraction of its peak; default: --psf-cut", low=0, high=1
    )


@dataclass(frozen=True)
class BackgroundOptions(_Checked):
    """How the sky is measured."""

    mesh: int = opt(128, "size of a background mesh [px]", low=8, high=8192)
    filter: int = opt(3, "median filter over the meshes [meshes]", low=1, high=15)


@dataclass(frozen=True)
class DetectOptions(_Checked):
    """How sources are found."""

    detector: Literal["zogyp", "sep", "sextractor"] = opt("zogyp", "who finds the sources")
    threshold: float = opt(5.0, "detection threshold [sigma of the filtered sky]", low=1, high=1000)
    cosmic_rays: bool = opt(True, "mark pixels sharper than any star: cosmic rays and hot pixels")


@dataclass(frozen=True)
class PSFOptions(_Checked):
    """How the point spread function is modelled."""

    model: Literal["zogyp", "psfex"] = opt("zogyp", "who models the PSF")
    size: int | None = opt(None, "side of the PSF stamp [px]; default: from the seeing", low=5, high=513)
    order: int | None = opt(
        None, "order of the polynomial in x and y; default: from the number of stars", low=0, high=5
    )
    sampling: float | None = opt(
        None, "step of the PSF's own grid [px]; default: 1, or 0.5 where undersampled", low=0.2, high=2
    )
    min_stars: int = opt(3, "fewest stars a PSF may be made of", low=1)
    max_stars: int = opt(600, "most stars a PSF is made of (spread over the image)", low=1)
    cut: float = opt(0.0, "set the PSF to zero below this fraction of its peak (1.x: clean)", low=0, high=1)


@dataclass(frozen=True)
class TransientOptions(_Checked):
    """Which peaks become transients."""

    threshold: float = opt(5.0, "smallest |S_corr| of a transient [sigma]", low=1, high=1000)
    catalog: str | None = opt(None, "table of known objects (ra and dec, or x and y) to tell them by")
    catalog_radius: float = opt(1.0, "distance within which a transient is a known object [FWHM]", low=0)


@dataclass(frozen=True)
class NoiseOptions(_Checked):
    """Which kinds of noise S_corr counts. All of them, as a rule: one that is left out shows its part."""

    photons: bool = opt(True, "photons of the sources")
    correlation: bool = opt(True, "what resampling has taken from single pixels but not from stars")
    quantisation: bool = opt(True, "rounding to whole numbers, a part of the noise that the sky shows")
    psf: bool = opt(True, "errors of the PSF models, as their fits know them")
    stars: bool = opt(True, "what bright stars really leave")
    flux_ratio: bool = opt(True, "error of the ratio of the two flux scales")
    registration: bool = opt(True, "scatter of the stars' positions between the images")
    background: bool = opt(True, "what is left of the two skies between the meshes of their level")
    filled: bool = opt(True, "light that was filled in for masked and saturated pixels")


@dataclass(frozen=True)
class CertificateOptions(_Checked):
    """Up to where a subtraction is called good; nothing else depends on these."""

    spread: float = opt(0.05, "departure of S_corr's spread from 1 in blank sky", low=0)
    star_spread: float = opt(0.3, "excess of S_corr's spread over 1 under stars of one brightness", low=0)
    peaks: float = opt(3.0, "peaks beyond 5 sigma in blank sky, in units of what noise makes", low=1)
    whiteness: float = opt(0.1, "correlation of neighbouring pixels of D", low=0)
    registration: float = opt(0.1, "scatter of the stars' positions per axis [FWHM]", low=0)
    flux_ratio: float = opt(0.02, "relative error of the flux ratio", low=0)
    overlap: float = opt(0.3, "share of the pixels that can be judged, at least", low=0, high=1)
    stars: int = opt(5, "matched stars, at least", low=0)


@dataclass(frozen=True)
class RegistrationOptions(_Checked):
    """How one image is brought onto the pixels of another."""

    mode: Literal["auto", "wcs", "stars", "none"] = opt(
        "auto",
        "auto: by their stars, the WCS a hint; stars: without a hint; wcs: by the headers, checked by the "
        "stars; none: they share their pixels",
    )
    kernel: Literal["bspline5", "lanczos3", "lanczos4"] = opt("bspline5", "interpolation kernel")
    order: int | None = opt(
        None,
        "order of the map: 0 similarity, 1 affine, more: with distortion; default: as the stars demand",
        low=0,
        high=9,
    )
    max_stars: int = opt(3000, "most stars that are matched, the brightest", low=5, high=100_000)


@dataclass(frozen=True)
class AlignOptions(_Threaded):
    """Everything that `zogyp.align` can be told; ``without`` names what has no meaning there."""

    image: InputOptions = field(default_factory=InputOptions, metadata={"without": ("psf", "psf_cut")})
    ref: InputOptions = field(default_factory=InputOptions, metadata={"without": ("psf", "psf_cut")})
    background: BackgroundOptions = field(default_factory=BackgroundOptions)
    detect: DetectOptions = field(default_factory=DetectOptions)
    align: RegistrationOptions = field(default_factory=RegistrationOptions)
    threads: int = opt(0, "threads; 0 = all cores", low=0, high=1024)


@dataclass(frozen=True)
class SubtractOptions(_Bounded):
    """Everything that `zogyp.subtract` can be told."""

    new: InputOptions = field(default_factory=InputOptions)
    ref: InputOptions = field(default_factory=InputOptions)
    background: BackgroundOptions = field(default_factory=BackgroundOptions)
    detect: DetectOptions = field(default_factory=DetectOptions)
    psf: PSFOptions = field(default_factory=PSFOptions)
    align: RegistrationOptions = field(default_factory=RegistrationOptions)
    noise: NoiseOptions = field(default_factory=NoiseOptions)
    transients: TransientOptions = field(default_factory=TransientOptions)
    certificate: CertificateOptions = field(default_factory=CertificateOptions)
    grid: Literal["new", "reference"] = opt("new", "whose pixels the results are on; the other is resampled")
    mask: str | None = opt(None, "FITS image of pixels bad in either image (0 = good)")
    flux_ratio: float | None = opt(None, "flux scale of reference over new; default: from stars", low=1e-30)
    flux_order: int | None = opt(
        None, "order of the flux ratio's polynomial; default: as the stars demand", low=0, high=3
    )
    astrometric_noise: float | None = opt(
        None, "registration error per axis [px]; default: from stars", low=0, high=10
    )
    background_match: bool = opt(True, "remove the smooth difference that the two backgrounds leave")
    psf_match: bool = opt(True, "in crowds, correct the PSFs by what the difference leaves under stars")
    tile: int = opt(1024, "largest side of a Fourier tile [px]", low=128, high=16384)
    memory: str | None = opt(
        None,
        "memory to stay within, such as 8G: planes go to files if need be; default: 3/4 of what is free",
    )
    scratch: str | None = opt(None, "folder for such files; default: that of temporary files")
    threads: int = opt(0, "threads; 0 = all cores", low=0, high=1024)


@dataclass(frozen=True)
class RejectOptions(_Checked):
    """Which pixels of an exposure are left out because the other exposures disagree."""

    outliers: bool = opt(True, "leave out cosmic rays, trails and whatever moves")
    threshold: float = opt(5.0, "deviation from what the others show [sigma]", low=3, high=1000)
    share: float = opt(
        0.25, "of the brightness of a star by which a pixel may deviate besides", low=0, high=10
    )


@dataclass(frozen=True)
class CoaddOptions(_Bounded):
    """Everything that `zogyp.coadd` can be told; ``without`` names what has no meaning there."""

    image: InputOptions = field(
        default_factory=InputOptions, metadata={"without": ("psf", "psf_cut", "noise", "weight")}
    )
    background: BackgroundOptions = field(default_factory=BackgroundOptions)
    detect: DetectOptions = field(default_factory=DetectOptions)
    psf: PSFOptions = field(default_factory=PSFOptions, metadata={"without": ("model", "cut")})
    align: RegistrationOptions = field(default_factory=RegistrationOptions)
    reject: RejectOptions = field(default_factory=RejectOptions)
    method: Literal["proper", "median", "mean", "clipped"] = opt(
        "proper", "proper: nothing is lost; mean: weighted; clipped: weighted without outliers"
    )
    strict: bool = opt(False, "an exposure that cannot be used is an error; else it is left out and named")
    allow_duplicates: bool = opt(False, "count an exposure as often as it is listed")
    memory: str = opt("1G", "memory for blocks of all exposures, such as 500M or 2G")
    scratch: str | None = opt(
        None, "folder for registered exposures while they are needed; default: that of temporary files"
    )
    tile: int = opt(1024, "largest side of a Fourier tile [px]", low=128, high=16384)
    threads: int = opt(0, "threads; 0 = all cores", low=0, high=1024)


@dataclass(frozen=True)
class CombineOptions(_Bounded):
    """Everything that `zogyp.median` can be told."""

    method: Literal["median", "mean", "clipped"] = opt(
        "median", "median; mean; clipped: the mean of the values near the median"
    )
    clip: float = opt(4.0, "deviation from the median up to which a value counts [sigma]", low=1)
    share: float = opt(0.0, "of its brightness, sky included, by which a pixel may differ besides", low=0)
    memory: str = opt("1G", "memory for the pixels that are worked on, such as 500M or 2G")
    threads: int = opt(0, "threads; 0 = all cores", low=0, high=1024)


@dataclass(frozen=True)
class FakeOptions(_Checked):
    """Which fakes are put into the images, and when one is found."""

    n: int | None = opt(
        None,
        "fakes of a run; default: 60, but no more than one for four sources and for a square of 10 FWHM",
        low=1,
    )
    images: int | None = opt(
        None, "runs, each with fakes of its own; default: as many as make 400 fakes", low=1
    )
    seed: int = opt(1, "number that decides everything random", low=0)
    bright: float = opt(
        3.5, "magnitudes by which the brightest fakes are above the limit of 5 sigma", low=-5, high=15
    )
    faint: float = opt(
        1.5, "magnitudes by which the faintest fakes are below the limit of 5 sigma", low=-5, high=15
    )
    share_galaxies: float = opt(0.25, "share of the fakes that lie on galaxies", low=0, high=1)
    share_stars: float = opt(0.15, "share of the fakes that lie beside bright stars", low=0, high=1)
    match_radius: float | None = opt(
        None, "distance at which a fake is found [px]; default: 2, or half a FWHM if that is more", low=0.01
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.bright + self.faint <= 0:
            raise OptionError("bright", self.bright, f"more than {-self.faint:g}, as faint is {self.faint:g}")
        if self.share_galaxies + self.share_stars > 1:
            most = f"at most {1 - self.share_galaxies:g}, as share_galaxies is {self.share_galaxies:g}"
            raise OptionError("share_stars", self.share_stars, most)


@dataclass(frozen=True)
class EfficiencyOptions(SubtractOptions):
    """Everything that `zogyp.measure_efficiency` can be told: how to subtract, and with which fakes."""

    fakes: FakeOptions = field(default_factory=FakeOptions)


@dataclass(frozen=True)
class PhotOptions(SubtractOptions):
    """Everything that `zogyp.photometry` can be told: how to subtract.

    What is not ``init`` cannot be told: results are on the reference's pixels, and nothing is searched for.
    """

    transients: TransientOptions = field(default_factory=TransientOptions, init=False)
    grid: Literal["new", "reference"] = field(
        default="reference", init=False, metadata={"help": "whose pixels the results are on"}
    )


def bytes_of(text: str) -> int:
    """Bytes of a size such as ``500M``, ``1.5GiB`` or ``2e9``; K, M, G and T are powers of 1024.

    Raises
    ------
    OptionError
        Not a size, or less than a million bytes.
    """
    match = SIZE.fullmatch(text.strip())
    size = float(match[1]) * FACTORS[match[2].upper()] if match else 0.0
    if not LEAST <= size < 2.0**63:
        raise OptionError("memory", text, "a size like 500M or 2G", "The least is 1M.")
    return int(size)


def available(threads: int) -> int:
    """A number of threads; 0 stands for all cores that this process may use."""
    return threads or len(os.sched_getaffinity(0))
