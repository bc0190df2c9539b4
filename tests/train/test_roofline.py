"""Arithmetic about compiled steps, with made-up figures."""

from types import SimpleNamespace

import pytest

from train.roofline import (
    COMPILATIONS,
    Cost,
    count_exchanges,
    largest_batch,
    least_times,
    read_cost,
    read_memory,
)
from train.slices import Slice

ONE, TWO = Slice("v5e", (2, 2)), Slice("v5e", (2, 2), 2)
HLO = """
  %all-reduce.1 = (f32[8]{0:T(128)S(1)}, f32[2,3]{1,0}) all-reduce(%a, %b), channel_id=2
  %all-reduce.2 = bf16[] all-reduce(%c), channel_id=3
  %get-tuple-element.1 = f32[8]{0} get-tuple-element(%all-reduce.1), index=0
  %all-gather.1 = f32[4,4]{1,0:T(4,128)} all-gather(%d), channel_id=4
  %send.1 = (f32[1,4]{1,0:T(4,128)}, u32[], token[]) send(%e, %after-all.1), channel_id=5
"""


def test_what_is_sent_is_counted_in_the_compiled_text():
    reduced, gathered, sent = 4 * (8 + 6) + 2, 4 * 16, 4 * 4
    # A ring of 4: each chip sends 3 quarters twice to reduce, and once to gather.
    within = reduced * 1.5 + gathered * 0.75
    assert count_exchanges(HLO, ONE) == (within, 0, 3)
    assert count_exchanges(HLO, TWO) == (within, sent, 3)


def test_cost_and_memory_of_a_compiled_step():
    counted = {"flops": 5.0, "bytes accessed": 7.0}
    text = "  %all-reduce = f32[2] all-reduce(%a)"
    assert read_cost(counted, text, ONE) == Cost(5, 7, 12, 0, 1)
    assert read_cost(counted, text, ONE, repeats=3) == Cost(15, 21, 36, 0, 3)
    compiled = SimpleNamespace(
        memory_analysis=lambda: SimpleNamespace(
            argument_size_in_bytes=100,
            output_size_in_bytes=90,
            alias_size_in_bytes=80,
            temp_size_in_bytes=30,
            generated_code_size_in_bytes=4,
        ),
    )
    memory = read_memory(compiled)
    assert (memory.state, memory.temporary, memory.code, memory.total) == (110, 30, 4, 144)


def test_each_part_takes_its_bytes_over_the_peak():
    times = least_times(Cost(flops=197e12, traffic=819e9 * 2, links=200e9 * 3), ONE)
    assert times["arithmetic"] == 1
    assert times["memory traffic"] == 2
    assert times["traffic between chips"] == 3
    assert times["traffic between slices"] == 0


def test_a_network_that_is_not_published_counts_as_free():
    cost = Cost(1, 1, network=1e9)
    assert least_times(cost, TWO)["traffic between slices"] == pytest.approx(0.32)
    assert least_times(cost, Slice("v4", (2, 2, 1), 2))["traffic between slices"] == 0


@pytest.mark.parametrize("first", [8, 64, 4096])
@pytest.mark.parametrize("constant", [0, 300, 5000])
def test_the_largest_batch_fits_and_five_percent_more_does_not(first, constant):
    tried = []

    def measure(images):
        tried.append(images)
        size = constant + 7 * images
        return size if size <= 9000 else float("inf")  # the compiler refuses it

    found = largest_batch(measure, 9500, first, 8)
    best = (9000 - constant) // 7
    assert best - max(8, 0.05 * best) - 8 <= found <= best
    assert found % 8 == 0
    assert len(tried) == len(set(tried)) <= COMPILATIONS


def test_no_batch_where_even_a_few_images_do_not_fit():
    tried = []
    assert largest_batch(lambda images: tried.append(images) or 100.0, 99, 64, 8) is None
    assert tried == [64, 32, 16, 8]
