"""How many peaks noise makes: against the paper's formula for Gaussians, and noise that is counted."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import fft

from zogyp.core.peaks import expected_peaks, independent, roughness
from zogyp.transients import peak_heights


def gaussian(sigma, size=41):
    p = np.arange(size) - size // 2
    stamp = np.exp(-(p[:, None] ** 2 + p[None, :] ** 2) / (2 * sigma**2))
    return stamp / stamp.sum()


@pytest.mark.parametrize("sigma", [1.2, 2.0, 3.5])
def test_a_gaussian_has_the_closed_form(sigma):
    assert roughness(gaussian(sigma)) == pytest.approx(1 / (2 * sigma**2), rel=1e-3)
    closed = 5 * np.exp(-12.5) / (2**2.5 * np.pi**1.5 * sigma**2)
    assert expected_peaks(gaussian(sigma), 5.0) == pytest.approx(closed, rel=1e-3)
    # the correlation exp(-r² / 4 s²), squared, covers 2 pi s²
    assert independent(gaussian(sigma)) == pytest.approx(1 / (2 * np.pi * sigma**2), rel=1e-3)


def test_noise_has_as_many_peaks_as_are_expected():
    side, sigma, found = 1500, 1.7, 0
    stamp = gaussian(sigma)
    kernel = fft.rfft2(stamp, (side, side))
    rng = np.random.default_rng(11)
    for _ in range(3):
        plane = fft.irfft2(fft.rfft2(rng.normal(size=(side, side))) * kernel, (side, side))
        plane /= np.sqrt((stamp**2).sum())
        found += (np.abs(peak_heights(plane.astype(np.float32), 3.5, 2.3548 * sigma)[2]) >= 3.5).sum()
    expected = 3 * 2 * side**2 * expected_peaks(stamp, 3.5)
    # a Poisson number of 1800 scatters by 43; the formula is low by 2 % at 3.5 sigma
    assert found == pytest.approx(expected, abs=3 * np.sqrt(expected) + 0.03 * expected)
