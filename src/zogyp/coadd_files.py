"""A coadd as one file, and back: all that is needed to use it as a reference, or to add to it."""

from __future__ import annotations

import os
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from astropy.table import Table

from zogyp import io, provenance
from zogyp.coadds import Coadd
from zogyp.errors import FileError, OutputError
from zogyp.fitsbytes import Plane
from zogyp.fitsfile import open_fits, split_path
from zogyp.frames import COADD
from zogyp.headers import put, quiet
from zogyp.provenance import mask_plane, put_note, put_options, variance_plane
from zogyp.psf_files import psf_planes

FORMAT, VERSION = COADD, 1  # card of a coadd, and what it says
INPUTS = "INPUTS"


def write_coadd(path: str | os.PathLike[str], coadd: Coadd) -> Path:
    """Write a coadd: R, then the extensions FLUX, PSF, PSFVAR, VAR, WEIGHT, COVERAGE, MASK and INPUTS.

    Parameters
    ----------
    path : str or path
        Replaced only when all of the new file is on the disk.
    coadd : Coadd

    Raises
    ------
    OptionError
        The path is one of the exposures.
    OutputError
        The file cannot be written.
    """
    path = Path(path)
    spare(path, [*coadd.inputs["file"], *coadd.summary.get("given", ())])
    planes: list[Plane] = [
        ("FLUX", coadd.flux, _flux_cards(coadd)),
        *([] if coadd.psf is None else psf_planes(coadd.psf)),
        variance_plane(coadd.variance),
        ("WEIGHT", coadd.weight, _cards(BUNIT=("1/adu2", "inverse variance of the sky in FLUX"))),
        ("COVERAGE", coadd.coverage.astype(np.int32), _cards(BUNIT=("", "exposures with a usable pixel"))),
        mask_plane(coadd.mask),
    ]
    table = _table(coadd.inputs)
    return io.write_image(path, coadd.R, header_of(coadd), coadd.image.wcs, extensions=planes, tables=[table])


def _table(inputs: Table) -> fits.BinTableHDU:
    """The table of exposures with its units as FITS spells them, of which astropy knows some only."""
    plain = inputs.copy()
    for column in plain.columns.values():
        column.unit = None
    table = fits.table_to_hdu(plain)
    table.header["EXTNAME"] = INPUTS
    for i, column in enumerate(inputs.columns.values(), start=1):
        if column.unit is not None:
            table.header.insert(f"TFORM{i}", (f"TUNIT{i}", str(column.unit)), after=True)
        if column.description:
            table.header[f"TCOMM{i}"] = column.description
    return table


def header_of(coadd: Coadd) -> fits.Header:
    """The cards of the first exposure, and how the coadd came to be."""
    header = fits.Header() if coadd.image.header is None else coadd.image.header.copy()
    said = coadd.summary
    cards: list[tuple[str, Any, str]] = [
        (FORMAT, VERSION, "layout of this coadd"),
        ("COADDMET", said.get("method"), "how exposures were combined"),
        ("NCOMBINE", len(coadd.inputs), "exposures in the coadd"),
        ("NLEFTOUT", len(said.get("left_out", ())), "exposures that could not be used"),
        ("F_R", coadd.F_R, "flux scale: pixels / F_R are ADU of the 1st exposure"),
        ("PSFNOISE", coadd.psf_noise, "typical error of the exposures' PSFs"),
        ("SEEING", said.get("fwhm"), "[pix] FWHM of the PSF"),
        ("ZOGYPVER", said.get("version"), "version of zogyp"),
        ("DATE", datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S"), "when this file was made, UTC"),
        ("BUNIT", "sigma" if coadd.psf is not None else "adu", "unit of the pixels"),
    ]
    for card, value, comment in cards:
        if value is not None:
            put(header, card, value, comment)
    put_options(header, said.get("options", {}))
    for out in said.get("left_out", ()):
        put_note(header, f"left out: {out['path']}: {out['reason']}")
    for note in said.get("notes", ()):
        put_note(header, note)
    return header


def _cards(**cards: tuple[str, str]) -> fits.Header:
    header = fits.Header()
    for key, (value, comment) in cards.items():
        put(header, key, value, comment)
    return header


def _flux_cards(coadd: Coadd) -> fits.Header:
    """Unit and detector's figures of FLUX."""
    image, F_R = coadd.image, coadd.F_R
    header = _cards(BUNIT=("adu", "R / F_R: ADU of the first exposure"))
    zero = None if image.zero_point is None else image.zero_point - 2.5 * float(np.log10(F_R))
    figures = (
        ("GAIN", None if image.gain is None else image.gain * F_R, "[e-/adu] effective gain"),
        ("RDNOISE", image.read_noise, "[e-] effective read noise"),
        ("SATURATE", None if image.saturation is None else image.saturation / F_R, "[adu]"),
        ("MAGZERO", zero, "[mag] of 1 adu"),
    )
    for card, value, comment in figures:
        if value is not None:
            put(header, card, value, comment)
    return header


def spare(path: Path, inputs: Iterable[object]) -> None:
    """Refuse to write where an exposure, or a directory, is.

    Raises
    ------
    OptionError
        The path is one of the inputs.
    OutputError
        It is a directory.
    """
    if os.path.isdir(path):
        raise OutputError(path, "it is a directory")
    provenance.spare([path], inputs)


def read_coadd(path: str | os.PathLike[str]) -> Coadd:
    """Read a proper coadd that `write_coadd` wrote.

    Raises
    ------
    FileError
        It is not such a file, or a part of it is missing.
    InputError
    """
    file_path, _ = split_path(path)
    with open_fits(file_path) as file, quiet():
        header = file.hdus[0].header
        names = {hdu.name for hdu in file.hdus}
        missing = {"PSF", "VAR", "WEIGHT", "COVERAGE", "MASK", INPUTS} - names
        if header.get(FORMAT) != VERSION or "F_R" not in header or missing:
            lacks = f"; it lacks {', '.join(sorted(missing))}" if missing else ""
            raise FileError(file_path, f"not a proper coadd that zogyp wrote{lacks}")
        inputs = Table.read(file.hdus[INPUTS])
        coverage = np.asarray(file.hdus["COVERAGE"].data, dtype=np.int32)
        weight = np.asarray(file.hdus["WEIGHT"].data, dtype=np.float32)
        F_R = float(header["F_R"])
        summary = {"method": header.get("COADDMET"), "n_exposures": len(inputs), "F_R": F_R}
    image = io.read(file_path)
    if image.psf is None or image.variance is None:
        raise FileError(file_path, "the PSF or the variance of this coadd cannot be used")
    return Coadd(
        R=image.data,
        psf=image.psf,
        variance=image.variance,
        weight=weight,
        coverage=coverage,
        mask=image.mask,
        inputs=inputs,
        F_R=F_R,
        psf_noise=float(header.get("PSFNOISE", 0.0)),
        image=image,
        summary=summary | {"fwhm": image.psf.fwhm},
    )
