"""What a FITS header says, made fit for use: detector figures, coordinates, cards to be written again.

Only reading (`zogyp.io`, `zogyp.fitsfile`) and writing of files look at headers.
"""

from __future__ import annotations

import logging
import math
import re
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from astropy.io import fits
from astropy.wcs import WCS

from zogyp.errors import HeaderError, OptionError
from zogyp.options import InputOptions

# What astropy raises on headers that break the standard.
BROKEN = (ValueError, KeyError, TypeError, IndexError, AttributeError, OSError, fits.VerifyError)

# Spellings, the most trustworthy first. EGAIN goes before GAIN because the software of CMOS cameras
# writes the camera's setting (0 ... 500) as GAIN and e-/ADU as EGAIN. ESO's GAIN is ADU/e-, CONAD is e-/ADU.
GAIN = ("EGAIN", "GAIN", "CCDGAIN", "EFFGAIN", "GAINEFF", "DETGAIN", "AVGGAIN", "AVGAIN", "CONAD", "ATODGAIN")
GAIN_AMPLIFIERS = re.compile(r"(?:E?GAIN|ATODGN)_?(?:[A-H]|\d\d?)|ESO DET OUT\d+ CONAD")
READ_NOISE = (
    "RDNOISE", "READNOIS", "READNOISE", "RON", "RONOISE", "ENOISE", "RDNOIS", "RNOISE", "CCDNOISE", "DETRON",
    "READNSE",
)  # fmt: skip
READ_NOISE_AMPLIFIERS = re.compile(
    r"(?:RDNOISE|READNOI|READNSE|RDNOIS|RDNOI|RONOISE|RON|ENOISE)_?(?:[A-H]|\d\d?)|ESO DET OUT\d+ RON"
)
SATURATION = (
    "SATURATE", "SATLEVEL", "SATUR", "SATURVAL", "SATURATI", "SATURLEV", "SATLEV", "ESATUR", "MAXLIN",
    "MAXADU", "NONLIN", "LINLIMIT",
)  # fmt: skip
SATURATION_AMPLIFIERS = re.compile(r"(?:SATURAT|SATUR|SATLEV|MAXLIN)_?(?:[A-H]|\d\d?)")
ZERO_POINT = (
    "MAGZERO", "IMAGEZPT", "ZEROPNT", "ZEROPOINT", "MAGZP", "MAGZPT", "ZP", "PHOTZP", "MAGZEROP", "ZPT",
    "ZMAG", "ZEROPT", "CALZP",
)  # fmt: skip
EXPOSURE = ("EXPTIME", "EXPOSURE", "XPOSURE", "EFFEXPTM", "ITIME", "EXP_TIME")
ELECTRONS = re.compile(r"(?:e|e-|(?:photo-?)?electrons?)(?![a-z])")
COUNTS = re.compile(r"(?:adu|dn|counts?|cts?)(?![a-z])")
RATE = re.compile(r"(?:/ ?s(?:ec(?:ond)?)?|[ .*]s(?:\^|\*\*)?\(?-1\)?)$")

COORDINATES = re.compile(
    r"(?:CTYPE|CRVAL|CRPIX|CDELT|CUNIT|CROTA|CRDER|CSYER|CNAME)\d+[A-Z]?|(?:CD|PC)\d+_\d+[A-Z]?|PC\d{6}"
    r"|(?:PV|PS)\d+_\d+[A-Z]?|(?:A|B|AP|BP)_(?:ORDER|DMAX|\d+_\d+)|WCSAXES[A-Z]?|WCSNAME[A-Z]?|WCSDIM"
    r"|(?:LONPOLE|LATPOLE|RADESYS|EQUINOX)[A-Z]?|RADECSYS|EPOCH|WAT\d+_\d+|LTV\d+|LTM\d+_\d+"
    r"|D2IM.*|CPDIS\d.*|CPERR\d.*|CQDIS\d.*|CQERR\d.*|D[PQ]\d+.*|AXISCORR|NPOLEXT|MJDREF[IF]?"
)
TIMES = re.compile(r"(?:DATE|MJD)-(?:OBS|BEG|AVG|END)")  # in a WCS those of the image that it came from
STRUCTURE = re.compile(
    r"SIMPLE|XTENSION|BITPIX|NAXIS\d*|EXTEND|PCOUNT|GCOUNT|GROUPS|TFIELDS|THEAP|(?:TTYPE|TFORM|TUNIT|TDIM)\d+"
    r"|BSCALE|BZERO|BLANK|CHECKSUM|DATASUM|ZHECKSUM|ZDATASUM|DATAMIN|DATAMAX|EXTNAME|EXTVER|EXTLEVEL|INHERIT"
    r"|NEXTEND|END|ZIMAGE|ZCMPTYPE|ZBITPIX|ZNAXIS\d*|ZTILE\d+|ZNAME\d+|ZVAL\d+|ZQUANTIZ|ZDITHER0|ZBLANK|ZSCALE"
    r"|ZZERO|ZTENSION|ZPCOUNT|ZGCOUNT|ZSIMPLE|ZEXTEND|ZBLOCKED|ZMASKCMP|FZALGOR|FZTILE|FZQVALUE|FZQMETHD|FZDTHRSD"
)

