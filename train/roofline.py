"""Least time of a training step, from what it costs and what a chip can do."""

import dataclasses
import math
import re
from collections.abc import Callable, Mapping
from typing import Any

from train.slices import Slice

COMPILATIONS = 8
"""Compilations at most to find the largest batch."""

_SENT: dict[str, Callable[[int], float]] = {
    "all-reduce": lambda n: 2 * (n - 1) / n,
    "all-reduce-start": lambda n: 2 * (n - 1) / n,
    "all-gather": lambda n: (n - 1) / n,
    "reduce-scatter": lambda n: n - 1,
    "collective-permute": lambda n: 1,
}
"""Collective of n chips -> bytes that each of them sends per byte of the result, in a ring."""

_COLLECTIVE = re.compile(rf" = (\([^=]*?\)|\S+) ({'|'.join(_SENT)}|send)\(")
_ARRAY = re.compile(r"(\w+)\[([\d,]*)\]")


@dataclasses.dataclass(frozen=True)
class Cost:
    """Cost of a step to a chip.

    Attributes:
      flops: operations.
      traffic: bytes read from memory and written to it.
      links: bytes sent to the chips of its slice.
      network: bytes sent to other slices.
      exchanges: number of collective operations.
    """

    flops: float
    traffic: float
    links: float = 0
    network: float = 0
    exchanges: int = 0


@dataclasses.dataclass(frozen=True)
class Memory:
    """Bytes of a chip's memory that a program needs, by kind."""

    state: int
    temporary: int
    code: int

    @property
    def total(self) -> int:
        """Sum of all kinds."""
        return self.state + self.temporary + self.code


def read_cost(counted: Mapping[str, float], text: str, slices: Slice, repeats: int = 1) -> Cost:
    """Read the cost of a compiled program.

    Args:
      counted: its operations and memory traffic, as `jax.stages.Compiled.cost_analysis` has them.
      text: its HLO.
      slices: what it is compiled for.
      repeats: iterations of its loop, which the compiler counts as one.
    """
    links, network, exchanges = count_exchanges(text, slices)
    return Cost(
        flops=counted["flops"] * repeats,
        traffic=counted["bytes accessed"] * repeats,
        links=links * repeats,
        network=network * repeats,
        exchanges=exchanges * repeats,
    )


def read_memory(compiled: Any) -> Memory:
    """Read the memory of a compiled program. Results that replace arguments count once."""
    found = compiled.memory_analysis()
    results = found.output_size_in_bytes - found.alias_size_in_bytes
    return Memory(
        state=found.argument_size_in_bytes + results,
        temporary=found.temp_size_in_bytes,
        code=found.generated_code_size_in_bytes,
    )


def count_exchanges(text: str, slices: Slice) -> tuple[float, float, int]:
    """Count what a chip sends in a program.

    Args:
      text: the compiled HLO. Its collectives are those within a slice; what goes to other slices is
        in sends.
      slices: what it is compiled for.

    Returns:
      Bytes sent within the slice, bytes sent to other slices, and the number of collectives.
    """
    links = network = 0.0
    exchanges = 0
    for result, kind in _COLLECTIVE.findall(text):
        sizes = [_bytes(*array) for array in _ARRAY.findall(result)]
        if kind == "send":  # (array, context, token), to each of the other slices
            network += sizes[0] * (slices.count - 1)
        else:
            links += sum(sizes) * _SENT[kind](slices.chips)
            exchanges += 1
    return links, network, exchanges


def _bytes(kind: str, shape: str) -> int:
    bits = re.search(r"\d+", kind)
    width = int(bits.group()) // 8 if bits else int(kind == "pred")
    return width * math.prod(int(size) for size in shape.split(",") if size)


def least_times(cost: Cost, slices: Slice) -> dict[str, float]:
    """Bound the seconds of each part of a step from below; at best the parts overlap."""
    chip = slices.chip
    return {
        "arithmetic": cost.flops / chip.flops,
        "memory traffic": cost.traffic / chip.bandwidth,
        "traffic between chips": cost.links / chip.links,
        "traffic between slices": cost.network / chip.network if chip.network else 0,
    }


def largest_batch(
    measure: Callable[[int], float], capacity: float, first: int, step: int
) -> int | None:
    """Find the largest batch whose program fits, within 5 percent, by bisection.

    Args:
      measure: images per chip -> bytes, infinite where the compiler refuses the program. It is
        called for up to COMPILATIONS numbers.
      capacity: bytes of a chip.
      first: images per chip to begin with, a multiple of `step`.
      step: the result is a multiple of it.

    Returns:
      Images per chip, or None if no number that was tried fits.
    """
    fits, over = 0, 0
    images, sizes = first, dict[int, float]()
    for _ in range(COMPILATIONS):
        size = measure(images)
        if size <= capacity:
            fits, sizes[images] = images, size
        else:
            over = images
        if over and over - fits <= max(step, 0.05 * fits):
            break
        expected = _expected(sizes, capacity) // step * step
        middle = (fits + over) // 2 // step * step
        if over:
            images = expected if middle < expected < over else middle
        else:
            images = max(expected, 2 * fits)
    return fits or None


def _expected(sizes: dict[int, float], capacity: float) -> int:
    """Expect how many images fill a chip, on a line through the two largest numbers that fit."""
    if not sizes:
        return 0
    (low, less), (high, more) = sorted([(0, 0.0), *sizes.items()])[-2:]
    return high + int(0.98 * (capacity - more) * (high - low) / max(1.0, more - less))
