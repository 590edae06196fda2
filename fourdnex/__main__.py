"""`python -m fourdnex`: the command line."""

import sys

from fourdnex.cli import main

if __name__ == "__main__":
    sys.exit(main())
