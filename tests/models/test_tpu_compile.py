"""Every block compiles, forward and backward, for a TPU slice that is not there.

The whole training step does too: tests/train/test_plan.py.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from flaxmobile.layers import ConvNorm, relu6
from flaxmobile.models.mobilenet_v2 import InvertedResidual
from train.plan import topology_devices

pytestmark = pytest.mark.xdist_group("libtpu")  # one process at a time may load libtpu

CONV = partial(ConvNorm, dtype=jnp.bfloat16)
BLOCK = partial(InvertedResidual, conv=CONV)
BLOCKS = {
    "stem": CONV(16, 3, stride=2, activation=relu6),
    "stride_1": BLOCK(16, expansion=2),
    "stride_2": BLOCK(24, expansion=6, stride=2),
    "expansion_1": BLOCK(16, expansion=1),
    "dilated": BLOCK(16, expansion=2, dilation=2),
    "between_expansions": BLOCK(16, expansion=2, shortcut="expansion"),
    "projection": BLOCK(24, expansion=2, shortcut="projection", linear=False),
}


@pytest.fixture(scope="module")
def devices():
    return topology_devices("v5e:2x2")


def gradients(block):
    """Gradients by variables and input of a sum over the training forward pass."""

    def loss(variables, x):
        y, _ = block.apply(variables, x, train=True, mutable=["batch_stats"])
        return jnp.sum(jnp.square(y.astype(jnp.float32)))

    return jax.grad(loss, argnums=(0, 1))


@pytest.mark.parametrize("way", ["jit", "pmap"])
@pytest.mark.parametrize("name", BLOCKS)
def test_a_block_compiles_for_v5e(devices, name, way):
    block = BLOCKS[name]
    x = jax.ShapeDtypeStruct((8, 16, 16, 3 if name == "stem" else 16), jnp.bfloat16)
    variables = jax.eval_shape(block.init, jax.random.key(0), x)
    if way == "jit":
        mesh = Mesh(np.asarray(devices), ("data",), axis_types=(AxisType.Auto,))
        whole = NamedSharding(mesh, PartitionSpec())
        split = NamedSharding(mesh, PartitionSpec("data"))
        step = jax.jit(gradients(block), in_shardings=(whole, split))
        lowered = step.lower(variables, x)
    else:
        step = jax.pmap(gradients(block), devices=devices)
        copies = jax.tree.map(lambda a: jax.ShapeDtypeStruct((4, *a.shape), a.dtype), variables)
        lowered = step.lower(copies, jax.ShapeDtypeStruct((4, 2, *x.shape[1:]), x.dtype))
    text = lowered.as_text()
    assert "stablehlo.convolution" in text  # the native form, not the CPU's shifted slices
    compiled = lowered.compile()
    assert compiled.memory_analysis().argument_size_in_bytes > 0
    assert compiled.cost_analysis()["flops"] > 0
    assert compiled.cost_analysis()["bytes accessed"] > 0
