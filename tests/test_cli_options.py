"""Flags, TOML and Python give the same options, for every field there is."""

from __future__ import annotations

from dataclasses import replace
from types import NoneType
from typing import Annotated, Literal, get_args, get_origin

import pytest
from cyclopts import App, Parameter
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from zogyp.cli import COMMANDS, build_app, main, options_class
from zogyp.cli_options import InfoOptions, MeasureOptions, flags_class, leaves, make_options
from zogyp.errors import FileError, OptionError
from zogyp.options import AlignOptions, InputOptions, PSFOptions, SubtractOptions
from zogyp.sky import Sky

ALL = [SubtractOptions, AlignOptions, MeasureOptions, InfoOptions, Sky]
LEAVES = [(c, leaf) for c in ALL for leaf in leaves(c())]

# values that lie in every range of their type, other than the defaults
BY_NAME = {
    "order": 3,
    "flux_order": 2,
    "filter": 5,
    "mesh": 64,
    "tile": 512,
    "size": 21,
    "cut": 0.25,
    "psf_cut": 0.25,
    "hosted": 0.5,
    "ellipticity": 0.125,
    "variation": 0.25,
    "sampling": 0.75,
    "flux_max": 5e6,
    "transient_max": 5e6,
    "flux_slope": 1.5,
    "shape": (64, 96),
    "shift": (2.5, -1.5),
    "overlap": 0.5,
    "memory": "3G",
}


def other_value(leaf):
    """A legal value other than the default."""
    if leaf.key[-1] in BY_NAME:
        return BY_NAME[leaf.key[-1]]
    kind = next(
        h
        for h in ([leaf.hint] if get_origin(leaf.hint) is Literal else get_args(leaf.hint) or [leaf.hint])
        if h is not NoneType
    )
    if get_origin(kind) is Literal:
        return next(v for v in get_args(kind) if v != leaf.default)
    return {bool: not leaf.default, int: 7, float: 7.25, str: "a file.fits"}[kind]


def toml(key, value):
    """One value in TOML, written by hand."""
    text = {bool: lambda v: str(v).lower(), str: lambda v: f'"{v}"', tuple: lambda v: str(list(v))}
    shown = text.get(type(value), repr)(value)
    table = f"[{'.'.join(key[:-1])}]\n" if len(key) > 1 else ""
    return f"{table}{key[-1]} = {shown}\n"


def arguments(leaf, value):
    """One value on the command line."""
    if isinstance(value, bool):
        return [leaf.flag if value else f"--no-{leaf.flag[2:]}"]
    return [leaf.flag, *map(str, value if isinstance(value, tuple) else (value,))]


def from_flags(options_class, tokens, config=None):
    """Options as the command line makes them."""
    app, seen = App(), []

    def command(*, options=None):
        seen.append(make_options(options_class, options, config))

    command.__annotations__ = {"options": Annotated[flags_class(options_class) | None, Parameter(name="*")]}
    app.default(command)
    app(tokens, exit_on_error=False, print_error=False, result_action="return_value")
    return seen[0]


def from_python(options, key, value):
    """A changed copy, as a user of the library makes it."""
    if len(key) == 1:
        return replace(options, **{key[0]: value})
    return replace(options, **{key[0]: from_python(getattr(options, key[0]), key[1:], value)})


@pytest.mark.parametrize(
    ("options_class", "leaf"), LEAVES, ids=lambda v: getattr(v, "path", None) or v.__name__
)
def test_flag_toml_and_python_agree(options_class, leaf, tmp_path):
    value = other_value(leaf)
    expected = from_python(options_class(), leaf.key, value)
    assert expected != options_class()
    config = tmp_path / "options.toml"
    config.write_text(toml(leaf.key, value))
    assert make_options(options_class, None, config) == expected
    assert from_flags(options_class, arguments(leaf, value)) == expected
    # a flag beats the file
    nothing = from_flags(options_class, arguments(leaf, value), config)
    assert nothing == expected
    config.write_text(toml(leaf.key, leaf.default if leaf.default is not None else value))
    assert from_flags(options_class, arguments(leaf, value), config) == expected


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40, deadline=None)
@given(chosen=st.sets(st.sampled_from(range(len(list(leaves(SubtractOptions())))))), in_file=st.integers(0))
def test_any_mixture_of_flags_and_file_agrees_with_python(chosen, in_file, tmp_path):
    expected, tokens, tables = SubtractOptions(), [], []
    for i, leaf in enumerate(leaves(SubtractOptions())):
        if i in chosen:
            value = other_value(leaf)
            expected = from_python(expected, leaf.key, value)
            if in_file >> i & 1:
                # dotted keys at the top need no tables
                tables.append(toml(leaf.key[-1:], value).replace(leaf.key[-1], leaf.path, 1))
            else:
                tokens += arguments(leaf, value)
    config = tmp_path / "options.toml"
    config.write_text("".join(tables))
    assert from_flags(SubtractOptions, tokens, config) == expected


