"""Sources found by sep (SExtractor as a library), for those who want them as it finds them."""

from __future__ import annotations

import numpy as np
import sep
from numpy.typing import NDArray

from zogyp.image import FloatImage
from zogyp.measure.detection import sharp
from zogyp.measure.sources import Sources
from zogyp.options import DetectOptions

Bool = NDArray[np.bool_]
MERGED = 1  # sep's flag of a deblended source
PIXEL_STACK = 10_000_000  # pixels above threshold that sep may hold, or all there are, as in a crowd


def sep_sources(
    data: FloatImage,
    sigma: FloatImage,
    bad: Bool,
    options: DetectOptions = DetectOptions(),
    fwhm: float = 2.5,
) -> Sources:
    """Detect sources by sep: takes and gives what `find_sources` does, but ``sigma`` is an image.

    Half-light radii are told of all sources.
    """
    scaled = np.ascontiguousarray(data / sigma, dtype=np.float32)  # any unit becomes sigma
    sep.set_extract_pixstack(max(min(PIXEL_STACK, data.size + 1), data.size // 4))
    sep.set_sub_object_limit(4096)
    kernel = _gaussian(fwhm)
    gain = float(kernel.sum() / np.sqrt((kernel**2).sum()))  # in S/N of a broad source, over single pixels
    found, segments = sep.extract(
        scaled,
        options.threshold / min(gain, 4.0),
        filter_kernel=kernel,
        minarea=5,
        deblend_nthresh=32,
        deblend_cont=0.003,
        segmentation_map=True,
    )
    x, y = found["x"].astype(np.float64), found["y"].astype(np.float64)
    # the peak is a better first position than the barycentre of a blend
    blended = (np.hypot(x - found["xpeak"], y - found["ypeak"]) > 1.5) & (found["flag"] & MERGED > 0)
    x[blended], y[blended] = found["xpeak"][blended], found["ypeak"][blended]
    significant = found["peak"] * np.sqrt(found["npix"]) > options.threshold
    unit = sigma[found["ypeak"], found["xpeak"]].astype(np.float64)
    flux = found["flux"] * unit
    touched = np.unique(segments[bad & (segments > 0)])
    saturated = np.zeros(len(found) + 1, dtype=bool)
    saturated[touched] = True
    reach = np.clip(6 * found["a"], 6, 40)
    radius, _ = sep.flux_radius(scaled, x, y, reach, 0.5, normflux=found["flux"], mask=bad, subpix=5)
    order = np.argsort(-flux, kind="stable")
    significant &= ~sharp(data, unit, found["xpeak"], found["ypeak"])
    order = order[significant[order] & np.isfinite(flux[order])]
    return Sources(
        x=x[order],
        y=y[order],
        flux=flux[order],
        flux_err=(np.sqrt(found["npix"]) * unit)[order],
        peak=(found["peak"] * unit)[order],
        radius=np.asarray(radius, dtype=np.float64)[order],
        saturated=saturated[1:][order],
    )


def _gaussian(fwhm: float) -> FloatImage:
    """A Gaussian kernel of odd side."""
    h = int(np.ceil(fwhm))
    p = np.arange(-h, h + 1) / (fwhm / 2.3548)
    g = np.exp(-0.5 * p**2)
    kernel: FloatImage = np.outer(g, g).astype(np.float32)
    return kernel
