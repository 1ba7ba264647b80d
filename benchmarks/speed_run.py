"""Children of a benchmark: what they cost, the skies they work on, and the machine they ran on.

Nothing here loads numpy: Linux counts the memory of a process from that of the one which started it, so
what measures must be smaller than all that it measures.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
STARS, GALAXIES, TRANSIENTS = 3200, 240, 60  # per 2048 x 2048 pixels
AREA = 2048 * 2048
WAYS = {"aligned": (), "shifted": ("--shift", "11.3", "-7.6", "--rotation", "0.1")}
STACK = """
import sys
from pathlib import Path
sys.path.append(sys.argv[1])
from coaddition import make_stack
make_stack(Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
"""


@dataclass(frozen=True)
class Run:
    """One child: wall seconds, CPU seconds of user and system, largest memory [MB], what it printed."""

    wall: float
    cpu: float
    peak: float
    text: str = ""

    @property
    def told(self) -> Any:
        """What it printed, if that is JSON."""
        return json.loads(self.text)

    def figures(self) -> dict[str, float]:
        """For a file."""
        return {"wall": round(self.wall, 3), "cpu": round(self.cpu, 3), "peak_mb": round(self.peak, 1)}


def zogyp(*words: str | Path) -> list[str]:
    """The command line of the zogyp that this Python has."""
    return [sys.executable, "-m", "zogyp", *map(str, words)]


def run(command: Sequence[str | Path], environment: dict[str, str] | None = None) -> Run:
    """Run a command to its end.

    Raises
    ------
    SystemExit
        It failed; with the last lines it wrote.
    """
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        start = time.perf_counter()
        words = [str(w) for w in command]
        child = subprocess.Popen(words, stdout=out, stderr=err, env={**os.environ, **(environment or {})})
        _, status, used = os.wait4(child.pid, 0)
        wall = time.perf_counter() - start
        child.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        err.seek(0)
        if child.returncode:
            last = err.read().decode(errors="replace").splitlines()[-5:]
            raise SystemExit("\n".join([f"failed: {' '.join(words)}", *last]))
        scale = 1e6 if sys.platform == "darwin" else 1e6 / 1024
        text = out.read().decode(errors="replace")
    return Run(wall, used.ru_utime + used.ru_stime, used.ru_maxrss / scale, text)


def have_at_hand(gigabytes: float) -> None:
    """Let a child take memory and give it back, so that a virtual machine has it of its host for the next."""
    if gigabytes > 0:
        run([sys.executable, "-c", f"held = b'x' * {int(gigabytes * 1e9)}"])


def start_up() -> Run:
    """The command that does nothing."""
    return run(zogyp("--version"))


def shape_of(text: str) -> tuple[int, int]:
    """Rows and columns of ``2048`` or ``6000x8000``."""
    rows, _, columns = text.partition("x")
    return int(rows), int(columns or rows)


def pair(work: Path, shape: tuple[int, int], way: str, seed: int = 1) -> tuple[Path, Path]:
    """A simulated pair, made if it is not in the folder yet."""
    share = shape[0] * shape[1] / AREA
    counts = {"stars": STARS, "galaxies": GALAXIES, "transients": TRANSIENTS}
    words = ["--seed", str(seed), "--shape", *map(str, shape), *WAYS[way]]
    for name, n in counts.items():
        words += [f"--n-{name}", str(max(round(n * share), 8))]
    folder = work / f"{shape[0]}x{shape[1]}-{way}"
    _made(folder, zogyp("simulate", folder, "--quiet", *words), words)
    return folder / "new.fits", folder / "ref.fits"


def stack(work: Path, n: int, side: int) -> list[Path]:
    """Exposures of one field that differ in seeing, sky, zero point and place, made if they are not there."""
    folder = work / f"stack-{n}x{side}"
    words = [str(n), str(side)]
    _made(folder, [sys.executable, "-c", STACK, str(HERE), str(folder), *words], words)
    return sorted(folder.glob("exp*.fits"))


def _made(folder: Path, command: list[str], words: list[str]) -> None:
    """Fill a folder by a command, unless the same words filled it before."""
    label = folder / "made.json"
    if label.exists() and json.loads(label.read_text()) == words:
        return
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    print(f"making {folder.name} ...", file=sys.stderr)
    run(command)
    label.write_text(json.dumps(words))


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def load() -> float:
    """Processes that ran or waited to, over the last minute."""
    return round(os.getloadavg()[0], 2)


def machine() -> dict[str, Any]:
    """What ran what."""
    cpuinfo = Path("/proc/cpuinfo")
    names = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    models = [line.partition(":")[2].strip() for line in names if line.startswith("model name")]
    git = ["git", "-C", str(HERE), "rev-parse", "--short", "HEAD"]
    commit = subprocess.run(git, capture_output=True, text=True, check=False).stdout.strip()
    return {
        "cpu": models[0] if models else platform.processor() or platform.machine(),
        "cores": cores(),
        "ram_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "load": load(),
        "commit": commit or "unknown",
        "python": platform.python_version(),
        **{name: version(name) for name in ("numpy", "scipy", "numba")},
    }


def spread(values: Sequence[float], digits: int = 2) -> str:
    """Median, and least to largest where there are several."""
    middle = f"{statistics.median(values):.{digits}f}"
    if len(values) == 1:
        return middle
    return f"{middle} ({min(values):.{digits}f}-{max(values):.{digits}f})"
