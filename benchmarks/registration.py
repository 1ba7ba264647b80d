"""How well and how fast zogyp, spalipy and astroalign register two images of one sky.

    pip install spalipy astroalign
    OMP_NUM_THREADS=1 NUMBA_NUM_THREADS=1 python benchmarks/registration.py [SCENE ...] [--programs ...]

Without names every scene is run; ``--list`` tells them. Each is a pair of simulated images of 2048 x 2048
pixels, and the mapping between them is known: a similarity (rotation, mirroring, scale, shift) followed by a
distortion of the source's field, 3 px at the middle of an edge (so 8.5 px in the corners, cubic in radius)
plus sinusoids of 0.3 px. The template is not distorted.

All programs get the same pixels and nothing else, and run with their defaults. "spalipy, loose" is spalipy as
one would set it who has read its help and has few stars or much distortion. The map error is that of
``transform(x, y)`` (template pixels to source pixels) on a grid over what both images show, as root mean
square and largest length, in pixels of the source; where the scales differ, in pixels of the template too.
CPU seconds are those of all it takes from pixels to a resampled image, detection included. A map that is
further off than ``WRONG`` is called so: no star would meet itself.

``make(SCENES[name])`` gives the images and the mapping to whoever wants them.
"""

from __future__ import annotations

import argparse
import logging
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

import zogyp
from zogyp.image import Image

F8 = NDArray[np.float64]
Mapping = Callable[[F8, F8], tuple[F8, F8]]  # x, y in the template to x, y in the source [px, 0-based]
Program = Callable[[Image, Image], tuple[Mapping, int]]  # source, template to map and number of pairs

SKY, GAIN, READ_NOISE = 300.0, 1.4, 9.0  # ADU, e-/ADU, e-
FWHM = {"source": 3.3, "template": 2.6}  # px
BETA = 3.0  # of the Moffat profile
REACH = ((1e4, 12), (1e6, 25), (np.inf, 50))  # stars fainter than [ADU] are drawn out to [px]
HOT_PIXELS, COSMIC_RAYS = 1500, 400  # per image
GRID = 129  # places per axis at which maps are compared
WRONG = 5.0  # px of the source; a map with a larger root mean square error is a wrong one


@dataclass(frozen=True)
class Scene:
    """Two images of one sky.

    ``scale`` is how many source pixels are as long as one of the template. ``sparse`` gives, instead of
    ``n_stars`` (in the larger of the two fields), the numbers of stars that both images show, and that
    only the template, and only the source shows. ``fainter`` and ``scatter`` [mag] are of the source.
    """

    seed: int
    rotation: float = 0.0  # degrees
    mirrored: bool = False
    scale: float = 1.0
    shift: tuple[float, float] = (23.4, -11.7)  # px of the source
    n_stars: int = 2500
    sparse: tuple[int, int, int] | None = None
    fluxes: tuple[float, float] = (120.0, 4e6)  # ADU; N(>f) goes as 1/f
    fainter: float = 0.0
    scatter: float = 0.0
    defects: bool = False
    distortion: float = 3.0  # px of the source at the middle of an edge
    wiggle: float = 0.3  # px of the source
    size: int = 2048

    @property
    def matrix(self) -> F8:
        """The similarity without its shift, (2, 2)."""
        c, s = np.cos(np.radians(self.rotation)), np.sin(np.radians(self.rotation))
        flip = np.diag([-1.0 if self.mirrored else 1.0, 1.0])
        out: F8 = self.scale * np.array([[c, -s], [s, c]]) @ flip
        return out

    def mapping(self, x: F8, y: F8) -> tuple[F8, F8]:
        """Where the source shows what the template shows at x, y."""
        centre = (self.size - 1) / 2
        (a, b), (c, d) = self.matrix
        dx, dy = np.asarray(x, dtype=float) - centre, np.asarray(y, dtype=float) - centre
        u = (a * dx + b * dy + self.shift[0]) / (self.size / 2)
        v = (c * dx + d * dy + self.shift[1]) / (self.size / 2)
        radial = self.size / 2 + self.distortion * (u**2 + v**2)
        x_in = centre + radial * u + self.wiggle * np.sin(2.1 * np.pi * v + 0.4)
        y_in = centre + radial * v + self.wiggle * np.sin(1.7 * np.pi * u + 1.1)
        return x_in, y_in


