"""What every file of ours says of itself, in the same words: options, notes, kind of noise, bits of the mask.

And the one rule that no result replaces what it was made of.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from astropy.io import fits

from zogyp.companions import KIND, PER_FREQUENCY
from zogyp.errors import OptionError
from zogyp.fitsbytes import Plane
from zogyp.fitsfile import split_path
from zogyp.headers import put
from zogyp.image import Flag, FloatImage, MaskImage

LONGEST_NOTE = 400  # characters


def put_options(header: fits.Header, options: Mapping[str, Any]) -> None:
    """Every option that was used, as ``ZOGYP GROUP KEY``."""
    for key, value in _flat(options):
        put(header, f"HIERARCH ZOGYP {key}", value)


def _flat(options: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Nested options as ``GROUP KEY`` and value."""
    for key, value in options.items():
        name = f"{prefix}{key}".upper()
        if isinstance(value, dict):
            yield from _flat(value, f"{name} ")
        else:
            yield name, value


def put_note(header: fits.Header, note: object) -> None:
    """A note as a line of the history, in characters that a header may hold."""
    plain = str(note).encode("ascii", "backslashreplace").decode()
    header.add_history("zogyp: " + "".join(c if c.isprintable() else " " for c in plain)[:LONGEST_NOTE])


def name_bits(header: fits.Header, image: str = "", shift: int = 0) -> None:
    """What the bits of a mask mean; of those of one ``image`` of two, ``shift`` bits up."""
    for flag in Flag:
        bit = int(flag).bit_length() - 1 + shift
        put(header, f"BIT{bit:02d}", f"{image}{flag.name}", f"meaning of the bit of value {1 << bit}")


def mask_plane(mask: MaskImage) -> Plane:
    """A mask as the extension MASK, with the meaning of its bits."""
    cards = fits.Header()
    name_bits(cards)
    return "MASK", mask, cards


def variance_plane(variance: FloatImage) -> Plane:
    """A variance as the extension VAR, with its kind."""
    cards = fits.Header()
    put(cards, KIND, PER_FREQUENCY, "noise that counts for stars; pixels share some")
    return "VAR", variance, cards


def spare(targets: Iterable[Path], inputs: Iterable[object], option: str = "output") -> None:
    """Refuse to replace an input.

    Parameters
    ----------
    targets : files to be written
    inputs : paths, with an extension or not, or None
    option : the one that says where to write

    Raises
    ------
    OptionError
    """
    given = (split_path(str(path))[0] for path in inputs if path)
    sources = [path for path in given if os.path.exists(path)]
    for target in filter(os.path.exists, targets):
        if any(os.path.samefile(target, source) for source in sources):
            raise OptionError(
                option, target.name, "another file than the inputs", f"{target} is an input of this run."
            )
