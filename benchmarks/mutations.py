"""Defects planted one at a time in a copy of the package: for each a test must go red.

    python benchmarks/mutations.py [--list] [NAME ...]

The list holds errors that programs for image subtraction, registration and co-addition were seen to have;
where our code has no place for one, its nearest equivalent, and a comment or the name says which. A NAME runs
only those whose name contains it. Each mutation is an edit of one file in a copy of ``src/zogyp``; then the
tests named for it run until the first failure. Printed: mutation, red or GREEN, the first test that failed.

The text to be replaced must occur as often as told: else the code has moved on, and the program says so. The
tests must be green without any edit. A failure because the edit does not even run (a wrong name, a type that
the compiler refuses) shows nothing: WRECKED. Compiled code is kept in the temporary folder, and an edit in
``core`` begins with none: numba asks whether the file of a function is new, not those of what it calls.
Status: 0 all red, 1 one is not, 2 the list does not fit the code or a test is red without any edit.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TIMEOUT = 1200  # seconds for the tests of one mutation
SUMMARY = re.compile(r"^(?:FAILED|ERROR) (?:tests/)?(\S+?\.py(?:::[^\[\s]+)?).*?(?: - (.*))?$", re.MULTILINE)
WRECK = re.compile(r"(Name|UnboundLocal|Attribute|Import|Syntax|Type)Error|numba\.\S*Error")


@dataclass(frozen=True)
class Mutation:
    """A defect: in ``file`` of the package ``old``, which is there ``count`` times, becomes ``new``.

    ``tests`` that must see it are files of tests/, with options of pytest.
    """

    name: str
    file: str
    old: str
    new: str
    tests: str
    count: int = 1


M, ZOGY, PROPER, FOURIER = Mutation, "core/zogy.py", "core/proper.py", "core/fourier.py"
SUMS = "core/frequencies.py"
NOISE, FIRST, PSF, TILES = "measure/noise.py", "measure/firstlook.py", "core/psfmodel.py", "core/tiles.py"
DIFFERENCING, COMPAT = "differencing.py", "compat.py"
T_ZOGY, T_PROPER, T_DIFF, T_PSF = "test_zogy.py", "test_proper.py", "test_differencing.py", "test_psfmodel.py"
T_FOURIER, T_NOISE, T_TILES = "test_fourier.py", "test_noise.py", "test_tiles.py"
T_EXPOSURE, T_COADD = "test_exposure.py -k noise", "test_zo_coadd.py -k 'counts_once or its_file'"
T_ZIP = "test_zip.py -k 'cover_every_pixel or columns'"
SX = "((S_n[i, right] - S_n[i, left]) ** 2 + (S_r[i, right] - S_r[i, left]) ** 2)"
SY = "((S_n[up, j] - S_n[down, j]) ** 2 + (S_r[up, j] - S_r[down, j]) ** 2)"
P2 = "(x * x + y * y)"
ROWS, GRID = "(np.arange(ky) - ky // 2) % ny", "/ self.sampling + k // 2"
B_IS, LIGHT = "b[j] += gain * F * ", "+ per_adu * light"
LEVEL = "np.maximum(sky.table, 0) / gain +"
SPREAD = "np.float32(1.4826 * np.median(np.abs("

MUTATIONS = (
    # ---- noise of the registration
    M("registration noise is the FWHM", DIFFERENCING, "_astrometric(matched, options), counted",
      "(new.psf.fwhm, ref.psf.fwhm), counted", T_DIFF),
    M("gradient along x is a backward difference", ZOGY, f"x2 * {SX}",
      f"4 * x2 * {SX.replace('right', 'j')}", T_ZOGY),
    M("gradient along y is a backward difference", ZOGY, f"y2 * {SY}",
      f"4 * y2 * {SY.replace('up', 'i')}", T_ZOGY),
    # ---- variance of the pixels
    M("variance is |pixel - median|², of the model", NOISE, "out[first + i, x] = s * s + per_adu * light",
      "out[first + i, x] = source[first + i, x] ** 2", T_NOISE),
    M("variance is |pixel - median|², of an exposure", FIRST, "return noise.variance(data)",
      "return (data - np.median(data)) ** 2", T_EXPOSURE),
    M("variance is data + 1", FIRST, "return noise.variance(data)",
      "return np.maximum(image.data, 0) + np.float32(1)", T_EXPOSURE),
    M("gain ignored for sources", NOISE, LIGHT, "+ light", T_NOISE),
    M("gain applied twice for sources", NOISE, LIGHT, "+ per_adu * per_adu * light", T_NOISE),
    M("gain ignored for the sky", NOISE, LEVEL, "np.maximum(sky.table, 0) +", T_NOISE),
    M("gain applied twice for the sky", NOISE, LEVEL, "np.maximum(sky.table, 0) / gain**2 +", T_NOISE),
    M("read noise not squared", NOISE, f"{LEVEL} noise**2", f"{LEVEL} noise", T_NOISE),
    M("read noise not squared where photon noise is told", FIRST, "+ (image.read_noise / image.gain) ** 2",
      "+ (image.read_noise / image.gain)", T_EXPOSURE),
    # ---- the equations of the difference
    M("k_n with the PSFs exchanged", ZOGY, "b_r**2 * r2 * p_n.conjugate()", "b_r**2 * n2 * p_r.conjugate()",
      T_ZOGY),
    M("k_r with the PSFs exchanged", ZOGY, "b_n**2 * n2 * p_r.conjugate()", "b_n**2 * r2 * p_n.conjugate()",
      T_ZOGY),
    M("F_S without 1 / N", ZOGY, "F_S=f_s / (shape[0] * nx) * A * A", "F_S=f_s * A * A", T_ZOGY),
    M("F_S over the square of the columns", ZOGY, "F_S=f_s / (shape[0] * nx)", "F_S=f_s / (nx * nx)", T_ZOGY),
    M("minus sign in Delta", ZOGY, "delta = b_r**2 * r2 + b_n**2 * n2", "delta = b_r**2 * r2 - b_n**2 * n2",
      T_ZOGY),
    M("minus sign in Delta, of P_D", ZOGY, "delta = (b_r * np.abs(P_r)) ** 2 + (",
      "delta = (b_r * np.abs(P_r)) ** 2 - (", T_ZOGY),
    M("S_corr over its own robust spread, in the core", ZOGY, "return self.S / _root(self.V)",
      f"return self.S / _root(self.V) / {SPREAD}self.S / _root(self.V))))", T_ZOGY),
    M("S_corr over its own robust spread, in a subtraction", DIFFERENCING,
      "    return scorr, alpha, alpha_err\n",
      f"    return scorr / {SPREAD}scorr))), alpha, alpha_err\n", "test_api.py -k significance"),
    # ---- centres; the Fourier code knows no fftshift: what it would do to odd sides
    M("PSF one pixel off, odd sizes", FOURIER, ROWS, "(np.arange(ky) - (ky + 1) // 2) % ny", T_FOURIER),
    M("PSF one pixel off, even sizes", FOURIER, ROWS, "(np.arange(ky) - (ky - 1) // 2) % ny", T_FOURIER),
    M("PSF cut out one pixel off, odd sizes", FOURIER, "np.arange(size) - size // 2",
      "np.arange(size) - (size + 1) // 2", T_FOURIER),
    M("PSF cut out one pixel off, even sizes", FOURIER, "np.arange(size) - size // 2",
      "np.arange(size) - (size - 1) // 2", T_FOURIER),
    M("PSF half a pixel off, odd sizes", PSF, GRID, "/ self.sampling + k / 2", T_PSF),
    M("PSF half a pixel off, even sizes", PSF, GRID, "/ self.sampling + (k - 1) / 2", T_PSF),
    M("PSF model one pixel off, odd sizes", PSF, GRID, "/ self.sampling + (k + 1) // 2", T_PSF),
    M("PSF model one pixel off, even sizes", PSF, GRID, "/ self.sampling + (k - 1) // 2", T_PSF),
    M("fftshift where ifftshift is due: odd sides one pixel off", FOURIER, "return plane.astype(np.float32)",
      "return np.roll(plane, (-(ny % 2), -(nx % 2)), (0, 1)).astype(np.float32)", T_FOURIER),
    M("PSF shifted before padding", FOURIER, "np.add.at(plane, (rows[:, None], columns[None, :]), stamp)",
      "np.add.at(plane, (np.arange(ky)[:, None] % ny, np.arange(kx) % nx), np.fft.ifftshift(stamp))",
      T_FOURIER),
    # ---- co-addition
    M("coadd: sum of roots", SUMS, f"{B_IS}{P2}",
      f"b[j] = (np.sqrt(max(b[j], 0.0)) + np.sqrt(abs(gain) * F * {P2})) ** 2", T_PROPER),
    M("coadd: |P| for |P|²", SUMS, f"{B_IS}{P2}", f"{B_IS}np.sqrt{P2}", T_PROPER),
    M("coadd: sigma for sigma²", PROPER, "(sign * F / sigma**2, F, floor)",
      "(sign * F / sigma, F, floor)", T_PROPER),
    M("coadd: first exposure dropped, of those listed", "zo_coadd.py",
      "coadd([Path(name) for name in names])", "coadd([Path(name) for name in names[1:]])", T_COADD),
    M("coadd: first exposure dropped, of those summed", "propersum.py",
      "total, rejected = self._begun(), []\n        for n, one in enumerate(self.frames, start=1):",
      "total, rejected = self._begun(), [0]\n        for n, one in enumerate(self.frames[1:], start=1):",
      T_COADD),
    M("coadd: sigma is the spread of the whole image", "scaled.py", "sigma=self.sigma_at,",
      'sigma=lambda x, y: float(np.std(self.frame.plane("data"))),', "test_coaddition.py -k any_shape"),
    # ---- tiles
    M("tile edges wrap around the image", TILES, "block[tuple(target)] = inside",
      "at = zip(tile.start, tile.shape, plane.shape, strict=True)\n"
      "    block[...] = plane[np.ix_(*(np.arange(s, s + k) % n for s, k, n in at))]", T_TILES),
    M("tile edges wrap around the tile: no margin", DIFFERENCING,
      "margin = min(max(self.reach(2e-3), self.size // 2), LARGEST_MARGIN)", "margin = 0", T_DIFF),
    M("last tile overwrites", TILES, "plane[y, x] += wy[y] * wx[x]",
      "plane[y, x] = wy[y] * wx[x]", T_TILES),
    # ---- registration
    M("distortion taken at the image's coordinates, not the grid's", "core/transform.py",
      "dx, dy = self._residual(x, y)",
      "q = self.matrix\n        dx, dy = self._residual(\n            q[0, 0] * x + q[0, 1] * y + q[0, 2],"
      " q[1, 0] * x + q[1, 1] * y + q[1, 2]\n        )", "test_transform.py"),
    M("PSF of a resampled image taken at the grid's coordinates", "core/warped.py",
      "u, v = _inside(*transform(x, y), into)", "u, v = _inside(x, y, into)", "test_warped.py -k varied"),
    M("WCS of the input kept on the resampled image", "registration.py", "wcs=grid.wcs,", "wcs=image.wcs,",
      "test_registration.py -k grid_of_its_target"),
    M("one NaN spreads by the interpolation", "core/old_image.py", "= fill(data, bad)", "= data",
      "test_resample.py -k finite"),
    M("one NaN spreads by the transform", "core/rimmed.py", "light[x] = model if", "light[x] = np.nan if",
      f"{T_DIFF} -k masked"),
    # ---- the number of cores
    M("tiles are taken as they come from the cores", TILES, "yield waiting.popleft().result()",
      "yield waiting.pop().result()", T_TILES, 2),
    M("size of tiles depends on the cores", DIFFERENCING, "plan = work.plan(options.tile)",
      "plan = work.plan(max(options.tile // options.n_threads, 128))", "test_statistics.py -k threads"),
    M("kernels of all are those of the tile that comes first", DIFFERENCING,
      "x, y = (nx - 1) / 2, (ny - 1) / 2  # whichever tile comes first must not decide", "pass", T_DIFF),
    # ---- sub-images by their old names
    M("x slice bounded by the number of rows: boxes", COMPAT, "round(i * shape[1] / nx)",
      "round(i * shape[0] / nx)", T_ZIP),
    M("x slice bounded by the number of rows: kernels", COMPAT, "-(-shape[1] // int(self.sub_imagex",
      "-(-shape[0] // int(self.sub_imagex", T_ZIP),
    M("x slice bounded by the number of rows: the most there may be", COMPAT,
      '"sub_imagex", self.sub_imagex, 1)', '"sub_imagex", self.sub_imagex, 0)', T_ZIP),
)  # fmt: skip


class Copy:
    """A copy of package and tests in a folder, with a cache of compiled code for itself."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.package = folder, folder / "src" / "zogyp"
        skip = shutil.ignore_patterns("__pycache__", ".hypothesis", ".pytest_cache")
        shutil.copytree(ROOT / "src" / "zogyp", self.package, ignore=skip)
        shutil.copytree(ROOT / "tests", folder / "tests", ignore=skip)
        shutil.copy2(ROOT / "pyproject.toml", folder)

    def _run(self, words: Sequence[str], cache: Path) -> subprocess.CompletedProcess[str]:
        env = os.environ | {
            "PYTHONPATH": str(self.package.parent),
            "PYTHONDONTWRITEBYTECODE": "1",  # no stale bytecode: edits may come within a second
            "NUMBA_CACHE_DIR": str(cache),
            "COLUMNS": "500",  # of pytest's summary
        }
        return subprocess.run(
            [sys.executable, *words],
            cwd=self.folder,
            env=env,
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            check=False,
        )

    def imported(self) -> Path:
        """Where the package is imported from."""
        done = self._run(["-c", "import zogyp; print(zogyp.__file__)"], self.folder / "warm")
        return Path(done.stdout.strip())

    def tested(self, tests: str, cache: Path) -> tuple[str, str]:
        """How tests end ("green", "red", "WRECKED"), and the first that failed or what else happened."""
        words = [f"tests/{w}" if ".py" in w else w for w in shlex.split(tests)]
        command = ["-m", "pytest", "-x", "-q", "--tb=no", "-p", "no:cacheprovider", *words]
        try:
            done = self._run(command, cache)
        except subprocess.TimeoutExpired:
            return "WRECKED", f"not finished after {TIMEOUT} s"
        if done.returncode == 0:
            return "green", ""
        found = SUMMARY.search(done.stdout)
        if done.returncode != 1 or found is None:  # 1: tests were collected, and one failed
            return "WRECKED", (done.stdout + done.stderr).strip().splitlines()[-1]
        reason = found[2] or ""
        return ("WRECKED", f"{found[1]}: {reason}") if WRECK.match(reason) else ("red", found[1])

    def mutated(self, mutation: Mutation) -> tuple[str, str]:
        """The same with a defect."""
        path, cache = self.package / mutation.file, self.folder / "warm"
        text, status = path.read_text(encoding="utf-8"), path.stat()
        if mutation.file.startswith("core/"):
            cache = Path(tempfile.mkdtemp(dir=self.folder))
        try:
            path.write_text(text.replace(mutation.old, mutation.new), encoding="utf-8")
            return self.tested(mutation.tests, cache)
        finally:
            path.write_text(text, encoding="utf-8")
            os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))  # the warm cache stays good
            if cache.name != "warm":
                shutil.rmtree(cache)