FURTHER_AXES = re.compile(
    r"(?:CTYPE|CRVAL|CRPIX|CDELT|CUNIT|CROTA|CRDER|CSYER|CNAME)(?:[3-9]|\d\d)[A-Z]?|WCSAXES"
    r"|(?:CD|PC)(?:\d+_(?:[3-9]|\d\d)|(?:[3-9]|\d\d)_\d+)[A-Z]?|(?:PV|PS)(?:[3-9]|\d\d)_\d+[A-Z]?"
)  # of a cube with a third axis of length 1

_ONE_AT_A_TIME = threading.RLock()  # the filters of warnings belong to the process, not to a thread


@contextmanager
def quiet() -> Iterator[None]:
    """Keep astropy's remarks on odd files to itself: what matters becomes an error or a note."""
    log = logging.getLogger("astropy")
    with _ONE_AT_A_TIME, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        level = log.level
        log.setLevel(logging.ERROR)
        try:
            yield
        finally:
            log.setLevel(level)


def cleaned(header: fits.Header) -> tuple[fits.Header, int]:
    """The cards of a header that can be read (repaired where possible), and how many could not."""
    good = []
    dropped = 0
    with quiet():
        for card in header.cards:
            try:
                card.verify("silentfix")
                text = str(card)
                _ = card.value
            except BROKEN:
                dropped += 1
                continue
            if text.isascii() and text.isprintable():
                good.append(card)
            else:
                dropped += 1
    return fits.Header(good, copy=True), dropped


def inherited(own: fits.Header, primary: fits.Header) -> fits.Header:
    """An extension's header with the primary's cards it does not have; coordinates are never inherited."""
    have = set(own)
    extra = [
        card
        for card in primary.cards
        if card.keyword not in have
        and card.keyword
        and not STRUCTURE.fullmatch(card.keyword)
        and not COORDINATES.fullmatch(card.keyword)
    ]
    return fits.Header([*own.cards, *extra], copy=True)


@dataclass
class Detector:
    """Gain [e-/ADU], read noise [e-], saturation [ADU], zero point [mag], exposure [s]; None: not known."""

    gain: float | None = None
    read_noise: float | None = None
    saturation: float | None = None
    zero_point: float | None = None
    exptime: float | None = None
    notes: list[str] = field(default_factory=list)


def detector(header: fits.Header, options: InputOptions, name: str) -> Detector:
    """Find the detector's figures; what ``options`` says wins.

    Raises
    ------
    HeaderError
        The header's gain is 0, negative, NaN or text, and no option replaces it.
    OptionError
        An option is not a finite number.
    """
    for key in ("gain", "read_noise", "saturation"):
        value = getattr(options, key)
        if value is not None and not math.isfinite(value):
            raise OptionError(key, value, "a finite number")
    values = {card.keyword.upper(): card.value for card in header.cards if card.keyword}
    found = Detector(exptime=_first(values, EXPOSURE))
    found.zero_point = _first(values, ZERO_POINT)
    found.gain, found.read_noise, found.saturation = options.gain, options.read_noise, options.saturation
    if found.gain is None:
        found.gain = _gain(values, found, name)
    if found.read_noise is None:
        found.read_noise = _read_noise(values, found.notes)
    if found.saturation is None:
        found.saturation = _saturation(values, found.notes)
    return found


def _number(value: object) -> float | None:
    """A card's value as a finite number (numbers written as text are accepted), else None."""
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | float | str | np.number):
        return None
    try:
        number = float(value)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _given(values: dict[str, Any], keys: tuple[str, ...]) -> list[tuple[str, Any]]:
    """The cards of these names that have a value."""
    return [
        (k, values[k])
        for k in keys
        if k in values and not isinstance(values[k], fits.card.Undefined) and values[k] not in (None, "")
    ]


def _positive(value: object) -> float | None:
    """A positive number that float32 can square, else None."""
    number = _number(value)
    return number if number is not None and 1e-18 < number < 1e18 else None


