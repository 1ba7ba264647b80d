"""The documentation: its examples do what the pages say, its links lead somewhere, its lists are complete.

Every ``console`` and ``python`` block of the pages of `PAGES` is run, in order, in one empty folder for each
page. A comment on the line before a block changes that:

- ``<!-- not run: why -->``
- ``<!-- file: NAME -->``: the block is the content of a file
- ``<!-- exit: 1 -->``: the exit status that the block's commands have
- ``<!-- needs: PROGRAM ... -->``: not run where a program is not installed

In a ``console`` block lines after ``$ `` are commands and the others what they print; what a ``python`` block
prints stands in the ``text`` block after it. ``...`` stands for anything.
"""

from __future__ import annotations

import ast
import contextlib
import importlib.util
import io
import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass, field, fields
from pathlib import Path

import pytest

from zogyp import errors, headers, products, transients
from zogyp.cli import main
from zogyp.cli_options import leaves
from zogyp.image import Flag
from zogyp.options import InputOptions, SubtractOptions

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(p for p in DOCS.glob("*.md") if "```console" in p.read_text("utf-8"))
LINKED = [
    *sorted(DOCS.glob("*.md")),
    *sorted(ROOT.glob("*.md")),
    ROOT / "src" / "zogyp" / "core" / "README.md",
]
NUMBER = re.compile(r"[-+]?\d+(?:\.\d+)?(?:e[-+]?\d+)?")
CLOSE = 0.1  # relative difference of numbers that passes: a page need not follow every change of an estimate


@dataclass
class Block:
    """A fenced block of a page."""

    page: str
    line: int
    kind: str
    text: str
    notes: dict[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return f"{self.page}:{self.line}"


def blocks(page):
    """The fenced blocks of a page, in order."""
    found, notes, inside = [], {}, None
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), start=1):
        if inside is not None:
            if line == "```":
                found.append(inside)
                inside, notes = None, {}
            else:
                inside.text += line + "\n"
        elif line.startswith("```"):
            inside = Block(page.name, number, line[3:].strip(), "", notes)
        elif match := re.fullmatch(r"<!-- ([a-z ]+): (.+) -->", line):
            notes[match[1]] = match[2]
        elif line.strip():
            notes = {}
    assert inside is None, f"{page.name}: a block does not end"
    return found


def close(expected, got):
    """Whether two words agree, numbers within `CLOSE` or one unit of the last place printed."""
    if NUMBER.split(expected) != NUMBER.split(got):
        return False
    for a, b in zip(NUMBER.findall(expected), NUMBER.findall(got), strict=True):
        digits = re.match(r"[-+]?\d+\.?(\d*)", a)[1]
        last = 10.0 ** -len(digits) if digits and "e" not in a else 0.0
        if abs(float(a) - float(b)) > max(CLOSE * abs(float(a)), 1.001 * last):
            return False
    return True


def same(expected, got):
    """Whether a text is what the page says, word by word; ``...`` stands for any words."""
    want, have = expected.split(), got.split()
    reached = {0}  # how many words of ``have`` the words of ``want`` so far can account for
    for word in want:
        if word == "...":
            reached = set(range(min(reached, default=len(have) + 1), len(have) + 1))
        else:
            reached = {i + 1 for i in reached if i < len(have) and close(word, have[i])}
    return len(have) in reached


def run_command(command):
    """What a shell command prints, both streams as a terminal mixes them, and its exit status."""
    if match := re.fullmatch(
        r"(zogyp [^|<>&;$*`]*)(?:> (\S+))?", command
    ):  # in this process: a start costs seconds
        text, file = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(file if match[2] else text), contextlib.redirect_stderr(text):
            status = main(shlex.split(match[1])[1:])
        if match[2]:
            Path(match[2]).write_text(file.getvalue(), encoding="utf-8")
        return text.getvalue(), status
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", command],
        env=os.environ | {"PATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
        check=False,
    )
    return done.stdout, done.returncode


def run_console(block):
    """Run the commands of a block; yields (what, expected, got)."""
    parts = re.split(r"^\$ ", block.text.replace("\\\n", " "), flags=re.MULTILINE)
    assert not parts[0].strip(), f"{block.name}: a console block begins with a command"
    for part in parts[1:]:
        command, _, expected = part.partition("\n")
        got, status = run_command(command.strip())
        assert status == int(block.notes.get("exit", 0)), f"{block.name}: {command}\n{got}"
        if expected.strip():
            yield f"{block.name}: {command}", expected, got


