"""Fit the weights of ``p_real`` to simulated skies with all kinds of defects, and tell how well they do.

    python benchmarks/train_p_real.py make DIR [--scenes N] [--first I]    simulate, subtract, keep features
    python benchmarks/train_p_real.py fit DIR [--write]                    fit, check, write the weights

Each scene draws its instrument, seeing, crowding and defects at random from its number: what is real is
known, the transients and the stars that vary; all else that is found beyond 4.5 sigma is not. Every fourth
scene is kept for the check.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zogyp import __version__
from zogyp.errors import ZogypError
from zogyp.options import DetectOptions, SubtractOptions, TransientOptions
from zogyp.realness import FEATURES, features, probability, terms
from zogyp.simulate import SimulatedPair, psf_stamp, simulate
from zogyp.sky import Side, Sky
from zogyp.subtraction import worked_out

F8 = NDArray[np.float64]
Generator = np.random.Generator
THRESHOLD = 4.5
RIDGE = 2.0  # prior: weights of standardised features are not much larger than one
LEFT_OUT = 4  # every so many scenes are not fitted but checked
HOME = Path(__file__).resolve().parents[1] / "src" / "zogyp" / "data" / "p_real.json"


def draw_sky(rng: Generator) -> Sky:
    """An instrument, a seeing and a field at random."""

    def side() -> Side:
        return Side(
            fwhm=float(np.exp(rng.uniform(np.log(1.9), np.log(6.5)))),
            beta=rng.uniform(2.3, 6),
            ellipticity=rng.uniform(0, 0.2),
            angle=rng.uniform(0, 180),
            variation=rng.uniform(-0.12, 0.12),
            sky=float(10 ** rng.uniform(1.5, 3.5)),
            gain=rng.uniform(0.6, 3),
            read_noise=rng.uniform(2, 12),
            saturation=rng.uniform(2e4, 6e4),
            zero_point=25 + rng.uniform(-0.5, 0.5),
        )

    new, ref = side(), side()
    noise = np.hypot(np.sqrt(new.sky / new.gain), new.read_noise / new.gain) * new.fwhm * 1.5
    aligned = rng.random() < 0.5
    return Sky(
        new=new,
        ref=ref,
        shape=(512, 560),
        n_stars=int(10 ** rng.uniform(1.9, 3.4)),
        flux_min=float(noise),
        flux_max=float(10 ** rng.uniform(5, 6.4)) + 2 * float(noise),
        n_galaxies=int(rng.integers(10, 120)),
        n_transients=40,
        transient_min=float(2 * noise),
        transient_max=float(np.exp(rng.uniform(np.log(30), np.log(400))) * noise),
        hosted=0.4,
        jitter=rng.uniform(0, 0.08),
        shift=(0.0, 0.0) if aligned else (float(rng.uniform(-15, 15)), float(rng.uniform(-15, 15))),
        rotation=0.0 if aligned else float(rng.uniform(-4, 4)),
    )


def add_star(
    data: F8, side: Side, at: tuple[float, float], flux: float, rng: Generator | None = None
) -> None:
    """Add a star's light, and its photons' noise when ``rng`` is given."""
    x, y = at
    column, row = round(x), round(y)
    half = int(4 * side.fwhm) + 2
    ny, nx = data.shape
    if not (half < column < nx - half - 1 and half < row < ny - half - 1):
        return
    light = flux * psf_stamp(side, data.shape, at, 2 * half + 1, (x - column, y - row))
    if rng is not None:
        spread = np.sqrt(np.abs(light) / side.gain)
        light = light + rng.normal(0, 1, light.shape) * spread
    data[row - half : row + half + 1, column - half : column + half + 1] += light


def vary_stars(pair: SimulatedPair, new: F8, rng: Generator) -> list[tuple[float, float, int]]:
    """Stars that have become brighter or fainter: as real as new ones."""
    stars = pair.truth[(pair.truth["kind"] == "star") & (pair.truth["flux_new"] < 2e5)]
    made = []
    for i in rng.choice(len(stars), min(25, len(stars) // 3), replace=False):
        x, y, flux = (float(stars[c][i]) for c in ("x", "y", "flux_new"))
        change = flux * float(rng.choice([-1, 1]) * np.exp(rng.uniform(np.log(0.08), np.log(0.7))))
        add_star(new, pair.sky.new, (x, y), change, rng)
        made.append((x, y, int(np.sign(change))))
    return made


def spoil_pixels(data: F8, sigma: float, rng: Generator) -> None:
    """Cosmic rays, hot, warm and dead pixels, a weak column."""
    ny, nx = data.shape
    for _ in range(25):
        x, y = rng.integers(3, nx - 8), rng.integers(3, ny - 8)
        height = sigma * np.exp(rng.uniform(np.log(5), np.log(150)))
        for k in range(int(rng.choice([1, 1, 1, 2, 3, 5]))):
            slope = rng.integers(0, 2)
            data[y + k * slope, x + k * (1 - slope)] += height * rng.uniform(0.5, 1)
    for _ in range(12):
        data[rng.integers(ny), rng.integers(nx)] -= sigma * np.exp(rng.uniform(np.log(5), np.log(40)))
    data[:, rng.integers(nx)] += sigma * rng.uniform(-2, 2)


def spoil_sky(data: F8, side: Side, sigma: float, rng: Generator) -> None:
    """Ghosts, a trail, bleeding columns of saturated stars."""
    ny, nx = data.shape
    y, x = np.mgrid[:ny, :nx]
    for _ in range(int(rng.integers(0, 6))):
        u, v, width = rng.uniform(0, nx), rng.uniform(0, ny), side.fwhm * rng.uniform(1, 5)
        bump = np.exp(-((x - u) ** 2 + (y - v) ** 2) / (2 * width**2))
        data += sigma * np.exp(rng.uniform(np.log(0.3), np.log(5))) * bump
    if rng.random() < 0.3:
        angle, offset = rng.uniform(0, np.pi), rng.uniform(-100, 100)
        distance = (x - nx / 2) * np.sin(angle) - (y - ny / 2) * np.cos(angle) - offset
        data += sigma * rng.uniform(0.5, 6) * np.exp(-(distance**2) / (2 * (side.fwhm / 2) ** 2))
    rows, columns = np.nonzero(data >= 0.999 * side.saturation)
    if rng.random() < 0.5:
        for row, column in list(zip(rows, columns, strict=True))[::3]:
            length = int(rng.integers(3, 25))
            low, high = max(row - length, 0), min(row + length, ny)
            data[low:high, column] = np.maximum(
                data[low:high, column], rng.uniform(0.05, 0.9) * side.saturation
            )


def spoil_stars(pair: SimulatedPair, new: F8, rng: Generator) -> None:
    """Stars that have moved, bright ones that are wider than faint ones, an uneven flat field."""
    side = pair.sky.new
    stars = pair.truth[pair.truth["kind"] == "star"]
    for i in rng.choice(len(stars), min(15, len(stars) // 4), replace=False):
        x, y, flux = (float(stars[c][i]) for c in ("x", "y", "flux_new"))
        far, turn = side.fwhm * rng.uniform(0.1, 1.0), rng.uniform(0, 2 * np.pi)
        add_star(new, side, (x, y), -flux)
        add_star(new, side, (x + far * np.cos(turn), y + far * np.sin(turn)), flux)
    wider = replace(side, fwhm=side.fwhm * (1 + rng.uniform(0, 0.02)))
    if rng.random() < 0.5:
        for star in stars[stars["flux_new"] > 1e5]:
            share = float(np.clip(star["flux_new"] / 1e6, 0, 1))
            at = (float(star["x"]), float(star["y"]))
            add_star(new, side, at, -share * float(star["flux_new"]))
            add_star(new, wider, at, share * float(star["flux_new"]))
    ny, nx = new.shape
    y, x = np.mgrid[:ny, :nx]
    wave = np.sin(2 * np.pi * (x / nx * rng.uniform(1, 3) + rng.uniform(0, 1))) * np.cos(2 * np.pi * y / ny)
    new -= side.sky
    new *= 1 + rng.uniform(0, 0.02) * wave
    new += side.sky


def make_scene(number: int) -> tuple[F8, NDArray[np.int64]] | None:
    """Features and labels (1 real, 0 not) of one scene's candidates."""
    rng = np.random.default_rng([20_26, number])
    sky = draw_sky(rng)
    pair = simulate(sky, number)
    new, ref = (image.data.astype(np.float64) for image in (pair.new, pair.ref))
    real = [(float(t["x"]), float(t["y"]), int(np.sign(t["flux"]))) for t in pair.transients]
    real += vary_stars(pair, new, rng)
    if rng.random() < 0.85:
        spoil_stars(pair, new, rng)
    for data, side in ((new, sky.new), (ref, sky.ref)):
        sigma = float(np.hypot(np.sqrt(side.sky / side.gain), side.read_noise / side.gain))
        spoil_sky(data, side, sigma, rng)
        spoil_pixels(data, sigma, rng)
        np.minimum(data, side.saturation, out=data)
    # where nobody marks cosmic rays, the table must tell them
    detect = DetectOptions(cosmic_rays=bool(rng.random() < 0.5))
    options = SubtractOptions(transients=TransientOptions(threshold=THRESHOLD), detect=detect)
    images = [replace(i, data=d.astype(np.float32)) for i, d in ((pair.new, new), (pair.ref, ref))]
    result, evidence = worked_out(*images, options)
    table = result.transients
    if len(table) == 0:
        return None
    x, y, sign = (np.array(a) for a in zip(*real, strict=True))
    distance = np.hypot(np.asarray(table["x"])[:, None] - x, np.asarray(table["y"])[:, None] - y)
    right = np.where(np.asarray(table["sign"])[:, None] == sign, distance, np.inf).min(axis=1)
    fwhm = evidence.planes.fwhm
    label = (right < max(1.0, 0.5 * fwhm)).astype(np.int64)
    clear = (label == 1) | (distance.min(axis=1) > 2 * fwhm)  # what lies beside a real one tells nothing
    return features(table)[clear], label[clear]


