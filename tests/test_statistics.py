"""What the figures of a subtraction mean, measured on skies of known truth (seeded, without saturated stars).

The independent oracle is the truth of `zogyp.simulate` (exact Moffat stars, Poisson and read noise). Standard
errors: S_corr is a Gaussian field of correlation exp(-r²/4 g²), g² = the square of P_D's width, so that N
pixels are worth N / (2 pi g²) independent ones and its spread is known to sqrt(pi g² / N): 0.5 per cent at
N = 200,000 and FWHM 3.5 px; 0.9 per cent at FWHM 7.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import pytest

import zogyp
from zogyp.options import TransientOptions
from zogyp.products import Subtraction
from zogyp.simulate import SimulatedPair, simulate
from zogyp.sky import Side, Sky

LOW = 3.5  # sigma; far enough out for the theory of peaks, and there are enough to count
ONE = zogyp.SubtractOptions(threads=1, transients=TransientOptions(threshold=LOW))
PLANES = ("D", "S", "Scorr", "alpha", "alpha_err", "mask", "psf")
COMMON = {"shape": (500, 540), "n_galaxies": 0, "flux_min": 1000.0, "flux_max": 2e5}  # 2e5: none saturates


def side(fwhm, variation=0.0, ref=False):
    """One exposure; the reference has its own sky, zero point, gain and direction of the ellipse.

    The gains are far from 1, to either side, so that one that is applied twice or inversely shows.
    """
    more = {"sky": 300.0, "zero_point": 25.3, "angle": -20.0, "gain": 0.7} if ref else {"gain": 3.0}
    return Side(fwhm=fwhm, variation=variation, **more)


SKIES = {
    "constant": Sky(n_stars=240, n_transients=0, new=side(3.5), ref=side(3.0, ref=True), **COMMON),
    "varying": Sky(
        n_stars=240, n_transients=0, new=side(3.5, 0.06), ref=side(3.0, -0.05, ref=True), **COMMON
    ),
    "under": Sky(n_stars=240, n_transients=0, new=side(1.7), ref=side(1.9, ref=True), **COMMON),
    "broad": Sky(n_stars=120, n_transients=0, new=side(7.0), ref=side(6.2, ref=True), **COMMON),
}
SEEDS = {"constant": (1, 2, 3), "varying": (1, 2), "under": (1, 2), "broad": (1, 2)}


@dataclass(frozen=True)
class Run:
    """A simulated pair and its subtraction."""

    pair: SimulatedPair
    result: Subtraction

    @property
    def g2(self):
        """Half the square of the Gaussian width of S_corr's peaks, from the second moments of P_D's power."""
        n = 256
        power = np.abs(np.fft.fft2(self.result.psf, (n, n))) ** 2
        k2 = (2 * np.pi * np.fft.fftfreq(n)) ** 2
        x, y = ((power * k).sum() / power.sum() for k in (k2[None, :], k2[:, None]))
        return 0.5 / np.sqrt(x * y)

    @property
    def blank(self):
        """Pixels that can be judged and lie apart from the sources."""
        free = np.isfinite(self.result.Scorr)
        reach = int(3.5 * max(self.pair.sky.new.fwhm, self.pair.sky.ref.fwhm))
        ny, nx = free.shape
        for row in self.pair.truth:
            y, x = round(row["y"]), round(row["x"])
            rows = np.arange(max(y - reach, 0), min(y + reach + 1, ny))
            columns = np.arange(max(x - reach, 0), min(x + reach + 1, nx))
            near = np.hypot(rows[:, None] - y, columns - x) <= reach
            free[rows[:, None], columns] &= ~near
        return free

    @property
    def stars(self):
        """Rows and columns of the pixels under stars off the border, and the stars' S/N in the new image."""
        t = self.pair.truth
        ny, nx = self.result.Scorr.shape
        t = t[(t["kind"] == "star") & (t["flux_new"] > 3000)]
        t = t[(t["x"] > 12) & (t["x"] < nx - 13) & (t["y"] > 12) & (t["y"] < ny - 13)]
        snr = np.array(t["flux_new"]) / np.nanmedian(self.result.alpha_err)
        return np.rint(t["y"]).astype(int), np.rint(t["x"]).astype(int), snr


