"""Write the tables of docs/cli.md from the program itself: ``python docs/make_cli.py``.

What stands before the line of `BEGIN` is written by hand and kept.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from zogyp.cli import COMMANDS, options_class
from zogyp.cli_options import GROUP_TITLES, Leaf, leaves

PAGE = Path(__file__).parent / "cli.md"
BEGIN = "<!-- made by docs/make_cli.py from here on -->\n"
PAIR = {"new": "ref", "image": "ref"}  # groups that differ in nothing but the image: one row tells both
WORDS = {int: "whole number", float: "number", str: "file", bool: "yes or no"}
TEXTS = {"memory": "size", "scratch": "folder"}  # options whose text is no file


def page(hand_written: str) -> str:
    """The whole page: what was written by hand, then one section for each command."""
    parts = [hand_written, BEGIN]
    told: dict[type, str] = {}
    for command in COMMANDS:
        name, made_of = command.__name__, options_class(command)
        parts.append(f"\n## zogyp {name}\n\n{_own(command)}")
        if made_of in told:
            other = told[made_of]
            parts.append(f"\nAnd all options of [`zogyp {other}`](#zogyp-{other}).\n")
            continue
        told[made_of] = name
        parts.append(_tables(made_of()))
    return "".join(parts)


def _own(command: Any) -> str:
    """Summary and the arguments that are not options, from the command's docstring and signature."""
    text = inspect.getdoc(command) or ""
    summary, _, described = text.partition("\n\nParameters\n----------\n")
    about = dict(re.findall(r"^(\w+)\n    (.+)$", described, flags=re.MULTILINE))
    usage, rows = f"zogyp {command.__name__}", []
    for p in inspect.signature(command).parameters.values():
        if p.name not in about:
            continue
        required = p.default is inspect.Parameter.empty
        named = p.kind is inspect.Parameter.KEYWORD_ONLY
        flag = f"--{p.name}".replace("_", "-") if named else p.name.upper()
        many = "..." if p.kind is inspect.Parameter.VAR_POSITIONAL else ""
        usage += f" {f'{flag} ' if named else ''}{p.name.upper()}{many}" if required else ""
        flag = {"--output": "--output, -o", "--report": "--report, --no-report"}.get(flag, flag)
        default = "" if required or p.default is None else f"`{_plain(p.default)}`"
        rows.append(f"| {_code(flag)} | {default} | {about[p.name]} |\n")
    table = "| argument | default | meaning |\n|---|---|---|\n" + "".join(rows)
    return f"`{usage} [options]`\n\n{summary}\n\n{table}"


def _tables(options: Any) -> str:
    """One table for each group of options."""
    groups = [f.name for f in fields(options) if is_dataclass(getattr(options, f.name))]
    told = {group: list(_rows(options, group)) for group in ("", *groups)}
    text = ""
    for group, rows in told.items():
        if not rows:
            continue
        title = "Each of the two images" if PAIR.get(group) in groups else GROUP_TITLES[group]
        text += f"\n### {title}\n\n| option | key in the TOML file | default | allowed | meaning |\n"
        text += "|---|---|---|---|---|\n" + "".join(rows)
    return text


def _rows(options: Any, group: str) -> Iterator[str]:
    """The rows of one group; an option of both images has one row."""
    found = {leaf.key: leaf for leaf in leaves(options)}
    for key, leaf in found.items():
        if (key[0] if len(key) > 1 else "") != group or group in PAIR.values():
            continue
        other = found.get((PAIR.get(group, ""), *key[1:]))
        both = [leaf] if other is None else [leaf, other]
        flags = ", ".join(_code(_flag(one)) for one in both)
        paths = ", ".join(_code(one.path) for one in both)
        defaults = " / ".join(dict.fromkeys(_default(one) for one in both))
        meaning, _, otherwise = leaf.help.partition("; default: ")
        defaults = defaults or otherwise
        yield f"| {flags} | {paths} | {defaults} | {_allowed(options, leaf)} | {_escaped(meaning)} |\n"


def _flag(leaf: Leaf) -> str:
    return f"{leaf.flag}, --no-{leaf.flag[2:]}" if isinstance(leaf.default, bool) else leaf.flag


def _default(leaf: Leaf) -> str:
    return "" if leaf.default is None else f"`{_plain(leaf.default)}`"


def _allowed(options: Any, leaf: Leaf) -> str:
    """Type and range of an option."""
    here = options
    for name in leaf.key[:-1]:
        here = getattr(here, name)
    meta = next(f.metadata for f in fields(here) if f.name == leaf.key[-1])
    kinds = [h for h in (get_args(leaf.hint) or (leaf.hint,)) if h is not type(None)]
    if get_origin(leaf.hint) is Literal:
        return ", ".join(_code(str(v)) for v in get_args(leaf.hint))
    if get_origin(leaf.hint) is tuple:
        return f"{len(get_args(leaf.hint))} whole numbers"
    words, low, high = TEXTS.get(leaf.key[-1], WORDS[kinds[0]]), meta.get("low"), meta.get("high")
    if low == 1e-30:  # what `options.py` writes for "larger than 0"
        return f"{words} above 0"
    if low is not None and high is not None:
        return f"{words}, {low:g} to {high:g}"
    return f"{words}, at least {low:g}" if low is not None else words


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        return " ".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def _code(text: str) -> str:
    return ", ".join(f"`{part}`" for part in text.split(", "))


def _escaped(text: str) -> str:
    return text.replace("|", "\\|")


def main() -> None:
    """Write the page anew."""
    hand_written, _, _ = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    PAGE.write_text(page(hand_written), encoding="utf-8")


if __name__ == "__main__":
    main()
