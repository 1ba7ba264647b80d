"""The command ``ZOGY`` of 1.x, flag by flag. New scripts call ``zogyp subtract``."""  # noqa: N999

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from zogyp import __version__
from zogyp.compat import ZOGYOptions
from zogyp.errors import OptionError, ZogypError

GIVEN = "flags given"  # where the parser remembers them
OUTNAME = "ZOGY_sub"  # the command's own default, another than run_ZOGY's
TRUE, FALSE = ("true", "t", "yes", "y", "1"), ("false", "f", "no", "n", "0")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; the exit status: 0, 1 (an error, in one line), 2 (usage)."""
    words = list(sys.argv[1:] if argv is None else argv)
    parser = _parser()
    if not words:
        print(f"ZOGY of zogyp {__version__}. Type 'ZOGY -help' for what it can be told.")
        return 0
    chosen = {k: v for k, v in vars(parser.parse_args(words)).items() if k != GIVEN}
    from zogyp.zip import run_ZOGY  # the numerical libraries, when they are needed

    try:
        for path in run_ZOGY(chosen.pop("sci"), chosen.pop("ref"), **chosen):
            print(path)
    except OptionError as error:
        parser.error(str(error))
    except ZogypError as error:
        print(f"ZOGY: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("ZOGY: interrupted", file=sys.stderr)
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    """One flag for each of `ZOGYOptions`."""
    parser = argparse.ArgumentParser(
        prog="ZOGY",
        description="Subtract REF from SCI: D, S and Scorr go to ./Zoutput. The command of zogyp 1.x.",
        epilog="Example: ZOGY sci.fits ref.fits -sub_imagex 2 -sub_imagey 2",
        add_help=False,
        allow_abbrev=False,
    )
    parser.add_argument("-help", "-h", "--help", action="help", help="show this and end")
    parser.add_argument("sci", help="science image")
    parser.add_argument("ref", help="reference image")
    for field in fields(ZOGYOptions):
        default = OUTNAME if field.name == "outname" else field.default
        kind: Any = _truth if isinstance(default, bool) else type(default)
        parser.add_argument(
            f"-{field.name}",
            action=_Once,
            type=kind,
            default=default,
            metavar="True|False" if kind is _truth else kind.__name__,
            help=f"{field.metadata['help']} (default {default})",
        )
    return parser


def _truth(text: str) -> bool:
    """True or False from the words for them."""
    if text.lower() in TRUE + FALSE:
        return text.lower() in TRUE
    raise argparse.ArgumentTypeError(f"must be True or False, got {text!r}")


class _Once(argparse.Action):
    """Store a value, and refuse a second one."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        given = namespace.__dict__.setdefault(GIVEN, set())
        if self.dest in given:
            parser.error(f"{option_string} is given twice")
        given.add(self.dest)
        setattr(namespace, self.dest, values)


if __name__ == "__main__":
    sys.exit(main())
