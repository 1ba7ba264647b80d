"""The real SExtractor and PSFEx as alternatives: run here where they are installed."""

from __future__ import annotations

import os
import stat
from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial import cKDTree

from zogyp import subtract
from zogyp.errors import OptionError, PixelError, ProgramError, StarsError
from zogyp.image import Flag, Image
from zogyp.measure import astromatic
from zogyp.measure.astromatic import (
    PSFEX,
    SEXTRACTOR,
    as_sources,
    config_folder,
    find_program,
    psfex_psf,
    sextractor_catalog,
    sextractor_sources,
)
from zogyp.measure.sepsources import sep_sources
from zogyp.options import DetectOptions, PSFOptions, SubtractOptions
from zogyp.simulate import simulate
from zogyp.sky import Sky

SHAPE = (420, 560)
SIGMA, GAIN, SKY = 5.0, 2.0, 300.0
SX, SY = 1.6, 2.0  # of the Gaussian stars [px]


@pytest.fixture
def programs():
    try:
        find_program(SEXTRACTOR)
        find_program(PSFEX)
    except ProgramError:
        pytest.skip("source-extractor and psfex are not installed")


@pytest.fixture(scope="module")
def stars():
    """x, y, flux of stars on a jittered grid, far enough apart not to blend."""
    rng = np.random.default_rng(11)
    x, y = (a.ravel().astype(float) for a in np.meshgrid(np.arange(20, 545, 35), np.arange(20, 405, 35)))
    x += rng.uniform(-6, 6, x.size)
    y += rng.uniform(-6, 6, x.size)
    return x, y, 10 ** rng.uniform(3.3, 4.8, x.size)


@pytest.fixture(scope="module")
def image(stars):
    """A sky with these stars and photon noise."""
    rng = np.random.default_rng(12)
    light = np.zeros(SHAPE)
    for x, y, flux in zip(*stars, strict=True):
        column = np.exp(-0.5 * ((np.arange(SHAPE[0]) - y) / SY) ** 2)
        row = np.exp(-0.5 * ((np.arange(SHAPE[1]) - x) / SX) ** 2)
        light += flux * np.outer(column, row) / (2 * np.pi * SX * SY)
    data = SKY + light + rng.normal(0, 1, SHAPE) * np.sqrt(SIGMA**2 + light / GAIN)
    return Image(data=data.astype(np.float32), mask=np.zeros(SHAPE, np.uint16), gain=GAIN, name="field")


def matched(x, y, stars):
    """Index of the star nearest to each source, and its distance."""
    distance, index = cKDTree(np.column_stack(stars[:2])).query(np.column_stack([x, y]))
    return index, distance


def test_catalog_finds_the_stars_where_they_are(programs, image, stars):
    table = sextractor_catalog(image)
    index, distance = matched(table["x"], table["y"], stars)
    assert len(table) == stars[0].size
    assert set(index) == set(range(stars[0].size))
    # 0-based: off by one would be 1.4 px. The faintest stars (S/N 30) are good to 0.06 px
    assert np.median(distance) < 0.03 and distance.max() < 0.3
    assert abs(np.median(table["x"] - stars[0][index])) < 0.01
    # the isophote at 5 sigma misses 2 to 15 % of the light
    ratio = np.asarray(table["flux"]) / stars[2][index]
    assert ratio.min() > 0.8 and ratio.max() < 1.1
    assert np.all(np.diff(table["flux"]) <= 0)
    # sigma of the two axes is 1.6 and 2.0
    assert np.median(table["ellipticity"][:30]) == pytest.approx(1 - SX / SY, abs=0.03)
    bright = table[:30]
    assert np.median(bright["fwhm"]) == pytest.approx(2.355 * np.sqrt(SX * SY), rel=0.06)
    assert np.median(bright["radius"]) == pytest.approx(1.177 * np.sqrt(SX * SY), rel=0.06)


def test_threshold_is_that_of_the_filtered_sky(programs):
    rng = np.random.default_rng(5)
    noise = Image(rng.normal(0, 1, (700, 700)).astype(np.float32), np.zeros((700, 700), np.uint16))
    kernel = np.array([[1, 2, 1], [2, 4, 2], [1, 2, 1]]) / 16
    assert astromatic._filter_gain(config_folder()) == pytest.approx(np.sqrt((kernel**2).sum()))
    found = len(sextractor_catalog(noise, DetectOptions(threshold=2.5)))
    # five connected pixels of white noise beyond 2.5 of its own (filtered) sigma are rare but exist;
    # were the threshold in unfiltered sigma, it would be 6.7 filtered ones and nothing would be found
    assert 10 < found < 500
    assert len(sextractor_catalog(noise, DetectOptions(threshold=6))) == 0


