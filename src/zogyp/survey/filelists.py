"""Which files are meant by what a user names: patterns, folders, lists."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from glob import glob, has_magic
from pathlib import Path

from zogyp.errors import FileError, OptionError
from zogyp.fitsfile import split_path

ENDINGS = (".fits", ".fit", ".fts")
EXTENSION = re.compile(r"(.*)(\[[^\[\]]*\])")
PACKED = ("", ".fz", ".gz", ".Z", ".z", ".bz2", ".xz")


def listed(names: Sequence[str | os.PathLike[str]]) -> list[str]:
    """File names: what is named, with patterns, folders and lists replaced by what they stand for.

    Parameters
    ----------
    names : sequence of paths
        ``@LIST`` stands for what the text file LIST names, one a line (# begins a comment); a folder for
        the FITS files in it, by name; ``*``, ``?`` and ``[...]`` for the files that match, by name, each with
        the extension that ends the pattern, as in ``*.fits[SCI]``. Whatever
        exists as it is written is taken so.

    Raises
    ------
    FileError
        A list or folder cannot be read, or no file matches a pattern.
    OptionError
        Nothing is named.
    """
    found: list[str] = []
    for given in names:
        name = os.fspath(given)
        if name.startswith("@"):
            for word in _words(name[1:]):
                found += _meant(word)
        else:
            found += _meant(name)
    if not found:
        raise OptionError("images", "none", "one at least")
    return found


def _words(path: str) -> list[str]:
    """Lines of a list, without comments."""
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise FileError(path, getattr(error, "strerror", None) or "not a text file") from error
    words = (line.split("#", 1)[0].strip() for line in lines)
    return [word for word in words if word]


def _meant(name: str) -> list[str]:
    """The files that one name stands for."""
    if os.path.isdir(name):
        return in_folder(name)
    if os.path.exists(name) or os.path.exists(split_path(name)[0]) or not has_magic(name):
        return [name]
    files = sorted(path for path in glob(name) if os.path.isfile(path))
    of_files = EXTENSION.fullmatch(name)
    if not files and of_files is not None:  # FILE[extension], or a pattern with one
        if not has_magic(of_files[1]):
            return [name]
        files = [path + of_files[2] for path in sorted(glob(of_files[1])) if os.path.isfile(path)]
    if not files:
        raise FileError(name, "no file matches")
    return files


def in_folder(folder: str | os.PathLike[str]) -> list[str]:
    """The FITS files of a folder, by name, hidden ones left out.

    Raises
    ------
    FileError
        There is none, or the folder cannot be read.
    """
    endings = tuple(e + p for e in ENDINGS for p in PACKED)
    try:
        entries = sorted(os.listdir(folder))
    except OSError as error:
        raise FileError(os.fspath(folder), error.strerror or str(error)) from error
    fits = [n for n in entries if n.lower().endswith(tuple(e.lower() for e in endings)) and n[0] != "."]
    files = [path for n in fits if os.path.isfile(path := os.path.join(folder, n))]
    if not files:
        raise FileError(os.fspath(folder), "no FITS file in this folder")
    return files
