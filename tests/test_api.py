"""The public surface: names, signatures, documentation, imports, options, progress, executors."""

from __future__ import annotations

import dataclasses
import inspect
import subprocess
import sys
import threading
import tomllib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import zogyp
from zogyp.errors import HeaderError, OptionError, PixelError, ShapeError
from zogyp.options import InputOptions, SubtractOptions
from zogyp.simulate import simulate, write_pair
from zogyp.sky import Sky

NAMES = {
    "AlignOptions",
    "BackgroundOptions",
    "Coadd",
    "CoaddOptions",
    "CombineOptions",
    "DetectOptions",
    "Efficiency",
    "EfficiencyOptions",
    "FakeOptions",
    "Flag",
    "Image",
    "InputOptions",
    "PSF",
    "NoiseOptions",
    "CertificateOptions",
    "PSFOptions",
    "PhotOptions",
    "Photometry",
    "Reference",
    "Registration",
    "RegistrationOptions",
    "RejectOptions",
    "SubtractOptions",
    "Subtraction",
    "Target",
    "Transform",
    "TransientOptions",
    "ZogypError",
    "__version__",
    "align",
    "coadd",
    "measure_efficiency",
    "median",
    "photometry",
    "read",
    "read_psf",
    "subtract",
    "target",
    "write_psf",
}
MODULES = {"errors", "options", "simulate", "spali2", "zip", "zo_coadd"}
OPTIONS = ("Align", "Background", "Detect", "Input", "PSF", "Registration", "Subtract", "Transient")
PLANES = ("D", "S", "Scorr", "alpha", "alpha_err", "mask", "psf")
ONE = SubtractOptions(threads=1)


@pytest.fixture(scope="module")
def pair():
    """A small simulated pair."""
    return simulate(
        Sky(shape=(240, 260), n_stars=80, n_galaxies=0, n_transients=3, transient_min=5e3), seed=5
    )


@pytest.fixture(scope="module")
def result(pair):
    return zogyp.subtract(pair.new, pair.ref, ONE)


def python(code):
    """Run a program in a fresh interpreter in which warnings are errors."""
    command = [sys.executable, "-W", "error", "-c", code]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


# ---------------------------------------------------------------- names


def test_public_names():
    """A name that comes or goes is a decision: change it here too, and tell users in CHANGELOG.md."""
    assert set(zogyp.__all__) == NAMES | MODULES
    for name in zogyp.__all__:
        assert getattr(zogyp, name) is not None
    assert set(zogyp.__all__) <= set(dir(zogyp))


def test_star_import_gives_the_same():
    done = python("from zogyp import *; subtract, Image, SubtractOptions, simulate.simulate; print('ok')")
    assert (done.returncode, done.stdout) == (0, "ok\n"), done.stderr


def test_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="subtrakt"):
        _ = zogyp.subtrakt
    assert not hasattr(zogyp, "np")


def test_submodules_of_version_1_need_no_import_of_their_own():
    """The documented `import zogyp; zogyp.zip.run_ZOGY(...)`."""
    names = ("zip.run_ZOGY", "simulate.simulate", "spali2.spalipy", "zo_coadd.prop_coad", "zo_coadd.med_comb")
    done = python(f"import zogyp; print({', '.join(f'callable(zogyp.{name})' for name in names)})")
    assert (done.returncode, done.stdout) == (0, "True True True True True\n"), done.stderr


def test_version_is_that_of_the_project():
    pyproject = Path(__file__).parents[1] / "pyproject.toml"
    assert zogyp.__version__ == tomllib.loads(pyproject.read_text())["project"]["version"]


@pytest.mark.parametrize("name", sorted(NAMES - {"__version__"}))
def test_public_names_are_documented_and_typed(name):
    """A docstring, and a type for every argument and result."""
    public = getattr(zogyp, name)
    assert public.__doc__ and len(public.__doc__.split()) > 3
    assert not public.__doc__.startswith(f"{name}("), "the docstring that dataclasses make up"
    functions = [public] if inspect.isfunction(public) else []
    if inspect.isclass(public) and public.__module__.startswith("zogyp"):
        functions = [f for n, f in vars(public).items() if inspect.isfunction(f) and not n.startswith("_")]
    for function in functions:
        assert function.__doc__, function.__qualname__
        hints = inspect.signature(function)
        assert hints.return_annotation is not inspect.Signature.empty, function.__qualname__
        for parameter in list(hints.parameters.values()):
            if parameter.name != "self":
                assert parameter.annotation is not inspect.Parameter.empty, (function, parameter)


