"""The sky's noise and gain, from images whose noise and gain are known."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, shift

import skies
from zogyp.core.meshes import MeshSurface
from zogyp.measure.background import over_image
from zogyp.measure.noise import (
    SkyNoise,
    at_seeing,
    from_variance,
    high_pass,
    mesh_table,
    quantum,
    sky_noise,
    strips,
)
from zogyp.measure.robust import CHI2_MEDIAN, excess_variance, median, robust_sigma

SHAPE = (512, 512)


def none_bad(shape=SHAPE):
    return np.zeros(shape, bool)


def measured(image, sky, gain=None, read_noise=None, fwhm=3.5):
    level = MeshSurface.flat(sky, image.shape)
    return sky_noise(
        image - np.float32(sky), level, none_bad(image.shape), fwhm=fwhm, gain=gain, read_noise=read_noise
    )


def test_robust_sigma():
    a = np.random.default_rng(1).normal(5, 2, 100_000)
    a[:1000] = 1e9  # one per cent of outliers widens a MAD by 1.4 per cent; its own error is 0.4
    assert robust_sigma(a) == pytest.approx(2, rel=0.03)
    assert np.isnan(robust_sigma(np.zeros(0)))
    large = np.random.default_rng(2).normal(size=(1500, 2000))
    assert robust_sigma(large) == pytest.approx(1, rel=0.01)  # a million of them: 0.12 per cent


@pytest.mark.parametrize("fwhm", [2.0, 4.0])
def test_high_pass_keeps_white_noise_and_drops_what_is_smooth(fwhm):
    white = np.random.default_rng(3).normal(size=SHAPE).astype(np.float32)
    inner = np.s_[4:-4, 4:-4]
    assert np.std(high_pass(white, fwhm)[inner]) == pytest.approx(1, rel=0.02)  # 2e5 pixels, correlated
    y, x = np.mgrid[:60, :80].astype(np.float32)
    plane = 3 + 0.7 * x - 0.2 * y + 0.01 * x * y
    assert np.abs(high_pass(plane, fwhm)).max() < 1e-4


@pytest.mark.parametrize("fwhm, share", [(4.0, 0.01), (3.0, 0.03), (2.0, 0.13)])
def test_high_pass_takes_nearly_nothing_from_a_star(fwhm, share):
    star = skies.stamp(skies.gaussian(fwhm), 0.2, -0.3, 41).astype(np.float32)
    assert np.abs(high_pass(star, fwhm)).max() < share * star.max()


@pytest.mark.parametrize("extra", [0.0, 0.3, 2.0])
@pytest.mark.parametrize("outliers", [0, 100])
def test_excess_variance_finds_what_was_added(extra, outliers):
    rng = np.random.default_rng(4)
    n = 20_000
    known, scale = rng.uniform(0.5, 2, n), rng.uniform(0.2, 5, n)
    e = rng.normal(size=n) * np.sqrt(known + extra * scale)
    e[:outliers] = 100
    # the spread of twenty trials with other seeds is 2 per cent of known / scale + extra; half a per cent of
    # outliers adds about one
    assert excess_variance(e**2, known, scale) == pytest.approx(extra, abs=0.03 + 0.06 * extra)


@pytest.mark.parametrize("n", [10, 37, 400])
def test_excess_variance_halves_the_votes(n):
    """At what it finds, but not at less, the deviations above their median have at most half of the votes."""
    rng = np.random.default_rng(n)
    known, scale = rng.uniform(0.2, 1, n), rng.uniform(0.5, 2, n)
    square = (rng.normal(size=n) * np.sqrt(known + 3 * scale)) ** 2
    x = excess_variance(square, known, scale)
    assert x > 0

    def above(at, x):
        weight = scale / (known + scale * x)
        return weight[square > CHI2_MEDIAN * (known + scale * at)].sum() / weight.sum()

    # the votes are those of the last round but one, which has all but settled
    assert above(x * (1 + 1e-9), x) < 0.5 + 1e-3
    assert above(x * (1 - 1e-9), x) > 0.5 - 1e-3


@pytest.mark.parametrize("n", [1, 2, 3, 10, 1001])
@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_median_is_that_of_numpy(n, kind):
    a = np.random.default_rng(n).normal(size=n).astype(kind)
    assert median(a) == float(np.median(a))
    a[n // 2] = np.nan
    assert np.isnan(median(a))
    assert np.isnan(median(a[:0]))


def test_excess_variance_without_excess_is_zero():
    zeros = 0
    for seed in range(40):
        e = np.random.default_rng(seed).normal(size=300)
        zeros += excess_variance(e**2, np.ones(300)) == 0
    assert zeros >= 34  # two sigma of one side: 2 per cent false alarms expected
    assert excess_variance(np.ones(5), np.ones(5)) == 0  # too few to tell
    assert excess_variance(np.full(100, 0.01), np.ones(100)) == 0


def test_told_gain_gives_the_level_and_its_run_over_the_image():
    rng = np.random.default_rng(5)
    gain, read_noise = 1.6, 6.0
    sky = np.linspace(300, 600, SHAPE[1])[None, :].repeat(SHAPE[0], axis=0).astype(np.float32)
    image = (rng.poisson(sky * gain) + rng.normal(0, read_noise, SHAPE)) / gain
    level = over_image(sky[::16, 8::16].repeat(16, axis=0)[:32], SHAPE)  # the values at the meshes' middles
    noise = sky_noise(
        (image - sky).astype(np.float32), level, none_bad(), fwhm=3.5, gain=gain, read_noise=read_noise
    )
    true = np.sqrt(sky / gain + (read_noise / gain) ** 2)
    # a robust sigma of 10^5 high-passed pixels: half a per cent
    np.testing.assert_allclose(noise.sigma.plane(), true, rtol=0.02)
    assert noise.gain == gain
    assert noise.notes == ()


def test_a_gain_that_explains_nothing_is_said_so_and_the_noise_is_measured():
    image = np.random.default_rng(6).normal(500, 20, SHAPE).astype(np.float32)
    noise = measured(image, 500, gain=10.0, read_noise=1.0)  # would be 7, not 20
    assert noise.sigma.typical == pytest.approx(20, rel=0.02)
    assert "do not explain" in noise.notes[0]


def test_without_a_read_noise_the_measured_level_counts():
    rng = np.random.default_rng(7)
    image = ((rng.poisson(400 * 2.0, SHAPE) + rng.normal(0, 12, SHAPE)) / 2.0).astype(np.float32)
    noise = measured(image, 400, gain=2.0)
    assert noise.sigma.typical == pytest.approx(np.sqrt(400 / 2 + 36), rel=0.02)
    assert "of what the gain alone predicts" in noise.notes[0]


@pytest.mark.parametrize("n_stars, flux", [(300, (3e3, 3e5)), (3000, (300, 1e5))])
def test_crowds_do_not_raise_the_noise(n_stars, flux):
    """3000 stars on a quarter of a Mpix, at a seeing of 4 px: hardly a pixel of sky is left."""
    field = skies.star_field(8, n_stars, lambda x, y: skies.gaussian(4.0), flux=flux, n=41)
    sky, gain, read_noise = 200.0, 2.0, 5.0
    image = field.exposed(sky, gain, read_noise)
    noise = measured(image, sky, gain, read_noise, fwhm=4.0)
    true = np.sqrt(sky / gain + (read_noise / gain) ** 2)
    # faint stars' own photons lie in what looks blank: up to five per cent in the crowd
    assert noise.sigma.typical == pytest.approx(true, rel=0.015 if n_stars == 300 else 0.05)


@pytest.mark.parametrize("gain", [0.8, 4.0])
def test_an_unknown_gain_is_estimated_from_the_growth_of_noise_with_light(gain):
    field = skies.star_field(9, 1200, lambda x, y: skies.gaussian(4.5), flux=(1e3, 1e5), n=41)
    image = field.exposed(sky=100.0, gain=gain, read_noise=5.0)
    noise = measured(image, 100.0, fwhm=4.5)
    # the structure of stars passes for noise or the noise for structure: no better than half as much again
    assert gain / 1.5 < noise.gain < gain * 1.5
    assert any("gain unknown" in n and "estimated" in n for n in noise.notes)


def test_without_stars_the_gain_is_taken_from_the_sky():
    image = np.random.default_rng(10).poisson(900 * 2.5, SHAPE) / 2.5
    noise = measured(image.astype(np.float32), 900)
    assert noise.gain == pytest.approx(2.5, rel=0.02)
    assert "assumed" in noise.notes[-1]


def test_a_gain_that_nothing_tells_stays_unknown():
    image = np.random.default_rng(11).normal(0, 3, SHAPE).astype(np.float32)
    noise = measured(image, 0)
    assert noise.gain is None
    assert "not measurable" in noise.notes[-1]
    np.testing.assert_allclose(noise.variance(np.full(SHAPE, 1e6, np.float32)), 9, rtol=0.05)


def test_variance_adds_the_photons_of_sources_but_never_takes_any_off():
    noise = SkyNoise(MeshSurface.flat(3.0, (40, 40)), 2.0)
    source = np.zeros((40, 40), np.float32)
    source[8:16, 8:16], source[24:32, 24:32] = 10, -50  # broad enough to stand out of a mean over neighbours
    variance = noise.variance(source)
    np.testing.assert_allclose(variance[[0, 12, 28], [0, 12, 28]], [9, 14, 9], rtol=1e-6)


def test_a_pixels_own_noise_is_not_taken_for_light():
    noise = SkyNoise(MeshSurface.flat(3.0, (500, 500)), 0.5)
    blank = np.random.default_rng(3).normal(0, 3, (500, 500)).astype(np.float32)
    # 2 % of the pixels stand out by chance; all positive ones would add 0.4 sigma / gain = 2.4 to 9
    assert noise.variance(blank).mean() == pytest.approx(9, rel=0.03)


def low_frequency_sigma(smoothing, fwhm):
    """Spread of white noise of unit variance, smoothed by a Gaussian, then seen by a matched filter.

    In units of what white noise of unit variance shows there; both kernels are Gaussians, so it is
    s² / (s² + smoothing²) of the variance, a kernel's share of power below its own width.
    """
    s2 = (fwhm / skies.FWHM) ** 2
    return np.sqrt(s2 / (s2 + smoothing**2))


@pytest.mark.parametrize("smoothing, fwhm", [(0.5, 4.0), (0.7, 3.5), (1.0, 5.0)])
def test_smoothed_noise_counts_as_at_the_seeing(smoothing, fwhm):
    white = np.random.default_rng(12).normal(size=(700, 700))
    smooth = gaussian_filter(white, smoothing, mode="wrap").astype(np.float32)
    first = measured(smooth, 0, fwhm=3.0)
    assert first.sigma.typical < 0.8  # single pixels lost their noise
    noise = at_seeing(first, smooth, none_bad(smooth.shape), fwhm, told_gain=False)
    # a matched filter leaves 700² / 40 independent values: one per cent
    assert noise.sigma.typical == pytest.approx(low_frequency_sigma(smoothing, fwhm), rel=0.05)
    assert "correlated" in noise.notes[-1]


@pytest.mark.parametrize("fraction, fwhm", [((0.4, 0.3), 3.5), ((0.5, 0.5), 3.0)])
def test_resampled_noise_counts_as_at_the_seeing(fraction, fwhm):
    """A quintic spline takes power from the highest frequencies only: at the seeing's nothing is lost."""
    white = np.random.default_rng(16).normal(size=(700, 700))
    moved = shift(white, fraction, order=5, mode="grid-wrap").astype(np.float32)
    first = measured(moved, 0, fwhm=3.0)
    assert first.sigma.typical < 0.7
    noise = at_seeing(first, moved, none_bad(moved.shape), fwhm, told_gain=False)
    # peaks beyond four sigma of single pixels are left out: up to a seventh too low
    assert noise.sigma.typical == pytest.approx(1, rel=0.16)