def run_page(page):
    """Run a page's blocks in the working directory; yields (what, expected, got)."""
    names: dict = {"__name__": "__main__"}
    previous, printed = None, ""
    for block in blocks(page):
        missing = [p for p in block.notes.get("needs", "").split() if shutil.which(p) is None]
        if "file" in block.notes:
            Path(block.notes["file"]).write_text(block.text, encoding="utf-8")
        elif "not run" in block.notes or missing:
            previous = None
            continue
        elif block.kind == "console":
            yield from run_console(block)
        elif block.kind == "python":
            text = io.StringIO()
            with contextlib.redirect_stdout(text):
                exec(compile(block.text, block.name, "exec"), names)
            printed = text.getvalue()
        elif block.kind == "text" and previous is not None and previous.kind == "python":
            yield block.name, block.text, printed
        previous = block


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.stem)
def test_examples_do_what_the_page_says(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for what, expected, got in run_page(page):
        assert same(expected, got), f"{what}\nthe page says\n{expected}\nit is\n{got}"


def test_the_comparison_of_examples():
    assert same("found 8 of 8\nspread 0.997 sigma", "found 8  of 8 spread 1.012 sigma")
    assert same("one ... three", "one two two three") and same("... end", "end") and same("a ...", "a")
    assert not same("found 8 of 8", "found 7 of 8")
    assert not same("spread 0.997", "spread 1.15")
    assert not same("a b", "a b c") and not same("a ... c", "a b")
    assert same("error 0.1", "error 0.2") and not same("error 0.10", "error 0.2")


# ---------------------------------------------------------------- links


def slug(heading):
    """The anchor of a heading, as it is made where the pages are read."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def anchors(path):
    """All anchors of a page."""
    text = re.sub(r"^```.*?^```", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    return {slug(h) for h in re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE)}


@pytest.mark.parametrize("page", LINKED, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        file, _, anchor = target.partition("#")
        path = (page.parent / file).resolve() if file else page
        assert path.exists(), f"{page.name}: {target}"
        if anchor:
            assert anchor in anchors(path), f"{page.name}: {target}"


def test_every_page_is_in_the_index():
    index = (DOCS / "index.md").read_text(encoding="utf-8")
    for page in DOCS.glob("*.md"):
        assert page.name == "index.md" or f"({page.name})" in index, page.name


@pytest.mark.parametrize("picture", sorted((DOCS / "images").glob("*.png")), ids=lambda p: p.name)
def test_pictures_are_small_and_shown(picture):
    assert picture.stat().st_size < 300_000
    assert any(picture.name in page.read_text(encoding="utf-8") for page in LINKED), "on no page"


# ---------------------------------------------------------------- lists that must be complete


def read(name):
    return (DOCS / name).read_text(encoding="utf-8")


def test_the_page_of_the_command_line_is_what_the_program_has():
    spec = importlib.util.spec_from_file_location("make_cli", DOCS / "make_cli.py")
    maker = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(maker)
    by_hand, _, _ = read("cli.md").partition(maker.BEGIN)
    assert read("cli.md") == maker.page(by_hand), "run python docs/make_cli.py"


def test_every_error_is_explained():
    page = read("files.md")
    kinds = [e for e in vars(errors).values() if isinstance(e, type) and issubclass(e, errors.ZogypError)]
    assert len(kinds) > 10
    for kind in kinds:
        assert f"`{kind.__name__}`" in page, kind.__name__


def test_every_keyword_that_is_read_is_listed():
    page = read("files.md")
    for names in ("GAIN", "READ_NOISE", "SATURATION", "ZERO_POINT", "EXPOSURE"):
        for keyword in getattr(headers, names):
            assert f"`{keyword}`" in page, keyword


def test_every_option_of_an_input_is_explained():
    page = read("files.md")
    for f in fields(InputOptions):
        assert f"`{f.name}`" in page or f"--new-{f.name.replace('_', '-')}" in page, f.name


def test_flags_columns_and_cards_are_listed():
    page = read("output.md")
    for flag in Flag:
        assert f"| {int(flag)} | {flag.ref()} | {flag.name} |" in page
    for name, *_ in transients.COLUMNS:
        assert f"`{name}`" in page, name
    for card, *_ in products.CARDS:
        assert f"`{card}`" in page, card


def test_every_figure_of_the_summary_is_explained():
    tree = ast.parse((ROOT / "src" / "zogyp" / "summary.py").read_text(encoding="utf-8"))
    keys = {k.value for d in ast.walk(tree) if isinstance(d, ast.Dict) for k in d.keys if k is not None}
    page = read("output.md").partition("## Summary")[2]
    missing = {key for key in keys if not re.search(rf"\b{key}\b", page)}
    assert len(keys) > 40 and not missing


def test_options_that_pages_name_exist():
    known = {leaf.flag for leaf in leaves(SubtractOptions())}
    known |= {f"--no-{flag[2:]}" for flag in known}
    known |= set(re.findall(r"--[a-z][a-z-]+", read("cli.md")))
    for page in (*DOCS.glob("*.md"), ROOT / "README.md"):
        text = page.read_text(encoding="utf-8")
        for line in re.findall(r"zogyp [a-z]+ .*", text):
            named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", line))
            assert named <= known, f"{page.name}: {line}"