def test_signatures():
    """What others call by position and by keyword."""
    subtract = inspect.signature(zogyp.subtract).parameters
    assert list(subtract) == ["new", "ref", "options", "executor", "progress"]
    keyword = inspect.Parameter.KEYWORD_ONLY
    assert [p.name for p in subtract.values() if p.kind is keyword] == ["executor", "progress"]
    assert subtract["options"].default == SubtractOptions()
    assert list(inspect.signature(zogyp.read).parameters) == ["path", "options", "name"]
    assert list(inspect.signature(zogyp.Subtraction.write).parameters) == [
        "self",
        "directory",
        "name",
        "compress",
        "progress",
    ]
    assert inspect.signature(zogyp.Subtraction.write).parameters["compress"].kind is keyword
    assert inspect.signature(zogyp.Subtraction.write).parameters["directory"].default == "Zoutput"
    assert list(inspect.signature(zogyp.PSF.at).parameters) == ["self", "x", "y", "dx", "dy", "size"]
    first = [f.name for f in dataclasses.fields(zogyp.Image)][:2]
    assert first == ["data", "mask"]
    text = inspect.getdoc(zogyp.subtract)
    assert all(word in text for word in ("Parameters", "Returns", "Raises", "StarsError", "ShapeError"))
    align = inspect.signature(zogyp.align).parameters
    assert list(align) == ["image", "to", "options", "progress"]
    assert [p.name for p in align.values() if p.kind is keyword] == ["to", "options", "progress"]
    assert align["options"].default == zogyp.AlignOptions()
    assert list(inspect.signature(zogyp.target).parameters) == ["to", "options"]
    assert "RegistrationError" in inspect.getdoc(zogyp.align)


def test_the_names_of_registration_work_together(pair):
    """A target, an image on it, and how it lay: a pair on one grid is moved by nothing."""
    options = zogyp.AlignOptions(threads=1, align=zogyp.RegistrationOptions(order=0))
    grid = zogyp.target(pair.ref, options)
    assert isinstance(grid, zogyp.Target) and grid.shape == pair.ref.shape
    moved, found = zogyp.align(pair.new, to=grid, options=options)
    assert isinstance(moved, zogyp.Image) and isinstance(found, zogyp.Registration)
    assert isinstance(found.transform, zogyp.Transform)
    # some 50 stars of 0.05 px and better
    assert np.abs(found.transform.matrix - np.eye(2, 3))[:, 2].max() < 0.05
    m = np.array([[0.0, -1.0, 5.0], [1.0, 0.0, 7.0]])
    assert np.array(zogyp.Transform(m)(3, 2)).ravel() == pytest.approx([3, 10])


# ---------------------------------------------------------------- what is imported when

SLOW = ("numpy", "scipy", "astropy", "numba", "sep", "matplotlib", "rich", "cyclopts", "dask", "jinja2")


def test_import_costs_nothing():
    """`import zogyp` imports the standard library alone; so do its options and errors."""
    code = (
        "import sys, zogyp; zogyp.SubtractOptions(); zogyp.ZogypError;"
        f"print([m for m in {SLOW!r} if m in sys.modules])"
    )
    done = python(code)
    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr


