"""Sparse constants of TFLite files: the numbers other than 0, and where they stand.

A tensor is a tree whose levels are its axes in an order that the file names; an axis may appear
twice, for blocks and for the places inside a block. A dense level has all its places; a sparse one
lists, for each node above it, the places of the nodes below (compressed sparse rows). The schema is
TensorFlow's `tensorflow/lite/schema/schema.fbs`, table `SparsityParameters`.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

MOST_ZEROS = 1000
"""Zeros for each other number, above which a file is damaged: a shape alone costs no bytes."""

_SPARSE = 1
"""`DimensionType.SPARSE_CSR`; a dense level is 0."""


def densify(values: np.ndarray, sparsity: Any, shape: Sequence[int], library: Any) -> np.ndarray:
    """Return the tensor of a shape that sparse numbers stand for.

    Args:
      values: the numbers, in the order of the tree's leaves.
      sparsity: the file's `SparsityParameters`.
      shape: of the tensor.
      library: the module that reads the schema.

    Raises:
      ValueError: places outside the shape, a number of leaves other than that of the values, or
        more zeros than `MOST_ZEROS` for each value.
    """
    size = math.prod(shape)
    if size > MOST_ZEROS * max(1, values.size):
        raise ValueError("more zeros than a sparse tensor has")
    order, blocks = (
        [getter(place) for place in range(length)]
        for getter, length in (
            (sparsity.TraversalOrder, sparsity.TraversalOrderLength()),
            (sparsity.BlockMap, sparsity.BlockMapLength()),
        )
    )
    levels = [sparsity.DimMetadata(place) for place in range(sparsity.DimMetadataLength())]
    inner = {axis: levels[order.index(len(shape) + n)].DenseSize() for n, axis in enumerate(blocks)}
    places = [np.zeros(1, np.int64) for _ in shape]
    for axis, level in zip(order, levels, strict=True):
        nodes = len(places[0])
        if level.Format() != _SPARSE and nodes * level.DenseSize() > size:
            raise ValueError("more places than the tensor has")
        parents, steps = _walk(level, nodes, library)
        places = [each[parents] for each in places]
        own = axis if axis < len(shape) else blocks[axis - len(shape)]
        places[own] += steps if axis >= len(shape) else steps * inner.get(axis, 1)
    if len(places[0]) != values.size:
        raise ValueError("another number of places than of values")
    dense = np.zeros(shape, values.dtype)
    dense.ravel()[np.ravel_multi_index(tuple(places), tuple(shape))] = values
    return dense


def _walk(level: Any, nodes: int, library: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return, for each node of a level, the number of the one above it, and its place."""
    if level.Format() != _SPARSE:
        size = level.DenseSize()
        return np.repeat(np.arange(nodes), size), np.tile(np.arange(size), nodes)
    segments = _numbers(level.ArraySegments(), level.ArraySegmentsType(), library)
    indices = _numbers(level.ArrayIndices(), level.ArrayIndicesType(), library)
    counts = np.diff(segments)
    if len(counts) != nodes or counts.min(initial=0) < 0 or counts.sum() != len(indices):
        raise ValueError("segments that do not fit")
    return np.repeat(np.arange(nodes), counts), indices


def _numbers(table: Any, kind: int, library: Any) -> np.ndarray:
    """Read a vector of places, which is of one of three types."""
    names = {
        value: name
        for name, value in vars(library.SparseIndexVector).items()
        if isinstance(value, int)
    }
    vector = getattr(library, names[kind])()
    vector.Init(table.Bytes, table.Pos)
    return np.asarray(vector.ValuesAsNumpy(), np.int64)