def test_white_noise_stays_as_it_is():
    white = np.random.default_rng(13).normal(size=SHAPE).astype(np.float32)
    first = SkyNoise(MeshSurface.flat(1.0, SHAPE), 2.0)
    assert at_seeing(first, white, none_bad(), 3.5, told_gain=True) is first


@pytest.mark.parametrize("side", [90, 140])
def test_a_small_white_field_stays_as_it_is(side):
    """Its rim, where filters do not reach, once made every such field coloured; the rest was chance."""
    first = SkyNoise(MeshSurface.flat(1.0, (side, side)), 2.0)
    for seed in range(20):
        white = np.random.default_rng(seed).normal(size=(side, side)).astype(np.float32)
        assert at_seeing(first, white, none_bad(white.shape), 3.5, told_gain=True) is first, seed


def test_a_told_gain_holds_at_all_frequencies_an_estimated_one_shares_the_pixels_fate():
    white = np.random.default_rng(14).normal(size=SHAPE)
    smooth = gaussian_filter(white, 0.8, mode="wrap").astype(np.float32)
    first = SkyNoise(MeshSurface.flat(np.std(smooth), SHAPE), 2.0)
    told = at_seeing(first, smooth, none_bad(), 4.0, told_gain=True)
    guessed = at_seeing(first, smooth, none_bad(), 4.0, told_gain=False)
    ratio = told.sigma.typical / first.sigma.typical
    assert ratio > 1.5
    assert told.gain == 2.0
    assert guessed.gain == pytest.approx(2.0 / ratio**2, rel=1e-5)


