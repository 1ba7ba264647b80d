"""What a subtraction gives, and how it is written to files."""

from __future__ import annotations

import io as text_io
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from zogyp import io
from zogyp.errors import OptionError
from zogyp.headers import put, quiet
from zogyp.image import FloatImage, Image, MaskImage
from zogyp.provenance import name_bits, put_note, put_options, spare

if TYPE_CHECKING:
    from astropy.table import Table

Plane = tuple[str, NDArray[Any], str, str]  # product, pixels, unit, description
WRITERS = 4  # planes written at a time; byte swapping and the disk overlap

# Figures of the summary that become cards: card, where in the summary, comment.
CARDS: tuple[tuple[str, tuple[str, ...], str], ...] = (
    ("CREATOR", ("version",), "version of zogyp"),
    ("NEWFILE", ("inputs", "new", "path"), "new image"),
    ("REFFILE", ("inputs", "ref", "path"), "reference image"),
    ("F_N", ("F_n",), "flux scale of the new image"),
    ("F_R", ("F_r",), "flux scale of the reference"),
    ("F_R_ERR", ("F_r_err",), "error of F_R"),
    ("FLUXORD", ("flux_order",), "order of the flux scale's polynomial"),
    ("SIGMA_N", ("sigma_n",), "background noise of the new image"),
    ("SIGMA_R", ("sigma_r",), "background noise of the reference"),
    ("REGN", ("registration", "n_matched"), "stars matched"),
    ("REGRMSX", ("registration", "rms_x"), "[pix] rms of the registration in x"),
    ("REGRMSY", ("registration", "rms_y"), "[pix] rms of the registration in y"),
    ("REGDX", ("registration", "dx"), "[pix] mean shift in x"),
    ("REGDY", ("registration", "dy"), "[pix] mean shift in y"),
    ("FWHM_N", ("inputs", "new", "fwhm"), "[pix] seeing of the new image"),
    ("FWHM_R", ("inputs", "ref", "fwhm"), "[pix] seeing of the reference"),
    ("SKY_N", ("inputs", "new", "background"), "background of the new image"),
    ("SKY_R", ("inputs", "ref", "background"), "background of the reference"),
    ("GAIN_N", ("inputs", "new", "gain"), "[e-/ADU] gain of the new image"),
    ("GAIN_R", ("inputs", "ref", "gain"), "[e-/ADU] gain of the reference"),
    ("SCORRMAD", ("scorr_mad",), "robust spread of S_corr, 1 is right"),
    ("SCORRSTD", ("scorr_std",), "plain spread of S_corr, transients and all"),
    ("NBRCORR", ("neighbour_corr",), "correlation of neighbours in D, 0 is right"),
    ("LIMFLUX", ("limiting_flux",), "median flux of 5 sigma"),
    ("LIMMAG", ("limiting_mag",), "[mag] median magnitude of 5 sigma"),
    ("VERDICT", ("certificate", "verdict"), "good, or doubtful: see the summary's reasons"),
    ("NTRANS", ("n_transients",), "transients found"),
    ("MASKFRAC", ("masked_fraction",), "fraction of pixels not judged"),
)


