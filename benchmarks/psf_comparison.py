"""Our PSF model beside PSFEx's, on stars that neither was made of.

    OMP_NUM_THREADS=1 NUMBA_NUM_THREADS=1 python benchmarks/psf_comparison.py [FOLDER]

FOLDER holds the real images (default: ``../shared/data`` beside the project); without it only simulated
skies are compared. Needs the programs source-extractor and psfex.

In each image every fourth well-exposed isolated star is masked at its core, so that it serves neither
model. Both model the rest by their own choice. Each masked star is then fitted from its true pixels with
either PSF (flux, position and sky free; neighbours fitted by the same PSF and taken off), and the residual
within two FWHM is compared with its noise.
Where the true PSF is known, so is each model's error, its flux and centre freed in the same way.
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares
from scipy.spatial import cKDTree

from zogyp import io
from zogyp.core.psfmodel import PSF
from zogyp.core.stamps import cut_stamps
from zogyp.errors import ZogypError
from zogyp.image import Flag, Image
from zogyp.measure import astromatic
from zogyp.measure import exposure as exposures
from zogyp.measure.exposure import Exposure, measure
from zogyp.measure.scene import fit_scene, star_stamps
from zogyp.measure.sources import choose_stars, seeing
from zogyp.options import InputOptions
from zogyp.simulate import simulate
from zogyp.sky import Side, Sky

F8 = NDArray[np.float64]
Truth = Callable[[float, float, int], F8]  # PSF of side n at x, y
HELD_OUT = 4  # one star in so many serves neither model
FEWEST = 6  # stars that a median may be taken of


@dataclass(frozen=True)
class Frame:
    """An image to compare on, and its true PSF where it is known."""

    name: str
    image: Image
    truth: Truth | None = None


def frames(folder: Path) -> Iterator[Frame]:
    """Simulated and real images."""
    for name, side in (
        ("simulated, constant", Side()),
        ("simulated, varying 15 %", Side(variation=0.15)),
        ("simulated, FWHM 1.8, varying", Side(fwhm=1.8, variation=0.15)),
    ):
        pair = simulate(Sky(new=side, n_stars=1000, n_transients=0), seed=11)
        yield Frame(name, pair.new, pair.psf_new)
    crowd = simulate(Sky(n_stars=12000, n_galaxies=0, n_transients=0, flux_slope=1.0), seed=12)
    yield Frame("simulated, 12,000 stars", crowd.new, crowd.psf_new)
    if not folder.is_dir():
        return
    yield Frame("GOTO first", io.read(folder / "goto" / "first.fits"))
    told = InputOptions(gain=1.9, read_noise=5.0, saturation=64000.0)
    for number in ("0100", "0172"):
        path = folder / "bulge" / f"AKB13475I{number}.fits"
        yield Frame(f"bulge {number}", io.read(path, told))


def isolated(e: Exposure) -> NDArray[np.intp]:
    """Well-exposed stars without a neighbour that matters within four FWHM, chosen without a PSF's say."""
    s = e.sources
    stars = choose_stars(s, e.image.shape, fwhm=seeing(s), reach=e.psf.size / 2, most=len(s))
    tree = cKDTree(np.column_stack([s.x, s.y]))
    kept = []
    for i in stars:
        near = [j for j in tree.query_ball_point((s.x[i], s.y[i]), 4 * e.psf.fwhm) if j != i]
        bright = s.flux[i] > 50 * s.flux_err[i]
        if bright and not s.saturated[near].any() and s.flux[near].sum() < 0.02 * s.flux[i]:
            kept.append(i)
    return np.array(kept, dtype=np.intp)


def without(image: Image, x: F8, y: F8, radius: float) -> Image:
    """The image with the cores of these stars masked."""
    mask = image.mask.copy()
    h = int(np.ceil(radius))
    ny, nx = image.shape
    for u, v in zip(np.round(x).astype(int), np.round(y).astype(int), strict=True):
        mask[max(0, v - h) : min(ny, v + h + 1), max(0, u - h) : min(nx, u + h + 1)] |= np.uint16(Flag.BAD)
    return replace(image, mask=mask)


def left_by(psf: PSF, e: Exposure, index: NDArray[np.intp], fwhm: float) -> tuple[F8, F8]:
    """What a PSF leaves of stars: reduced chi² within two FWHM, and the rms over the peak.

    All other sources are taken off first, fitted by the same PSF.
    """
    r = int(np.ceil(2 * fwhm))
    data, good = np.where(e.image.good, e.data, 0).astype(np.float32), e.image.good
    scene = fit_scene(data, e.variance, good, e.sources, psf, sweeps=3, psf_error=0.005)
    stamps = star_stamps(scene, e.variance, good, psf, index, r)
    sky = cut_stamps(e.noise.sigma, stamps.x, stamps.y, r, np.nan).astype(np.float64) ** 2
    rows = []
    for i in range(index.size):
        use = np.isfinite(stamps.variance[i]) & np.isfinite(sky[i])
        pixels = np.where(use, stamps.data[i].astype(np.float64), np.nan)
        rows.append(one_star(psf, (stamps.x[i], stamps.y[i]), pixels, sky[i], (fwhm, e.noise.gain or np.inf)))
    return np.array(rows)[:, 0], np.array(rows)[:, 1]


