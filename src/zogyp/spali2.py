"""The 1.x alignment by its old name. New programs call `zogyp.align`."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from zogyp.aligned import write_aligned
from zogyp.image import FloatImage
from zogyp.options import AlignOptions
from zogyp.registration import align

AFFINE = 1  # order of a map without distortion
File = str | os.PathLike[str]


def spalipy(
    image1: File, image2: File, name: File = "aligned.fits", data: bool = False, spline: bool = True
) -> str | tuple[str, FloatImage]:
    """Align ``image1`` to ``image2`` and write it as ``name``.

    Parameters
    ----------
    image1 : str or path
        FITS file of the image to be aligned. It is only read.
    image2 : str or path
        FITS file of the same field, whose pixels and WCS the result has.
    name : str or path
        File to write; replaced if it exists.
    data : bool
        Return the pixels too.
    spline : bool
        Let the map bend where the stars demand it; else it is affine.

    Returns
    -------
    str
        ``name``; with ``data`` the tuple of it and the pixels, float32 (ny, nx), NaN where
        ``image1`` has none.

    Raises
    ------
    RegistrationError
        No map that can be believed was found.
    ZogypError
        Any other of its kinds; then nothing was written.
    """
    standard = AlignOptions()
    how = standard.align if spline else replace(standard.align, order=AFFINE)
    image, registration = align(Path(image1), to=Path(image2), options=replace(standard, align=how))
    written = write_aligned(name, image, registration, inputs=(os.fspath(image2),))
    return (str(written), image.data) if data else str(written)