def test_importtime_lists_no_heavy_module():
    """The same by the interpreter's own account."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", "import zogyp"], capture_output=True, text=True, check=True
    )
    imported = {line.rsplit("|", 1)[-1].strip().split(".")[0] for line in done.stderr.splitlines()}
    assert "zogyp" in imported
    assert not imported & set(SLOW)


def test_subtracting_imports_no_pictures():
    """matplotlib and what shows results come with the extra `plot`: a subtraction must not need them."""
    code = (
        "import sys, zogyp; zogyp.subtract; zogyp.read; zogyp.Subtraction; zogyp.read_psf;"
        "print([m for m in ('matplotlib', 'jinja2', 'rich', 'cyclopts', 'dask') if m in sys.modules])"
    )
    done = python(code)
    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr


def test_threads_may_be_first_to_use_a_name():
    """Names are imported when first used, by several threads at once too."""
    code = (
        "import zogyp\n"
        "from concurrent.futures import ThreadPoolExecutor\n"
        "with ThreadPoolExecutor(8) as pool:\n"
        "    made = set(pool.map(lambda i: zogyp.subtract, range(8)))\n"
        "print(len(made))"
    )
    done = python(code)
    assert (done.returncode, done.stdout) == (0, "1\n"), done.stderr


# ---------------------------------------------------------------- options


@pytest.mark.parametrize("kind", OPTIONS)
def test_options_are_frozen_values(kind):
    """They compare by value, hash, have help for every field, and cannot be changed."""
    cls = getattr(zogyp, f"{kind}Options")
    assert cls() == cls() and hash(cls()) == hash(cls())
    for field in dataclasses.fields(cls):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(cls(), field.name, None)
        assert field.metadata.get("help") or dataclasses.is_dataclass(getattr(cls(), field.name)), field.name


def limits():
    """Every number that has a range, with a value just outside of it."""
    for kind in OPTIONS:
        cls = getattr(zogyp, f"{kind}Options")
        for field in dataclasses.fields(cls):
            low, high = field.metadata.get("low"), field.metadata.get("high")
            if low is not None:
                yield cls, field.name, low - 1
            if high is not None:
                yield cls, field.name, high + 1
            if low is not None or high is not None:
                yield cls, field.name, float("nan")


@pytest.mark.parametrize(
    ("cls", "name", "value"), list(limits()), ids=lambda v: getattr(v, "__name__", str(v))
)
def test_options_outside_of_their_range(cls, name, value):
    """The error names the option, what is allowed and what came; `replace` checks too."""
    with pytest.raises(OptionError) as caught:
        cls(**{name: value})
    assert caught.value.name == name
    assert caught.value.value == value or value != value  # noqa: PLR0124 - NaN
    assert name in str(caught.value) and "must be" in str(caught.value) and str(value) in str(caught.value)
    with pytest.raises(OptionError):
        dataclasses.replace(cls(), **{name: value})


def test_options_at_their_limits_are_allowed():
    for kind in OPTIONS:
        cls = getattr(zogyp, f"{kind}Options")
        for field in dataclasses.fields(cls):
            for limit in ("low", "high"):
                if field.metadata.get(limit) is not None:
                    cls(**{field.name: field.metadata[limit]})


def test_options_travel_into_the_summary(pair):
    options = SubtractOptions(
        threads=1,
        tile=300,
        new=InputOptions(gain=1.25),
        psf=zogyp.PSFOptions(order=0, size=31),
        transients=zogyp.TransientOptions(threshold=7.5),
    )
    done = zogyp.subtract(pair.new, pair.ref, options)
    told = done.summary["options"]
    assert (told["tile"], told["threads"], told["new"]["gain"]) == (300, 1, 1.25)
    assert (told["psf"]["order"], told["psf"]["size"], told["transients"]["threshold"]) == (0, 31, 7.5)
    assert done.summary["inputs"]["new"]["psf_order"] == 0
    assert (np.abs(done.transients["snr"]) >= 7.5).all()


# ---------------------------------------------------------------- executors and progress


class Counting(ThreadPoolExecutor):
    """An executor that knows how much it was given."""

    submitted = 0

    def submit(self, *args, **kwargs):
        self.submitted += 1
        return super().submit(*args, **kwargs)


def test_injected_executor_does_the_tiles(pair, result):
    """It gets every tile, is left running, and changes no bit."""
    with Counting(2) as pool:
        done = zogyp.subtract(pair.new, pair.ref, dataclasses.replace(ONE, tile=200), executor=pool)
        assert pool.submitted == done.summary["n_tiles"] > 1
        assert pool.submit(lambda: 5).result() == 5  # not shut down
    alone = zogyp.subtract(pair.new, pair.ref, dataclasses.replace(ONE, tile=200))
    for plane in PLANES:
        assert np.array_equal(getattr(done, plane), getattr(alone, plane), equal_nan=True), plane


def test_failing_executor_is_not_swallowed(pair):
    class Broken(ThreadPoolExecutor):
        def submit(self, *args, **kwargs):
            raise RuntimeError("no workers left")

    with Broken(1) as pool, pytest.raises(RuntimeError, match="no workers left"):
        zogyp.subtract(pair.new, pair.ref, ONE, executor=pool)


@pytest.mark.parametrize("threads", [1, 3])
def test_progress_runs_from_0_to_1(pair, threads):
    """Monotone, with words, more than one call while tiles are made, and always in the caller's thread."""
    told = []
    who = set()

    def progress(stage, fraction):
        told.append((stage, fraction))
        who.add(threading.get_ident())

    options = SubtractOptions(threads=threads, tile=200)
    done = zogyp.subtract(pair.new, pair.ref, options, progress=progress)
    stages, fractions = zip(*told, strict=True)
    assert all(isinstance(stage, str) and stage for stage in stages)
    assert fractions[0] == 0
    assert list(fractions) == sorted(fractions)
    assert fractions[-1] == 1
    assert stages.count("subtract") >= done.summary["n_tiles"]
    assert who == {threading.get_ident()}
    assert set(done.summary["timings"]) <= set(stages)


