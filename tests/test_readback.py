"""What zogyp writes beside the pixels comes back as it was: bits of the mask, kind of the noise, the PSF."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from astropy.io import fits

import mapped
import skies
import zogyp
from zogyp import io
from zogyp.aligned import tell_detector, write_aligned
from zogyp.companions import KIND, PER_FREQUENCY
from zogyp.core.psfmodel import PSF
from zogyp.core.warped import warped
from zogyp.headers import detector
from zogyp.image import Flag, Image
from zogyp.inputs import opened
from zogyp.measure.robust import robust_sigma
from zogyp.options import AlignOptions, InputOptions, PSFOptions, RegistrationOptions, SubtractOptions
from zogyp.psf_files import psf_planes, read_psf, write_psf

SHAPE = (50, 64)
OWN = int(sum(Flag))
ONE = SubtractOptions(threads=1)
AS_IT_IS = replace(ONE, align=RegistrationOptions(mode="none"))


def made_psf(order=1, sampling=1.0, k=21, variance=True):
    """A PSF whose every number is different."""
    rng = np.random.default_rng(3)
    axis = np.arange(k) - k // 2
    core = np.exp(-0.5 * (axis / (2.0 / sampling)) ** 2)
    basis = np.stack([np.outer(core, core) / core.sum() ** 2, *rng.normal(0, 1e-4, (9, k, k))])
    n = (order + 1) * (order + 2) // 2
    return PSF(
        basis=basis[:n].astype(np.float32),
        order=order,
        origin=(31.5, 24.5) if order else (0.0, 0.0),
        scale=(31.5, 24.25) if order else (1.0, 1.0),
        sampling=sampling,
        variance=rng.uniform(0, 1e-6, (k, k)).astype(np.float32) if variance else None,
        fwhm=4.71,
        n_stars=77,
        chi2=1.02,
    )


def assert_same_psf(one, other):
    for name in ("basis", "variance"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    for name in ("order", "origin", "scale", "sampling", "fwhm", "n_stars", "chi2"):
        assert getattr(one, name) == getattr(other, name)


def sky(seed=1, shape=SHAPE):
    return np.random.default_rng(seed).normal(100, 5, shape).astype(np.float32)


def bits():
    """A header that names the bits as our masks do."""
    return fits.Header([(f"BIT{int(f).bit_length() - 1:02d}", f.name) for f in Flag])


def write(path, data=None, *, mask=None, variance=None, psf=None, wcs=None, header=None):
    """A file such as an alignment or a co-addition leaves."""
    planes = [] if variance is None else [("VAR", variance, fits.Header([(KIND, PER_FREQUENCY)]))]
    planes += [] if mask is None else [("MASK", mask, bits())]
    planes += [] if psf is None else psf_planes(psf)
    return io.write_image(path, sky() if data is None else data, header, wcs, extensions=planes)


# ---------------------------------------------------------------- mask


def test_every_bit_of_a_mask_comes_back(tmp_path):
    rng = np.random.default_rng(2)
    mask = np.where(rng.random(SHAPE) < 0.3, rng.integers(0, OWN + 1, SHAPE), 0).astype(np.uint16)
    data = sky()
    data[(mask & (Flag.BAD | Flag.NO_DATA)) > 0] = np.nan  # as they are written
    again = zogyp.read(write(tmp_path / "a.fits", data, mask=mask))
    np.testing.assert_array_equal(again.mask, mask)
    assert again.variance is None and not again.resampled


def test_bits_of_a_reference_are_passed_over(tmp_path):
    """The high byte of a subtraction's mask tells of another image."""
    mask = np.zeros(SHAPE, np.uint16)
    mask[5, 5], mask[7, 7] = Flag.SATURATED.ref(), Flag.COSMIC_RAY | Flag.BAD.ref()
    again = zogyp.read(write(tmp_path / "a.fits", mask=mask))
    assert np.flatnonzero(again.mask).size == 1 and again.mask[7, 7] == Flag.COSMIC_RAY


