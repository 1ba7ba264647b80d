"""What interpolation does to stars, and what it costs: our kernels, scipy's splines, OpenCV.

    OMP_NUM_THREADS=1 NUMBA_NUM_THREADS=1 python benchmarks/resampling.py [--size 1500] [--repeat 3]

Stars without noise are put onto a slightly turned and smoothly distorted grid and compared with what they
should be there: their profile (integrated over old pixels, as it was seen) at the new pixels' places times
the area. For each kernel it prints

- bias and scatter of the PSF flux, i.e. of the fit of the true profile, and of the plain sum within 3 FWHM;
- the error of the centre, from the true profile's slopes, root mean square per axis.

Then CPU seconds per megapixel, of one thread, medians of interleaved repeats in one process (coordinates are
made beforehand); and the first call in a new process with and without the compiled code on disk. The mask
flags a thousandth of the pixels. OpenCV is left out where it is not installed.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates

from zogyp.core.old_image import Bits, Planes
from zogyp.core.resample import Lattice, resample

try:
    import cv2
except ImportError:
    cv2 = None

F8 = NDArray[np.float64]
Profile = Callable[[F8, F8], F8]
Method = Callable[[NDArray[np.float32], F8, F8, Lattice], NDArray[np.float32]]

BITS = Bits(unusable=15, saturated=4, no_data=2, reached=32)
STEP = 16  # of the lattice [px]
SPACING = 64  # of the stars [px]
HALF = 30  # of a star's stamp [px]
FIRST_CALL = """
import sys, time
sys.path[:0] = {path!r}
import numpy as np
from zogyp.core.old_image import Bits, Planes
from zogyp.core.resample import Lattice, resample
y, x = np.mgrid[:14, :14] * 16.0
data = np.ones((200, 200), np.float32)
mask = np.zeros((200, 200), np.uint16)
mask[50, 50] = 1
start = time.process_time(), time.perf_counter()
resample(Planes(data, mask, data), Lattice(16, x + 0.3, y, (199, 199)), Bits(15, 4, 2, 32))
print(time.process_time() - start[0], time.perf_counter() - start[1])
"""


@dataclass(frozen=True)
class Grid:
    """A turned and gently waved grid: old place of a new pixel, and the area."""

    size: int
    degrees: float
    wave: float = 1.0  # amplitude [px]

    def place(self, x: F8, y: F8) -> tuple[F8, F8]:
        """Old x and y of new x and y."""
        t, middle = np.deg2rad(self.degrees), (self.size - 1) / 2
        u, v = x - middle, y - middle
        k = 2 * np.pi / 1500
        ox = middle + np.cos(t) * u - np.sin(t) * v + 0.37 + self.wave * np.sin(k * (u + 0.5 * v))
        oy = middle + np.sin(t) * u + np.cos(t) * v - 0.21 + self.wave * np.cos(k * (v - 0.7 * u))
        return ox, oy

    def area(self, x: F8, y: F8) -> F8:
        """Determinant of the map, by differences."""
        h = 0.5
        (ax, ay), (bx, by) = self.place(x + h, y), self.place(x - h, y)
        (cx, cy), (dx, dy) = self.place(x, y + h), self.place(x, y - h)
        return np.abs((ax - bx) * (cy - dy) - (cx - dx) * (ay - by))

    def back(self, x: F8, y: F8) -> tuple[F8, F8]:
        """New place of an old one, by repeated correction along the turn."""
        u, v = x.copy(), y.copy()
        c, s = np.cos(np.deg2rad(self.degrees)), np.sin(np.deg2rad(self.degrees))
        for _ in range(40):
            ox, oy = self.place(u, v)
            u, v = u + c * (x - ox) + s * (y - oy), v - s * (x - ox) + c * (y - oy)
        return u, v

    def lattice(self) -> Lattice:
        """The nodes of the map."""
        n = -(-(self.size - 1) // STEP) + 1
        y, x = np.mgrid[:n, :n] * float(STEP)
        return Lattice(STEP, *self.place(x, y), (self.size, self.size))


def gaussian(fwhm: float) -> Profile:
    """Profile of unit flux."""
    s2 = (fwhm / 2.354820045) ** 2
    return lambda x, y: np.exp(-0.5 * (x * x + y * y) / s2) / (2 * np.pi * s2)


def moffat(fwhm: float, beta: float = 3.0) -> Profile:
    """Profile of unit flux."""
    a2 = (fwhm / 2) ** 2 / (2 ** (1 / beta) - 1)
    return lambda x, y: (beta - 1) / (np.pi * a2) * (1 + (x * x + y * y) / a2) ** -beta


def seen(profile: Profile, x: F8, y: F8) -> F8:
    """The profile integrated over an old pixel around (x, y), by Gauss and Legendre."""
    nodes, weights = np.polynomial.legendre.leggauss(8)
    total = np.zeros(np.broadcast(x, y).shape)
    for u, wu in zip(nodes / 2, weights / 2, strict=True):
        for v, wv in zip(nodes / 2, weights / 2, strict=True):
            total += wu * wv * profile(x + u, y + v)
    return total


def around(x: float, y: float) -> tuple[slice, slice, F8, F8]:
    """Slices of a stamp around a place, and its pixels' x and y."""
    xi, yi = round(x), round(y)
    v, u = np.mgrid[yi - HALF : yi + HALF + 1, xi - HALF : xi + HALF + 1].astype(float)
    return slice(yi - HALF, yi + HALF + 1), slice(xi - HALF, xi + HALF + 1), u, v


