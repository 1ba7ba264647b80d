"""The 1.x names: every documented example runs, and the traps of 1.6.3 are gone.

Examples that print or plot are kept as they were but for three things that could never run: the test
images of the package (not ours to ship), a stray line break after ``plt.``, and cut-outs at places
that the smaller images here do not have.
"""

from __future__ import annotations

import glob
import hashlib
import importlib.metadata
import inspect
import ntpath
import subprocess
import sys
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from astropy.wcs import WCS

import zogyp
import zogyp.subtraction
from zogyp.compat import ZOGYOptions, sub_images
from zogyp.errors import FileError, InputError, OptionError, OutputError, ShapeError
from zogyp.zip import config_loc, rdfits, run_ZOGY
from zogyp.ZOGY import main

mpl.use("Agg")
import matplotlib.pyplot as plt

CORNER, SIZE = (920, 10), (331, 301)  # x, y of a part of the goto images, and its columns and rows


@pytest.fixture(autouse=True)
def work(tmp_path, monkeypatch):
    """Every test has a working directory of its own."""
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    yield folder
    plt.close("all")


@pytest.fixture(scope="module")
def memory():
    return {}


@pytest.fixture(autouse=True)
def measured_once(monkeypatch, memory):
    """What was measured on an image serves all tests that subtract it: most of the time goes there."""

    def measure(seen, **options):
        image = seen.image
        key = (image.data.tobytes(), image.mask.tobytes(), image.name, repr(options))
        if key not in memory:
            memory[key] = real(seen, **options)
        return memory[key]

    real = zogyp.subtraction.measure
    monkeypatch.setattr(zogyp.subtraction, "measure", measure)


@pytest.fixture(scope="session")
def goto(shared_data):
    """The two images of the 1.x tutorial: the second has 35 sources that the first lacks."""
    return [str(shared_data / "goto" / f"{name}.fits") for name in ("second", "first")]


@pytest.fixture(scope="session")
def T(goto, tmp_path_factory):
    """A part of them, for examples whose point is not the whole image; odd sizes, SIP kept."""
    folder = tmp_path_factory.mktemp("ref images (é)")  # names that 1.x stumbled over
    box = np.s_[CORNER[1] : CORNER[1] + SIZE[1], CORNER[0] : CORNER[0] + SIZE[0]]
    paths = []
    for path in goto:
        data, header = fits.getdata(path)[box], fits.getheader(path)
        header["CRPIX1"] -= CORNER[0]
        header["CRPIX2"] -= CORNER[1]
        paths.append(str(folder / f"sci_ref_{Path(path).name}"))
        fits.writeto(paths[-1], data, header)
    return paths


@pytest.fixture(scope="session")
def added(shared_data):
    """x and y of the 35 sources."""
    return Table.read(shared_data / "goto" / "sources_only_in_second.csv")["x", "y"]


def peak(image, x, y):
    """Largest value within 3 px."""
    x, y = round(x), round(y)
    return np.nanmax(image[max(y - 3, 0) : y + 4, max(x - 3, 0) : x + 4])


def files(folder="Zoutput"):
    return sorted(path.name for path in Path(folder).iterdir())


# The documented examples -----------------------------------------------------------------------


def test_documented_imports_and_configuration(capsys):
    print(config_loc())
    LOC = config_loc()
    names = [ntpath.basename(i) for i in glob.glob(LOC + "/*")]
    assert {"default.sex", "default.param", "default.conv", "psfex.conf"} <= set(names)
    assert capsys.readouterr().out == LOC + "\n"


def test_documented_basic_subtraction_of_the_tutorial_images(goto, added):
    run_ZOGY(goto[0], goto[1], outname="TEST_SUB")  # ZOGY image subtraction T[0] - T[1]
    file_names = glob.glob("Zoutput/*")
    _, axs = plt.subplots(1, 5, figsize=(20, 45))
    for i in range(len(file_names)):
        D = fits.getdata(file_names[i])
        axs[i].imshow(D, cmap="gray_r", vmin=-np.mean(D) * 20, vmax=np.mean(D) * 20)
        axs[i].set_xticks([], [])
        axs[i].set_yticks([], [])
        axs[i].set_title(ntpath.basename(file_names[i]))
    plt.show()
    assert files() == ["TEST_SUB_D1.fits", "TEST_SUB_S1.fits", "TEST_SUB_Scorr1.fits"]
    for kind in ("D", "S", "Scorr"):
        image = fits.getdata(f"Zoutput/TEST_SUB_{kind}1.fits")
        assert image.shape == (1850, 1850) and image.dtype == ">f4"
    # all were added to the first argument, with S/N of 17 and more in an aperture: positive, far beyond 5
    assert min(peak(image, x, y) for x, y in added) > 10
    # where the sources are not, it is noise: the pair is not independent, hence no statement on its spread
    assert np.nanmedian(np.abs(image)) < 2


