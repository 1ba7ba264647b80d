"""What a peak of the difference may be besides a new point source, and how well each explains it.

D is white, so what a source of any shape leaves in it is found best by the scalar product with the shape
that it has there. If D = a T + noise of variance s², the largest likelihood that the hypothesis T reaches is

    ln L(T) = (T · D)² / (2 s² T · T)

and the ratio of two of them needs neither a fit nor an iteration. A hypothesis of several shapes (a dipole of
any direction) reaches ln L = b M⁻¹ b / (2 s²), with b the products with the shapes and M those between them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import fft

F8 = NDArray[np.float64]

NAMES = ("delta_new", "delta_ref", "extended", "dipole", "ring")


@dataclass(frozen=True)
class Shapes:
    """What sources of each kind look like in D, (n, n) each, centred on pixel [0, 0], periodic.

    Attributes
    ----------
    point : a star that only one image has: P_D.
    delta_new, delta_ref : a single bright pixel of either image (a cosmic ray, a hot pixel).
    extended : a blurred point.
    dipole : (2, n, n), slopes of P_D: a source that has moved by less than its width.
    ring : P_D's curvature: what a star leaves when one PSF is too wide.
    """

    point: F8
    delta_new: F8
    delta_ref: F8
    extended: F8
    dipole: F8
    ring: F8

    @property
    def size(self) -> int:
        """Side n [px]."""
        return int(self.point.shape[-1])


@dataclass(frozen=True)
class Likelihoods:
    """How well each hypothesis explains stamps of D; all (m,).

    Attributes
    ----------
    point : ln L of a point source at the given place.
    ratios : of each of `NAMES`, ln L - ln L(point): positive where it explains D better.
    amplitudes : of each of the two deltas, with its sign: what it would add to its image, in units of the
        shape.
    chi2 : reduced chi² of the point source within the core.
    """

    point: F8
    ratios: dict[str, F8]
    amplitudes: dict[str, F8]
    chi2: F8


def shapes(point: F8, deltas: tuple[F8, F8], blur: float) -> Shapes:
    """The shapes, from those of a point and of single pixels of the two images, centred on [0, 0].

    Parameters
    ----------
    point : (n, n) PSF of D.
    deltas : (n, n) each: what a pixel of the new image, and of the reference, leaves in D.
    blur : standard deviation of the Gaussian that blurs the extended one [px].
    """
    n = point.shape[0]
    v, u = np.fft.fftfreq(n)[:, None], np.fft.rfftfreq(n)[None, :]
    hat = fft.rfft2(point)

    def made(factor: NDArray[np.complexfloating] | F8) -> F8:
        plane: F8 = fft.irfft2(hat * factor, s=(n, n))
        return plane

    slopes = np.stack([made(2j * np.pi * f * (np.abs(f) < 0.5)) for f in (u, v)])  # of the Nyquist wave: none
    square = u**2 + v**2
    return Shapes(
        point=point,
        delta_new=deltas[0],
        delta_ref=deltas[1],
        extended=made(np.exp(-2 * np.pi**2 * blur**2 * square)),
        dipole=slopes,
        ring=made(-4 * np.pi**2 * square),
    )


def compare(stamps: F8, offset: tuple[F8, F8], kinds: Shapes, core: float, variance: F8) -> Likelihoods:
    """Compare the hypotheses for each stamp of D.

    Parameters
    ----------
    stamps : (m, n, n) of D, the peak's pixel at [n // 2, n // 2]; 0 where nothing is known.
    offset : (dx, dy), (m,) each: the peak's place beside its pixel [px].
    kinds : shapes of the same size.
    core : radius within which chi² is told, and a dipole's middle is sought [px].
    variance : (m,) of D around each peak; 1 on blank sky.
    """
    m, n, _ = stamps.shape
    half = n // 2
    v, u = np.fft.fftfreq(n)[:, None], np.fft.rfftfreq(n)[None, :]
    # the stamps' middles come to [0, 0]: once on the pixel, once with the peak's own fraction of a pixel
    spectra = fft.rfft2(np.roll(stamps, (-half, -half), axis=(1, 2)))
    dx, dy = (o[:, None, None] for o in offset)
    placed = spectra * np.exp(2j * np.pi * (u * dx + v * dy))
    distance = np.hypot(*np.meshgrid(np.fft.fftfreq(n, 1 / n), np.fft.fftfreq(n, 1 / n)))

    def products(source: NDArray[np.complexfloating], shape: F8) -> F8:
        """Scalar products of the stamps with a shape at every whole offset, (m, n, n)."""
        found: F8 = fft.irfft2(source * np.conj(fft.rfft2(shape)), s=(n, n))
        return found

    scale = 1 / (2 * variance)
    norm = float((kinds.point**2).sum())
    b = products(placed, kinds.point)[:, 0, 0]
    point = b**2 / norm * scale
    best: dict[str, F8] = {}
    amplitudes: dict[str, F8] = {}
    for name, shape in (("delta_new", kinds.delta_new), ("delta_ref", kinds.delta_ref)):
        # a bad pixel lies on a pixel; one that was resampled lies where the peak is
        near = products(spectra, shape)[:, distance < 2]
        near = np.concatenate([near, products(placed, shape)[:, :1, 0]], axis=1)
        strongest = near[np.arange(m), np.abs(near).argmax(axis=1)]
        square = float((shape**2).sum())
        best[name], amplitudes[name] = strongest**2 / square * scale, strongest / square
    for name, shape in (("extended", kinds.extended), ("ring", kinds.ring)):
        best[name] = products(placed, shape)[:, 0, 0] ** 2 / float((shape**2).sum()) * scale
    inside = distance <= core
    slopes = [products(placed, slope)[:, inside] for slope in kinds.dipole]
    best["dipole"] = _dipole(slopes[0], slopes[1], kinds.dipole).max(axis=1) * scale
    here = fft.irfft2(placed, s=(n, n))[:, inside]
    left = here - (b / norm)[:, None] * kinds.point[inside]
    chi2 = (left**2).sum(axis=1) / (max(inside.sum() - 1, 1) * variance)
    return Likelihoods(point, {k: best[k] - point for k in NAMES}, amplitudes, chi2)


def _dipole(along: F8, up: F8, slopes: F8) -> F8:
    """b M⁻¹ b for the two slopes, at every offset."""
    m11, m22 = (float((s**2).sum()) for s in slopes)
    m12 = float((slopes[0] * slopes[1]).sum())
    det = m11 * m22 - m12**2
    value: F8 = (m22 * along**2 - 2 * m12 * along * up + m11 * up**2) / det
    return value
