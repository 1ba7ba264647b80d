"""SExtractor and PSFEx, the real programs, as alternatives to our own detection and PSF model.

Each run has a temporary folder of its own with its inputs and a copy of the configuration files
of `config_folder`; the programs are started in it without a shell and see relative names only, so
neither the working directory nor odd characters in a path matter.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.table import Table
from numpy.typing import NDArray

from zogyp.core.psfmodel import PSF
from zogyp.errors import InputError, PixelError, ProgramError, StarsError
from zogyp.image import Flag, FloatImage, Image
from zogyp.measure.sources import Sources, seeing
from zogyp.options import DetectOptions, PSFOptions
from zogyp.psf_files import read_psf

F8 = NDArray[np.float64]
Bool = NDArray[np.bool_]

SEXTRACTOR = ("source-extractor", "sextractor", "sex")  # the names it is installed under
PSFEX = ("psfex",)
INSTALL = (
    "is not installed. Install it (Debian: apt-get install source-extractor psfex) "
    "or leave --detector and --psf at their defaults, which need no program."
)
AUTO_STEP = 0.2128  # PSFEx's own step [FWHM] where PSF_SAMPLING is 0
SATURATED = 4  # bit of SExtractor's FLAGS
NO_LIMIT = 1e29  # a saturation level that nothing reaches
FAINTEST = 20.0  # signal to noise of a PSF star


def config_folder() -> Path:
    """Folder with the editable ``default.sex``, ``default.param``, ``default.conv``, ``psfex.conf``."""
    return Path(__file__).resolve().parents[1] / "config"


def find_program(names: tuple[str, ...]) -> str:
    """The first of these programs that is on the path.

    Raises
    ------
    ProgramError
        None is.
    """
    for name in names:
        found = shutil.which(name)
        if found:
            return found
    raise ProgramError(names[0], INSTALL)


def sextractor_catalog(image: Image, options: DetectOptions = DetectOptions()) -> Table:
    """Sources of an image by SExtractor.

    Parameters
    ----------
    image : Image
        With its sky on or off. Unusable pixels weigh nothing; a variance, gain and saturation are
        passed on where known.
    options : DetectOptions
        The threshold is in sigma of the filtered sky, whatever the filter of ``default.conv``.

    Returns
    -------
    Table
        Brightest first: x, y [px, 0-based], flux, flux_err, peak [ADU], fwhm, radius (half-light)
        [px], ellipticity, snr, flags (SExtractor's), mask_flags (bits of `Flag` within the source).

    Raises
    ------
    ProgramError
        SExtractor is not installed or failed; its own words are in the message.
    PixelError
        No usable pixel.
    """
    with _folder(image) as folder:
        rows = _extract(folder, image, options)
    return _as_table(rows)


def sextractor_sources(
    data: FloatImage, sigma: FloatImage, bad: Bool, options: DetectOptions = DetectOptions()
) -> Sources:
    """Detect sources by SExtractor in a sky-free image: takes and gives what `find_sources` does.

    Parameters
    ----------
    data : ndarray, float32, (ny, nx)
        Pixels with the background taken off [ADU].
    sigma : ndarray, float32, (ny, nx)
        Standard deviation of the sky [ADU].
    bad : ndarray, bool, (ny, nx)
        Pixels not to be trusted; a source on one of them counts as saturated.

    Returns
    -------
    Sources
        Brightest first.
    """
    mask = np.where(bad, np.uint16(Flag.BAD), np.uint16(0))
    # bad pixels stay visible, as for sep: a saturated core must not look like a hole
    image = Image(data=data, mask=np.zeros_like(mask), variance=np.square(sigma, dtype=np.float32))
    with _folder(image) as folder:
        fits.writeto(folder / "flag.fits", mask.astype(np.int32), overwrite=True)
        rows = _extract(folder, image, options, ["-BACK_TYPE", "MANUAL", "-BACK_VALUE", "0"])
    return as_sources(_as_table(rows))


def as_sources(table: Table) -> Sources:
    """A table of `sextractor_catalog` as `Sources`."""

    def column(name: str) -> F8:
        return np.asarray(table[name], dtype=np.float64)

    return Sources(
        x=column("x"),
        y=column("y"),
        flux=column("flux"),
        flux_err=column("flux_err"),
        peak=column("peak"),
        radius=column("radius"),
        saturated=((table["flags"] & SATURATED) > 0) | (table["mask_flags"] > 0),
    )


def psfex_psf(
    image: Image, options: PSFOptions = PSFOptions(), *, detect: DetectOptions = DetectOptions()
) -> PSF:
    """PSF of an image by SExtractor and PSFEx.

    Parameters
    ----------
    image : Image
        With its sky on or off.
    options : PSFOptions
        ``size`` [px], ``order``, ``sampling`` [px], ``min_stars`` and ``max_stars``; what is not
        given comes from ``psfex.conf``, the order from the number of stars.
    detect : DetectOptions
        For SExtractor.

    Returns
    -------
    PSF
        As PSFEx wrote it, with its FWHM, number of stars and reduced chi².

    Raises
    ------
    ProgramError
        A program is not installed or failed; its own words are in the message.
    StarsError
        Fewer stars than ``options.min_stars``.
    """
    what, hint = f"PSF of {image.name} by PSFEx", "Give a PSF file, or a larger or deeper image."
    program = find_program(PSFEX)
    with _folder(image) as folder:
        table = _as_table(_extract(folder, image, detect))
        stars = np.sort(np.asarray(table["snr"])[_usable(table)])[::-1]
        if stars.size < options.min_stars:
            raise StarsError(what, int(stars.size), options.min_stars, hint)
        fwhm = float(np.clip(seeing(as_sources(table)), 1.0, 50.0))
        side, step, shape = _grid(options, fwhm)
        _extract(folder, image, detect, ["-PHOT_APERTURES", f"{3 * fwhm:.2f}"], vignette=side)
        faintest = max(FAINTEST, float(stars[: options.max_stars][-1]))
        command = [program, "stars.ldac", "-c", "psfex.conf", "-PSF_SUFFIX", ".psf", "-VERBOSE_TYPE", "QUIET"]
        command += ["-PSF_SAMPLING", f"{step:.4f}", "-PSF_SIZE", f"{shape},{shape}"]
        command += ["-SAMPLE_MINSN", f"{faintest:.2f}"]
        order = _order(stars.size) if options.order is None else options.order
        psf = _model(command, order, folder)
        fewer = _order(psf.n_stars)  # PSFEx accepts fewer stars than look usable
        if options.order is None and fewer < order:
            psf = _model(command, fewer, folder)
    if psf.n_stars < options.min_stars:
        raise StarsError(what, psf.n_stars, options.min_stars, hint)
    return psf


def _model(command: list[str], order: int, folder: Path) -> PSF:
    """Run PSFEx with a polynomial of this order and read what it made."""
    product = folder / "stars.psf"
    said = _run([*command, "-PSFVAR_DEGREES", str(order)], folder, product)
    try:
        return read_psf(product)
    except InputError as error:
        raise ProgramError(Path(command[0]).name, f"made no usable PSF ({error}).", said) from error


def _usable(table: Table) -> Bool:
    """Which sources could be PSF stars: well exposed, neither blended, saturated nor masked."""
    result: Bool = np.asarray(
        (table["flags"] <= 1) & (table["mask_flags"] == 0) & (table["snr"] > FAINTEST) & (table["radius"] > 0)
    )
    return result


def _order(n_stars: int) -> int:
    """Order of the polynomial: at least ten stars for each of its terms."""
    return int(np.searchsorted([30, 60, 200], n_stars, side="right"))


def _grid(options: PSFOptions, fwhm: float) -> tuple[int, float, int]:
    """Side of the stars' stamps [px], step [px; 0 = automatic] and side [steps] of the model."""
    text = (config_folder() / "psfex.conf").read_text(encoding="utf-8")
    step = options.sampling if options.sampling is not None else float(_setting(text, "PSF_SAMPLING", "0"))
    real = step if step > 0 else AUTO_STEP * fwhm
    if options.size is None:
        shape = int(_setting(text, "PSF_SIZE", "39").split(",")[0])
    else:
        shape = int(np.ceil(options.size / real)) | 1
    return (int(np.ceil(shape * real)) | 1) + 4, step, shape


def _setting(text: str, key: str, default: str) -> str:
    """Value of a key in a configuration file."""
    found = re.search(rf"^\s*{key}\s+([^\s#]+)", text, flags=re.MULTILINE)
    return found.group(1) if found else default


@contextmanager
def _folder(image: Image) -> Iterator[Path]:
    """A temporary folder that holds the image, its weights and flags, and the configuration."""
    good = image.good & np.isfinite(image.data)
    if image.variance is not None:
        good &= np.isfinite(image.variance) & (image.variance > 0)
    if not good.any():
        raise PixelError(image.name, "no usable pixel", 0, good.size)
    with tempfile.TemporaryDirectory(prefix="zogyp-") as name:
        folder = Path(name)
        for source in config_folder().iterdir():
            if source.is_file():
                shutil.copyfile(source, folder / source.name)
        data = np.where(np.isfinite(image.data), image.data, np.median(image.data[good]))
        fits.writeto(folder / "image.fits", data.astype(np.float32))
        fits.writeto(folder / "flag.fits", image.mask.astype(np.int32))
        weight = good.astype(np.float32)
        if image.variance is not None:
            weight[good] /= image.variance[good]
        fits.writeto(folder / "weight.fits", weight)
        yield folder


def _extract(
    folder: Path, image: Image, options: DetectOptions, extra: list[str] | None = None, vignette: int = 0
) -> NDArray[np.void]:
    """Run SExtractor in a prepared folder; its catalogue, or with ``vignette`` one for PSFEx (empty here)."""
    program = find_program(SEXTRACTOR)
    wanted = (config_folder() / "default.param").read_text(encoding="utf-8")
    name, kind = ("stars.ldac", "FITS_LDAC") if vignette else ("sources.fits", "FITS_1.0")
    if vignette:
        wanted += f"\nVIGNET({vignette},{vignette})\n"
    (folder / "default.param").write_text(wanted, encoding="utf-8")
    threshold = f"{options.threshold * _filter_gain(folder):.4f}"
    # where the variance is given it counts the photons of the sources already: gain 0 adds none
    gain = image.gain if image.gain is not None and image.variance is None else 0.0
    limit = image.saturation if image.saturation is not None else NO_LIMIT
    command = [program, "image.fits", "-c", "default.sex", "-PARAMETERS_NAME", "default.param"]
    command += ["-FILTER_NAME", "default.conv", "-CATALOG_NAME", name, "-CATALOG_TYPE", kind]
    command += ["-DETECT_THRESH", threshold, "-ANALYSIS_THRESH", threshold, "-THRESH_TYPE", "RELATIVE"]
    command += ["-FLAG_IMAGE", "flag.fits", "-FLAG_TYPE", "OR", "-WEIGHT_IMAGE", "weight.fits"]
    command += ["-WEIGHT_TYPE", "MAP_WEIGHT", "-RESCALE_WEIGHTS", "Y" if image.variance is None else "N"]
    command += ["-GAIN", f"{gain:.8g}", "-GAIN_KEY", "NONE", "-SATUR_LEVEL", f"{limit:.8g}"]
    command += ["-SATUR_KEY", "NONE", "-WEIGHT_GAIN", "N", "-VERBOSE_TYPE", "QUIET", *(extra or [])]
    said = _run(command, folder, folder / name)
    if vignette:
        return np.zeros(0, dtype=np.void)
    with fits.open(folder / name, memmap=False) as hdus:
        rows = hdus[1].data if len(hdus) > 1 else None
        if rows is None:
            raise ProgramError(program, "wrote no catalogue.", said)
        return np.array(rows)


def _filter_gain(folder: Path) -> float:
    """Noise of white noise after the filter of ``default.conv``, relative to that before."""
    lines = (folder / "default.conv").read_text(encoding="utf-8").splitlines()
    rows = [line.split() for line in lines if line.strip() and line.lstrip()[0] not in "#C"]
    kernel = np.array(rows, dtype=np.float64)
    text = (folder / "default.sex").read_text(encoding="utf-8")
    if not _setting(text, "FILTER", "Y").upper().startswith("Y"):
        return 1.0
    return float(np.sqrt((kernel**2).sum()) / kernel.sum())


def _as_table(rows: NDArray[np.void]) -> Table:
    """SExtractor's catalogue in our units and names, brightest first."""

    def column(name: str) -> F8:
        return np.asarray(rows[name], dtype=np.float64).reshape(len(rows))

    x, y = column("XWIN_IMAGE") - 1, column("YWIN_IMAGE") - 1
    peak_x, peak_y = column("XPEAK_IMAGE") - 1, column("YPEAK_IMAGE") - 1
    astray = ~(np.hypot(x - peak_x, y - peak_y) < 1.5)  # a blend draws the centroid to its neighbour
    table = Table(
        {
            "x": np.where(astray, peak_x, x),
            "y": np.where(astray, peak_y, y),
            "flux": column("FLUX_ISO"),
            "flux_err": column("FLUXERR_ISO"),
            "peak": column("FLUX_MAX"),
            "fwhm": column("FWHM_IMAGE"),
            "radius": column("FLUX_RADIUS"),
            "ellipticity": column("ELLIPTICITY"),
            "snr": column("SNR_WIN"),
            "flags": np.asarray(rows["FLAGS"], dtype=np.int32),
            "mask_flags": np.asarray(rows["IMAFLAGS_ISO"], dtype=np.int32).reshape(len(rows)),
        }
    )
    table = table[np.isfinite(table["flux"]) & (table["flux"] > 0) & (table["flux_err"] > 0)]
    table.sort("flux", reverse=True)
    return table


def _run(command: list[str], folder: Path, product: Path) -> str:
    """Run a program in a folder without a shell and return what it said; its product must be there.

    Raises
    ------
    ProgramError
        It could not be started, failed, or left no product.
    """
    name = Path(command[0]).name
    environment = {**os.environ, "LC_ALL": "C"}  # a decimal comma would spoil the numbers
    try:
        done = subprocess.run(
            command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, capture_output=True, check=False
        )
    except OSError as error:
        raise ProgramError(name, f"could not be started ({error}).") from error
    said = re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", done.stderr.decode("utf-8", "replace")).strip()
    if done.returncode != 0:
        raise ProgramError(name, f"failed with exit status {done.returncode}.", said)
    if not product.is_file():
        raise ProgramError(name, f"ended well but left no {product.name}.", said)
    return said
