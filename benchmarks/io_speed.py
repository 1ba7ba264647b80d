"""Seconds and peak memory of reading and writing one large float32 image: astropy, fitsio, ours.

    python benchmarks/io_speed.py [--shape 6000 8000] [--repeat 3]

Every method runs in a process of its own; the file is in the page cache (as it is after a download or a
first look), so the figures are of copying, byte swapping and checking. Each reader ends with what a
subtraction needs: native float32 pixels. ``zogyp.io.read`` also makes the mask and checks the pixels.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

READERS = {
    "astropy, memmap": "data = fits.getdata(path, memmap=True).astype(np.float32)",
    "astropy, no memmap": "data = fits.getdata(path, memmap=False).astype(np.float32)",
    "fitsio": "data = fitsio.read(path)",
    "zogyp.io.read_plane": "data = io.read_plane(path)",
    "zogyp.io.read": "image = io.read(path)",
}
WRITERS = {
    "astropy": "fits.writeto(out, data, overwrite=True)",
    "fitsio": "fitsio.write(out, data, clobber=True)",
    "zogyp.io.write_image": "io.write_image(out, data)",
}
MAKE = """
import sys
import numpy as np
from zogyp import io
shape = (int(sys.argv[2]), int(sys.argv[3]))
io.write_image(sys.argv[1], np.random.default_rng(1).normal(1000, 10, shape).astype(np.float32))
"""
RUN = """
import json, os, resource, sys, time
import numpy as np
from astropy.io import fits
try:
    import fitsio
except ImportError:
    pass
from zogyp import io
path, out, shape = sys.argv[1], sys.argv[2], (int(sys.argv[3]), int(sys.argv[4]))
data = np.zeros(shape, dtype=np.float32) if {make} else None
if {make}:
    data += np.arange(shape[1], dtype=np.float32)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
start = time.perf_counter()
{statement}
seconds = time.perf_counter() - start
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
print(json.dumps([seconds, peak / 1024]))
"""


def measure(statement: str, arguments: list[str], repeat: int, *, make: bool) -> tuple[float, float] | None:
    """Least seconds and megabytes of a statement over some runs; None when it cannot run here."""
    figures = []
    for _ in range(repeat):
        code = RUN.format(statement=statement, make=make)
        command = [sys.executable, "-c", code, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            return None
        figures.append(json.loads(done.stdout))
    return min(f[0] for f in figures), min(f[1] for f in figures)


def main() -> None:
    """Write the image, measure, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", type=int, nargs=2, default=(6000, 8000), metavar=("NY", "NX"))
    parser.add_argument("--repeat", type=int, default=3)
    options = parser.parse_args()
    ny, nx = options.shape
    with tempfile.TemporaryDirectory() as folder:
        path, out = Path(folder) / "large.fits", Path(folder) / "out.fits"
        # in a process of its own, for a child's peak memory begins with its parent's
        subprocess.run([sys.executable, "-c", MAKE, str(path), str(ny), str(nx)], check=True)
        print(f"{nx} x {ny} float32, {path.stat().st_size / 2**20:.0f} MB")
        print(f"{'':28}{'seconds':>9}{'peak MB':>9}")
        for kind, table in (("read", READERS), ("write", WRITERS)):
            for name, statement in table.items():
                arguments = [str(path), str(out), str(ny), str(nx)]
                figures = measure(statement, arguments, options.repeat, make=kind == "write")
                text = f"{figures[0]:9.2f}{figures[1]:9.0f}" if figures else "  not installed"
                print(f"{kind + ' ' + name:28}{text}")


if __name__ == "__main__":
    main()