def test_a_mask_is_believed_however_much_it_condemns(tmp_path):
    """An image that covers a quarter of its grid keeps mask and variance."""
    mask, data, variance = np.full(SHAPE, Flag.NO_DATA, np.uint16), sky(), np.full(SHAPE, 25, np.float32)
    mask[:25, :32] = 0
    mask[3, 3] = Flag.COSMIC_RAY | Flag.REACHED
    data[mask == Flag.NO_DATA] = variance[mask == Flag.NO_DATA] = np.nan
    again = zogyp.read(write(tmp_path / "a.fits", data, mask=mask, variance=variance))
    np.testing.assert_array_equal(again.mask, mask)
    assert again.resampled and (again.variance[:25, :32] == 25).all()


def test_what_else_is_wrong_is_added(tmp_path):
    """NaN without a flag, the saturation level, a mask of the user's, a variance that cannot be."""
    data, mask, variance = sky(), np.zeros(SHAPE, np.uint16), np.full(SHAPE, 25, np.float32)
    mask[1, 1:4] = Flag.BAD, Flag.REACHED, Flag.COSMIC_RAY
    data[2, 2], data[3, 3], variance[4, 4], variance[1, 1] = np.nan, 5000, -1, np.nan
    other = np.zeros(SHAPE, np.int16)
    other[1, 2] = other[5, 5] = 1
    fits.writeto(tmp_path / "m.fits", other)
    options = InputOptions(saturation=4000, mask=str(tmp_path / "m.fits"))
    again = zogyp.read(write(tmp_path / "a.fits", data, mask=mask, variance=variance), options)
    wanted = mask.copy()
    wanted[2, 2], wanted[3, 3] = Flag.NO_DATA, Flag.SATURATED
    wanted[4, 4] = wanted[5, 5] = Flag.BAD
    wanted[1, 2] |= Flag.BAD
    np.testing.assert_array_equal(again.mask, wanted)


@pytest.mark.parametrize("cards", [{"TELESCOP": "JWST"}, {"MP_SAT": 3, "MP_BAD": 0}])
def test_the_first_header_does_not_decide_what_our_bits_mean(tmp_path, cards):
    """An image of the JWST or of the Rubin pipelines that was aligned has our mask."""
    mask = np.zeros(SHAPE, np.uint16)
    mask[4, 5], mask[6, 7] = Flag.SATURATED, Flag.REACHED
    again = zogyp.read(write(tmp_path / "a.fits", mask=mask, header=fits.Header(cards)))
    np.testing.assert_array_equal(again.mask, mask)


def test_masks_of_others_condemn_as_before(tmp_path):
    mask = np.zeros(SHAPE, np.uint16)
    mask[4, 5], mask[6, 7] = 4, 32
    hdus = [fits.PrimaryHDU(sky()), fits.ImageHDU(mask, name="MASK")]
    fits.HDUList(hdus).writeto(tmp_path / "a.fits")
    again = zogyp.read(tmp_path / "a.fits")
    assert again.mask[4, 5] == again.mask[6, 7] == Flag.BAD and np.count_nonzero(again.mask) == 2


def test_an_image_in_memory_keeps_its_bits(tmp_path):
    """What a file gives and what `read` gave are the same input."""
    data, mask = sky(), np.zeros(SHAPE, np.uint16)
    mask[5, 5:8] = Flag.BAD, Flag.SATURATED, Flag.COSMIC_RAY
    data[5, 5] = np.nan
    path = write(tmp_path / "a.fits", data, mask=mask, psf=made_psf())
    once, twice = opened(path, InputOptions()), opened(zogyp.read(path), InputOptions())
    np.testing.assert_array_equal(once.mask, twice.mask)
    assert_same_psf(once.psf, twice.psf)


# ---------------------------------------------------------------- noise


