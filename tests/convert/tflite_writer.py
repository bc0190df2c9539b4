"""Small TFLite files: constants under the names that they have in MediaPipe's."""

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


def encode_tflite(constants, identifier=b"TFL3", sparse=()):
    """The bytes of a model whose graph holds constants, given as pairs of name and array.

    As in MediaPipe's files, a DEQUANTIZE operation widens each constant in float16, there is an
    input without data, and the first buffer is empty.
    """
    builder = flatbuffers.Builder()
    tensors = [_tensor(builder, "input", (1, 128, 128, 3), "float32", 0)]
    buffers, operators = [_buffer(builder, None)], []
    for name, array in constants:
        kind = array.dtype.name
        sparsity = None
        if name in sparse:
            tflite.SparsityParametersStart(builder)
            sparsity = tflite.SparsityParametersEnd(builder)
        tensors.append(_tensor(builder, name, array.shape, kind, len(buffers), sparsity))
        buffers.append(_buffer(builder, array))
        if kind == "float16":
            given, widened = len(tensors) - 1, len(tensors)
            tensors.append(_tensor(builder, f"{name}_dequantize", array.shape, "float32", 0))
            operators.append(_dequantize(builder, given, widened))
    graph = _graph(builder, tensors, operators)
    tflite.OperatorCodeStart(builder)
    tflite.OperatorCodeAddDeprecatedBuiltinCode(builder, tflite.BuiltinOperator.DEQUANTIZE)
    tflite.OperatorCodeAddBuiltinCode(builder, tflite.BuiltinOperator.DEQUANTIZE)
    codes = _vector(
        builder, tflite.ModelStartOperatorCodesVector, [tflite.OperatorCodeEnd(builder)]
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


def _dequantize(builder, given, widened):
    inputs, outputs = (
        builder.CreateNumpyVector(np.asarray([place], np.int32)) for place in (given, widened)
    )
    tflite.OperatorStart(builder)
    tflite.OperatorAddOpcodeIndex(builder, 0)
    tflite.OperatorAddInputs(builder, inputs)
    tflite.OperatorAddOutputs(builder, outputs)
    return tflite.OperatorEnd(builder)


def _graph(builder, tensors, operators):
    all_tensors = _vector(builder, tflite.SubGraphStartTensorsVector, tensors)
    all_operators = _vector(builder, tflite.SubGraphStartOperatorsVector, operators)
    tflite.SubGraphStart(builder)
    tflite.SubGraphAddTensors(builder, all_tensors)
    tflite.SubGraphAddOperators(builder, all_operators)
    return tflite.SubGraphEnd(builder)
