"""What training costs on a TPU: counted by libtpu's compiler, and not more than it did.

Where a change costs nothing for good reason (another libtpu counts otherwise), the failing test
prints the figures for `tests/data/tpu_v5e.json`; those of full networks are made by
`python -m bench.tpu`.
"""

import json
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from bench.tpu import AXIS, NETWORKS, RECORDS, compile_for_tpu, figures, measure
from flaxmobile.layers import ConvNorm
from flaxmobile.models.mobilenet_v2 import InvertedResidual
from tests.networks import short_model

pytestmark = pytest.mark.xdist_group("libtpu")  # a second process may not load it meanwhile

COMMITTED = json.loads((Path(__file__).parents[1] / "data" / "tpu_v5e.json").read_text())
GROWTH = 1.02
PER_CHIP = 8
AXES = {"jit": None, "pmap": AXIS}


def block_figures(how):
    """A block's gradients and statistics: 24 channels, 56 by 56, an image's largest maps."""
    axis_name = AXES[how]
    conv = partial(ConvNorm, dtype=jnp.bfloat16, axis_name=axis_name)
    block = InvertedResidual(24, conv=conv)
    x = jax.ShapeDtypeStruct((4 * PER_CHIP, 56, 56, 24), jnp.bfloat16)
    variables = jax.eval_shape(block.init, jax.random.key(0), x)

    def step(variables, x):
        def loss_of(params, x):
            y, updates = block.apply(
                {**variables, "params": params}, x, train=True, mutable=["batch_stats"]
            )
            return jnp.square(y.astype(jnp.float32)).mean(), updates

        gradients, updates = jax.grad(loss_of, (0, 1), has_aux=True)(variables["params"], x)
        params = jax.lax.pmean(gradients[0], axis_name) if axis_name else gradients[0]
        return params, gradients[1], updates

    return figures(compile_for_tpu(step, variables, x, how == "pmap"), PER_CHIP)


def network(how):
    return short_model(dtype="bfloat16", dropout_rate=0.0, axis_name=AXES[how])


def check_growth(name, how, found):
    print(name, how, json.dumps(found))
    for kind, number in COMMITTED[name][how].items():
        assert found[kind] <= GROWTH * number, kind


@pytest.mark.parametrize("how", AXES)
def test_a_block_costs_no_more_than_it_did(how):
    check_growth("block", how, block_figures(how))


@pytest.mark.parametrize("how", AXES)
def test_a_network_costs_no_more_than_it_did(how):
    check_growth("network", how, measure(network(how), 64, PER_CHIP))


def test_a_network_costs_no_more_than_with_plain_flax_layers():
    plain = measure(network("jit"), 64, PER_CHIP, plain=True)
    own = COMMITTED["network"]["jit"]
    assert own["bytes_accessed"] <= plain["bytes_accessed"]
    assert own["temporary_bytes"] <= plain["temporary_bytes"]


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("kind", ["bytes_accessed", "temporary_bytes"])
def test_full_networks_cost_no_more_than_with_plain_flax_layers(name, kind):
    record = json.loads(RECORDS.read_text())[name]
    assert record["flaxmobile"][kind] <= record["flax"][kind]