def test_the_kind_of_the_noise_comes_back(tmp_path):
    variance = np.full(SHAPE, 25, np.float32)
    assert zogyp.read(write(tmp_path / "a.fits", variance=variance)).resampled
    with fits.open(tmp_path / "a.fits") as hdus:
        del hdus["VAR"].header[KIND]
        hdus.writeto(tmp_path / "b.fits")
    again = zogyp.read(tmp_path / "b.fits")
    assert not again.resampled
    np.testing.assert_array_equal(again.variance, variance)


# ---------------------------------------------------------------- PSF


@pytest.mark.parametrize("order", [0, 1, 2, 3])
@pytest.mark.parametrize("variance", [True, False])
@pytest.mark.parametrize("ending", [".fits", ".fits.gz"])
def test_a_psf_comes_back_with_its_image(tmp_path, order, variance, ending):
    psf = made_psf(order, sampling=0.5, variance=variance)
    again = zogyp.read(write(tmp_path / f"a{ending}", psf=psf, mask=np.zeros(SHAPE, np.uint16)))
    assert_same_psf(again.psf, psf)
    assert any("PSF" in note for note in again.notes)
    np.testing.assert_array_equal(again.data, sky())
    assert_same_psf(read_psf(tmp_path / f"a{ending}"), psf)  # also where a PSF file is asked for


def test_unknown_figures_stay_unknown(tmp_path):
    psf = replace(made_psf(), chi2=float("nan"), fwhm=float("nan"), n_stars=0)
    again = zogyp.read(write(tmp_path / "a.fits", psf=psf)).psf
    assert np.isnan(again.chi2) and again.n_stars == 0
    assert again.fwhm == pytest.approx(4.71, abs=0.1)  # measured: 2.355 x 2 px, half a fine pixel of the area


@pytest.mark.parametrize("shape", [SHAPE, (21, 21)])
def test_a_psf_has_no_place_on_the_sky(tmp_path, shape):
    """Nor is it taken for the image, even when it is as large."""
    path = write(tmp_path / "a.fits", sky(1, shape), psf=made_psf(), wcs=mapped.wcs())
    with fits.open(path) as hdus:
        hdus.verify("exception")
        assert [h.name for h in hdus] == ["PRIMARY", "PSF", "PSFVAR"]
        assert hdus["PSF"].data.shape == (3, 21, 21) and hdus["PSF"].header["BITPIX"] == -32
        assert "CRVAL1" in hdus[0].header and "CRVAL1" not in hdus["PSF"].header
        if shape == SHAPE:
            assert "CRVAL1" not in hdus["PSFVAR"].header
    again = zogyp.read(path)
    assert again.shape == shape and again.wcs is not None
    assert not any("others" in note for note in again.notes)


def test_a_constant_psf_alone_is_never_the_image(tmp_path):
    """A cube of one plane looks like an image; its name says that it is none."""
    path = write(tmp_path / "a.fits", psf=made_psf(0))
    with fits.open(path) as hdus:
        order = [fits.PrimaryHDU(), hdus["PSF"], hdus["PSFVAR"], fits.ImageHDU(hdus[0].data, name="SCI")]
        fits.HDUList(order).writeto(tmp_path / "b.fits")
    again = zogyp.read(tmp_path / "b.fits")
    assert again.shape == SHAPE and again.psf is not None


def test_compressed_files_keep_their_psf(tmp_path):
    path = write(tmp_path / "a.fits", psf=made_psf(1))
    with fits.open(path) as hdus:
        packed = [fits.CompImageHDU(hdus[0].data, name="SCI", quantize_level=0, compression_type="GZIP_2")]
        for name in ("PSF", "PSFVAR"):
            h = hdus[name]
            packed.append(fits.CompImageHDU(h.data, h.header, quantize_level=0, compression_type="GZIP_2"))
        fits.HDUList([fits.PrimaryHDU(), *packed]).writeto(tmp_path / "a.fits.fz")
    assert_same_psf(zogyp.read(tmp_path / "a.fits.fz").psf, made_psf(1))