def test_documented_cleaning(T):
    quality = []
    for i in range(11):
        X = i / 10
        run_ZOGY(T[0], T[1], clean_ref=X, clean_sci=X)
        plt.imshow(fits.getdata("Zoutput/data_D1.fits")[130:190, 154:200])
        plt.xticks([], [])
        plt.yticks([], [])
        plt.show()
        quality.append(np.nanmax(fits.getdata("Zoutput/data_Scorr1.fits")))
    assert len(files()) == 3
    assert max(quality[4:]) < quality[0]  # cleaning never pays


def test_documented_slices_and_sub_images(T):
    run_ZOGY(T[0], T[1], xslice=2, yslice=2)
    assert files() == ["data_D1.fits", "data_S1.fits", "data_Scorr1.fits"]
    run_ZOGY(T[0], T[1], sub_imagex=1, sub_imagey=2)
    file_names = glob.glob("Zoutput/data_D*")
    _, axs = plt.subplots(2, 1, figsize=(10, 8))
    for i in range(len(file_names)):
        D = fits.getdata(file_names[i])
        axs[i].imshow(D, cmap="gray")
        axs[i].set_xticks([], [])
        axs[i].set_yticks([], [])
        axs[i].set_title(ntpath.basename(file_names[i]))
    plt.show()
    assert len(file_names) == 2
    # Finally, put it all together!
    run_ZOGY(
        T[0], T[1], sub_imagex=1, sub_imagey=2, xslice=2, yslice=2, blackout=True,
        clean_ref=0.75, clean_sci=0.75, outname="FINAL",
    )  # fmt: skip
    plt.imshow(fits.getdata("Zoutput/FINAL_Scorr1.fits"), cmap="gray_r", vmin=-0.25, vmax=0.25)
    plt.show()
    assert len(files()) == 12
    parts = [fits.getdata(f"Zoutput/FINAL_Scorr{i}.fits").shape for i in (1, 2)]
    assert [p[1] for p in parts] == [SIZE[0]] * 2 and sum(p[0] for p in parts) == SIZE[1]


def test_documented_plain_import_works(T):
    """``import zogyp`` alone gives ``zogyp.zip``, in a process that knows nothing else."""
    sci, ref = T
    code = f"import zogyp\nzogyp.zip.run_ZOGY({sci!r},{ref!r})\n"
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, capture_output=True)
    assert files() == ["data_D1.fits", "data_S1.fits", "data_Scorr1.fits"]


def test_documented_shell_commands(T, capsys):
    file, ref_file = T
    assert main([file, ref_file]) == 0
    told = capsys.readouterr().out.split("\n")
    assert told[:-1] == [f"Zoutput/ZOGY_sub_{kind}1.fits" for kind in ("D", "S", "Scorr")]
    assert main([file, ref_file, "-sub_imagex", "2", "-sub_imagey", "2", "-clean_ref", "0.29"]) == 0
    assert len(files()) == 12
    (entry,) = importlib.metadata.entry_points(group="console_scripts", name="ZOGY")
    assert entry.value == "zogyp.ZOGY:main"


def test_help_names_every_flag(capsys):
    with pytest.raises(SystemExit) as end:
        main(["-help"])
    assert end.value.code == 0
    text = capsys.readouterr().out
    flags = "sub_imagex sub_imagey xslice yslice blackout clean_sci clean_ref align outname"
    assert all(f"-{flag} " in text for flag in flags.split())
    assert main([]) == 0
    assert "ZOGY -help" in capsys.readouterr().out


