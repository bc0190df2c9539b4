"""What training costs on a TPU: counted by libtpu's compiler, and not more than it did.

The figures of full networks are made by `python -m flaxmobile.bench.tpu`, which takes minutes.
"""

import json

import pytest

from flaxmobile.bench.tpu import AXIS, NETWORKS, RECORDS, measure
from tests.networks import short_model
from tests.tpu import check_growth

pytestmark = pytest.mark.xdist_group("libtpu")  # a second process may not load it meanwhile

PER_CHIP = 8
AXES = {"jit": None, "pmap": AXIS}


@pytest.mark.parametrize("how", AXES)
def test_a_network_costs_no_more_than_it_did(how):
    """Blocks by themselves: tests/models/test_tpu_compile.py."""
    model = short_model(dtype="bfloat16", dropout_rate=0.0, axis_name=AXES[how])
    check_growth("network", how, measure(model, 64, PER_CHIP))


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("kind", ["bytes_accessed", "temporary_bytes"])
def test_full_networks_cost_no_more_than_with_plain_flax_layers(name, kind):
    """As recorded; with --remat the temporary memory is about half of that."""
    record = json.loads(RECORDS.read_text())[name]
    assert record["flaxmobile"][kind] <= record["flax"][kind]


def test_recomputed_blocks_take_less_memory_and_of_mobilenet_v2_a_tenth_less_traffic():
    records = json.loads(RECORDS.read_text())

    def share(name, kind):
        return records[name]["flaxmobile, --remat"][kind] / records[name]["flax"][kind]

    assert max(share(name, "temporary_bytes") for name in NETWORKS) <= 0.8
    assert share("mobilenet_v2", "bytes_accessed") <= 0.9
