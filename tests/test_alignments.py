"""Many images onto one grid, by `zogyp align` and by `align_many`: a failure stops none of the others."""

from __future__ import annotations

import json
import shutil
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS

import mapped
import zogyp
from zogyp.cli import main
from zogyp.errors import FileError, InputError, OptionError
from zogyp.options import AlignOptions, InputOptions
from zogyp.survey.alignments import Outcome, align_many
from zogyp.survey.filelists import listed

GRID, OTHER = (300, 320), (310, 290)
KNOWN = {
    "A": mapped.turned(GRID, OTHER, angle=20.0, shift=(3.3, -6.2)),
    "B": mapped.turned(GRID, OTHER, angle=-170.0, mirrored=True),
}
NAMES = ("A", "broken", "elsewhere", "B")
ONE = AlignOptions(threads=1)


def content(folder):
    """Everything below a folder: paths, and the bytes of files."""
    return {p: p.read_bytes() if p.is_file() else None for p in sorted(folder.rglob("*"))}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A reference, two images of its field, a file that is none, and an image of another field."""
    folder = tmp_path_factory.mktemp("many images")
    stars = mapped.stars(3, 200, GRID)
    light = stars.light(mapped.IDENTITY, GRID, 3.0)
    made = {"ref": mapped.save(folder / "ref.fits", mapped.noisy(light, 4), mapped.wcs())}
    for seed, (name, known) in enumerate(KNOWN.items(), start=5):
        made[name] = mapped.save(folder / f"{name}.fits", mapped.noisy(stars.light(known, OTHER, 3.3), seed))
    other = mapped.stars(33, 200, GRID).light(mapped.IDENTITY, OTHER, 3.0)
    made["elsewhere"] = mapped.save(folder / "elsewhere.fits", mapped.noisy(other, 8))
    made["broken"] = folder / "broken.fits"
    made["broken"].write_text("SIMPLE  = no")
    before = content(folder)
    yield made
    assert content(folder) == before, "inputs are only read, and nothing comes beside them"


@pytest.fixture(scope="module")
def ran(files, tmp_path_factory):
    """`zogyp align` of four images, two of which cannot be aligned; its outcomes by name."""
    out = tmp_path_factory.mktemp("out") / "deep" / "er"
    outcomes = align_many([files[n] for n in NAMES], to=files["ref"], output=out, options=ONE)
    return out, dict(zip(NAMES, outcomes, strict=True))


def words(files, *names):
    return ["align", *(str(files[n]) for n in names), "--to", str(files["ref"])]


def one_line(text):
    return text.startswith("zogyp: ") and text.count("\n") == 1 and text.endswith("\n")


# ---------------------------------------------------------------- the function


def test_the_good_ones_are_written_and_the_others_say_why(ran, files):
    out, told = ran
    assert sorted(p.name for p in out.iterdir()) == ["A_aligned.fits", "B_aligned.fits"]
    assert [o.image for o in told.values()] == [str(files[n]) for n in NAMES]
    for name, outcome in told.items():
        assert isinstance(outcome, Outcome) and outcome.seconds >= 0
        if name in KNOWN:
            assert outcome.error is None
            assert outcome.files == {"image": str(out / f"{name}_aligned.fits")}
            assert outcome.figures["n_matched"] >= outcome.figures["n_required"]
        else:
            assert outcome.files == outcome.figures == {}
            assert "\n" not in outcome.error
    assert "broken.fits" in told["broken"].error
    assert "cannot be registered" in told["elsewhere"].error


@pytest.mark.parametrize("name", KNOWN)
def test_the_written_images_are_those_of_align(ran, files, name):
    alone, found = zogyp.align(files[name], to=files["ref"], options=ONE)
    with fits.open(ran[0] / f"{name}_aligned.fits") as hdus:
        ok = np.isfinite(hdus[0].data)
        assert np.array_equal(hdus[0].data[ok], alone.data[ok]) and ok.mean() > 0.7
        assert np.array_equal(hdus["MASK"].data, alone.mask)
    assert found.figures() == ran[1][name].figures
    x, y = np.random.default_rng(1).uniform(60, 240, (2, 100))
    # some hundred stars of 0.1 px and better: a few hundredths
    assert np.hypot(*np.subtract(found.transform(x, y), KNOWN[name](x, y))).max() < 0.05


@pytest.mark.parametrize("threads", [1, 2])
def test_any_number_of_workers_gives_the_same_bytes(ran, files, tmp_path, threads):
    """Two threads of our own, or an executor of three."""
    with ThreadPoolExecutor(3) as pool:
        align_many(
            [files[n] for n in KNOWN],
            to=files["ref"],
            output=tmp_path,
            options=AlignOptions(threads=threads),
            executor=pool if threads == 1 else None,
        )
    for path in ran[0].iterdir():
        assert (tmp_path / path.name).read_bytes() == path.read_bytes()
    assert len(list(tmp_path.iterdir())) == 2


def test_jobs_travel_to_other_processes(ran, files, tmp_path):
    """What a cluster does: the job is pickled, the outcome comes back."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        (outcome,) = align_many([files["A"]], to=files["ref"], output=tmp_path, executor=pool, options=ONE)
    assert outcome.error is None
    assert (tmp_path / "A_aligned.fits").read_bytes() == (ran[0] / "A_aligned.fits").read_bytes()


