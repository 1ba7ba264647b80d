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
from zogyp.frames import Frame, kept
from zogyp.image import UNUSABLE
from zogyp.inputs import opened
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


def known_ones(
    frames: Sequence[Frame], coadd: Coadd, *, remove: bool, allowed: bool
) -> tuple[list[Frame], list[str]]:
    """The exposures that may be added to a coadd or taken out of it, and those that were in it already.

    Told by their pixels: names may repeat, and files may move.

    Raises
    ------
    OptionError
        One is to be taken out that is not in it, or all are; none is new.
    """
    there = {str(digest) for digest in coadd.inputs["digest"]}
    inside = [f.digest.hex() in there for f in frames]
    if remove:
        strange = [f.path for f, known in zip(frames, inside, strict=True) if not known]
        if strange:
            names = ", ".join(map(str, coadd.inputs["file"][:5]))
            raise OptionError("remove_from", strange[0], f"an exposure of the coadd ({names} ...)")
        if len({f.digest for f in frames}) >= len(there):
            raise OptionError("remove_from", f"all {len(frames)} exposures", "fewer than the coadd has")
        return list(frames), []
    if allowed:
        return list(frames), []
    new = [f for f, known in zip(frames, inside, strict=True) if not known]
    again = [f"{f.path} (in the coadd already)" for f, known in zip(frames, inside, strict=True) if known]
    if not new:
        what = f"{len(again)} exposures that are in the coadd already"
        raise OptionError("add_to", what, "given a new one at least")
    return new, again


def as_added(frames: Sequence[Scaled], coadd: Coadd) -> list[Scaled]:
    """Frames with the flux scales and places with which they once were added, to be taken out."""
    rows = {str(row["digest"]): row for row in coadd.inputs}
    out = []
    for one in frames:
        row, shape = rows[one.frame.digest.hex()], coadd.R.shape
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
        gone = {f.frame.digest.hex() for f in frames}
        return before[[str(digest) not in gone for digest in before["digest"]]]
    now = table.copy()
    now["weight"] = now["weight"] * (sum(f.depth for f in frames) / total)
    return vstack([before, now], metadata_conflicts="silent")
