"""Headers of TAN and SIP: astropy reads them, and the same pixel shows the same sky."""

from __future__ import annotations

import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.wcs import WCS

import mapped
from zogyp.core.transform import Transform
from zogyp.sip import sip_header

GRID, SHAPE = (900, 1000), (850, 960)
SCALE = 1.0  # seconds of arc of a pixel of `mapped.wcs`, to 0.05 %
ASKED = 0.02  # px


def affine(**how):
    return Transform(mapped.turned(GRID, SHAPE, **how).m)


def bent(order, size, seed=1, **how):
    """A map with a surface of so many pixels at the borders."""
    n = (order + 1) * (order + 2) // 2 - 3
    surface = np.random.default_rng(seed).normal(0, size / np.sqrt(n), (2, n))
    box = (0.0, GRID[1] - 1.0, 0.0, GRID[0] - 1.0)
    return Transform(mapped.turned(GRID, SHAPE, **how).m, order, surface, box)


def grid_wcs(kind="tan"):
    """The grid's own coordinates: TAN, TAN with SIP, galactic, another projection, at the pole."""
    made = mapped.wcs(centre=(480.0, 460.0))
    if kind == "zea":
        made.wcs.ctype = ["RA---ZEA", "DEC--ZEA"]
    if kind == "galactic":
        made.wcs.ctype = ["GLON-TAN", "GLAT-TAN"]
    if kind == "fk5":
        made.wcs.radesys, made.wcs.equinox = "FK5", 1975.0
    if kind == "pole":
        made.wcs.crval = [10.0, 89.99]
    if kind == "zero":
        made.wcs.crval = [0.0, -30.0]
    made.wcs.set()
    if kind == "sip":
        header = made.to_header()
        header["CTYPE1"], header["CTYPE2"] = "RA---TAN-SIP", "DEC--TAN-SIP"
        header.update({"A_ORDER": 2, "B_ORDER": 2, "A_2_0": 8e-6, "B_1_1": -6e-6, "B_0_2": 5e-6})
        made = WCS(header)
    return made


def places():
    """Pixels all over the grid."""
    rng = np.random.default_rng(3)
    return rng.uniform([0, 0], [GRID[1] - 1, GRID[0] - 1], (400, 2)).T


def apart(header, transform, coordinates):
    """Distance [px] between the sky of the header and that of the grid, at the same pixels of the image."""
    x, y = places()
    u, v = transform(x, y)
    ny, nx = SHAPE
    seen = (u > 0) & (v > 0) & (u < nx - 1) & (v < ny - 1)
    assert seen.mean() > 0.4
    here = WCS(header).pixel_to_world(u[seen], v[seen])
    there = coordinates.pixel_to_world(x[seen], y[seen])
    return here.separation(there.transform_to(here.frame)).arcsec.max() / (SCALE / transform.scale)


TRANSFORMS = {
    "identity": affine(),
    "turned": affine(angle=37.0, shift=(11.2, -3.4)),
    "mirrored": affine(angle=-160.0, mirrored=True),
    "coarse": affine(scale=1.4, angle=5.0),
    "bent": bent(2, 3.0, angle=12.0),
    "bent to order 3": bent(3, 5.0, mirrored=True),
    "bent to order 5": bent(5, 1.0, angle=91.0),
}


@pytest.mark.parametrize("name", TRANSFORMS)
def test_the_header_shows_the_sky_of_the_grid(name):
    header, error = sip_header(TRANSFORMS[name], grid_wcs(), SHAPE)
    # a hundredth is what it is fitted to, at points between which it goes on smoothly
    assert apart(header, TRANSFORMS[name], grid_wcs()) < ASKED
    assert error < ASKED
    assert ("A_ORDER" in header) == name.startswith("bent")
    assert header["CTYPE1"] == ("RA---TAN-SIP" if name.startswith("bent") else "RA---TAN")


@pytest.mark.parametrize("kind", ["zea", "galactic", "fk5", "pole", "zero", "sip"])
def test_any_celestial_coordinates_of_the_grid(kind):
    transform = bent(2, 2.0, angle=-8.0)
    header, _ = sip_header(transform, grid_wcs(kind), SHAPE)
    assert apart(header, transform, grid_wcs(kind)) < ASKED
    assert header["RADESYS"] == "ICRS"


@pytest.mark.parametrize("name", [n for n in TRANSFORMS if n.startswith("bent")])
def test_the_inverse_is_the_inverse(name):
    """AP and BP by their definition: u = U + AP(U, V), all of it written out."""
    header, _ = sip_header(TRANSFORMS[name], grid_wcs(), SHAPE)
    ny, nx = SHAPE
    x, y = (a.ravel() for a in np.meshgrid(np.linspace(1, nx, 23), np.linspace(1, ny, 21)))
    u, v = x - header["CRPIX1"], y - header["CRPIX2"]

    def sums(name, u, v):
        order = header[f"{name}_ORDER"]
        cards = ((p, q) for p in range(order + 1) for q in range(order + 1 - p))
        return sum(header.get(f"{name}_{p}_{q}", 0.0) * u**p * v**q for p, q in cards)

    U, V = u + sums("A", u, v), v + sums("B", u, v)
    # of the order that the forward map has, the inverse is nearly as good
    assert np.hypot(U + sums("AP", U, V) - u, V + sums("BP", U, V) - v).max() < 2 * ASKED
    # CD, A and B alone are the whole map: astropy's own sum is the same
    foc = WCS(header).sip_pix2foc(np.column_stack([x, y]), 1)
    np.testing.assert_allclose(foc, np.column_stack([U, V]), atol=1e-6)
    assert not any(f"A_{p}_{q}" in header for p, q in ((0, 0), (1, 0), (0, 1)))


def test_it_survives_a_file(tmp_path):
    """FITS cards hold all digits that matter."""
    header, _ = sip_header(TRANSFORMS["bent to order 3"], grid_wcs(), SHAPE)
    fits.writeto(tmp_path / "a.fits", np.zeros(SHAPE, np.uint8), header)
    again = fits.getheader(tmp_path / "a.fits")
    assert apart(again, TRANSFORMS["bent to order 3"], grid_wcs()) < ASKED


def test_without_celestial_coordinates_there_is_none():
    assert sip_header(affine(), None, SHAPE) is None
    linear = WCS(naxis=2)
    linear.wcs.ctype = ["LINEAR", "LINEAR"]
    assert sip_header(affine(), linear, SHAPE) is None


def test_what_cannot_be_followed_is_told():
    """A surface of higher order than SIP has, on purpose rough: the error says how far it is off."""
    transform = bent(9, 40.0)
    header, error = sip_header(transform, grid_wcs(), SHAPE)
    # `error` is the largest at its own points; between them it may be a little more
    assert apart(header, transform, grid_wcs()) < 2 * error + ASKED


def test_the_tangent_point_is_the_middle():
    header, _ = sip_header(TRANSFORMS["turned"], grid_wcs(), SHAPE)
    assert (header["CRPIX1"], header["CRPIX2"]) == ((SHAPE[1] + 1) / 2, (SHAPE[0] + 1) / 2)
    x, y = np.linalg.solve(
        TRANSFORMS["turned"].matrix[:, :2],
        np.array([(SHAPE[1] - 1) / 2, (SHAPE[0] - 1) / 2]) - TRANSFORMS["turned"].matrix[:, 2],
    )
    middle = grid_wcs().pixel_to_world(x, y)
    told = SkyCoord(header["CRVAL1"], header["CRVAL2"], unit="deg")
    assert told.separation(middle).arcsec < 1e-4  # digits of a double
