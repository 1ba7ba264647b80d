"""Likelihoods of what made a peak: against a fit by brute force, and each kind recognised for what it is."""

from __future__ import annotations

import numpy as np
import pytest

from zogyp.core.hypotheses import NAMES, compare, shapes

N = 40
CORE = 4.0


def gaussian(sigma, dx=0.0, dy=0.0):
    """A Gaussian of unit sum centred on pixel [0, 0] + (dx, dy), periodic."""
    p = np.fft.fftfreq(N, 1 / N)
    y, x = np.meshgrid(p - dy, p - dx, indexing="ij")
    plane = np.exp(-(x**2 + y**2) / (2 * sigma**2))
    return plane / plane.sum()


def kinds():
    """P_D of 2 px, pixels that are narrower than it, of two unlike images."""
    return shapes(gaussian(2.0), (gaussian(0.9), -gaussian(0.7)), 1.5)


def told(plane, offset=(0.0, 0.0), variance=1.0):
    """Likelihoods of one plane whose peak lies at [0, 0] + offset."""
    stamp = np.roll(plane, (N // 2, N // 2), axis=(0, 1))[None]
    return compare(stamp, tuple(np.array([o]) for o in offset), kinds(), CORE, np.array([variance]))


def test_the_likelihood_of_a_point_is_that_of_the_best_fit():
    rng = np.random.default_rng(1)
    plane = 30 * gaussian(2.0, 0.3, -0.2) + rng.normal(0, 0.5, (N, N))
    found = told(plane, (0.3, -0.2), variance=0.25)
    model = gaussian(2.0, 0.3, -0.2).ravel()
    (amplitude,), *_ = np.linalg.lstsq(model[:, None], plane.ravel(), rcond=None)
    without, left = (float((r**2).sum()) for r in (plane, plane.ravel() - amplitude * model))
    # ln L = (chi² without - chi² with the source) / 2; a Gaussian of 2 px is shifted exactly to 1e-6
    assert found.point[0] == pytest.approx((without - left) / 0.25 / 2, rel=1e-4)


def test_the_likelihood_of_a_dipole_is_that_of_the_best_fit():
    rng = np.random.default_rng(2)
    plane = 300 * (gaussian(2.0, 0.4, 0.3) - gaussian(2.0)) + rng.normal(0, 0.5, (N, N))
    found = told(plane, variance=0.25)
    best = 0.0
    for j in range(-4, 5):
        for i in range(-4, 5):
            if np.hypot(i, j) > CORE:
                continue
            step = 1e-4
            along = (gaussian(2.0, i + step, j) - gaussian(2.0, i - step, j)).ravel() / step
            up = (gaussian(2.0, i, j + step) - gaussian(2.0, i, j - step)).ravel() / step
            design = np.column_stack([along, up])
            fit, *_ = np.linalg.lstsq(design, plane.ravel(), rcond=None)
            best = max(best, float((plane**2).sum() - ((plane.ravel() - design @ fit) ** 2).sum()))
    assert found.ratios["dipole"][0] + found.point[0] == pytest.approx(best / 0.25 / 2, rel=1e-4)


@pytest.mark.parametrize(
    ("name", "plane"),
    [
        ("delta_new", 60 * gaussian(0.9, 1.0, 0.0)),
        ("delta_ref", -60 * gaussian(0.7)),
        ("extended", 200 * gaussian(2.5)),
        ("dipole", 300 * (gaussian(2.0, 0.5, 0.0) - gaussian(2.0, -0.5, 0.0))),
        ("ring", 300 * (gaussian(2.4) - gaussian(2.0))),
    ],
)
def test_each_kind_is_recognised(name, plane):
    rng = np.random.default_rng(3)
    found = told(plane + rng.normal(0, 1, (N, N)))
    ratios = {k: v[0] for k, v in found.ratios.items()}
    assert max(ratios, key=ratios.get) == name
    assert ratios[name] > 3


def test_a_point_is_recognised_as_a_point():
    rng = np.random.default_rng(4)
    for height in (60, -60):
        found = told(height * gaussian(2.0, 0.4, -0.4) + rng.normal(0, 1, (N, N)), (0.4, -0.4))
        assert all(found.ratios[k][0] < -1 for k in NAMES if k != "extended")
        assert found.ratios["extended"][0] < 2  # 1.7 times as wide: noise may favour it a little
        # 50 pixels within 4 px: their mean square scatters by 0.2
        assert found.chi2[0] == pytest.approx(1, abs=0.7)


def test_a_dark_pixel_has_a_negative_amplitude():
    assert told(-50 * gaussian(0.9)).amplitudes["delta_new"][0] == pytest.approx(-50, rel=1e-6)
    assert told(50 * gaussian(0.7)).amplitudes["delta_ref"][0] == pytest.approx(-50, rel=1e-6)


def test_stamps_do_not_know_of_each_other():
    rng = np.random.default_rng(5)
    stamps = rng.normal(0, 1, (4, N, N))
    offset = rng.uniform(-0.5, 0.5, (2, 4))
    variance = rng.uniform(0.5, 2, 4)
    together = compare(stamps, (offset[0], offset[1]), kinds(), CORE, variance)
    for i in range(4):
        k = np.s_[i : i + 1]
        one = compare(stamps[k], (offset[0][k], offset[1][k]), kinds(), CORE, variance[k])
        assert one.point[0] == pytest.approx(together.point[i], rel=1e-9)
        for name in NAMES:
            assert one.ratios[name][0] == pytest.approx(together.ratios[name][i], rel=1e-9)