def test_sources_are_those_of_sep(programs, image):
    data, bad = image.data - np.float32(SKY), np.zeros(SHAPE, bool)
    sigma = np.full(SHAPE, SIGMA, np.float32)
    theirs = sextractor_sources(data, sigma, bad)
    ours = sep_sources(data, sigma, bad)
    index, distance = matched(theirs.x, theirs.y, (ours.x, ours.y))
    assert len(theirs) == len(ours) and len(set(index)) == len(ours)
    assert np.median(distance) < 0.03  # windowed against isophotal centroids
    # the two differ in how far down they follow the wings
    np.testing.assert_allclose(np.median(theirs.flux / ours.flux[index]), 1, atol=0.03)


def test_bad_pixels_are_neither_sources_nor_forgotten(programs, image, stars):
    data = image.data.copy()
    mask = np.zeros(SHAPE, np.uint16)
    data[200:206, 150:156] = 30000  # a hot spot between the stars
    mask[200:206, 150:156] = Flag.BAD
    data[10, :] = np.nan
    mask[10, :] = Flag.NO_DATA
    x, y = int(stars[0][40]), int(stars[1][40])
    mask[y, x] = Flag.SATURATED
    table = sextractor_catalog(replace(image, data=data, mask=mask))
    assert not np.any(np.hypot(table["x"] - 152.5, table["y"] - 202.5) < 5)
    assert np.isfinite(table["flux"]).all()
    nearest = int(np.argmin(np.hypot(table["x"] - stars[0][40], table["y"] - stars[1][40])))
    assert as_sources(table).saturated[nearest]
    assert as_sources(table).saturated.sum() < 20  # the NaN row cuts a few at most


def test_saturation_level_is_passed_on(programs, image):
    limit = float(np.sort(image.data.ravel())[-300])
    saturated = as_sources(sextractor_catalog(replace(image, saturation=limit))).saturated
    assert 5 < saturated.sum() < 60
    assert not as_sources(sextractor_catalog(image)).saturated.any()


def test_variance_is_used(programs, image):
    half = np.full(SHAPE, SIGMA**2, np.float32)
    half[:, 280:] *= 1000**2  # on the right nothing is significant
    found = sextractor_catalog(replace(image, variance=half))
    assert len(found) > 50
    assert (found["x"] < 285).sum() > 0.9 * len(found)


def test_psf_is_that_of_the_stars(programs, image):
    psf = psfex_psf(image)
    assert psf.n_stars > 100 and psf.order == 2
    assert psf.fwhm == pytest.approx(2.355 * np.sqrt(SX * SY), rel=0.03)
    assert 0.8 < psf.chi2 < 1.3
    axis = np.arange(21) - 10
    truth = np.outer(np.exp(-0.5 * (axis / SY) ** 2), np.exp(-0.5 * (axis / SX) ** 2))
    truth /= truth.sum()
    for x, y in ((280, 210), (60, 60), (500, 60), (60, 360)):
        stamp = psf.at(x, y, size=21)
        # PSFEx's error with some 160 stars of S/N 30 to 250; half a pixel off centre would be 15 %
        assert np.abs(stamp - truth).max() < 0.04 * truth.max()


def test_psf_options_are_obeyed(programs, image):
    psf = psfex_psf(image, PSFOptions(size=31, order=1, sampling=0.5))
    assert (psf.order, psf.sampling, psf.basis.shape) == (1, 0.5, (3, 63, 63))
    few = psfex_psf(image, PSFOptions(order=0, max_stars=40))
    assert 20 <= few.n_stars <= 41 and few.basis.shape[0] == 1  # PSFEx's own cuts come after


def test_too_few_stars(programs, image):
    with pytest.raises(StarsError, match="at least 1000 needed") as caught:
        psfex_psf(image, PSFOptions(min_stars=1000))
    assert 100 < caught.value.n_found < 200
    empty = replace(image, data=np.full(SHAPE, 5, np.float32) + np.eye(*SHAPE, dtype=np.float32))
    with pytest.raises(StarsError):
        psfex_psf(empty)


