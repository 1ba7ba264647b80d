"""A coadd that exists already as the beginning of another: what its file holds is all that is needed."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from astropy.table import Table, vstack

from zogyp.coadd_files import read_coadd
from zogyp.coadds import Coadd, surface_of
from zogyp.errors import OptionError
from zogyp.fitsfile import split_path
from zogyp.frames import Frame, kept
from zogyp.image import UNUSABLE
from zogyp.inputs import Given, opened
from zogyp.measure.exposure import measure
from zogyp.options import CoaddOptions
from zogyp.propersum import Base
from zogyp.scaled import Scaled, scaled


def opened_coadd(given: str | os.PathLike[str] | Coadd) -> Coadd:
    """A proper coadd, read if need be.

    Raises
    ------
    OptionError
        It is a plain combination: only a proper coadd can be added to.
    InputError
    """
    found = given if isinstance(given, Coadd) else read_coadd(given)
    if found.psf is None:
        raise OptionError("add_to", found.summary.get("method"), "a proper coadd")
    return found


def frame_of(coadd: Coadd, folder: Path, options: CoaddOptions) -> Frame:
    """A coadd as a frame of sigma 1: its pixels as they are, its sources as they are found.

    Raises
    ------
    InputError
    OutputError
    """
    image = opened(coadd.image, options.image)
    exposure = measure(
        image,
        background_options=options.background,
        detect=options.detect,
        psf_options=options.psf,
        psf=coadd.psf,
    )
    frame = kept(exposure, image.name, folder, None)
    bad = ((image.mask & np.uint16(UNUSABLE)) > 0) | ~(coadd.weight > 0)
    weight = np.where(bad, 1, coadd.weight)
    planes = {
        # the sky that was taken off for finding sources belongs to the sum
        "data": np.where(bad, 0, np.nan_to_num(coadd.R)),
        "variance": np.where(bad, 1, np.nan_to_num(coadd.variance, nan=1.0)),
        "sigma": np.where(bad, 1, coadd.F_R / np.sqrt(weight)),
    }
    for name, plane in planes.items():
        frame.keep(name, plane.astype(np.float32))
    return frame


def base_of(coadd: Coadd, frame: Frame) -> Base:
    """A coadd's frame as what a sum begins with."""
    return Base(replace(scaled(frame, frame), floor=coadd.psf_noise), coadd.coverage)


def checked_names(
    given: Sequence[Given], coadd: Coadd, *, remove: bool, allowed: bool
) -> tuple[list[Given], list[str]]:
    """The exposures that may be added to a coadd or taken out of it, and those that were in it already.

    Raises
    ------
    OptionError
        One is to be taken out that is not in it.
    """
    there = {_key(str(name)) for name in coadd.inputs["file"]}
    inside = [isinstance(g, str | os.PathLike) and _key(os.fspath(g)) in there for g in given]
    if remove:
        for one, known in zip(given, inside, strict=True):
            if not known:
                names = ", ".join(map(str, coadd.inputs["file"][:5]))
                raise OptionError("remove_from", str(one), f"an exposure of the coadd ({names} ...)")
        return list(given), []
    if allowed:
        return list(given), []
    new = [g for g, known in zip(given, inside, strict=True) if not known]
    again = [f"{g} (in the coadd already)" for g, known in zip(given, inside, strict=True) if known]
    return new, again


def _key(path: str) -> str:
    """What two spellings of one file share: coadds may be read elsewhere, so the name must do."""
    return split_path(path)[0].name + str(split_path(path)[1] or "")


def as_added(frames: Sequence[Scaled], coadd: Coadd) -> list[Scaled]:
    """Frames with the flux scales and places with which they once were added, to be taken out."""
    rows = {_key(str(row["file"])): row for row in coadd.inputs}
    out = []
    for one in frames:
        row, shape = rows[_key(one.frame.path)], coadd.R.shape
        out.append(
            replace(
                one,
                flux=surface_of(row["flux_terms"], shape, log=bool(row["flux_log"])),
                dx=surface_of(row["dx_terms"], shape),
                dy=surface_of(row["dy_terms"], shape),
                unit=float(row["flux_unit"]) / coadd.F_R,
                sign=-1,
            )
        )
    return out


def joined(old: Coadd, base: Scaled, table: Table, frames: Sequence[Scaled]) -> Table:
    """The table of all exposures in the sum, from that of the coadd and that of what came or went."""
    total = base.depth + sum(f.sign * f.depth for f in frames)
    before = old.inputs.copy()
    before["weight"] = before["weight"] * (base.depth / total)
    if frames and frames[0].sign < 0:
        gone = {_key(f.frame.path) for f in frames}
        return before[[_key(str(name)) not in gone for name in before["file"]]]
    now = table.copy()
    now["weight"] = now["weight"] * (sum(f.depth for f in frames) / total)
    return vstack([before, now], metadata_conflicts="silent")
