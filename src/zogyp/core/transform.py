"""Maps between two images: from output to input pixels, always.

A map is affine plus a smooth residual. The residual is a Chebyshev surface in *output* coordinates,
fitted there and applied there; it is as stiff as leave-one-out cross-validation over the stars
demands, down to none. Positions are complex numbers where that makes a similarity one product.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.polynomial import chebyshev
from numpy.typing import NDArray

F8 = NDArray[np.float64]
C16 = NDArray[np.complex128]
SIMILARITY = 0  # order of a shift, a rotation and a scale; 1 is affine
HIGHEST = 9  # order of the residual surface
PER_TERM = 1.6  # stars needed for each term of a surface
BEYOND = 0.2  # of the stars' box, to which a surface continues along its slope; constant further out
PRIOR = 3.0  # a term may be this many times the typical displacement, unless the stars say otherwise
IDLE = 3  # orders in a row without a gain after which no higher one is tried
GAIN = 1.0  # standard errors by which a higher order must predict stars better
CANCELLING = 4.0  # times the typical displacement, beyond which terms cancel among the stars and nowhere else
CAP = 16.0  # loss of a star beyond which it counts no more
Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Transform:
    """A map from output to input pixels.

    Attributes
    ----------
    matrix : (2, 3)
        ``x_in = m00 x + m01 y + m02``, ``y_in = m10 x + m11 y + m12``.
    order : int
        0 similarity, 1 affine, more: with a residual surface of that order.
    surface : (2, n)
        Coefficients [px of the input] of the terms T_a(u) T_b(v) of degree a + b = 2 ... order,
        in the order of `terms`; none up to order 1.
    box : (x0, x1, y0, y1)
        Output pixels that u, v = -1 ... 1 stand for: where the stars are.
    covariance : (n + 3, n + 3)
        Of the coefficients of one axis, those of 1, u, v first [px² of the input].
    """

    matrix: F8
    order: int = 1
    surface: F8 = field(default_factory=lambda: np.zeros((2, 0)))
    box: Box = (0.0, 1.0, 0.0, 1.0)
    covariance: F8 = field(default_factory=lambda: np.zeros((3, 3)))

    def __call__(self, x: Any, y: Any) -> tuple[F8, F8]:
        """Input positions of output positions; any shape, both axes alike."""
        x, y = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
        dx, dy = self._residual(x, y)
        m = self.matrix
        return m[0, 0] * x + m[0, 1] * y + m[0, 2] + dx, m[1, 0] * x + m[1, 1] * y + m[1, 2] + dy

    def inverse(self, x: Any, y: Any) -> tuple[F8, F8]:
        """Output positions of input positions, to 1e-6 px."""
        x, y = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
        back = np.asarray(np.linalg.inv(self.matrix[:, :2]), dtype=np.float64)
        step: F8 = np.full(np.shape(x), np.inf)
        u, v = _turned(back, x - self.matrix[0, 2], y - self.matrix[1, 2])
        for _ in range(50):  # the surface is flat beside the affine part: this contracts
            here = self(u, v)
            du, dv = _turned(back, x - here[0], y - here[1])
            u, v, step = u + du, v + dv, np.hypot(du, dv)
            if step.max(initial=0.0) < 1e-7:
                break
        return u, v

    def error(self, x: Any, y: Any) -> F8:
        """Standard error of the map along one axis [px of the input] at output positions.

        Beyond the stars' box it is that of the box's border, grown with the slope's.
        """
        values = self._terms(np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64))
        variance: F8 = np.einsum("i...,ij,j...->...", values, self.covariance, values)
        return np.sqrt(np.maximum(variance, 0))

    @property
    def scale(self) -> float:
        """Input pixels per output pixel."""
        return float(np.sqrt(abs(np.linalg.det(self.matrix[:, :2]))))

    @property
    def mirrored(self) -> bool:
        """Whether one image shows the other's mirror image."""
        return bool(np.linalg.det(self.matrix[:, :2]) < 0)

    @property
    def rotation(self) -> float:
        """Angle by which the input is turned against the output, after mirroring x where it is [deg]."""
        m = self.matrix[:, :2] @ np.diag([-1.0 if self.mirrored else 1.0, 1.0])
        return float(np.rad2deg(np.arctan2(m[1, 0] - m[0, 1], m[0, 0] + m[1, 1])))

    def lattice(self, shape: tuple[int, int], step: int) -> tuple[F8, F8]:
        """Input positions of every ``step``-th output pixel, the last ones at or beyond the border.

        Parameters
        ----------
        shape : (ny, nx) of the output.

        Returns
        -------
        x, y : ((ny - 1) // step + 2, (nx - 1) // step + 2)
        """
        rows = step * np.arange((shape[0] - 1) // step + 2, dtype=np.float64)
        columns = step * np.arange((shape[1] - 1) // step + 2, dtype=np.float64)
        return self(columns[None, :] + 0 * rows[:, None], rows[:, None] + 0 * columns[None, :])

    def moved(self, x: float, y: float) -> Transform:
        """The same map for an output whose pixel (0, 0) is this one's (x, y)."""
        m = self.matrix.copy()
        m[:, 2] = m @ [x, y, 1]
        x0, x1, y0, y1 = self.box
        return Transform(m, self.order, self.surface, (x0 - x, x1 - x, y0 - y, y1 - y), self.covariance)

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, from which `from_dict` makes the same map."""
        return {
            "direction": "output to input, 0-based pixels, centres on integers",
            "matrix": self.matrix.tolist(),
            "order": self.order,
            "surface": self.surface.tolist(),
            "box": list(self.box),
            "covariance": self.covariance.tolist(),
        }

    @classmethod
    def from_dict(cls, told: dict[str, Any]) -> Transform:
        """The map that `to_dict` told."""
        x0, x1, y0, y1 = (float(v) for v in told["box"])
        surface = np.array(told["surface"], dtype=np.float64).reshape(2, -1)
        matrix, covariance = (np.array(told[k], dtype=np.float64) for k in ("matrix", "covariance"))
        return cls(matrix, int(told["order"]), surface, (x0, x1, y0, y1), covariance)

    def _residual(self, x: F8, y: F8) -> F8:
        """What the surface adds to x and to y, (2, ...)."""
        if self.order < 2:
            return np.zeros((2,) + (1,) * x.ndim)
        result: F8 = np.tensordot(self.surface, self._terms(x, y)[3:], axes=1)
        return result

    def _terms(self, x: F8, y: F8) -> F8:
        """All terms; beyond the stars' box the surface's go on along their slopes, and soon no further."""
        u, v = scaled(x, y, self.box)
        cu, cv = u.clip(-1, 1), v.clip(-1, 1)
        out = terms(cu, cv, self.order)
        if max(np.abs(u).max(initial=0), np.abs(v).max(initial=0)) > 1:
            over_u, over_v = (u - cu).clip(-BEYOND, BEYOND), (v - cv).clip(-BEYOND, BEYOND)
            out += over_u * terms(cu, cv, self.order, along=0) + over_v * terms(cu, cv, self.order, along=1)
        out[1], out[2] = u, v
        return out


def scaled(x: F8, y: F8, box: Box) -> tuple[F8, F8]:
    """Coordinates that run from -1 to 1 over a box (x0, x1, y0, y1)."""
    x0, x1, y0, y1 = box
    return (2 * x - x0 - x1) / (x1 - x0), (2 * y - y0 - y1) / (y1 - y0)


def powers(order: int) -> list[tuple[int, int]]:
    """Degrees (a, b) of the terms up to an order: 1, u, v, then degree by degree."""
    return [(d - b, b) for d in range(max(order, 1) + 1) for b in range(d + 1)]


def terms(u: F8, v: F8, order: int, along: int | None = None) -> F8:
    """Values of T_a(u) T_b(v), (n, ...), or their derivatives along u (0) or v (1)."""
    top = max(order, 1)
    one = np.eye(top + 1)
    in_u, in_v = (chebyshev.chebval(w, one) for w in (u, v))
    if along is not None:
        slopes = np.zeros_like(one)
        slopes[:-1] = chebyshev.chebder(one)
        if along == 0:
            in_u = chebyshev.chebval(u, slopes)
        else:
            in_v = chebyshev.chebval(v, slopes)
    return np.stack([in_u[a] * in_v[b] for a, b in powers(order)])


def _turned(m: F8, x: F8, y: F8) -> tuple[F8, F8]:
    return m[0, 0] * x + m[0, 1] * y, m[1, 0] * x + m[1, 1] * y


def matrix_of(alpha: complex, beta: complex, mirrored: bool) -> F8:
    """The matrix (2, 3) of z_in = alpha z + beta, where z is z_out, or -conj(z_out) where ``mirrored``."""
    sign = -1.0 if mirrored else 1.0
    turn = [[sign * alpha.real, -alpha.imag], [sign * alpha.imag, alpha.real]]
    return np.column_stack([turn, [beta.real, beta.imag]])


def similarity(z_out: C16, z_in: C16, weight: F8 | None = None) -> tuple[F8, float]:
    """The shift, rotation and scale, mirrored or not, that brings points nearest to others.

    Parameters
    ----------
    z_out, z_in : (n,) complex positions x + i y, n >= 2.
    weight : (n,) or None

    Returns
    -------
    matrix : (2, 3)
    rms : of the distances that are left [px of the input].
    """
    w = np.ones(z_out.size) if weight is None else weight
    w = w / w.sum()
    best: tuple[F8, float] | None = None
    for mirrored in (False, True):
        z = -np.conj(z_out) if mirrored else z_out
        centre, there = (w * z).sum(), (w * z_in).sum()
        spread = (w * np.abs(z - centre) ** 2).sum()
        alpha = (w * np.conj(z - centre) * (z_in - there)).sum() / max(spread, 1e-300)
        beta = there - alpha * centre
        rms = float(np.sqrt((w * np.abs(alpha * z + beta - z_in) ** 2).sum()))
        if best is None or rms < best[1]:
            best = matrix_of(complex(alpha), complex(beta), mirrored), rms
    assert best is not None
    return best


def solve(out: F8, into: F8, weight: F8, orders: Sequence[int]) -> Transform:
    """The map through matched positions, of the lowest order that predicts stars left out as well as any.

    Parameters
    ----------
    out, into : (n, 2) positions (x, y) in the output and the input image; two with a weight at least.
    weight : (n,) inverse variance of a position along one axis [px**-2 of the input]; 0 leaves it out.
    orders : candidates, rising. Those that the stars cannot carry are passed over, the first is not.

    Notes
    -----
    A star's prediction from all others is its residual over one less its leverage. Its loss is the square
    in units of its variance, at most `CAP`. A higher order is taken when the mean gain is significant.
    Terms of the surface have a prior as wide as `PRIOR` times the typical distance from the affine map, so
    that where no star is they stay of that size.
    """
    used = weight > 0
    out, into, weight = out[used], into[used], weight[used]
    box = _box(out)
    best, least = None, np.full(len(out), np.inf)
    if orders[0] == SIMILARITY:
        best, least = _similar(out, into, weight, box)
    carried = [d for d in orders if d > 0 and (len(out) >= PER_TERM * len(powers(d)) or d == orders[0])]
    if best is not None and not carried:
        return best
    design = terms(*scaled(out[:, 0], out[:, 1], box), carried[-1]).T
    flat, loss = _surface(design[:, :3], into, weight, np.zeros(3))
    typical = float(np.sqrt(np.median(((into - design[:, :3] @ flat[0]) ** 2).sum(axis=1)))) + 1e-3
    idle = 0
    for order in carried:
        if idle == IDLE:
            break
        idle += 1
        n = len(powers(order))
        prior = np.where(np.arange(n) < 3, 0.0, (PRIOR * typical) ** -2.0)
        (coefficients, covariance), loss = _surface(design[:, :n], into, weight, prior)
        gain = least - loss
        if order != carried[0] and np.abs(coefficients[3:]).max(initial=0) > CANCELLING * typical:
            continue
        if not np.isfinite(gain).all() or gain.mean() > GAIN * gain.std() / np.sqrt(len(gain)):
            best, least, idle = _assembled(coefficients, covariance, order, box), loss, 0
    assert best is not None  # the first gains without bound
    return best


def _surface(design: F8, into: F8, weight: F8, prior: F8) -> tuple[tuple[F8, F8], F8]:
    """Coefficients (n, 2), their covariance (n, n), and each star's loss when predicted by the others."""
    normal = design.T @ (weight[:, None] * design) + np.diag(prior)
    normal[np.diag_indices(len(normal))] += 1e-11 * normal[0, 0]  # stars on a line leave it singular
    covariance = np.asarray(np.linalg.inv(normal), dtype=np.float64)
    coefficients = covariance @ (design.T @ (weight[:, None] * into))
    leverage = weight * ((design @ covariance) * design).sum(axis=1)
    residual = (into - design @ coefficients) / np.maximum(1 - leverage, 1e-3)[:, None]
    return (coefficients, covariance), _loss(residual, weight)


def _similar(out: F8, into: F8, weight: F8, box: Box) -> tuple[Transform, F8]:
    """The similarity, and each star's loss when predicted by the others."""
    matrix, _ = similarity(out[:, 0] + 1j * out[:, 1], into[:, 0] + 1j * into[:, 1], weight)
    residual = into - (out @ matrix[:, :2].T + matrix[:, 2])
    from_centre = ((out - np.average(out, axis=0, weights=weight)) ** 2).sum(axis=1)
    leverage = weight / weight.sum() + weight * from_centre / max((weight * from_centre).sum(), 1e-300)
    residual = residual / np.maximum(1 - leverage, 1e-3)[:, None]
    x0, x1, y0, y1 = box
    half = np.array([x1 - x0, y1 - y0]) / 2
    slope = half**2 / max((weight * from_centre).sum(), 1e-300)
    covariance = np.diag([1 / weight.sum(), *slope])
    return Transform(matrix, SIMILARITY, box=box, covariance=covariance), _loss(residual, weight)


def _loss(residual: F8, weight: F8) -> F8:
    result: F8 = np.minimum(weight[:, None] * residual**2, CAP).sum(axis=1)
    return result


def _assembled(coefficients: F8, covariance: F8, order: int, box: Box) -> Transform:
    """A map from the coefficients (n, 2) of its terms."""
    x0, x1, y0, y1 = box
    constant, along_u, along_v = coefficients[:3]
    slope = np.column_stack([2 * along_u / (x1 - x0), 2 * along_v / (y1 - y0)])
    offset = constant - slope @ [(x0 + x1) / 2, (y0 + y1) / 2]
    surface = coefficients[3:].T.copy()
    return Transform(np.column_stack([slope, offset]), order, surface, box, covariance)


def _box(out: F8) -> Box:
    """The smallest box around positions, at least a pixel wide."""
    low, high = out.min(axis=0), out.max(axis=0)
    middle, half = (low + high) / 2, np.maximum((high - low) / 2, 0.5)
    return tuple(float(v) for m, h in zip(middle, half, strict=True) for v in (m - h, m + h))  # type: ignore[return-value]
