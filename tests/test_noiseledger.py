"""What each kind of noise adds to V: the parts make the whole, and a part that is left out is gone."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest

from zogyp.options import NoiseOptions, SubtractOptions
from zogyp.simulate import simulate
from zogyp.sky import Side, Sky
from zogyp.subtraction import worked_out

SKY = Sky(
    new=Side(fwhm=3.4, variation=0.1),
    ref=Side(fwhm=3.0, zero_point=25.4),
    shape=(420, 460),
    n_stars=350,
    n_galaxies=0,
    n_transients=0,
    jitter=0.02,
)
ALL = SubtractOptions(threads=1)


@pytest.fixture(scope="module")
def pair():
    made = simulate(SKY, 4)
    data = np.round(made.new.data / 4) * 4  # steps of 4 ADU: 1.33 of a variance of 360
    return replace(made.new, data=data.astype(np.float32)), made.ref


@pytest.fixture(scope="module")
def counted(pair):
    return worked_out(*pair, ALL)


def test_the_parts_make_the_whole(counted):
    shares = counted[0].summary["noise"]
    assert set(shares) == {"sky", "stars", "bright stars"}
    for place, told in shares.items():
        parts = {k: v for k, v in told.items() if k != "places"}
        assert set(parts) == {"sky", *(f.name for f in fields(NoiseOptions))}
        # rounding of the kernels' reach and, where the PSF varies, of the node they are looked at
        assert sum(parts.values()) == pytest.approx(1, abs=0.02), place
        assert min(parts.values()) >= 0


def test_sky_rules_the_sky_and_photons_rule_bright_stars(counted):
    shares = counted[0].summary["noise"]
    assert shares["sky"]["sky"] > 0.9
    assert shares["bright stars"]["photons"] > 0.3
    assert shares["bright stars"]["flux_ratio"] > 5 * shares["sky"]["flux_ratio"]
    assert shares["bright stars"]["registration"] > 5 * shares["sky"]["registration"]


def test_the_step_of_the_pixels_is_found(counted):
    evidence = counted[1]
    assert evidence.new.noise.quantum == 4.0
    assert evidence.ref.noise.quantum == 0.0
    told = counted[0].summary["noise"]["sky"]["quantisation"]
    # both images have about the same weight in V, the step's noise is in one of them
    of_new = 4.0**2 / 12 / evidence.new.sigma**2
    assert 0.2 * of_new < told < of_new


@pytest.mark.parametrize("name", [f.name for f in fields(NoiseOptions)])
def test_a_kind_that_is_left_out_is_gone(pair, counted, name):
    _, evidence = counted
    options = replace(ALL, noise=NoiseOptions(**{name: False}))
    result, without = worked_out(*pair, options)
    told = result.summary["noise"]
    assert all(place[name] == 0 for place in told.values())
    stars = np.rint([evidence.new.sources.x, evidence.new.sources.y]).astype(int)
    ny, nx = SKY.shape
    inside = ((stars > 40) & (stars < np.array([[nx], [ny]]) - 40)).all(axis=0)
    x, y = stars[:, inside]
    before, after = evidence.planes.V[y, x], without.planes.V[y, x]
    share = counted[0].summary["noise"]["bright stars"][name]
    if name in ("psf", "stars"):  # what the one does not tell, the other does
        assert np.mean(after / before) < 1.02
    elif share > 0.005:
        assert (after < before * 1.0001).all()
        assert np.min(after / before) < 1 - 0.5 * share
    else:
        np.testing.assert_allclose(after, before, rtol=0.02)


def test_nothing_but_the_sky_is_left_of_the_sky(pair):
    """All switches off: V is that of white noise everywhere, stars or not."""
    off = NoiseOptions(**{f.name: False for f in fields(NoiseOptions)})
    _, evidence = worked_out(*pair, replace(ALL, noise=off))
    V = evidence.planes.V[60:-60, 60:-60]
    # the sky's own gain noise and the PSF's variation over the field: some per cent
    assert V.max() / V.min() < 1.2
