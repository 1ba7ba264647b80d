"""Proper image subtraction: the difference of two images and its significance at every pixel.

Zackay, Ofek & Gal-Yam 2016 (ApJ 830, 27); numbers in brackets are equations of that paper.
Symbols are in this folder's README, the derivation of what is added to the paper is in
docs/mathematics.md. Everything is periodic in the arrays given: the caller pads them.

Inside, all is without units: images are divided by their sigma, and with ``a_x = F_x / sigma_x``
and ``A = sqrt(a_n² + a_r²)`` flux scales become ``b_x = a_x / A``, so that Delta(0) = 1 for any
unit of the input and float32 neither overflows nor underflows.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import hypot

import numpy as np
from numpy.typing import NDArray

from zogyp.core.fourier import Plane, Spectrum, embed, forward, half_weights, inverse, phases, stamp_of
from zogyp.core.jit import compiled
from zogyp.errors import ShapeError

FLOOR = 16.0  # Delta is information above this many times its noise: |P̂| above 4 times its own
ROUNDING = 1e-12  # least noise of Delta / Delta(0): that of float32 transforms, squared


@dataclass(frozen=True)
class Side:
    """One of the two images, with all that the subtraction needs to know of it.

    Attributes
    ----------
    data : (ny, nx) float32, finite, background-subtracted [unit of the image].
    variance : (ny, nx) float32, positive: all noise of each pixel, stars' own included [unit²].
    psf : (k, k) float64 of unit sum, centred on pixel k // 2.
    sigma : standard deviation of the background [unit].
    flux : flux scale F: counts of a star whose flux is 1.
    psf_noise : standard deviation of the psf's transform at any frequency, from the PSF's own error.
    """

    data: Plane
    variance: Plane
    psf: NDArray[np.float64]
    sigma: float
    flux: float = 1.0
    psf_noise: float = 0.0


@dataclass(frozen=True)
class Kernels:
    """Multipliers of the images' transforms, shared by all tiles of one shape, PSF and shift.

    Attributes
    ----------
    D_n, D_r : of the images in D̂ (shift of the reference included).
    k_n, k_r : of the images in Ŝ_n and Ŝ_r.
    k_n2, k_r2 : of the variances: transforms of the squared real-space kernels.
    sigma_n, sigma_r, scale : what the images are divided by; A of the module's docstring.
    F_S, F_D : flux scales of S and D.
    P_D : (k, k) PSF of D.
    """

    D_n: Spectrum
    D_r: Spectrum
    k_n: Spectrum
    k_r: Spectrum
    k_n2: Spectrum
    k_r2: Spectrum
    sigma_n: float
    sigma_r: float
    scale: float
    F_S: float
    F_D: float
    P_D: Plane


@dataclass(frozen=True)
class Difference:
    """What one subtraction gives; planes are (ny, nx) float32.

    Attributes
    ----------
    D : proper difference, white noise of unit variance where there is only background.
    S : score image: D matched-filtered by its PSF.
    V : variance of S, V(S_n) + V(S_r) + V_ast(S_n) + V_ast(S_r).
    F_S, F_D : S / F_S is the PSF flux of a transient, D / F_D has the unit of flux.
    P_D : (k, k) PSF of D.
    """

    D: Plane
    S: Plane
    V: Plane
    F_S: float
    F_D: float
    P_D: Plane

    @property
    def Scorr(self) -> Plane:
        """Significance [sigma], [25]."""
        return self.S / _root(self.V)

    @property
    def alpha(self) -> Plane:
        """PSF flux of a transient at each pixel [flux], [41]."""
        return self.S / np.float32(self.F_S)

    @property
    def alpha_err(self) -> Plane:
        """Standard deviation of alpha [flux], [43]."""
        return _root(self.V) / np.float32(self.F_S)


def zogy(
    new: Side,
    ref: Side,
    *,
    shift: tuple[float, float] = (0.0, 0.0),
    astrometric: tuple[float, float] = (0.0, 0.0),
) -> Difference:
    """Subtract ``ref`` from ``new``.

    Parameters
    ----------
    new, ref : the two images, on one grid; periodic, so pad them by the reach of the kernels.
    shift : (dx, dy) [px]: the reference's stars lie at those of the new image + shift;
        its data and variance are moved back, its PSF is not touched.
    astrometric : standard deviation (x, y) of the registration [px].

    Raises
    ------
    ShapeError : data and variances are not of one shape.
    """
    for what, plane in (
        ("the new image's variance", new.variance),
        ("the reference", ref.data),
        ("the reference's variance", ref.variance),
    ):
        if plane.shape != new.data.shape:
            raise ShapeError(what, plane.shape, new.data.shape)
    ny, nx = new.data.shape
    return apply(
        kernels(new, ref, (ny, nx), shift), (new.data, new.variance), (ref.data, ref.variance), astrometric
    )


def kernels(new: Side, ref: Side, shape: tuple[int, int], shift: tuple[float, float] = (0.0, 0.0)) -> Kernels:
    """All that does not depend on the pixels: six transforms of shape (ny, nx).

    Only ``psf``, ``sigma``, ``flux`` and ``psf_noise`` of the two sides are looked at.
    ``shift`` as in `zogy`: it becomes a phase of the reference's multipliers, hence the kernel
    whose square carries the reference's variance is the one that really meets its pixels.
    """
    nx = shape[1]
    a_n, a_r = new.flux / new.sigma, ref.flux / ref.sigma
    A = hypot(a_n, a_r)
    b_n, b_r = a_n / A, a_r / A
    D_n, D_r = forward(embed(new.psf, shape)), forward(embed(ref.psf, shape))  # P̂_n, P̂_r
    floor = FLOOR * _delta_noise(b_n, b_r, new, ref)
    k_n, k_r = np.empty_like(D_n), np.empty_like(D_r)
    f_s = _multipliers((D_n, D_r), (k_n, k_r), (b_n, b_r), floor, phases(shape, shift), half_weights(nx))
    return Kernels(
        D_n=D_n,
        D_r=D_r,
        k_n=k_n,
        k_r=k_r,
        k_n2=_squared(k_n, nx),
        k_r2=_squared(k_r, nx),
        sigma_n=new.sigma,
        sigma_r=ref.sigma,
        scale=A,
        F_S=f_s / (shape[0] * nx) * A * A,  # [42]: a mean over frequencies, not a sum
        F_D=A * b_n * b_r,  # [15]
        P_D=difference_psf(new, ref),
    )


def apply(
    kernels: Kernels,
    new: tuple[Plane, Plane],
    ref: tuple[Plane, Plane],
    astrometric: tuple[float, float] = (0.0, 0.0),
    flux_error: float = 0.0,
) -> Difference:
    """Subtract images with kernels made before: eight transforms of their shape.

    Parameters
    ----------
    kernels : of the images' shape.
    new, ref : (data, variance) as in `Side`.
    astrometric : as in `zogy`.
    flux_error : relative standard deviation of the reference's flux scale.
    """
    k = kernels
    ny, nx = new[0].shape
    if k.k_n.shape != (ny, nx // 2 + 1):
        raise ShapeError("the new image", (ny, nx), k.k_n.shape, "Kernels are made for one shape of images.")
    N, R = forward(new[0]), forward(ref[0])
    D_hat = np.empty_like(N)
    _score(N, R, D_hat, (k.D_n, k.D_r, k.k_n, k.k_r), 1 / k.sigma_n, 1 / k.sigma_r)
    D = inverse(D_hat, nx, overwrite=True)
    S_n, S_r = inverse(N, nx, overwrite=True), inverse(R, nx, overwrite=True)
    V_n, V_r = forward(new[1]), forward(ref[1])
    w_n, w_r = 1 / k.sigma_n**2, 1 / k.sigma_r**2
    _weighted_sum(V_n, V_r, k.k_n2, k.k_r2, w_n, w_r)
    V = inverse(V_n, nx, overwrite=True)
    # Σ k² V >= min(V) Σ k²: what rounding beside a very bright star may not undercut
    least = float(new[1].min()) * w_n * k.k_n2[0, 0].real + float(ref[1].min()) * w_r * k.k_r2[0, 0].real
    S = np.empty_like(S_n)
    _finish((S_n, S_r), V, S, least, astrometric, flux_error**2, k.scale)
    return Difference(D=D, S=S, V=V, F_S=k.F_S, F_D=k.F_D, P_D=k.P_D)


def difference_psf(new: Side, ref: Side, size: int | None = None) -> Plane:
    """The PSF of D, P_D [14], as a (size, size) stamp centred on size // 2.

    Its sum is 1 but for what lies outside of the stamp, whose default side is that of the larger PSF.
    """
    size = size or max(*new.psf.shape, *ref.psf.shape)
    n = 4 * max(size, 16)
    a_n, a_r = new.flux / new.sigma, ref.flux / ref.sigma
    b_n, b_r = a_n / hypot(a_n, a_r), a_r / hypot(a_n, a_r)
    P_n, P_r = forward(embed(new.psf, (n, n))), forward(embed(ref.psf, (n, n)))
    delta = (b_r * np.abs(P_r)) ** 2 + (b_n * np.abs(P_n)) ** 2
    floor = FLOOR * _delta_noise(b_n, b_r, new, ref)
    weight = delta**2 / (delta**2 + floor**2)
    P_D = weight * P_r * P_n / np.sqrt(np.maximum(delta, ROUNDING**2))
    return stamp_of(inverse(P_D.astype(np.complex64), n), size)


def reach(new: Side, ref: Side, *, level: float = 1e-3, n: int = 512) -> int:
    """Half the side of the box that holds all but a fraction ``level`` of every kernel.

    That fraction is of the kernel's norm (root of the sum of squares): of the noise that the
    kernel collects, the part from outside of the box has a standard deviation ``level`` of the whole.

    Parameters
    ----------
    n : side of the array on which the kernels are made [px]; the answer is at most n // 2.
    """
    k = kernels(new, ref, (n, n))
    offset = np.abs(np.fft.fftfreq(n, 1 / n)).astype(int)
    box = np.maximum(offset[:, None], offset[None, :]).ravel()
    largest = 0
    for spectrum in (k.D_n, k.D_r, k.k_n, k.k_r):
        energy = np.bincount(box, weights=inverse(spectrum, n).ravel().astype(np.float64) ** 2)
        outside = 1 - np.cumsum(energy) / energy.sum()
        largest = max(largest, int(np.argmax(outside < level**2)))
    return largest


def _root(plane: Plane) -> Plane:
    result: Plane = np.sqrt(plane)
    return result


def _delta_noise(b_n: float, b_r: float, new: Side, ref: Side) -> float:
    """Noise of Delta / Delta(0) that the noise of the PSFs makes, but for the factor `FLOOR`."""
    return max((b_r * ref.psf_noise) ** 2 + (b_n * new.psf_noise) ** 2, ROUNDING)


def _squared(spectrum: Spectrum, nx: int) -> Spectrum:
    """The transform of the square of the kernel whose transform is given."""
    kernel = inverse(spectrum, nx)
    np.multiply(kernel, kernel, out=kernel)
    return forward(kernel)


@compiled
def _multipliers(
    P: tuple[Spectrum, Spectrum],
    k: tuple[Spectrum, Spectrum],
    b: tuple[float, float],
    floor: float,
    shift: tuple[Spectrum, Spectrum],
    often: NDArray[np.float64],
) -> float:
    """Fill k = (k_n, k_r), put D's multipliers in place of P = (P_n, P_r), return the sum of F_S / A²."""
    P_n, P_r = P
    k_n, k_r = k
    b_n, b_r = b
    rows, columns = shift
    eps = np.sqrt(floor)
    total = 0.0
    for i in range(P_n.shape[0]):
        for j in range(P_n.shape[1]):
            p_n, p_r = np.complex128(P_n[i, j]), np.complex128(P_r[i, j])
            phase = np.complex128(rows[i]) * columns[j]
            n2 = p_n.real**2 + p_n.imag**2
            r2 = p_r.real**2 + p_r.imag**2
            delta = b_r**2 * r2 + b_n**2 * n2  # [13]'s denominator, squared
            g = delta / (delta**2 + floor**2)  # weight / Delta, safe where Delta is 0
            k_n[i, j] = g * b_n * b_r**2 * r2 * p_n.conjugate()  # [28]
            k_r[i, j] = g * b_r * b_n**2 * n2 * p_r.conjugate() * phase  # [29]
            total += often[j] * g * b_n**2 * b_r**2 * n2 * r2  # [42]
            weight = g * delta
            q_n = weight * p_n + (1 - weight) * eps
            q_r = weight * p_r + (1 - weight) * eps
            norm = b_r**2 * (q_r.real**2 + q_r.imag**2) + b_n**2 * (q_n.real**2 + q_n.imag**2)
            if norm == 0.0:
                q_n, q_r, norm = 1.0 + 0.0j, 1.0 + 0.0j, 1.0
            norm = 1 / np.sqrt(norm)
            P_n[i, j] = b_r * q_r * norm  # [13], of N̂
            P_r[i, j] = b_n * q_n * norm * phase  # [13], of R̂
    return total


