"""How noisy the sky of one image is, from its own high frequencies; and its gain when nobody told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, maximum_filter, uniform_filter

from zogyp.core.filters import separable
from zogyp.image import FloatImage
from zogyp.measure.background import spread_table

# second and fourth differences: no power at low frequencies, where stars have theirs
_SECOND = np.array([1.0, -2.0, 1.0])
_FOURTH = np.array([1.0, -4.0, 6.0, -4.0, 1.0])
MAD_TO_SIGMA = 1.482602218505602
ENOUGH = 1_000_000
STRIPS_PIXELS = 4_000_000
SMOOTHED = 1.0  # px, standard deviation of the Gaussian under which light is told from noise
COLOURED = 0.03  # relative difference of two bands of the noise beyond which it is not white
BANDS_ERROR = 1.4  # / sqrt(pixels): standard deviation of the bands' ratio where the noise is white
CHI2_MEDIAN = 0.454936423119572  # of one degree of freedom


def robust_sigma(a: NDArray[np.floating]) -> float:
    """Standard deviation of a normal distribution with the median absolute deviation of ``a``.

    Of a million values at most, evenly taken: their spread is known to 0.1 per cent.
    """
    a = a.ravel()[:: max(1, a.size // ENOUGH)]
    return float(MAD_TO_SIGMA * np.median(np.abs(a - np.median(a)))) if a.size else float("nan")


def excess_variance(
    square: NDArray[np.floating],
    known: NDArray[np.floating],
    scale: NDArray[np.floating] | float = 1.0,
    share: float = 1.0,
) -> float:
    """The variance x beyond a known one that normal deviates have, robustly.

    Parameters
    ----------
    square : ndarray, (n,)
        Squared deviations.
    known : ndarray, (n,)
        Their known variances.
    scale : ndarray, (n,) or float
        x comes in with this factor.
    share : float
        Share of the deviations that are independent.

    Returns
    -------
    float
        x for which the weighted median of ``square / (known + x scale)`` is that of chi² with one
        degree of freedom; 0 where the known variance explains the deviations.
    """
    factor = np.broadcast_to(np.asarray(scale, dtype=np.float64), square.shape)
    e2, v = square.astype(np.float64), known.astype(np.float64)
    if e2.size < 10 or not (factor > 0).any():
        return 0.0
    x = float(np.median(e2 / factor)) / CHI2_MEDIAN
    top = float((e2 / factor).max()) / CHI2_MEDIAN
    for _ in range(4):  # votes weigh by what is not known but asked for
        weight = factor / (v + factor * x)
        x = _median_excess(e2, v, factor, weight / weight.sum(), (top, share))
    return x


def _median_excess(
    e2: NDArray[np.float64],
    v: NDArray[np.float64],
    factor: NDArray[np.float64],
    weight: NDArray[np.float64],
    bounds: tuple[float, float],
) -> float:
    """`excess_variance` for weights of unit sum; ``bounds`` = (largest x, share of independent votes)."""
    top, share = bounds
    # the median of n chi² deviates is uncertain by 1.06 / sqrt(n): less than two of that is no excess
    limit = CHI2_MEDIAN + 2.1 * float(np.sqrt((weight**2).sum() / share))
    if float(weight[e2 > limit * v].sum()) < 0.5:
        return 0.0
    low, high = 0.0, top
    for _ in range(40):
        middle = 0.5 * (low + high)
        above = float(weight[e2 > CHI2_MEDIAN * (v + factor * middle)].sum()) > 0.5
        low, high = (middle, high) if above else (low, middle)
    return high


@dataclass(frozen=True)
class SkyNoise:
    """The noise of the sky.

    Attributes
    ----------
    sigma : ndarray, float32, (ny, nx)
        Standard deviation of the sky and read noise in each pixel [ADU].
    gain : float or None
        [e-/ADU] that turns light of sources into variance; None when they add none that can be seen.
    notes : tuple of str
        What was estimated, and how.
    """

    sigma: FloatImage
    gain: float | None
    notes: tuple[str, ...] = ()

    def variance(self, source: FloatImage) -> FloatImage:
        """Variance per pixel [ADU²] of sky plus the photons of ``source`` [ADU]."""
        v = self.sigma * self.sigma
        if self.gain is not None:
            # a pixel's own noise is not light: it counts only where a mean over neighbours stands out
            smooth = gaussian_filter(source, SMOOTHED, truncate=3.0)
            floor = np.float32(2 / (2 * np.sqrt(np.pi) * SMOOTHED)) * self.sigma
            v += np.where(smooth > floor, np.maximum(source, 0), 0) / np.float32(self.gain)
        return v


def at_seeing(
    noise: SkyNoise, data: FloatImage, bad: NDArray[np.bool_], fwhm: float, told_gain: bool
) -> SkyNoise:
    """The noise per unit frequency where the PSF has its power, should that differ from the pixels'.

    An image that was resampled before it came has less noise at the highest frequencies than at those
    of its stars; a significance needs the latter. Told by the noise of two bands of high frequencies,
    which are alike where the noise is white.

    Parameters
    ----------
    noise : SkyNoise
        From the highest frequencies.
    data, bad : (ny, nx)
        Pixels without the sky [ADU]; which of them are unusable.
    fwhm : float
        Seeing [px].
    told_gain : bool
        The gain was given: it holds at all frequencies; an estimated one shares the pixels' fate.
    """
    (data, told), bad = _strips((data, noise.sigma), bad)
    normal = data / told
    smooth_sigma = max(fwhm, 1.5) / 2.3548
    smooth = gaussian_filter(normal, smooth_sigma, truncate=3.0)
    good = ~bad
    loud = (
        bad | (np.abs(normal) > 4 * _lower_sigma(normal[good])) | (smooth > 2.5 * _lower_sigma(smooth[good]))
    )
    near = 2 * int(np.ceil(1.5 * fwhm)) + 1
    quiet = maximum_filter(loud.view(np.uint8), near, mode="constant", cval=1) == 0  # filters end at the rim
    n_quiet = int(quiet.sum())
    if n_quiet < 5000:
        return noise
    bands = [robust_sigma(high_pass(normal, scale)[quiet]) for scale in (2.0, 4.0)]
    white = 2 * np.sqrt(np.pi) * smooth_sigma
    ratio = _lower_sigma(smooth[quiet]) * white
    difference = abs(bands[1] / bands[0] - 1)
    if difference < max(COLOURED, 3 * BANDS_ERROR / np.sqrt(n_quiet)) or ratio < 1.02:
        return noise
    note = (
        f"noise is correlated between pixels: {ratio:.2f} times that of single pixels at the seeing's "
        "scale, which is what counts (was the image resampled?)"
    )
    gain = noise.gain if told_gain or noise.gain is None else noise.gain / ratio**2
    return SkyNoise(noise.sigma * np.float32(ratio), gain, (*noise.notes, note))


def _lower_sigma(values: FloatImage) -> float:
    """Standard deviation of the sky from the lower side of its distribution, where no source is."""
    values = np.sort(values.ravel()[:: max(1, values.size // 200_000)])
    n = values.size
    width = values[n // 4 :] - values[: n - n // 4]  # the narrowest quarter lies about the mode
    i = int(np.argmin(width))
    mode = float(np.median(values[i : i + n // 4]))
    below = values[values < mode]
    return float(np.sqrt(np.mean((below - mode) ** 2))) if below.size else 1.0


def from_variance(
    variance: FloatImage, good: NDArray[np.bool_], data: FloatImage, gain: float | None
) -> SkyNoise:
    """The sky's noise where the variance of every pixel was given: the variance of its fainter half."""
    low = good & (data <= np.median(data[good]))
    sigma = np.sqrt(np.maximum(variance, 0))
    typical = float(np.median(sigma[low]))
    return SkyNoise(mesh_table(sigma, low, typical, lambda v: float(np.median(v))), gain)