def test_every_flag_arrives(monkeypatch):
    told = {}

    def run(sci, ref, **rest):
        told.update(rest, sci=sci, ref=ref)
        return []

    monkeypatch.setattr("zogyp.zip.run_ZOGY", run)
    line = "a.fits b.fits -sub_imagex 2 -sub_imagey 3 -xslice 4 -yslice 5 -blackout True -clean_sci 0.1"
    assert main([*line.split(), "-clean_ref", "0.2", "-align", "true", "-outname", "x"]) == 0
    assert told == {
        "sci": "a.fits", "ref": "b.fits", "sub_imagex": 2, "sub_imagey": 3, "xslice": 4, "yslice": 5,
        "blackout": True, "clean_sci": 0.1, "clean_ref": 0.2, "align": True, "outname": "x",
    }  # fmt: skip
    names = set(inspect.signature(run_ZOGY).parameters) - {"sci_im", "ref_im"}
    assert names == set(told) - {"sci", "ref"} == set(ZOGYOptions.__dataclass_fields__)
    main(["a.fits", "b.fits", "-align", "False", "-blackout", "no"])
    assert told["align"] is told["blackout"] is False and told["outname"] == "ZOGY_sub"


@pytest.mark.parametrize(
    "words",
    [
        "a.fits",
        "a.fits b.fits c.fits",
        "a.fits b.fits -nonsense 3",
        "a.fits b.fits -sub_imagex two",
        "a.fits b.fits -sub_imagex",
        "a.fits b.fits -xslice 2 -xslice 3",
        "a.fits b.fits -align maybe",
        "a.fits b.fits -sub_imagex 0",
        "a.fits b.fits -clean_sci 1.5",
        "a.fits b.fits -outname a/b",
    ],
)
def test_wrong_usage_ends_with_2_and_leaves_nothing(words, capsys):
    with pytest.raises(SystemExit) as end:
        main(words.split())
    assert end.value.code == 2
    assert "ZOGY: error:" in capsys.readouterr().err
    assert not Path("Zoutput").exists()


def test_errors_end_with_1_and_one_line(capsys):
    assert main(["none.fits", "nothing.fits"]) == 1
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("ZOGY: none.fits") and err.count("\n") == 1
    assert not Path("Zoutput").exists()


# The traps of 1.6.3 ----------------------------------------------------------------------------


@pytest.fixture(scope="session")
def simulated(tmp_path_factory):
    """A pair of odd size with independent noise and one transient of S/N about 30."""
    rng = np.random.default_rng(7)
    shape, sigma, where = (283, 317), 5.0, (201.3, 98.6)
    x, y, flux = rng.uniform(0, shape[1], 90), rng.uniform(0, shape[0], 90), 10 ** rng.uniform(3, 4.6, 90)
    folder = tmp_path_factory.mktemp("simulated")
    for name, fwhm, extra in (("new", 3.4, 3000.0), ("old", 3.0, 0.0)):
        light = np.zeros(shape)
        s = fwhm / 2.355
        for a, b, f in [*zip(x, y, flux, strict=True), (*where, extra)]:
            column = np.exp(-0.5 * ((np.arange(shape[0]) - b) / s) ** 2)
            light += (
                f
                / (2 * np.pi * s * s)
                * np.outer(column, np.exp(-0.5 * ((np.arange(shape[1]) - a) / s) ** 2))
            )
        data = 50 + light + rng.normal(0, 1, shape) * np.sqrt(sigma**2 + light / 2.0)
        fits.writeto(folder / f"{name}.fits", data.astype(np.float32), fits.Header({"GAIN": 2.0}))
    return folder / "new.fits", folder / "old.fits", where


