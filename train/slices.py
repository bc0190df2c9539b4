"""Accelerators to plan for: published figures of chips, and the flags that name slices of them."""

import dataclasses
import math
import re
from typing import TYPE_CHECKING, Literal

from flaxmobile import gpu, tpu
from flaxmobile.errors import InputError

if TYPE_CHECKING:
    import jax

MOST_CHIPS = 256
"""Chips of all slices together for which a step is compiled."""


@dataclasses.dataclass(frozen=True)
class Chip:
    """A TPU chip or a GPU.

    Attributes:
      flops: bfloat16 operations per second at most.
      memory: bytes that a program can have.
      bandwidth: bytes per second of the memory.
      links: bytes per second that it sends to the chips of its slice, over all links.
      network: bytes per second that it sends to other slices; None where it is not published.
      axes: dimensions of a slice.
    """

    flops: float
    memory: float
    bandwidth: float
    links: float
    network: float | None
    axes: int


_TPUS = {
    "v4": Chip(275e12, 32 * 2**30, 1200e9, 300e9, None, 3),
    "v5e": Chip(197e12, 16 * 2**30, 819e9, 200e9, 3.125e9, 2),
    "v5p": Chip(459e12, 95 * 2**30, 2765e9, 600e9, 6.25e9, 3),
    "v6e": Chip(918e12, 32 * 2**30, 1600e9, 400e9, 12.5e9, 2),
}
"""Google's figures: docs.cloud.google.com/tpu/docs/v4, v5e, v5p and v6e; v4's links are those of
table 4 of arXiv:2304.01433. Links are half of the published bandwidth, which counts both
directions; the network of v5e and v6e is a pod's over its 256 chips."""

_SHARE = 0.75
"""Share of a GPU's memory that JAX takes unless XLA_PYTHON_CLIENT_MEM_FRACTION says another."""

CHIPS = _TPUS | {
    kind: Chip(each.flops, _SHARE * each.memory, each.bandwidth, each.links, None, 1)
    for kind, each in gpu.GPUS.items()
}


@dataclasses.dataclass(frozen=True)
class Slice:
    """Equal TPU slices that train together, or the GPUs of a machine.

    Attributes:
      kind: key of CHIPS.
      shape: chips along each axis.
      count: number of slices.
    """

    kind: str
    shape: tuple[int, ...]
    count: int = 1

    @property
    def chip(self) -> Chip:
        """Figures of a chip."""
        return CHIPS[self.kind]

    @property
    def topology(self) -> str:
        """Name of one slice, such as v5e:4x4."""
        return f"{self.kind}:{'x'.join(map(str, self.shape))}"

    @property
    def chips(self) -> int:
        """Number of chips of one slice."""
        return math.prod(self.shape)

    def devices(self) -> list["jax.Device"]:
        """Return the chips as compilation targets.

        Raises:
          InputError: their compiler is not installed, or does not know them.
        """
        if self.kind in gpu.GPUS:
            return gpu.topology_devices(self.kind, self.chips)
        return tpu.topology_devices(self.topology, self.count)

    def __str__(self) -> str:
        return self.topology if self.count == 1 else f"{self.count} slices of {self.topology}"


def parse_slice(name: str, count: int = 1) -> Slice:
    """Read the name of a slice, such as v5e:4x4 or v5p:2x2x1, or of GPUs, such as h100:8.

    Args:
      name: kind of chip and shape.
      count: number of such slices.

    Raises:
      InputError: an unknown kind, another number of axes, or too many chips.
    """
    kind, _, shape = name.lower().partition(":")
    if kind in gpu.GPUS:
        shape = shape or "1"
    if kind in CHIPS and re.fullmatch(r"[1-9]\d*(x[1-9]\d*)*", shape):
        found = Slice(kind, tuple(map(int, shape.split("x"))), count)
        one_machine = kind in gpu.GPUS
        fits = found.chips <= gpu.MOST if one_machine else found.chips * count <= MOST_CHIPS
        if fits and len(found.shape) == found.chip.axes and (count == 1 or not one_machine):
            return found
    raise InputError(
        f"--plan is {name}" + (f" with --plan-slices {count}" if count > 1 else "") + "; accepted: "
        f"v5e:ROWSxCOLUMNS and v6e (v5e:4x4), v4:XxYxZ and v5p (v5p:2x2x1), {MOST_CHIPS} chips at "
        f"most together; GPUs of one machine, {gpu.MOST} at most (h100:8): {', '.join(gpu.GPUS)}"
    )


@dataclasses.dataclass(frozen=True)
class PlanSettings:
    """Flags about accelerators that need not be there."""

    plan: str | None = None
    """Compile the step for a TPU slice such as v5e:4x4 or GPUs such as h100:8, print whether it
    fits and how fast it can be, and stop. Needs neither; to classify, with
    --dataset sizes:IMAGESxCLASSES, no data."""
    plan_slices: int = 1
    """Number of such slices that train together."""
    plan_batch: int | Literal["auto"] | None = None
    """Images per chip, instead of --batch-size; auto finds the largest number that fits, in up to 8
    compilations."""

    def check_plan(self, dataset: str) -> None:
        """Raise InputError for a slice or a number that is wrong for any network."""
        if self.plan is None:
            if dataset.startswith("sizes:"):
                raise InputError(f"--dataset {dataset} holds no images: it is for --plan SLICE")
            if self.plan_slices != 1 or self.plan_batch is not None:
                raise InputError("--plan-slices and --plan-batch need --plan SLICE")
            return
        numbers = {"plan-slices": self.plan_slices, "plan-batch": self.plan_batch}
        for flag, number in numbers.items():
            if isinstance(number, int) and number < 1:
                raise InputError(f"--{flag} is {number}; accepted: 1 and more")
        parse_slice(self.plan, self.plan_slices)
