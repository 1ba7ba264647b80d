"""One exposure of a stack, measured on the stack's grid; its planes wait on disk until they are needed."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, replace
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zogyp.core.psfmodel import PSF
from zogyp.errors import InputError, OutputError, ZogypError
from zogyp.image import Flag, FloatImage, Image
from zogyp.inputs import opened
from zogyp.measure.exposure import Exposure, measure
from zogyp.measure.firstlook import FirstLook, look
from zogyp.options import CoaddOptions
from zogyp.registration import Registration, Target, register, resampled

COADD = "COADDVER"  # card of a coadd that zogyp wrote: the version of its layout
MESH = 64  # px between the places where the noise of the sky is remembered


@dataclass(frozen=True)
class Frame:
    """A measured exposure on the grid of the stack.

    Attributes
    ----------
    name, path : str
        As it was given.
    folder : Path
        Where its planes are: ``data.npy`` without sky [ADU], ``variance.npy`` sources included [ADU²],
        ``sigma.npy`` of the sky [ADU], ``mask.npy`` bits of `Flag`; all on the grid.
    exposure : Exposure
        What was measured, without planes: see `measured`.
    registration : Registration or None
        None for the exposure that made the grid.
    overlap : float
        Share of the grid with usable pixels.
    sky : float
        Typical level of the sky [ADU].
    fwhm : float
        Seeing on the grid [px].
    digest : bytes
        Of the pixels as they were read: copies of one exposure share it.
    seconds : float
    notes : tuple of str
    interpolated : bool
    """

    name: str
    path: str
    folder: Path
    exposure: Exposure
    registration: Registration | None
    overlap: float
    sky: float
    fwhm: float
    digest: bytes = b""
    seconds: float = 0.0
    notes: tuple[str, ...] = ()
    interpolated: bool = False

    @property
    def psf(self) -> PSF:
        """PSF on the grid."""
        return self.exposure.psf

    @property
    def moved(self) -> bool:
        """Its pixels were interpolated for this stack."""
        return self.interpolated

    def plane(self, name: str) -> NDArray[Any]:
        """A plane, mapped from the disk."""
        return np.asarray(np.load(self.folder / f"{name}.npy", mmap_mode="r"))

    def has(self, name: str) -> bool:
        """Whether there is a plane of that name."""
        return (self.folder / f"{name}.npy").exists()

    def keep(self, name: str, plane: NDArray[Any]) -> None:
        """Put one more plane on the disk.

        Raises
        ------
        OutputError
        """
        save(self.folder, name, plane)

    def measured(self) -> Exposure:
        """The exposure with its planes, those that are needed to compare it with another."""
        image = replace(self.exposure.image, data=self.plane("data"), mask=self.plane("mask"))
        return replace(self.exposure, image=image, data=image.data)


@dataclass(frozen=True)
class FrameRows:
    """A frame that hands out its rows in units of flux; nothing of it stays in memory.

    Attributes
    ----------
    frame : Frame
    scale : float
        Counts of a star of flux 1.
    unusable : int
        Bits of the mask whose pixels must not be used.
    """

    frame: Frame
    scale: float
    unusable: int

    @property
    def shape(self) -> tuple[int, int]:
        """(ny, nx)."""
        ny, nx = self.frame.plane("mask").shape
        return ny, nx

    @property
    def name(self) -> str:
        """For messages."""
        return self.frame.name

    def rows(self, low: int, high: int) -> FloatImage:
        """Pixels (high - low, nx), NaN where unusable."""
        bad = (self.frame.plane("mask")[low:high] & np.uint16(self.unusable)) > 0
        pixels: FloatImage = (self.frame.plane("data")[low:high] / np.float32(self.scale)).astype(np.float32)
        pixels[bad] = np.nan
        return pixels


@dataclass(frozen=True)
class Failure:
    """An exposure that could not be used, and why, in one line."""

    path: str
    reason: str
    seconds: float = 0.0


def reason_of(error: ZogypError, path: str) -> str:
    """An error in one line, without the name of the file that is named beside it."""
    text = " ".join(str(error).split())
    for name in (path, os.path.basename(path)):
        text = text.removeprefix(f"{name}: ")
    return text


@dataclass(frozen=True)
class Preparation:
    """One exposure to be measured on a grid: the same for one core, many, and other machines.

    ``grid`` is None for the exposure that is the grid itself.
    """

    given: str | os.PathLike[str] | Image
    folder: Path
    options: CoaddOptions
    grid: Target | None = None

    def __call__(self) -> Frame | Failure:
        """Do it; an error becomes part of the outcome."""
        start = time.perf_counter()
        try:
            frame = self._prepared()
        except OutputError:
            raise  # no room for any exposure
        except ZogypError as error:
            return Failure(self.path, reason_of(error, self.path), time.perf_counter() - start)
        except MemoryError:
            return Failure(self.path, "not enough memory", time.perf_counter() - start)
        return replace(frame, seconds=time.perf_counter() - start)

    @property
    def path(self) -> str:
        """What names the exposure."""
        return self.given.name if isinstance(self.given, Image) else os.fspath(self.given)

    def _prepared(self) -> Frame:
        options = self.options
        seen = exposure_seen(self.given, options)
        digest = blake2b(np.ascontiguousarray(seen.image.data).data, digest_size=16).digest()
        registration, moves = None, False
        if self.grid is not None:
            registration = register(seen, self.grid, options.align)
            if seen.image.shape != self.grid.shape or not registration.near_identity(self.grid.shape):
                moves = True
                moved = resampled(seen, registration, self.grid, options.align.kernel, options.n_threads)
                seen = look(moved, background_options=options.background, detect=options.detect)
        exposure = measure(
            seen,
            background_options=options.background,
            detect=options.detect,
            psf_options=options.psf,
            psf=seen.image.psf,
        )
        frame = kept(exposure, self.path, self.folder, registration)
        return replace(frame, digest=digest, interpolated=moves)


def save(folder: Path, name: str, plane: NDArray[Any]) -> None:
    """Put a plane on the disk.

    Raises
    ------
    OutputError
        The disk is full, or not to be written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        np.save(folder / f"{name}.npy", plane)
    except OSError as error:
        reason = f"{error.strerror or error}; the folder for registered exposures can be chosen: --scratch"
        raise OutputError(folder, reason) from error