@pytest.fixture(scope="session")
def whole(simulated, tmp_path_factory):
    """D, S, Scorr of it in one piece."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("whole"))
        paths = run_ZOGY(simulated[0], simulated[1])
        return {Path(p).stem.removeprefix("data_")[:-1]: fits.getdata(p).astype(float) for p in paths}


def test_significance_is_in_sigma(whole):
    for kind in ("Scorr", "D"):
        spread = 1.4826 * np.median(np.abs(whole[kind]))
        # 90,000 pixels; S_corr has some 4,000 independent ones, hence ± 0.015 by chance. 1.x: 0.03 to 0.21
        assert abs(spread - 1) < 0.05


def test_d_becomes_flux_by_its_header(simulated, whole):
    (path, *_) = run_ZOGY(simulated[0], simulated[1])
    flux = whole["D"] / fits.getheader(path)["F_D"]
    # noise of 5 ADU in both images, equal flux scales: sqrt(2) * 5, whatever the sources do to the median
    assert 1.4826 * np.median(np.abs(flux)) == pytest.approx(np.sqrt(2) * 5, rel=0.05)


def test_nothing_moves_in_odd_sizes(whole, simulated):
    x, y = simulated[2]
    for kind, most in (("D", 0), ("S", 0), ("Scorr", 1)):  # S_corr of a bright source has a flat top
        row, column = np.unravel_index(whole[kind].argmax(), whole[kind].shape)
        # 1.x: D one pixel to the left, S one to the right
        assert abs(column - round(x)) <= most and abs(row - round(y)) <= most, kind


@pytest.mark.parametrize(("nx", "ny"), [(7, 1), (2, 3)])
def test_sub_images_fit_together(simulated, whole, nx, ny):
    paths = run_ZOGY(simulated[0], simulated[1], sub_imagex=nx, sub_imagey=ny)
    assert paths == [
        f"Zoutput/data_{kind}{i}.fits" for i in range(1, nx * ny + 1) for kind in ("D", "S", "Scorr")
    ]
    for kind, image in whole.items():
        parts = [fits.getdata(f"Zoutput/data_{kind}{i + 1}.fits") for i in range(nx * ny)]
        # x outer, y inner; sub_imagex divides columns
        columns = [np.concatenate(parts[i * ny : (i + 1) * ny], axis=0) for i in range(nx)]
        # no column lost, no seam: the same numbers
        np.testing.assert_array_equal(np.concatenate(columns, axis=1), image)


@pytest.mark.parametrize("shape", [(10, 10), (283, 317), (1850, 1850)])
@pytest.mark.parametrize("parts", [(1, 1), (7, 1), (1, 7), (3, 4), (10, 9)])
def test_sub_images_cover_every_pixel_once(shape, parts):
    count = np.zeros(shape, int)
    boxes = list(sub_images(shape, *parts))
    for box in boxes:
        count[box] += 1
    assert (count == 1).all() and len(boxes) == parts[0] * parts[1]
    sides = [(b[0].stop - b[0].start, b[1].stop - b[1].start) for b in boxes]
    assert np.ptp(np.array(sides), axis=0).max() <= 1
    assert boxes[min(1, len(boxes) - 1)][0].start > 0 or parts[1] == 1  # y inner


def test_stale_files_of_the_same_name_go_and_others_stay(simulated):
    sci, ref, _ = simulated
    Path("Zoutput").mkdir()
    foreign = [
        "data_D1.png",
        "data_D1_D9.fits",
        "data2_D9.fits",
        "data_D01.fits",
        "xdata_D9.fits",
        "data_mask9.fits",
    ]
    for name in [*foreign, "data_D9.fits", "data_S12.fits", "data_Scorr2.fits"]:
        Path("Zoutput", name).write_text("old")
    run_ZOGY(sci, ref)
    assert files() == sorted([*foreign, "data_D1.fits", "data_S1.fits", "data_Scorr1.fits"])
    assert all(Path("Zoutput", name).read_text() == "old" for name in foreign)


def digest(path):
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def test_inputs_are_only_read(simulated, tmp_path):
    folder = tmp_path / "inputs"
    folder.mkdir()
    names = [folder / "new.fit", folder / "old"]  # 1.x removed what did not end in .fits
    for source, target in zip(simulated[:2], names, strict=True):
        target.write_bytes(source.read_bytes())
    before = [digest(path) for path in names]
    folder.chmod(0o555)
    run_ZOGY(*names)
    folder.chmod(0o755)
    assert [digest(path) for path in names] == before
    assert sorted(folder.iterdir()) == sorted(names)


@pytest.mark.parametrize("taken", ["data_D1.fits", "data_Scorr4.fits"])
def test_an_input_is_never_replaced_or_removed(simulated, taken):
    Path("Zoutput").mkdir()
    own = Path("Zoutput", taken)
    own.write_bytes(simulated[0].read_bytes())
    before = digest(own)
    with pytest.raises(OutputError, match="choose another outname"):
        run_ZOGY(own, simulated[1])
    assert digest(own) == before and files() == [taken]


def test_failure_leaves_earlier_results_alone(simulated):
    Path("Zoutput").mkdir()
    Path("Zoutput/data_D1.fits").write_text("old")
    with pytest.raises(FileError):
        run_ZOGY(simulated[0], "missing.fits")
    assert files() == ["data_D1.fits"]
    assert Path("Zoutput/data_D1.fits").read_text() == "old"


def test_header_and_distortion_are_kept(T):
    run_ZOGY(T[0], T[1], sub_imagex=2, sub_imagey=2)
    old = fits.getheader(T[0])
    before, x0, y0 = WCS(old), SIZE[0] - SIZE[0] // 2, SIZE[1] // 2
    for number, corner in ((1, (0, 0)), (2, (0, 150)), (3, (166, 0)), (4, (166, 150))):
        header = fits.getheader(f"Zoutput/data_D{number}.fits")
        assert (header["SUBX"], header["SUBY"]) == corner
        after = WCS(header)
        assert after.sip is not None
        here = after.pixel_to_world(20, 30)
        there = before.pixel_to_world(20 + corner[0], 30 + corner[1])
        assert here.separation(there).arcsec < 1e-3  # 1.x: 40 arcsec
        assert header["NEWFILE"].endswith("sci_ref_second.fits") and header["REFFILE"].endswith("first.fits")
        kept = [card for card in old if card in header]
        assert len(kept) > 0.8 * len(set(old))  # 1.x kept 32 of 424 cards
    assert (x0, y0) == (166, 150)


def variants(simulated, folder):
    """The simulated pair in forms that 1.x could not take."""
    new = fits.getdata(simulated[0])
    holes = new.copy()
    holes[100, 50] = np.nan
    gain = fits.Header({"GAIN": 2.0})
    fits.writeto(folder / "nan.fits", holes, gain)
    fits.writeto(folder / "int16.fits", np.rint(new).astype(np.int16), gain)
    fits.writeto(folder / "uint16.fits", np.rint(new).astype(np.uint16), gain)
    mask = fits.ImageHDU(np.zeros(new.shape, np.uint8), name="MASK")
    fits.HDUList([fits.PrimaryHDU(new, gain), mask]).writeto(folder / "mef.fits")
    fits.HDUList([fits.PrimaryHDU(), fits.CompImageHDU(new, gain)]).writeto(folder / "new.fits.fz")


@pytest.mark.parametrize("name", ["nan.fits", "int16.fits", "uint16.fits", "mef.fits", "new.fits.fz"])
def test_any_form_of_input(simulated, whole, tmp_path, name):
    variants(simulated, tmp_path)
    run_ZOGY(tmp_path / name, simulated[1])
    scorr = fits.getdata("Zoutput/data_Scorr1.fits")
    assert np.isnan(scorr).sum() <= 100  # one NaN does not spread
    # rounding to integers is noise of 0.29 ADU, RICE's quantisation 5 / 4 / sqrt(12) = 0.36, of a sigma of 5:
    # each moves S_corr by 0.05 to 0.1 and nothing else may
    assert np.nanstd(scorr - whole["Scorr"]) < 0.15
    x, y = simulated[2]
    assert peak(scorr, x, y) == pytest.approx(whole["Scorr"].max(), rel=0.03)


def test_other_shapes_are_refused_clearly_without_align(simulated, tmp_path):
    fits.writeto(tmp_path / "small.fits", fits.getdata(simulated[0])[:-20])
    with pytest.raises(ShapeError, match=r"\(263, 317\)"):
        run_ZOGY(tmp_path / "small.fits", simulated[1], align=False)
    assert not Path("Zoutput").exists()


def test_align_brings_the_science_image_onto_the_reference(simulated, tmp_path):
    """A part of the science image, turned by 90 degrees: the transient comes back to its place."""
    part = np.rot90(fits.getdata(simulated[0])[20:, :-10])
    fits.writeto(tmp_path / "part.fits", np.ascontiguousarray(part), fits.Header({"GAIN": 2.0}))
    run_ZOGY(tmp_path / "part.fits", simulated[1], align=True)
    scorr = fits.getdata("Zoutput/data_Scorr1.fits")
    assert scorr.shape == fits.getdata(simulated[1]).shape
    row, column = np.unravel_index(np.nanargmax(scorr), scorr.shape)
    # S_corr of a bright source has a flat top of a pixel or two
    assert abs(column - simulated[2][0]) < 2 and abs(row - simulated[2][1]) < 2
    assert np.isnan(scorr[:15]).all() and np.isnan(scorr[:, -6:]).all()  # beyond the part there is nothing
    spread = 1.4826 * np.nanmedian(np.abs(scorr))
    # some 3500 independent pixels, noise correlated by one interpolation
    assert spread == pytest.approx(1, abs=0.06)


def test_align_of_images_on_one_grid_changes_nothing(simulated, whole):
    run_ZOGY(simulated[0], simulated[1], align=True)
    np.testing.assert_array_equal(fits.getdata("Zoutput/data_Scorr1.fits"), whole["Scorr"])


def test_blackout_clears_where_the_images_do_not_overlap(simulated, tmp_path):
    moved = fits.getdata(simulated[0])
    moved[:, :25] = 0  # as a registration leaves it
    fits.writeto(tmp_path / "moved.fits", moved, fits.Header({"GAIN": 2.0}))
    run_ZOGY(tmp_path / "moved.fits", simulated[1], blackout=True)
    scorr = fits.getdata("Zoutput/data_Scorr1.fits")
    assert np.isnan(scorr[:, :20]).all()
    assert np.isfinite(scorr[:, 40:]).all()
    assert np.nanmax(np.abs(scorr[:, 25:60])) < 6  # and its rim makes no false peaks


def test_same_image_twice_is_zero(simulated):
    run_ZOGY(simulated[0], simulated[0])
    assert not fits.getdata("Zoutput/data_Scorr1.fits").any()


def test_cleaning_is_off_by_default():
    for parameter in ("clean_sci", "clean_ref"):
        assert inspect.signature(run_ZOGY).parameters[parameter].default == 0
    assert list(inspect.signature(run_ZOGY).parameters) == [
        "sci_im", "ref_im", "outname", "xslice", "yslice", "align", "clean_sci", "clean_ref",
        "sub_imagex", "sub_imagey", "blackout",
    ]  # fmt: skip


def test_cleaning_of_each_image_is_its_own():
    modern = ZOGYOptions(clean_sci=0.2, clean_ref=0.6).modern((1000, 1000))
    assert (modern.new.psf_cut, modern.ref.psf_cut) == (0.2, 0.6)


def test_x_is_columns_and_y_is_rows():
    shape = (4000, 2000)  # rows, columns
    assert ZOGYOptions(xslice=10).modern(shape).tile == 200
    assert ZOGYOptions(yslice=10).modern(shape).tile == 400
    assert ZOGYOptions(xslice=2, sub_imagex=5).modern(shape).tile == 200
    assert ZOGYOptions(xslice=900).modern(shape).tile == 128  # the least there is
    assert ZOGYOptions().modern(shape).tile == zogyp.SubtractOptions().tile
    assert ZOGYOptions(sub_imagex=2000).modern(shape)
    with pytest.raises(OptionError, match="2000 pixels"):
        ZOGYOptions(sub_imagex=2001).modern(shape)


@pytest.mark.parametrize(
    "wrong",
    [
        {"xslice": 0},
        {"sub_imagey": -1},
        {"sub_imagex": 1.5},
        {"clean_sci": 1.1},
        {"clean_ref": -0.1},
        {"outname": ""},
    ],
)
def test_values_that_cannot_be(simulated, wrong):
    with pytest.raises(OptionError, match=next(iter(wrong)).replace("out", "")):
        run_ZOGY(simulated[0], simulated[1], **wrong)
    assert not Path("Zoutput").exists()


def test_rdfits(simulated, tmp_path):
    variants(simulated, tmp_path)
    made = rdfits(str(tmp_path / "new.fits.fz"))
    assert made == str(tmp_path / "new_RD.fits")
    with fits.open(made) as hdus:
        assert len(hdus) == 1 and hdus[0].header["GAIN"] == 2.0
        # RICE quantises to sigma / 4
        assert np.abs(hdus[0].data - fits.getdata(simulated[0])).max() < 5.0
    before = digest(simulated[0])
    made = rdfits(str(simulated[0]))
    assert made == str(simulated[0]).replace(".fits", "_RD.fits")
    np.testing.assert_array_equal(fits.getdata(made), fits.getdata(simulated[0]))
    Path(made).unlink()
    assert digest(simulated[0]) == before
    odd = tmp_path / "image.fits folder" / "no ending"
    odd.parent.mkdir()
    odd.write_bytes(simulated[0].read_bytes())
    assert rdfits(odd) == str(odd.parent / "no ending_RD.fits")
    assert odd.exists()
    with pytest.raises(InputError):
        rdfits(tmp_path / "none.fits")


def test_public_names_are_all_there():
    for name in zogyp.__all__:
        assert getattr(zogyp, name) is not None
    assert set(zogyp.__all__) <= set(dir(zogyp))
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = zogyp.nonsense


def test_import_alone_is_cheap():
    code = "import sys, zogyp; print('numpy' in sys.modules, 'astropy' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert out.split() == ["False", "False"]