@cache
def empty(name, seed):
    """A sky without transients, subtracted."""
    pair = simulate(SKIES[name], seed=seed)
    return Run(pair, zogyp.subtract(pair.new, pair.ref, ONE))


@cache
def crowd(name):
    """The same with transients of S/N 15 to 250, every other one negative."""
    n = 24 if name == "broad" else 60
    sky = replace(SKIES[name], n_transients=n, transient_min=3000.0, transient_max=5e4, hosted=0.0)
    pair = simulate(sky, seed=11)
    return Run(pair, zogyp.subtract(pair.new, pair.ref, ONE))


@pytest.fixture(scope="module", autouse=True)
def forget():
    """Give the memory back."""
    yield
    empty.cache_clear()
    crowd.cache_clear()


def each_seed(name):
    return [empty(name, seed) for seed in SEEDS[name]]


def spread_error(runs, values):
    """Standard error of the spread of that many pixels of S_corr."""
    return np.sqrt(np.pi * runs[0].g2 / values)


every_sky = pytest.mark.parametrize("name", SKIES)
ALL_LIGHT = pytest.mark.xfail(
    strict=True,
    reason="few stars: the ratio of all light is 6 % wrong, and says 1 %, where stars are blended",
)
clear_skies = pytest.mark.parametrize("name", [*list(SKIES)[:3], pytest.param("broad", marks=ALL_LIGHT)])


# ---------------------------------------------------------------- noise


@every_sky
def test_scorr_spreads_by_one_in_blank_sky(name):
    """To 1 per cent (the aim of the design) and 3 standard errors."""
    runs = each_seed(name)
    values = np.concatenate([run.result.Scorr[run.blank] for run in runs])
    assert abs(values.std(dtype=np.float64) - 1) < 0.01 + 3 * spread_error(runs, values.size)


@every_sky
def test_summary_reports_the_spread_of_the_pixels(name):
    """The summary's robust figure is the spread of all pixels, and near 1 too."""
    for run in each_seed(name):
        values = run.result.Scorr[np.isfinite(run.result.Scorr)]
        mad = 1.4826 * np.median(np.abs(values - np.median(values)))
        assert run.result.summary["scorr_mad"] == pytest.approx(mad, rel=0.002)
        # the median deviation knows the spread 1.65 times worse than the standard deviation does
        assert abs(mad - 1) < 0.01 + 3 * 1.65 * spread_error([run], values.size)


@every_sky
def test_mean_of_blank_sky_is_zero(name):
    """The skies are removed: a level left would shift S_corr. One pixel in 4 pi g² is independent."""
    for run in each_seed(name):
        values = run.result.Scorr[run.blank]
        # the sky itself is measured from these pixels, in meshes of 128: it can only be better than noise
        assert abs(values.mean(dtype=np.float64)) < 0.02 + 3 * np.sqrt(4 * np.pi * run.g2 / values.size)


@every_sky
def test_d_is_white_and_of_unit_variance(name):
    """Neighbours: < 0.01 (the design); three standard errors are 0.005. Variance: 2 per cent."""
    d = [np.where(run.blank, run.result.D, np.nan) for run in each_seed(name)]
    variance = np.mean([np.nanvar(plane) for plane in d])
    assert abs(variance - 1) < 0.02
    for dy, dx in ((0, 1), (1, 0), (1, 1), (0, 2), (2, 0)):
        products = [p[dy:, dx:] * p[: p.shape[0] - dy, : p.shape[1] - dx] for p in d]
        assert abs(np.mean([np.nanmean(p) for p in products])) / variance < 0.01, (dy, dx)


@pytest.mark.parametrize("name", ["constant", "varying", "under"])
def test_scorr_spreads_by_one_under_stars(name):
    """About 90 stars a sky, S/N 20 to 1300: 0.85 to 1.15, and the standard error of so many.

    (The few stars of the broad sky leave its flux ratio uncertain, which its stars show together.)
    """
    values = []
    for run in each_seed(name):
        rows, columns, _ = run.stars
        values.append(run.result.Scorr[rows, columns])
    values = np.concatenate(values)
    assert values.size > 80
    assert np.isfinite(values).all()
    assert abs(values.std() - 1) < 0.15 + 1 / np.sqrt(2 * values.size)
    assert abs(values.mean()) < 0.3


