"""What goes with an image: bad pixels, variance and PSF, from its own file or from others.

Extensions of the image's own file are used when their names leave no doubt and their shape and
EXTVER are the image's:

- bad pixels: ``BPM``, ``DQ``, ``MASK``, ``MSK``, ``BADPIX`` (not 0 = bad; of the masks of the Rubin
  pipelines and of JWST, which also mark good pixels, only the bits that say "do not use"; our own
  keep all their bits), ``WHT``, ``WEIGHT`` (0 = bad: their unit is not agreed upon, so they are not
  used as variance);
- standard deviation: ``ERR``, ``ERROR``, ``SIGMA``, ``STDDEV``; variance: ``VAR``, ``VARIANCE``;
  inverse variance: ``IVAR``, ``IVM``, ``INVVAR``, ``WGT``; ``UNCERT`` as its UTYPE says;
- ``PSF`` as zogyp writes it, see `zogyp.psf_cards`; others' mean many things and are passed over.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zogyp.core.psfmodel import PSF
from zogyp.errors import InputError, OptionError, ShapeError
from zogyp.fitsfile import Entry, FitsFile, open_fits, split_path
from zogyp.headers import BROKEN, quiet
from zogyp.image import UNUSABLE, Flag, FloatImage, MaskImage
from zogyp.options import InputOptions
from zogyp.psf_cards import psf_inside

MASKS = ("BPM", "DQ", "MASK", "MSK", "BADPIX")
ZERO_IS_BAD = ("WHT", "WEIGHT")
VARIANCES = {
    **dict.fromkeys(("ERR", "ERROR", "SIGMA", "STDDEV"), "noise"),
    **dict.fromkeys(("VAR", "VARIANCE"), "variance"),
    **dict.fromkeys(("IVAR", "IVM", "INVVAR", "WGT"), "weight"),
    "UNCERT": "uncertainty",
}
UTYPES = {
    "STDDEVUNCERTAINTY": "noise",
    "VARIANCEUNCERTAINTY": "variance",
    "INVERSEVARIANCE": "weight",
    "": "noise",
}
RUBIN_BITS = ("BAD", "SAT", "NO_DATA", "CR", "SUSPECT", "VIGNETTED")
JWST_BITS = 1  # DO_NOT_USE
OWN_BITS = int(sum(Flag))  # the low byte: bits above are those of a reference
KIND, PER_FREQUENCY = (
    "VARKIND",
    "per unit frequency",
)  # card of a variance, and what it says of resampled pixels
MOST_BAD = 0.5  # a plane that condemns more than this fraction of an image means something else

Bad = NDArray[np.bool_]


@dataclass
class Companions:
    """What is known of pixels beside their values.

    Attributes
    ----------
    bad : ndarray, bool, (ny, nx) or None
        Pixels that must not be used, nobody said why.
    flags : ndarray, uint16, (ny, nx) or None
        Bits of `Flag`, from a mask of our own.
    variance : ndarray, float32, (ny, nx) or None
        [ADU²].
    resampled : bool
        ``variance`` is that of resampled pixels: noise per unit frequency.
    psf : PSF or None
    notes : list of str
    """

    bad: Bad | None = None
    flags: MaskImage | None = None
    variance: FloatImage | None = None
    resampled: bool = False
    psf: PSF | None = None
    notes: list[str] = field(default_factory=list)

    def add_bad(self, bad: Bad) -> None:
        """Add bad pixels to those known."""
        self.bad = bad if self.bad is None else self.bad | bad


def inside(file: FitsFile, entry: Entry) -> Companions:
    """The companions of an image in its own file."""
    found = Companions()
    if entry.aside:
        return found
    for names in (MASKS, ZERO_IS_BAD):
        partner = _partner(file, entry, names)
        if partner is None or (names is ZERO_IS_BAD and found.flags is not None):
            continue  # our own masks say all there is to say, and why
        values = file.pixels(partner, np.float64)
        if names is MASKS and file.own_header(partner)[0].get("BIT00") == Flag.BAD.name:
            found.flags = _own_bits(values)
            found.notes.append(f"extension {partner.label} used for bad pixels")
        else:
            bad = _flagged(values, file.header(partner)) if names is MASKS else ~(values > 0)
            _use(found, partner, bad, None)
    partner = _partner(file, entry, tuple(VARIANCES))
    if partner is not None:
        _add_variance(found, file, partner)
    if entry.index == file.choose(None).index:  # a file of many images does not say whose PSF it is
        _add_psf(found, file)
    return found


def _add_variance(found: Companions, file: FitsFile, partner: Entry) -> None:
    """Add the variance that one extension tells."""
    kind = VARIANCES[partner.name]
    if kind == "uncertainty":
        utype = str(file.header(partner).get("UTYPE", "")).strip().upper()
        kind = UTYPES.get(utype, "")
    if not kind:
        return
    own = file.own_header(partner)[0].get(KIND) == PER_FREQUENCY
    variance, bad = as_variance(file.pixels(partner), kind)
    if found.flags is not None:  # where our own mask tells already, there need not be a variance
        bad &= (found.flags & np.uint16(UNUSABLE)) == 0
    _use(found, partner, bad, variance)
    found.resampled = own and found.variance is variance


def _add_psf(found: Companions, file: FitsFile) -> None:
    """Add the PSF that the file holds; one that is broken is told of and measured instead."""
    try:
        with quiet():
            found.psf = psf_inside(file.path, file.hdus)
    except (InputError, *BROKEN, MemoryError, OverflowError) as error:
        reason = " ".join(str(error).split())[:200]
        found.notes.append(f"the PSF in the file cannot be used and is left out: {reason}")
        return
    if found.psf is not None:
        found.notes.append("the file holds its PSF")


def _use(found: Companions, partner: Entry, bad: Bad, variance: FloatImage | None) -> None:
    """Add what one extension says, unless it cannot be meant so."""
    if np.mean(bad) > MOST_BAD:
        found.notes.append(f"extension {partner.label} calls {np.mean(bad):.0%} of the pixels bad: ignored")
        return
    use = "bad pixels" if variance is None else "the variance"
    found.notes.append(f"extension {partner.label} used for {use}")
    found.add_bad(bad)
    if variance is not None:
        found.variance = variance


def _partner(file: FitsFile, entry: Entry, names: tuple[str, ...]) -> Entry | None:
    """The one extension of these names that can only belong to this image."""
    images = [e for e in file.entries if e.shape is not None and e.index != entry.index]
    same = [e for e in images if e.version == entry.version]
    # a coadd of ours has its first image a second time, in other units
    rivals = [e for e in same if not e.aside and not (entry.index == 0 and e.name == "FLUX")]
    found = [e for e in same if e.name in names and e.shape == entry.shape]
    return found[0] if len(found) == 1 and not rivals else None


def _flagged(values: NDArray[np.float64], header: Any) -> Bad:
    """Bad pixels of a data-quality plane."""
    bits = 0
    planes = {str(k)[3:].upper(): v for k, v in header.items() if str(k).upper().startswith("MP_")}
    if planes:
        numbers = [v for k, v in planes.items() if k in RUBIN_BITS and isinstance(v, int)]
        bits = sum(1 << n for n in numbers if 0 <= n < 53)
    elif str(header.get("TELESCOP", "")).strip().upper() == "JWST":
        bits = JWST_BITS
    if not bits:
        return nonzero(values)
    finite = np.isfinite(values)
    whole = np.where(finite, values, 0).astype(np.int64)
    flagged: Bad = ((whole & bits) != 0) | ~finite
    return flagged


def _own_bits(values: NDArray[np.float64]) -> MaskImage:
    """The bits of a mask that zogyp wrote, those of the image itself; BAD where the mask has no value."""
    finite = np.isfinite(values)
    whole = np.where(finite, values, 0).astype(np.int64) & OWN_BITS
    flags: MaskImage = np.where(finite, whole, int(Flag.BAD)).astype(np.uint16)
    return flags


def nonzero(values: NDArray[Any]) -> Bad:
    """Bad pixels of a mask: all that are not 0, NaN included."""
    bad: Bad = values != 0
    return bad


def as_variance(values: FloatImage, kind: str) -> tuple[FloatImage, Bad]:
    """Variance and bad pixels of a plane of standard deviations, variances or weights.

    A bad pixel is one whose value is NaN, infinite, 0 or negative; its variance is the median of the
    good ones.
    """
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        positive = values > 0
        variance = {"noise": values * values, "variance": values, "weight": np.float32(1) / values}[kind]
        good = positive & np.isfinite(variance) & (variance > 0)
    variance = np.where(good, variance, np.median(variance[good]) if good.any() else np.float32(1))
    return variance.astype(np.float32, copy=False), ~good


def from_files(options: InputOptions, shape: tuple[int, int], ext: str | None, found: Companions) -> None:
    """Add the planes of separate files; a noise or weight file replaces the variance found so far.

    A companion file of many extensions, named without one, is read at the image's own extension ``ext``.

    Raises
    ------
    OptionError
        Both noise and weight were given.
    ShapeError
        A plane does not lie on the image's grid.
    InputError
        A file cannot be read.
    """
    if options.noise is not None and options.weight is not None:
        raise OptionError("weight", options.weight, "left out when noise is given")
    for kind, path in (("noise", options.noise), ("weight", options.weight)):
        if path is not None:
            found.variance, bad = as_variance(plane(path, shape, kind, ext), kind)
            found.add_bad(bad)
    if options.mask is not None:
        found.add_bad(nonzero(plane(options.mask, shape, "mask", ext)))


def plane(
    path: str | os.PathLike[str], shape: tuple[int, int] | None, what: str, ext: str | None = None
) -> FloatImage:
    """The pixels of one two-dimensional image, NaN where there are none; see `zogyp.io.read_plane`."""
    file_path, asked = split_path(path)
    with open_fits(file_path) as file:
        if asked is None and ext is not None and sum(e.shape is not None for e in file.entries) > 1:
            asked = ext
        values: FloatImage = file.pixels(file.choose(asked))
    if shape is not None and values.shape != shape:
        hint = "It must lie on the image's own grid."
        raise ShapeError(f"the {what} {file_path.name}", values.shape, shape, hint)
    return values
