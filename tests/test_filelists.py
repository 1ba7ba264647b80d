"""What file names stand for: folders, lists, patterns, and names that only look like one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from zogyp.errors import FileError, OptionError
from zogyp.survey.filelists import in_folder, listed


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder to name files in, as the working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def touch(*names):
    for name in names:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()


def test_names_stay_as_they_are_and_in_their_order(here):
    touch("b.fits", "a.fits")
    given = ["b.fits", Path("a.fits"), "missing.fits", "b.fits", "x/../a.fits", "a.fits[2]"]
    assert listed(given) == ["b.fits", "a.fits", "missing.fits", "b.fits", "x/../a.fits", "a.fits[2]"]


def test_a_folder_stands_for_its_fits_files_by_name(here):
    fits = [
        "B.FITS",
        "a.fits",
        "c.fit",
        "d.fts",
        "e.fits.fz",
        "f.fits.gz",
        "g.Fits.Z",
        "h.fit.bz2",
        "i.fts.xz",
    ]
    touch(*(f"night/{n}" for n in fits))
    touch("night/notes.txt", "night/fits", "night/x.fits.txt", "night/.hidden.fits", "night/a.fits.tmp")
    touch("night/deeper.fits/z.fits")  # a folder
    assert listed(["night"]) == [f"night/{n}" for n in sorted(fits)]
    assert listed(["night/"]) == listed([Path("night")]) == listed(["night"])
    assert in_folder("night") == [f"night/{n}" for n in sorted(fits)]
    assert listed(["night/deeper.fits"]) == ["night/deeper.fits/z.fits"]


def test_links_in_a_folder_are_followed(here):
    touch("elsewhere/a.fits", "night/b.fits")
    os.symlink(here / "elsewhere/a.fits", "night/linked.fits")
    os.symlink(here / "gone.fits", "night/broken.fits")
    assert in_folder("night") == ["night/b.fits", "night/linked.fits"]


def test_a_folder_without_fits_files(here):
    touch("night/notes.txt")
    with pytest.raises(FileError, match="no FITS file in this folder") as caught:
        listed(["night"])
    assert caught.value.path == "night"
    with pytest.raises(FileError, match="nowhere"):
        in_folder("nowhere")


def test_a_list_names_one_a_line(here):
    touch("night/a.fits", "night/b.fits", "with space.fits", "x1.fits", "x2.fits", "z.fits")
    Path("list.txt").write_text(
        "# exposures\n\nz.fits\n  with space.fits  # the best\nnight\nx?.fits\n\t\nz.fits[1]\nlast.fits",
        encoding="utf-8",
    )
    told = ["z.fits", "with space.fits", "night/a.fits", "night/b.fits", "x1.fits", "x2.fits", "z.fits[1]"]
    assert listed(["first.fits", "@list.txt", "x1.fits"]) == ["first.fits", *told, "last.fits", "x1.fits"]


@pytest.mark.parametrize("text", [b"a.fits\r\nb\xc3\xbc.fits\r\n", b"a.fits\nb\xc3\xbc.fits"])
def test_lists_of_any_line_ends(here, text):
    Path("list.txt").write_bytes(text)
    assert listed(["@list.txt"]) == ["a.fits", "bü.fits"]


def test_a_list_that_cannot_be_read(here):
    with pytest.raises(FileError, match=r"none\.txt") as caught:
        listed(["@none.txt"])
    assert caught.value.path == "none.txt"
    Path("binary").write_bytes(b"\xff\xfe\x00a")
    with pytest.raises(FileError, match="not a text file"):
        listed(["@binary"])
    Path("folder").mkdir()
    with pytest.raises(FileError, match="folder"):
        listed(["@folder"])


@pytest.mark.parametrize("text", ["", "\n\n", "# nothing\n  # here\n"])
def test_a_list_that_names_nothing(here, text):
    Path("list.txt").write_text(text)
    with pytest.raises(OptionError, match="one at least"):
        listed(["@list.txt"])


def test_nothing_named():
    with pytest.raises(OptionError, match="one at least"):
        listed([])


def test_patterns_stand_for_the_files_that_match_by_name(here):
    touch("n10.fits", "n2.fits", "n1.fits", "n1.txt", "m.fits", "deep/n3.fits", "n9.fits/inside.fits")
    assert listed(["n*.fits"]) == ["n1.fits", "n10.fits", "n2.fits"], "n9.fits is a folder"
    assert listed(["n?.fits"]) == ["n1.fits", "n2.fits"]
    assert listed(["n[12].fits", "m.fits"]) == ["n1.fits", "n2.fits", "m.fits"]
    assert listed(["*/n*.fits"]) == ["deep/n3.fits"]
    assert listed([str(here / "m*")]) == [str(here / "m.fits")]


def test_a_pattern_that_nothing_matches(here):
    touch("a.fits", "bdir.fits/x")
    for pattern in ("z*.fits", "b*.fits", "nowhere/*.fits"):
        with pytest.raises(FileError, match="no file matches") as caught:
            listed(["a.fits", pattern])
        assert caught.value.path == pattern


def test_names_with_brackets_that_exist_are_names(here):
    touch("a[1].fits", "a1.fits", "b*.fits", "b2.fits", "[x].fits", "x.fits")
    assert listed(["a[1].fits"]) == ["a[1].fits"]
    assert listed(["b*.fits"]) == ["b*.fits"]
    assert listed(["[x].fits"]) == ["[x].fits"]
    Path("c[2]").mkdir()
    touch("c[2]/d.fits", "c2")
    assert listed(["c[2]"]) == ["c[2]/d.fits"]


def test_an_extension_is_no_pattern(here):
    """``file.fits[2]`` is a file and its extension, if that is there; so is one of a bracketed name."""
    touch("a.fits", "a.fits2", "n[3].fits")
    assert listed(["a.fits[2]", "a.fits[SCI,1]", "a.fits[*]"]) == ["a.fits[2]", "a.fits[SCI,1]", "a.fits[*]"]
    assert listed(["n[3].fits[1]"]) == ["n[3].fits[1]"]


def test_a_file_whose_name_begins_as_a_list_does(here):
    touch("@odd.fits")
    assert listed(["./@odd.fits"]) == ["./@odd.fits"]
