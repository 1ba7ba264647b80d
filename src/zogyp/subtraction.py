"""Subtract a reference from a new image: the story on one page."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from zogyp.core.masks import has, marked
from zogyp.core.planes import Store
from zogyp.core.threads import in_pairs
from zogyp.differencing import Planes, halved, of_halves, significance
from zogyp.errors import OptionError
from zogyp.fluxscale import Match, match
from zogyp.image import Flag, Image
from zogyp.inputs import opened
from zogyp.measure.exposure import Exposure, measure
from zogyp.measure.firstlook import FirstLook, look
from zogyp.onegrid import Pair, bring_together
from zogyp.options import SubtractOptions, bytes_of
from zogyp.products import Subtraction
from zogyp.psfmatching import match_psfs
from zogyp.repair import final_mask
from zogyp.stopwatch import Stopwatch
from zogyp.summary import summarise
from zogyp.trails import trails
from zogyp.transients import find
from zogyp.vetting import vet

Progress = Callable[[str, float], None]
MEASURED_BY = ("ref", "background", "detect", "psf")  # options that decide what is measured of a reference
CROWD_ROUNDS = 2  # of matching the PSFs of a crowd to each other by a difference


def subtract(
    new: str | Path | Image,
    ref: str | Path | Image | Reference,
    options: SubtractOptions = SubtractOptions(),
    *,
    executor: Executor | None = None,
    progress: Progress | None = None,
) -> Subtraction:
    """Subtract a reference from a new image by proper image subtraction.

    Parameters
    ----------
    new, ref : path or Image
        A path may name an extension: ``file.fits[SCI]``. If they do not share their pixels the reference is
        resampled onto the new image's, or the other way round (``options.grid``). The PSF of an image is
        that of its PSF file (``options.new.psf``, ``options.ref.psf``), else the one it came with
        (`Image.psf`), else measured; a PSF that is known is resampled with its image.
        Many images are subtracted from one `Reference` in less time.
    options : SubtractOptions
        Everything that can be tuned; the defaults serve.
    executor : concurrent.futures.Executor or None
        Works on the tiles instead of threads of our own.
    progress : callable or None
        Called with the name of the stage and the fraction done, 0…1, of the whole.

    Returns
    -------
    Subtraction

    Raises
    ------
    InputError
        A file or its pixels cannot be used.
    RegistrationError
        The images do not share their pixels, and no map between them that can be believed was found.
    ShapeError
        The images differ in shape and ``options.align.mode`` is "none".
    StarsError
        Too few stars to measure a PSF or the flux ratio, and none given.
    """
    return worked_out(new, ref, options, executor=executor, progress=progress, spend=True)[0]


@dataclass(frozen=True)
class Evidence:
    """What a subtraction was made of.

    Attributes
    ----------
    new, ref : Exposure
        All that was measured on the two images, on the grid of the results, with the PSFs that were used.
    matched : Match
        Ratio of their flux scales, and the stars of both.
    planes : Planes
    """

    new: Exposure
    ref: Exposure
    matched: Match
    planes: Planes


class Reference:
    """A reference that many images are subtracted from: read, looked at and measured once.

    Parameters
    ----------
    given : path or Image
    options : SubtractOptions
        As for `subtract`. Those of reference, background, detection and PSF must be the same for all images.

    Raises
    ------
    InputError
        The file or its pixels cannot be used.
    """

    def __init__(self, given: str | Path | Image, options: SubtractOptions = SubtractOptions()) -> None:
        image = opened(given, options.ref, _store(options))
        self.options = options
        self.look = look(image, background_options=options.background, detect=options.detect)

    @cached_property
    def exposure(self) -> Exposure:
        """All that is measured on it, on its own pixels."""
        return _measure(self.look, self.options, spend=False)

    def measured(self, seen: FirstLook) -> Exposure:
        """The exposure of a look: its own, or one of its pixels resampled with the PSF that is known."""
        if seen is self.look:
            return self.exposure
        return _measure(seen, self.options)


def worked_out(
    new: str | Path | Image,
    ref: str | Path | Image | Reference,
    options: SubtractOptions = SubtractOptions(),
    *,
    executor: Executor | None = None,
    progress: Progress | None = None,
    spend: bool = False,
) -> tuple[Subtraction, Evidence]:
    """`subtract`, and the evidence beside the result; to ``spend`` its pixels saves four planes of memory."""
    watch = Stopwatch(progress)
    known = ref if isinstance(ref, Reference) else None
    with watch.stage("read", 0.0):
        image_n, image_r = _opened_both(new, ref, options)
    with watch.stage("align", 0.05):
        pair = bring_together(image_n, image_r, options, None if known is None else known.look)
    del image_n, image_r  # and with them the planes that nobody needs any more
    with watch.stage("measure", 0.2):
        exposures = [*_measure_both(pair, options, known)]
    alignment, notes = _alignment(pair), pair.notes
    del pair
    with watch.stage("match", 0.55):
        matched = match(*exposures, flux_ratio=options.flux_ratio, flux_order=options.flux_order)
    with watch.stage("subtract", 0.58):
        matched, planes = _subtracted(
            exposures,
            matched,
            options,
            executor,
            lambda done: watch.tell("subtract", 0.58 + 0.3 * done),
            spend,
        )
    with watch.stage("transients", 0.9):
        exposure_n, exposure_r = exposures
        evidence = Evidence(exposure_n, exposure_r, matched, planes)
        result = _judge(evidence, options)
    summary = summarise(result, (exposure_n, exposure_r), matched, planes, options, watch)
    summary |= {"alignment": alignment, "notes": [*notes, *summary["notes"]]}
    watch.tell("done", 1.0)
    return replace(result, summary=summary), evidence


def _subtracted(
    exposures: list[Exposure],
    matched: Match,
    options: SubtractOptions,
    executor: Executor | None,
    progress: Callable[[float], None],
    spend: bool,
) -> tuple[Match, Planes]:
    """The planes of the difference; in a crowd by PSFs that differences by earlier ones have corrected.

    The two ``exposures`` are replaced by those that it was made of, without their pixels if these are spent.
    """
    new, ref = exposures
    crowds = new.crowded and ref.crowded and not (new.psf_given and ref.psf_given)
    rounds = CROWD_ROUNDS if crowds and options.psf_match else 0
    for i in range(rounds + 1):

        def told(done: float, i: int = i) -> None:
            progress((i + done) / (rounds + 1))

        halves, ledger = halved(new, ref, matched, options)
        if spend and i == rounds:
            new, ref = new.without_pixels(), ref.without_pixels()
        exposures[:] = new, ref
        planes = of_halves(halves, ledger, matched, options, executor=executor, progress=told)
        if i < rounds:
            new, ref, matched = match_psfs(new, ref, matched, planes)
    return matched, planes


def _alignment(pair: Pair) -> dict[str, Any]:
    """How the images came onto one grid, as plain numbers."""
    if pair.registration is None:
        return {"resampled": False, "way": "taken to share the grid"}
    return {"resampled": pair.moved, **pair.registration.figures()}


def _opened_both(
    new: str | Path | Image, ref: str | Path | Image | Reference, options: SubtractOptions
) -> tuple[Image, Image]:
    """Read the two images."""
    store = _store(options)
    if isinstance(ref, Reference):
        for name in MEASURED_BY:
            if getattr(options, name) != getattr(ref.options, name):
                what = "the same as the reference was measured with; give both the same options"
                raise OptionError(name, getattr(options, name), what)
        return opened(new, options.new, store), ref.look.image
    two = ((new, options.new), (ref, options.ref))
    return in_pairs(lambda one: opened(*one, store), two, options.n_threads)


def _store(options: SubtractOptions) -> Store:
    """Where the planes of a subtraction are kept."""
    return Store(None if options.memory is None else bytes_of(options.memory), options.scratch)


def _measure_both(pair: Pair, options: SubtractOptions, known: Reference | None) -> tuple[Exposure, Exposure]:
    """Measure the two images."""

    def measured(is_new: bool) -> Exposure:
        if is_new:
            return _measure(pair.new, options)
        return _measure(pair.ref, options) if known is None else known.measured(pair.ref)

    return in_pairs(measured, (True, False), options.n_threads)


def _measure(seen: FirstLook, options: SubtractOptions, *, spend: bool = True) -> Exposure:
    """Measure one image, with the PSF that it came with, or that of another program where asked."""
    psf = seen.image.psf
    if psf is None and options.psf.model == "psfex":
        from zogyp.measure.astromatic import psfex_psf  # only where asked

        psf = psfex_psf(seen.image, options.psf, detect=options.detect)
    return measure(
        seen,
        background_options=options.background,
        detect=options.detect,
        psf_options=options.psf,
        psf=psf,
        spend=spend,
    )


def _judge(evidence: Evidence, options: SubtractOptions) -> Subtraction:
    """Significance, flux and mask at every pixel, and the transients."""
    new, ref, matched, planes = evidence.new, evidence.ref, evidence.matched, evidence.planes
    mask = final_mask(new, ref, planes.fwhm, planes.reach)
    saturated = has(mask, Flag.SATURATED | Flag.SATURATED.ref())
    spilt = trails(planes.D, saturated, ~new.image.good | ~ref.image.good, planes.fwhm)
    # which image a trail is of nobody can tell
    lost = Flag.BAD | Flag.UNJUDGED
    mask = marked(mask, spilt, lost | lost.ref())
    unjudged = has(mask, Flag.UNJUDGED | Flag.UNJUDGED.ref())
    scorr, alpha, alpha_err = significance(planes, unjudged, options.n_threads)
    d, s = planes.D, planes.S
    table = find(
        scorr,
        alpha,
        alpha_err,
        mask,
        options.transients,
        fwhm=planes.fwhm,
        wcs=new.image.wcs,
        zero_point=new.image.zero_point,
    )
    assert planes.kernels_at is not None
    table = vet(table, (d, planes.V, mask), planes.kernels_at, (new, ref, matched), planes.fwhm)
    wanted = options.transients
    if wanted.catalog is not None:
        from zogyp.crossmatch import cross_match  # only where asked

        radius = wanted.catalog_radius * planes.fwhm
        table = cross_match(table, wanted.catalog, wcs=new.image.wcs, name=new.image.name, radius=radius)
    ny, nx = new.image.shape
    psf_new, psf_ref = (e.psf.at((nx - 1) / 2, (ny - 1) / 2).astype(np.float32) for e in (new, ref))
    return Subtraction(
        psf_new=psf_new,
        psf_ref=psf_ref,
        D=d,
        S=s,
        Scorr=scorr,
        alpha=alpha,
        alpha_err=alpha_err,
        mask=mask,
        psf=planes.P_D,
        transients=table,
        new=new.image,
        ref=ref.image,
    )