def one_star(
    psf: PSF, at: tuple[float, float], data: F8, sky: F8, known: tuple[float, float]
) -> tuple[float, float]:
    """Reduced chi² and relative rms of a star on a stamp; flux, position and level are fitted."""
    (x, y), (fwhm, gain), r = at, known, data.shape[0] // 2
    fx, fy = x - round(x), y - round(y)
    axis = np.arange(-r, r + 1)
    use = (np.hypot(axis[:, None] - fy, axis[None, :] - fx) <= 2 * fwhm) & np.isfinite(data)
    data, sky = data[use], sky[use]

    def model(p: F8) -> F8:
        stamp = psf.at(x, y, dx=p[1] + fx, dy=p[2] + fy, size=2 * r + 1)
        out: F8 = p[0] * stamp[use] + p[3]
        return out

    error = np.sqrt(sky + np.maximum(data, 0) / gain)  # first from the pixels, then from the model
    scale = np.array([max(float(data.sum()), 1.0), 1.0, 1.0, float(error.mean())])
    p = np.array([1.0, 0.0, 0.0, 0.0])
    for _ in range(2):
        p = least_squares(lambda q, w=error: (model(q * scale) - data) / w, p, max_nfev=30).x
        error = np.sqrt(sky + np.maximum(model(p * scale) - p[3] * scale[3], 0) / gain)
    left = model(p * scale) - data
    chi2 = float(((left / error) ** 2).sum()) / (data.size - 4)
    return chi2, float(np.sqrt(np.mean(left**2)) / data.max())


def against_truth(psf: PSF, truth: Truth, shape: tuple[int, int]) -> tuple[float, float]:
    """Median and largest max|dP|/peak over the field, the model's flux and centre freed."""
    worst = []
    size = min(psf.size, 41)
    for fx in np.linspace(0.1, 0.9, 5):
        for fy in np.linspace(0.1, 0.9, 5):
            x, y = fx * (shape[1] - 1), fy * (shape[0] - 1)
            true = truth(x, y, size)

            def residual(p: F8, x: float = x, y: float = y, true: F8 = true) -> F8:
                return (p[0] * psf.at(x, y, dx=p[1], dy=p[2], size=size) - true).ravel() / true.max()

            left = least_squares(residual, [1.0, 0.0, 0.0]).fun
            worst.append(np.abs(left).max())
    return float(np.median(worst)), float(np.max(worst))


@contextmanager
def timed(module: Any, name: str, seconds: dict[str, float]) -> Iterator[None]:
    """Add up the CPU seconds, children included, of a module's function, by its or its program's name."""
    inner = getattr(module, name)

    def outer(*args: Any, **kwargs: Any) -> Any:
        before = cpu()
        try:
            return inner(*args, **kwargs)
        finally:
            key = Path(args[0][0]).name if name == "_run" else name
            seconds[key] = seconds.get(key, 0.0) + cpu() - before

    setattr(module, name, outer)
    try:
        yield
    finally:
        setattr(module, name, inner)


def cpu() -> float:
    """CPU seconds of this process and of the programs it ran."""
    kinds = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return sum(u.ru_utime + u.ru_stime for u in map(resource.getrusage, kinds))


def ours(image: Image) -> tuple[PSF, list[float]]:
    """Our model, and CPU seconds of scene and PSF, and of all that `measure` does."""
    seconds: dict[str, float] = {}
    with timed(exposures, "_model", seconds):
        before = cpu()
        psf = measure(image).psf
        return psf, [seconds["_model"], cpu() - before]


def theirs(image: Image) -> tuple[PSF, list[float]]:
    """PSFEx's model, and CPU seconds of psfex alone, and of all with SExtractor."""
    seconds: dict[str, float] = {}
    with timed(astromatic, "_run", seconds):
        before = cpu()
        psf = astromatic.psfex_psf(image)
        return psf, [seconds["psfex"], cpu() - before]


def compare(frame: Frame) -> list[str]:
    """Rows of the table for one image."""
    whole = measure(frame.image)
    candidates = isolated(whole)
    held = candidates[::HELD_OUT] if candidates.size >= HELD_OUT * FEWEST else candidates[::2]
    x, y, fwhm = whole.sources.x[held], whole.sources.y[held], whole.psf.fwhm
    masked = without(frame.image, x, y, fwhm)
    rows = []
    for name, fit in (("ours", ours), ("PSFEx", theirs)):
        try:
            psf, seconds = fit(masked)
        except ZogypError as error:
            rows.append(f"| {frame.name} | {name} | {error} |")
            continue
        chi2, rms = left_by(psf, whole, held, fwhm)
        error = (
            ""
            if frame.truth is None
            else "{:.4f} / {:.4f}".format(*against_truth(psf, frame.truth, frame.image.shape))
        )
        rows.append(
            f"| {frame.name} | {name} | {psf.n_stars} | {psf.order} | {held.size} | {np.median(chi2):.3f} | "
            f"{np.quantile(chi2, 0.9):.2f} | {np.median(rms):.4f} | {error} | "
            f"{seconds[0]:.1f} | {seconds[1]:.1f} |"
        )
    return rows


def main() -> None:
    """Print a table in Markdown."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else beside
    warm = simulate(Sky(shape=(256, 256), n_stars=80, n_galaxies=0, n_transients=0), seed=1)
    measure(warm.new)  # compiles what is not yet compiled
    print("| image | PSF | stars | order | tested | median chi² | 90 % chi² | rms / peak | ", end="")
    print("max dP / peak: median / worst | CPU s of PSF | CPU s in all |")
    print("|---|---|---|---|---|---|---|---|---|---|---|")
    start = time.perf_counter()
    for frame in frames(folder):
        for row in compare(frame):
            print(row, flush=True)
    print(f"\n{time.perf_counter() - start:.0f} s in all")


if __name__ == "__main__":
    main()