def methods() -> dict[str, Method]:
    """All that is compared; each gives values times area."""

    def ours(name: str) -> Method:
        return lambda data, x, y, lattice: (
            resample(Planes(data, np.zeros(data.shape, np.uint16)), lattice, BITS, kernel=name).data
        )

    def scipys(order: int) -> Method:
        return lambda data, x, y, lattice: map_coordinates(
            data, [y, x], order=order, mode="mirror", output=np.float32
        )

    out: dict[str, Method] = {name: ours(name) for name in ("bspline5", "lanczos3", "lanczos4")}
    out |= {f"scipy, order {order}": scipys(order) for order in (3, 5)}
    if cv2 is not None:
        cv2.setNumThreads(1)
        out["OpenCV LANCZOS4"] = lambda data, x, y, lattice: cv2.remap(
            data, x.astype(np.float32), y.astype(np.float32), cv2.INTER_LANCZOS4
        )
    else:
        print("OpenCV is not installed and left out.\n")
    return out


def star_errors(data: F8, grid: Grid, stars: F8, profile: Profile, radius: float) -> str:
    """Errors of all stars of a new image, as cells of a table."""
    psf, plain, centre = [], [], []
    for x, y in stars:
        (nx,), (ny,) = grid.back(np.array([x]), np.array([y]))
        rows, columns, u, v = around(nx, ny)

        def true(dx: float, dy: float, u: F8 = u, v: F8 = v, x: float = x, y: float = y) -> F8:
            ox, oy = grid.place(u - dx, v - dy)
            return seen(profile, ox - x, oy - y) * grid.area(u, v)

        t, stamp = true(0, 0), data[rows, columns]
        flux = (t * stamp).sum() / (t * t).sum()
        psf.append(flux)
        near = (u - nx) ** 2 + (v - ny) ** 2 < radius**2
        plain.append(stamp[near].sum() / t[near].sum())
        for slope in ((true(0.01, 0) - true(-0.01, 0)) / 0.02, (true(0, 0.01) - true(0, -0.01)) / 0.02):
            centre.append((slope * (stamp - flux * t)).sum() / (slope * slope).sum() / flux)
    cells = [f"{100 * np.mean(f) - 100:+8.3f} ± {100 * np.std(f):.3f}" for f in (psf, plain)]
    return " | ".join([*cells, f"{1000 * np.sqrt(np.mean(np.square(centre))):8.2f}"])