def _first(values: dict[str, Any], keys: tuple[str, ...]) -> float | None:
    """The first positive number among these cards (0 is how programs write "not known")."""
    return next((n for _, v in _given(values, keys) if (n := _positive(v)) is not None), None)


def _amplifiers(values: dict[str, Any], pattern: re.Pattern[str]) -> dict[str, float]:
    """Positive figures of single amplifiers."""
    found = {k: _positive(v) for k, v in values.items() if pattern.fullmatch(k)}
    return {k: v for k, v in found.items() if v is not None}


def _gain(values: dict[str, Any], found: Detector, name: str) -> float | None:
    """Electrons per unit of the image, from its gain, unit and exposure."""
    unit = str(values.get("BUNIT", "")).lower().strip()
    electrons = ELECTRONS.match(unit) is not None
    gain = 1.0 if electrons else _header_gain(values, found.notes, name)
    if electrons and _first(values, GAIN) not in (None, 1.0):
        found.notes.append(f"the unit is {values['BUNIT']!r}: a gain of 1 e- per unit is used")
    if gain is None or RATE.search(unit) is None or not (electrons or COUNTS.match(unit)):
        return gain
    if found.exptime is None:
        found.notes.append(f"the unit is {values['BUNIT']!r} but no exposure time is known: gain unknown")
        return None
    found.notes.append(f"the unit is {values['BUNIT']!r}: the gain was multiplied by {found.exptime:g} s")
    return gain * found.exptime


def _header_gain(values: dict[str, Any], notes: list[str], name: str) -> float | None:
    """The gain of the header's cards."""
    wrong: list[tuple[str, Any]] = []
    for key, value in _given(values, GAIN):
        number = _positive(value)
        if number is not None:
            notes.extend(f"{k} = {v!r} is no gain; {key} = {number:g} is used" for k, v in wrong)
            return number
        wrong.append((key, value))
    parts = _amplifiers(values, GAIN_AMPLIFIERS)
    if parts:
        mean = float(np.mean(list(parts.values())))
        notes.append(f"gain {mean:g} is the mean of {', '.join(parts)}")
        return mean
    if wrong:
        key, value = wrong[0]
        hint = "Pass --new-gain or --ref-gain (option gain) in e-/ADU."
        raise HeaderError(f"{name}: header keyword {key}", value, "a positive number", hint)
    return None


def _read_noise(values: dict[str, Any], notes: list[str]) -> float | None:
    """The read noise of the header's cards [e-]; one that cannot be is as good as none."""
    for key, value in _given(values, READ_NOISE):
        number = _number(value)
        if number is not None and 0 <= number < 1e18:
            return number
        notes.append(f"{key} = {value!r} is no read noise: ignored")
    parts = _amplifiers(values, READ_NOISE_AMPLIFIERS)
    if not parts:
        return None
    rms = float(np.sqrt(np.mean(np.square(list(parts.values())))))
    notes.append(f"read noise {rms:g} is the rms of {', '.join(parts)}")
    return rms


def _saturation(values: dict[str, Any], notes: list[str]) -> float | None:
    """The lowest saturation or linearity limit of the header [ADU].

    The lowest, because a star that one amplifier or the linearity limit bends is as harmful as a
    saturated one, while a few good pixels flagged cost nothing.
    """
    levels: dict[str, float] = {}
    for key, value in _given(values, SATURATION):
        number = _positive(value)
        if number is not None:
            levels[key] = number
        elif _number(value) != 0:  # 0 is how programs write "not known"
            notes.append(f"{key} = {value!r} is no saturation level: ignored")
    levels |= _amplifiers(values, SATURATION_AMPLIFIERS)
    if not levels:
        return None
    key = min(levels, key=levels.__getitem__)
    if len(set(levels.values())) > 1:
        notes.append(f"saturation {levels[key]:g} is {key}, the lowest of {', '.join(levels)}")
    return levels[key]


def without_detector(header: fits.Header) -> fits.Header:
    """A copy without what `detector` reads: for pixels that are no longer the detector's."""
    patterns = (GAIN_AMPLIFIERS, READ_NOISE_AMPLIFIERS, SATURATION_AMPLIFIERS)
    told = {*GAIN, *READ_NOISE, *SATURATION, *ZERO_POINT, *EXPOSURE, "BUNIT", "BLANK"}
    cards, _ = cleaned(header)
    kept = [
        c for c in cards.cards if c.keyword not in told and not any(p.fullmatch(c.keyword) for p in patterns)
    ]
    return fits.Header(kept, copy=True)


