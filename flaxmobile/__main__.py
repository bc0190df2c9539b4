"""`python -m flaxmobile`: the same command as `flaxmobile`."""

import sys

from flaxmobile.cli import main

if __name__ == "__main__":
    sys.exit(main())