def test_progress_names_what_is_finished(files, tmp_path):
    told = []
    align_many(
        [files["A"], files["broken"]],
        to=files["ref"],
        output=tmp_path,
        options=ONE,
        progress=lambda name, done: told.append((name, done)),
    )
    assert {name for name, _ in told} == {"A", "broken"}
    assert [done for _, done in told] == [0.5, 1.0]


def test_a_reference_that_cannot_be_used_is_an_error_at_once(files, tmp_path):
    with pytest.raises(InputError):
        align_many([files["A"]], to=files["broken"], output=tmp_path / "out", options=ONE)
    assert not list(tmp_path.iterdir()), "not even a folder"


def test_names_that_would_meet_are_refused(files, tmp_path):
    twin = tmp_path / "twin" / "A.fits.fz"
    twin.parent.mkdir()
    shutil.copy(files["A"], twin)
    with pytest.raises(OptionError, match="different names"):
        align_many([files["A"], twin], to=files["ref"], output=tmp_path / "out", options=ONE)
    with pytest.raises(OptionError, match="different names"):
        align_many([files["A"], files["A"]], to=files["ref"], output=tmp_path / "out", options=ONE)
    assert not (tmp_path / "out").exists()


def test_many_images_need_a_folder(files, tmp_path):
    with pytest.raises(OptionError, match="a folder for 2 images"):
        align_many([files["A"], files["B"]], to=files["ref"], output=tmp_path / "o.fits", options=ONE)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("taken", ["reference", "image"])
def test_an_input_is_never_replaced(files, tmp_path, taken):
    """Inputs that are called as results would be, in the folder of results."""
    image, ref = tmp_path / "A.fits", tmp_path / "ref.fits"
    if taken == "reference":
        ref = tmp_path / "A_aligned.fits"
    shutil.copy(files["A"], image)
    shutil.copy(files["ref"], ref)
    images, output = [image], tmp_path
    if taken == "image":
        output = image
    before = content(tmp_path)
    (outcome,) = align_many(images, to=ref, output=output, options=ONE)
    assert "input of this run" in outcome.error
    assert content(tmp_path) == before


def test_an_image_of_the_list_is_not_replaced_by_another_ones_result(files, tmp_path):
    shutil.copy(files["A"], tmp_path / "A.fits")
    shutil.copy(files["B"], tmp_path / "A_aligned.fits")
    before = content(tmp_path)
    images = [tmp_path / "A.fits", tmp_path / "A_aligned.fits"]
    a, b = align_many(images, to=files["ref"], output=tmp_path, options=ONE)
    assert "input of this run" in a.error and b.error is None
    after = content(tmp_path)
    assert all(after[path] == before[path] for path in before)
    assert {p.name for p in after} - {p.name for p in before} == {"A_aligned_aligned.fits"}