@compiled
def _score(
    N: Spectrum,
    R: Spectrum,
    D: Spectrum,
    multipliers: tuple[Spectrum, Spectrum, Spectrum, Spectrum],
    w_n: float,
    w_r: float,
) -> None:
    """Fill D̂ [13] and put Ŝ_n, Ŝ_r [12] in place of N̂, R̂; w are 1 / sigma."""
    D_n, D_r, k_n, k_r = multipliers
    for i in range(N.shape[0]):
        for j in range(N.shape[1]):
            n, r = np.complex64(w_n * N[i, j]), np.complex64(w_r * R[i, j])
            D[i, j] = D_n[i, j] * n - D_r[i, j] * r
            N[i, j] = k_n[i, j] * n
            R[i, j] = k_r[i, j] * r


@compiled
def _weighted_sum(
    V_n: Spectrum, V_r: Spectrum, k_n2: Spectrum, k_r2: Spectrum, w_n: float, w_r: float
) -> None:
    """Put V̂(S_n) + V̂(S_r) [26, 27] in place of V̂_n; w are 1 / sigma²."""
    for i in range(V_n.shape[0]):
        for j in range(V_n.shape[1]):
            n, r = np.complex64(w_n * V_n[i, j]), np.complex64(w_r * V_r[i, j])
            V_n[i, j] = k_n2[i, j] * n + k_r2[i, j] * r


