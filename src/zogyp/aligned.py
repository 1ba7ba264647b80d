"""What an alignment leaves in files: the image on its new grid, or the solution alone."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from astropy.io import fits

from zogyp import headers, io
from zogyp.errors import HeaderError
from zogyp.fitsbytes import Plane
from zogyp.headers import put
from zogyp.image import Flag, Image
from zogyp.options import InputOptions
from zogyp.provenance import mask_plane, put_note, spare, variance_plane
from zogyp.psf_files import psf_planes
from zogyp.sip import sip_header

if TYPE_CHECKING:
    from zogyp.registration import Registration

HIDDEN = np.uint16(Flag.BAD | Flag.NO_DATA)  # pixels that have no value of their own

# What a figure of the detector is called when we write it, its unit, and the other cards that tell it.
DETECTOR = {
    "gain": ("GAIN", "[e-/ADU]", headers.GAIN, headers.GAIN_AMPLIFIERS),
    "read_noise": ("RDNOISE", "[e-]", headers.READ_NOISE, headers.READ_NOISE_AMPLIFIERS),
    "saturation": ("SATURATE", "[ADU]", headers.SATURATION, headers.SATURATION_AMPLIFIERS),
}
# Figures of a registration that become cards: card, name, comment.
CARDS: tuple[tuple[str, str, str], ...] = (
    ("REGWAY", "way", "what led to the map"),
    ("REGN", "n_matched", "stars matched"),
    ("REGNEED", "n_required", "stars without which the map is not believed"),
    ("REGRMSX", "rms_x", "[pix] rms of stars about the map in x"),
    ("REGRMSY", "rms_y", "[pix] rms of stars about the map in y"),
    ("REGERR", "error", "[pix] standard error of the map"),
    ("REGSCALE", "scale", "pixels of the image per pixel of the grid"),
    ("REGROT", "rotation", "[deg] rotation of the image"),
    ("REGFLIP", "mirrored", "the image is mirrored"),
    ("REGORDER", "order", "order of the map: 0 similarity, 1 affine"),
    ("REGCOVER", "overlap", "share of the grid that is covered"),
)


def write_aligned(
    path: str | os.PathLike[str], image: Image, registration: Registration, *, inputs: tuple[str, ...] = ()
) -> Path:
    """Write an aligned image: pixels, then the extensions VAR, MASK, PSF and PSFVAR; all of it or nothing.

    `zogyp.read` gives the same image again: kind of the noise, bits of the mask, PSF, and the figures of the
    detector, which the header then tells for the new pixels.

    Parameters
    ----------
    path : str or path
    image : Image
        As `zogyp.align` returns it. Pixels without a value of their own become NaN.
    registration : Registration
    inputs : tuple of paths
        Files that must not be replaced.

    Raises
    ------
    OptionError
        The path is one of the inputs.
    OutputError
        The file cannot be written.
    """
    path = Path(path)
    spare([path], (image.path, *inputs))
    data = np.where((image.mask & HIDDEN) > 0, np.float32(np.nan), image.data)
    header = fits.Header() if image.header is None else image.header.copy()
    tell_detector(header, gain=image.gain, read_noise=image.read_noise, saturation=image.saturation)
    figures = registration.figures()
    for card, name, comment in CARDS:
        put(header, card, figures[name], comment)
    for note in image.notes:
        put_note(header, note)
    extensions: list[Plane] = []
    if image.variance is not None:
        extensions.append(variance_plane(image.variance))
    extensions.append(mask_plane(image.mask))
    if image.psf is not None:
        extensions += psf_planes(image.psf)
    return io.write_image(path, data, header, image.wcs, extensions=extensions)


def write_solution(
    path: str | os.PathLike[str], registration: Registration, grid_wcs: Any, image: Image
) -> dict[str, Path]:
    """Write how an image lies on a grid, without resampling: JSON, and a header where there is a sky.

    Parameters
    ----------
    path : str or path
        Without ending; ``.json`` and ``.head`` are added. The header is text, one card a line.
    registration : Registration
    grid_wcs : WCS or None
        Of the grid.
    image : Image
        Before alignment.

    Returns
    -------
    dict
        Paths: ``solution`` and, where the grid has celestial coordinates, ``header``.

    Raises
    ------
    OutputError
    """
    stem = Path(path)
    made = sip_header(registration.transform, grid_wcs, image.shape)
    told = {"image": image.path or image.name, "shape": list(image.shape), **registration.figures()}
    files = {"solution": stem.with_name(stem.name + ".json")}
    if made is not None:
        header, error = made
        files["header"] = stem.with_name(stem.name + ".head")
        told["header_error"] = error
        io.write_text(files["header"], header.tostring(sep="\n", endcard=True, padding=False) + "\n")
    io.write_json(files["solution"], told)
    return files


def tell_detector(header: fits.Header, **figures: float | None) -> None:
    """Make a header tell these figures of a detector to whoever reads it.

    Parameters
    ----------
    header : Header
        Changed in place. Cards that say otherwise go, among them those of single amplifiers.
    figures : gain [e-/ADU], read_noise [e-], saturation [ADU]
        None, or not given, leaves the header's cards as they are.
    """
    for name, (card, unit, keys, amplifiers) in DETECTOR.items():
        wanted = figures.get(name)
        if wanted is None or _told(header, name) == wanted:
            continue
        for key in {k for k in header if k in keys or amplifiers.fullmatch(k)}:
            header.remove(key, ignore_missing=True, remove_all=True)
        put(header, card, float(wanted), unit)
        found = _told(header, name)
        if found and not np.isclose(found, wanted, rtol=1e-12):  # a unit per second multiplies the gain
            put(header, card, float(wanted) ** 2 / found, unit)


def _told(header: fits.Header, name: str) -> float | None:
    """A figure of the detector as a reader will find it."""
    try:
        found: float | None = getattr(headers.detector(header, InputOptions(), name), name)
    except HeaderError:
        return None
    return found
