"""The bent profile: straight where stars are Moffats, with the wings that they have where not."""

from __future__ import annotations

import numpy as np
import pytest

import skies
from zogyp.measure.exposure import measure
from zogyp.measure.moffat import Moffat
from zogyp.measure.psf_solver import Grid, StarStamps
from zogyp.measure.radial import KNOTS, Bent, bend
from zogyp.simulate import simulate
from zogyp.sky import Side, Sky

GRID = Grid(k=61, sampling=1.0, radius=30)
SIGMA = 3.0


def stars(profile, n=40, flux=3e5, seed=1):
    """Stamps of a round profile ``profile(r)`` with noise of the sky."""
    rng = np.random.default_rng(seed)
    p = np.arange(-GRID.radius, GRID.radius + 1)
    plane = profile(np.hypot(p[:, None], p[None, :]))
    plane /= plane.sum()
    data = flux * plane + rng.normal(0, SIGMA, (n, p.size, p.size))
    variance = np.full(data.shape, SIGMA**2, np.float32)
    zero = np.zeros(n)
    return StarStamps(data.astype(np.float32), variance, zero, zero, np.full(n, flux)), plane


def moffat(fwhm, beta):
    alpha = fwhm / (2 * np.sqrt(2 ** (1 / beta) - 1))
    return lambda r: (1 + (r / alpha) ** 2) ** -beta


def test_it_keeps_the_sum_and_is_the_moffat_without_factors():
    base = Moffat(4.0, 3.0)
    straight, bent = Bent(base, (0.0,) * KNOTS.size), Bent(base, (0.5, -0.2) * (KNOTS.size // 2))
    np.testing.assert_allclose(straight.stamp(61), base.stamp(61), rtol=1e-12)
    assert bent.stamp(61).sum() == pytest.approx(base.stamp(61).sum(), rel=1e-12)
    assert bent.fwhm == 4.0


def test_what_is_a_moffat_stays_one():
    seen, _ = stars(moffat(4.0, 3.0))
    # integrated over pixels the profile is broader by a little than at their centres
    found = bend(Moffat(3.93, 3.0), seen, GRID)
    truth = seen.data.mean(axis=0) / seen.flux[0]
    assert np.abs(found.stamp(61) - truth).max() < 0.02 * truth.max()


def test_wings_that_end_are_taken_off():
    def cut(r):
        return moffat(5.0, 3.0)(r) * (r < 9)

    seen, truth = stars(cut)
    found = bend(Moffat(5.0, 3.0), seen, GRID)
    assert isinstance(found, Bent)
    p = np.arange(-30, 31)
    far = np.hypot(p[:, None], p[None, :]) > 13
    assert Moffat(5.0, 3.0).stamp(61)[far].sum() > 0.015
    assert found.stamp(61)[far].sum() < 0.008  # each star's own sky takes some of it
    assert truth[far].sum() == 0


def test_cosmic_rays_on_the_wings_do_not_bend_it():
    seen, _ = stars(moffat(4.0, 3.0))
    rng = np.random.default_rng(4)
    clean = bend(Moffat(3.9, 3.2), seen, GRID).stamp(61)
    data = seen.data.copy()
    for i in range(0, 40, 2):
        row, column = rng.integers(5, 25, 2)
        data[i, row, column] += 5000
    dirty = StarStamps(data, seen.variance, seen.x, seen.y, seen.flux)
    hit = bend(Moffat(3.9, 3.2), dirty, GRID).stamp(61)
    assert np.abs(hit - clean).max() < 0.003 * clean.max()


def test_a_defocused_image_has_fluxes_to_two_per_cent():
    """With a Moffat's wings, a ring of 4 px had a core 4 per cent too faint."""
    made = skies.star_field(7, 60, lambda x, y: skies.along(_circle(4.0), 3.0), apart=30)
    e = measure(_image(made.exposed(800.0, 1.5, 8.0)))
    bright = np.argsort(-made.flux)[:25]
    distance = np.hypot(e.sources.x[:, None] - made.x[bright], e.sources.y[:, None] - made.y[bright])
    ratio = e.sources.flux[distance.argmin(axis=0)] / made.flux[bright]
    assert np.median(ratio) == pytest.approx(1, abs=0.02)


def _circle(radius):
    angle = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    return [(radius * np.cos(a), radius * np.sin(a)) for a in angle]


def _image(data):
    from zogyp.image import Image

    mask = np.zeros(data.shape, np.uint16)
    return Image(data=data.astype(np.float32), mask=mask, gain=1.5, read_noise=8.0, saturation=1e9)


def test_a_sky_of_moffats_has_a_psf_as_before():
    pair = simulate(Sky(new=Side(fwhm=3.3, beta=3.0), shape=(500, 500), n_stars=300, n_galaxies=0), 3)
    psf = measure(pair.new).psf
    true = pair.psf_new(250, 250, psf.size)
    assert np.abs(psf.at(250, 250) - true).max() < 0.02 * true.max()