def test_image_without_usable_pixels(programs, image):
    with pytest.raises(PixelError, match="field: no usable pixel"):
        sextractor_catalog(replace(image, mask=np.full(SHAPE, Flag.BAD, np.uint16)))


def test_nothing_depends_on_the_working_directory(programs, image, tmp_path, monkeypatch):
    odd = tmp_path / "temporary $HOME; é (1)"
    odd.mkdir()
    work = tmp_path / "work"
    work.mkdir()
    (work / "default.sex").write_text("FILTER nonsense\n")
    monkeypatch.chdir(work)
    monkeypatch.setattr(astromatic.tempfile, "tempdir", str(odd))
    assert len(sextractor_catalog(image)) > 100
    assert psfex_psf(image).n_stars > 100
    assert list(odd.iterdir()) == []  # cleared away
    assert [p.name for p in work.iterdir()] == ["default.sex"]


def test_missing_program_says_how_to_get_it(image, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    for call in (sextractor_catalog, psfex_psf):
        with pytest.raises(ProgramError, match="apt-get install source-extractor psfex"):
            call(image)


def fake(folder, name, script):
    program = folder / name
    program.write_text("#!/bin/sh\n" + script)
    program.chmod(program.stat().st_mode | stat.S_IXUSR)


def test_failure_carries_the_programs_own_words(image, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path) + os.pathsep + os.environ["PATH"])
    fake(tmp_path, "source-extractor", "printf '\\033[1M> the dog ate it\\n' >&2; exit 3\n")
    with pytest.raises(ProgramError, match=r"exit status 3.* It said: > the dog ate it"):
        sextractor_catalog(image)
    fake(tmp_path, "source-extractor", "exit 0\n")
    with pytest.raises(ProgramError, match=r"left no sources\.fits"):
        sextractor_catalog(image)


def test_real_failure_carries_the_programs_own_words(programs, image, monkeypatch, tmp_path):
    for path in config_folder().iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    with (tmp_path / "default.sex").open("a") as file:
        file.write("\nDEBLEND_NTHRESH rubbish\n")
    monkeypatch.setattr(astromatic, "config_folder", lambda: tmp_path)
    with pytest.raises(ProgramError, match="DEBLEND_NTHRESH"):
        sextractor_catalog(image)


def test_edited_configuration_counts(programs, image, monkeypatch, tmp_path):
    for path in config_folder().iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    conf = (tmp_path / "psfex.conf").read_text()
    (tmp_path / "psfex.conf").write_text(conf.replace("39,39", "25,25"))
    monkeypatch.setattr(astromatic, "config_folder", lambda: tmp_path)
    assert psfex_psf(image).basis.shape[-1] == 25


ALTERNATIVES = SubtractOptions(psf=PSFOptions(model="psfex"), detect=DetectOptions(detector="sextractor"))


def test_subtraction_with_both_programs(programs):
    sky = Sky(shape=(512, 512), n_stars=300, n_galaxies=0, n_transients=4, transient_min=8000, hosted=0)
    pair = simulate(sky, seed=3)
    result = subtract(pair.new, pair.ref, ALTERNATIVES)
    truth = pair.transients
    _, distance = matched(truth["x"], truth["y"], (result.transients["x"], result.transients["y"]))
    assert (distance < 1).all()
    # some 10,000 independent pixels: ± 0.01 by chance; PSFEx leaves a few per cent under stars
    assert result.summary["scorr_mad"] == pytest.approx(1, abs=0.08)


@pytest.mark.parametrize("options", [{"psf": PSFOptions(model="psfex")}, {"detect": ALTERNATIVES.detect}])
def test_alternatives_are_really_used(options, monkeypatch, tmp_path):
    pair = simulate(Sky(shape=(256, 256), n_stars=150), seed=3)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ProgramError, match="is not installed"):
        subtract(pair.new, pair.ref, replace(SubtractOptions(), **options))


def test_threshold_has_a_range():
    with pytest.raises(OptionError):
        DetectOptions(threshold=0.1)


def test_real_image(programs, shared_data):
    from astropy.io import fits

    data = fits.getdata(shared_data / "goto" / "second.fits").astype(np.float32)[:900, :900]
    image = Image(data=data, mask=np.zeros(data.shape, np.uint16), name="second.fits")
    psf = psfex_psf(image)
    assert 3.3 < psf.fwhm < 4.5  # "about 4 px" in the data's own description
    assert psf.n_stars >= 20
