"""Real images, from the telescope's pixels to the transients: what is known of them must come out.

The images lie beside the project (see the README there); without them these tests skip.
"""

from __future__ import annotations

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from scipy.ndimage import maximum_filter

import zogyp
from zogyp import io
from zogyp.measure.exposure import measure
from zogyp.options import InputOptions, SubtractOptions

EVENT = (287.7, 215.1)  # x, y of the microlensing event in frame 0100 of the bulge


def clipped_spread(values):
    """Standard deviation of what lies within 4 sigma of a Gaussian (0.9995 of one's own)."""
    values = values[np.isfinite(values)].astype(np.float64)
    for _ in range(5):
        values = values[np.abs(values) < 4 * values.std()]
    return values.std()


# ---------------------------------------------------------------- a pair with 35 known new sources


@pytest.fixture(scope="module")
def goto(shared_data):
    """Second minus first, and the sources that only the second has."""
    folder = shared_data / "goto"
    result = zogyp.subtract(folder / "second.fits", folder / "first.fits", SubtractOptions(threads=1))
    return result, Table.read(folder / "sources_only_in_second.csv")


def nearest(table, x, y):
    """The row nearest to a place, and its distance [px]."""
    distance = np.hypot(table["x"] - x, table["y"] - y)
    return table[int(np.argmin(distance))], float(distance.min())


def test_every_new_source_is_found_where_it_is(goto):
    """Positive, within 1 px: the catalogue's places are rounded to 0.1 px, its S/N are 16 to 260."""
    result, sources = goto
    rising = result.transients[result.transients["sign"] > 0]
    for source in sources:
        row, distance = nearest(rising, source["x"], source["y"])
        assert distance < 1.0, f"nothing at {source['x']}, {source['y']}; nearest {distance:.1f} px away"
        assert row["snr"] > 8
        assert row["flux"] > 0


def test_fluxes_of_new_sources_agree_with_apertures(goto):
    """The catalogue has fluxes in apertures of 4 px radius: 0.75 to 0.9 of a star's at a FWHM of 4 px."""
    result, sources = goto
    rising = result.transients[result.transients["sign"] > 0]
    ratio = [nearest(rising, s["x"], s["y"])[0]["flux"] / s["flux_r4_img2"] for s in sources]
    assert 1.0 < np.median(ratio) < 1.35
    assert np.all((np.array(ratio) > 0.7) & (np.array(ratio) < 1.8))


def test_a_new_source_is_one_transient(goto):
    """No ring, no dipole, no twin: nothing else within 3 FWHM of the 35 sources beyond 5 sigma."""
    result, sources = goto
    found = result.transients
    near = [int((np.hypot(found["x"] - s["x"], found["y"] - s["y"]) < 11).sum()) for s in sources]
    assert near == [1] * len(sources)


def test_new_sources_are_the_most_significant_changes(goto):
    """Of the 30 most significant unflagged ones at least 20: the others are bad pixels and variables."""
    result, sources = goto
    clean = result.transients[result.transients["flags"] == ""][:30]
    known = [np.hypot(sources["x"] - row["x"], sources["y"] - row["y"]).min() < 1 for row in clean]
    assert sum(known) >= 20


def test_shared_noise_of_the_pair_is_less_than_one(goto):
    """The two were made from the same exposures: they share noise, S_corr spreads by 0.66 to 0.84."""
    result, _ = goto
    assert 0.6 < result.summary["scorr_mad"] < 0.9
    assert result.summary["masked_fraction"] < 0.01
    assert result.summary["registration"]["n_matched"] > 50
    assert np.isfinite(result.transients["ra"]).all()  # TAN-SIP


# ---------------------------------------------------------------- space telescope, with all that is known


@pytest.fixture(scope="module")
def nircam(shared_data):
    """Two epochs with PSFs, noise maps and a mask of their own, and that mask."""
    folder = shared_data / "nircam"

    def known(which):
        return InputOptions(psf=str(folder / f"{which}_psf.fits"), noise=str(folder / f"{which}_noise.fits"))

    options = SubtractOptions(new=known("new"), ref=known("ref"), mask=str(folder / "mask.fits"), threads=1)
    result = zogyp.subtract(folder / "new.fits", folder / "ref.fits", options)
    bad = fits.getdata(folder / "mask.fits") != 0
    for which in ("new", "ref"):
        noise = fits.getdata(folder / f"{which}_noise.fits")
        bad |= ~np.isfinite(fits.getdata(folder / f"{which}.fits")) | ~(noise > 0)
    return result, bad


def test_given_psfs_noise_and_mask_are_used(nircam):
    result, bad = nircam
    for which in ("new", "ref"):
        figures = result.summary["inputs"][which]
        assert figures["n_stars"] == 0  # no star was needed for a PSF
        assert figures["fwhm"] == pytest.approx(2.15, abs=0.15)  # F200W: 0.066 arcsec in pixels of 0.031
    assert np.isnan(result.Scorr[bad]).all()


def test_scorr_of_the_space_telescope_spreads_by_one(nircam):
    """Within 15 per cent, which operations accept; the noise was resampled and is correlated."""
    result, _ = nircam
    assert result.summary["scorr_mad"] == pytest.approx(1, abs=0.15)
    assert clipped_spread(result.Scorr) == pytest.approx(1, abs=0.15)


