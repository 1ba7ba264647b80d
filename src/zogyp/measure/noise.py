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
from zogyp.measure.robust import lower_sigma, robust_sigma

# second and fourth differences: no power at low frequencies, where stars have theirs
_SECOND = np.array([1.0, -2.0, 1.0])
_FOURTH = np.array([1.0, -4.0, 6.0, -4.0, 1.0])
STRIPS_PIXELS = 4_000_000
SMOOTHED = 1.0  # px, standard deviation of the Gaussian under which light is told from noise
COLOURED = 0.03  # relative difference of two bands of the noise beyond which it is not white
BANDS_ERROR = 1.4  # / sqrt(pixels): standard deviation of the bands' ratio where the noise is white
QUANTISED = 20_000  # pixels that tell whether values are quantised
FEW_STEPS = 8  # differences of values below which nothing is told


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
    correlation : float
        ``sigma`` over the standard deviation of single pixels; 1 where the noise is white.
    quantum : float
        Step between the values that pixels can have [ADU]; its noise is in ``sigma``. 0: none was found.
    """

    sigma: FloatImage
    gain: float | None
    notes: tuple[str, ...] = ()
    correlation: float = 1.0
    quantum: float = 0.0

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
    loud = bad | (np.abs(normal) > 4 * lower_sigma(normal[good])) | (smooth > 2.5 * lower_sigma(smooth[good]))
    near = 2 * int(np.ceil(1.5 * fwhm)) + 1
    quiet = maximum_filter(loud.view(np.uint8), near, mode="constant", cval=1) == 0  # filters end at the rim
    n_quiet = int(quiet.sum())
    if n_quiet < 5000:
        return noise
    bands = [robust_sigma(high_pass(normal, scale)[quiet]) for scale in (2.0, 4.0)]
    white = 2 * np.sqrt(np.pi) * smooth_sigma
    ratio = lower_sigma(smooth[quiet]) * white
    difference = abs(bands[1] / bands[0] - 1)
    if difference < max(COLOURED, 3 * BANDS_ERROR / np.sqrt(n_quiet)) or ratio < 1.02:
        return noise
    note = (
        f"noise is correlated between pixels: {ratio:.2f} times that of single pixels at the seeing's "
        "scale, which is what counts (was the image resampled?)"
    )
    gain = noise.gain if told_gain or noise.gain is None else noise.gain / ratio**2
    return SkyNoise(noise.sigma * np.float32(ratio), gain, (*noise.notes, note), ratio)


def quantum(values: FloatImage) -> float:
    """The step of which all differences between pixel values are multiples; 0 if there is none.

    Rounding to it adds a twelfth of its square to the variance.
    """
    part = np.unique(values.ravel()[:: max(1, values.size // QUANTISED)].astype(np.float64))
    steps = np.diff(part)
    if steps.size < FEW_STEPS:
        return 0.0
    step = float(steps.min())
    # float32 knows a value to 6e-8 of it
    if step < 16 * 6e-8 * float(np.abs(part).max()):
        return 0.0
    off = steps / step
    return step if bool(np.all(np.abs(off - np.rint(off)) < 0.02)) else 0.0


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
