"""All runs with fakes, decided before the first begins: how many, where, how bright, how they are painted."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zogyp.core.transform import Transform
from zogyp.core.warped import warped
from zogyp.efficiency_summary import ZERO_POINT
from zogyp.errors import OptionError
from zogyp.fakeruns import Run, value_at
from zogyp.fakes import TOTAL, Brush, Ground, ground, places
from zogyp.image import Image
from zogyp.inputs import Given
from zogyp.measure.exposure import Exposure, measure
from zogyp.options import EfficiencyOptions
from zogyp.products import Subtraction
from zogyp.subtraction import Evidence

F8 = NDArray[np.float64]
LOWEST = 3.0  # sigma down to which false positives are counted
RADIUS = 2.0  # px, and half a FWHM if that is more


class Plan:
    """All runs, decided before the first begins."""

    def __init__(
        self,
        given: tuple[Given, Given],
        images: tuple[Image, Image],
        options: EfficiencyOptions,
        plain: Subtraction,
        evidence: Evidence,
    ) -> None:
        self.given, self.images, self.options = given, images, options
        self.plain, self.evidence = plain, evidence
        found = plain.transients
        sure = np.abs(np.asarray(found["snr"], dtype=np.float64)) >= options.transients.threshold
        at = tuple(np.asarray(found[k], dtype=np.float64)[sure] for k in ("x", "y"))
        self.ground: Ground = ground(evidence.new, evidence.ref, (at[0], at[1]))
        self.brushes = _brushes(images, options, plain, evidence)
        self.n = self.ground.capacity(options.fakes)
        self.n_runs = options.fakes.images or max(1, round(TOTAL / self.n))
        self.radius = options.fakes.match_radius or max(RADIUS, 0.5 * self.ground.fwhm)
        self.limit = 5 * float(np.nanmedian(plain.alpha_err))
        self.zero_point = ZERO_POINT if plain.new.zero_point is None else plain.new.zero_point

    def facts(self) -> dict[str, Any]:
        """What was decided, for the summary."""
        return {
            "n_runs": self.n_runs,
            "match_radius": self.radius,
            "fwhm": self.ground.fwhm,
            "n_bright_stars": len(self.ground.stars),
            "n_galaxies": len(self.ground.galaxies),
            "lowest_threshold": min(self.options.transients.threshold, LOWEST),
        }

    def runs(self, folder: Path | None) -> list[Run]:
        """Every run with its own random numbers, which do not depend on how many there are."""
        seeds = np.random.SeedSequence(self.options.fakes.seed).spawn(self.n_runs)
        base = self._digest()
        return [self._run(i, seed, base, folder) for i, seed in enumerate(seeds, start=1)]

    def _run(self, number: int, seed: np.random.SeedSequence, base: str, folder: Path | None) -> Run:
        where, photons = seed.spawn(2)
        rng = np.random.default_rng(where)
        x, y, names = places(self.ground, self.options.fakes, self.n, rng)
        if x.size == 0:
            allowed = "of images with room for a fake that is not beside a candidate"
            raise OptionError("images", self.images[0].name, allowed)
        fakes = self.options.fakes
        mag = rng.uniform(-fakes.bright, fakes.faint, x.size)
        size = self.limit * 10 ** (-0.4 * mag)
        sign = rng.permutation(np.arange(x.size) % 2) * 2 - 1
        m = self.evidence.matched
        up, down = sign > 0, sign < 0
        # where the reference's stars lie a little off those of the new image, so do its fakes
        u, v = x + m.dx.grid(x, y), y + m.dy.grid(x, y)
        ratio = m.flux_ratio.grid(x, y)
        kernel, (one, other) = self.options.align.kernel, self.brushes
        own = size * _counts(one, self.evidence.new, self.images[0], kernel, (x, y))
        its = size * ratio * _counts(other, self.evidence.ref, self.images[1], kernel, (u, v))
        spots = (np.stack([x, y, own])[:, up], np.stack([u, v, its])[:, down])
        ra, dec = _sky(self.plain.new.wcs, x, y)
        columns = {"x": x, "y": y, "ra": ra, "dec": dec, "sign": sign, "place": names}
        columns |= {"true_flux": sign * size, "true_mag": self.zero_point - 2.5 * np.log10(size)}
        columns["predicted_snr"] = sign * size / value_at(self.plain.alpha_err, x, y)
        return Run(
            number=number,
            images=self.given,
            options=replace(self.options, threads=1) if self.n_runs > 1 else self.options,
            brushes=self.brushes,
            fakes=columns,
            spots=spots,
            seed=photons,
            radius=self.radius,
            digest=hashlib.sha256(f"{base} {number}".encode()).hexdigest(),
            path=None if folder is None else folder / f"run_{number:04d}.ecsv",
        )

    def _digest(self) -> str:
        """Of pixels, masks, PSFs and options: what decides the fakes and what is found of them."""
        from zogyp import __version__

        told = asdict(self.options)
        del told["threads"], told["fakes"]["images"]  # neither changes a run
        total = hashlib.sha256(repr((__version__, sorted(told.items()))).encode())
        seen = (self.evidence.new.image, self.evidence.ref.image)
        for image, here in zip(self.images, seen, strict=True):
            psf = None if image.psf is None else image.psf.basis
            for plane in (image.data, image.mask, here.mask, image.variance, psf):
                total.update(b"-" if plane is None else np.ascontiguousarray(plane).tobytes())
            total.update(repr((image.gain, image.read_noise, image.saturation, image.zero_point)).encode())
        return total.hexdigest()


def _brushes(
    images: tuple[Image, Image], options: EfficiencyOptions, plain: Subtraction, evidence: Evidence
) -> tuple[Brush, Brush]:
    """How to paint each image: the one that was resampled by what it shows in its own pixels."""
    told = plain.summary["alignment"]
    moved = (1 if options.grid == "new" else 0) if told["resampled"] else -1
    brushes = []
    for i, (image, seen) in enumerate(zip(images, (evidence.new, evidence.ref), strict=True)):
        if i != moved:
            brushes.append(Brush(seen.psf, seen.noise.gain, seen.image.saturation))
            continue
        own = _measured(image, options)
        transform = Transform.from_dict(told["transform"])
        brushes.append(Brush(own.psf, own.noise.gain, own.image.saturation, transform))
    return brushes[0], brushes[1]


def _measured(image: Image, options: EfficiencyOptions) -> Exposure:
    """An image in its own pixels, as a subtraction would measure it."""
    psf = image.psf
    if psf is None and options.psf.model == "psfex":
        from zogyp.measure.astromatic import psfex_psf  # only where asked

        psf = psfex_psf(image, options.psf, detect=options.detect)
    return measure(
        image,
        background_options=options.background,
        detect=options.detect,
        psf_options=options.psf,
        psf=psf,
    )


def _counts(brush: Brush, seen: Exposure, image: Image, kernel: str, at: tuple[F8, F8]) -> F8:
    """Counts in the image's own pixels for one count on the grid of the results, at places (x, y) of it.

    Flux is conserved, but the PSFs before and after resampling were measured apart, and in a crowd the
    latter was corrected: a fake of the one has to be worth one count to a filter with the other.
    """
    x, y = at
    if brush.transform is None:
        return np.ones(x.size)
    moved = warped(brush.psf, brush.transform, seen.image.shape, kernel, into=image.shape)
    worth = np.ones(x.size)
    for i, place in enumerate(zip(x, y, strict=True)):
        used = seen.psf.at(*(float(v) for v in place))
        painted = moved.at(*(float(v) for v in place), size=used.shape[0])
        worth[i] = (painted * used).sum() / (used**2).sum()
    return 1 / worth


def _sky(wcs: Any, x: F8, y: F8) -> tuple[F8, F8]:
    """Right ascension and declination [deg, ICRS]; NaN without celestial coordinates."""
    if wcs is None or not wcs.has_celestial:
        return np.full(x.size, np.nan), np.full(x.size, np.nan)
    place = wcs.celestial.pixel_to_world(x, y).icrs
    return np.asarray(place.ra.deg), np.asarray(place.dec.deg)
