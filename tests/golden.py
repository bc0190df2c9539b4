"""Every parameter's path, dtype and shape, per network: a public promise, kept in data/golden.

After a change that is meant to alter them, write the files anew and commit them:

    python -m tests.golden
"""

import json
from pathlib import Path

from flax import traverse_util

import flaxmobile
from tests.networks import abstract

GOLDEN = Path(__file__).parent / "data" / "golden"


def layout(name: str) -> dict[str, str]:
    """Path -> dtype[shape] of a network at its default options."""
    flat = traverse_util.flatten_dict(abstract(flaxmobile.create_model(name)), sep="/")
    return {path: f"{leaf.dtype.name}{list(leaf.shape)}" for path, leaf in sorted(flat.items())}


def main() -> None:
    """Write the golden file of every registered network."""
    GOLDEN.mkdir(parents=True, exist_ok=True)
    for name in flaxmobile.list_models():
        (GOLDEN / f"{name}.json").write_text(json.dumps(layout(name), indent=1) + "\n")


if __name__ == "__main__":
    main()
