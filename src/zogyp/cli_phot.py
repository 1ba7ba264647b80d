"""The command ``zogyp phot``: forced photometry of images against one reference."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from zogyp.cli_commands import PLAIN, Common, Flags
from zogyp.errors import MissingExtraError, OptionError


def phot(
    *images: Path,
    at: Path,
    output: Annotated[Path | None, Parameter(name=["--output", "-o"])] = None,
    options: Flags = None,
    common: Common = PLAIN,
) -> None:
    """Measure the flux at given places in images, against the last one: forced photometry, light curves.

    Parameters
    ----------
    images
        New images, and last the reference: FILE.fits, or FILE.fits[extension]; @LIST.txt names one a line.
    at
        Table of the places: columns ra and dec [deg], or x and y [px of the reference, 0-based]; id, name.
    output
        File to write, .ecsv or .csv; default: NAME_phot.ecsv, of several images lightcurve.ecsv.
    """
    from zogyp import cli_output as out
    from zogyp.forced import photometry
    from zogyp.io import stem
    from zogyp.provenance import spare
    from zogyp.survey.alignments import processes
    from zogyp.survey.filelists import listed

    names = listed(images)
    if len(names) < 2:
        raise OptionError("images", ", ".join(names), "one new image at least, and last the reference")
    *new, ref = names
    default = f"{stem(new[0])}_phot.ecsv" if len(new) == 1 else "lightcurve.ecsv"
    path = Path(default) if output is None else output / default if os.path.isdir(output) else output
    if path.suffix.lower() not in (".ecsv", ".csv"):
        raise OptionError("output", str(output), "a folder, or a file ….ecsv or ….csv")
    picture = path.with_suffix(".png")
    spare([path, picture], [*names, at])  # before the work
    with out.progress(common.quiet) as progress, processes(len(new), options.n_threads) as pool:
        result = photometry(new, ref, at, options, executor=pool, progress=progress)
        progress("writing", 1.0)
        files = {"table": result.write(path)}
        try:
            from zogyp.show.lightcurves import save

            files["picture"] = save(result, picture)
        except MissingExtraError as error:
            if not common.quiet:
                out.note(f"no picture: {error}")
    if common.json:
        out.print_json(result.plain() | {"files": files})
    elif not common.quiet:
        out.print_photometry(result, files)
