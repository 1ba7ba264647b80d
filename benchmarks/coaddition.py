"""How deep coadds of one stack are: ours, proper and plain, and SWarp's, on the same registered exposures.

    python benchmarks/coaddition.py [--exposures DIR/exp*.fits --stars STARS.ecsv]

Without arguments a stack is made: dithered exposures of one field whose seeing, sky and zero point differ,
with cosmic rays, and trails of satellites in two. A table of true stars has the columns x, y [px of the
first exposure, from 0] and flux.

All exposures are registered and measured once by us. SWarp (WEIGHTED and CLIPPED, no interpolation,
no background) gets the same pixels, with weight maps of their noise and our flux scales. Each coadd is then
filtered with its PSF (that of a proper coadd is known, that of the others is measured on them), and for
isolated faint stars the filtered value over the scatter of blank sky is their S/N. Printed: the median of
S/N over the optimum (with the measured PSFs and noise) and over that of the proper coadd; pixels of blank
sky beyond 6 sigma (cosmic rays, trails); spread and neighbour correlation of blank sky; CPU and wall seconds
of the combination alone.
"""

from __future__ import annotations

import argparse
import resource
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from glob import glob
from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.table import Table
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates
from scipy.signal import fftconvolve

from zogyp.coaddition import Stack, _plain, _proper, _scaled, _stack
from zogyp.core.moffat import add_stars, star_rows
from zogyp.gathering import gather
from zogyp.image import UNUSABLE, Flag, Image
from zogyp.measure.exposure import measure
from zogyp.options import CoaddOptions

F8 = NDArray[np.float64]
EDGE = 80  # px of the border that are not looked at
SWARP = ("SWarp", "swarp")


@dataclass(frozen=True)
class Made:
    """One coadd: pixels in flux, the PSF (k, k), seconds of CPU and wall."""

    name: str
    pixels: F8
    psf: F8
    cpu: float
    wall: float


def robust(a: F8) -> float:
    """Standard deviation from the median absolute deviation."""
    return float(1.4826 * np.median(np.abs(a - np.median(a))))


def blank(shape: tuple[int, int], stars: Table, depth: float) -> NDArray[np.bool_]:
    """Sky away from all stars, the further the brighter they are; ``depth`` is S/N per flux."""
    sky = np.zeros(shape, bool)
    sky[EDGE:-EDGE, EDGE:-EDGE] = True
    for x, y, f in zip(stars["x"], stars["y"], stars["flux"], strict=True):
        r = int(10 + 6 * np.log10(max(f * depth, 1)))
        j, i = round(y), round(x)
        rows = slice(max(j - r, 0), max(j + r + 1, 0))
        columns = slice(max(i - r, 0), max(i + r + 1, 0))
        v, u = np.ogrid[rows, columns]
        part = sky[rows, columns]
        v, u = v[: part.shape[0]], u[:, : part.shape[1]]
        part &= (v - y) ** 2 + (u - x) ** 2 > r * r
    return sky


def faint(stars: Table, shape: tuple[int, int], depth: float) -> Table:
    """Isolated stars of S/N 8 to 60."""
    x, y, f = (np.asarray(stars[c]) for c in ("x", "y", "flux"))
    inside = (x > EDGE + 10) & (x < shape[1] - EDGE - 10) & (y > EDGE + 10) & (y < shape[0] - EDGE - 10)
    inside &= (f * depth > 8) & (f * depth < 60)
    alone = [
        (((x - a) ** 2 + (y - b) ** 2 < 400) & (f > 0.1 * g)).sum() == 1
        for a, b, g in zip(x, y, f, strict=True)
    ]
    return stars[inside & np.array(alone)]


def judge(made: Made, stars: Table, sky: NDArray[np.bool_]) -> dict[str, float]:
    """S/N of faint stars and what is left in the blank sky."""
    filled = np.nan_to_num(made.pixels)
    kernel = made.psf / np.sqrt((made.psf**2).sum())
    score = fftconvolve(filled, kernel[::-1, ::-1], mode="same")
    noise, level = robust(score[sky]), np.median(score[sky])
    snr = (map_coordinates(score, [stars["y"], stars["x"]], order=3) - level) / noise
    rest = filled - np.median(filled[sky])
    spread = robust(rest[sky])
    pair = sky[:, 1:] & sky[:, :-1] & (np.abs(rest[:, 1:]) < 4 * spread) & (np.abs(rest[:, :-1]) < 4 * spread)
    quiet = sky & (np.abs(rest) < 4 * spread)
    return {
        "snr": float(np.median(snr / np.asarray(stars["flux"]))),
        "peaks": int((np.abs(rest[sky]) > 6 * spread).sum()),
        "spread": spread,
        "neighbour": float((rest[:, 1:] * rest[:, :-1])[pair].mean() / (rest[quiet] ** 2).mean()),
    }