@pytest.mark.parametrize(("role", "kind"), [("image", "mask"), ("image", "weight"), ("ref", "noise")])
def test_a_plane_that_goes_with_an_image_is_not_replaced(files, tmp_path, role, kind):
    """A mask of the image, or of the reference, that is called as the result would be."""
    plane = tmp_path / "A_aligned.fits"
    shape = GRID if role == "ref" else OTHER
    fits.writeto(plane, np.zeros(shape, np.uint8) if kind == "mask" else np.ones(shape, np.float32))
    before = content(tmp_path)
    options = replace(ONE, **{role: InputOptions(**{kind: str(plane)})})
    (outcome,) = align_many([files["A"]], to=files["ref"], output=tmp_path, options=options)
    assert content(tmp_path) == before
    assert "input of this run" in outcome.error


def test_a_disk_that_fills_leaves_no_half_written_file(files, tmp_path, monkeypatch):
    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    (outcome,) = align_many([files["A"]], to=files["ref"], output=tmp_path / "out", options=ONE)
    assert "No space left" in outcome.error
    assert not [p for p in tmp_path.rglob("*") if p.is_file()]


def test_lists_are_read_line_by_line(tmp_path):
    (tmp_path / "list.txt").write_text("a b.fits\n\n# not this\n  c.fits[SCI]  # nor that\n")
    assert listed(["x.fits", f"@{tmp_path}/list.txt", Path("y.fits")]) == [
        "x.fits", "a b.fits", "c.fits[SCI]", "y.fits",
    ]  # fmt: skip
    with pytest.raises(FileError, match=r"none\.txt"):
        listed([f"@{tmp_path}/none.txt"])
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(FileError, match="not a text file"):
        listed([f"@{tmp_path}/binary"])
    (tmp_path / "nothing").write_text("# nothing\n")
    for names in ([], [f"@{tmp_path}/nothing"]):
        with pytest.raises(OptionError, match="one at least"):
            listed(names)


# ---------------------------------------------------------------- the program


