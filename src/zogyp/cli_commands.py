"""The commands of the command line, one function each: words in, one public call, words out. No science here.

Whatever is slow to import is imported by the command that needs it. ``options`` is ready-made when a
command is called: of its defaults, the file of ``--config`` and the flags.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from zogyp.errors import OptionError, ZogypError

Output = Annotated[Path, Parameter(name=["--output", "-o"])]
Report = Annotated[bool, Parameter(negative="--no-report", show_default=False)]
Compress = Annotated[bool, Parameter(negative=(), show_default=False)]
Flags = Annotated[Any, Parameter(name="*")]


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Common:
    """Flags that every command has."""

    config: Annotated[Path | None, Parameter(help="TOML file of options; flags beat it")] = None
    json: Annotated[
        bool, Parameter(help="print the result as JSON and nothing else", negative=(), show_default=False)
    ] = False
    quiet: Annotated[bool, Parameter(help="print nothing but errors", negative=(), show_default=False)] = (
        False
    )
    debug: Annotated[
        bool, Parameter(help="show where an error came from", negative=(), show_default=False)
    ] = False


PLAIN = Common()


def subtract(
    new: Path,
    ref: Path,
    /,
    *more: Path,
    output: Output = Path("Zoutput"),
    name: str | None = None,
    compress: Compress = False,
    report: Report = True,
    options: Flags = None,
    common: Common = PLAIN,
) -> None:
    """Subtract a reference from new images, aligned first if need be, and find what changed.

    Parameters
    ----------
    new
        New image: FILE.fits, or FILE.fits[extension]; a folder, pattern or @LIST.txt for many.
    ref
        Reference image. If more images follow, the last one is the reference.
    more
        NEW... REF: several new images; the reference is measured once.
    output
        Folder for the results.
    name
        First part of the results' names; default: the name of the new image.
    compress
        Write the planes tile-compressed (.fits.fz), a fifth of the bytes.
    report
        Write an HTML report too.
    """
    import zogyp
    from zogyp import cli_output as out
    from zogyp.survey.filelists import listed

    def write(result: Any) -> dict[str, Path]:
        if report:
            return out.write_all(result, output, name, compress=compress, quiet=common.quiet)
        return dict(result.write(output, name, compress=compress))

    images = [new, ref, *more]
    names = listed(images[:-1])
    if names != [str(new)]:
        _subtract_series(names, images[-1], write, name, options, common)
        return
    with out.progress(common.quiet) as progress:
        result = zogyp.subtract(new, ref, options, progress=progress)
        progress("writing", 1.0)
        files = write(result)
    if common.json:
        out.print_json({**result.summary, "files": files})
    elif not common.quiet:
        out.print_subtraction(result, files)


def _subtract_series(
    names: list[str], ref: Path, write: Any, name: str | None, options: Any, common: Common
) -> None:
    """Many images against one reference."""
    from zogyp import cli_output as out
    from zogyp.survey.series import subtract_series

    if name is not None:
        raise OptionError("name", name, "nothing, with several images: each result has its image's name")
    with out.progress(common.quiet) as progress:
        outcomes = subtract_series(names, ref, options, write=write, progress=progress)
    failed = [o for o in outcomes if o.error is not None]
    if common.json:
        shown = [
            {"image": o.image, "error": o.error, "seconds": o.seconds, **o.figures, "files": o.files}
            for o in outcomes
        ]
        out.print_json({"images": shown, "n_failed": len(failed)})
    elif not common.quiet:
        out.print_series(outcomes)
    if failed:
        many = f"{len(failed)} of {len(outcomes)} images could not be subtracted; the first: "
        raise ZogypError(f"{many}{failed[0].image}: {failed[0].error}")


def align(
    *images: Path,
    to: Path,
    output: Output = Path("Zoutput"),
    transform_only: Annotated[bool, Parameter(negative=(), show_default=False)] = False,
    options: Flags = None,
    common: Common = PLAIN,
) -> None:
    """Bring images onto the pixels of another: by their stars, whatever shift, rotation, scale or mirror.

    Parameters
    ----------
    images
        Images: FILE.fits, or FILE.fits[extension]; @LIST.txt names one a line.
    to
        The image whose pixels and WCS the results have.
    output
        Folder for NAME_aligned.fits of each image; for one image also a file OUT.fits.
    transform_only
        Write the solution (NAME_aligned.json, NAME_aligned.head) and no image.
    """
    from zogyp import cli_output as out
    from zogyp.survey.alignments import align_many, processes
    from zogyp.survey.filelists import listed

    names = listed(images)
    with out.progress(common.quiet) as progress, processes(len(names), options.n_threads) as pool:
        outcomes = align_many(
            names,
            to=to,
            output=output,
            options=options,
            transform_only=transform_only,
            executor=pool,
            progress=progress,
        )
    failed = [o for o in outcomes if o.error is not None]
    if common.json:
        out.print_json({"images": [asdict(o) for o in outcomes], "n_failed": len(failed)})
    elif not common.quiet and (len(outcomes) > 1 or not failed):
        out.print_alignments(outcomes)
    if failed:
        text = f"{failed[0].image}: {failed[0].error}"
        many = f"{len(failed)} of {len(outcomes)} images could not be aligned; the first: "
        raise ZogypError(text if len(outcomes) == 1 else many + text)


def coadd(
    *images: Path,
    output: Annotated[Path | None, Parameter(name=["--output", "-o"])] = None,
    onto: str | None = None,
    add_to: Path | None = None,
    remove_from: Path | None = None,
    options: Flags = None,
    common: Common = PLAIN,
) -> None:
    """Co-add exposures of one field properly: aligned, cleaned, nothing lost for detection or photometry.

    Parameters
    ----------
    images
        Exposures: FILE.fits, or FILE.fits[extension]; a folder; @LIST.txt names one a line.
    output
        File to write; default: coadd.fits, or the coadd that is added to.
    onto
        Whose pixels the coadd has: first (default), best (seeing), or an image FILE.fits.
    add_to
        Coadd to add the exposures to, from what its file holds.
    remove_from
        Coadd to take the exposures out of.
    """
    from zogyp import cli_output as out
    from zogyp.coadd_files import spare
    from zogyp.coaddition import coadd as add
    from zogyp.survey.alignments import processes
    from zogyp.survey.filelists import listed

    names = listed(images)
    path = output or add_to or remove_from or Path("coadd.fits")
    spare(path, [*names, onto or ""])  # before the work
    with out.progress(common.quiet) as progress, processes(len(names), options.n_threads) as pool:
        result = add(
            names,
            onto=onto,
            options=options,
            add_to=add_to,
            remove_from=remove_from,
            executor=pool,
            progress=progress,
        )
        progress("writing", 1.0)
        result.write(path)
    if common.json:
        out.print_json({**result.summary, "files": {"coadd": path}})
    elif not common.quiet:
        out.print_coadd(result, path)


def psf(
    image: Path,
    /,
    *,
    output: Annotated[Path | None, Parameter(name=["--output", "-o"])] = None,
    options: Flags = None,
    common: Common = PLAIN,
) -> None:
    """Model the point spread function of an image and write it as a PSFEx .psf file.

    Parameters
    ----------
    image
        Image: FILE.fits, or FILE.fits[extension].
    output
        File to write; default: the image's name with .psf, in this folder.
    """
    from zogyp import cli_output as out
    from zogyp.io import read, stem
    from zogyp.measure.astromatic import psfex_psf
    from zogyp.measure.exposure import measure
    from zogyp.psf_files import write_psf

    with out.progress(common.quiet) as progress:
        progress("reading", 0.1)
        opened = read(image, options.image)
        progress("PSF", 0.3)
        if options.psf.model == "psfex":
            model = psfex_psf(opened, options.psf, detect=options.detect)
        else:
            model = measure(
                opened,
                background_options=options.background,
                detect=options.detect,
                psf_options=options.psf,
            ).psf
        path = write_psf(output or Path(stem(str(image)) + ".psf"), model)
    told = {
        "image": str(image),
        "file": path,
        "fwhm": model.fwhm,
        "n_stars": model.n_stars,
        "chi2": model.chi2,
        "order": model.order,
        "sampling": model.sampling,
        "size": model.size,
    }
    if common.json:
        out.print_json(told)
    elif not common.quiet:
        out.print_psf(told)


def info(file: Path, /, *, options: Flags = None, common: Common = PLAIN) -> None:
    """Tell what a file holds and what zogyp reads of it.

    Parameters
    ----------
    file
        File: FILE.fits, or FILE.fits[extension].
    """
    from zogyp import cli_output as out
    from zogyp.io import describe

    told = describe(file, options.image)
    if common.json:
        out.print_json(told)
    elif not common.quiet:
        out.print_info(told)


def simulate(directory: Path, /, *, seed: int = 1, options: Flags = None, common: Common = PLAIN) -> None:
    """Make new.fits, ref.fits and truth.ecsv of a sky of known truth.

    Parameters
    ----------
    directory
        Folder to write into; made if it is not there.
    seed
        Number that decides everything random.
    """
    from zogyp import cli_output as out
    from zogyp.simulate import simulate as simulate_sky
    from zogyp.simulate import write_pair

    with out.progress(common.quiet) as progress:
        progress("simulating", 0.2)
        files = write_pair(simulate_sky(options, seed), directory)
    if common.json:
        out.print_json({"seed": seed, "sky": asdict(options), "files": files})
    elif not common.quiet:
        ny, nx = options.shape
        print(f"{ny} x {nx} pixels, {options.n_stars} stars, {options.n_transients} transients, seed {seed}:")
        out.print_files(files)


def demo(
    *,
    output: Output = Path("zogyp-demo"),
    seed: int = 1,
    report: Report = True,
    options: Flags = None,
    common: Common = PLAIN,
) -> None:
    """Simulate a sky, subtract it, and compare the transients found with the truth.

    Parameters
    ----------
    output
        Folder for images, pictures and report.
    seed
        Number that decides everything random.
    report
        Write an HTML report too.
    """
    from zogyp import cli_output as out
    from zogyp.demo import run_demo

    with out.progress(common.quiet) as progress:
        shown = run_demo(output, seed=seed, options=options, progress=progress)
        if report:
            shown.files.update(out.write_report(shown.result, shown.files, quiet=common.quiet))
    if common.json:
        out.print_json({**shown.summary, "files": shown.files})
    elif not common.quiet:
        out.print_demo(shown)
