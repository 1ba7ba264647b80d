"""The command ``zogyp`` as a process of its own; ``python -m zogyp`` is the same."""

import sys

from zogyp.cli import main
from zogyp.process import settle


def run() -> int:
    """Set up the process, and run the command line; returns the exit status."""
    settle(scarce=any(word.startswith("--memory") for word in sys.argv[1:]))  # before numpy comes
    return main()


if __name__ == "__main__":
    sys.exit(run())