def make(folder: Path, scenes: Iterator[int]) -> None:
    """Make scenes, one file each; those that are there already are kept."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in scenes:
        path = folder / f"scene{number:04d}.npz"
        if path.exists():
            continue
        try:
            made = make_scene(number)
        except ZogypError as error:
            print(number, "left out:", error, flush=True)
            continue
        if made is not None:
            np.savez(path, features=made[0], label=made[1])
            print(number, "candidates:", len(made[1]), "real:", int(made[1].sum()), flush=True)


def fit_weights(design: F8, label: F8, weight: F8) -> F8:
    """Logistic regression with a Gaussian prior, by Newton's method."""
    weights = np.zeros(design.shape[1])
    prior = np.full(design.shape[1], 1 / RIDGE**2)
    prior[0] = 1e-6
    for _ in range(60):
        p = probability(design, weights)
        slope = design.T @ (weight * (label - p)) - prior * weights
        curve = (design * (weight * p * (1 - p))[:, None]).T @ design + np.diag(prior)
        step = np.linalg.solve(curve, slope)
        weights += step
        if np.abs(step).max() < 1e-8:
            break
    return weights


def check(p: F8, label: F8) -> dict[str, Any]:
    """Brier score, purity and completeness at 0.5, and how often what gets a probability is real."""
    bins = np.clip((p * 10).astype(int), 0, 9)
    reliability = [
        [
            round(float(p[bins == b].mean()), 3),
            round(float(label[bins == b].mean()), 3),
            int((bins == b).sum()),
        ]
        for b in range(10)
        if (bins == b).any()
    ]
    chosen = p > 0.5
    order = np.argsort(p)
    ranks = np.empty(p.size)
    ranks[order] = np.arange(1, p.size + 1)
    n1, n0 = label.sum(), (1 - label).sum()
    return {
        "n": int(label.size),
        "n_real": int(n1),
        "brier": round(float(np.mean((p - label) ** 2)), 4),
        "area_under_roc": round(float((ranks[label == 1].sum() - n1 * (n1 + 1) / 2) / (n1 * n0)), 4),
        "purity": round(float(label[chosen].mean()), 4),
        "completeness": round(float(chosen[label == 1].mean()), 4),
        "reliability": reliability,
    }


