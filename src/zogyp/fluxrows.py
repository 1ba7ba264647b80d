"""What forced photometry tells of one image: a row for each place, read off a subtraction.

The planes of the difference are read between the pixels, and beside that stands the PSF flux in each image.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from astropy.table import Table
from numpy.typing import NDArray

from zogyp.fluxscale import Match, Surface
from zogyp.image import Flag, Image
from zogyp.positions import Positions
from zogyp.psfflux import psf_fluxes
from zogyp.transients import bits_within, both_images, value_beside

if TYPE_CHECKING:
    from zogyp.products import Subtraction
    from zogyp.subtraction import Evidence

Floats = NDArray[np.float64]

ROUNDS = 3  # to find where a place of the reference lies in the new image: the shift hardly varies
MAG = 2.5 / np.log(10)

COLUMNS: tuple[tuple[str, str | None, str], ...] = (
    ("image", None, "the new image"),
    ("time", "d", "modified Julian date of the middle of the exposure, in the scale of its header"),
    ("id", None, "of the place"),
    ("name", None, "of the place"),
    ("x", "pix", "column in the reference, 0-based, pixel centres on integers"),
    ("y", "pix", "row in the reference, 0-based, pixel centres on integers"),
    ("ra", "deg", "right ascension, ICRS"),
    ("dec", "deg", "declination, ICRS"),
    ("snr", None, "S_corr in sigma, negative where the source is fainter than in the reference"),
    ("flux", None, "new minus reference, in the reference's unit: the light curve"),
    ("flux_err", None, "standard deviation of flux"),
    ("mag", "mag", "magnitude of the whole source, flux + flux_ref * F_r; NaN where that is not positive"),
    (
        "mag_err",
        "mag",
        "standard deviation of mag by flux_err alone: what the reference adds is common to all",
    ),
    ("scale", None, "flux scale of the new image over the reference's, F_n / F_r, at the place"),
    ("flux_diff", None, "new minus reference, in the new image's unit"),
    ("flux_diff_err", None, "standard deviation of flux_diff"),
    ("flux_new", None, "PSF flux in the new image, in its unit, light of other sources taken off"),
    ("flux_new_err", None, "standard deviation of flux_new by the pixels' noise"),
    (
        "flux_ref",
        None,
        "PSF flux in the reference, in the new image's unit, light of other sources taken off",
    ),
    ("flux_ref_err", None, "standard deviation of flux_ref by the pixels' noise"),
    ("flags", None, "what makes it doubtful, words joined by commas"),
)


def rows(result: Subtraction, evidence: Evidence, places: Positions, name: str) -> Table:
    """The rows of one image.

    Parameters
    ----------
    result, evidence
        A subtraction on the reference's pixels.
    places : Positions
        With pixels of the reference.
    name : str
        Of the image.

    Returns
    -------
    Table
        The columns of `COLUMNS`.
    """
    new, ref, n = evidence.new, evidence.ref, len(places)
    inside = places.inside(ref.image.shape)
    x, y = (np.where(inside, a, 0.0) for a in (places.x, places.y))
    at = _in_new(x, y, evidence.matched, ref.image.shape)
    row, column = (np.rint(a).astype(np.intp) for a in at[::-1])
    snr, diff, diff_err = (
        np.where(inside, value_beside(plane, row, column, at[0] - column, at[1] - row), np.nan)
        for plane in (result.Scorr, result.alpha, result.alpha_err)
    )
    ratio = np.where(inside, evidence.matched.flux_ratio.grid(*at), np.nan)
    flux_new, new_err, flux_ref, ref_err = (np.full(n, np.nan) for _ in range(4))
    flux_new[inside], new_err[inside] = psf_fluxes(new, at[0][inside], at[1][inside])
    flux_ref[inside], ref_err[inside] = psf_fluxes(ref, x[inside], y[inside])
    mag, mag_err = _magnitudes(diff * ratio + flux_ref, diff_err * ratio, ratio, (ref.image, new.image))
    values: dict[str, Any] = {
        "image": [name] * n,
        "time": np.full(n, np.nan if new.image.mjd is None else new.image.mjd),
        "id": places.labels.get("id", list(range(1, n + 1))),
        "name": places.labels.get("name"),
        "x": places.x,
        "y": places.y,
        "ra": places.ra,
        "dec": places.dec,
        "snr": snr,
        "flux": diff * ratio,
        "flux_err": diff_err * ratio,
        "mag": mag,
        "mag_err": mag_err,
        "scale": 1 / ratio,
        "flux_diff": diff,
        "flux_diff_err": diff_err,
        "flux_new": flux_new,
        "flux_new_err": new_err,
        "flux_ref": flux_ref / ratio,
        "flux_ref_err": ref_err / ratio,
        "flags": _words(result, at, inside, snr, evidence.planes.fwhm),
    }
    return _table(values)


def _table(values: Mapping[str, Any]) -> Table:
    """Columns with their units and descriptions."""
    table = Table()
    for name, unit, description in COLUMNS:
        if values[name] is not None:
            table[name] = values[name]
            table[name].unit = unit
            table[name].description = description
    return table


def _in_new(x: Floats, y: Floats, matched: Match, shape: tuple[int, int]) -> tuple[Floats, Floats]:
    """Where places of the reference lie in the new image, and so in the difference: less than a pixel off.

    Images whose grids differ by less than a pixel are not resampled; the difference then moves the reference.
    """
    u, v = x, y
    ny, nx = shape
    for _ in range(ROUNDS):
        within = u.clip(0, nx - 1), v.clip(0, ny - 1)
        u, v = x - _shift(matched.dx, *within), y - _shift(matched.dy, *within)
    return u, v


def _shift(surface: Surface, x: Floats, y: Floats) -> Floats:
    """A shift between the images at places, 0 where it is not known to be one."""
    return surface.grid(x, y) if surface.significant else np.zeros(x.size)


def _magnitudes(
    total: Floats, error: Floats, ratio: Floats, images: tuple[Image, Image]
) -> tuple[Floats, Floats]:
    """Magnitudes of fluxes in the reference's unit, by its zero point, else by the new image's."""
    ref, new = images
    zero = ref.zero_point
    size = np.where(total > 0, total, np.nan)
    if zero is None:
        zero, size, error = new.zero_point, size / ratio, error / ratio
    if zero is None:
        return np.full(total.size, np.nan), np.full(total.size, np.nan)
    return zero - 2.5 * np.log10(size), MAG * error / size


def _words(
    result: Subtraction, at: tuple[Floats, Floats], inside: NDArray[np.bool_], snr: Floats, fwhm: float
) -> list[str]:
    """What makes each place doubtful, in the words of the transients."""
    mask, (x, y) = result.mask, at
    ny, nx = mask.shape
    here, close, wide = (bits_within(mask, x, y, radius) for radius in (0.5, fwhm, 2 * fwhm))
    bad = both_images(Flag.BAD | Flag.NO_DATA | Flag.COSMIC_RAY)
    within = (x >= 0.5) & (y >= 0.5) & (x <= nx - 1.5) & (y <= ny - 1.5)
    conditions = {
        "edge": ((here & both_images(Flag.EDGE)) != 0) | ~within,
        "near_saturated": (wide & both_images(Flag.SATURATED)) != 0,
        "near_bad": ((close & bad) != 0) | ((here & both_images(Flag.REACHED)) != 0),
        "unjudged": ~np.isfinite(snr),
    }
    return [
        ",".join(word for word, true in conditions.items() if true[i]) if inside[i] else "outside"
        for i in range(x.size)
    ]