@pytest.mark.parametrize("options_class", ALL)
def test_nothing_given_gives_the_defaults(options_class, tmp_path):
    (tmp_path / "empty.toml").write_text("")
    assert from_flags(options_class, []) == options_class()
    assert make_options(options_class, None, tmp_path / "empty.toml") == options_class()


@pytest.mark.parametrize("command", [c.__name__ for c in COMMANDS])
def test_help_names_every_flag_however_it_is_asked_for(command, capsys):
    main([command, "--help"])
    briefly = capsys.readouterr().out
    build_app()([command, "--help"], exit_on_error=False, result_action="return_value")
    assert briefly == capsys.readouterr().out
    words = set(briefly.replace("│", " ").split())
    assert {
        leaf.flag for leaf in leaves(options_class(next(c for c in COMMANDS if c.__name__ == command))())
    } <= words


@pytest.mark.parametrize("command", [c.__name__ for c in COMMANDS])
def test_no_two_flags_of_a_command_collide(command):
    app = build_app()
    names = [
        n for argument in app[command].assemble_argument_collection() for n in argument.names if n != "*"
    ]
    names += ["--help", "-h", "--version"]
    assert len(names) == len(set(names))
    assert not any(a != b and a.replace("_", "-") == b.replace("_", "-") for a in names for b in names)


def test_flags_that_others_rely_on():
    flags = {leaf.flag for leaf in leaves(SubtractOptions())}
    assert flags >= {
        "--new-gain", "--ref-gain", "--new-psf", "--ref-psf", "--new-noise", "--ref-noise", "--ref-mask",
        "--mask", "--tile", "--threads", "--psf", "--detector", "--psf-size", "--psf-order",
        "--psf-sampling", "--psf-cut", "--psf-min-stars", "--threshold", "--detect-threshold", "--mesh",
    }  # fmt: skip


def test_every_option_explains_itself():
    for _, leaf in LEAVES:
        assert leaf.help, leaf.path


@pytest.mark.parametrize(
    ("text", "named", "allowed"),
    [
        ("[psf]\nmodle = 'psfex'\n", "psf.modle", "model"),
        ("[new]\ngian = 1.0\n", "new.gian", "gain"),
        ("nwe = 1\n", "nwe", "new"),
        ("[psf.size]\nx = 1\n", "psf.size", "whole number"),
        ("psf = 'psfex'\n", "psf", "tile"),
        ("[psf]\nmodel = 'daophot'\n", "psf.model", "zogyp, psfex"),
        ("tile = 512.5\n", "tile", "whole number"),
        ("tile = true\n", "tile", "whole number"),
        ("tile = 5\n", "tile", "between 128 and 16384"),
        ("[new]\ngain = '2'\n", "new.gain", "a number"),
        ("[new]\ngain = 0\n", "new.gain", "at least"),
        ("[new]\nmask = 3\n", "new.mask", "text"),
        ("psf_match = 1\n", "psf_match", "true or false"),
    ],
)
def test_wrong_configuration_is_named(text, named, allowed, tmp_path):
    config = tmp_path / "o.toml"
    config.write_text(text)
    with pytest.raises(OptionError) as caught:
        make_options(SubtractOptions, None, config)
    assert named in str(caught.value)
    assert allowed in str(caught.value)


@pytest.mark.parametrize("content", [b"tile = \n", b"\xff\xfe", None])
def test_configuration_that_cannot_be_read(content, tmp_path):
    config = tmp_path / "o.toml"
    if content is not None:
        config.write_bytes(content)
    with pytest.raises(FileError, match=r"o\.toml"):
        make_options(SubtractOptions, None, config)


def test_shape_in_a_file_is_a_list(tmp_path):
    config = tmp_path / "sky.toml"
    config.write_text("shape = [100, 200]\n[ref]\nfwhm = 2\n")
    sky = make_options(Sky, None, config)
    assert sky.shape == (100, 200)
    # one value of a group leaves the group's own other defaults alone
    assert sky.ref == replace(Sky().ref, fwhm=2.0)
    config.write_text("shape = [100]\n")
    with pytest.raises(OptionError, match="list of 2"):
        make_options(Sky, None, config)


@pytest.mark.parametrize(
    ("tokens", "named"),
    [(["--tile", "5"], "--tile"), (["--psf-size", "3"], "--psf-size"), (["--new-gain", "0"], "--new-gain")],
)
def test_an_error_names_the_flag(tokens, named):
    with pytest.raises(OptionError, match=f"^{named} must be"):
        from_flags(SubtractOptions, tokens)


def test_one_image_needs_no_prefix():
    options = from_flags(MeasureOptions, ["--gain", "2", "--psf", "psfex", "--psf-size", "25"])
    assert options.image == InputOptions(gain=2.0)
    assert options.psf == PSFOptions(model="psfex", size=25)
