"""How noisy the sky of one image is, from its own high frequencies; and its gain when nobody told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from zogyp.core.filters import box, filter_row, gaussian, gaussian_taps, separable
from zogyp.core.jit import compiled
from zogyp.core.meshes import MeshSurface, in_bands
from zogyp.core.morphology import dilated
from zogyp.core.planes import like
from zogyp.image import FloatImage
from zogyp.measure.background import over_image, split_evenly
from zogyp.measure.robust import lower_sigma, of_sample, robust_sigma

# second and fourth differences: no power at low frequencies, where stars have theirs
_SECOND = np.array([1.0, -2.0, 1.0])
_FOURTH = np.array([1.0, -4.0, 6.0, -4.0, 1.0])
STRIPS_PIXELS = 4_000_000
LEAST_STRIP = 32  # rows
MANY = 2_000_000  # pixels beyond which a fourth of them tells as well
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
    sigma : MeshSurface
        Standard deviation of the sky and read noise in a pixel [ADU].
    gain : float or None
        [e-/ADU] that turns light of sources into variance; None when they add none that can be seen.
    notes : tuple of str
        What was estimated, and how.
    correlation : float
        ``sigma`` over the standard deviation of single pixels; 1 where the noise is white.
    quantum : float
        Step between the values that pixels can have [ADU]; its noise is in ``sigma``. 0: none was found.
    """

    sigma: MeshSurface
    gain: float | None
    notes: tuple[str, ...] = ()
    correlation: float = 1.0
    quantum: float = 0.0

    def variance(self, source: FloatImage) -> FloatImage:
        """Variance per pixel [ADU²] of sky plus the photons of ``source`` [ADU]."""
        out = like(source)
        taps, per_adu = gaussian_taps(SMOOTHED, 3.0), 0.0 if self.gain is None else 1 / self.gain
        # a pixel's own noise is not light: it counts only where a mean over neighbours stands out
        floor = 2 / (2 * np.sqrt(np.pi) * SMOOTHED)
        source = np.ascontiguousarray(source)
        for rows, sigma in in_bands(self.sigma):
            _variance(source, taps, sigma, rows.start, (floor, per_adu), out)
        return out


@compiled
def _variance(
    source: FloatImage,
    taps: FloatImage,
    sigma: FloatImage,
    first: int,
    how: tuple[float, float],
    out: FloatImage,
) -> None:
    """Rows from ``first`` on: sigma², and source times how[1] where its mean is above how[0] sigma."""
    nx = source.shape[1]
    floor, per_adu = np.float32(how[0]), np.float32(how[1])
    line, smooth = np.empty(nx + taps.size, np.float32), np.empty(nx, np.float32)
    for i in range(sigma.shape[0]):
        filter_row(source, taps, first + i, line, smooth)
        for x in range(nx):
            s = sigma[i, x]
            light = max(source[first + i, x], np.float32(0)) if smooth[x] > floor * s else np.float32(0)
            out[first + i, x] = s * s + per_adu * light


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
    bands = strips(bad.shape)
    normal = np.concatenate([data[a:b] / noise.sigma.rows(a, b) for a, b in bands])
    bad = _apart(bad, bands)
    smooth_sigma = max(fwhm, 1.5) / 2.3548
    smooth = gaussian(normal, smooth_sigma, 3.0)
    good = ~bad
    loud = bad | (np.abs(normal) > 4 * lower_sigma(normal[good])) | (smooth > 2.5 * lower_sigma(smooth[good]))
    near = 2 * int(np.ceil(1.5 * fwhm)) + 1
    quiet = ~dilated(loud, near, border=True)  # filters end at the rim
    n_quiet = int(quiet.sum())
    if n_quiet < 5000:
        return noise
    fine, coarse = (robust_sigma(high_pass(normal, scale)[quiet]) for scale in (2.0, 4.0))
    white = 2 * np.sqrt(np.pi) * smooth_sigma
    ratio = lower_sigma(smooth[quiet]) * white
    difference = abs(coarse / fine - 1)
    if difference < max(COLOURED, 3 * BANDS_ERROR / np.sqrt(n_quiet)) or ratio < 1.02:
        return noise
    note = (
        f"noise is correlated between pixels: {ratio:.2f} times that of single pixels at the seeing's "
        "scale, which is what counts (was the image resampled?)"
    )
    gain = noise.gain if told_gain or noise.gain is None else noise.gain / ratio**2
    return SkyNoise(noise.sigma * ratio, gain, (*noise.notes, note), ratio)


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
    some = np.s_[:: 1 + (data.size > MANY), :: 1 + (data.size > MANY)]
    good, data, sigma = good[some], data[some], np.sqrt(np.maximum(variance[some], 0))
    low = good & (data <= np.median(data[good]))
    typical = float(np.median(sigma[low]))
    table = mesh_table(sigma, low, typical, lambda v: float(np.median(v))).table
    return SkyNoise(over_image(table, variance.shape), gain)


