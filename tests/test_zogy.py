"""The subtraction against its equations written out in double precision, and against statistics.

The oracle below shares no code with the package: complex transforms of whole planes, one line
per equation. Statistical tolerances are multiples of the standard error named beside them.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from skies import around_origin, blob
from zogyp.core.zogy import Side, apply, difference_psf, kernels, reach, zogy
from zogyp.errors import ShapeError

# odd, even, prime, rectangular both ways
SHAPES = [(16, 16), (17, 13), (16, 11), (11, 24), (31, 31)]


def gradient(S, axis):
    return (np.roll(S, -1, axis) - np.roll(S, 1, axis)) / 2


def literal(new, ref, astrometric=(0.0, 0.0)):
    """The equations of the paper, one a line, in double precision and without any floor."""
    fft, ifft = np.fft.fft2, np.fft.ifft2
    shape = new.data.shape
    N, R = fft(new.data.astype(float)), fft(ref.data.astype(float))
    V_n, V_r = new.variance.astype(float), ref.variance.astype(float)
    P_n, P_r = fft(around_origin(new.psf, shape)), fft(around_origin(ref.psf, shape))
    F_n, F_r, s_n, s_r = new.flux, ref.flux, new.sigma, ref.sigma
    Delta = s_n**2 * F_r**2 * abs(P_r) ** 2 + s_r**2 * F_n**2 * abs(P_n) ** 2
    k_n = ifft(F_n * F_r**2 * P_n.conj() * abs(P_r) ** 2 / Delta).real
    k_r = ifft(F_r * F_n**2 * P_r.conj() * abs(P_n) ** 2 / Delta).real
    S_n, S_r = ifft(fft(k_n) * N).real, ifft(fft(k_r) * R).real
    V = ifft(fft(V_n) * fft(k_n**2)).real + ifft(fft(V_r) * fft(k_r**2)).real
    for S in (S_n, S_r):
        V = V + (astrometric[0] * gradient(S, 1)) ** 2 + (astrometric[1] * gradient(S, 0)) ** 2
    F_D = F_r * F_n / np.sqrt(s_n**2 * F_r**2 + s_r**2 * F_n**2)
    return {
        "D": ifft((F_r * P_r * N - F_n * P_n * R) / np.sqrt(Delta)).real,
        "S": S_n - S_r,
        "V": V,
        "F_S": np.mean(F_n**2 * F_r**2 * abs(P_n) ** 2 * abs(P_r) ** 2 / Delta),
        "F_D": F_D,
        "P_D": ifft(F_r * F_n * P_r * P_n / (F_D * np.sqrt(Delta))).real,
    }


def side(shape, seed, *, sigma=3.0, flux=1.0, fwhm=1.6, **more):
    """An image of noise and a few stars, its variance anything positive."""
    rng = np.random.default_rng(seed)
    data = rng.normal(0, sigma, shape) + 40 * flux * (rng.random(shape) > 0.95)
    variance = sigma**2 * rng.uniform(0.5, 4, shape)
    stamp = blob(7, fwhm / 2.3548, 0.2)
    return Side(data.astype(np.float32), variance.astype(np.float32), stamp, sigma, flux, **more)


def pair(shape, seed=0, unit=1.0):
    """Two unlike sides: noise, flux scale and PSF all differ."""
    new = side(shape, seed, sigma=3.0 * unit, flux=1.0 * unit, fwhm=1.6)
    ref = side(shape, seed + 1, sigma=1.2 * unit, flux=0.45 * unit, fwhm=2.0)
    return new, ref


def blank(shape, rng, *, sigma, flux=1.0, stamp, **more):
    """White noise of the standard deviation it claims."""
    data = rng.normal(0, sigma, shape).astype(np.float32)
    return Side(data, np.full(shape, sigma**2, dtype=np.float32), stamp, sigma, flux, **more)


def draw(shape, x, y, sigma):
    """A round Gaussian of unit sum sampled at any place."""
    Y, X = np.mgrid[: shape[0], : shape[1]]
    return np.exp(-((X - x) ** 2 + (Y - y) ** 2) / 2 / sigma**2) / (2 * np.pi * sigma**2)


@pytest.mark.parametrize("shape", SHAPES)
def test_agrees_with_the_equations_written_out(shape):
    new, ref = pair(shape)
    got, want = zogy(new, ref, astrometric=(0.3, 0.7)), literal(new, ref, (0.3, 0.7))
    # float32 transforms keep about 1e-6 of the largest value; 1e-4 is what is promised
    for name in ("D", "S", "V"):
        np.testing.assert_allclose(getattr(got, name), want[name], atol=1e-4 * want[name].std(), rtol=1e-4)
    assert pytest.approx(want["F_S"], rel=1e-5) == got.F_S
    assert pytest.approx(want["F_D"], rel=1e-9) == got.F_D
    np.testing.assert_allclose(got.Scorr, want["S"] / np.sqrt(want["V"]), atol=1e-4)
    np.testing.assert_allclose(got.alpha, got.S / want["F_S"], rtol=1e-4, atol=1e-9)
    np.testing.assert_allclose(got.alpha_err, np.sqrt(want["V"]) / want["F_S"], rtol=1e-4)
    assert {got.D.dtype, got.S.dtype, got.V.dtype} == {np.dtype(np.float32)}


def test_variance_is_convolved_with_the_squared_kernel_pixel_by_pixel():
    shape = (12, 9)
    new, ref = pair(shape)
    quiet = 1e-12 * np.ones(shape, dtype=np.float32)
    one = quiet.copy()
    one[5, 4] = 9.0
    got = zogy(replace(new, variance=one), replace(ref, variance=quiet))
    delta = np.zeros(shape, dtype=np.float32)
    delta[5, 4] = 1.0
    response = zogy(replace(new, data=delta), replace(ref, data=0 * delta)).S  # k_n around that pixel
    # one noisy pixel of variance 9 is spread over the plane by the square of its own response
    np.testing.assert_allclose(got.V, 9 * response.astype(float) ** 2, atol=1e-6 * got.V.max())


def test_kernel_of_each_side_meets_its_own_image():
    """A lone star comes out with the shape of its own PSF filtered by itself, whatever the other PSF."""
    new, ref = pair((31, 31))
    lone = replace(new, data=around_origin(new.psf, (31, 31)).astype(np.float32))
    got = zogy(lone, replace(ref, data=0 * ref.data))
    want = literal(lone, replace(ref, data=0 * ref.data))["S"]
    assert np.unravel_index(np.abs(got.S).argmax(), got.S.shape) == (0, 0)
    assert got.S[0, 0] == pytest.approx(got.F_S, rel=1e-5)
    np.testing.assert_allclose(got.S, want, atol=1e-5 * want.max())
    # F_n P_n k_n is even and real in frequency: S of a star is symmetric though the PSF is not
    np.testing.assert_allclose(got.S, np.roll(got.S[::-1, ::-1], (1, 1), (0, 1)), atol=1e-5 * want.max())


@pytest.mark.parametrize("unit", [1e-15, 1e-6, 1e6, 1e15])
def test_the_unit_of_the_images_does_not_matter(unit):
    want = zogy(*pair((31, 24)), astrometric=(0.2, 0.1))
    new, ref = pair((31, 24))
    scaled = [
        replace(
            s,
            data=s.data * np.float32(unit),
            variance=s.variance * np.float32(unit) ** 2,
            sigma=s.sigma * unit,
        )
        for s in (new, ref)
    ]
    got = zogy(*scaled, astrometric=(0.2, 0.1))
    np.testing.assert_allclose(got.Scorr, want.Scorr, atol=1e-4)
    np.testing.assert_allclose(got.D, want.D, atol=1e-4)
    np.testing.assert_allclose(got.alpha, want.alpha * np.float32(unit), rtol=1e-3, atol=1e-4 * unit)
    np.testing.assert_allclose(got.alpha_err, want.alpha_err * np.float32(unit), rtol=1e-4)


@pytest.mark.parametrize("shape", SHAPES)
def test_exchanging_new_and_reference_changes_only_the_sign(shape):
    new, ref = pair(shape)
    one, other = zogy(new, ref, astrometric=(0.1, 0.2)), zogy(ref, new, astrometric=(0.1, 0.2))
    np.testing.assert_allclose(one.D, -other.D, atol=1e-4)
    np.testing.assert_allclose(one.Scorr, -other.Scorr, atol=1e-4)
    assert pytest.approx(other.F_S, rel=1e-9) == one.F_S


def test_the_same_image_twice_gives_nothing():
    new, _ = pair((24, 31))
    got = zogy(new, new)
    assert np.abs(got.D).max() < 1e-4  # rounding only
    assert np.abs(got.Scorr).max() < 1e-4


@pytest.mark.parametrize("shape", [(32, 32), (33, 31)])
def test_score_is_the_difference_filtered_by_its_own_psf(shape):
    rng = np.random.default_rng(5)
    new = blank(shape, rng, sigma=2.0, stamp=blob(9, 0.8, 0.2))
    ref = blank(shape, rng, sigma=1.0, flux=0.7, stamp=blob(9, 1.0, 0.1))
    got = zogy(new, ref)
    P_D = around_origin(difference_psf(new, ref, 31), shape)
    filtered = np.fft.ifft2(np.fft.fft2(got.D) * np.fft.fft2(P_D).conj()).real
    # P_D is cut to 31 pixels: 1e-4 of it lies outside
    np.testing.assert_allclose(got.S, got.F_D * filtered, atol=1e-3 * got.S.std())
    np.testing.assert_allclose(P_D, literal(new, ref)["P_D"], atol=1e-4)
    assert got.P_D.shape == (9, 9)
    assert np.unravel_index(got.P_D.argmax(), (9, 9)) == (4, 4)


@pytest.mark.parametrize("noise", [0.0, 1e-3, 3e-2])
@pytest.mark.parametrize("widths", [(1.7, 1.7), (1.4, 2.2), (2.2, 1.4), (0.7, 1.5)])
def test_difference_is_white_and_scorr_in_units_of_sigma(widths, noise):
    rng = np.random.default_rng(6)
    shape = (601, 512)
    new = blank(shape, rng, sigma=7.0, stamp=blob(25, widths[0]), psf_noise=noise)
    ref = blank(shape, rng, sigma=3.0, flux=0.8, stamp=blob(25, widths[1]), psf_noise=noise)
    got = zogy(new, ref, shift=(0.3, -0.2))
    n = got.D.size
    assert got.D.std() == pytest.approx(1, abs=4 / np.sqrt(2 * n))  # standard error of a spread
    for axis in (0, 1):
        neighbours = np.mean(got.D * np.roll(got.D, 1, axis))
        assert abs(neighbours) < 4 / np.sqrt(n)  # standard error of a correlation
    # neighbouring pixels of S repeat one another: as many are independent as the sum of its
    # squared correlations says
    power = np.abs(np.fft.fft2(around_origin(difference_psf(new, ref, 99), shape))) ** 2
    correlation = np.fft.ifft2(power).real / power.mean()
    independent = n / np.sum(correlation**2)
    assert got.Scorr.std() == pytest.approx(1, abs=4 / np.sqrt(2 * independent))


def test_scorr_has_unit_spread_where_noise_is_uneven():
    rng = np.random.default_rng(7)
    shape = (400, 600)
    loud = np.where(np.arange(600) < 300, 10.0, 1.0)
    new = blank(shape, rng, sigma=1.0, stamp=blob(15, 1.2))
    ref = blank(shape, rng, sigma=2.0, stamp=blob(15, 1.5))
    variance = np.broadcast_to(loud**2, shape).astype(np.float32)
    got = zogy(replace(new, data=(new.data * loud).astype(np.float32), variance=variance), ref)
    for columns in (slice(20, 280), slice(320, 580)):
        # 104000 pixels, of which about 1 in 25 is independent: standard error 0.011
        assert got.Scorr[:, columns].std() == pytest.approx(1, abs=0.035)


@pytest.mark.parametrize("noise", [0.0, 0.02])
def test_flux_is_unbiased_and_its_error_right(noise):
    rng = np.random.default_rng(8)
    shape = (512, 512)
    stamps = blob(21, 1.5), blob(21, 1.9)
    new = blank(shape, rng, sigma=10.0, stamp=stamps[0], psf_noise=noise)
    ref = blank(shape, rng, sigma=6.0, flux=0.6, stamp=stamps[1], psf_noise=noise)
    grid = np.arange(16, 512, 32)
    flux, pulls = 1500.0, {}
    for name, target, stamp, scale in (("new", new, stamps[0], 1.0), ("ref", ref, stamps[1], 0.6)):
        stars = np.zeros(shape)
        for x in grid:
            for y in grid:
                stars[y - 10 : y + 11, x - 10 : x + 11] += flux * scale * stamp
        changed = replace(target, data=(target.data + stars).astype(np.float32))
        got = zogy(changed, ref) if name == "new" else zogy(new, changed)
        sign = 1 if name == "new" else -1
        measured, error = got.alpha[np.ix_(grid, grid)], got.alpha_err[np.ix_(grid, grid)]
        pulls[name] = (measured - sign * flux) / error
        assert flux / error.mean() > 15
    for pull in pulls.values():  # 256 stars each; the variance is the sky's, as no star's noise was drawn
        assert abs(pull.mean()) < 4 / np.sqrt(256)
        assert pull.std() == pytest.approx(1, abs=4 / np.sqrt(2 * 256))


@pytest.mark.parametrize("noise", [0.0, 1e-3, 0.05])
def test_flux_without_noise_is_exact(noise):
    shape = (64, 63)
    new = Side(*np.zeros((2, *shape), np.float32), blob(21, 1.5, 0.3), 10.0, 1.0, noise)
    ref = Side(*np.zeros((2, *shape), np.float32), blob(21, 1.9), 6.0, 0.6, noise)
    star = 100 * np.roll(around_origin(new.psf, shape), (30, 20), axis=(0, 1)).astype(np.float32)
    got = zogy(replace(new, data=star), ref)
    assert np.unravel_index(got.alpha.argmax(), shape) == (30, 20)
    assert got.alpha[30, 20] == pytest.approx(100, rel=1e-5)  # rounding


@pytest.mark.parametrize("shape", [(4, 4), (5, 5), (4, 5), (5, 4), (3, 7)])
@pytest.mark.parametrize("size", [1, 3, 5])
def test_a_point_stays_where_it_is(shape, size):
    stamp = np.zeros((size, size))
    stamp[size // 2, size // 2] = 1
    point = np.zeros(shape, dtype=np.float32)
    point[1, 2] = 1
    ones = np.ones(shape, dtype=np.float32)
    got = zogy(Side(point, ones, stamp, 1.0), Side(0 * point, ones, stamp, 1.0))
    # with PSFs of one pixel D is the difference over its noise, S half the difference
    np.testing.assert_allclose(got.D, point / np.sqrt(2), atol=1e-6)
    np.testing.assert_allclose(got.S, point / 2, atol=1e-6)
    np.testing.assert_allclose(got.V, 0.5, rtol=1e-6)
    assert pytest.approx(0.5) == got.F_S


@pytest.mark.parametrize("shape", [(21, 21), (17, 23)])
def test_a_shift_of_part_of_a_pixel_on_odd_sides(shape):
    """Literal for odd sides, where no frequency is its own conjugate."""
    new, ref = pair(shape)
    shift = (0.4, -0.3)
    fy, fx = np.fft.fftfreq(shape[0])[:, None], np.fft.fftfreq(shape[1])[None, :]
    phase = np.exp(2j * np.pi * (fx * shift[0] + fy * shift[1]))
    moved = np.fft.ifft2(np.fft.fft2(ref.data) * phase).real
    want = literal(new, replace(ref, data=moved))
    got = zogy(new, ref, shift=shift)
    np.testing.assert_allclose(got.D, want["D"], atol=1e-4 * want["D"].std())
    np.testing.assert_allclose(got.S, want["S"], atol=1e-4 * want["S"].std())


def test_a_whole_shift_moves_data_and_variance_back():
    new, ref = pair((20, 17))
    moved = replace(
        ref, data=np.roll(ref.data, (3, -2), (0, 1)), variance=np.roll(ref.variance, (3, -2), (0, 1))
    )
    got, want = zogy(new, moved, shift=(-2.0, 3.0)), zogy(new, ref)
    np.testing.assert_allclose(got.D, want.D, atol=2e-5)
    np.testing.assert_allclose(got.S, want.S, atol=1e-5 * want.S.std())
    np.testing.assert_allclose(got.V, want.V, rtol=1e-4)


@pytest.mark.parametrize("shape", [(48, 48), (47, 49)])
def test_a_shifted_star_subtracts(shape):
    ones = np.ones(shape, dtype=np.float32)
    stamp = draw((31, 31), 15, 15, 1.6)
    new = Side((1e4 * draw(shape, 23, 22, 1.6)).astype(np.float32), ones, stamp, 1.0)
    ref = Side((1e4 * draw(shape, 23.35, 21.8, 1.6)).astype(np.float32), ones, stamp, 1.0)
    assert np.abs(zogy(new, ref).D).max() > 50
    # what is left is rounding and what the star holds beyond the Nyquist frequency, 3e-6 of it
    assert np.abs(zogy(new, ref, shift=(0.35, -0.2)).D).max() < 0.05


def test_the_registration_error_is_that_of_a_displaced_star():
    """A star displaced by d leaves d dS/dx: V_ast with sigma d is the square of it."""
    shape, d = (64, 64), 0.02
    ones = np.full(shape, 1e-9, dtype=np.float32)
    stamp = draw((31, 31), 15, 15, 2.0)
    new = Side((1e4 * draw(shape, 32, 32, 2.0)).astype(np.float32), ones, stamp, 1.0)
    moved = replace(new, data=(1e4 * draw(shape, 32 + d, 32, 2.0)).astype(np.float32))
    left = zogy(new, moved).S
    got = zogy(new, new, astrometric=(d, 0.0))
    peak = np.sqrt(got.V.max() / 2)  # S_n and S_r each carry it
    # at its steepest, a centred difference of a Gaussian of sigma² = 8 px² is 1 / 24 short of the derivative
    assert peak == pytest.approx(np.abs(left).max() * (1 - 1 / 24), rel=0.01)
    # nothing at the star itself, and the same on both of its sides: no half pixel of a backward difference
    assert got.V[32, 32] < 1e-3 * got.V.max()
    np.testing.assert_allclose(got.V[32, 32 - 8 : 32], got.V[32, 32 + 8 : 32 : -1], rtol=1e-3)
    sideways = zogy(new, new, astrometric=(0.0, d))
    np.testing.assert_allclose(sideways.V, got.V.T, rtol=1e-3, atol=1e-6 * got.V.max())


def test_padding_keeps_one_border_from_the_other():
    n, empty = 64, np.zeros((1, 1), dtype=np.float32)
    new = Side(empty, empty, blob(21, 1.8), 1.0, 1.0, 1e-3)
    ref = Side(empty, empty, blob(21, 1.4), 1.0, 1.0, 1e-3)
    margin = reach(new, ref)
    data = np.zeros((n + 2 * margin, n + 2 * margin), dtype=np.float32)
    data[margin, margin : margin + n] = 1e3  # a bright first row, as would wrap to the last
    got = zogy(
        replace(new, data=data, variance=1 + 0 * data), replace(ref, data=0 * data, variance=1 + 0 * data)
    )
    last = got.S[margin + n - 1, margin : margin + n]
    assert np.abs(last).max() < 1e-3 * np.abs(got.S).max()  # the level that `reach` cuts at


def test_frequencies_without_information_are_left_alone():
    """Where both PSFs have no power D is the plain difference of unit variance, and S nothing."""
    shape = (128, 128)
    stamps = blob(31, 3.0), blob(31, 3.5)
    new = Side(*np.zeros((2, *shape), np.float32), stamps[0], 2.0, 1.0, 1e-4)
    ref = Side(*np.zeros((2, *shape), np.float32), stamps[1], 3.0, 0.5, 1e-4)
    k = kernels(new, ref, shape)
    corner = (64, 64)  # the Nyquist frequency of both axes
    norm = np.hypot(2.0 * 0.5, 3.0 * 1.0)
    assert k.D_n[corner] / k.sigma_n == pytest.approx(0.5 / norm, rel=1e-4)
    assert k.D_r[corner] / k.sigma_r == pytest.approx(1.0 / norm, rel=1e-4)
    assert abs(k.k_n[corner]) < 1e-6 * abs(k.k_n[0, 0])
    modulus = np.abs(k.D_n) ** 2 + np.abs(k.D_r) ** 2
    np.testing.assert_allclose(modulus, 1, rtol=1e-5)  # white at every frequency


@pytest.mark.parametrize(("noise_n", "noise_r"), [(0.08, 0.0), (0.0, 0.08), (0.05, 0.1)])
def test_each_psf_brings_its_own_noise(noise_n, noise_r):
    """The score's kernels fall by the weight of the floor, written out in the images' units."""
    shape = (31, 24)
    new, ref = pair(shape)
    clean = kernels(new, ref, shape)
    noisy = kernels(replace(new, psf_noise=noise_n), replace(ref, psf_noise=noise_r), shape)
    P_n, P_r = (np.fft.rfft2(around_origin(s.psf, shape)) for s in (new, ref))
    a, b = (new.sigma * ref.flux) ** 2, (ref.sigma * new.flux) ** 2
    Delta = a * abs(P_r) ** 2 + b * abs(P_n) ** 2
    weight = Delta**2 / (Delta**2 + (16 * (a * noise_r**2 + b * noise_n**2)) ** 2)
    assert weight.min() < 0.5 < weight.max()
    scale = np.abs(clean.k_n).max()  # float32 keeps 1e-6 of it
    np.testing.assert_allclose(noisy.k_n, weight * clean.k_n, atol=1e-5 * scale)
    np.testing.assert_allclose(noisy.k_r, weight * clean.k_r, atol=1e-5 * scale)


def test_noise_of_the_psf_keeps_kernels_short():
    noisy = blob(31, 2.0) + np.random.default_rng(9).normal(0, 1e-4, (31, 31))
    sharp = blob(31, 1.5) + np.random.default_rng(10).normal(0, 1e-4, (31, 31))
    empty = np.zeros((2, 1, 1), np.float32)

    def half_side(noise):
        return reach(Side(*empty, noisy, 1.0, 1.0, noise), Side(*empty, sharp, 1.0, 1.0, noise), level=1e-2)

    # 31 is the stamps' own side; told that its noise is signal, the kernels fill the plane
    assert half_side(31 * 1e-4) < 31 < half_side(0.0)


def test_a_very_bright_star_does_not_undercut_the_variance_elsewhere():
    shape = (256, 256)
    variance = np.ones(shape, dtype=np.float32)
    variance[100, 100] = 1e9
    new = Side(np.zeros(shape, np.float32), variance, blob(15, 1.5), 1.0)
    ref = replace(new, variance=np.ones(shape, dtype=np.float32))
    quiet = zogy(ref, ref).V.mean()
    got = zogy(new, ref)
    assert got.V.min() >= 0.999 * quiet
    assert np.isfinite(got.Scorr).all()


def test_kernels_are_shared_between_tiles():
    new, ref = pair((16, 11))
    other, _ = pair((16, 11), seed=20)
    k = kernels(new, ref, (16, 11))
    one = apply(k, (other.data, other.variance), (ref.data, ref.variance))
    two = zogy(replace(new, data=other.data, variance=other.variance), ref)
    np.testing.assert_array_equal(one.D, two.D)
    np.testing.assert_array_equal(one.V, two.V)


def test_inputs_are_not_touched():
    new, ref = pair((16, 11))
    planes = [a for s in (new, ref) for a in (s.data, s.variance, s.psf)]
    copies = [a.copy() for a in planes]
    zogy(new, ref, shift=(0.2, 0.1), astrometric=(0.1, 0.1))
    for before, after in zip(copies, planes, strict=True):
        np.testing.assert_array_equal(before, after)


def test_shapes_that_do_not_fit_are_refused():
    new, ref = pair((16, 11))
    with pytest.raises(ShapeError, match=r"reference has shape \(15, 11\)"):
        zogy(new, replace(ref, data=ref.data[:15]))
    with pytest.raises(ShapeError, match="one shape"):
        apply(kernels(new, ref, (16, 16)), (new.data, new.variance), (ref.data, ref.variance))
