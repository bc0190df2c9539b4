"""What training costs on a TPU: counted by libtpu's compiler, and not more than it did.

The figures of full networks are made by `python -m flaxmobile.bench.tpu`, which takes minutes.
"""

from functools import cache

import pytest

from flaxmobile.bench.plain import plain_layers
from flaxmobile.bench.tpu import measure
from tests.networks import short_model
from tests.tpu import check_growth
from train.parallel import PmapParallel

pytestmark = [
    pytest.mark.xdist_group("libtpu"),  # a second process may not load it meanwhile
    pytest.mark.usefixtures("for_a_tpu"),
]

SIZE, PER_CHIP = 64, 8
AXES = {"jit": None, "pmap": PmapParallel.axis_name}


@cache
def cost(how, **options):
    model = short_model(dtype="bfloat16", dropout_rate=0.0, axis_name=AXES[how])
    return measure(model, SIZE, PER_CHIP, **options)


@pytest.mark.parametrize("how", AXES)
def test_a_network_costs_no_more_than_it_did(how):
    """Blocks by themselves: tests/models/test_tpu_compile.py."""
    check_growth("network", how, cost(how))


def test_a_network_takes_fewer_operations_and_less_memory_than_plain_flax_layers():
    own, plain = cost("jit"), cost("jit", layers=plain_layers)
    assert own["flops"] < 0.95 * plain["flops"]
    assert own["temporary_bytes"] < 0.95 * plain["temporary_bytes"]
    assert own["bytes_accessed"] < 1.01 * plain["bytes_accessed"]