def test_the_table_tells_which_failed_and_why(files, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(files["ref"].parent)  # short names: a row is a line
    names = [f"{name}.fits" for name in NAMES]
    status = main(["align", *names, "--to", "ref.fits", "-o", str(tmp_path / "out"), "--threads", "1"])
    told = capsys.readouterr()
    assert status == 1
    assert one_line(told.err) and "2 of 4 images could not be aligned" in told.err
    assert "broken.fits" in told.err  # the first of them
    assert told.out.count("failed:") == 2
    for name in NAMES:
        (line,) = (x for x in told.out.splitlines() if x.startswith(f" {name}.fits "))
        assert ("failed:" in line) == (name not in KNOWN), line
    assert "mirrored" in told.out
    for name in KNOWN:
        assert f"  {tmp_path / 'out' / name}_aligned.fits\n" in told.out
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["A_aligned.fits", "B_aligned.fits"]
    assert "\x1b" not in told.out


def test_json_lists_all_and_a_list_of_names_works(files, tmp_path, capsys, ran):
    names = ("A", "broken", "B")  # the other field takes long
    (tmp_path / "list.txt").write_text("".join(f"{files[n]}\n" for n in names))
    command = ["align", f"@{tmp_path}/list.txt", "--to", str(files["ref"]), "-o", str(tmp_path / "out")]
    assert main([*command, "--threads", "2", "--json", "--quiet"]) == 1
    told = capsys.readouterr()
    outcomes = json.loads(told.out)
    assert outcomes["n_failed"] == 1 and one_line(told.err)
    assert [Path(o["image"]).stem for o in outcomes["images"]] == list(names)
    for outcome in outcomes["images"]:
        expected = ran[1][Path(outcome["image"]).stem]
        assert (outcome["error"], outcome["figures"]) == (expected.error, expected.figures)
        for path in outcome["files"].values():
            assert Path(path).read_bytes() == (ran[0] / Path(path).name).read_bytes()


def test_one_image_goes_into_the_file_that_is_named(files, tmp_path, capsys, ran, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main([*words(files, "A"), "-o", "OUT.fits", "--threads", "1"]) == 0
    told = capsys.readouterr()
    assert told.err == "" and "OUT.fits" in told.out
    assert Path("OUT.fits").read_bytes() == (ran[0] / "A_aligned.fits").read_bytes()
    assert main([*words(files, "A"), "--threads", "1", "--quiet"]) == 0
    assert capsys.readouterr().out == ""
    assert [str(p) for p in Path("Zoutput").iterdir()] == ["Zoutput/A_aligned.fits"]


def test_one_image_that_fails_is_one_line(files, tmp_path, capsys):
    start = time.perf_counter()
    assert main([*words(files, "elsewhere"), "-o", str(tmp_path / "out.fits"), "--threads", "1"]) == 1
    assert time.perf_counter() - start < 20
    told = capsys.readouterr()
    assert told.out == "" and one_line(told.err)
    assert "elsewhere.fits" in told.err and "cannot be registered" in told.err
    assert not list(tmp_path.iterdir())


def test_the_solution_alone(files, tmp_path, capsys):
    command = [*words(files, "A"), "--transform-only", "-o", str(tmp_path), "--threads", "1", "--json"]
    assert main(command) == 0
    (told,) = json.loads(capsys.readouterr().out)["images"]
    assert {Path(p).name for p in told["files"].values()} == {"A_aligned.json", "A_aligned.head"}
    assert sorted(p.name for p in tmp_path.iterdir()) == ["A_aligned.head", "A_aligned.json"]
    solution = json.loads((tmp_path / "A_aligned.json").read_text())
    x, y = np.random.default_rng(2).uniform(60, 240, (2, 100))
    off = np.subtract(zogyp.Transform.from_dict(solution["transform"])(x, y), KNOWN["A"](x, y))
    # a hundred stars of 0.1 px and better
    assert np.hypot(*off).max() < 0.05
    header = fits.Header.fromtextfile(tmp_path / "A_aligned.head")
    here = WCS(header).pixel_to_world(*KNOWN["A"](x, y))
    assert here.separation(mapped.wcs().pixel_to_world(x, y)).arcsec.max() < 0.06  # 1 arcsec a pixel


def test_the_solution_goes_into_the_file_that_is_named(files, tmp_path, capsys):
    command = [*words(files, "B"), "--transform-only", "-o", str(tmp_path / "b.json"), "--threads", "1"]
    assert main(command) == 0
    assert sorted(p.name for p in tmp_path.iterdir()) == ["b.head", "b.json"]
    assert "b.json" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("tokens", "status", "said"),
    [
        ([], 2, "--to"),
        (["--to", "{ref}"], 1, "one at least"),
        (["{A}", "--to", "none.fits"], 1, "none.fits"),
        (["{A}", "{A}", "--to", "{ref}"], 1, "different names"),
        (["{A}", "{B}", "--to", "{ref}", "-o", "x.fits"], 1, "a folder"),
        (["@none.txt", "--to", "{ref}"], 1, "none.txt"),
        (["{A}", "--to", "{ref}", "--align", "sideways"], 2, "--align"),
        (["{A}", "--to", "{ref}", "--align-kernel", "nearest"], 2, "--align-kernel"),
    ],
)
def test_wrong_usage_is_one_line_and_leaves_nothing(
    files, tmp_path, monkeypatch, capsys, tokens, status, said
):
    monkeypatch.chdir(tmp_path)
    assert main(["align", *(t.format(**files) for t in tokens)]) == status
    told = capsys.readouterr()
    assert told.out == "" and one_line(told.err)
    assert said in told.err
    assert not list(tmp_path.iterdir())
