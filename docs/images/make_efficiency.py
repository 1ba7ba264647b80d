"""Make docs/images/efficiency.png anew: ``python docs/images/make_efficiency.py`` from the project's root.

Six runs with sixty fakes each, on a simulated pair whose reference is the sharper image.
"""

from __future__ import annotations

from pathlib import Path

import zogyp
from zogyp.show.efficiency_plots import save_efficiency
from zogyp.simulate import simulate
from zogyp.sky import Side, Sky

HERE = Path(__file__).parent
SKY = Sky(
    new=Side(variation=0.2),
    ref=Side(fwhm=2.8, angle=-20.0, sky=300.0, zero_point=25.3),
    shape=(560, 600),
    n_stars=350,
    n_galaxies=60,
    n_transients=0,
)


def main() -> None:
    """Simulate, put fakes in, draw."""
    pair = simulate(SKY, 12)
    options = zogyp.EfficiencyOptions(fakes=zogyp.FakeOptions(images=6, n=60))
    result = zogyp.measure_efficiency(pair.new, pair.ref, options)
    print(save_efficiency(result, HERE / "efficiency.png"))


if __name__ == "__main__":
    main()
