"""Smaller and more readable .tflite files: what repeats is stored once, names are the network's."""

from typing import Any

import flatbuffers
import numpy as np

_IDENTIFIER = b"TFL3"
_ALIGNMENT = 16  # of buffers, in bytes: the schema's force_align, which Python's writer ignores


def pack(flatbuffer: bytes) -> bytes:
    """Write a .tflite file anew: the same operators and numbers in fewer bytes.

    The zero points of an int8 file, eight bytes for each channel of a kernel and of a bias, are a
    quarter of a narrow network. Vectors that are equal become one. Tensors are named by their
    place in the network, `MobileNetV2/stage3_block1/expand/clamp`, instead of by their way through
    the tracer; inputs and outputs keep their names.
    """
    from litert_converter import schema_py_generated as schema

    model = schema.ModelT.InitFromPackedBuf(flatbuffer)
    for buffer in model.buffers:
        if buffer.offset:  # ai-edge-quantizer puts the data of larger files behind the tables
            buffer.data = np.frombuffer(flatbuffer, np.uint8, buffer.size, buffer.offset)
            buffer.offset = buffer.size = 0
    for graph in model.subgraphs:
        _name_tensors(graph)
    builder = _SharingBuilder(len(flatbuffer))
    builder.Finish(model.Pack(builder), _IDENTIFIER)
    return bytes(builder.Output())


class _SharingBuilder(flatbuffers.Builder):
    """A writer that gives equal vectors one place; buffers, which differ, are not compared."""

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self._places: dict[tuple[str, bytes], int] = {}

    def StartVector(self, elemSize: int, numElems: int, alignment: int) -> int:  # noqa: N802, N803
        if elemSize == 1:
            alignment = _ALIGNMENT
        return int(super().StartVector(elemSize, numElems, alignment))

    def CreateNumpyVector(self, x: np.ndarray) -> int:  # noqa: N802
        if x.dtype == np.uint8:
            return int(super().CreateNumpyVector(x))
        key = x.dtype.str, x.tobytes()
        if key not in self._places:
            self._places[key] = int(super().CreateNumpyVector(x))
        return self._places[key]


def _name_tensors(graph: Any) -> None:
    """Shorten the names of a graph's tensors, and number those that would be equal."""
    kept = {int(index) for index in (*graph.inputs, *graph.outputs)}
    taken = {graph.tensors[index].name for index in kept}
    for index, tensor in enumerate(graph.tensors):
        if index in kept:
            continue
        short = name = _shorten(tensor.name.decode()).encode()
        number = 1
        while name in taken:
            number += 1
            name = b"%s_%d" % (short, number)
        taken.add(name)
        tensor.name = name


def _shorten(name: str) -> str:
    """Return the path of modules in the location of a tensor's last operation."""
    last = name.partition(";")[0]
    return "/".join(part for part in last.split("/") if not set(part) & set(".(")) or last