def high_pass(data: FloatImage, fwhm: float) -> FloatImage:
    """The image's highest frequencies, scaled so that white noise keeps its variance.

    A PSF of ``fwhm`` pixels has next to none of its power there, so what is left is noise.
    """
    taps = _FOURTH if fwhm > 2.7 else _SECOND
    return separable(np.ascontiguousarray(data), (taps / np.sqrt((taps**2).sum())).astype(np.float32))


def sky_noise(
    data: FloatImage,
    sky: FloatImage,
    bad: NDArray[np.bool_],
    *,
    fwhm: float,
    gain: float | None,
    read_noise: float | None,
) -> SkyNoise:
    """Measure the noise of the sky, and the gain where it is unknown.

    Parameters
    ----------
    data : ndarray, float32, (ny, nx)
        Pixels with the background taken off [ADU], finite.
    sky : ndarray, float32, (ny, nx)
        The background that was taken off [ADU].
    bad : ndarray, bool, (ny, nx)
        Unusable pixels.
    fwhm : float
        Seeing [px].
    gain, read_noise : float or None
        [e-/ADU] and [e-] as told.

    Notes
    -----
    The level comes from the highest spatial frequencies of blank sky, which the light of crowded
    stars does not reach; its run over the image from gain and background where they explain the
    level, else from a coarse map of the same.
    """
    notes: list[str] = []
    (part,), part_bad = _strips((data,), bad)
    h, level, clean = _frequencies(part, part_bad, fwhm)
    blank, global_sigma = _blank_sigma(h, level, clean)
    predicted = None
    if gain is not None:
        noise = 0.0 if read_noise is None else read_noise / gain
        predicted = np.maximum(sky, 0) / np.float32(gain) + np.float32(noise**2)
        ratio = global_sigma**2 / float(np.median(predicted[::5, ::5])) if predicted.max() > 0 else np.inf
    if predicted is not None and 0.6 < ratio < 1.6 and predicted.min() > 0:
        sigma = np.sqrt(predicted * np.float32(ratio))
        if abs(ratio - 1) > 0.1:
            notes.append(
                f"sky variance is {ratio:.2f} of what the gain"
                + (" and read noise predict" if read_noise is not None else " alone predicts")
                + "; the measured one is used"
            )
    else:
        if part is not data:
            h_all, level_all, clean_all = _frequencies(data, bad, fwhm)
            blank, _ = _blank_sigma(h_all, level_all, clean_all)
            sigma = mesh_table(h_all, blank, global_sigma, robust_sigma)
        else:
            sigma = mesh_table(h, blank, global_sigma, robust_sigma)
        if gain is not None:
            notes.append("sky noise measured, not predicted: gain and background do not explain it")
    if gain is None:
        gain, note = _estimate_gain(h, level, clean, global_sigma, sky)
        notes.append(note)
    return SkyNoise(sigma=sigma.astype(np.float32), gain=gain, notes=tuple(notes))


