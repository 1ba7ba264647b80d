"""zogyp: proper image subtraction, registration and co-addition for time-domain astronomy.

    >>> import zogyp
    >>> result = zogyp.subtract("new.fits", "ref.fits")  # doctest: +SKIP

Names are imported when they are first used, so that ``import zogyp`` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zogyp.coaddition import coadd as coadd
    from zogyp.coadds import Coadd as Coadd
    from zogyp.combination import median as median
    from zogyp.core.psfmodel import PSF as PSF
    from zogyp.core.transform import Transform as Transform
    from zogyp.efficiency import Efficiency as Efficiency
    from zogyp.efficiency import measure_efficiency as measure_efficiency
    from zogyp.errors import ZogypError as ZogypError
    from zogyp.forced import Photometry as Photometry
    from zogyp.forced import photometry as photometry
    from zogyp.image import Flag as Flag
    from zogyp.image import Image as Image
    from zogyp.io import read as read
    from zogyp.options import AlignOptions as AlignOptions
    from zogyp.options import BackgroundOptions as BackgroundOptions
    from zogyp.options import CertificateOptions as CertificateOptions
    from zogyp.options import CoaddOptions as CoaddOptions
    from zogyp.options import CombineOptions as CombineOptions
    from zogyp.options import DetectOptions as DetectOptions
    from zogyp.options import EfficiencyOptions as EfficiencyOptions
    from zogyp.options import FakeOptions as FakeOptions
    from zogyp.options import InputOptions as InputOptions
    from zogyp.options import NoiseOptions as NoiseOptions
    from zogyp.options import PhotOptions as PhotOptions
    from zogyp.options import PSFOptions as PSFOptions
    from zogyp.options import RegistrationOptions as RegistrationOptions
    from zogyp.options import RejectOptions as RejectOptions
    from zogyp.options import SubtractOptions as SubtractOptions
    from zogyp.options import TransientOptions as TransientOptions
    from zogyp.products import Subtraction as Subtraction
    from zogyp.psf_files import read_psf as read_psf
    from zogyp.psf_files import write_psf as write_psf
    from zogyp.registration import Registration as Registration
    from zogyp.registration import Target as Target
    from zogyp.registration import align as align
    from zogyp.registration import target as target
    from zogyp.subtraction import Reference as Reference
    from zogyp.subtraction import subtract as subtract

__version__ = "2.0.0.dev0"

_HOME = {
    "Coadd": "coadds",
    "coadd": "coaddition",
    "median": "combination",
    "CoaddOptions": "options",
    "CombineOptions": "options",
    "RejectOptions": "options",
    "PSF": "core.psfmodel",
    "Transform": "core.transform",
    "Efficiency": "efficiency",
    "measure_efficiency": "efficiency",
    "ZogypError": "errors",
    "Photometry": "forced",
    "photometry": "forced",
    "Flag": "image",
    "Image": "image",
    "read": "io",
    "AlignOptions": "options",
    "BackgroundOptions": "options",
    "CertificateOptions": "options",
    "DetectOptions": "options",
    "EfficiencyOptions": "options",
    "FakeOptions": "options",
    "InputOptions": "options",
    "PhotOptions": "options",
    "NoiseOptions": "options",
    "PSFOptions": "options",
    "RegistrationOptions": "options",
    "SubtractOptions": "options",
    "TransientOptions": "options",
    "Subtraction": "products",
    "read_psf": "psf_files",
    "write_psf": "psf_files",
    "Registration": "registration",
    "Target": "registration",
    "align": "registration",
    "target": "registration",
    "Reference": "subtraction",
    "subtract": "subtraction",
}
_MODULES = ("errors", "options", "simulate", "spali2", "zip", "zo_coadd")

__all__ = ["__version__", *_HOME, *_MODULES]  # noqa: PLE0604


def __getattr__(name: str) -> Any:
    """Import a public name, or a module, on its first use."""
    if name in _MODULES:
        return import_module(f"zogyp.{name}")
    if name in _HOME:
        value = getattr(import_module(f"zogyp.{_HOME[name]}"), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'zogyp' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