def misfits(package: Path, chosen: Sequence[Mutation]) -> list[str]:
    """Mutations whose text is not in the code as often as it should be."""
    found = []
    for m in chosen:
        n = (package / m.file).read_text(encoding="utf-8").count(m.old)
        if n != m.count:
            found.append(f"{m.name}: {n} times, not {m.count}, in {m.file}: {m.old!r}")
    return found


def main() -> int:
    """Plant each, test, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="part of the names of those to run")
    parser.add_argument(
        "--list", action="store_true", help="print the mutations and their tests, run nothing"
    )
    given = parser.parse_args()
    chosen = [m for m in MUTATIONS if not given.names or any(n in m.name for n in given.names)]
    if not chosen:
        parser.error("no mutation has such a name")
    if given.list:
        print("\n".join(f"{m.name} [{m.file}: {m.tests}]" for m in chosen))
        return 0
    with tempfile.TemporaryDirectory(prefix="zogyp-mutations-") as folder:
        copy = Copy(Path(folder).resolve())
        if wrong := misfits(copy.package, chosen):
            print("\n".join(wrong))
            return 2
        if not copy.imported().is_relative_to(copy.package):
            print(f"imported is {copy.imported()}, not the copy")
            return 2
        for tests in dict.fromkeys(m.tests for m in chosen):
            ended, first = copy.tested(tests, copy.folder / "warm")
            if ended != "green":
                print(f"without any mutation {tests} is {ended}: {first}")
                return 2
        print("| mutation | | first test that fails | s |\n|---|---|---|---|")
        quiet = 0
        for m in chosen:
            start = time.perf_counter()
            ended, first = copy.mutated(m)
            quiet += ended != "red"
            shown = "GREEN" if ended == "green" else ended
            name = m.name.replace("|", "\\|")
            print(f"| {name} | {shown} | {first} | {time.perf_counter() - start:.0f} |", flush=True)
    print(f"\n{len(chosen) - quiet} of {len(chosen)} mutations are seen by a test")
    return 1 if quiet else 0


if __name__ == "__main__":
    sys.exit(main())