def measured_psf(pixels: F8) -> F8:
    """The PSF of a plain coadd, from its own stars, at the middle."""
    data = pixels.astype(np.float32)
    mask = np.where(np.isfinite(data), 0, int(Flag.NO_DATA)).astype(np.uint16)
    psf = measure(Image(data, mask)).psf
    ny, nx = data.shape
    return psf.at((nx - 1) / 2, (ny - 1) / 2)


def cpu() -> float:
    """CPU seconds of this process and its children."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(u.ru_utime + u.ru_stime for u in used)


def swarp(program: str, kind: str, stack: Stack, folder: Path) -> tuple[F8, None]:
    """SWarp's combination of the registered exposures, in flux of the first."""
    frames, (ny, nx) = stack.frames, stack.shape
    names = []
    for j, one in enumerate(frames):
        header = fits.Header()
        for i, n in ((1, nx), (2, ny)):
            header[f"CTYPE{i}"] = ("RA---TAN", "DEC--TAN")[i - 1]
            header[f"CRPIX{i}"], header[f"CRVAL{i}"], header[f"CDELT{i}"] = (
                (n + 1) / 2,
                10.0,
                (-1, 1)[i - 1] / 3600,
            )
        header["FLXSCALE"] = stack.adu / one.scale
        header["GAIN"] = one.frame.exposure.noise.gain or 1.0
        usable = (one.frame.plane("mask") & np.uint16(UNUSABLE)) == 0
        weight = np.where(usable, 1 / one.frame.plane("sigma") ** 2, 0)
        names.append(str(folder / f"e{j:02d}.fits"))
        fits.writeto(names[-1], np.asarray(one.frame.plane("data")), header, overwrite=True)
        fits.writeto(folder / f"e{j:02d}.weight.fits", weight.astype(np.float32), header, overwrite=True)
    options = {
        "COMBINE_TYPE": kind,
        "WEIGHT_TYPE": "MAP_WEIGHT",
        "RESAMPLING_TYPE": "NEAREST",  # onto the very pixels: without it CLIPPED clips nothing
        "CENTER_TYPE": "MANUAL",
        "CENTER": "10.0,10.0",
        "PIXELSCALE_TYPE": "MANUAL",
        "PIXEL_SCALE": "1.0",
        "IMAGE_SIZE": f"{nx},{ny}",
        "SUBTRACT_BACK": "N",
        "FSCALASTRO_TYPE": "NONE",
        "RESCALE_WEIGHTS": "N",
        "IMAGEOUT_NAME": str(folder / "swarp.fits"),
        "WEIGHTOUT_NAME": str(folder / "swarp.weight.fits"),
        "XML_NAME": str(folder / "swarp.xml"),
        "VERBOSE_TYPE": "QUIET",
    }
    words = [w for key, value in options.items() for w in (f"-{key}", value)]
    subprocess.run([program, *names, *words], check=True, cwd=folder, capture_output=True)
    with fits.open(folder / "swarp.fits") as hdus:
        return np.asarray(hdus[0].data, dtype=np.float64), None


