"""What a simulated sky is made of and how it is seen: options of `zogyp.simulate`."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import cos, radians, sin
from typing import TYPE_CHECKING

from zogyp.errors import OptionError
from zogyp.options import _Checked, opt

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Side(_Checked):
    """How one of the two images was taken."""

    fwhm: float = opt(3.5, "seeing, FWHM of the PSF at the centre of the field [px]", low=0.5, high=50)
    beta: float = opt(3.0, "exponent of the Moffat profile", low=1.5, high=20)
    ellipticity: float = opt(0.05, "1 - b/a of the PSF at the centre of the field", low=0, high=0.9)
    angle: float = opt(30.0, "direction of the PSF's long axis, from +x to +y [deg]")
    variation: float = opt(
        0.0, "relative change of the PSF's width and ellipticity over the field", low=-0.9, high=0.9
    )
    sky: float = opt(500.0, "sky level [ADU]", low=0)
    gain: float = opt(1.5, "gain [e-/ADU]", low=1e-6)
    read_noise: float = opt(8.0, "read noise [e-]", low=0)
    zero_point: float = opt(25.0, "magnitude of a flux of 1 ADU")
    saturation: float = opt(60000.0, "level at which pixels saturate [ADU]", low=1)


@dataclass(frozen=True)
class Sky(_Checked):
    """What there is on the sky, and how it was seen twice."""

    new: Side = field(default_factory=Side)
    ref: Side = field(default_factory=lambda: Side(fwhm=3.0, angle=-20.0, sky=300.0, zero_point=25.3))
    shape: tuple[int, int] = opt((1024, 1024), "rows and columns of the images [px]")
    n_stars: int = opt(800, "number of stars", low=0)
    flux_min: float = opt(300.0, "flux of the faintest star [ADU of the new image]", low=1e-3)
    flux_max: float = opt(1e6, "flux of the brightest star [ADU of the new image]", low=1e-3)
    flux_slope: float = opt(0.7, "stars brighter than f are as many as f^-slope", low=0.01, high=5)
    n_galaxies: int = opt(60, "number of galaxies", low=0)
    n_transients: int = opt(24, "number of transients, every other one negative", low=0)
    transient_min: float = opt(500.0, "flux of the faintest transient [ADU of the new image]", low=1e-3)
    transient_max: float = opt(30000.0, "flux of the brightest transient [ADU of the new image]", low=1e-3)
    hosted: float = opt(0.3, "fraction of the transients that lie in a galaxy", low=0, high=1)
    jitter: float = opt(0.0, "rms by which reference and new positions differ, per axis [px]", low=0)
    shift: tuple[float, float] = opt((0.0, 0.0), "by how much the reference is shifted in x and y [px]")
    rotation: float = opt(0.0, "by how much the reference is turned about its centre [deg]")
    pixel_scale: float = opt(1.0, "size of a pixel [arcsec]", low=1e-3, high=100)

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.shape) != 2 or min(self.shape) < 32:
            raise OptionError("shape", self.shape, "two numbers (rows, columns) of at least 32")
        for low, high in (("flux_min", "flux_max"), ("transient_min", "transient_max")):
            if getattr(self, low) > getattr(self, high):
                raise OptionError(high, getattr(self, high), f"at least {low} = {getattr(self, low)}")

    @property
    def moved(self) -> bool:
        """Whether the reference has pixels of its own."""
        return self.rotation != 0 or any(self.shift)

    def on_ref(self, x: NDArray[np.float64], y: NDArray[np.float64]) -> tuple[NDArray[np.float64], ...]:
        """Where places of the new image lie in the reference [px]."""
        (ny, nx), (dx, dy) = self.shape, self.shift
        c, s = cos(radians(self.rotation)), sin(radians(self.rotation))
        u, v = x - (nx - 1) / 2, y - (ny - 1) / 2
        return c * u - s * v + (nx - 1) / 2 + dx, s * u + c * v + (ny - 1) / 2 + dy

    @property
    def flux_ratio(self) -> float:
        """Flux scale of the reference over the new image's."""
        return float(10 ** (0.4 * (self.ref.zero_point - self.new.zero_point)))
