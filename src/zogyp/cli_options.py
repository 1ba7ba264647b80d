"""From the option dataclasses to command-line flags and TOML files, and back.

The one rule for the name of a flag: the option's path with dashes, ``psf.min_stars`` is
``--psf-min-stars`` and ``new.gain`` is ``--new-gain``. `SHORT` holds the only exceptions, and
where there is but one image, ``image.gain`` is ``--gain``.
A configuration file has the same paths as tables: ``[psf]``, ``min_stars = 20``. Flags beat the file.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass, make_dataclass, replace
from functools import cache
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from cyclopts import Group, Parameter

from zogyp.errors import FileError, OptionError
from zogyp.options import BackgroundOptions, DetectOptions, InputOptions, PSFOptions

T = TypeVar("T")
Key = tuple[str, ...]

SHORT: dict[Key, str] = {
    ("psf", "model"): "psf",
    ("detect", "detector"): "detector",
    ("background", "mesh"): "mesh",
    ("align", "mode"): "align",
    ("align", "kernel"): "kernel",
    ("transients", "threshold"): "threshold",
    ("transients", "catalog"): "catalog",
    ("transients", "catalog_radius"): "catalog-radius",
}

ONLY_IMAGE = "image"  # the group whose name is left out of flags
GROUP_TITLES = {
    "": "Options",
    "image": "The image",
    "new": "The new image",
    "ref": "The reference",
    "background": "Background",
    "detect": "Detection",
    "psf": "PSF",
    "align": "Alignment",
    "reject": "Outliers",
    "noise": "Noise that S_corr counts",
    "transients": "Transients",
    "certificate": "Limits of a good subtraction",
    "fakes": "Fakes",
}


@dataclass(frozen=True)
class MeasureOptions:
    """Everything that `zogyp psf` can be told; ``without`` names what has no meaning there."""

    image: InputOptions = field(default_factory=InputOptions, metadata={"without": ("psf", "psf_cut")})
    background: BackgroundOptions = field(default_factory=BackgroundOptions)
    detect: DetectOptions = field(default_factory=DetectOptions)
    psf: PSFOptions = field(default_factory=PSFOptions, metadata={"without": ("cut",)})


@dataclass(frozen=True)
class InfoOptions:
    """Everything that `zogyp info` can be told."""

    image: InputOptions = field(default_factory=InputOptions, metadata={"without": ("psf", "psf_cut")})


@dataclass(frozen=True)
class Leaf:
    """One option: where it lies in its dataclass, its type, default and help."""

    key: Key
    hint: Any
    default: Any
    help: str

    @property
    def flag(self) -> str:
        """Its flag, with the two dashes."""
        long = "-".join(part for part in self.key if part != ONLY_IMAGE)
        return "--" + SHORT.get(self.key, long).replace("_", "-")

    @property
    def path(self) -> str:
        """Its path in a configuration file."""
        return ".".join(self.key)


def leaves(options: Any, key: Key = (), without: Sequence[str] = ()) -> Iterator[Leaf]:
    """All options of a (nested) instance, groups last as a reader expects."""
    hints = get_type_hints(type(options))
    told = [f for f in fields(options) if f.init]
    plain = [f for f in told if not is_dataclass(getattr(options, f.name))]
    groups = [f for f in told if is_dataclass(getattr(options, f.name))]
    for f in plain:
        if f.name not in without:
            text = f.metadata.get("help", "")
            yield Leaf((*key, f.name), hints[f.name], getattr(options, f.name), text)
    for f in groups:
        yield from leaves(getattr(options, f.name), (*key, f.name), f.metadata.get("without", ()))


@cache
def flags_class(options_class: type) -> type:
    """A flat dataclass that cyclopts turns into flags; None stands for a flag not given."""
    titles = list(GROUP_TITLES.values())
    groups = {title: Group(title, sort_key=i + 1) for i, title in enumerate(titles)}
    members = [
        (
            "__".join(leaf.key),
            Annotated[leaf.hint | None, _parameter(leaf, groups)],
            field(default=None, kw_only=True),
        )
        for leaf in leaves(options_class())
    ]
    made = make_dataclass(f"{options_class.__name__}Flags", members, frozen=True, repr=False, eq=False)
    made.__module__ = __name__  # cyclopts takes a class of module "types" for a builtin
    return made


def _parameter(leaf: Leaf, groups: Mapping[str, Group]) -> Parameter:
    text = leaf.help
    if leaf.default is not None and not isinstance(leaf.default, bool):
        shown = " ".join(map(str, leaf.default)) if isinstance(leaf.default, tuple) else leaf.default
        text += f" [default: {shown}]"
    if isinstance(leaf.default, bool):
        text += f" [default: {'yes' if leaf.default else 'no'}]"
    title = GROUP_TITLES[leaf.key[0] if len(leaf.key) > 1 else ""]
    return Parameter(
        name=leaf.flag,
        help=text,
        negative=f"--no-{leaf.flag[2:]}" if isinstance(leaf.default, bool) else (),
        show_default=False,
        group=groups[title],
    )


def read_config(path: str | Path) -> dict[str, Any]:
    """The tables of a TOML file.

    Raises
    ------
    FileError
        The file is missing, unreadable or not TOML.
    """
    try:
        with open(path, "rb") as file:
            return tomllib.load(file)
    except OSError as error:
        raise FileError(path, error.strerror or str(error)) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise FileError(path, f"not a TOML file ({error})") from error


def make_options(options_class: type[T], flags: Any = None, config: str | Path | None = None) -> T:
    """Options from their defaults, a TOML file, and flags, each beating the one before.

    Parameters
    ----------
    options_class : a dataclass of `zogyp.options` (or alike) whose fields may be dataclasses.
    flags : an instance of ``flags_class(options_class)``, or None.
    config : path of a TOML file, or None.

    Raises
    ------
    FileError
        The file cannot be read.
    OptionError
        An unknown key, a value of another type, or one out of range; the name tells where it stands.
    """
    known = {leaf.key: leaf for leaf in leaves(options_class())}
    values: dict[Key, Any] = {}
    names: dict[Key, str] = {}
    for key, value in _flat(read_config(config) if config else {}, known):
        names[key] = f"{'.'.join(key)} in {config}"
        values[key] = _checked(value, known[key].hint, names[key])
    for f in fields(flags) if flags is not None else ():
        key, value = tuple(f.name.split("__")), getattr(flags, f.name)
        if value is not None:
            names[key], values[key] = known[key].flag, value
    made: T = _changed(options_class(), values, names, ())
    return made


def _flat(table: Mapping[str, Any], known: Mapping[Key, Leaf], key: Key = ()) -> Iterator[tuple[Key, Any]]:
    """Keys and values of nested tables."""
    for name, value in table.items():
        here = (*key, name)
        if here in known:
            yield here, value
        elif isinstance(value, Mapping) and any(k[: len(here)] == here for k in known):
            yield from _flat(value, known, here)
        else:
            there = sorted({k[len(key)] for k in known if k[: len(key)] == key and len(k) > len(key)})
            where = f"in [{'.'.join(key)}]" if key else "at the top"
            raise OptionError(f"configuration key {where}", ".".join(here), f"one of {', '.join(there)}")


def _checked(value: Any, hint: Any, name: str) -> Any:
    """A value of a TOML file as the type that the option has."""
    hints = [h for h in (get_args(hint) or (hint,)) if h is not NoneType]
    if get_origin(hint) is Literal or get_origin(hint) is tuple:
        hints = [hint]
    kind = hints[0]
    if get_origin(kind) is Literal:
        if value in get_args(kind):
            return value
        raise OptionError(name, value, f"one of {', '.join(get_args(kind))}")
    if get_origin(kind) is tuple:
        wanted = get_args(kind)
        if isinstance(value, list) and len(value) == len(wanted):
            return tuple(_checked(v, h, name) for v, h in zip(value, wanted, strict=True))
        raise OptionError(name, value, f"a list of {len(wanted)} values")
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, kind) and not (kind is int and isinstance(value, bool)):
        return value
    words = {float: "a number", int: "a whole number", bool: "true or false", str: "text in quotes"}
    raise OptionError(name, value, words[kind])


def _changed(options: Any, values: Mapping[Key, Any], names: Mapping[Key, str], key: Key) -> Any:
    """A copy with some values changed; an error names the flag or the key in the file."""
    changes = {}
    for f in (f for f in fields(options) if f.init):
        here, old = (*key, f.name), getattr(options, f.name)
        if is_dataclass(old):
            changes[f.name] = _changed(old, values, names, here)
        elif here in values:
            changes[f.name] = values[here]
    try:
        return replace(options, **changes)
    except OptionError as error:
        name = names.get((*key, error.name))
        if name is not None and str(error).startswith(error.name):
            error.args = (name + str(error).removeprefix(error.name),)
            error.name = name
        raise