def celestial(header: fits.Header, hdus: fits.HDUList | None = None) -> tuple[WCS | None, str | None]:
    """The celestial coordinates of a header's first two axes, and a note when they are broken.

    ``hdus`` supplies the tables of lookup distortions.
    """
    if not any(key in header for key in ("CTYPE1", "CTYPE2")):
        return None, None
    with quiet():
        try:
            wcs = WCS(header, fobj=hdus)
            if not wcs.has_celestial:
                return None, None
            if wcs.naxis > 2:
                wcs = wcs.celestial
            middle = [[header.get("NAXIS1", 2) / 2.0, header.get("NAXIS2", 2) / 2.0]]
            sky = wcs.all_pix2world(np.array(middle), 0)
            matrix = np.asarray(wcs.pixel_scale_matrix)
            flat = abs(np.linalg.det(matrix)) < 1e-9 * np.abs(matrix).max() ** 2
        except (*BROKEN, MemoryError) as error:
            reason = " ".join(str(error).split())[:150]
            return None, f"the coordinates (WCS) of the header are broken and were left out: {reason}"
    if flat or not np.all(np.isfinite(sky)):
        return None, "the coordinates (WCS) of the header are singular or not finite: left out"
    return wcs, None


def carried(header: fits.Header | None, wcs: WCS | None) -> tuple[fits.Header, list[Any]]:
    """Cards for a new file: the original's without its structure, with the coordinates of ``wcs``.

    The original's own coordinate cards (SIP, TPV, TNX ...) are kept where they describe the same
    coordinates, or did before a cutout moved CRPIX; else those of ``wcs`` replace them; without ``wcs`` there
    are none, for pixels may have moved.

    Returns
    -------
    header : Header
    extra : list of HDUs
        Tables of lookup distortions that must go into the same file.
    """
    original, _ = cleaned(header) if header is not None else (fits.Header(), 0)
    unfit = FURTHER_AXES if original.get("NAXIS", 2) > 2 else re.compile(r"\b\B")
    kept = [c for c in original.cards if not (STRUCTURE.fullmatch(c.keyword) or unfit.fullmatch(c.keyword))]
    plain = fits.Header([c for c in kept if not COORDINATES.fullmatch(c.keyword)], copy=True)
    if wcs is None:
        return plain, []
    with quiet():
        tables = any(t is not None for t in (wcs.cpdis1, wcs.cpdis2, wcs.det2im1, wcs.det2im2))
        same = fits.Header(kept, copy=True)
        for i, value in enumerate(wcs.wcs.crpix, start=1):
            same[f"CRPIX{i}"] = float(value)
        if not tables and _same_coordinates(same, wcs):
            return same, []
        hdus = wcs.to_fits(relax=True)
        own = [c for c in cleaned(hdus[0].header)[0].cards if not TIMES.fullmatch(c.keyword)]
        plain.extend(own, unique=False, end=True)
    structure = [key for key in plain if STRUCTURE.fullmatch(key)]
    for key in structure:
        plain.remove(key, ignore_missing=True, remove_all=True)
    return plain, list(hdus[1:])


def _same_coordinates(header: fits.Header, wcs: WCS) -> bool:
    """Whether a header's cards give the coordinates of ``wcs`` to 1e-3 of a pixel."""
    other, _ = celestial(header)
    if other is None or other.wcs.radesys != wcs.wcs.radesys or list(other.wcs.ctype) != list(wcs.wcs.ctype):
        return False
    nx, ny = wcs.pixel_shape or (1000, 1000)
    corners = [[0, 0], [nx - 1, 0], [0, ny - 1], [nx - 1, ny - 1]]
    pixels = np.array([*corners, [nx / 2, ny / 2], [1 + nx / 2, ny / 2]])
    try:
        here, there = (w.all_pix2world(pixels, 0) for w in (wcs, other))
    except BROKEN:
        return False
    step = np.hypot(*(here[5] - here[4]))
    apart = np.abs((here - there + 180) % 360 - 180)  # longitudes may differ by 360
    ok: bool = bool(np.all(apart[np.isfinite(here)] < 1e-3 * step)) and bool(np.isfinite(step))
    return ok


def put(header: fits.Header, key: str, value: Any, comment: str = "") -> None:
    """Set a card whatever the value is: made ASCII and cut to what a header can hold; NaN is left out."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return
    if value is None:
        value = "auto"
    if not isinstance(value, bool | int | float):
        value = str(value).encode("ascii", "backslashreplace").decode()
        value = "".join(c if c.isprintable() else " " for c in value)[:1000]
    with quiet():
        try:
            header.remove(key.removeprefix("HIERARCH "), ignore_missing=True, remove_all=True)
            header.set(key, value, comment)
            str(header.cards[key.removeprefix("HIERARCH ")])
        except BROKEN:
            header.remove(key, ignore_missing=True)
            header.set(key, str(value)[:40])