def fit(folder: Path, *, write: bool) -> None:
    """Fit on three scenes of four, check on the fourth, and write the weights where asked."""
    files = sorted(folder.glob("scene*.npz"))
    sets: dict[bool, list[tuple[F8, F8]]] = {True: [], False: []}
    for path in files:
        with np.load(path) as held:
            number = int(path.stem.removeprefix("scene"))
            sets[number % LEFT_OUT == 0].append((held["features"], held["label"].astype(np.float64)))
    raw, label = (np.concatenate(parts) for parts in zip(*sets[False], strict=True))
    # no scene of a thousand residuals may outvote the others
    weight = np.concatenate([np.full(len(a), min(1.0, 150 / len(a))) for a, _ in sets[False]])
    mean, scale = raw.mean(axis=0), np.maximum(raw.std(axis=0), 1e-3)
    weights = fit_weights(terms(raw, mean, scale), label, weight)
    print("fitted  ", check(probability(terms(raw, mean, scale), weights), label))
    other, truth = (np.concatenate(parts) for parts in zip(*sets[True], strict=True))
    p = probability(terms(other, mean, scale), weights)
    told = check(p, truth)
    print("left out", told)
    faint = other[:, 0] < np.log(6 / 5)
    print("  of them below 6 sigma", check(p[faint], truth[faint]))
    for name, value in zip(FEATURES, weights[1 : 1 + len(FEATURES)], strict=True):
        print(f"  {name:16s} {value:+.2f}")
    if write:
        model = {
            "features": list(FEATURES),
            "mean": np.round(mean, 6).tolist(),
            "scale": np.round(scale, 6).tolist(),
            "weights": np.round(weights, 6).tolist(),
            "made": {"version": __version__, "scenes": len(files), "threshold": THRESHOLD, "left_out": told},
        }
        HOME.parent.mkdir(exist_ok=True)
        HOME.write_text(json.dumps(model, indent=1) + "\n", encoding="utf-8")
        print("written:", HOME)


def main() -> None:
    """Make scenes, or fit."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=["make", "fit"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--scenes", type=int, default=80)
    parser.add_argument("--first", type=int, default=1)
    parser.add_argument("--write", action="store_true")
    given = parser.parse_args()
    if given.what == "make":
        make(given.folder, iter(range(given.first, given.first + given.scenes)))
    else:
        fit(given.folder, write=given.write)


if __name__ == "__main__":
    main()