def test_a_psf_belongs_to_the_first_image(tmp_path):
    path = write(tmp_path / "a.fits", psf=made_psf(), variance=sky(3))
    fits.append(path, sky(2), fits.Header([("EXTNAME", "SCI")]))
    assert zogyp.read(path).psf is not None
    assert zogyp.read(f"{path}[VAR]").psf is None and zogyp.read(f"{path}[SCI]").psf is None


def test_a_psf_of_others_is_passed_over(tmp_path):
    path = write(tmp_path / "a.fits", psf=made_psf())
    with fits.open(path) as hdus:
        del hdus["PSF"].header["ZOGYPPSF"]
        hdus.writeto(tmp_path / "b.fits")
    again = zogyp.read(tmp_path / "b.fits")
    assert again.psf is None and not again.notes


def emptied(hdu):
    hdu.data = None


def with_nan(hdu):
    hdu.data[0, 3, 3] = np.nan


def cut(hdu):
    hdu.data = hdu.data[:2]


BREAKS = {
    "finite": with_nan,
    "3 planes, got 2": cut,
    "positive sum": lambda hdu: hdu.data.__imul__(-1),
    "PSF_SAMP": lambda hdu: hdu.header.set("PSF_SAMP", 0.0),
    "could not convert": lambda hdu: hdu.header.set("PSF_SAMP", "fine"),
    "POLSCAL": lambda hdu: hdu.header.set("POLSCAL1", 0.0),
    "POLZERO1": lambda hdu: hdu.header.remove("POLZERO1"),
    "empty": emptied,
}


@pytest.mark.parametrize("words", BREAKS)
def test_a_broken_psf_is_told_of_and_left_out(tmp_path, words):
    path = write(tmp_path / "a.fits", psf=made_psf())
    with fits.open(path) as hdus:
        BREAKS[words](hdus["PSF"])
        hdus.writeto(tmp_path / "b.fits")
    again = zogyp.read(tmp_path / "b.fits")
    assert again.psf is None
    told = [note for note in again.notes if "PSF" in note]
    assert len(told) == 1 and words in told[0] and "left out" in told[0]


def test_a_variance_of_another_size_is_no_crash(tmp_path):
    path = write(tmp_path / "a.fits", psf=made_psf())
    with fits.open(path) as hdus:
        hdus["PSFVAR"].data = hdus["PSFVAR"].data[:5]
        hdus.writeto(tmp_path / "b.fits")
    again = zogyp.read(tmp_path / "b.fits")
    assert again.psf is None and any("variance of a PSF" in note for note in again.notes)


def test_a_part_of_an_image_has_the_psf_of_its_place():
    image = Image(sky(), np.zeros(SHAPE, np.uint16), psf=made_psf(2))
    part = image.cutout((slice(10, None), slice(-30, -5)))
    np.testing.assert_allclose(part.psf.at(3, 4), image.psf.at(3 + 34, 4 + 10), atol=1e-12)
    assert image.cutout((slice(None), slice(None))).psf.origin == image.psf.origin
    assert image.cutout((slice(None, None, 2), slice(None))).psf is None  # other pixels


# ---------------------------------------------------------------- aligned, written, read, subtracted

FIELD = (360, 380)
LEVEL = 20000.0
BRIGHT = ((180.3, 150.7, 6e5), (90.6, 250.2, 1.5e6), (270.1, 90.4, 4e6))  # x, y, flux of saturated stars