APART = 2048 * (1 - np.sqrt(0.12))  # px along both axes: 12 % of the area is common
FEW = (1e4, 1e6)  # ADU: well exposed
SCENES = {
    "undistorted": Scene(1, rotation=5, distortion=0, wiggle=0),
    "rotation-0": Scene(2),
    "rotation-30": Scene(3, rotation=30),
    "rotation-90": Scene(4, rotation=90),
    "rotation-180": Scene(5, rotation=180),
    "mirrored": Scene(6, rotation=30, mirrored=True),
    "scale-3": Scene(7, rotation=10, scale=3),
    "scale-third": Scene(8, rotation=10, scale=1 / 3),
    "overlap-12": Scene(9, shift=(APART, APART)),
    "stars-24": Scene(10, rotation=10, sparse=(24, 0, 0), fluxes=FEW),
    "common-12": Scene(11, rotation=10, shift=(600, 600), sparse=(12, 12, 12), fluxes=FEW),
    "crowded": Scene(12, rotation=10, n_stars=30000),
    "defects": Scene(13, rotation=10, defects=True),
    "other-filter": Scene(14, rotation=10, fainter=3, scatter=0.5),
}


def inside(x: F8, y: F8, size: int, margin: float = 0.0) -> NDArray[np.bool_]:
    """Whether places lie between the outermost pixel centres, or within ``margin`` px of them."""
    out: NDArray[np.bool_] = (np.minimum(x, y) >= -margin) & (np.maximum(x, y) <= size - 1 + margin)
    return out


def stars(scene: Scene, rng: np.random.Generator) -> tuple[F8, F8, F8]:
    """Places in the template's pixels and fluxes [ADU] of what either image can show."""
    n, centre = scene.size, (scene.size - 1) / 2
    ends = np.array([[-1, -1, 1, 1], [-1, 1, -1, 1]]) * (n / 2 + 80)
    other = np.linalg.solve(scene.matrix, ends - np.array(scene.shift)[:, None])
    low, high = (f(np.hstack([ends, other]), axis=1) + centre for f in (np.min, np.max))
    density = scene.n_stars / max(n, n / scene.scale) ** 2
    count = rng.poisson(density * np.prod(high - low))
    x, y = rng.uniform(low[:, None], high[:, None], (2, count))
    faintest, brightest = scene.fluxes
    flux = faintest / rng.uniform(faintest / brightest, 1, count)
    if scene.sparse is not None:
        x_in, y_in = scene.mapping(x, y)  # nobody is to wonder about stars on the edge
        here, near = inside(x, y, n, -10), inside(x, y, n, 10)
        there, beside = inside(x_in, y_in, n, -10), inside(x_in, y_in, n, 10)
        kinds = (here & there, here & ~beside, there & ~near)
        keep = np.concatenate([np.flatnonzero(k)[:m] for k, m in zip(kinds, scene.sparse, strict=True)])
        x, y, flux = x[keep], y[keep], flux[keep]
    return x, y, flux


