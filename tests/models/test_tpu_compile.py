"""Every block compiles for a TPU slice that is not there, in training.

libtpu's own compiler does it, ahead of time: what it accepts here runs on v5e. The training step of
the whole network takes it half a minute and is compiled once, in tests/train/test_plan.py.
"""

import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental import topologies
from jax.experimental.compilation_cache import compilation_cache
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from flaxmobile.bench.tpu import figures
from flaxmobile.layers import ConvNorm, relu6
from flaxmobile.models.mobilenet_v2 import InvertedResidual
from tests.networks import abstract, small_model
from tests.tpu import check_growth

pytestmark = [
    pytest.mark.xdist_group("libtpu"),  # a second process may not load it meanwhile
    pytest.mark.usefixtures("for_a_tpu"),
]

CHIPS = 4
DTYPE = jnp.dtype("bfloat16")


@pytest.fixture(scope="module")
def chips():
    """Four chips, and meanwhile no cache of programs: it cannot read a TPU's back without one."""
    directory = jax.config.jax_compilation_cache_dir
    jax.config.update("jax_compilation_cache_dir", None)
    compilation_cache.reset_cache()
    yield topologies.get_topology_desc(platform="tpu", topology_name="v5e:2x2").devices
    jax.config.update("jax_compilation_cache_dir", directory)
    compilation_cache.reset_cache()


def lower(step, how, chips, replicated, batch):
    """Lower step(replicated, batch), with the batch spread over the chips."""
    if how == "jit":
        mesh = Mesh(np.asarray(chips), ("data",), axis_types=(AxisType.Auto,))

        def place(tree, spec):
            sharding = NamedSharding(mesh, spec)
            return jax.tree.map(
                lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), tree
            )

        return jax.jit(step).lower(
            place(replicated, PartitionSpec()), place(batch, PartitionSpec("data"))
        )
    shards = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(
            (CHIPS, leaf.shape[0] // CHIPS, *leaf.shape[1:]), leaf.dtype
        ),
        batch,
    )
    mapped = jax.pmap(step, "data", in_axes=(None, 0), devices=chips)
    return mapped.lower(replicated, shards)


def check_native(lowered, convolutions):
    """Assert that there are so many native convolutions and no other form of one."""
    text = lowered.as_text()
    bodies = dict(re.findall(r"func\.func \w+ @(\w+)(\(.*?\n  \})", text, re.DOTALL))

    def count(body):  # layers of the same shape share a function
        calls = re.findall(r"call @(\w+)\(", body)
        return body.count("stablehlo.convolution") + sum(count(bodies[name]) for name in calls)

    assert count(bodies["main"]) == convolutions
    # The CPU's form of a depthwise convolution slices maps.
    assert not re.search(r"stablehlo\.slice .*-> tensor<\d+x\d+x\d+x\d+x", text)


def training_pass(apply, variables, inputs, axis_name):
    """Gradients and statistics of the mean square of the outputs."""

    def loss_of(params):
        y, updates = apply(
            {**variables, "params": params}, inputs, train=True, mutable=["batch_stats"]
        )
        return jnp.square(y.astype(jnp.float32)).mean(), updates

    gradients, updates = jax.grad(loss_of, has_aux=True)(variables["params"])
    return (jax.lax.pmean(gradients, axis_name) if axis_name else gradients), updates


CHANNELS = 32
PER_CHIP = 8

BLOCK = partial(InvertedResidual, features=CHANNELS)
BLOCKS = {  # and how many convolutions and inputs without a gradient each has
    "stem": (partial(ConvNorm, 16, 3, stride=2, activation=relu6), 1, 1),
    "expansion 1": (partial(BLOCK, expansion=1), 2, 1),
    "stride 1": (BLOCK, 3, 1),
    "stride 2": (partial(BLOCK, stride=2), 3, 1),
    "dilated": (partial(BLOCK, dilation=2), 3, 1),
    "shortcut between expansions": (partial(BLOCK, shortcut="expansion"), 3, 1),
    "projection": (partial(BLOCK, shortcut="projection", linear=False), 4, 2),
}


# Under pmap, a unit and a block; the network as a whole in tests/bench/test_tpu.py.
CASES = [*((name, "jit") for name in BLOCKS), ("stem", "pmap"), ("stride 1", "pmap")]


@pytest.mark.parametrize(("name", "how"), CASES)
def test_every_block_trains_on_a_tpu(chips, name, how):
    build, convolutions, leaves = BLOCKS[name]
    axis_name = "data" if how == "pmap" else None
    options = {"dtype": DTYPE, "axis_name": axis_name}
    is_unit = build.func is ConvNorm
    block = build(**options) if is_unit else build(unit=partial(ConvNorm, **options))
    # As large as in a network: programs on a few kilobytes differ by how XLA places them on chip.
    x = jax.ShapeDtypeStruct((CHIPS * PER_CHIP, 28, 28, 3 if is_unit else CHANNELS), DTYPE)
    variables = jax.eval_shape(block.init, jax.random.key(0), x)
    lowered = lower(
        lambda v, x: training_pass(block.apply, v, x, axis_name), how, chips, variables, x
    )
    check_native(lowered, 3 * convolutions - leaves)  # forward, kernel gradient, input gradient
    compiled = lowered.compile()
    check_growth(name, how, figures(compiled, PER_CHIP))
    assert "all-reduce" in compiled.as_text()  # the chips work on one batch


@pytest.mark.parametrize("how", ["jit", "pmap"])
def test_the_whole_network_trains_with_native_convolutions(chips, how):
    axis_name = "data" if how == "pmap" else None
    model = small_model(dtype=DTYPE, axis_name=axis_name, dropout_rate=0.0)
    images = jax.ShapeDtypeStruct((8, 64, 64, 3), jnp.float32)
    lowered = lower(
        lambda v, x: training_pass(model.apply, v, x, axis_name),
        how,
        chips,
        abstract(model),
        images,
    )
    check_native(lowered, 3 * 52 - 1)