def _strips(
    planes: tuple[FloatImage, ...], bad: NDArray[np.bool_]
) -> tuple[tuple[FloatImage, ...], NDArray[np.bool_]]:
    """Of a large image eight strips of rows, enough for any statistic of its noise; else the whole.

    Where two strips meet pixels count as bad.
    """
    ny, nx = bad.shape
    height = STRIPS_PIXELS // (8 * nx)
    if ny < 16 * height or height < 32:
        return planes, bad
    first = np.linspace(0, ny - height, 8).astype(int)
    cut = tuple(np.concatenate([p[y : y + height] for y in first]) for p in planes)
    parts = []
    for y in first:
        part = bad[y : y + height].copy()
        part[:4] = part[-4:] = True
        parts.append(part)
    return cut, np.concatenate(parts)


def _frequencies(
    data: FloatImage, bad: NDArray[np.bool_], fwhm: float
) -> tuple[FloatImage, FloatImage, NDArray[np.bool_]]:
    """The highest frequencies, the local level, and where neither met a bad pixel."""
    reach = 2 if fwhm > 2.7 else 1
    near = maximum_filter(bad.view(np.uint8), 2 * reach + 1, mode="constant", cval=1)
    return high_pass(data, fwhm), uniform_filter(data, 5), near == 0


def _blank_sigma(
    h: FloatImage, level: FloatImage, clean: NDArray[np.bool_]
) -> tuple[NDArray[np.bool_], float]:
    """Where the sky is blank, and the noise there."""
    first = robust_sigma(h[clean])
    blank = clean & (np.abs(level) < 3 * first / 5)
    if blank.sum() < 0.02 * clean.sum():
        low, high = np.quantile(level[clean], [0.0, 0.3])
        blank = clean & (level >= low) & (level <= high)
    return blank, robust_sigma(h[blank])


def mesh_table(
    plane: FloatImage, use: NDArray[np.bool_], typical: float, statistic: Callable[[FloatImage], float]
) -> FloatImage:
    """Smooth map of a statistic over coarse meshes; ``typical`` where too few pixels are usable."""
    ny, nx = plane.shape
    my, mx = max(1, round(ny / 256)), max(1, round(nx / 256))
    table = np.full((my, mx), typical)
    for j, rows in enumerate(np.array_split(np.arange(ny), my)):
        for i, columns in enumerate(np.array_split(np.arange(nx), mx)):
            box = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
            values = plane[box][use[box]]
            if values.size > 2000:
                table[j, i] = statistic(values)
    return spread_table(table, (ny, nx))


def _estimate_gain(
    h: FloatImage, level: FloatImage, clean: NDArray[np.bool_], sigma: float, sky: FloatImage
) -> tuple[float | None, str]:
    """Gain from how the noise grows with light (photon transfer within one image)."""
    edges = sigma * np.array([-1.0, 0.5, 1, 2, 3, 5, 8, 12, 18, 27, 40, 60])
    which = np.digitize(level[clean], edges)
    values = h[clean]
    x, y, w = [], [], []
    for b in range(1, edges.size):
        chosen = values[which == b]
        if chosen.size >= 200:
            x.append(float(np.median(level[clean][which == b])) / sigma)
            y.append((robust_sigma(chosen) / sigma) ** 2)
            w.append(np.sqrt(chosen.size) / (1.65 * y[-1]))
    if len(x) >= 4:
        # variance = a + b level + c level²: the last term takes the structure that stars leave
        design = np.vander(np.array(x), 3, increasing=True) * np.array(w)[:, None]
        solution, *_ = np.linalg.lstsq(design, np.array(y) * np.array(w), rcond=None)
        error = np.sqrt(np.linalg.pinv(design.T @ design)[1, 1])
        if solution[1] > 5 * error:
            gain = 1.0 / (solution[1] * sigma)
            return gain, f"gain unknown: {gain:.3g} e-/ADU estimated from how noise grows with light"
    typical = float(np.median(sky[::5, ::5]))
    if typical > 3 * sigma:
        gain = typical / sigma**2
        return gain, f"gain unknown: {gain:.3g} e-/ADU assumed, as if all noise were photons of the sky"
    return None, "gain unknown and not measurable: photon noise of sources is not counted"
