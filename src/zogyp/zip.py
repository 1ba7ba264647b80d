"""The 1.x subtraction by its old names. New programs call `zogyp.subtract`."""

from __future__ import annotations

import os
from pathlib import Path

from zogyp import io
from zogyp.compat import ZOGYOptions, black_out, protect, sub_images, write_parts
from zogyp.measure.astromatic import config_folder
from zogyp.subtraction import subtract

File = str | os.PathLike[str]


def run_ZOGY(  # noqa: PLR0913, PLR0917 - the order of 1.x, which scripts rely on
    sci_im: File,
    ref_im: File,
    outname: str = "data",
    xslice: int = 1,
    yslice: int = 1,
    align: bool = False,
    clean_sci: float = 0.0,
    clean_ref: float = 0.0,
    sub_imagex: int = 1,
    sub_imagey: int = 1,
    blackout: bool = False,
) -> list[str]:
    """Subtract ``ref_im`` from ``sci_im`` and write ``Zoutput/<outname>_D1.fits``, ``_S1``, ``_Scorr1``, ...

    Parameters
    ----------
    sci_im, ref_im : str or path
        FITS files of the same field. They are only read.
    outname : str
        What the names of the files begin with. Files of an earlier run of the same name are replaced,
        and removed where this run has fewer sub-images.
    xslice, yslice : int
        Least number of PSF kernels along x (columns) and y (rows) of each sub-image. The PSF varies
        over the image in any case, and no seam shows.
    align : bool
        Align the science image to the reference: by their stars, whatever shift, rotation or scale.
    clean_sci, clean_ref : float
        Set the PSF to zero below this fraction of its peak, 0 to 1. Costs detections and gains
        nothing: 1.x had 0.75 as default, here it is 0.
    sub_imagex, sub_imagey : int
        Number of sub-images along x (columns) and y (rows): files numbered from 1, x outer and y
        inner, cut out of one subtraction of the whole image, so that they fit without a seam.
    blackout : bool
        Clear (NaN) what lies where the two images do not overlap: where either has no data or is
        exactly 0.

    Returns
    -------
    list of str
        D, S and Scorr of sub-image 1, of sub-image 2, ...

    Raises
    ------
    ZogypError
        Any of its kinds; then no file was changed.
    """
    options = ZOGYOptions(
        sub_imagex=sub_imagex,
        sub_imagey=sub_imagey,
        xslice=xslice,
        yslice=yslice,
        blackout=blackout,
        clean_sci=clean_sci,
        clean_ref=clean_ref,
        align=align,
        outname=outname,
    )
    inputs = (os.fspath(sci_im), os.fspath(ref_im))
    protect(inputs, outname, int(sub_imagex * sub_imagey))
    sci, ref = io.read(sci_im), io.read(ref_im)
    modern = options.modern(ref.shape)
    if blackout:
        sci, ref = black_out(sci, ref)
    result = subtract(sci, ref, modern)
    boxes = list(sub_images(result.D.shape, int(sub_imagex), int(sub_imagey)))
    return [str(path) for path in write_parts(result, boxes, outname, inputs)]


def rdfits(image: File) -> str:
    """Write a plain FITS copy of an image, say of a compressed one, beside it and return its name.

    Parameters
    ----------
    image : str or path
        Any FITS file, ``x.fits`` or ``x.fits.fz`` or ``x.fits[ext]``; it is only read.

    Returns
    -------
    str
        ``x_RD.fits`` in the same folder, float32 in the primary extension.
    """
    source = io.read(image)
    path = Path(image)
    return str(
        io.write_image(
            path.with_name(f"{io.stem(path.name)}_RD.fits"), source.data, source.header, source.wcs
        )
    )


def config_loc() -> str:
    """The folder of the editable configuration: ``default.sex``, ``psfex.conf`` and what belongs to them.

    They are used by ``--detector sextractor`` and ``--psf psfex``; the default needs neither program.
    """
    return str(config_folder())
