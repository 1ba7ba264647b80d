"""The simulated skies against closed forms, adaptive quadrature and counting statistics."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.integrate import dblquad

from zogyp.core.moffat import add_stars, star_rows
from zogyp.errors import OptionError, OutputError
from zogyp.simulate import Side, Sky, psf_stamp, simulate, write_pair

QUIET = Sky(shape=(300, 340), n_stars=120, n_galaxies=0, n_transients=0)
EMPTY = Sky(shape=(400, 500), n_stars=0, n_galaxies=0, n_transients=0)


def one_star(n, x, y, *, flux=1.0, fwhm=3.0, beta=3.0, ellipticity=0.2, angle=25.0, faint=1e-9):
    image = np.zeros((n, n), dtype=np.float32)
    one = np.ones(1)
    rows = star_rows((one * x, one * y), one * flux, one * fwhm, beta, (one * ellipticity, angle), faint)
    add_stars(image, 0, rows)
    return image.astype(float), rows[0]


def density(u, v, fwhm, beta, ellipticity, angle):
    """The Moffat profile written out with its two axes, as an oracle."""
    a = fwhm / (2 * np.sqrt(2 ** (1 / beta) - 1)) / np.sqrt(1 - ellipticity)
    b = a * (1 - ellipticity)
    t = np.deg2rad(angle)
    p, q = u * np.cos(t) + v * np.sin(t), -u * np.sin(t) + v * np.cos(t)
    return (beta - 1) / (np.pi * a * b) * (1 + (p / a) ** 2 + (q / b) ** 2) ** -beta


@pytest.mark.parametrize(("fwhm", "beta"), [(1.2, 2.5), (3.0, 3.0), (6.0, 4.0)])
def test_pixels_are_integrals_of_the_profile(fwhm, beta):
    image, _ = one_star(81, 40.3, 39.6, fwhm=fwhm, beta=beta)
    for row, column in [(40, 40), (40, 41), (38, 43), (40, 55), (25, 30)]:
        u, v = column - 40.3, row - 39.6
        exact, _ = dblquad(
            lambda b, a: density(a, b, fwhm, beta, 0.2, 25.0),
            u - 0.5,
            u + 0.5,
            v - 0.5,
            v + 0.5,
        )
        # float32 rounds at 6e-8, five Gauss nodes leave 3e-6 where the PSF is sharpest; the wing's
        # Laplacian leaves its fourth derivative, 2e-4 of pixels that hold little
        tolerance = 1e-5 if np.hypot(u, v) < max(2.5 * fwhm, 8) else 3e-4
        assert image[row, column] == pytest.approx(exact, rel=tolerance)


@pytest.mark.parametrize("beta", [2.5, 3.0, 4.765])
def test_flux_is_that_of_the_closed_form(beta):
    image, row = one_star(1501, 750.2, 749.7, flux=5e4, beta=beta, ellipticity=0.0, faint=1e-30)
    alpha = 3.0 / (2 * np.sqrt(2 ** (1 / beta) - 1))
    inside = 1 - (1 + (row[7] / alpha) ** 2) ** (1 - beta)
    # the circle's rim is made of whole pixels: 1e-5 of the flux at most
    assert image.sum() == pytest.approx(5e4 * inside, rel=1e-5)
    assert inside > 0.9999


def test_every_star_keeps_its_flux_even_when_faint():
    image, _ = one_star(101, 50.0, 50.0, flux=1.0, faint=1e3)
    # beyond 8 FWHM lies (1 + 66)^-2 = 2e-4 of a Moffat of beta 3 and this ellipticity
    assert image.sum() == pytest.approx(1, abs=4e-4)


@pytest.mark.parametrize(("x", "y"), [(50.0, 50.0), (50.5, 49.5), (49.63, 50.21)])
def test_centroid_is_where_it_was_asked(x, y):
    image, _ = one_star(101, x, y, ellipticity=0.4)
    # a symmetric window around the true place makes the first moment exact up to the window's rim
    rows, columns = np.mgrid[:101, :101]
    weight = image * np.exp(-((rows - y) ** 2 + (columns - x) ** 2) / (2 * 4.0**2))
    assert np.sum(weight * columns) / weight.sum() == pytest.approx(x, abs=1e-3)
    assert np.sum(weight * rows) / weight.sum() == pytest.approx(y, abs=1e-3)


def test_psf_stamps_match_the_stars_of_the_image():
    # one star, hardly any noise: the image is the star
    quiet = Side(sky=0.0, gain=1e6, read_noise=0.0, variation=0.3, ellipticity=0.2)
    sky = replace(EMPTY, new=quiet, n_stars=1, flux_min=1e5, flux_max=1e5)
    pair = simulate(sky, seed=4)
    x, y = float(pair.truth["x"][0]), float(pair.truth["y"][0])
    i, j = round(x), round(y)
    seen = pair.new.data[j - 1 : j + 2, i - 1 : i + 2] / 1e5
    rows, columns = np.mgrid[j - 1 : j + 2, i - 1 : i + 2]
    u, v = 2 * x / 499 - 1, 2 * y / 399 - 1
    fwhm, ellipticity = 3.5 * (1 + 0.3 * (u + v * v) / 2), 0.2 * (1 + 0.3 * v)
    nodes = (np.arange(8) - 3.5) / 8  # midpoints, second order: 1e-3
    exact = sum(
        density(columns + a - x, rows + b - y, fwhm, 3.0, ellipticity, 30.0) for a in nodes for b in nodes
    )
    # Poisson noise of 1e5 ADU at 1e6 e-/ADU is 1e-5
    np.testing.assert_allclose(seen, exact / 64, rtol=2e-3)
    stamp = pair.psf_new(x, y)
    assert stamp.sum() == pytest.approx(1, rel=1e-12)
    assert stamp.shape[0] % 2 == 1
    c = stamp.shape[0] // 2
    assert np.unravel_index(stamp.argmax(), stamp.shape) == (c, c)
    # point-symmetric about its centre, whatever its ellipticity (float32)
    np.testing.assert_allclose(stamp, stamp[::-1, ::-1], rtol=1e-5)


def test_noise_is_poisson_and_read_noise():
    side = Side(sky=200.0, gain=2.0, read_noise=15.0)
    data = simulate(replace(EMPTY, new=side), seed=2).new.data.astype(float)
    variance = 200 / 2 + (15 / 2) ** 2
    n = data.size
    # five sigma: error of a mean and of a variance of n normal numbers
    assert data.mean() == pytest.approx(200, abs=5 * np.sqrt(variance / n))
    assert data.var() == pytest.approx(variance, abs=5 * variance * np.sqrt(2 / n))
    d = data - data.mean()
    assert np.mean(d[:, 1:] * d[:, :-1]) == pytest.approx(0, abs=5 * variance / np.sqrt(n))
    assert np.mean(d[1:] * d[:-1]) == pytest.approx(0, abs=5 * variance / np.sqrt(n))


def test_a_star_brings_its_own_noise():
    side = Side(sky=0.0, gain=0.5, read_noise=0.0)
    sky = replace(EMPTY, new=side, n_stars=1, flux_min=1e5, flux_max=1e5)
    # total of a Poisson process: variance 1e5 / 0.5; the star lies well inside in these seeds
    sums = np.array([simulate(sky, seed=s).new.data.sum(dtype=float) for s in (4, 4, 5, 8)])
    assert sums[0] == sums[1]
    assert np.all(np.abs(sums - 1e5) < 5 * np.sqrt(1e5 / 0.5) + 2e-3 * 1e5)


def test_seed_decides_everything():
    sky = Sky(shape=(300, 310), n_stars=20, n_galaxies=5, n_transients=4, jitter=0.1)
    a, b, c = simulate(sky, 7), simulate(sky, 7), simulate(sky, 8)
    np.testing.assert_array_equal(a.new.data, b.new.data)
    np.testing.assert_array_equal(a.ref.data, b.ref.data)
    assert np.array_equal(a.truth["x"], b.truth["x"])
    assert not np.array_equal(a.new.data, c.new.data)
    assert a.new.data.dtype == np.float32
    assert a.new.shape == a.ref.shape == (300, 310)


def test_new_and_reference_noise_are_independent():
    pair = simulate(EMPTY, seed=3)
    r = np.corrcoef(pair.new.data.ravel(), pair.ref.data.ravel())[0, 1]
    assert abs(r) < 5 / np.sqrt(pair.new.data.size)


def test_truth_tells_signs_and_flux_ratio():
    sky = Sky(shape=(512, 512), n_stars=50, n_galaxies=10, n_transients=10)
    t = simulate(sky, 1).truth
    assert sky.flux_ratio == pytest.approx(10**0.12)
    transients, rest = t[t["kind"] == "transient"], t[t["kind"] != "transient"]
    assert np.count_nonzero(transients["flux"] > 0) == np.count_nonzero(transients["flux"] < 0) == 5
    assert np.all(np.sign(transients["snr"]) == np.sign(transients["flux"]))
    # what is in both images differs in nothing but the scale (double precision)
    np.testing.assert_allclose(rest["flux_ref"], sky.flux_ratio * rest["flux_new"], rtol=1e-12)
    assert np.all(rest["flux"] == 0)
    stars = t["flux_new"][t["kind"] == "star"]
    assert stars.min() >= sky.flux_min
    assert stars.max() <= sky.flux_max


def test_star_counts_follow_the_slope():
    sky = replace(EMPTY, n_stars=20000, flux_min=100.0, flux_max=1e4, flux_slope=1.0)
    flux = np.array(simulate(sky, 1).truth["flux_new"])
    for f in (200.0, 1000.0, 5000.0):
        p = (1 / f - 1e-4) / (1e-2 - 1e-4)
        # five sigma of a binomial count
        assert np.mean(flux > f) == pytest.approx(p, abs=5 * np.sqrt(p * (1 - p) / flux.size))


def test_galaxies_hold_half_of_their_light_within_their_size():
    quiet = Side(sky=0.0, gain=1e3, read_noise=0.0, fwhm=1.0, beta=6.0)
    sky = Sky(
        new=quiet, shape=(301, 301), n_stars=0, n_galaxies=1, n_transients=0, flux_min=1e4, flux_max=1e6
    )
    pair = next(
        p
        for p in (simulate(sky, s) for s in range(50))
        if np.hypot(p.truth["x"] - 150, p.truth["y"] - 150) < 60
    )
    g = pair.truth[0]
    rows, columns = np.mgrid[:301, :301]
    t = np.deg2rad(g["angle"])
    u = (columns - g["x"]) * np.cos(t) + (rows - g["y"]) * np.sin(t)
    v = -(columns - g["x"]) * np.sin(t) + (rows - g["y"]) * np.cos(t)
    inside = np.hypot(u, v / g["ratio"]) < g["size"]
    # forty knots of 2.5 % each, blurred by a sharp PSF
    assert pair.new.data[inside].sum() / g["flux_new"] == pytest.approx(0.5, abs=0.1)
    assert pair.new.data.sum(dtype=float) / g["flux_new"] == pytest.approx(1, abs=0.01)


def test_snr_of_the_truth_is_reached_by_matched_filtering():
    """With one PSF and a noiseless reference, proper subtraction is a matched filter."""
    new = Side(sky=900.0, gain=1.0, read_noise=0.0, fwhm=3.0, ellipticity=0.0)
    ref = replace(new, sky=1e-4)
    sky = replace(EMPTY, new=new, ref=ref, n_transients=2, transient_min=10.0, transient_max=10.0, hosted=0.0)
    pair = simulate(sky, 1)
    psf = pair.psf_new(250, 200)
    expected = 10 * np.sqrt(np.sum(psf**2) / 900)
    # the stamp's rim and the transient's own photons (10 among 900) cost less than 1 %
    assert np.max(pair.transients["snr"]) == pytest.approx(expected, rel=0.01)


def test_transients_keep_apart_and_off_the_border():
    t = simulate(Sky(shape=(512, 600), n_transients=12), 5).transients
    x, y = np.array(t["x"]), np.array(t["y"])
    d = np.hypot(x[:, None] - x, y[:, None] - y) + 1e9 * np.eye(len(t))
    assert d.min() > 20
    assert x.min() >= 21
    assert y.max() <= 511 - 21


def test_saturation_clips_and_masks():
    sky = replace(EMPTY, new=Side(saturation=2000.0), n_stars=5, flux_min=1e5, flux_max=1e6)
    image = simulate(sky, 1).new
    assert image.data.max() == 2000
    assert np.count_nonzero(image.mask) == np.count_nonzero(image.data == 2000) > 0
    assert image.saturation == 2000


def test_wcs_puts_sources_at_their_coordinates():
    pair = simulate(Sky(shape=(256, 300), n_stars=5, n_galaxies=0, n_transients=0, pixel_scale=0.5), 1)
    x, y = pair.new.wcs.wcs_world2pix(pair.truth["ra"], pair.truth["dec"], 0)
    np.testing.assert_allclose(x, pair.truth["x"], atol=1e-6)
    np.testing.assert_allclose(y, pair.truth["y"], atol=1e-6)
    ra, dec = pair.new.wcs.wcs_pix2world(149.5, 127.5, 0)
    assert (float(ra), float(dec)) == pytest.approx((150, 2), abs=1e-9)
    ra, dec = pair.new.wcs.wcs_pix2world(149.5, 129.5, 0)
    assert float(dec) - 2 == pytest.approx(1 / 3600, rel=1e-6)


def test_files_hold_the_pair(tmp_path):
    from astropy.io import fits
    from astropy.table import Table

    pair = simulate(Sky(shape=(64, 80), n_stars=3, n_galaxies=1, n_transients=2), 1)
    paths = write_pair(pair, tmp_path / "a folder")
    data, header = fits.getdata(paths["new"], header=True)
    np.testing.assert_array_equal(data, pair.new.data)
    assert header["GAIN"] == pair.new.gain
    assert header["CTYPE1"] == "RA---TAN"
    truth = Table.read(paths["truth"])
    assert truth.colnames == pair.truth.colnames
    np.testing.assert_array_equal(truth["flux"], pair.truth["flux"])


def test_files_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    pair = simulate(replace(EMPTY, shape=(64, 64)), 1)
    with pytest.raises(OutputError, match="file"):
        write_pair(pair, tmp_path / "file")


@pytest.mark.parametrize(
    ("wrong", "name"),
    [
        ({"shape": (10, 100)}, "shape"),
        ({"n_stars": -1}, "n_stars"),
        ({"flux_min": 10.0, "flux_max": 5.0}, "flux_max"),
    ],
)
def test_impossible_skies_are_refused(wrong, name):
    with pytest.raises(OptionError, match=name):
        Sky(**wrong)


def test_a_turned_reference_shows_the_same_sky_elsewhere():
    sky = replace(QUIET, shift=(7.3, -4.6), rotation=12.0)
    straight, turned = simulate(QUIET, 3), simulate(sky, 3)
    np.testing.assert_array_equal(straight.new.data, turned.new.data)
    stars = turned.truth[turned.truth["kind"] == "star"]
    bright = stars[np.argsort(-np.asarray(stars["flux_ref"]))[:20]]
    u, v = sky.on_ref(np.asarray(bright["x"]), np.asarray(bright["y"]))
    ra, dec = turned.ref.wcs.wcs_pix2world(u, v, 0)
    # the header tells where they are: rounding of a matrix of 1e-4 deg
    np.testing.assert_allclose(ra, bright["ra"], atol=1e-9)
    np.testing.assert_allclose(dec, bright["dec"], atol=1e-9)
    ny, nx = sky.shape
    inside = (u > 12) & (v > 12) & (u < nx - 13) & (v < ny - 13)
    assert inside.sum() > 8
    for x, y in zip(u[inside], v[inside], strict=True):
        box = turned.ref.data[round(y) - 1 : round(y) + 2, round(x) - 1 : round(x) + 2]
        around = turned.ref.data[round(y) - 12 : round(y) + 13, round(x) - 12 : round(x) + 13]
        assert box.max() > np.median(around) + 5 * np.std(np.sort(around.ravel())[:300])


def test_a_stamp_lies_where_its_offset_says():
    stamp = psf_stamp(Side(fwhm=4.0, ellipticity=0), (100, 100), (50.0, 50.0), 41, (0.3, -0.25))
    p = np.arange(41) - 20
    assert (stamp * p[None, :]).sum() == pytest.approx(0.3, abs=0.01)  # the wings that the stamp cuts
    assert (stamp * p[:, None]).sum() == pytest.approx(-0.25, abs=0.01)