def stars_table(all_methods: dict[str, Method]) -> None:
    """What becomes of stars."""
    size = 640
    grid, rng = Grid(size, 0.4), np.random.default_rng(1)
    centres = np.arange(SPACING, size - SPACING + 1, SPACING)
    stars = np.stack(np.meshgrid(centres, centres), -1).reshape(-1, 2) + rng.uniform(-0.5, 0.5, (81, 2))
    y, x = np.mgrid[:size, :size].astype(float)
    ox, oy = grid.place(x, y)
    area, lattice = grid.area(x, y), grid.lattice()
    print(f"{len(stars)} stars on a grid turned by {grid.degrees}° and waved by {grid.wave} px\n")
    print("| profile | FWHM px | kernel | PSF flux % | sum % | centre, 0.001 px |")
    print("|---|---|---|---|---|---|")
    for shape, make in (("Gaussian", gaussian), ("Moffat 3", moffat)):
        for fwhm in (1.8, 2.5, 4.0):
            profile, old = make(fwhm), np.zeros((size, size), np.float32)
            for sx, sy in stars:
                rows, columns, u, v = around(sx, sy)
                old[rows, columns] += 1e4 * seen(profile, u - sx, v - sy)
            for name, method in all_methods.items():
                new = method(old, ox, oy, lattice).astype(float) / 1e4
                if name not in ("bspline5", "lanczos3", "lanczos4"):
                    new *= area
                cells = star_errors(new, grid, stars, profile, 3 * fwhm)
                print(f"| {shape} | {fwhm} | {name:15s} | {cells} |", flush=True)


def speed_table(all_methods: dict[str, Method], size: int, repeat: int) -> None:
    """CPU seconds per megapixel."""
    rng = np.random.default_rng(2)
    data = rng.normal(100, 10, (size, size)).astype(np.float32)
    variance = np.full((size, size), 100, np.float32)
    clean, mask = np.zeros((2, size, size), np.uint16)
    mask[rng.random((size, size)) < 1e-3] = 1
    y, x = np.mgrid[:size, :size].astype(float)
    runs = dict(all_methods)
    runs["bspline5 + variance"] = lambda d, x, y, at: resample(Planes(d, clean, variance), at, BITS).data
    runs["bspline5 + variance + mask"] = lambda d, x, y, at: (
        resample(Planes(d, mask, variance), at, BITS).data
    )
    print(f"\nCPU s / Mpix of {size} x {size} px, one thread, median of {repeat} (over scipy order 3)\n")
    print("| kernel | turned 0.4° | turned 30° |")
    print("|---|---|---|")
    grids = [Grid(size, degrees) for degrees in (0.4, 30.0)]
    maps = [(*grid.place(x, y), grid.lattice()) for grid in grids]
    seconds: dict[tuple[str, int], list[float]] = {}
    for turn in range(repeat + 1):
        for i, at in enumerate(maps):
            for name, method in runs.items():
                start = time.process_time()
                method(data, *at)
                if turn > 0:  # the first compiles
                    seconds.setdefault((name, i), []).append((time.process_time() - start) / size**2 * 1e6)
    medians = {key: float(np.median(s)) for key, s in seconds.items()}
    for name in runs:
        cells = [
            f"{medians[name, i]:.4f} ({medians[name, i] / medians['scipy, order 3', i]:.2f})" for i in (0, 1)
        ]
        print(f"| {name} | {' | '.join(cells)} |")


def first_calls() -> None:
    """Seconds of the first call with data, variance and mask in a new process."""
    print("\nFirst call in a new process, CPU s and wall s")
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "NUMBA_CACHE_DIR": folder}
        command = [sys.executable, "-c", FIRST_CALL.format(path=[p for p in sys.path if p])]
        for name in ("nothing compiled yet", "compiled code on disk"):
            done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
            cpu, wall = map(float, done.stdout.split())
            print(f"  {name}: {cpu:.2f}, {wall:.2f}")


def main() -> None:
    """Print all tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", type=int, default=1500, help="side of the image that is timed [px]")
    parser.add_argument("--repeat", type=int, default=3, help="times each is timed")
    arguments = parser.parse_args()
    all_methods = methods()
    stars_table(all_methods)
    speed_table(all_methods, arguments.size, arguments.repeat)
    first_calls()


if __name__ == "__main__":
    main()
