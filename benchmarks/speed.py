"""How long whole commands take, and how far a subtraction is from the least it could cost.

    python benchmarks/speed.py [--sizes 2048 4096 6000x8000] [--ways aligned shifted] [--repeats 3]
                               [--pair NEW REF] [--threads N] [--work DIR] [--json FILE] [--no-report]
                               [--also align coadd demo warm series] [--scaling [1024 2048 ...]]
                               [--at-hand GB]

For each size (rows x columns) and way a pair is simulated, 3200 stars and 240 galaxies per 2048 x 2048
pixels; ``--work`` keeps the pairs for the next time. Then by turns, ``--repeats`` times:

- the start-up, `zogyp --version`;
- the whole of `zogyp subtract`, report and all;
- the floor, see `speed_floor.py`: reading both files, eight Fourier passes, writing what was written.

Each is a process of its own: wall, user and system seconds, largest memory. Files are in the page cache
and compiled code is on disk, for a small pair goes first. Figures are medians (least-largest).

``--also align``: a shifted pair of the first size; ``coadd``: 8 exposures of 2048 x 2048; ``demo``: with
nothing compiled and then with all; ``warm``: work in a process that has done it before, with one thread and
all cores; ``series``: a tenth image against one reference, beside a single one. ``--scaling``: time per
megapixel with one thread and with all cores.

Some virtual machines hand out memory for the first time at seconds per GB, and take it back when it is freed:
``--at-hand GB`` has a child take and return so much before each run, which on hardware changes nothing.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import speed_run as sr

Figures = dict[str, Any]
SMALL = (512, 512)
SCALING = ("1024", "2048", "4096", "8192")
LATER = 10  # image of a series that is held against the first
FLOOR = ("read", "fft", "write")


def subtract(pair: Sequence[Path], options: argparse.Namespace, threads: int) -> tuple[sr.Run, list[int]]:
    """The whole command, and the bytes of the files it wrote."""
    with tempfile.TemporaryDirectory(dir=options.work, prefix="out-") as folder:
        report = () if options.report else ("--no-report",)
        words = ("--json", "--threads", str(threads), "-o", folder, *report)
        done = sr.run(sr.zogyp("subtract", *pair, *words))
        sizes = [Path(name).stat().st_size for name in done.told["files"].values()]
    return done, sizes


def floor(pair: Sequence[Path], options: argparse.Namespace, sizes: list[int]) -> sr.Run:
    """The least that the command could cost."""
    with tempfile.TemporaryDirectory(dir=options.work, prefix="out-") as folder:
        threads = options.threads or sr.cores()
        script = sr.HERE / "speed_floor.py"
        return sr.run([sys.executable, script, *pair, folder, str(threads), *map(str, sizes)])


def measured(name: str, pair: Sequence[Path], options: argparse.Namespace) -> Figures:
    """Start-up, command and floor of one pair, by turns."""
    rounds = []
    for _ in range(options.repeats):
        idle = sr.start_up()
        sr.have_at_hand(options.at_hand)
        whole, sizes = subtract(pair, options, options.threads)
        sr.have_at_hand(options.at_hand)
        least = floor(pair, options, sizes)
        told = whole.told
        rounds.append(
            {
                "load": sr.load(),
                "start-up": idle.figures(),
                "whole": whole.figures(),
                "stages": {k: {"wall": v, **told["costs"][k]} for k, v in told["timings"].items()},
                "own_peak_mb": told["peak_memory_mb"],
                "floor": least.told | {"peak_mb": round(least.peak, 1)},
                "series": later(told),
            }
        )
    return {"pair": name, "written_mb": round(sum(sizes) / 1e6, 1), "files": len(sizes), "rounds": rounds}


def later(told: Figures) -> Figures | None:
    """A later image of a series against the first, where the command tells the seconds of each."""
    images = told.get("images")
    if not isinstance(images, list) or len(images) < LATER or "timings" not in images[0]:
        return None
    seconds = [sum(one["timings"].values()) for one in images]
    return {"first": seconds[0], "later": seconds[LATER - 1], "ratio": seconds[LATER - 1] / seconds[0]}


def show(figures: Figures) -> None:
    """The table of one pair."""
    rounds = figures["rounds"]
    load = sr.spread([r["load"] for r in rounds], 1)
    print(f"\n{figures['pair']}: {figures['files']} files, {figures['written_mb']} MB, load {load}")
    line("", "wall s", "CPU s", "peak MB")
    for stage in rounds[0]["stages"]:
        line(stage, *costs([r["stages"][stage] for r in rounds]))
    work = [r["whole"] for r in rounds]
    line("imports, writing, report", *costs([_rest(r) for r in rounds]))
    line("start-up", *costs([r["start-up"] for r in rounds]))
    line("whole", *costs(work))
    less = [{k: r["whole"][k] - r["start-up"][k] for k in ("wall", "cpu")} for r in rounds]
    line("whole minus start-up", *costs(less))
    for part in FLOOR:
        line(f"floor: {part}", *costs([r["floor"][part] for r in rounds]))
    least = [{k: sum(r["floor"][p][k] for p in FLOOR) for k in ("wall", "cpu")} for r in rounds]
    peaks = [{"peak_mb": r["floor"]["peak_mb"]} for r in rounds]
    line("floor", *costs([a | b for a, b in zip(least, peaks, strict=True)]))
    for name, of in (("whole / floor", work), ("whole minus start-up / floor", less)):
        ratios = [{k: w[k] / f[k] for k in f} for w, f in zip(of, least, strict=True)]
        line(name, *costs(ratios))
    own = statistics.median(r["own_peak_mb"] for r in rounds)
    print(f"the program's own figure of its peak, before the report: {own:.0f} MB")
    if rounds[0]["series"]:
        line(f"image {LATER} / first", sr.spread([r["series"]["ratio"] for r in rounds]))


def _rest(one: Figures) -> Figures:
    """What a run costs beside its stages and the start-up."""
    staged = {k: sum(stage[k] for stage in one["stages"].values()) for k in ("wall", "cpu")}
    return {k: one["whole"][k] - one["start-up"][k] - staged[k] for k in staged}


def costs(rows: Sequence[Figures]) -> list[str]:
    """Wall, CPU and peak of some rounds, as far as known."""
    keys = [key for key in ("wall", "cpu", "peak_mb") if key in rows[0]]
    return [sr.spread([row[key] for row in rows], 0 if key == "peak_mb" else 2) for key in keys]


def line(name: str, *columns: str) -> None:
    """One row of a table."""
    print(f"{name:38}" + "".join(f"{column:>24}" for column in columns), flush=True)


def beyond(name: str, command: Sequence[str], repeats: int, share: int = 1) -> Figures:
    """Print and return what a command costs beyond the start-up, or an equal share of it."""
    rounds = []
    for _ in range(repeats):
        idle, done = sr.start_up(), sr.run(command)
        wall, cpu = (done.wall - idle.wall) / share, (done.cpu - idle.cpu) / share
        rounds.append({"wall": wall, "cpu": cpu, "peak_mb": done.peak})
    line(name, *costs(rounds))
    return {"name": name, "rounds": rounds}


def also(options: argparse.Namespace) -> list[Figures]:
    """The other commands."""
    made = []
    print("\nBeyond start-up")
    line("", "wall s", "CPU s", "peak MB")
    threads = ("--threads", str(options.threads), "--quiet", "-o")
    with tempfile.TemporaryDirectory(dir=options.work, prefix="out-") as folder:
        if "align" in options.also:
            size = (options.sizes or ["2048"])[0]
            new, ref = sr.pair(options.work, sr.shape_of(size), "shifted")
            command = sr.zogyp("align", ref, "--to", new, *threads, folder)
            made.append(beyond(f"align {size}", command, options.repeats))
        if "coadd" in options.also:
            exposures = sr.stack(options.work, 8, 2048)
            command = sr.zogyp("coadd", *exposures, *threads, Path(folder) / "coadd.fits")
            made.append(beyond("coadd 8 x 2048, per exposure", command, options.repeats, len(exposures)))
        if "demo" in options.also:
            made += demo(Path(folder))
        if "series" in options.also:
            made.append(series(options, Path(folder)))
    if "warm" in options.also:
        made += warm(options)
    return made


def series(options: argparse.Namespace, folder: Path) -> Figures:
    """What a further image costs that is subtracted from a reference which is measured already."""
    size = (options.sizes or ["2048"])[0]
    new, ref = sr.pair(options.work, sr.shape_of(size), "aligned")
    names = [folder / f"night{i:02}.fits" for i in range(LATER)]
    for name in names:
        name.symlink_to(new.resolve())
    rounds = []
    for _ in range(options.repeats):
        runs = [
            sr.run(sr.zogyp("subtract", *some, ref, "--quiet", "-o", folder / "series"))
            for some in (names[:1], names)
        ]
        first, more = ({"wall": r.wall, "cpu": r.cpu} for r in runs)
        rounds.append({k: (more[k] - first[k]) / (LATER - 1) / first[k] for k in first})
    line(f"series of {LATER}: further / first", *costs(rounds))
    return {"name": f"series {size}", "rounds": rounds}


def warm(options: argparse.Namespace) -> list[Figures]:
    """Work in a process that has done it before."""
    made = []
    print("\nIn a process that has done it before")
    line("", "wall s", "CPU s")
    size = (options.sizes or ["2048"])[0]
    shape = sr.shape_of(size)
    pairs = {way: sr.pair(options.work, shape, way) for way in ("aligned", "shifted")}
    exposures = sr.stack(options.work, 8, 2048)
    for name, files, share in (
        (f"subtract {size}", pairs["aligned"], 1),
        (f"align {size}", pairs["shifted"], 1),
        ("register 8 x 2048, per exposure", exposures, len(exposures) - 1),
        ("coadd 8 x 2048, per exposure", exposures, len(exposures)),
    ):
        for threads in sorted({1, sr.cores()}):
            script = [sys.executable, sr.HERE / "speed_warm.py", name.split()[0]]
            told = sr.run([*script, str(threads), str(options.repeats), *files]).told
            figures = {k: v / share for k, v in told.items()}
            line(f"{name}, {threads} threads", *costs([figures]))
            made.append({"name": name, "threads": threads, "rounds": [figures]})
    return made


def demo(folder: Path) -> list[Figures]:
    """The demonstration as it runs right after installation, and the second time."""
    made = []
    environment = {"NUMBA_CACHE_DIR": str(folder / "compiled")}
    for name in ("demo, nothing compiled", "demo again"):
        done = sr.run(sr.zogyp("demo", "--quiet", "-o", folder / "demo"), environment)
        line(f"{name} (whole)", *costs([done.figures()]))
        made.append({"name": name, "rounds": [done.figures()]})
    return made


def scaling(options: argparse.Namespace) -> list[Figures]:
    """Time per megapixel of several sizes, with one thread and all cores."""
    made = []
    print("\nPer megapixel, start-up taken off")
    line("", "wall s", "CPU s", "peak MB")
    for size in options.scaling:
        shape = sr.shape_of(size)
        pixels = shape[0] * shape[1] / 1e6
        pair = sr.pair(options.work, shape, "aligned")
        for threads in sorted({1, sr.cores()}):
            rounds = []
            for _ in range(options.repeats):
                sr.have_at_hand(options.at_hand)
                idle, (done, _) = sr.start_up(), subtract(pair, options, threads)
                wall, cpu = (done.wall - idle.wall) / pixels, (done.cpu - idle.cpu) / pixels
                rounds.append({"wall": wall, "cpu": cpu, "peak_mb": done.peak / pixels})
            line(f"{shape[0]} x {shape[1]}, {threads} threads", *costs(rounds))
            made.append({"shape": shape, "threads": threads, "rounds": rounds})
    return made


def parsed() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", nargs="*", default=["2048", "4096", "6000x8000"], metavar="ROWSxCOLUMNS")
    parser.add_argument("--ways", nargs="+", choices=list(sr.WAYS), default=list(sr.WAYS))
    parser.add_argument(
        "--pair", nargs=2, type=Path, metavar=("NEW", "REF"), help="instead of simulated ones"
    )
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=0, help="0 = all cores")
    parser.add_argument("--work", type=Path, help="folder that keeps the pairs; default: none does")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures")
    parser.add_argument("--report", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--also", nargs="+", choices=["align", "coadd", "demo", "warm", "series"], default=[])
    parser.add_argument("--scaling", nargs="*", metavar="ROWSxCOLUMNS")
    parser.add_argument("--at-hand", type=float, default=0.0, metavar="GB", help="before each run")
    options = parser.parse_args()
    if options.scaling == []:
        options.scaling = list(SCALING)
    return options


def measure(options: argparse.Namespace) -> Figures:
    """All that was asked for, printed as it comes."""
    figures: Figures = {"machine": sr.machine(), "threads": options.threads or sr.cores()}
    print(", ".join(f"{key} {value}" for key, value in figures["machine"].items()), flush=True)
    for way in options.ways:
        subtract(sr.pair(options.work, SMALL, way), options, options.threads)
    figures["pairs"] = []
    pairs = [(size, way) for size in options.sizes for way in options.ways]
    for size, way in pairs if options.pair is None else [("given pair", "")]:
        pair = options.pair or sr.pair(options.work, sr.shape_of(size), way)
        figures["pairs"].append(measured(f"{size} {way}".strip(), pair, options))
        show(figures["pairs"][-1])
    figures["also"] = also(options) if options.also else []
    figures["scaling"] = scaling(options) if options.scaling else []
    return figures


def main() -> None:
    """Measure, print, write."""
    options = parsed()
    with tempfile.TemporaryDirectory(prefix="zogyp-speed-") as folder:
        options.work = options.work or Path(folder)
        options.work.mkdir(parents=True, exist_ok=True)
        figures = measure(options)
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
