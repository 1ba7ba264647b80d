"""The errors of zogyp, each carrying its numbers.

    ZogypError
    ├── InputError               a file or a value that came in cannot be used
    │   ├── FileError            missing, unreadable, not FITS, truncated
    │   ├── NoImageError         no two-dimensional image (or not the one asked for)
    │   ├── HeaderError          a header value that cannot be true (gain 0, text, ...)
    │   └── PixelError           pixels that cannot be used (all NaN, constant, ...)
    ├── OptionError              an option outside of what is allowed
    ├── ShapeError               two images that must share a grid do not
    ├── RegistrationError        no map between two images that can be believed
    ├── StarsError               too few stars to measure what was asked
    ├── ProgramError             an external program failed or is not installed
    ├── MissingExtraError        an optional Python package is not installed
    └── OutputError              a product could not be written

Every message tells what was allowed, what came and what to try.
"""

from __future__ import annotations

from pathlib import Path


class ZogypError(Exception):
    """Base of all errors that zogyp raises on purpose."""


class InputError(ZogypError):
    """Something that came in cannot be used."""


class FileError(InputError):
    """A file is missing, unreadable, truncated or not FITS."""

    def __init__(self, path: str | Path, reason: str) -> None:
        self.path = str(path)
        self.reason = reason
        super().__init__(f"{path}: {reason}")


class NoImageError(InputError):
    """A file holds no two-dimensional image, or not the one asked for."""

    def __init__(self, path: str | Path, reason: str, extensions: tuple[str, ...] = ()) -> None:
        self.path = str(path)
        self.reason = reason
        self.extensions = extensions
        there = f" The file holds: {', '.join(extensions)}." if extensions else ""
        super().__init__(f"{path}: {reason}.{there}")


class HeaderError(InputError):
    """A header value cannot be what it claims to be."""

    def __init__(self, name: str, value: object, allowed: str, hint: str = "") -> None:
        self.name = name
        self.value = value
        self.allowed = allowed
        super().__init__(f"{name} must be {allowed}, got {value!r}." + (f" {hint}" if hint else ""))


class PixelError(InputError):
    """The pixels of an image cannot be used."""

    def __init__(self, name: str, reason: str, n_good: int, n_pixels: int) -> None:
        self.name = name
        self.reason = reason
        self.n_good = n_good
        self.n_pixels = n_pixels
        super().__init__(f"{name}: {reason} ({n_good} usable of {n_pixels} pixels).")


class OptionError(ZogypError):
    """An option has a value outside of what is allowed."""

    def __init__(self, name: str, value: object, allowed: str, hint: str = "") -> None:
        self.name = name
        self.value = value
        self.allowed = allowed
        super().__init__(f"{name} must be {allowed}, got {value!r}." + (f" {hint}" if hint else ""))


class ShapeError(ZogypError):
    """Two arrays that must lie on one pixel grid have different shapes (ny, nx)."""

    def __init__(self, what: str, shape: tuple[int, ...], wanted: tuple[int, ...], hint: str = "") -> None:
        self.what = what
        self.shape = shape
        self.wanted = wanted
        super().__init__(
            f"{what} has shape {shape} (rows, columns), but {wanted} is needed."
            + (f" {hint}" if hint else "")
        )


class StarsError(ZogypError):
    """Too few stars to measure what was asked."""

    def __init__(self, what: str, n_found: int, n_required: int, hint: str = "") -> None:
        self.what = what
        self.n_found = n_found
        self.n_required = n_required
        super().__init__(
            f"{what}: {n_found} usable stars found, at least {n_required} needed."
            + (f" {hint}" if hint else "")
        )


class RegistrationError(ZogypError):
    """No map between two images that chance could not have made."""

    def __init__(
        self,
        n_matched: int,
        n_required: int,
        n_stars: tuple[int, int],
        tried: tuple[str, ...] = (),
        hint: str = "",
    ) -> None:
        self.n_matched = n_matched
        self.n_required = n_required
        self.n_stars = n_stars
        self.tried = tried
        ways = f" Tried: {', '.join(tried)}." if tried else ""
        super().__init__(
            f"the images cannot be registered: the best map matches {n_matched} stars, at least {n_required} "
            f"are needed to believe it; {n_stars[0]} and {n_stars[1]} sources were found.{ways}"
            + (f" {hint}" if hint else "")
        )


class ProgramError(ZogypError):
    """An external program is not installed, or failed."""

    def __init__(self, program: str, reason: str, stderr: str = "") -> None:
        self.program = program
        self.reason = reason
        self.stderr = stderr
        tail = " ".join(stderr.split())[-500:]
        super().__init__(f"{program}: {reason}" + (f" It said: {tail}" if tail else ""))


class MissingExtraError(ZogypError):
    """A Python package of an optional extra is needed and not installed."""

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        self.package = package
        self.extra = extra
        super().__init__(
            f"{purpose} need the Python package {package}, which is not installed. "
            f'Try: pip install "zogyp[{extra}]"'
        )


class OutputError(ZogypError):
    """A product could not be written; nothing half-written carries its name."""

    def __init__(self, path: str | Path, reason: str) -> None:
        self.path = str(path)
        self.reason = reason
        super().__init__(f"cannot write {path}: {reason}")
