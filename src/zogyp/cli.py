"""The command ``zogyp``: which commands there are, their flags, and what an error looks like.

Exit status: 0 done, 1 an error told in one line, 2 wrong usage, 130 interrupted.
"""

from __future__ import annotations

import os
import sys
import traceback
import warnings
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Annotated, Any

from cyclopts import App, CycloptsError, Parameter, UnusedCliTokensError

from zogyp import __version__
from zogyp.cli_commands import align, coadd, demo, info, psf, simulate, subtract
from zogyp.cli_efficiency import efficiency
from zogyp.cli_options import InfoOptions, MeasureOptions, flags_class
from zogyp.cli_phot import phot
from zogyp.errors import ZogypError
from zogyp.options import AlignOptions, CoaddOptions, EfficiencyOptions, PhotOptions, SubtractOptions
from zogyp.sky import Sky

OK, FAILED, USAGE, INTERRUPTED, PIPE_CLOSED = 0, 1, 2, 130, 141

COMMANDS: dict[Callable[..., None], type] = {
    subtract: SubtractOptions,
    align: AlignOptions,
    efficiency: EfficiencyOptions,
    coadd: CoaddOptions,
    phot: PhotOptions,
    psf: MeasureOptions,
    info: InfoOptions,
    demo: SubtractOptions,
    simulate: Sky,
}


def build_app() -> App:
    """The command line with all its flags."""
    app = App(
        name="zogyp",
        help="Proper image subtraction for time-domain astronomy.",
        version=__version__,
        version_flags=["--version"],
        suppress_keyboard_interrupt=False,
    )
    for command, options_class in COMMANDS.items():
        app.command(_with_flags(command, options_class))
    return app


def _with_flags(command: Callable[..., None], options_class: type) -> Callable[..., None]:
    """The command with its ``options`` typed as the flags of its option dataclass."""

    @wraps(command)
    def run(*args: Any, **kwargs: Any) -> None:
        command(*args, **kwargs)

    flags = flags_class(options_class)
    run.__annotations__ = {
        **command.__annotations__,
        "options": Annotated[flags | None, Parameter(name="*")],
    }
    return run


def main(tokens: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    tokens = list(sys.argv[1:] if tokens is None else tokens)
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning
            if "--quiet" in tokens:
                warnings.simplefilter("ignore")
            build_app()(tokens, exit_on_error=False, print_error=False, result_action="return_value")
            sys.stdout.flush()
        return OK
    except BrokenPipeError:
        # the reader has gone: nothing more can be said, nor must be when Python closes stdout
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return PIPE_CLOSED
    except CycloptsError as error:
        command = next((t for t in tokens if t in {c.__name__ for c in COMMANDS}), None)
        text = str(error)
        if type(error) is UnusedCliTokensError:
            text = f"unexpected argument {' '.join(error.unused_tokens or ())}."
        see = f"See zogyp {command} --help." if command else "See zogyp --help."
        return _fail(f"{text} {see}", USAGE, debug="--debug" in tokens)
    except KeyboardInterrupt:
        return _fail("interrupted", INTERRUPTED, debug="--debug" in tokens)
    except ZogypError as error:
        return _fail(str(error), FAILED, debug="--debug" in tokens)
    except Exception as error:  # a bug: tell it in a line, and how to learn more
        text = f"unexpected {type(error).__name__}: {error} (--debug shows where it came from)"
        return _fail(text, FAILED, debug="--debug" in tokens)


def _fail(text: str, status: int, *, debug: bool) -> int:
    """Say in one line why, on stderr."""
    if debug:
        traceback.print_exc()
    print(f"zogyp: {' '.join(text.split())}", file=sys.stderr)
    return status


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    """Warnings as one line each."""
    print(f"zogyp: warning: {' '.join(str(message).split())}", file=sys.stderr)