def seen_by(given: str | os.PathLike[str] | Image, options: CoaddOptions) -> FirstLook:
    """A first look at an exposure."""
    image = opened(given, options.image)
    return look(image, background_options=options.background, detect=options.detect)


def exposure_seen(given: str | os.PathLike[str] | Image, options: CoaddOptions) -> FirstLook:
    """A first look at what is to be added.

    Raises
    ------
    InputError
        It is a coadd: a folder of exposures may hold the coadd of them.
    """
    seen = seen_by(given, options)
    if seen.image.header is not None and COADD in seen.image.header:
        raise InputError("it is a coadd, no exposure; exposures are added to it by --add-to")
    return seen


def kept(exposure: Exposure, path: str, folder: Path, registration: Registration | None) -> Frame:
    """Put an exposure's planes on the disk."""
    image = exposure.image
    usable = image.good
    data = exposure.data.copy()
    full = (image.mask & np.uint16(Flag.SATURATED)) > 0  # what is known of them is still the best guess
    data[full] = image.data[full] - exposure.level.plane()[full]
    data[~np.isfinite(data)] = 0
    planes: dict[str, NDArray[Any]] = {
        "data": data,
        "variance": exposure.variance,
        "sigma": exposure.noise.sigma.plane(),
        "mask": image.mask,
    }
    for name, plane in planes.items():
        save(folder, name, plane)
    none = np.zeros((0, 0), np.float32)
    light = replace(image, data=none, mask=none.astype(np.uint16), variance=None)
    sky = exposure.level.typical
    without = replace(exposure, image=light, data=none, variance=none)
    notes = tuple(exposure.notes)
    overlap = float(usable.mean())
    return Frame(
        image.name, path, folder, without, registration, overlap, sky, exposure.psf.fwhm, notes=notes
    )