@pytest.mark.parametrize("name", ["constant", "varying", "broad"])
@pytest.mark.parametrize("nu", [3.5, 4.0, 4.5])
def test_false_peaks_are_as_many_as_gaussian_noise_has(name, nu):
    """Stars included. Per pixel and side nu exp(-nu²/2) / (2^2.5 pi^1.5 g²); within 4 Poisson errors."""
    expected = found = 0.0
    for run in each_seed(name):
        n = int(np.isfinite(run.result.Scorr).sum())
        expected += 2 * n * nu * np.exp(-(nu**2) / 2) / (2**2.5 * np.pi**1.5 * run.g2)
        found += (np.abs(run.result.transients["snr"]) > nu).sum()
    # counts go as exp(-nu²/2 s²): a spread of 0.99, which is allowed, makes them 12 to 20 per cent fewer
    assert found <= expected + 4 * np.sqrt(expected) + 1
    assert found >= 0.8 * expected - 4 * np.sqrt(expected) - 1


@pytest.mark.parametrize("nu", [3.5, 4.0, 4.5])
def test_false_peaks_of_an_undersampled_sky_are_no_more(nu):
    """Peaks between the pixels are missed in part, so there is only an upper limit."""
    expected = found = 0.0
    for run in each_seed("under"):
        n = int(np.isfinite(run.result.Scorr).sum())
        expected += 2 * n * nu * np.exp(-(nu**2) / 2) / (2**2.5 * np.pi**1.5 * run.g2)
        found += (np.abs(run.result.transients["snr"]) > nu).sum()
    assert found <= expected + 4 * np.sqrt(expected) + 1


@every_sky
def test_nothing_beyond_six_sigma_where_nothing_changed(name):
    """Not at the stars either, but where the border cuts them; 1e-3 of such peaks are expected in a sky."""
    for run in each_seed(name):
        found = run.result.transients
        strong = found[np.abs(found["snr"]) > 6]
        assert all("edge" in flags for flags in strong["flags"])
        assert len(strong) <= 1


# ---------------------------------------------------------------- flux


@clear_skies
def test_flux_ratio_is_that_of_the_sky(name):
    """Within 4 of its own standard errors and 0.3 per cent; 1.5 where wings widen with the seeing.

    About 30 stars of S/N above 50 tell it. A PSF's wings come from few bright stars, so that how they vary
    over the field is hardly known, and with them the light within a star's reach.
    """
    for run in each_seed(name):
        summary = run.result.summary
        ratio = summary["F_r"] / run.pair.sky.flux_ratio
        assert abs(ratio - 1) < (0.015 if name == "varying" else 0.003) + 4 * summary["F_r_err"] / ratio
        assert summary["F_r_err"] < 0.03


def matched(run):
    """The transients' true flux, what was found for it, its error, S/N found and possible."""
    found = run.result.transients
    rows = []
    for true in run.pair.transients:
        distance = np.hypot(found["x"] - true["x"], found["y"] - true["y"])
        near = int(np.argmin(distance))
        # a place is known to about fwhm / (1.7 S/N) along each axis: five of that
        reach = 0.1 + 3 * run.pair.sky.new.fwhm / abs(true["snr"])
        assert distance[near] < reach, f"the transient at {true['x']:.1f}, {true['y']:.1f} was not found"
        assert np.sign(true["flux"]) == found["sign"][near]
        rows.append(
            [true["flux"], found["flux"][near], found["flux_err"][near], found["snr"][near], true["snr"]]
        )
    return np.array(rows).T


# Allowed bias: 1 per cent. Where the seeing is below two pixels, peaks between pixels lose flux by aliasing
# (0.8 per cent on average at FWHM 1.7) and by interpolation: 2 per cent.
BIAS = {"constant": 0.01, "broad": 0.01, "under": 0.02}


@pytest.mark.parametrize("name", BIAS)
def test_flux_of_transients_is_unbiased(name):
    """The median of found over true flux is 1 within the bias allowed and 4 standard errors."""
    run = crowd(name)
    true, found, *_ = matched(run)
    ratio = found / true
    spread = 1.4826 * np.median(np.abs(ratio - np.median(ratio)))
    error = 1.25 * spread / np.sqrt(ratio.size)  # of a median
    assert abs(np.median(ratio) - 1) < BIAS[name] + (4 * error if name == "broad" else 0)
    if name == "constant":
        assert abs(np.median(ratio) - 1) < 4 * error


