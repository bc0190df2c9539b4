"""Every block compiles for a TPU slice that is not there, in training.

libtpu's own compiler does it, ahead of time: what it accepts here runs on v5e. The training step of
the whole network takes it half a minute and is compiled once, in tests/train/test_plan.py.
"""

import re
from functools import partial

import jax
import jax.numpy as jnp
import pytest

from flaxmobile.bench.tpu import TOPOLOGY, figures
from flaxmobile.layers import ConvNorm, relu6
from flaxmobile.models.mobilenet_v2 import InvertedResidual
from flaxmobile.tpu import topology_devices
from tests.networks import abstract, small_model, training_pass
from tests.tpu import check_growth
from train.parallel import JitParallel, PmapParallel
from train.plan import compile_elsewhere

pytestmark = [
    pytest.mark.xdist_group("libtpu"),  # a second process may not load it meanwhile
    pytest.mark.usefixtures("for_a_tpu"),
]

CHIPS = 4
DTYPE = jnp.dtype("bfloat16")
PARALLEL = {"jit": JitParallel, "pmap": PmapParallel}


def lower(how, apply, variables, x):
    """Lower the gradients and statistics of the mean square of the outputs, on four chips."""
    chips = topology_devices(TOPOLOGY)
    parallel, axis_name = PARALLEL[how](chips), PARALLEL[how].axis_name

    def step(variables, x):
        def loss_of(outputs):
            return jnp.square(outputs[0].astype(jnp.float32)).mean()

        _, _, stats, gradients = training_pass(apply, loss_of, variables, x)
        return stats, jax.lax.pmean(gradients, axis_name) if axis_name else gradients

    mapped = jax.pmap(step, axis_name, devices=chips) if axis_name else jax.jit(step)
    return mapped.lower(parallel.shape_state(variables), parallel.shape_batch(x.shape, x.dtype))


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
def test_every_block_trains_on_a_tpu(name, how):
    build, convolutions, leaves = BLOCKS[name]
    options = {"dtype": DTYPE, "axis_name": PARALLEL[how].axis_name}
    is_unit = build.func is ConvNorm
    block = build(**options) if is_unit else build(unit=partial(ConvNorm, **options))
    # As large as in a network: programs on a few kilobytes differ by how XLA places them on chip.
    x = jax.ShapeDtypeStruct((CHIPS * PER_CHIP, 28, 28, 3 if is_unit else CHANNELS), DTYPE)
    variables = jax.eval_shape(block.init, jax.random.key(0), x)
    lowered = lower(how, block.apply, variables, x)
    check_native(lowered, 3 * convolutions - leaves)  # forward, kernel gradient, input gradient
    compiled = compile_elsewhere(lowered)
    check_growth(name, how, figures(compiled, PER_CHIP))
    assert "all-reduce" in compiled.as_text()  # the chips work on one batch


@pytest.mark.parametrize("how", ["jit", "pmap"])
def test_the_whole_network_trains_with_native_convolutions(how):
    model = small_model(dtype=DTYPE, axis_name=PARALLEL[how].axis_name, dropout_rate=0.0)
    images = jax.ShapeDtypeStruct((8, 64, 64, 3), jnp.float32)
    check_native(lower(how, model.apply, abstract(model), images), 3 * 52 - 1)
