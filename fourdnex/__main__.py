"""Runs the command line: `python -m fourdnex`."""

import sys

from fourdnex.cli import main

if __name__ == "__main__":
    sys.exit(main())