@dataclass(frozen=True)
class Subtraction:
    """The difference of two images, its significance, and the transients in it.

    All planes are on the grid of the new image, shape (ny, nx), float32; NaN where a pixel
    cannot be judged, with the reason in ``mask`` (bits of `zogyp.image.Flag`, the new image's
    in the low byte, the reference's shifted by eight).

    Attributes
    ----------
    D : difference of white noise with unit variance; ``D / F_D`` is in flux units.
    S : score image, not normalised.
    Scorr : significance [sigma].
    alpha, alpha_err : PSF flux of a transient at each pixel and its error [units of the new image].
    mask : uint16 bits.
    psf : (k, k) PSF of D at the image's centre, unit sum.
    transients : table of peaks beyond the threshold.
    new : the new image as it was read (pixels, mask, wcs, header).
    ref : the reference on the new image's grid.
    psf_new, psf_ref : (k, k) PSFs of the two images at the image's centre, unit sum.
    summary : JSON-ready figures: inputs, options, flux scale, noise, registration, timings, ...
    """

    D: FloatImage
    S: FloatImage
    Scorr: FloatImage
    alpha: FloatImage
    alpha_err: FloatImage
    mask: MaskImage
    psf: NDArray[np.float32]
    transients: Table
    new: Image
    ref: Image
    summary: dict[str, Any] = field(default_factory=dict)
    psf_new: NDArray[np.float32] | None = None
    psf_ref: NDArray[np.float32] | None = None

    def write(
        self,
        directory: str | os.PathLike[str] = "Zoutput",
        name: str | None = None,
        *,
        compress: bool = False,
        progress: Callable[[str, float], None] | None = None,
    ) -> dict[str, Path]:
        """Write all products; either all of them get their names, or none.

        Parameters
        ----------
        directory : str or path
            Made when it does not exist.
        name : str
            What the files' names begin with; default: the new image's name without its endings.
        compress : bool
            Write the planes tile-compressed, as ``fpack`` does: ``NAME_D.fits.fz`` ..., a fifth of the bytes.
            Floats then carry a noise of a fiftieth of their own.
        progress : callable
            Called with ("write", fraction of the files written).

        Returns
        -------
        dict
            Paths by product: ``D, S, Scorr, Fpsf, Fpsferr, mask, psf`` (``NAME_D.fits`` ...),
            ``transients`` (``.ecsv``) and ``summary`` (``.json``).

        Raises
        ------
        OptionError
            The name is empty or holds a path separator, or a file of that name is an input.
        OutputError
            The folder cannot be written to or is full.
        """
        name = file_name(io.stem(self.new.name) if name is None else name)
        header = self.provenance()
        planes = list(self._planes())
        files = {product: f"{name}_{product}.fits" for product, *_ in planes}
        if compress:
            files |= {product: f"{file}.fz" for product, file in files.items() if product != "psf"}
        files |= {"transients": f"{name}_transients.ecsv", "summary": f"{name}_summary.json"}
        self._spare_inputs(Path(directory) / file for file in files.values())
        with io.staging(directory) as stage:
            with ThreadPoolExecutor(WRITERS) as pool:
                jobs = [pool.submit(self._write_plane, stage / files[p[0]], p, header) for p in planes]
                for i, job in enumerate(jobs, start=1):
                    job.result()
                    if progress is not None:
                        progress("write", i / (len(jobs) + 1))
            io.write_text(stage / files["transients"], self._table_text())
            io.write_json(stage / files["summary"], self.summary | {"files": files})
        if progress is not None:
            progress("write", 1.0)
        return {product: Path(directory) / file for product, file in files.items()}

    def _spare_inputs(self, targets: Iterator[Path]) -> None:
        """Refuse to replace a file that the subtraction was made of: an image, PSF, noise, weight or mask."""
        options = self.summary.get("options", {})
        given = [self.new.path, self.ref.path, options.get("mask")]
        for side in ("new", "ref"):
            given += [options.get(side, {}).get(kind) for kind in ("psf", "noise", "weight", "mask")]
        spare(targets, given, "name")

    def _planes(self) -> Iterator[Plane]:
        """Product, pixels, unit and description of each image."""
        unit = str(self.new.header.get("BUNIT", "adu")) if self.new.header is not None else "adu"
        yield "D", self.D, "", "proper difference: white noise of unit variance"
        yield "S", self.S, "", "score: D filtered with its PSF, not normalised"
        yield "Scorr", self.Scorr, "sigma", "significance of a transient, all noise counted"
        yield "Fpsf", self.alpha, unit, "PSF flux of a transient at each pixel"
        yield "Fpsferr", self.alpha_err, unit, "error of the PSF flux"
        yield "mask", self.mask.astype(np.uint16, copy=False), "", "why a pixel is not to be trusted (bits)"
        yield "psf", self.psf, "", "PSF of D at the image's centre, unit sum"

    def _write_plane(self, path: Path, plane: Plane, header: fits.Header) -> None:
        """Write one image with its own cards."""
        product, data, unit, what = plane
        with quiet():  # one thread at a time: astropy parses the cards of a header when they are first read
            own = header.copy()
            own.remove("BUNIT", ignore_missing=True, remove_all=True)
        put(own, "PRODUCT", product, what)
        if unit:
            put(own, "BUNIT", unit, "unit of the pixels")
        if product == "mask":
            for image, shift in (("NEW_", 0), ("REF_", 8)):
                name_bits(own, image, shift)
        io.write_image(path, data, own, None if product == "psf" else self.new.wcs)

    def provenance(self) -> fits.Header:
        """The new image's cards, and how the products came to be."""
        header = fits.Header() if self.new.header is None else self.new.header.copy()
        for card, where, comment in CARDS:
            value: Any = self.summary
            for key in where:
                value = value.get(key) if isinstance(value, dict) else None
            if value is not None:
                put(header, card, value, comment)
        put(header, "DATE", datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S"), "when this file was made, UTC")
        put_options(header, self.summary.get("options", {}))
        for note in self.summary.get("notes", []):
            put_note(header, note)
        return header

    def _table_text(self) -> str:
        """The transients as ECSV."""
        buffer = text_io.StringIO()
        with quiet():
            self.transients.write(buffer, format="ascii.ecsv")
        return buffer.getvalue()


def file_name(name: str) -> str:
    """The name, if files can begin with it.

    Raises
    ------
    OptionError
    """
    if not name.strip() or any(c in name for c in "/\\\0"):
        raise OptionError("name", name, "what files' names begin with, without '/' and '\\'")
    return name
