"""``p_real``: the probability that a candidate is real, by a logistic model of a few features.

The model is small enough to be read: each feature, standardised and bounded, some of their squares, and the
products with the significance, each with a weight (`data/p_real.json`). The weights were fitted to simulated
skies with all kinds of defects (`benchmarks/train_p_real.py` does it again); what they were fitted to and how
well they do on skies they have not seen stands in the same file.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zogyp.core.hypotheses import NAMES

F8 = NDArray[np.float64]
BRIGHT = 60.0  # sigma beyond which a source is no more real for being brighter
SHAPE_ERROR = 0.02  # of a source's light by which the shapes of hypotheses are wrong
BOUND = 4.0  # standard deviations beyond which a feature says no more
FEATURES = (
    "significance", "chi2", "delta_new", "delta_ref", "extended", "dipole", "ring", "excess", "change",
    "partner", "shape", "saturated", "company", "near_bad", "near_saturated", "edge",
)  # fmt: skip

SQUARED = [i for i, name in enumerate(FEATURES) if name not in NAMES]


def features(table: Mapping[str, Any]) -> F8:
    """The features of each candidate, (n, n_features), from the columns of the table of transients."""
    words = [set(str(flags).split(",")) for flags in table["flags"]]

    def column(name: str) -> F8:
        return np.asarray(table[name], dtype=np.float64)

    def said(word: str) -> F8:
        return np.array([float(word in w) for w in words])

    snr = np.clip(np.abs(column("snr")), 1.0, BRIGHT)
    # what a point source's likelihood is at this significance: the others are told in units of it
    point = 0.5 * column("snr") ** 2 / (1 + (SHAPE_ERROR * column("snr")) ** 2)
    ratios = [np.clip(column(f"lr_{k}") / np.maximum(point, 1.0), -1.2, 1.2) for k in NAMES]
    return np.column_stack(
        [
            np.log(snr / 5),
            np.log(np.clip(column("chi2"), 0.5, 50)),
            *ratios,
            np.log(column("excess")),
            np.log10(np.clip(column("change"), 1e-3, 10)),
            np.minimum(column("partner"), 2.0),
            np.clip(column("shape"), -8, 8),
            column("saturated"),
            np.log1p(column("company")),
            *(said(word) for word in ("near_bad", "near_saturated", "edge")),
        ]
    )


def terms(raw: F8, mean: F8, scale: F8) -> F8:
    """What the weights belong to, (n, n_terms): a constant, features, squares, products with the first.

    The hypotheses' ratios have no squares: the better one explains a peak, the less likely it is real.
    """
    z = np.clip((raw - mean) / scale, -BOUND, BOUND)
    return np.column_stack([np.ones(len(z)), z, z[:, SQUARED] ** 2, z[:, :1] * z[:, 1:]])


def p_real(table: Mapping[str, Any]) -> F8:
    """Probability that each candidate is real, (n,), 0…1."""
    model = _model()
    mean, scale, weights = (np.array(model[k], dtype=np.float64) for k in ("mean", "scale", "weights"))
    return probability(terms(features(table), mean, scale), weights)


def probability(design: F8, weights: F8) -> F8:
    """The logistic function of the weighted terms."""
    return np.asarray(1 / (1 + np.exp(-np.clip(design @ weights, -30, 30))), dtype=np.float64)


@cache
def _model() -> dict[str, Any]:
    text = files("zogyp").joinpath("data/p_real.json").read_text(encoding="utf-8")
    model: dict[str, Any] = json.loads(text)
    return model