def saturated(seed, scale):
    """Two images of three saturated stars and many others; the second is turned and has a hole."""
    s = mapped.stars(seed, 220, FIELD, flux=(2e3, 1e5))
    for x, y, flux in BRIGHT:
        far = np.hypot(s.x - x, s.y - y) > 15
        s = mapped.Stars(s.x[far], s.y[far], s.flux[far]).plus(x, y, flux)
    turn = mapped.turned(FIELD, FIELD, angle=11.0, shift=(20.3, -9.6), scale=scale)
    lights = (s.light(mapped.IDENTITY, FIELD, 3.4), s.light(turn, FIELD, 3.0))
    new, ref = (np.minimum(mapped.noisy(a, seed + i), LEVEL) for i, a in enumerate(lights))
    ref[40:46, 100:110] = np.nan
    return new, ref


@pytest.fixture(scope="module", params=[1.0, 1.15], ids=["as fine", "coarser"])
def thrice(request, tmp_path_factory):
    """A reference aligned, written and read, with a PSF; and what it and the image in memory give."""
    folder = tmp_path_factory.mktemp("thrice")
    cards = {"GAIN": mapped.GAIN, "RDNOISE": mapped.READ, "SATURATE": LEVEL, "MAXLIN": LEVEL}
    for name, data in zip(("new", "ref"), saturated(7, request.param), strict=True):
        fits.writeto(folder / f"{name}.fits", data, fits.Header(cards))
    new = folder / "new.fits"
    ref = replace(zogyp.read(folder / "ref.fits"), psf=skies.true_psf(skies.gaussian(3.0), 45))
    aligned, registration = zogyp.align(ref, to=new, options=AlignOptions(threads=1))
    path = write_aligned(folder / "aligned.fits", aligned, registration)
    results = (zogyp.subtract(new, ref, ONE), zogyp.subtract(new, path, AS_IT_IS))
    return aligned, zogyp.read(path), results


def test_an_aligned_image_comes_back_as_it_was(thrice):
    aligned, again, _ = thrice
    np.testing.assert_array_equal(again.mask, aligned.mask)
    good = aligned.good
    np.testing.assert_array_equal(again.data[good], aligned.data[good])
    np.testing.assert_array_equal(again.variance[good], aligned.variance[good])
    assert again.resampled and aligned.resampled
    assert (again.gain, again.read_noise) == (aligned.gain, aligned.read_noise)
    # pixels of another area hold more light before they saturate: 16 digits of the header's
    assert again.saturation == pytest.approx(aligned.saturation, rel=1e-14)
    assert again.psf.order == 0  # a constant one has no origin in the file, and needs none
    placed = replace(again.psf, origin=aligned.psf.origin, scale=aligned.psf.scale)
    assert_same_psf(replace(placed, chi2=0.0), replace(aligned.psf, chi2=0.0))  # NaN: nobody measured it


def test_a_file_gives_what_the_image_in_memory_gives(thrice):
    """The same pixels, bits, noise and PSF: nothing may differ, not even by rounding."""
    one, other = thrice[2]
    np.testing.assert_array_equal(one.Scorr, other.Scorr)
    np.testing.assert_array_equal(one.alpha_err, other.alpha_err)
    np.testing.assert_array_equal(one.mask, other.mask)


@pytest.mark.parametrize("with_psf", [True, False])
def test_saturated_stars_of_an_aligned_file_leave_no_peak(tmp_path, with_psf):
    """Their bits lost, they left 70 sigma; their interpolated surroundings believed, 40."""
    data = saturated(9, 1.0)
    new, ref = (mapped.image(a, n, saturation=LEVEL) for a, n in zip(data, ("new", "ref"), strict=True))
    if with_psf:
        ref = replace(ref, psf=skies.true_psf(skies.gaussian(3.0), 45))
    aligned = zogyp.align(ref, to=new, options=AlignOptions(threads=1))
    path = write_aligned(tmp_path / "a.fits", *aligned)
    result = zogyp.subtract(new, path, AS_IT_IS)
    peaks = result.transients
    for x, y, _ in BRIGHT:
        assert not (np.hypot(peaks["x"] - x, peaks["y"] - y) < 30).any()
    assert robust_sigma(result.Scorr[np.isfinite(result.Scorr)]) == pytest.approx(1, abs=0.05)