def high_pass(data: FloatImage, fwhm: float) -> FloatImage:
    """The image's highest frequencies, scaled so that white noise keeps its variance.

    A PSF of ``fwhm`` pixels has next to none of its power there, so what is left is noise.
    """
    taps = _FOURTH if fwhm > 2.7 else _SECOND
    return separable(np.ascontiguousarray(data), (taps / np.sqrt((taps**2).sum())).astype(np.float32))


def single_sigma(data: FloatImage, bad: NDArray[np.bool_]) -> float:
    """Standard deviation of single pixels, sources and all, told by the highest frequencies."""
    bands = strips(bad.shape)
    part = data if len(bands) == 1 else np.concatenate([data[a:b] for a, b in bands])
    return of_sample(robust_sigma, high_pass(part, 3.0), ~_apart(bad, bands))


def sky_noise(
    data: FloatImage,
    sky: MeshSurface,
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
    sky : MeshSurface
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
    bands = strips(bad.shape)
    part, part_bad = np.concatenate([data[a:b] for a, b in bands]), _apart(bad, bands)
    h, level, clean = _frequencies(part, part_bad, fwhm)
    blank, global_sigma = _blank_sigma(h, level, clean)
    predicted, ratio = None, 0.0
    if gain is not None:
        noise = 0.0 if read_noise is None else read_noise / gain
        predicted = replace(sky, table=np.maximum(sky.table, 0) / gain + noise**2, cubic=False)
        ratio = global_sigma**2 / predicted.typical if predicted.table.max() > 0 else np.inf
    if predicted is not None and 0.6 < ratio < 1.6 and predicted.table.min() > 0:
        sigma = replace(predicted, table=np.sqrt(predicted.table * ratio))
        if abs(ratio - 1) > 0.1:
            notes.append(
                f"sky variance is {ratio:.2f} of what the gain"
                + (" and read noise predict" if read_noise is not None else " alone predicts")
                + "; the measured one is used"
            )
    else:
        whole = (h, blank)
        if len(bands) > 1:
            h_all, level_all, clean_all = _frequencies(data, bad, fwhm)
            whole = h_all, _blank_sigma(h_all, level_all, clean_all)[0]
        sigma = mesh_table(*whole, global_sigma, robust_sigma)
        if gain is not None:
            notes.append("sky noise measured, not predicted: gain and background do not explain it")
    if gain is None:
        gain, note = _estimate_gain(h, level, clean, global_sigma, sky)
        notes.append(note)
    return SkyNoise(sigma=sigma, gain=gain, notes=tuple(notes))


def strips(shape: tuple[int, int]) -> list[tuple[int, int]]:
    """Of a large image eight strips of rows (from, to), enough for any statistic of its noise; else all."""
    ny, nx = shape
    height = max(STRIPS_PIXELS // (8 * nx), LEAST_STRIP)
    if ny < 16 * height:
        return [(0, ny)]
    return [(int(y), int(y) + height) for y in np.linspace(0, ny - height, 8).astype(int)]


def _apart(bad: NDArray[np.bool_], bands: list[tuple[int, int]]) -> NDArray[np.bool_]:
    """Bad pixels of strips one after another; those where two strips meet count as bad."""
    if len(bands) == 1:
        return bad
    parts = [bad[a:b].copy() for a, b in bands]
    for part in parts:
        part[:4] = part[-4:] = True
    return np.concatenate(parts)


def _frequencies(
    data: FloatImage, bad: NDArray[np.bool_], fwhm: float
) -> tuple[FloatImage, FloatImage, NDArray[np.bool_]]:
    """The highest frequencies, the local level, and where neither met a bad pixel."""
    reach = 2 if fwhm > 2.7 else 1
    return high_pass(data, fwhm), box(data, 5), ~dilated(bad, 2 * reach + 1, border=True)


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
) -> MeshSurface:
    """Smooth map of a statistic over coarse meshes; ``typical`` where too few pixels are usable."""
    rows, columns = (split_evenly(n, max(1, round(n / 256))) for n in plane.shape)
    table = np.full((rows.size - 1, columns.size - 1), typical)
    for j, i in np.ndindex(*table.shape):
        mesh = np.s_[rows[j] : rows[j + 1], columns[i] : columns[i + 1]]
        values = plane[mesh][use[mesh]]
        if values.size > 2000:
            table[j, i] = statistic(values)
    return over_image(table, plane.shape)


def _estimate_gain(
    h: FloatImage, level: FloatImage, clean: NDArray[np.bool_], sigma: float, sky: MeshSurface
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
    typical = sky.typical
    if typical > 3 * sigma:
        gain = typical / sigma**2
        return gain, f"gain unknown: {gain:.3g} e-/ADU assumed, as if all noise were photons of the sky"
    return None, "gain unknown and not measurable: photon noise of sources is not counted"
