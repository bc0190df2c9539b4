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


KINDS = ("DEQUANTIZE", "CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "MUL")


def encode_tflite(constants, identifier=b"TFL3", sparse=(), operations=()):
    """The bytes of a model whose graph holds constants, given as pairs of name and array.

    As in MediaPipe's files, a DEQUANTIZE operation widens each constant in float16, there is an
    input without data, and the first buffer is empty. Operations follow each other: each is its
    kind, and the names of the constants beside the output of the one before it.
    """
    builder = flatbuffers.Builder()
    tensors = [_tensor(builder, "input", (1, 128, 128, 3), "float32", 0)]
    buffers, operators, places = [_buffer(builder, None)], [], {}
    for name, array in constants:
        kind = array.dtype.name
        sparsity = None
        if name in sparse:
            tflite.SparsityParametersStart(builder)
            sparsity = tflite.SparsityParametersEnd(builder)
        tensors.append(_tensor(builder, name, array.shape, kind, len(buffers), sparsity))
        buffers.append(_buffer(builder, array))
        places[name] = len(tensors) - 1
        if kind == "float16":
            given, widened = len(tensors) - 1, len(tensors)
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