@compiled
def _finish(
    S_x: tuple[Plane, Plane],
    V: Plane,
    S: Plane,
    least: float,
    astrometric: tuple[float, float],
    flux2: float,
    A: float,
) -> None:
    """Fill S = S_n - S_r, add V_ast [30-33] by centred differences and V_flux to V, give both their units.

    V_flux: whatever both images show is subtracted with the flux scale's own relative error.
    """
    S_n, S_r = S_x
    ny, nx = S.shape
    x2, y2 = (astrometric[0] / 2) ** 2, (astrometric[1] / 2) ** 2
    low = np.float32(least)
    for i in range(ny):
        up, down = (i + 1) % ny, i - 1  # an index of -1 is the last row
        for j in range(nx):
            right, left = (j + 1) % nx, j - 1
            v = max(V[i, j], low)
            v += x2 * ((S_n[i, right] - S_n[i, left]) ** 2 + (S_r[i, right] - S_r[i, left]) ** 2)
            v += y2 * ((S_n[up, j] - S_n[down, j]) ** 2 + (S_r[up, j] - S_r[down, j]) ** 2)
            v += flux2 * max(S_n[i, j] * S_r[i, j], np.float32(0))
            V[i, j] = A * A * v
            S[i, j] = A * (S_n[i, j] - S_r[i, j])


@compiled
def judge(
    given: tuple[Plane, Plane, Plane, Plane], unjudged: NDArray[np.bool_], out: tuple[Plane, Plane, Plane]
) -> None:
    """Fill S_corr [25], alpha [41] and its error [43] from (D, S, V, F_S); unjudged pixels of all are NaN."""
    D, S, V, F_S = given
    scorr, alpha, alpha_err = out
    for y in range(S.shape[0]):
        for x in range(S.shape[1]):
            if unjudged[y, x]:
                D[y, x] = S[y, x] = scorr[y, x] = alpha[y, x] = alpha_err[y, x] = np.float32(np.nan)
            else:
                root = np.sqrt(V[y, x])
                scorr[y, x] = S[y, x] / root
                alpha[y, x] = S[y, x] / F_S[y, x]
                alpha_err[y, x] = root / F_S[y, x]