def test_error_in_progress_stops_the_work(pair):
    """That is how a caller interrupts."""

    def stop(stage, fraction):
        if fraction > 0.3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        zogyp.subtract(pair.new, pair.ref, ONE, progress=stop)


# ---------------------------------------------------------------- images from memory


def same(a, b):
    return all(np.array_equal(getattr(a, p), getattr(b, p), equal_nan=True) for p in PLANES)


def test_what_comes_back(pair, result):
    """Planes on the new image's grid, float32 and uint16; the images themselves, unchanged."""
    for plane in ("D", "S", "Scorr", "alpha", "alpha_err"):
        assert getattr(result, plane).shape == pair.new.shape
        assert getattr(result, plane).dtype == np.float32
    assert result.mask.shape == pair.new.shape and result.mask.dtype == np.uint16
    assert result.psf.ndim == 2 and result.psf.shape[0] == result.psf.shape[1] and result.psf.shape[0] % 2
    assert result.psf.sum() == pytest.approx(1, abs=1e-3)
    assert result.new.data is pair.new.data and result.ref.data is pair.ref.data
    assert len(result.transients) == 3
    with pytest.raises(dataclasses.FrozenInstanceError):
        result.D = None


def test_files_and_memory_give_the_same(pair, result, tmp_path):
    """A path as text, as a Path, and an Image; also one of each."""
    files = write_pair(pair, tmp_path)
    assert same(zogyp.subtract(files["new"], str(files["ref"]), ONE), result)
    assert same(zogyp.subtract(pair.new, files["ref"], ONE), result)


def test_inputs_are_left_alone(pair):
    before = [a.copy() for im in (pair.new, pair.ref) for a in (im.data, im.mask)]
    pixels = np.asfortranarray(pair.new.data)
    pixels.setflags(write=False)
    zogyp.subtract(dataclasses.replace(pair.new, data=pixels), pair.ref, ONE)
    after = [a for im in (pair.new, pair.ref) for a in (im.data, im.mask)]
    assert all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))


@pytest.mark.parametrize("dtype", [">f4", "f8", ">f8"])
def test_pixels_of_any_type_and_order(pair, result, dtype):
    """float64 holds every float32, so not a bit may differ."""
    other = dataclasses.replace(pair.new, data=pair.new.data.astype(dtype))
    assert same(zogyp.subtract(other, pair.ref, ONE), result)