def make_stack(folder: Path, n: int = 12, size: int = 1024) -> tuple[list[str], Table]:
    """Exposures of one field and the table of its stars."""
    rng = np.random.default_rng(20)
    x, y = rng.uniform(-40, size + 40, (2, 1700))
    flux = np.minimum(60 * rng.uniform(size=1700) ** (-1 / 0.9), 1e6)
    names = []
    for j in range(n):
        fwhm, sky, scale = rng.uniform(2.2, 4.6), rng.uniform(80, 700), rng.uniform(0.55, 1.1)
        dx, dy = rng.uniform(-9, 9, 2) * (j > 0)
        image = np.zeros((size, size), np.float32)
        width = np.full(x.size, fwhm)
        rows = star_rows((x + dx, y + dy), flux * scale, width, 3.2, (np.full(x.size, 0.03), 30.0), 0.1)
        add_stars(image, 0, rows)
        data = (rng.poisson((image + sky) * 1.6) + rng.normal(0, 7, image.shape)) / 1.6
        for _ in range(40):
            a, b = rng.integers(5, size - 30, 2)
            data[b, a : a + rng.integers(1, 6)] += rng.uniform(500, 8000)
        if j in (3, 7):
            t = np.arange(size)
            r = (150 + 0.6 * t + 30 * j).astype(int)
            for k in (-1, 0, 1):
                data[r + k, t] += 400
        header = fits.Header({"GAIN": 1.6, "RDNOISE": 7.0, "SATURATE": 60000.0})
        names.append(str(folder / f"exp{j:02d}.fits"))
        fits.writeto(names[-1], np.minimum(data, 61800).astype(np.float32), header)
    return names, Table({"x": x, "y": y, "flux": flux})


def timed(name: str, work: Callable[[], tuple[F8, F8 | None]]) -> Made:
    """A coadd and what it cost; its PSF is measured where it is not known, outside of the clock."""
    used, began = cpu(), time.perf_counter()
    pixels, psf = work()
    used, began = cpu() - used, time.perf_counter() - began
    return Made(name, pixels, measured_psf(pixels) if psf is None else psf, used, began)


def ours(stack: Stack, method: str) -> tuple[F8, F8 | None]:
    """A coadd of ours, in flux, and its PSF if it is known."""
    options = replace(stack.options, method=method)
    made = (_proper if method == "proper" else _plain)(replace(stack, options=options))
    ny, nx = made.R.shape
    psf = None if made.psf is None else made.psf.at((nx - 1) / 2, (ny - 1) / 2)
    return made.R.astype(np.float64), psf


def report(names: list[str], stars: Table, folder: Path) -> None:
    """Make all coadds and print what they are worth."""
    options = CoaddOptions()
    gathered = gather(names, None, options, folder / "planes")
    frames, failures = _scaled(gathered.frames, gathered.anchor, options)
    stack = _stack(frames, gathered, options, lambda done: None, None)
    print(
        f"{len(frames)} exposures, {len(failures)} left out; seeing", *(f"{f.frame.fwhm:.1f}" for f in frames)
    )
    optimum = np.sqrt(
        sum(f.depth / stack.adu**2 * (f.frame.psf.at(*f.frame.psf.origin) ** 2).sum() for f in frames)
    )
    works: dict[str, Callable[[], tuple[F8, F8 | None]]] = {
        name: partial(ours, stack, name) for name in ("proper", "mean", "clipped", "median")
    }
    program = next((p for p in SWARP if shutil.which(p)), None)
    if program is not None:
        (folder / "swarp").mkdir()
        for kind in ("WEIGHTED", "CLIPPED"):
            works[f"SWarp {kind}"] = partial(swarp, program, kind, stack, folder / "swarp")
    chosen, sky = faint(stars, stack.shape, optimum), blank(stack.shape, stars, optimum)
    print(f"{len(chosen)} faint stars; S/N per flux with the measured PSFs known: {optimum:.5f}")
    print(
        f"{'':16}{'S/N':>8}{'of proper':>10}{'> 6 sigma':>10}{'spread':>9}{'neighb.':>9}{'CPU s':>8}"
        f"{'wall s':>8}"
    )
    best = 0.0
    for name, work in works.items():
        made = timed(name, work)
        row = judge(made, chosen, sky)
        best = best or row["snr"]
        print(
            f"{name:16}{row['snr'] / optimum:8.3f}{row['snr'] / best:10.3f}{row['peaks']:10d}"
            f"{row['spread']:9.3f}{row['neighbour']:9.3f}{made.cpu:8.1f}{made.wall:8.1f}"
        )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--exposures", nargs="+")
    parser.add_argument("--stars")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if asked.exposures:
            names = sorted(name for pattern in asked.exposures for name in glob(pattern))
            stars = Table.read(asked.stars)
        else:
            names, stars = make_stack(folder)
        report(names, stars, folder)


if __name__ == "__main__":
    main()
