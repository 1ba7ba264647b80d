"""What it costs to cut the PSF below a fraction of its peak (1.x: clean_sci, clean_ref).

    python benchmarks/clean_cost.py

Subtracts one simulated pair with several cuts and prints, for each, how much of the significance of the
transients is left, how many are found, and how many peaks are false.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy.spatial import cKDTree

from zogyp import InputOptions, SubtractOptions, subtract
from zogyp.simulate import simulate
from zogyp.sky import Sky

CUTS = (0.0, 0.1, 0.25, 0.5, 0.75)
RADIUS = 3.0  # px within which a peak is that of a transient


def main() -> None:
    """Print a table."""
    sky = Sky(shape=(1400, 1400), n_transients=300, transient_min=800, transient_max=6000, hosted=0.0)
    pair = simulate(sky, seed=5)
    true = np.column_stack([pair.transients["x"], pair.transients["y"]])
    at = tuple(np.rint(true[:, ::-1]).astype(int).T)
    print("  cut   S/N left   found   false   spread of S_corr in blank sky")
    first: np.ndarray | None = None
    for cut in CUTS:
        options = replace(SubtractOptions(), new=InputOptions(psf_cut=cut), ref=InputOptions(psf_cut=cut))
        result = subtract(pair.new, pair.ref, options)
        snr = np.abs(result.Scorr[at])
        first = snr if first is None else first
        table = result.transients
        peaks = np.column_stack([table["x"], table["y"]]).reshape(-1, 2)
        distance, _ = cKDTree(true).query(peaks)
        found = len(set(cKDTree(true).query(peaks[distance < RADIUS])[1]))
        false = int((distance >= RADIUS).sum())
        left = float(np.nanmedian(snr / first))
        print(f"{cut:5.2f} {left:10.3f} {found:7d} {false:7d} {result.summary['scorr_mad']:10.3f}")


if __name__ == "__main__":
    main()
