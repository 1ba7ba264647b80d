"""When an image was taken, from whatever its header says of it.

A time is a modified Julian date in the scale of the header, UTC as a rule. Nothing is corrected for the
way of the light to the Sun.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import date
from typing import Any

from astropy.io import fits

MIDDLE = ("MJD-AVG", "MJD-MID", "MJD_MID", "MJDMID", "EXPMID", "DATE-AVG")
START = (
    "MJD-OBS", "MJD-BEG", "MJD_OBS", "MJDOBS", "OBSMJD", "EXPSTART", "MJD", "JD-OBS", "JD_OBS", "OBSJD", "JD",
    "DATE-BEG", "DATE-OBS",
)  # fmt: skip
TIME_OF_DAY = ("TIME-OBS", "UTC-OBS", "UTSTART", "UT", "UTC")  # where the date stands alone
DAY = 86400.0  # s
FIRST_DAY = date(1858, 11, 17).toordinal()  # MJD 0
JULIAN = 2_400_000.5  # days from the zero of JD to that of MJD
POSSIBLE = (10_000.0, 150_000.0)  # MJD: from the first photographs to the year 2269
CALENDAR = re.compile(r"(\d{4})-(\d\d?)-(\d\d?)(?:[T ](.+?))?Z?")
OLD_CALENDAR = re.compile(r"(\d\d?)/(\d\d?)/(\d\d)")  # day/month/year of the last century
CLOCK = re.compile(r"(\d\d?):(\d\d?)(?::(\d\d?(?:\.\d*)?))?Z?")


def mid_exposure(header: fits.Header, exptime: float | None) -> float | None:
    """The middle of an exposure.

    Parameters
    ----------
    header : Header
        Its cards of `MIDDLE` tell the middle, else those of `START` the beginning. The first that holds a
        possible time decides. A date without a time of day, there or in a card of `TIME_OF_DAY`, is no time.
    exptime : float or None
        Exposure time [s], half of which is added to a beginning; not where it is unknown.

    Returns
    -------
    float or None
        Modified Julian date [d]; None when the header does not tell.
    """
    cards: dict[str, Any] = {}
    for card in header.cards:
        cards.setdefault(card.keyword.upper(), card.value)
    middle = _first(cards, MIDDLE)
    if middle is not None:
        return middle
    start = _first(cards, START)
    return None if start is None else start + 0.5 * (exptime or 0.0) / DAY


def _first(cards: Mapping[str, Any], names: tuple[str, ...]) -> float | None:
    """The first possible time among these cards [MJD]."""
    clock = next((t for name in TIME_OF_DAY if (t := _clock(cards.get(name))) is not None), None)
    for name in names:
        value = cards.get(name)
        found = _calendar(value, clock) if name.startswith("DATE") else _julian(value)
        if found is not None and POSSIBLE[0] <= found <= POSSIBLE[1]:
            return found
    return None


def _julian(value: object) -> float | None:
    """MJD of a number, or of a number written as text, that is a Julian date, modified or not."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except ValueError:
        return None
    if not math.isfinite(number):
        return None
    return number - JULIAN if number > JULIAN else number


def _calendar(value: object, clock: float | None) -> float | None:
    """MJD of a date with its time of day, or with ``clock``, a time of day from elsewhere [d]."""
    text = str(value).strip() if isinstance(value, str) else ""
    time: str | None = None
    if found := CALENDAR.fullmatch(text):
        year, month, day, time = int(found[1]), int(found[2]), int(found[3]), found[4]
    elif found := OLD_CALENDAR.fullmatch(text):
        year, month, day = 1900 + int(found[3]), int(found[2]), int(found[1])
    else:
        return None
    of_day = clock if time is None else _clock(time)
    if of_day is None:
        return None
    try:
        return date(year, month, day).toordinal() - FIRST_DAY + of_day
    except ValueError:
        return None


def _clock(value: object) -> float | None:
    """Part of a day of ``hh:mm:ss.s`` or ``hh:mm``."""
    found = CLOCK.fullmatch(value.strip()) if isinstance(value, str) else None
    if found is None:
        return None
    hours, minutes, seconds = int(found[1]), int(found[2]), float(found[3] or 0)
    if hours > 23 or minutes > 59 or seconds >= 61:  # a leap second is the 61st
        return None
    return (3600 * hours + 60 * minutes + seconds) / DAY