def test_an_aligned_file_without_a_psf_is_measured(tmp_path):
    data = saturated(9, 1.0)
    new, ref = (mapped.image(a, n, saturation=LEVEL) for a, n in zip(data, ("new", "ref"), strict=True))
    path = write_aligned(tmp_path / "a.fits", *zogyp.align(ref, to=new, options=AlignOptions(threads=1)))
    again = zogyp.read(path)
    assert again.psf is None and again.resampled
    with fits.open(path) as hdus:
        assert [h.name for h in hdus] == ["PRIMARY", "VAR", "MASK"]


DETECTORS = [
    ({}, {"gain": 2.5, "read_noise": 4.0, "saturation": 5e4}),
    ({"GAIN": 1.0, "SATURATE": 3e4, "RDNOISE": 3.0}, {"gain": 2.5, "read_noise": 4.0, "saturation": 5e4}),
    ({"EGAIN": 1.1, "GAIN1": 1.0, "GAIN2": 1.2, "RONA": 3, "SATURATA": 9e3, "MAXLIN": 8e3},
     {"gain": 2.5, "read_noise": 0.0, "saturation": 5e4}),
    ({"HIERARCH ESO DET OUT1 CONAD": 1.3, "GAIN": 0.0}, {"gain": 2.5, "saturation": 1e4}),
    ({"GAIN": -1.0, "RDNOISE": 3.0}, {"read_noise": 4.0}),
    ({"GAIN": 2.0, "BUNIT": "adu/s", "EXPTIME": 30.0}, {"gain": 66.0}),
]  # fmt: skip


@pytest.mark.parametrize(("cards", "figures"), DETECTORS)
def test_a_header_tells_the_figures_it_is_given(cards, figures):
    header = fits.Header(cards)
    if figures.get("gain") is None:
        tell_detector(header, **figures)
        header["GAIN"] = 1.0  # what else is wrong stays, but nothing crashes
    tell_detector(header, **figures)
    found = detector(header, InputOptions(), "made by a test")
    for name, value in figures.items():
        assert getattr(found, name) == pytest.approx(value, rel=1e-12)


def test_what_a_header_says_rightly_stays_as_it_is():
    cards = {"EGAIN": 2.5, "GAIN": 120, "RON": 4.0, "SATURATE": 5e4, "MAXLIN": 6e4}
    header = fits.Header(cards)
    tell_detector(header, gain=2.5, read_noise=4.0, saturation=5e4)
    assert dict(header) == cards


# ---------------------------------------------------------------- a reference that knows its PSF

GRID = (600, 600)
FWHM_NEW, FWHM_REF = 3.4, 3.0
STARS_SAID = 4242  # a number of stars by which a PSF is known again
TURN = mapped.turned(GRID, GRID, angle=10.0, shift=(7.3, -4.6))
MAPS = {"on one grid": mapped.IDENTITY, "turned": TURN}


def known_psf(fwhm, k=45):
    return replace(skies.true_psf(skies.gaussian(fwhm), k), n_stars=STARS_SAID)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    """A new image, and references of the same sky that carry their true PSF in the file."""
    folder, s = tmp_path_factory.mktemp("known"), mapped.stars(2, 500, GRID, flux=(1e3, 1e5))
    new = mapped.image(mapped.noisy(s.light(mapped.IDENTITY, GRID, FWHM_NEW), 102), "new")
    header = fits.Header({"GAIN": mapped.GAIN, "RDNOISE": mapped.READ})
    paths = {}
    for i, (name, turn) in enumerate(MAPS.items()):
        data = mapped.noisy(s.light(turn, GRID, FWHM_REF), 202 + i)
        paths[name] = write(folder / f"{name}.fits", data, psf=known_psf(FWHM_REF), header=header)
    return new, paths


