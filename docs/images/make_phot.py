"""Make docs/images/phot.png anew: ``python docs/images/make_phot.py`` from the project's root.

Three simulated nights of one field, of other seeing and sky, in which six sources vary, as on the page.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import zogyp
from zogyp.show.lightcurves import save
from zogyp.simulate import simulate
from zogyp.sky import Side, Sky

HERE = Path(__file__).parent
NIGHTS = [(3.2, 400, 2000), (3.6, 700, 9000), (3.0, 500, 5000)]  # seeing, sky, flux of what varies
# the widest PSF decides how far apart the sources are put: it must be that of all nights
SKY = Sky(shape=(400, 420), ref=Side(fwhm=3.6, zero_point=25.3), n_stars=200, n_galaxies=0, n_transients=6)


def main() -> None:
    """Simulate, measure, draw."""
    images = []
    for i, (fwhm, level, flux) in enumerate(NIGHTS):
        new = Side(fwhm=fwhm, sky=level)
        pair = simulate(replace(SKY, new=new, transient_min=flux, transient_max=flux), seed=5)
        images.append(replace(pair.new, mjd=60310.1 + i, name=f"night{i + 1}"))
    result = zogyp.photometry(images, replace(pair.ref, name="ref.fits"), pair.transients["id", "ra", "dec"])
    save(result, HERE / "phot.png")


if __name__ == "__main__":
    main()
