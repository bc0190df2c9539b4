"""Count what a training step costs on a TPU that is not there.

libtpu's compiler counts operations, memory traffic and temporary memory of a program for v5e:2x2,
ahead of time and to the byte, so that the figures can be compared between versions of this library
and with plain Flax layers. `python -m flaxmobile.bench.tpu` records them in `tpu_v5e.json`, which
takes minutes for each network.
"""

import contextlib
import json
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from flaxmobile.bench.candidates.base import LEARNING_RATE, MOMENTUM
from flaxmobile.bench.plain import plain_layers
from flaxmobile.layers import Network
from flaxmobile.registry import create_model
from flaxmobile.tpu import no_program_cache, topology_devices
from flaxmobile.variables import abstract_variables
from train.remat import recomputed_blocks

RECORDS = Path(__file__).with_name("tpu_v5e.json")
TOPOLOGY = "v5e:2x2"
NETWORKS = ("mobilenet_v1", "mobilenet_v2", "mobilenet_v3_large", "shufflenet_v2")
IMAGES_PER_CHIP = 128
SIZE = 224
AXIS = "data"

Figures = dict[str, float]


def network_step(model: Network, images: Sequence[int]) -> tuple[Callable[..., Any], Any, Any]:
    """A step of SGD with momentum, and the shapes of its state and batch.

    Args:
      model: with an `axis_name` for pmap.
      images: [n, h, w, 3] of all chips.
    """
    optimizer = optax.sgd(LEARNING_RATE, MOMENTUM)
    variables = abstract_variables(model)
    state = variables, jax.eval_shape(optimizer.init, variables["params"])

    def step(state: Any, batch: Any) -> tuple[Any, Any]:
        (variables, moments), (images, labels) = state, batch

        def loss_of(params: Any) -> tuple[Any, Any]:
            logits, updates = model.apply(
                {**variables, "params": params}, images, train=True, mutable=["batch_stats"]
            )
            losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
            return losses.mean(), updates

        (loss, updates), gradients = jax.value_and_grad(loss_of, has_aux=True)(variables["params"])
        if model.axis_name:
            loss, gradients = jax.lax.pmean((loss, gradients), model.axis_name)
        moves, moments = optimizer.update(gradients, moments)
        params = optax.apply_updates(variables["params"], moves)
        return ({**updates, "params": params}, moments), loss

    shapes = (
        jax.ShapeDtypeStruct(tuple(images), jnp.bfloat16),
        jax.ShapeDtypeStruct((images[0],), jnp.int32),
    )
    return step, state, shapes


def compile_for_tpu(step: Callable[..., Any], state: Any, batch: Any, pmap: bool = False) -> Any:
    """Compile step(state, batch) for the chips, the state on all of them and the batch spread."""
    chips = topology_devices(TOPOLOGY)
    if pmap:
        shards = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(
                (len(chips), leaf.shape[0] // len(chips), *leaf.shape[1:]), leaf.dtype
            ),
            batch,
        )
        mapped = jax.pmap(step, AXIS, in_axes=(None, 0), devices=chips)
        lowered = mapped.lower(state, shards)
    else:
        mesh = Mesh(np.asarray(chips), (AXIS,), axis_types=(AxisType.Auto,))

        def place(tree: Any, spec: PartitionSpec) -> Any:
            sharding = NamedSharding(mesh, spec)
            return jax.tree.map(
                lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), tree
            )

        lowered = jax.jit(step, donate_argnums=0).lower(
            place(state, PartitionSpec()), place(batch, PartitionSpec(AXIS))
        )
    with no_program_cache():
        return lowered.compile()


def figures(compiled: Any, images: int) -> Figures:
    """Per image of a chip that takes so many: operations, bytes of traffic, temporary bytes."""
    cost, memory = compiled.cost_analysis(), compiled.memory_analysis()
    return {
        "flops": cost["flops"] / images,
        "bytes_accessed": cost["bytes accessed"] / images,
        "temporary_bytes": memory.temp_size_in_bytes / images,
    }


def measure(
    model: Network, size: int, per_chip: int, how: AbstractContextManager[None] | None = None
) -> Figures:
    """Compile the training step of a network.

    Under `jit`, or under `pmap` where the model has an `axis_name`; within a context such as
    `plain_layers` or `recomputed_blocks`.
    """
    count = per_chip * len(topology_devices(TOPOLOGY))
    step, state, batch = network_step(model, (count, size, size, 3))
    with how or contextlib.nullcontext():
        compiled = compile_for_tpu(step, state, batch, pmap=model.axis_name is not None)
    return figures(compiled, per_chip)


def main(names: list[str]) -> None:
    """Measure networks and put their figures into the file."""
    for name in names or NETWORKS:
        model = create_model(name, dtype="bfloat16", dropout_rate=0.0)
        found = {
            "flaxmobile": measure(model, SIZE, IMAGES_PER_CHIP),
            "flaxmobile, --remat": measure(model, SIZE, IMAGES_PER_CHIP, recomputed_blocks(SIZE)),
            "flax": measure(model, SIZE, IMAGES_PER_CHIP, plain_layers()),
        }
        records = json.loads(RECORDS.read_text()) if RECORDS.exists() else {}
        records[name] = found
        RECORDS.write_text(json.dumps(records, indent=2, sort_keys=True) + "\n")
        print(name, json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1:])