@pytest.mark.parametrize("name", ["constant", "broad"])
def test_errors_of_fluxes_are_right(name):
    """The pull spreads by 1: n of them know it to 1 / sqrt(2 n), 9 (14) per cent; 3 standard errors.

    Fluxes at a noisy peak are too high by half a sigma² / flux, nothing at S/N above 15.
    """
    true, found, error, *_ = matched(crowd(name))
    pull = (found - true) / error
    assert abs(pull.std() - 1) < 3 / np.sqrt(2 * pull.size)
    assert abs(pull.mean()) < 4 / np.sqrt(pull.size)


@pytest.mark.parametrize(("name", "least"), [("constant", 0.97), ("under", 0.94), ("broad", 0.96)])
def test_snr_is_near_the_best_possible(name, least):
    """Found S/N over that of exact knowledge; the peak's pixel phase costs undersampled images more."""
    *_, snr, best = matched(crowd(name))
    ratio = np.median(snr / best)
    assert least < ratio < 1.02


def test_no_false_transients_among_true_ones():
    """Beyond 6 sigma there are the transients and nothing else: no rings, no dipoles."""
    run = crowd("constant")
    found = run.result.transients
    strong = found[np.abs(found["snr"]) > 6]
    assert len(strong) == len(run.pair.transients)


# ---------------------------------------------------------------- what must not matter


def moved(a, b):
    """Largest change of S_corr; what can be judged is the same."""
    assert np.array_equal(np.isfinite(a.Scorr), np.isfinite(b.Scorr))
    return float(np.nanmax(np.abs(a.Scorr - b.Scorr)))


@pytest.mark.parametrize("name", ["constant", "under"])
def test_exchanging_new_and_reference_changes_only_the_sign(name):
    """1e-4 sigma (the design): float32 keeps 2e-5 at S/N 300. The two lie on each other: nothing is moved."""
    run = empty(name, 1)
    other = zogyp.subtract(run.pair.ref, run.pair.new, ONE)
    for plane in ("D", "Scorr"):
        here, there = getattr(run.result, plane), getattr(other, plane)
        assert np.array_equal(np.isnan(here), np.isnan(there))
        assert np.nanmax(np.abs(here + there)) < 1e-4
    ratio = run.result.summary["F_r"]
    assert ratio * other.summary["F_r"] == pytest.approx(1, rel=1e-9)
    # fluxes are in the units of the new image, which the reference now is
    assert np.nanmax(np.abs(ratio * run.result.alpha + other.alpha) / other.alpha_err) < 1e-3
    assert np.allclose(run.result.psf, other.psf, atol=1e-6)
    assert np.array_equal(run.result.mask, other.mask)  # nothing but the border's bit
    assert np.allclose(np.sort(run.result.transients["snr"]), np.sort(-other.transients["snr"]), atol=1e-3)


@pytest.mark.parametrize("name", ["constant", "varying", "under", "broad"])
def test_tile_size_does_not_matter(name):
    """Less than 0.02 sigma (the aim) at any pixel, in the sky, at stars of S/N 1000, at the border.

    Tiles are cut differently, not the PSFs and flux ratios they are subtracted with: what moves is rounding.
    """
    run = empty(name, 2)
    for tile in (200, 384):
        other = zogyp.subtract(run.pair.new, run.pair.ref, replace(ONE, tile=tile))
        assert other.summary["options"]["tile"] == tile
        if tile == 200:
            assert other.summary["n_tiles"] > 2 * run.result.summary["n_tiles"]
        assert moved(run.result, other) < 0.02


def test_number_of_threads_changes_no_bit():
    run = empty("constant", 2)
    assert run.result.summary["n_tiles"] > 3
    other = zogyp.subtract(run.pair.new, run.pair.ref, replace(ONE, threads=3))
    for plane in PLANES:
        assert np.array_equal(getattr(run.result, plane), getattr(other, plane), equal_nan=True), plane
    assert list(run.result.transients["snr"]) == list(other.transients["snr"])


def in_unit(image, unit):
    """The same exposure with its pixels in another unit."""
    variance = None if image.variance is None else image.variance * np.float32(unit) ** 2
    return replace(
        image,
        data=image.data * np.float32(unit),
        variance=variance,
        gain=None if image.gain is None else image.gain / unit,
        saturation=image.saturation * unit,
    )


