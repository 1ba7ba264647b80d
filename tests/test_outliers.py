"""What one exposure shows and the others do not: compiled passes against scipy's filters, one by one."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from scipy.ndimage import binary_dilation, gaussian_filter, maximum_filter

from zogyp.image import Flag
from zogyp.measure.background import mesh_level
from zogyp.options import BackgroundOptions, RejectOptions
from zogyp.outliers import (
    BRIGHT,
    GROSS,
    GROWTH,
    LEAST_SHARE,
    WIDE,
    WINGS,
    gross,
    guess,
    judged,
    outlying,
    star_share,
)

SHAPES = [(64, 64), (129, 70), (63, 150), (40, 33)]  # on both sides of the bands of rows, and within one
SKY = BackgroundOptions(mesh=16)


def sky(shape, seed=0):
    """Noise with cosmic rays, a trail and a faint wide blob; its variance, stars, unusable pixels."""
    rng = np.random.default_rng(seed)
    model = np.zeros(shape)
    model[tuple(rng.integers(0, n, 12) for n in shape)] = rng.uniform(-300, 6e4, 12)
    model = gaussian_filter(model, 1.3)
    variance = rng.uniform(8, 12, shape) + np.maximum(model, 0)
    rest = rng.normal(0, np.sqrt(variance))
    for size in (60, 25, -40, 400):
        y, x = (rng.integers(0, n - 1) for n in shape)
        rest[y, x : x + 2] += size * 3
    rest[:, -1] += np.linspace(0, 40, shape[0])  # up to the border
    rest[0, 5:9] += 70
    blob = np.zeros(shape)
    blob[shape[0] // 2, shape[1] // 3] = 700
    rest += gaussian_filter(blob, 1.6)
    unusable = rng.random(shape) < 0.02
    rest[unusable] = 1e6
    return *(a.astype(np.float32) for a in (rest, variance, model)), unusable


def significance(rest, variance, light, options):
    return rest / np.sqrt(variance + (np.float32(options.share / options.threshold) * light) ** 2)


def told(rest, variance, model, unusable, fwhm, options):
    """`outlying` by whole planes: where, and how far off each pixel is."""
    rest, light, s = np.where(unusable, np.float32(0), rest), np.abs(model), max(fwhm, 1.5) / 2.3548
    z = np.abs(significance(rest, variance, maximum_filter(light, 3), options))
    limit = 4 * np.sqrt(variance)
    smooth, halo = (gaussian_filter(a, s, truncate=3.0) for a in (np.clip(rest, -limit, limit), light))
    wide = np.abs(significance(smooth, variance / (4 * np.pi * s**2), halo, options))
    out = (z > options.threshold) | (wide > WIDE * options.threshold)
    if out.any():
        out = binary_dilation(out, np.ones((3, 3)), iterations=GROWTH, mask=z > WINGS)
    return out & ~unusable, z


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("fwhm", [1.2, 2.7, 5.0])
@pytest.mark.parametrize("options", [RejectOptions(), RejectOptions(threshold=4.0, share=0.3)])
def test_outlying_pixels_are_those_of_whole_planes(shape, fwhm, options):
    rest, variance, model, unusable = sky(shape)
    out, z = outlying((rest, variance, model), unusable, fwhm, options)
    want, want_z = told(rest, variance, model, unusable, fwhm, options)
    assert want.any() and z.dtype == np.float32
    np.testing.assert_array_equal(out, np.flatnonzero(want))
    np.testing.assert_allclose(z, want_z.ravel()[out], rtol=1e-6)


def test_wings_are_followed_no_further_than_that():
    rest, one = np.zeros((50, 60), np.float32), np.ones((50, 60), np.float32)
    rest[20, 5:40] = WINGS + 0.5
    rest[20, 5] = 50
    out, _ = outlying((rest, one, 0 * one), np.zeros(rest.shape, bool), 2.0, RejectOptions())
    assert sorted(out % 60) == list(range(5, 6 + GROWTH)) and set(out // 60) == {20}


def test_nothing_is_out_of_a_quiet_image():
    zero = np.zeros((70, 50), np.float32)
    out, z = outlying((zero, zero + 1, zero), np.zeros(zero.shape, bool), 3.0, RejectOptions())
    assert out.size == 0 and z.size == 0


@pytest.mark.parametrize("side", [1, 3, 4, 70])
def test_the_brightest_nearby_is_that_of_scipy(side):
    plane = np.random.default_rng(side).normal(0, 1, (side, 53)).astype(np.float32)
    np.testing.assert_array_equal(guess(plane, 3.0).bright, maximum_filter(np.abs(plane), 5))


def exposure(shape, **planes):
    """What is asked of a measured exposure, from planes."""
    planes = {"mask": np.zeros(shape, np.uint16), "flux": np.float32(1), **planes}
    bad = (planes["mask"] & np.uint16(Flag.SATURATED)) > 0
    return SimpleNamespace(
        frame=SimpleNamespace(plane=planes.__getitem__, fwhm=2.5),
        flux_plane=lambda: planes["flux"],
        unusable=bad.copy,
        view=lambda: None,
    )


@pytest.mark.parametrize("varies", [False, True])
def test_gross_is_what_no_star_could_be(varies):
    rng, shape = np.random.default_rng(3), (70, 61)
    typical, sigma = rng.normal(5, 30, shape).astype(np.float32), rng.uniform(2, 4, shape).astype(np.float32)
    flux = rng.uniform(0.5, 2, shape).astype(np.float32) if varies else np.float32(0.7)
    data = (flux * typical + rng.normal(0, 150, shape)).astype(np.float32)
    mask = np.where(rng.random(shape) < 0.1, np.uint16(Flag.SATURATED), np.uint16(0))
    first = guess(typical, 3.5)
    found, bad = gross(exposure(shape, data=data, sigma=sigma, mask=mask, flux=flux), first)
    allowed = star_share(3.5, 2.5) * flux * maximum_filter(np.abs(typical), 5) + GROSS * sigma
    want = (mask > 0) | (np.abs(data - flux * typical) > allowed)
    assert 0.2 < want.mean() < 0.9
    np.testing.assert_array_equal(bad, want)
    np.testing.assert_array_equal(found, np.where(want, flux * typical, data))


def judgement_of_planes(one, prediction, share, doubtful, options):
    """`judged` by whole planes."""
    data, sigma, own_bad = one.frame.plane("data"), one.frame.plane("sigma"), one.unusable()
    rest, light, sigma2 = data - prediction, np.abs(prediction), sigma**2
    variance = np.maximum(share, LEAST_SHARE) * sigma2
    variance += np.maximum(one.frame.plane("variance") - sigma2, 0)
    loud = own_bad | doubtful | (rest**2 > 9 * (variance + (options.share * light) ** 2))
    rest -= mesh_level(rest, loud, SKY.mesh).plane()
    own = prediction + rest
    if not options.outliers:
        return np.where(own_bad, prediction, own), own_bad, np.zeros(own.shape, bool), own, 0.0
    out, _ = told(rest, variance, prediction, own_bad, one.frame.fwhm, options)
    bright = (light > BRIGHT * np.sqrt(sigma2)) & ~own_bad
    bad = own_bad | out
    return np.where(bad, prediction, own), bad, out, own, out[bright].mean()


@pytest.mark.parametrize("outliers", [True, False])
@pytest.mark.parametrize("shape", SHAPES[:3])
def test_a_judgement_is_that_of_whole_planes(shape, outliers):
    rng = np.random.default_rng(8)
    rest, variance, model, unusable = sky(shape, 1)
    model = np.maximum(model, 0) + np.float32(0.01)
    model[10:30, 10:40] += 100  # light enough to tell of the exposure
    rest[15:18, 12:20] += 2000
    sigma = rng.uniform(2.8, 3.4, shape).astype(np.float32)
    mask = np.where(unusable, np.uint16(Flag.SATURATED), np.uint16(0))
    one = exposure(shape, data=model + rest + 2, sigma=sigma, variance=variance + 1, mask=mask)
    share = rng.uniform(0, 1, shape).astype(np.float32)
    total = SimpleNamespace(predict=lambda view: (model.copy(), share.copy()))
    doubtful, options = rng.random(shape) < 0.05, RejectOptions(outliers=outliers)
    said = judged(one, total, doubtful, options, SKY)
    data, bad, out, own, contradicted = judgement_of_planes(one, model, share, doubtful, options)
    assert out.any() == outliers
    np.testing.assert_array_equal(said.bad, bad)
    np.testing.assert_array_equal(said.data, data)
    np.testing.assert_array_equal(said.out, np.flatnonzero(out))
    np.testing.assert_array_equal(said.own, own[out])
    assert said.contradicted == contradicted and (contradicted > 0) == outliers
    assert said.data.dtype == said.own.dtype == said.z.dtype == np.float32