def test_a_given_variance_tells_the_sky_by_its_fainter_half():
    rng = np.random.default_rng(15)
    sky = np.linspace(4, 9, SHAPE[1])[None, :].repeat(SHAPE[0], axis=0)
    data = rng.normal(size=SHAPE) * np.sqrt(sky)
    bright = rng.uniform(size=SHAPE) < 0.2
    data[bright] += 500
    variance = (sky + 300 * bright).astype(np.float32)
    noise = from_variance(variance, ~none_bad(), data.astype(np.float32), 1.5)
    # a map of two meshes per side holds beyond their centres: a quarter of the run from 2 to 3
    np.testing.assert_allclose(noise.sigma.plane(), np.sqrt(sky), rtol=0.15)
    assert noise.gain == 1.5


def test_a_mesh_without_pixels_takes_the_typical_value():
    plane = np.full(SHAPE, 3.0, np.float32)
    use = ~none_bad()
    use[:256, :256] = False
    table = mesh_table(plane, use, 5.0, lambda v: float(v.mean())).table
    assert table[0, 0] == 5.0
    assert table[-1, -1] == 3.0


@pytest.mark.parametrize("step", [1.0, 0.5, 4.0, 1 / 1.7])
def test_the_step_of_quantised_pixels_is_found(step):
    values = np.random.default_rng(2).normal(500, 20, 60_000)
    rounded = (np.round(values / step) * step).astype(np.float32)
    assert quantum(rounded) == pytest.approx(step, rel=1e-3)  # float32 near 500: 3e-5


def test_pixels_that_are_not_quantised_have_no_step():
    rng = np.random.default_rng(3)
    assert quantum(rng.normal(500, 20, 60_000).astype(np.float32)) == 0.0
    assert quantum(rng.normal(0, 1e-18, 60_000).astype(np.float32)) == 0.0
    assert quantum(np.full(1000, 3.0, np.float32)) == 0.0


@pytest.mark.parametrize(
    "shape", [(600, 700), (2048, 2048), (6000, 8000), (20480, 20480), (20000, 200_000), (300, 40_000)]
)
def test_a_large_image_is_told_by_strips_however_wide_it_is(shape):
    ny, nx = shape
    bands = strips(shape)
    assert all(0 <= a < b <= ny for a, b in bands)
    if len(bands) == 1:
        assert bands == [(0, ny)] and (ny < 16 * 32 or nx * ny < 16_000_000)
    else:
        rows = [b - a for a, b in bands]
        assert len(set(rows)) == 1 and rows[0] >= 32
        assert all(b <= a for (_, b), (a, _) in pairwise(bands))
        assert sum(rows) <= ny / 2  # less is looked at than there is