def test_the_unit_of_both_images_does_not_matter():
    """Pixels times 1e-6, as in images in Jy. Float32 rounds the pixels anew, which flips a few clipped stars.

    0.01 sigma where |S_corr| is of order 1.
    """
    run = empty("constant", 1)
    other = zogyp.subtract(in_unit(run.pair.new, 1e-6), in_unit(run.pair.ref, 1e-6), ONE)
    assert moved(run.result, other) < 0.01
    assert np.nanmax(np.abs(other.alpha * 1e6 - run.result.alpha) / run.result.alpha_err) < 0.01
    assert other.summary["limiting_flux"] * 1e6 == pytest.approx(
        run.result.summary["limiting_flux"], rel=1e-3
    )
    assert other.summary["notes"] == run.result.summary["notes"]


def test_the_unit_of_one_image_goes_into_the_flux_ratio():
    run = empty("constant", 1)
    other = zogyp.subtract(run.pair.new, in_unit(run.pair.ref, 1e5), ONE)
    assert moved(run.result, other) < 0.01
    assert other.summary["F_r"] == pytest.approx(1e5 * run.result.summary["F_r"], rel=1e-4)
    assert np.nanmax(np.abs(other.alpha - run.result.alpha) / run.result.alpha_err) < 0.01


# ---------------------------------------------------------------- noise maps


def true_variance(pair, which):
    """Sky, read noise and the photons of every star, at its nearest pixel: a noise map of the best kind."""
    view = getattr(pair.sky, which)
    light = np.zeros(pair.sky.shape)
    ny, nx = light.shape
    stamp = getattr(pair, f"psf_{which}")(nx / 2, ny / 2)  # the PSF is the same everywhere
    h = stamp.shape[0] // 2
    padded = np.pad(light, h)
    for row in pair.truth:
        y, x = round(row["y"]), round(row["x"])
        padded[y : y + 2 * h + 1, x : x + 2 * h + 1] += row[f"flux_{which}"] * stamp
    light = padded[h:-h, h:-h]
    return ((light + view.sky) / view.gain + (view.read_noise / view.gain) ** 2).astype(np.float32)


@cache
def mapped(factor=1.0):
    """A pair that knows its variance and no gain; the left half's is claimed ``factor`` times too large."""
    pair = empty("constant", 3).pair
    images = []
    for which in ("new", "ref"):
        variance = true_variance(pair, which)
        variance[:, : variance.shape[1] // 2] *= np.float32(factor)
        images.append(replace(getattr(pair, which), variance=variance, gain=None, read_noise=None))
    return replace(pair, new=images[0], ref=images[1])


def test_noise_maps_are_believed():
    """With the true variance S_corr spreads by one, in blank sky and under stars; no gain is guessed."""
    pair = mapped()
    run = Run(pair, zogyp.subtract(pair.new, pair.ref, ONE))
    values = run.result.Scorr[run.blank]
    assert abs(values.std(dtype=np.float64) - 1) < 0.005 + 3 * spread_error([run], values.size)
    rows, columns, _ = run.stars
    assert 0.75 < run.result.Scorr[rows, columns].std() < 1.25  # 90 stars: 3 standard errors
    assert not [note for note in run.result.summary["notes"] if "gain" in note]
    # in another unit the variance scales with its square, and nothing moves (but for clipped stars)
    other = zogyp.subtract(in_unit(pair.new, 1e-6), in_unit(pair.ref, 1e-6), ONE)
    assert moved(run.result, other) < 0.02


def test_noise_maps_work_pixel_by_pixel():
    """Where four times the variance is claimed, S_corr spreads by half as much."""
    pair = mapped(4.0)
    result = zogyp.subtract(pair.new, pair.ref, ONE)
    middle = pair.sky.shape[1] // 2
    blank = Run(pair, result).blank
    left, right = blank.copy(), blank.copy()
    left[:, middle - 20 :] = False
    right[:, : middle + 20] = False
    ratio = result.Scorr[left].std() / result.Scorr[right].std()
    assert ratio == pytest.approx(0.5, abs=0.02)  # each half knows its spread to 0.75 per cent
