"""Peaks of S_corr: every source where it was put, at its height, with the words it deserves."""

from __future__ import annotations

import io

import numpy as np
import pytest
from astropy.table import Table
from astropy.wcs import WCS

from zogyp.image import Flag
from zogyp.options import TransientOptions
from zogyp.transients import COLUMNS, find

FWHM = 4.0
SIGMA = FWHM / 2.3548 * np.sqrt(2)  # a star in S is its PSF filtered by itself
SHAPE = (90, 120)


def sources(*places, shape=SHAPE, sigma=SIGMA):
    """S_corr without noise: Gaussians (x, y, height)."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    plane = np.zeros(shape)
    for x0, y0, height in places:
        plane += height * np.exp(-((x - x0) ** 2 + (y - y0) ** 2) / 2 / sigma**2)
    return plane.astype(np.float32)


def search(scorr, *, mask=None, threshold=5.0, fwhm=FWHM, **more):
    """`find` with alpha twice S_corr in a unit of its own."""
    mask = np.zeros(scorr.shape, dtype=np.uint16) if mask is None else mask
    error = np.full_like(scorr, 2)
    return find(scorr, 2 * scorr, error, mask, TransientOptions(threshold=threshold), fwhm=fwhm, **more)


def correlated_noise(shape, rng):
    """Noise of unit spread as S_corr has it on blank sky."""
    fy, fx = np.fft.fftfreq(shape[0])[:, None], np.fft.fftfreq(shape[1])[None, :]
    smooth = np.exp(-2 * np.pi**2 * (SIGMA / np.sqrt(2)) ** 2 * (fx**2 + fy**2))
    noise = np.fft.ifft2(np.fft.fft2(rng.normal(size=shape)) * smooth).real
    return (noise / np.sqrt(np.mean(smooth**2))).astype(np.float32)


def test_places_heights_and_fluxes_of_sources_between_pixels():
    places = [(20.3, 30.4, 50.0), (70.5, 20.0, -40.0), (100.0, 61.75, 30.0), (40.9, 70.1, 6.0)]
    table = search(sources(*places))
    assert len(table) == 4
    for row, (x, y, height) in zip(table, places, strict=True):
        # the 5 x 5 polynomial is good to 3e-4 of a Gaussian this wide, its place to 0.01 px
        assert row["x"] == pytest.approx(x, abs=0.01)
        assert row["y"] == pytest.approx(y, abs=0.01)
        assert row["snr"] == pytest.approx(height, rel=1e-3)
        assert row["flux"] == pytest.approx(2 * height, rel=1e-3)
        assert row["flux_err"] == pytest.approx(2, rel=1e-6)
        assert row["sign"] == np.sign(height)
        assert row["flags"] == ""
    assert list(table["id"]) == [1, 2, 3, 4]


def test_an_undersampled_source_keeps_its_height():
    table = search(sources((30.5, 30.5, 50.0), sigma=1.9 / 2.3548 * np.sqrt(2)), fwhm=1.9)
    # a polynomial through five pixels of a profile 1.1 px wide is short by 2 % between two of them
    assert table["snr"][0] == pytest.approx(50, rel=0.04)
    assert table["x"][0] == pytest.approx(30.5, abs=0.01)


def test_rows_fall_in_significance_and_stop_at_the_threshold():
    places = [(20, 20, 5.2), (60, 20, -9), (20, 60, 4.9), (60, 60, -4.9), (100, 40, 30)]
    table = search(sources(*places))
    np.testing.assert_allclose(table["snr"], [30, -9, 5.2], rtol=1e-3)
    assert len(search(sources(*places), threshold=4.5)) == 5
    assert len(search(sources(*places), threshold=3.0)) == 5
    assert len(search(sources(*places), threshold=31)) == 0


def test_a_peak_between_pixels_counts_with_its_own_height():
    plane = sources((20.5, 20.5, 5.2))
    assert plane.max() < 5  # no pixel reaches the threshold
    assert len(search(plane)) == 1


def test_close_peaks_of_one_sign_are_one_and_of_two_signs_a_dipole():
    near = sources((40, 40, 20.0))
    near[40, 43] = 14.0  # a second maximum on the slope, 3 px away
    assert len(search(near)) == 1
    far = search(sources((40, 40, 20.0), (52, 40, 15.0)))
    assert len(far) == 2
    assert list(far["flags"]) == ["", ""]
    pair = search(sources((40, 40, 20.0), (46, 40, -18.0)))
    assert len(pair) == 2
    assert all("dipole" in words.split(",") for words in pair["flags"])
    weak = search(sources((40, 40, 20.0), (46, 40, -6.0)))
    assert not any("dipole" in words for words in weak["flags"])


def test_a_partner_below_the_threshold_makes_a_dipole_too():
    table = search(sources((40, 40, 7.0), (47, 40, -4.5)))
    assert len(table) == 1
    assert table["flags"][0] == "dipole"


def test_shape_tells_cosmic_rays_and_blurs_from_stars():
    star, ray, blur = 1.0, 1 / np.sqrt(2), 1.8
    for width, words in ((star, ""), (ray, "sharp"), (blur, "extended")):
        table = search(sources((40.2, 40.4, 60.0), sigma=SIGMA * width))
        assert table["flags"][0] == words


def test_a_bright_star_is_not_called_extended_for_the_noise_of_its_own_photons():
    flux = sources((40.2, 40.4, 200.0))
    # a star whose own photons make ten elevenths of the variance at its peak has a flat top in S_corr
    error = np.sqrt(1 + np.clip(flux, 0, None) / 20).astype(np.float32)
    table = find(flux / error, flux, error, np.zeros(SHAPE, np.uint16), TransientOptions(), fwhm=FWHM)
    assert list(table["flags"]) == [""]


@pytest.mark.parametrize("shifted", [False, True])
@pytest.mark.parametrize(
    ("flag", "distance", "word"),
    [
        (Flag.SATURATED, 7, "near_saturated"),
        (Flag.BAD, 3, "near_bad"),
        (Flag.COSMIC_RAY, 3, "near_bad"),
        (Flag.NO_DATA, 3, "near_bad"),
        (Flag.REACHED, 0, "near_bad"),
        (Flag.EDGE, 0, "edge"),
    ],
)
def test_the_mask_around_a_peak_becomes_words(flag, distance, word, shifted):
    bit = flag.ref() if shifted else int(flag)
    mask = np.zeros(SHAPE, dtype=np.uint16)
    mask[40, 60 + distance] = bit
    plane = sources((60, 40, 20.0))
    assert search(plane, mask=mask)["flags"][0] == word
    far = np.zeros(SHAPE, dtype=np.uint16)
    far[40, 75] = bit
    assert search(plane, mask=far)["flags"][0] == ""


def test_a_peak_on_the_border_is_flagged_and_stays_inside():
    plane = sources((0.0, 30.0, 20.0), (119.2, 89.1, -15.0))
    table = search(plane)
    assert len(table) == 2
    for row in table:
        assert "edge" in row["flags"].split(",")
        assert 0 <= row["x"] <= 119
        assert 0 <= row["y"] <= 89


def test_pixels_that_cannot_be_judged_do_no_harm():
    plane = sources((40, 40, 20.0), (80, 40, 20.0))
    plane[:, 82:] = np.nan
    plane[10:20, 10:20] = np.nan
    table = search(plane)
    assert len(table) == 2
    assert np.isfinite(table["snr"]).all()
    assert table["x"].max() <= 81
    assert len(search(np.full(SHAPE, np.nan, dtype=np.float32))) == 0


def test_a_plateau_is_one_peak():
    plane = np.zeros(SHAPE, dtype=np.float32)
    plane[30:32, 40:43] = 9.0
    assert len(search(plane)) == 1


def test_sky_coordinates_come_from_the_wcs():
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.crval = [150.0, 2.0]
    wcs.wcs.crpix = [61.0, 41.0]  # 1-based: pixel (60, 40)
    wcs.wcs.cdelt = [-1 / 3600, 1 / 3600]
    table = search(sources((60, 40, 20.0), (70, 40, 10.0)), wcs=wcs)
    # one pixel is one arcsecond; the place is good to 0.01 px
    assert table["ra"][0] == pytest.approx(150.0, abs=0.01 / 3600)
    assert table["dec"][0] == pytest.approx(2.0, abs=0.01 / 3600)
    assert table["ra"][1] == pytest.approx(150.0 - 10 / 3600 / np.cos(np.radians(2)), abs=0.01 / 3600)
    galactic = WCS(naxis=2)
    galactic.wcs.ctype = ["GLON-CAR", "GLAT-CAR"]
    galactic.wcs.crpix = [61.0, 41.0]
    galactic.wcs.cdelt = [-1 / 3600, 1 / 3600]
    centre = search(sources((60, 40, 20.0)), wcs=galactic)
    assert centre["ra"][0] == pytest.approx(266.405, abs=1e-3)  # the Galaxy's centre, ICRS
    assert centre["dec"][0] == pytest.approx(-28.936, abs=1e-3)


def test_without_wcs_or_zero_point_columns_are_nan():
    table = search(sources((60, 40, 20.0)), wcs=WCS(naxis=2))
    for name in ("ra", "dec", "mag", "mag_err"):
        assert np.isnan(table[name][0])


def test_magnitudes_of_both_signs():
    table = search(sources((30, 40, 50.0), (80, 40, -50.0)), zero_point=25.0)
    np.testing.assert_allclose(table["mag"], 25 - 2.5 * np.log10(100), atol=1e-3)
    np.testing.assert_allclose(table["mag_err"], 1.0857 * 2 / 100, rtol=2e-3)


@pytest.mark.parametrize("places", [(), ((60, 40, 20.0),)])
def test_columns_and_units_survive_a_file(places):
    table = search(sources(*places))
    assert table.colnames == [name for name, *_ in COLUMNS]
    text = io.StringIO()
    table.write(text, format="ascii.ecsv")
    again = Table.read(text.getvalue(), format="ascii.ecsv")
    assert len(again) == len(places)
    units = {name: str(again[name].unit) for name in again.colnames if again[name].unit is not None}
    assert units == {"x": "pix", "y": "pix", "ra": "deg", "dec": "deg", "mag": "mag", "mag_err": "mag"}
    assert again["snr"].dtype == np.float64


def test_noise_gives_the_peaks_that_a_gaussian_field_must_give():
    rng = np.random.default_rng(11)
    shape, nu = (1500, 1500), 3.2
    table = search(correlated_noise(shape, rng), threshold=nu)
    # peaks above nu of a smooth Gaussian field, per pixel and side: Bond & Efstathiou 1987, for large nu
    # SIGMA is also that of the field's autocorrelation
    density = nu * np.exp(-(nu**2) / 2) / ((2 * np.pi) ** 1.5 * SIGMA**2)
    expected = 2 * density * shape[0] * shape[1]
    # leading order in 1 / nu², 5 % here, and 3 Poisson errors
    assert len(table) == pytest.approx(expected, abs=0.08 * expected + 3 * np.sqrt(expected))
    assert abs((table["sign"] == 1).sum() - (table["sign"] == -1).sum()) < 4 * np.sqrt(len(table))


def test_measured_positions_and_fluxes_scatter_as_they_should():
    rng = np.random.default_rng(12)
    shape, height = (640, 640), 20.0
    grid = [(x + 0.3, y - 0.2, height) for x in range(20, 640, 32) for y in range(20, 640, 32)]
    table = search(sources(*grid, shape=shape) + correlated_noise(shape, rng), threshold=10)
    assert len(table) == len(grid)
    near = np.array([(round((r["x"] - 20.3) / 32), round((r["y"] - 19.8) / 32)) for r in table])
    dx, dy = table["x"] - 20.3 - 32 * near[:, 0], table["y"] - 19.8 - 32 * near[:, 1]
    # noise moves a peak by the slope of the noise over the peak's curvature; standard error 4 % for 400 stars
    best = SIGMA / height
    assert dx.std() < 1.2 * best
    assert dy.std() < 1.2 * best
    assert abs(dx.mean()) < 4 * best / np.sqrt(len(grid))
    # the highest point of peak and noise is above the peak by about 1 / height
    assert table["snr"].mean() - height == pytest.approx(1 / height, abs=4 / np.sqrt(len(grid)))
    assert table["snr"].std() == pytest.approx(1, abs=4 / np.sqrt(2 * len(grid)))
