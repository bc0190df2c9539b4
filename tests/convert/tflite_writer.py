"""Small TFLite files: constants under the names that they have in MediaPipe's."""

from typing import NamedTuple

import flatbuffers
import numpy as np
import tflite

TYPES = {
    "float32": tflite.TensorType.FLOAT32,
    "float16": tflite.TensorType.FLOAT16,
    "float64": tflite.TensorType.FLOAT64,
    "int8": tflite.TensorType.INT8,
    "int32": tflite.TensorType.INT32,
}


KINDS = ("DENSIFY", "DEQUANTIZE", "CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "MUL")


class Sparse(NamedTuple):
    """How a constant leaves out zeros: of its last axis, in blocks of a shape.

    MediaPipe's files have blocks of one number, and places in 8 bits.
    """

    block: tuple[int, ...]
    vector: str = "Uint8Vector"

    def __call__(self, builder, array):
        """The schema's parameters, and the numbers that are left."""
        outer = [size // block for size, block in zip(array.shape, self.block, strict=True)]
        rank = len(outer)
        split = array.reshape([n for pair in zip(outer, self.block, strict=True) for n in pair])
        blocks = split.transpose([*range(0, 2 * rank, 2), *range(1, 2 * rank, 2)])
        blocks = blocks.reshape(-1, outer[-1], *self.block)
        kept = blocks.reshape(*blocks.shape[:2], -1).any(-1)
        segments = self._vector(builder, np.cumsum([0, *kept.sum(1)]))
        indices = self._vector(builder, np.nonzero(kept)[1])
        levels = [_level(builder, size) for size in outer[:-1]]
        levels.append(
            _level(builder, 0, getattr(tflite.SparseIndexVector, self.vector), segments, indices)
        )
        inner = [axis for axis, size in enumerate(self.block) if size > 1]
        levels += [_level(builder, self.block[axis]) for axis in inner]
        order = builder.CreateNumpyVector(np.arange(len(levels), dtype=np.int32))
        axes = builder.CreateNumpyVector(np.asarray(inner, np.int32))
        dims = _vector(builder, tflite.SparsityParametersStartDimMetadataVector, levels)
        tflite.SparsityParametersStart(builder)
        tflite.SparsityParametersAddTraversalOrder(builder, order)
        tflite.SparsityParametersAddBlockMap(builder, axes)
        tflite.SparsityParametersAddDimMetadata(builder, dims)
        return tflite.SparsityParametersEnd(builder), blocks[kept]

    def _vector(self, builder, numbers):
        kind = {"Uint8Vector": np.uint8, "Uint16Vector": np.uint16, "Int32Vector": np.int32}
        values = builder.CreateNumpyVector(np.asarray(numbers, kind[self.vector]))
        getattr(tflite, f"{self.vector}Start")(builder)
        getattr(tflite, f"{self.vector}AddValues")(builder, values)
        return getattr(tflite, f"{self.vector}End")(builder)


def _dense(builder, array):
    return None, array


def _level(builder, size, kind=0, segments=0, indices=0):
    tflite.DimensionMetadataStart(builder)
    tflite.DimensionMetadataAddDenseSize(builder, size)
    if kind:
        tflite.DimensionMetadataAddFormat(builder, tflite.DimensionType.SPARSE_CSR)
        tflite.DimensionMetadataAddArraySegmentsType(builder, kind)
        tflite.DimensionMetadataAddArraySegments(builder, segments)
        tflite.DimensionMetadataAddArrayIndicesType(builder, kind)
        tflite.DimensionMetadataAddArrayIndices(builder, indices)
    return tflite.DimensionMetadataEnd(builder)


def encode_tflite(constants, identifier=b"TFL3", sparse=None, operations=()):
    """The bytes of a model whose graph holds constants, given as pairs of name and array.

    As in MediaPipe's files, a DEQUANTIZE operation widens each constant in float16, there is an
    input without data, and the first buffer is empty. Operations follow each other: each is its
    kind, and the names of the constants beside the output of the one before it. `sparse` maps names
    to the `Sparse` form in which their constants are stored; a DENSIFY operation follows them.
    """
    builder = flatbuffers.Builder()
    tensors = [_tensor(builder, "input", (1, 128, 128, 3), "float32", 0)]
    buffers, operators, places = [_buffer(builder, None)], [], {}
    for name, array in constants:
        kind = array.dtype.name
        sparsity, values = (sparse or {}).get(name, _dense)(builder, array)
        tensors.append(_tensor(builder, name, array.shape, kind, len(buffers), sparsity))
        buffers.append(_buffer(builder, values))
        places[name] = len(tensors) - 1
        if sparsity is not None:
            tensors.append(_tensor(builder, f"{name}_densify", array.shape, kind, 0))
            operators.append(_operator(builder, "DENSIFY", [places[name]], len(tensors) - 1))
            places[name] = len(tensors) - 1
        if kind == "float16":
            given, widened = places[name], len(tensors)
            tensors.append(_tensor(builder, f"{name}_dequantize", array.shape, "float32", 0))
            operators.append(_operator(builder, "DEQUANTIZE", [given], widened))
            places[name] = widened
    last = 0
    for kind, names in operations:
        tensors.append(_tensor(builder, f"value{len(tensors)}", (), "float32", 0))
        inputs = [last, *(places[name] for name in names)]
        last = len(tensors) - 1
        operators.append(_operator(builder, kind, inputs, last))
    graph = _graph(builder, tensors, operators)
    codes = _vector(
        builder, tflite.ModelStartOperatorCodesVector, [_code(builder, kind) for kind in KINDS]
    )
    graphs = _vector(builder, tflite.ModelStartSubgraphsVector, [graph])
    all_buffers = _vector(builder, tflite.ModelStartBuffersVector, buffers)
    tflite.ModelStart(builder)
    tflite.ModelAddVersion(builder, 3)
    tflite.ModelAddOperatorCodes(builder, codes)
    tflite.ModelAddSubgraphs(builder, graphs)
    tflite.ModelAddBuffers(builder, all_buffers)
    builder.Finish(tflite.ModelEnd(builder), file_identifier=identifier)
    return bytes(builder.Output())


def _vector(builder, start, offsets):
    start(builder, len(offsets))
    for offset in reversed(offsets):
        builder.PrependUOffsetTRelative(offset)
    return builder.EndVector()


def _buffer(builder, array):
    data = None if array is None else builder.CreateByteVector(array.tobytes())
    tflite.BufferStart(builder)
    if data is not None:
        tflite.BufferAddData(builder, data)
    return tflite.BufferEnd(builder)


def _tensor(builder, name, shape, kind, buffer, sparsity=None):
    label = builder.CreateString(name)
    sizes = builder.CreateNumpyVector(np.asarray(shape, np.int32))
    tflite.TensorStart(builder)
    tflite.TensorAddShape(builder, sizes)
    tflite.TensorAddType(builder, TYPES[kind])
    tflite.TensorAddBuffer(builder, buffer)
    tflite.TensorAddName(builder, label)
    if sparsity is not None:
        tflite.TensorAddSparsity(builder, sparsity)
    return tflite.TensorEnd(builder)


def _code(builder, kind):
    code = getattr(tflite.BuiltinOperator, kind)
    tflite.OperatorCodeStart(builder)
    tflite.OperatorCodeAddDeprecatedBuiltinCode(builder, code)
    tflite.OperatorCodeAddBuiltinCode(builder, code)
    return tflite.OperatorCodeEnd(builder)


def _operator(builder, kind, given, made):
    inputs, outputs = (
        builder.CreateNumpyVector(np.asarray(places, np.int32)) for places in (given, [made])
    )
    tflite.OperatorStart(builder)
    tflite.OperatorAddOpcodeIndex(builder, KINDS.index(kind))
    tflite.OperatorAddInputs(builder, inputs)
    tflite.OperatorAddOutputs(builder, outputs)
    return tflite.OperatorEnd(builder)


def _graph(builder, tensors, operators):
    all_tensors = _vector(builder, tflite.SubGraphStartTensorsVector, tensors)
    all_operators = _vector(builder, tflite.SubGraphStartOperatorsVector, operators)
    inputs = builder.CreateNumpyVector(np.asarray([0], np.int32))
    tflite.SubGraphStart(builder)
    tflite.SubGraphAddInputs(builder, inputs)
    tflite.SubGraphAddTensors(builder, all_tensors)
    tflite.SubGraphAddOperators(builder, all_operators)
    return tflite.SubGraphEnd(builder)
