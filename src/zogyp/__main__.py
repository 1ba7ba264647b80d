"""``python -m zogyp`` is the command ``zogyp``."""

import sys

from zogyp.cli import main

if __name__ == "__main__":
    sys.exit(main())