def test_what_is_not_masked_is_judged(nircam):
    """NaN in no plane but at masked pixels and within 3 px of them, where the PSF lies on masked ones."""
    result, bad = nircam
    missing = np.isnan(result.Scorr)
    assert not (missing & ~maximum_filter(bad, 7)).any()
    assert (missing & ~bad).mean() < 0.002
    for plane in ("D", "S", "alpha", "alpha_err"):
        assert np.array_equal(np.isnan(getattr(result, plane)), missing)
    assert (result.mask[missing] != 0).all(), "the mask says why"
    assert (result.alpha_err[~missing] > 0).all()


def test_flux_ratio_of_calibrated_images_is_one(nircam):
    """Both are in MJy/sr: within 4 of its errors, which are large for there are few stars."""
    result, _ = nircam
    assert abs(result.summary["F_r"] - 1) < 4 * result.summary["F_r_err"]
    assert result.summary["F_r_err"] < 0.1


# ---------------------------------------------------------------- a microlensing event in a crowd


def shift_between(a, b):
    """Whole-pixel (dy, dx) with a[y + dy, x + dx] like b[y, x], at the peak of their cross-correlation."""
    n = 2 * max(a.shape)  # padded: nothing wraps around
    spectra = []
    for data in (a, b):
        soft = np.arcsinh((data - np.median(data)).clip(0, None) / 50)  # bleeding stars must not decide
        spectra.append(np.fft.rfft2(soft - soft.mean(), (n, n)))
    correlation = np.fft.irfft2(spectra[0] * spectra[1].conj(), (n, n))
    dy, dx = np.unravel_index(np.argmax(correlation), correlation.shape)
    return int(dy) - n * (dy > n // 2), int(dx) - n * (dx > n // 2)


def overlap(n, shift):
    """The slices of both along one axis that show the same sky."""
    return slice(max(shift, 0), n + min(shift, 0)), slice(max(-shift, 0), n + min(-shift, 0))


def test_shift_of_a_rolled_image_is_found():
    rng = np.random.default_rng(1)
    sky = rng.gamma(0.02, 1000, (90, 100))
    assert shift_between(sky[7:77, 11:91], sky[0:70, 20:100]) == (-7, 9)


@pytest.fixture(scope="module")
def bulge(shared_data):
    """Frame 0100 minus 0172 where they overlap, and the event's place there."""
    new, ref = (io.read(shared_data / "bulge" / f"AKB13475I{n}.fits") for n in ("0100", "0172"))
    dy, dx = shift_between(new.data, ref.data)
    (rows_n, rows_r), (columns_n, columns_r) = overlap(new.shape[0], dy), overlap(new.shape[1], dx)
    result = zogyp.subtract(
        new.cutout((rows_n, columns_n)), ref.cutout((rows_r, columns_r)), SubtractOptions(threads=1)
    )
    return result, EVENT[0] - columns_n.start, EVENT[1] - rows_n.start


def test_the_event_is_found(bulge):
    """One positive transient within 3 px of its place, and it lies there within half a pixel."""
    result, x, y = bulge
    rising = result.transients[result.transients["sign"] > 0]
    near = rising[np.hypot(rising["x"] - x, rising["y"] - y) < 3]
    assert len(near) == 1
    assert np.hypot(near["x"][0] - x, near["y"][0] - y) < 0.5
    assert near["snr"][0] > 12.8  # the best that another program gets
    assert near["flags"][0] == ""


def test_the_event_is_the_most_significant_change_of_the_field(bulge):
    result, x, y = bulge
    rising = result.transients[(result.transients["sign"] > 0) & (result.transients["flags"] == "")]
    row, distance = rising[0], np.hypot(rising["x"][0] - x, rising["y"][0] - y)
    assert distance < 0.5, f"{row['snr']:.0f} sigma at {row['x']:.0f}, {row['y']:.0f}"


def test_the_figures_of_the_crowd_are_sane(bulge):
    """Whole pixels leave half a pixel of shift; the exposures took 200 and 300 s (to 20 per cent: clouds)."""
    result, *_ = bulge
    summary = result.summary
    registration = summary["registration"]
    assert max(abs(registration["dx"]), abs(registration["dy"])) < 0.75
    assert registration["n_matched"] > 20
    assert max(registration["rms_x"], registration["rms_y"]) < 0.1
    assert summary["F_r"] == pytest.approx(300 / 200, rel=0.2)
    assert summary["F_r_err"] < 0.02
    assert summary["masked_fraction"] < 0.02  # bleeding stars
    assert summary["inputs"]["new"]["gain"] == 1.9
    assert 0.6 < summary["scorr_mad"] < 1.15


def test_a_crowd_with_few_clean_stars_is_measured_still(shared_data):
    """Its PSF did not hold everywhere: fluxes of 1e11 followed, and an IndexError."""
    paths = [shared_data / "bulge" / f"AKB13475I{n}.fits" for n in ("0055", "0100")]
    aligned, _ = zogyp.align(paths[0], to=paths[1])
    exposure = measure(aligned)
    assert np.isfinite(exposure.psf.basis).all() and exposure.psf.fwhm == pytest.approx(4.9, abs=0.5)
    single = exposure.sources.take(~exposure.sources.saturated)  # a masked core may lose its flux
    assert np.abs(single.flux).max() < 1e8  # the brightest has some 1e7
