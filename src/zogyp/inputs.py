"""The door of the public functions: a path or an `Image` made elsewhere becomes an image fit for use."""

from __future__ import annotations

import math
import os
from dataclasses import replace
from typing import Any

import numpy as np

from zogyp import companions, io
from zogyp.core.masks import marked
from zogyp.core.planes import Store
from zogyp.errors import HeaderError, PixelError, ShapeError
from zogyp.image import UNUSABLE, Flag, FloatImage, Image
from zogyp.options import InputOptions
from zogyp.psf_files import read_psf

Given = str | os.PathLike[str] | Image


def opened(given: Given, options: InputOptions, store: Store | None = None) -> Image:
    """The image, read if need be, checked if not, with the PSF of a PSF file where one is given.

    Parameters
    ----------
    given : path or Image
        An `Image` may have pixels of any real type and byte order; what is not finite is marked.
    options : InputOptions
        What overrides the file's header or the `Image`.
    store : Store or None
        Where to keep the planes, and those that are made of them; default: in memory.

    Raises
    ------
    InputError
        The file, its pixels or its figures cannot be used.
    ShapeError
        A mask or variance is not on the image's grid.
    TypeError
        Neither a path nor an `Image`.
    """
    if isinstance(given, Image):
        image = _checked(given if store is None else _stored(given, store), options)
    elif isinstance(given, str | os.PathLike):
        image = io.read_into(store, given, options)
    else:
        kind = type(given).__name__
        raise TypeError(f"an image must be a path or a zogyp.Image(data, mask), not {kind}")
    return image if options.psf is None else replace(image, psf=read_psf(options.psf))


def with_common_mask(image: Image, common_mask: str | None) -> Image:
    """The image with what a mask file says of its grid marked as bad; itself without a file.

    Raises
    ------
    InputError
        The file cannot be used.
    ShapeError
        The mask is not on the image's grid.
    """
    if common_mask is None:
        return image
    bad = io.read_plane(common_mask)
    if bad.shape != image.shape:
        raise ShapeError(f"the mask {common_mask}", bad.shape, image.shape)
    return replace(image, mask=marked(image.mask, companions.nonzero(bad), Flag.BAD))


def _checked(image: Image, options: InputOptions) -> Image:
    """An image made elsewhere, held to what reading a file would have seen to."""
    data = _float32(image.data, image.name)
    mask = np.asarray(image.mask)
    if mask.shape != data.shape:
        raise ShapeError(f"the mask of {image.name}", mask.shape, data.shape)
    planes = companions.Companions()
    if image.variance is not None:
        variance = np.asarray(image.variance)
        if variance.shape != data.shape:
            raise ShapeError(f"the variance of {image.name}", variance.shape, data.shape)
        planes.variance, bad = companions.as_variance(variance.astype(np.float32), "variance")
        planes.add_bad(bad & ((mask & np.uint16(UNUSABLE)) == 0))  # what is not used needs no variance
    companions.from_files(options, data.shape, None, planes)
    mask = mask.astype(np.uint16, copy=False)
    unknown = ~np.isfinite(data) & ((mask & np.uint16(Flag.BAD)) == 0)  # a bad pixel may hold anything
    mask = marked(mask, unknown, Flag.NO_DATA)
    if planes.bad is not None:
        mask = marked(mask, planes.bad, Flag.BAD)
    image = replace(image, data=data, mask=mask, variance=planes.variance)
    n_good = int(np.count_nonzero(image.good))
    if n_good == 0:
        raise PixelError(image.name, "no usable pixel: all are without a value or masked", 0, data.size)
    figures: dict[str, float | None] = {}
    for name, allowed in (("gain", "a positive number"), ("read_noise", "a number of at least 0")):
        chosen = getattr(options, name)
        figures[name] = _figure(image, name, allowed) if chosen is None else chosen
    if options.saturation is not None:
        figures["saturation"] = options.saturation
    return replace(image, **figures)  # type: ignore[arg-type]


def _float32(pixels: Any, name: str) -> FloatImage:
    """Two-dimensional pixels as native float32; the same array where it is that already."""
    data = np.asarray(pixels)
    if data.ndim != 2 or data.dtype.kind not in "fiub":
        what = f"{data.dtype} of shape {data.shape}"
        raise PixelError(name, f"real numbers in two dimensions are needed, not {what}", 0, data.size)
    with np.errstate(over="ignore"):
        result: FloatImage = data.astype(np.float32, copy=False)
    return result


def _stored(image: Image, store: Store) -> Image:
    """An image with its planes in a store."""
    data, mask = (store.kept(np.asarray(plane)) for plane in (image.data, image.mask))
    variance = None if image.variance is None else store.kept(np.asarray(image.variance))
    return replace(image, data=data, mask=mask, variance=variance)


def _figure(image: Image, name: str, allowed: str) -> float | None:
    """A detector's figure of an image, if it can be one."""
    value = getattr(image, name)
    if value is None:
        return None
    number = isinstance(value, int | float | np.number) and math.isfinite(value)
    if not number or value < 0 or (name == "gain" and value == 0):
        raise HeaderError(f"{image.name}: {name}", value, allowed, "None: not known.")
    return float(value)
