"""The command ``zogyp``: which commands there are, their flags, and what an error looks like.

Exit status: 0 done, 1 an error told in one line, 2 wrong usage, 130 interrupted.
"""

from __future__ import annotations

import os
import sys
import traceback
import warnings
from collections.abc import Callable, Collection, Sequence
from functools import wraps
from importlib import import_module
from typing import Annotated, Any

from cyclopts import App, ArgumentCollection, CycloptsError, Parameter, UnusedCliTokensError

from zogyp import __version__
from zogyp.cli_commands import PLAIN, Common, align, coadd, demo, info, psf, simulate, subtract
from zogyp.cli_efficiency import efficiency
from zogyp.cli_phot import phot
from zogyp.errors import ZogypError

HELP = {"--help", "-h"}
OK, FAILED, USAGE, INTERRUPTED, PIPE_CLOSED = 0, 1, 2, 130, 141

# each command, and where the dataclass of its options is
COMMANDS: dict[Callable[..., None], str] = {
    subtract: "options:SubtractOptions",
    align: "options:AlignOptions",
    efficiency: "options:EfficiencyOptions",
    coadd: "options:CoaddOptions",
    phot: "options:PhotOptions",
    psf: "cli_options:MeasureOptions",
    info: "cli_options:InfoOptions",
    demo: "options:SubtractOptions",
    simulate: "sky:Sky",
}


class _Read(App):
    """A command whose help is asked for: its many flags are gathered once, and not at each of three looks."""

    gathered: ArgumentCollection | None = None

    def assemble_argument_collection(self, **how: Any) -> ArgumentCollection:
        """The flags with their texts."""
        if self.gathered is None:
            self.gathered = super().assemble_argument_collection(**how | {"parse_docstring": True})
        return self.gathered


def build_app(tokens: Collection[str] | None = None) -> App:
    """The command line; only the commands among ``tokens`` get their flags, if tokens are given."""
    app = App(
        name="zogyp",
        help="Proper image subtraction for time-domain astronomy.",
        help_format="plaintext",
        version=__version__,
        version_flags=["--version"],
        suppress_keyboard_interrupt=False,
    )
    for command in COMMANDS:
        needed = tokens is None or command.__name__ in tokens
        kind = _Read if tokens is not None and HELP & set(tokens) else App
        made = kind(name=command.__name__)
        made.default(_with_flags(command) if needed else command)
        app.command(made)
    return app


def options_class(command: Callable[..., None]) -> type:
    """The dataclass of a command's options."""
    module, _, name = COMMANDS[command].partition(":")
    found: type = getattr(import_module(f"zogyp.{module}"), name)
    return found


def _with_flags(command: Callable[..., None]) -> Callable[..., None]:
    """The command with its ``options`` typed as the flags of its option dataclass."""
    from zogyp.cli_options import flags_class, make_options

    chosen = options_class(command)

    @wraps(command)
    def run(*args: Any, options: Any = None, common: Common = PLAIN, **kwargs: Any) -> None:
        command(*args, options=make_options(chosen, options, common.config), common=common, **kwargs)

    flags = flags_class(chosen)
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
            build_app(tokens)(tokens, exit_on_error=False, print_error=False, result_action="return_value")
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
