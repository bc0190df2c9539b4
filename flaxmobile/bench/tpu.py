"""Cost of a training step on a TPU, without a TPU.

libtpu's compiler counts operations, memory traffic and temporary memory of a program for v5e:2x2,
ahead of time and to the byte, so that the figures can be compared between versions of this library
and with plain Flax layers. `python -m flaxmobile.bench.tpu` records them in `tpu_v5e.json`, which
takes minutes for each network.
"""

import json
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from flaxmobile.bench.candidates.in_jax import Layers
from flaxmobile.bench.objective import sgd
from flaxmobile.bench.plain import plain_layers
from flaxmobile.layers import Network
from flaxmobile.registry import create_model
from flaxmobile.tpu import topology_devices
from train.parallel import JitParallel, PmapParallel
from train.plan import compile_elsewhere, lower_train_step

RECORDS = Path(__file__).with_name("tpu_v5e.json")
TOPOLOGY = "v5e:2x2"
NETWORKS = ("mobilenet_v1", "mobilenet_v2", "mobilenet_v3_large", "shufflenet_v2")
IMAGES_PER_CHIP = 128
SIZE = 224

Figures = dict[str, float]


def figures(compiled: Any, images: int) -> Figures:
    """Return operations, traffic and temporary memory in bytes, per image of a chip."""
    cost, memory = compiled.cost_analysis(), compiled.memory_analysis()
    return {
        "flops": cost["flops"] / images,
        "bytes_accessed": cost["bytes accessed"] / images,
        "temporary_bytes": memory.temp_size_in_bytes / images,
    }


def measure(model: Network, size: int, per_chip: int, layers: Layers = nullcontext) -> Figures:
    """Compile the training step of a network.

    Args:
      model: with an `axis_name` for pmap, otherwise for jit.
      size: side of the images.
      per_chip: images of each chip.
      layers: `plain_layers` for Flax's own.
    """
    chips = topology_devices(TOPOLOGY)
    parallel = PmapParallel(chips) if model.axis_name else JitParallel(chips)
    with layers():
        shape = (per_chip * len(chips), size, size, 3)
        compiled = compile_elsewhere(lower_train_step(parallel, sgd(model), shape))
    return figures(compiled, per_chip)


def main(names: list[str]) -> None:
    """Measure networks and put their figures into the file."""
    for name in names or NETWORKS:
        model = create_model(name, dtype="bfloat16", dropout_rate=0.0)
        found = {
            "flaxmobile": measure(model, SIZE, IMAGES_PER_CHIP),
            "flaxmobile, --remat": measure(model.clone(remat=True), SIZE, IMAGES_PER_CHIP),
            "flax": measure(model, SIZE, IMAGES_PER_CHIP, layers=plain_layers),
        }
        records = json.loads(RECORDS.read_text()) if RECORDS.exists() else {}
        records[name] = found
        RECORDS.write_text(json.dumps(records, indent=2, sort_keys=True) + "\n")
        print(name, json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1:])
