"""A network's blocks as data: their names, rows of the paper's table, and strides."""

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple, Protocol

from flaxmobile.layers.strides import Geometry, plan_strides


class Block(NamedTuple):
    """A block of a network, as in its paper's table.

    Attributes:
      name: of its parameters.
      row: the row of the table, of any type that the network's `build` understands.
      stride: input size over output size.
      endpoint: whether a backbone may return its output as the last map of its stride.
    """

    name: str
    row: Any = None
    stride: int = 1
    endpoint: bool = True


class Place(NamedTuple):
    """A block at its place in a network.

    Attributes:
      name, row, stride, endpoint: see `Block`.
      geometry: stride and dilation under the network's `output_stride`.
    """

    name: str
    row: Any
    stride: int
    endpoint: bool
    geometry: Geometry


class Stage(Protocol):
    """A row that stands for several blocks; the first one has the stride."""

    @property
    def blocks(self) -> int:
        """Number of blocks."""

    @property
    def stride(self) -> int:
        """Stride of the first block."""


def stage_blocks(stages: Iterable[Stage], first: int = 1) -> Iterator[Block]:
    """List the blocks of stages: `stage1_block1`, `stage1_block2` and so on.

    Args:
      stages: in order.
      first: number of the first stage.

    Yields:
      The blocks in order; the row of each is its stage.
    """
    for number, stage in enumerate(stages, start=first):
        for block in range(1, stage.blocks + 1):
            stride = stage.stride if block == 1 else 1
            yield Block(f"stage{number}_block{block}", stage, stride)


def plan_places(blocks: Iterable[Block], output_stride: int) -> list[Place]:
    """Find the geometry of each block under an output stride, see `plan_strides`."""
    blocks = list(blocks)
    geometries = plan_strides((block.stride for block in blocks), output_stride)
    return [Place(*block, geometry) for block, geometry in zip(blocks, geometries, strict=True)]