def test_pixels_without_a_value_need_no_mask(pair):
    """NaN and infinity are found, in the pixels and in the variance; only what is near them changes."""
    data = pair.new.data.copy()
    data[100, 120], data[30, 200] = np.nan, np.inf
    done = zogyp.subtract(dataclasses.replace(pair.new, data=data), pair.ref, ONE)
    for y, x in ((100, 120), (30, 200)):
        assert done.mask[y, x] & zogyp.Flag.NO_DATA
        assert np.isnan(done.Scorr[y, x])
    assert np.isnan(done.Scorr).sum() < 30
    variance = np.full(data.shape, 400, np.float32)
    variance[50, 60] = np.nan
    done = zogyp.subtract(dataclasses.replace(pair.new, variance=variance), pair.ref, ONE)
    assert done.mask[50, 60] & zogyp.Flag.BAD


def test_options_win_over_an_image(pair):
    """Gain and read noise given as options are those of the summary, for an Image as for a file."""
    options = dataclasses.replace(ONE, new=InputOptions(gain=3.0, read_noise=1.0))
    done = zogyp.subtract(pair.new, pair.ref, options)
    assert done.summary["inputs"]["new"]["gain"] == 3.0
    assert done.summary["inputs"]["new"]["read_noise"] == 1.0
    assert done.summary["inputs"]["ref"]["gain"] == pair.ref.gain


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"data": np.zeros(9)}, PixelError, "two dimensions"),
        ({"data": np.zeros((3, 20, 20))}, PixelError, "two dimensions"),
        ({"data": np.zeros((20, 20), complex)}, PixelError, "real numbers"),
        ({"mask": np.zeros((20, 20), np.uint16)}, ShapeError, r"mask .*\(20, 20\).*\(240, 260\)"),
        ({"variance": np.zeros((20, 20), np.float32)}, ShapeError, r"variance .*\(20, 20\)"),
        ({"variance": np.zeros((240, 260), np.float32)}, PixelError, "no usable pixel"),
        ({"data": np.full((240, 260), np.nan, np.float32)}, PixelError, "no usable pixel.*0 usable of 62400"),
        ({"data": np.full((240, 260), 7, np.float32)}, PixelError, "constant"),
        ({"data": np.zeros((0, 0)), "mask": np.zeros((0, 0), np.uint16)}, PixelError, "0 usable of 0"),
        ({"gain": 0}, HeaderError, "gain must be a positive number, got 0"),
        ({"gain": -1.5}, HeaderError, "gain must be a positive number"),
        ({"gain": float("nan")}, HeaderError, "gain must be a positive number"),
        ({"gain": "high"}, HeaderError, "'high'"),
        ({"read_noise": -1}, HeaderError, "read_noise must be"),
    ],
)
def test_images_that_cannot_be_used(pair, change, error, words):
    wrong = dataclasses.replace(pair.new, **change)
    for images in ((wrong, pair.ref), (pair.ref, wrong)):
        with pytest.raises(error, match=words):
            zogyp.subtract(*images, ONE)


@pytest.mark.parametrize("thing", [None, 5, [1, 2], np.zeros((9, 9))], ids=str)
def test_things_that_are_no_image(pair, thing):
    with pytest.raises(TypeError, match=r"path or a zogyp\.Image"):
        zogyp.subtract(thing, pair.ref, ONE)


def test_cutout_cuts_everything(pair):
    """Pixels, mask, variance and coordinates together: the same sky at the same pixel."""
    image = dataclasses.replace(pair.new, variance=np.ones(pair.new.shape, np.float32))
    part = image.cutout(np.s_[20:70, 30:90])
    assert part.data.shape == part.mask.shape == part.variance.shape == (50, 60)
    here, there = part.wcs.pixel_to_world_values(5, 6), image.wcs.pixel_to_world_values(35, 26)
    assert np.array(here) == pytest.approx(np.array(there), abs=1e-9)


def test_significance_is_the_flux_over_its_error(result):
    """S_corr is in units of the noise that was told, not of a spread that it happens to have."""
    good = np.isfinite(result.Scorr)
    assert good.any()
    # four roundings of float32
    np.testing.assert_allclose(result.Scorr[good], (result.alpha / result.alpha_err)[good], rtol=5e-7)
