"""An exposure beside the others: figures that are told at once, against those told one by one."""

from __future__ import annotations

import numpy as np
import pytest

from zogyp.core.psfmodel import PSF
from zogyp.scaled import mesh_medians, stamps


@pytest.mark.parametrize("shape", [(256, 192), (200, 333), (97, 129), (63, 20), (1, 5)])
def test_medians_of_meshes_are_those_of_each(shape):
    plane = np.random.default_rng(0).gamma(2, 3, shape).astype(np.float32)
    rows, columns = (np.array_split(np.arange(n), max(1, round(n / 64))) for n in shape)
    want = [[np.median(plane[r[0] : r[-1] + 1, c[0] : c[-1] + 1]) for c in columns] for r in rows]
    before = plane.copy()
    made = mesh_medians(plane, 64)
    np.testing.assert_array_equal(made, want)
    assert made.dtype == np.float32
    np.testing.assert_array_equal(plane, before)


@pytest.mark.parametrize("sampling", [1.0, 0.5])
@pytest.mark.parametrize("order", [0, 2])
def test_stamps_are_the_psf_at_each_place(order, sampling):
    rng = np.random.default_rng(1)
    y, x = np.mgrid[-10:11, -10:11] * sampling
    basis = np.exp(-(x**2 + y**2) / 8) * (1 + rng.normal(0, 0.1, ((order + 1) * (order + 2) // 2, 21, 21)))
    psf = PSF(basis.astype(np.float32), order, (50.0, 40.0), (50.0, 40.0), sampling)
    at = stamps(psf)
    for place in ((0.0, 0.0), (50.0, 40.0), (93.5, 12.25)):
        np.testing.assert_allclose(at(*place), psf.at(*place), rtol=1e-12, atol=1e-15)
