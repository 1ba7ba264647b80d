"""The certificate and the kinds of noise as tables of the report."""

from __future__ import annotations

from typing import Any

NOISE_NAMES = {
    "sky": "sky and read noise",
    "quantisation": "rounding",
    "correlation": "correlation",
    "photons": "photons of sources",
    "filled": "filled pixels",
    "psf": "PSF models, by their fits",
    "registration": "registration",
    "flux_ratio": "flux ratio",
    "background": "background",
    "stars": "what stars leave",
}


def reasons(certificate: dict[str, Any] | None) -> list[str]:
    """Why a subtraction is doubtful, each in some words with its figure and its limit."""
    told = (certificate or {}).get("reasons") or []
    return [f"{row['reason']} ({row['value']:.3g}, limit {row['limit']:.3g})" for row in told]


def tables(summary: dict[str, Any]) -> list[dict[str, Any]]:
    """Tables of spreads, peaks and noise: title, words, head and rows of text; none without a certificate."""
    made: list[dict[str, Any]] = []
    certificate = summary.get("certificate")
    if certificate:
        made += [_spreads(certificate), _peaks(certificate)]
    if summary.get("noise"):
        made.append(_noise(summary["noise"]))
    return made


def _spread(row: dict[str, Any]) -> str:
    return "–" if row.get("spread") is None else f"{row['spread']:.3f} ± {row['error']:.3f}"


def _spreads(certificate: dict[str, Any]) -> dict[str, Any]:
    """Spread of S_corr by sort of place."""
    rows = [["blank sky", _spread(certificate["sky"]), f"{certificate['sky']['share']:.0%} of the pixels"]]
    for row in certificate["stars"]:
        bright, faint = row.get("mag") or row["flux"]
        what = "stars of {:.2f} to {:.2f} mag" if "mag" in row else "stars of flux {:.4g} to {:.4g}"
        rows.append([what.format(bright, faint), _spread(row), f"{row['n']} stars"])
    rows.append(["galaxies", _spread(certificate["galaxies"]), f"{certificate['galaxies']['n']} galaxies"])
    rows.append(
        [
            "near saturated pixels",
            _spread(certificate["saturated"]),
            f"{certificate['saturated']['n']} pixels",
        ]
    )
    pull = certificate["pull"]
    rows.append(
        [
            "flux of stars over its error",
            _spread(pull),
            f"{pull['n']} stars, median {_number(pull['median'])}",
        ]
    )
    white = certificate["whiteness"]
    rows.append(
        [
            "correlation of D between neighbours",
            f"{white['neighbours']:+.4f}",
            "largest {:+.4f}, {} px up, {} px along".format(white["largest"], *white["lag"]),
        ]
    )
    words = "Spread of S_corr; 1 is right. The stars are those of both images and should not vary."
    return {"title": "Spread", "words": words, "head": ["where", "spread", "of"], "rows": rows}


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:+.2f}"


def _peaks(certificate: dict[str, Any]) -> dict[str, Any]:
    """Peaks found and expected."""
    rows = [
        [f"beyond {height} sigma, {name}", f"{n['expected']:.2f}", str(n["positive"]), str(n["negative"])]
        for height, places in certificate["peaks"].items()
        for name, n in (("blank sky", places["sky"]), ("everywhere", places["all"]))
    ]
    words = "Peaks of S_corr, and how many of each sign noise alone makes. Transients are among those found."
    head = ["where", "expected of noise", "positive", "negative"]
    return {"title": "Peaks", "words": words, "head": head, "rows": rows}


def _noise(shares: dict[str, dict[str, float]]) -> dict[str, Any]:
    """Shares of the variance."""
    places = list(shares)
    rows = [
        [words, *(f"{shares[place].get(name, 0):.1%}" for place in places)]
        for name, words in NOISE_NAMES.items()
        if any(shares[place].get(name, 0) >= 5e-4 for place in places)
    ]
    words = "Which kinds of noise make the variance of S, on average at places of each sort."
    return {"title": "Noise", "words": words, "head": ["kind", *places], "rows": rows}