def draw(size: int, x: F8, y: F8, flux: F8, fwhm: float) -> F8:
    """Moffat stars, sampled at pixel centres, on an empty image [ADU]."""
    pad = REACH[-1][1] + 2
    wide = size + 2 * pad
    alpha = fwhm / (2 * np.sqrt(2 ** (1 / BETA) - 1))
    image, faintest = np.zeros(wide * wide), 0.0
    for below, reach in REACH:
        drawn = np.flatnonzero((flux >= faintest) & (flux < below) & inside(x, y, size, reach))
        faintest, axis = below, np.arange(-reach, reach + 1)
        for some in np.array_split(drawn, max(1, drawn.size // 2000)):
            i, j = np.rint(x[some]).astype(int), np.rint(y[some]).astype(int)
            dx2 = (axis + (i - x[some])[:, None]) ** 2
            dy2 = (axis + (j - y[some])[:, None]) ** 2
            peak = flux[some] * (BETA - 1) / (np.pi * alpha**2)
            stamps = (1 + (dy2[:, :, None] + dx2[:, None, :]) / alpha**2) ** -BETA * peak[:, None, None]
            at = (axis[:, None] * wide + axis)[None] + ((j + pad) * wide + i + pad)[:, None, None]
            image += np.bincount(at.ravel(), stamps.ravel(), wide * wide)
    return image.reshape(wide, wide)[pad:-pad, pad:-pad]


def spoil(image: F8, rng: np.random.Generator, *, trail: bool) -> None:
    """Add, in place, hot pixels (at the same places in every image: one camera), cosmic rays, a trail."""
    n = len(image)
    camera = np.random.default_rng(99)
    image[tuple(camera.integers(0, n, (2, HOT_PIXELS)))] += 10 ** camera.uniform(2.5, 4.7, HOT_PIXELS)
    for _ in range(COSMIC_RAYS):
        length, angle = rng.exponential(6) + 1, rng.uniform(0, np.pi)
        x, y = rng.uniform(0, n, 2)
        along = np.arange(0, length, 0.5)
        row, column = (y + along * np.sin(angle)).astype(int), (x + along * np.cos(angle)).astype(int)
        there = inside(row, column, n)
        image[row[there], column[there]] += 10 ** rng.uniform(2.5, 4)
    if trail:
        y, x = np.indices(image.shape)
        across = (x - 0.3 * n) * np.sin(0.6) - (y - 0.2 * n) * np.cos(0.6)
        image += 1000 * np.exp(-0.5 * (across / 1.8) ** 2)


def expose(scene: Scene, side: str, x: F8, y: F8, flux: F8) -> Image:
    """One image with its noise, and nothing told about it."""
    rng = np.random.default_rng([scene.seed, list(FWHM).index(side) + 1])
    image = draw(scene.size, x, y, flux, FWHM[side])
    if scene.defects:
        spoil(image, rng, trail=side == "source")
    electrons = rng.poisson((image + SKY) * GAIN) + rng.normal(0, READ_NOISE, image.shape)
    return Image((electrons / GAIN).astype(np.float32), np.zeros(image.shape, np.uint16), name=side)


def make(scene: Scene) -> tuple[Image, Image, Mapping]:
    """Source, template, and the mapping of template pixels to source pixels."""
    rng = np.random.default_rng([scene.seed, 0])
    x, y, flux = stars(scene, rng)
    template = expose(scene, "template", x, y, flux)
    change = scene.fainter + scene.scatter * rng.normal(size=flux.size)
    source = expose(scene, "source", *scene.mapping(x, y), flux * 10 ** (-0.4 * change))
    return source, template, scene.mapping


def ours(source: Image, template: Image) -> tuple[Mapping, int]:
    """zogyp."""
    _, registration = zogyp.align(source, to=template)
    return registration.transform, registration.n_matched


def spalipy(source: Image, template: Image, **settings: Any) -> tuple[Mapping, int]:
    """spalipy with its own detection, by sep.

    Its map is read from the object that it resamples with. The map is an affine one to which a spline is
    added; the spline is fitted in the template's frame and added in the source's.
    """
    from spalipy import Spalipy

    s = Spalipy(source.data, template_data=template.data, output_shape=template.shape, **settings)
    s.align()

    def mapping(x: F8, y: F8) -> tuple[F8, F8]:
        x_in, y_in = s.full_transform(np.array([x, y], dtype=float).reshape(2, 1, -1), 0)
        return x_in.reshape(np.shape(x)), y_in.reshape(np.shape(y))

    return mapping, len(s.source_det_matched)


def spalipy_loose(source: Image, template: Image) -> tuple[Mapping, int]:
    """spalipy for few stars and much distortion. Its cubic spline still needs 16 pairs."""
    settings = {"min_n_match": 8, "max_match_dist": 6, "max_quad_cand": 100, "patience_quad_cand": 20}
    return spalipy(source, template, **settings)


def astroalign(source: Image, template: Image) -> tuple[Mapping, int]:
    """astroalign: a similarity. What its `register` does, in two steps to get at the map."""
    import astroalign as rival

    transform, (pairs, _) = rival.find_transform(source.data, template.data)
    rival.apply_transform(transform, source.data, template.data)

    def mapping(x: F8, y: F8) -> tuple[F8, F8]:
        places = transform.inverse(np.column_stack([np.ravel(x), np.ravel(y)]))
        return places[:, 0].reshape(np.shape(x)), places[:, 1].reshape(np.shape(y))

    return mapping, len(pairs)


PROGRAMS: dict[str, Program] = {
    "zogyp": ours,
    "spalipy": spalipy,
    "spalipy, loose": spalipy_loose,
    "astroalign": astroalign,
}


def errors(mapping: Mapping, truth: Mapping, size: int) -> tuple[float, float]:
    """Root mean square and largest error [px of the source] over what both images show."""
    x, y = np.meshgrid(*[np.linspace(0, size - 1, GRID)] * 2)
    x_true, y_true = truth(x, y)
    common = inside(x_true, y_true, size)
    x_in, y_in = mapping(x[common], y[common])
    off = np.hypot(x_in - x_true[common], y_in - y_true[common])
    return float(np.sqrt(np.mean(off**2))), float(off.max())


def attempt(program: Program, pair: tuple[Image, Image, Mapping]) -> tuple[str, int | None, F8, float]:
    """Outcome, number of pairs, the two errors and CPU seconds of one program."""
    source, template = (replace(image, data=image.data.copy()) for image in pair[:2])
    count, error, seconds = None, np.full(2, np.nan), None
    begun = time.process_time()
    try:
        mapping, count = program(source, template)
        seconds = time.process_time() - begun
        error = np.array(errors(mapping, pair[2], len(template.data)))
        outcome = "ok" if error[0] <= WRONG else "wrong map"
    except Exception as failure:
        outcome = f"failed: {type(failure).__name__}"
    seconds = time.process_time() - begun if seconds is None else seconds
    return outcome, count, error, seconds


def row(name: str, scene: Scene, program: str, pair: tuple[Image, Image, Mapping]) -> str:
    """A row of the table."""
    outcome, count, error, seconds = attempt(PROGRAMS[program], pair)
    rms, worst = ("" if np.isnan(e) else f"{e:.3f}" for e in error)
    if scene.scale != 1 and rms:
        rms, worst = (f"{e:.3f} ({e / scene.scale:.3f})" for e in error)
    pairs = "" if count is None else str(count)
    return f"| {name} | {program} | {outcome} | {pairs} | {rms} | {worst} | {seconds:.1f} |"


def main() -> None:
    """Print a table in Markdown."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("scenes", nargs="*", metavar="SCENE", help=", ".join(SCENES))
    parser.add_argument("--programs", nargs="+", choices=list(PROGRAMS), default=list(PROGRAMS))
    parser.add_argument("--list", action="store_true", help="tell the scenes and end")
    told = parser.parse_args()
    if unknown := set(told.scenes) - set(SCENES):
        parser.error(f"no such scene: {', '.join(sorted(unknown))}. There are: {', '.join(SCENES)}")
    if told.list:
        print("\n".join(f"{name}: {scene}" for name, scene in SCENES.items()))
        return
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    warm = make(Scene(0, size=512, n_stars=400))
    for program in told.programs:
        attempt(PROGRAMS[program], warm)  # imports and compiles what is not yet
    print("| scene | program | outcome | pairs | rms error, px of the source (of the template) | ", end="")
    print("largest | CPU s |\n|---|---|---|---|---|---|---|")
    for name in told.scenes or SCENES:
        pair = make(SCENES[name])
        for program in told.programs:
            print(row(name, SCENES[name], program, pair), flush=True)


if __name__ == "__main__":
    main()
