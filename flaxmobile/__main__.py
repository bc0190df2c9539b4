"""`python -m flaxmobile`: the same command as `flaxmobile`."""

import sys
from pathlib import Path

if __name__ == "__main__" and sys.path[0] == str(Path.cwd()) != str(Path(__file__).parents[1]):
    del sys.path[0]  # the user's folder, which may have a train.py or convert.py

from flaxmobile.cli import main

if __name__ == "__main__":
    sys.exit(main())
