"""Output strides: where a network dilates instead of shrinking."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple


class Geometry(NamedTuple):
    """Stride and dilation of one block.

    Attributes:
      stride: of its strided layer.
      dilation: of its strided layer, and of every layer before it.
      later_dilation: of layers that follow its strided layer.
      total: size of the network's input over the size of the block's output.
    """

    stride: int
    dilation: int
    later_dilation: int
    total: int


def plan_strides(strides: Iterable[int], output_stride: int, before: int = 1) -> Iterator[Geometry]:
    """Turn strides beyond an output stride into dilation (Chen et al. 2017, section 3.1).

    The features stay those of the undilated network, computed at more places: a layer that no
    longer shrinks keeps its own dilation, and the layers after it are dilated by its stride.

    Args:
      strides: of each block of the network, in order.
      output_stride: input size over the size of the last feature map.
      before: input size over the size of the first block's input.

    Yields:
      The geometry of each block.
    """
    total, dilation = before, 1
    for stride in strides:
        if total * stride > output_stride:
            yield Geometry(1, dilation, dilation * stride, total)
            dilation *= stride
        else:
            total *= stride
            yield Geometry(stride, dilation, dilation, total)
