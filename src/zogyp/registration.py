"""Bring one image onto the pixels of another: find the map, verify it, resample once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zogyp.core.old_image import Bits, Planes
from zogyp.core.resample import Lattice, resample
from zogyp.core.transform import Transform, solve
from zogyp.core.warped import STEP, warped
from zogyp.errors import RegistrationError, ShapeError
from zogyp.headers import quiet
from zogyp.image import UNUSABLE, Flag, Image
from zogyp.inputs import opened
from zogyp.matching import FEWEST, Hint, Matched, check_map, find_map
from zogyp.measure.firstlook import FirstLook, look
from zogyp.measure.starlist import StarList, star_list
from zogyp.options import AlignOptions, RegistrationOptions
from zogyp.stopwatch import Stopwatch

F8 = NDArray[np.float64]
Progress = Callable[[str, float], None]

SAME = 1.0  # px; images nearer than this share their grid, the rest is seen to in the subtraction
WCS_ORDERS = (1, 3, 5, 7, 9)
WCS_ERROR = 0.01  # px to which a WCS is followed
BITS = Bits(
    unusable=int(UNUSABLE),
    saturated=int(Flag.SATURATED),
    no_data=int(Flag.NO_DATA),
    reached=int(Flag.REACHED),
)


@dataclass(frozen=True)
class Target:
    """The grid that images are brought onto, and where its stars are.

    Attributes
    ----------
    shape : (ny, nx)
    wcs : astropy.wcs.WCS or None
    stars : StarList
    name : str
    """

    shape: tuple[int, int]
    wcs: Any
    stars: StarList
    name: str = "reference"


@dataclass(frozen=True)
class Registration:
    """How an image lies on a grid.

    Attributes
    ----------
    transform : Transform
        From the grid's pixels to the image's: ``x_in, y_in = transform(x_out, y_out)``.
    way : str
        What led to it: same grid, WCS, asterisms, ...
    n_matched, n_required : int
        Stars matched, and without how many the map is not believed.
    share : float
        Of the stars of the common field that are matched, 0 ... 1.
    rms_x, rms_y : float
        Standard deviation of single stars about the map, noise of their centroids taken off [px of the grid].
    error : float
        Standard error of the map itself, rms over the common field [px of the grid].
    overlap : float
        Share of the grid that the image covers, 0 ... 1.
    x, y, dx, dy : ndarray (n_matched,)
        Matched stars on the grid, and how far they lie from where the map has them [px of the grid].
    notes : tuple of str
    """

    transform: Transform
    way: str
    n_matched: int
    n_required: int
    share: float
    rms_x: float
    rms_y: float
    error: float
    overlap: float
    x: F8
    y: F8
    dx: F8
    dy: F8
    notes: tuple[str, ...] = ()

    def near_identity(self, shape: tuple[int, int], tolerance: float = SAME) -> bool:
        """Whether no pixel of a grid of this shape is known to be moved by more than ``tolerance`` px."""
        x, y = _corners_and_more(shape)
        u, v = self.transform(x, y)
        return bool((np.hypot(u - x, v - y) - 3 * self.transform.error(x, y)).max() <= tolerance)

    def figures(self) -> dict[str, Any]:
        """Plain numbers, ready for JSON."""
        t = self.transform
        return {
            "way": self.way,
            "n_matched": self.n_matched,
            "n_required": self.n_required,
            "share": self.share,
            "rms_x": self.rms_x,
            "rms_y": self.rms_y,
            "error": self.error,
            "overlap": self.overlap,
            "scale": t.scale,
            "rotation": t.rotation,
            "mirrored": t.mirrored,
            "order": t.order,
            "transform": t.to_dict(),
            "notes": list(self.notes),
        }


def align(
    image: str | Path | Image,
    *,
    to: str | Path | Image | Target,
    options: AlignOptions = AlignOptions(),
    progress: Progress | None = None,
) -> tuple[Image, Registration]:
    """Bring an image onto the pixels of another.

    Parameters
    ----------
    image : path or Image
        What is to be aligned.
    to : path, Image or Target
        The image whose grid and WCS the result has; a `Target` (see `target`) spares measuring it again.
    options : AlignOptions
        Everything that can be tuned; the defaults serve.
    progress : callable or None
        Called with the name of the stage and the fraction done, 0…1.

    Returns
    -------
    Image
        On the grid of ``to``: pixels (flux is conserved), mask, variance as noise per unit frequency
        [ADU²], and the PSF where the image came with one. Pixels that the image does not cover are NaN and
        flagged `Flag.NO_DATA`.
    Registration

    Raises
    ------
    RegistrationError
        No map that can be believed was found.
    InputError
        A file or its pixels cannot be used.

    Notes
    -----
    With ``options.align.mode == "none"`` the image is taken to be on the grid already.
    """
    watch = Stopwatch(progress)
    with watch.stage("read", 0.0):
        seen = _looked(opened(image, options.image), options)
    with watch.stage("measure", 0.3):
        grid = to if isinstance(to, Target) else target(to, options)
    with watch.stage("match", 0.6):
        registration = register(seen, grid, options.align)
    with watch.stage("resample", 0.7):
        moved = resampled(seen, registration, grid, options.align.kernel, options.n_threads)
    watch.tell("done", 1.0)
    return moved, registration


def target(to: str | Path | Image, options: AlignOptions = AlignOptions()) -> Target:
    """Measure an image that others are to be aligned to."""
    seen = _looked(opened(to, options.ref), options)
    return target_of(seen, options.align)


def _looked(image: Image, options: AlignOptions) -> FirstLook:
    return look(image, background_options=options.background, detect=options.detect)


def target_of(seen: FirstLook, options: RegistrationOptions) -> Target:
    """An image that was looked at, as a grid that others are aligned to."""
    return Target(seen.image.shape, seen.image.wcs, star_list(seen, options.max_stars), seen.image.name)


def register(seen: FirstLook, grid: Target, options: RegistrationOptions) -> Registration:
    """The map from a grid to an image.

    Raises
    ------
    RegistrationError
    """
    shape = seen.image.shape
    stars = star_list(seen, options.max_stars)
    by_wcs = wcs_map(grid.wcs, seen.image.wcs, grid.shape, shape)
    if options.mode == "none":
        if shape != grid.shape:
            hint = "Without alignment (--align none) the images must share their pixels."
            raise ShapeError(seen.image.name, shape, grid.shape, hint)
        found = check_map(grid.stars, stars, identity(), "taken to share the grid")
    elif options.mode == "wcs":
        if by_wcs is None:
            hint = (
                "Aligning by WCS needs celestial coordinates of one field in both headers. Try --align stars."
            )
            raise RegistrationError(0, FEWEST, (len(grid.stars), len(stars)), ("WCS",), hint)
        found = check_map(grid.stars, stars, by_wcs, "WCS")
        if not found.believed and min(len(grid.stars), len(stars)) > 4 * FEWEST:
            hint = "The WCS does not bring the stars together. Try --align auto."
            raise RegistrationError(
                found.n_near, found.n_required, (len(grid.stars), len(stars)), ("WCS",), hint
            )
    else:
        hints = _hints(by_wcs, shape == grid.shape) if options.mode == "auto" else []
        found = find_map(grid.stars, stars, hints, order=options.order)
    return _registration(found, grid, shape)


def identity() -> Transform:
    """The map that moves nothing."""
    return Transform(np.eye(2, 3))


def _hints(by_wcs: Transform | None, same_shape: bool) -> list[Hint]:
    """What may be tried before the stars are asked without a hint."""
    hints = [] if by_wcs is None else [Hint("WCS", by_wcs)]
    return [*hints, Hint("shift", identity())] if same_shape else hints


def wcs_map(out_wcs: Any, in_wcs: Any, out: tuple[int, int], into: tuple[int, int]) -> Transform | None:
    """The map that two WCSs stand for; None without them, or when they know of no common field."""
    if out_wcs is None or in_wcs is None:
        return None
    x, y = (a.ravel() for a in np.meshgrid(np.linspace(0, out[1] - 1, 30), np.linspace(0, out[0] - 1, 30)))
    with quiet():
        try:
            sky = out_wcs.pixel_to_world(x, y)
            u, v = (np.asarray(a, dtype=np.float64) for a in in_wcs.world_to_pixel(sky))
        except (ValueError, ArithmeticError, RuntimeError, NotImplementedError):
            return None
    ny, nx = into
    near = np.isfinite(u) & np.isfinite(v) & (abs(u - nx / 2) < nx) & (abs(v - ny / 2) < ny)
    if near.sum() < 60:
        return None
    there, here = np.column_stack([x, y])[near], np.column_stack([u, v])[near]
    for order in WCS_ORDERS:
        found = solve(there, here, np.full(len(there), WCS_ERROR**-2), [order])
        off = here - np.column_stack(found(*there.T))
        if np.abs(off).max() < WCS_ERROR:
            break
    return found


def _registration(found: Matched, grid: Target, shape: tuple[int, int]) -> Registration:
    """What is told of a map; lengths in pixels of the grid."""
    t = found.transform
    x, y = (a.ravel() for a in np.meshgrid(*((np.arange(64) + 0.5) * n / 64 - 0.5 for n in grid.shape[::-1])))
    u, v = t(x, y)
    covered = (u > -0.5) & (u < shape[1] - 0.5) & (v > -0.5) & (v < shape[0] - 0.5)
    error = t.error(x[covered], y[covered]) if covered.any() else np.array([np.nan])
    back = np.linalg.inv(t.matrix[:, :2])
    arrows = found.residual @ back.T
    rms = np.sqrt(back**2 @ np.square(found.scatter))
    return Registration(
        transform=t,
        way=found.way,
        n_matched=int(found.out.size),
        n_required=found.n_required,
        share=found.share,
        rms_x=float(rms[0]),
        rms_y=float(rms[1]),
        error=float(np.sqrt(np.mean(error**2)) / t.scale),
        overlap=float(covered.mean()),
        x=grid.stars.xy[found.out, 0],
        y=grid.stars.xy[found.out, 1],
        dx=arrows[:, 0],
        dy=arrows[:, 1],
    )


def _corners_and_more(shape: tuple[int, int]) -> tuple[F8, F8]:
    """Positions all over a grid, its corners among them."""
    x, y = np.meshgrid(np.linspace(0, shape[1] - 1, 33), np.linspace(0, shape[0] - 1, 33))
    return x.ravel(), y.ravel()


def resampled(
    seen: FirstLook, registration: Registration, grid: Target, kernel_name: str, n_threads: int
) -> Image:
    """The image on the grid: pixels, mask and noise through one interpolation, and its PSF if it is known."""
    image = seen.image
    x, y = registration.transform.lattice(grid.shape, STEP)
    planes = resample(
        Planes(image.data, image.mask, seen.variance),
        Lattice(STEP, x, y, grid.shape),
        BITS,
        kernel=kernel_name,
        n_threads=n_threads,
    )
    gain = seen.noise.gain if image.gain is None else image.gain
    area = registration.transform.scale**2
    psf = None
    if image.psf is not None:
        psf = warped(image.psf, registration.transform, grid.shape, kernel_name, into=image.shape)
    note = f"resampled by {kernel_name} onto {grid.name} ({registration.way}, {registration.n_matched} stars)"
    return replace(
        image,
        data=planes.data,
        mask=planes.mask,
        variance=planes.variance,
        wcs=grid.wcs,
        gain=gain,
        saturation=None if image.saturation is None else image.saturation * area,
        notes=(*seen.notes, note),
        resampled=True,
        psf=psf,
    )