@pytest.mark.parametrize("name", MAPS)
def test_a_reference_is_used_with_the_psf_in_its_file(pairs, name):
    new, paths = pairs
    result = zogyp.subtract(new, paths[name], ONE)
    figures = result.summary["inputs"]["ref"]
    assert result.summary["alignment"]["resampled"] == (name == "turned")
    assert figures["n_stars"] == STARS_SAID and figures["fwhm"] == pytest.approx(FWHM_REF, rel=0.01)
    given = known_psf(FWHM_REF)
    if name == "turned":
        told = zogyp.Transform.from_dict(result.summary["alignment"]["transform"])
        given = warped(given, told, GRID, into=GRID)
        # a round star stays round: 0.1 % is the kernel's and the pixels' own
        truth = skies.stamp(skies.gaussian(FWHM_REF), 0, 0, result.psf_ref.shape[0])
        assert np.abs(result.psf_ref - truth).max() < 4e-3 * truth.max()
    wanted = given.at((GRID[1] - 1) / 2, (GRID[0] - 1) / 2)
    np.testing.assert_allclose(result.psf_ref, wanted, atol=1e-7)
    used = np.isfinite(result.Scorr) & (result.mask == 0)
    # 310,000 pixels, of which those within a beam of 30 are one: their spread is known to 0.7 %
    assert robust_sigma(result.Scorr[used]) == pytest.approx(1, abs=0.03)
    assert np.std(result.Scorr[used]) == pytest.approx(1, abs=0.03)
    assert all(result.transients["flags"] != "")  # but for the border, nothing is found


@pytest.mark.parametrize("name", MAPS)
def test_a_psf_file_goes_before_that_of_the_image(pairs, tmp_path, name):
    new, paths = pairs
    path = write_psf(tmp_path / "other.psf", replace(known_psf(3.2), n_stars=17))
    options = replace(ONE, ref=InputOptions(psf=str(path)), psf=PSFOptions(min_stars=5))
    figures = zogyp.subtract(new, paths[name], options).summary["inputs"]
    assert figures["ref"]["n_stars"] == 17 and figures["ref"]["fwhm"] == pytest.approx(3.2, rel=0.01)
    assert figures["new"]["n_stars"] > 50  # measured


def test_the_other_image_may_be_the_one_that_moves(pairs):
    new, paths = pairs
    given = replace(new, psf=replace(known_psf(FWHM_NEW), n_stars=18))
    result = zogyp.subtract(given, paths["turned"], replace(ONE, grid="reference"))
    figures = result.summary["inputs"]
    assert (figures["new"]["n_stars"], figures["ref"]["n_stars"]) == (18, STARS_SAID)
    assert result.new.resampled and not result.ref.resampled
    used = np.isfinite(result.Scorr) & (result.mask == 0)
    assert robust_sigma(result.Scorr[used]) == pytest.approx(1, abs=0.03)


def test_no_program_is_asked_for_a_psf_that_is_known(pairs, monkeypatch):
    new, paths = pairs
    monkeypatch.setenv("PATH", "")
    given = replace(new, psf=known_psf(FWHM_NEW))
    result = zogyp.subtract(given, paths["on one grid"], replace(ONE, psf=PSFOptions(model="psfex")))
    assert [result.summary["inputs"][side]["n_stars"] for side in ("new", "ref")] == [STARS_SAID] * 2


def test_stars_that_the_border_cuts_settle_with_a_given_psf(pairs):
    """They start half a pixel off; two passes of the fit left peaks of 20 sigma on the border."""
    new, paths = pairs
    known = zogyp.subtract(new, paths["on one grid"], ONE).transients
    measured = zogyp.subtract(new, replace(zogyp.read(paths["on one grid"]), psf=None), ONE).transients
    worst = (max(abs(t["snr"]), default=5.0) for t in (known, measured))
    assert next(worst) < next(worst) + 1.0
