"""What the 1.x names share: their options, the names of their files, sub-images.

Behaviour follows the documentation of 1.x; where that and the program disagreed, the documentation
holds. ``docs/migrating.md`` tells what changed in value, and why.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np

from zogyp import io
from zogyp.errors import OptionError, OutputError
from zogyp.headers import put
from zogyp.image import Flag, Image
from zogyp.options import InputOptions, SubtractOptions, _Checked, opt
from zogyp.products import Subtraction, file_name

FOLDER = Path("Zoutput")  # in the working directory, as 1.x had it
KINDS = ("D", "S", "Scorr")
Box = tuple[slice, slice]


@dataclass(frozen=True)
class ZOGYOptions(_Checked):
    """What ``run_ZOGY`` and the command ``ZOGY`` can be told; x counts columns and y rows."""

    sub_imagex: int = opt(1, "number of sub-images along x, written as separate files", low=1)
    sub_imagey: int = opt(1, "number of sub-images along y, written as separate files", low=1)
    xslice: int = opt(1, "least number of PSF kernels along x in each sub-image", low=1)
    yslice: int = opt(1, "least number of PSF kernels along y in each sub-image", low=1)
    blackout: bool = opt(False, "clear what lies where the images do not overlap")
    clean_sci: float = opt(0.0, "set sci's PSF to zero below this fraction of its peak", low=0, high=1)
    clean_ref: float = opt(0.0, "set ref's PSF to zero below this fraction of its peak", low=0, high=1)
    align: bool = opt(False, "align sci to ref before the subtraction")
    outname: str = opt("data", "what the names of the files begin with")

    def __post_init__(self) -> None:
        super().__post_init__()
        file_name(self.outname)
        for name in ("sub_imagex", "sub_imagey", "xslice", "yslice"):
            value = getattr(self, name)
            if isinstance(value, bool) or int(value) != value:
                raise OptionError(name, value, "a whole number")

    def modern(self, shape: tuple[int, int]) -> SubtractOptions:
        """The same wishes in the words of `zogyp.subtract`, for an image of this shape (ny, nx)."""
        for name, parts, side in (("sub_imagex", self.sub_imagex, 1), ("sub_imagey", self.sub_imagey, 0)):
            if parts > shape[side]:
                raise OptionError(name, parts, f"at most the {shape[side]} pixels there are")
        standard = SubtractOptions()
        # the PSF is evaluated in each tile: tiles no larger than the slices asked for
        wanted = standard.tile
        if self.xslice > 1:
            wanted = min(wanted, -(-shape[1] // int(self.sub_imagex * self.xslice)))
        if self.yslice > 1:
            wanted = min(wanted, -(-shape[0] // int(self.sub_imagey * self.yslice)))
        least = int(SubtractOptions.__dataclass_fields__["tile"].metadata["low"])
        return replace(
            standard,
            new=InputOptions(psf_cut=self.clean_sci),
            ref=InputOptions(psf_cut=self.clean_ref),
            tile=max(wanted, least),
            grid="reference",
            align=replace(standard.align, mode="auto" if self.align else "none"),
        )


def sub_images(shape: tuple[int, int], nx: int, ny: int) -> Iterator[Box]:
    """Boxes (rows, columns) that share an image out among nx times ny, x outer and y inner.

    Every pixel lies in exactly one.
    """
    columns = [round(i * shape[1] / nx) for i in range(nx + 1)]
    rows = [round(j * shape[0] / ny) for j in range(ny + 1)]
    for left, right in pairwise(columns):
        for bottom, top in pairwise(rows):
            yield slice(bottom, top), slice(left, right)


def black_out(sci: Image, ref: Image) -> tuple[Image, Image]:
    """Both images, marked where they have no data: none at all, or exactly 0 as 1.x filled it."""
    empty = (np.where(i.data == 0, np.uint16(Flag.NO_DATA), np.uint16(0)) for i in (sci, ref))
    a, b = (replace(i, mask=i.mask | e) for i, e in zip((sci, ref), empty, strict=True))
    return a, b


def numbered(outname: str, above: int = 0) -> list[Path]:
    """The numbered files of an earlier run of that name, those above a number."""
    pattern = re.compile(rf"{re.escape(outname)}_(?:{'|'.join(KINDS)})([1-9]\d*)\.fits")
    if not FOLDER.is_dir():
        return []
    found = ((pattern.fullmatch(path.name), path) for path in FOLDER.iterdir())
    return sorted(path for match, path in found if match and int(match[1]) > above)


def protect(inputs: tuple[str, str], outname: str, n: int) -> None:
    """Refuse to run when an input would be replaced or removed as a result of that name.

    Raises
    ------
    OutputError
    """
    results = {FOLDER / f"{outname}_{kind}{i + 1}.fits" for kind in KINDS for i in range(n)}
    results.update(numbered(outname))
    present = [path for path in results if path.exists()]
    for name in inputs:
        source = Path(re.sub(r"\[[^\[\]]*\]$", "", name))
        for path in present:
            if source.exists() and path.samefile(source):
                raise OutputError(path, "it is an input of this very run; choose another outname")


def write_parts(result: Subtraction, boxes: list[Box], outname: str, inputs: tuple[str, str]) -> list[Path]:
    """Write D, S and Scorr of each box, all or none, and remove files of an earlier run beyond them."""
    names: list[str] = []
    header = result.provenance()
    put(header, "NEWFILE", inputs[0], "science image")
    put(header, "REFFILE", inputs[1], "reference image")
    put(header, "F_D", result.summary.get("F_D"), "D / F_D has the science image's unit of flux")
    with io.staging(FOLDER) as stage:
        for number, box in enumerate(boxes, start=1):
            part = result.new.cutout(box)
            for kind in KINDS:
                cards = header.copy()
                put(cards, "PRODUCT", kind, "kind of image")
                put(cards, "SUBIMAGE", number, f"of {len(boxes)}; x outer, y inner")
                put(cards, "SUBX", box[1].start, "[pix] first column in the whole image, from 0")
                put(cards, "SUBY", box[0].start, "[pix] first row in the whole image, from 0")
                names.append(f"{outname}_{kind}{number}.fits")
                io.write_image(stage / names[-1], getattr(result, kind)[box], cards, part.wcs)
    for stale in numbered(outname, above=len(boxes)):
        try:
            stale.unlink()
        except OSError as error:
            raise OutputError(
                stale, f"left by an earlier run, cannot be removed ({error.strerror})"
            ) from error
    return [FOLDER / name for name in names]
