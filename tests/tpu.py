"""Figures of programs compiled for TPUs, beside those that were committed."""

import json
from pathlib import Path

COMMITTED = json.loads((Path(__file__).parent / "data" / "tpu_v5e.json").read_text())
GROWTH = 1.02


def check_growth(name, how, found):
    """Assert that a program costs at most 2 percent more than the committed figures.

    Args:
      name: of the program.
      how: "jit" or "pmap".
      found: `flaxmobile.bench.tpu.figures` of it. Printed: where more is right, as with
        another libtpu that counts otherwise, put them into tests/data/tpu_v5e.json.
    """
    print(name, how, json.dumps(found))
    for kind, number in COMMITTED[name][how].items():
        assert found[kind] <= GROWTH * number, kind
