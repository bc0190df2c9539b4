"""How the bytes of a .tflite file are laid out."""

import flatbuffers
import numpy as np
import pytest
from litert_converter import schema_py_generated as schema

from flaxmobile import export
from flaxmobile.exporters.litert.packing import pack
from tests.networks import random_variables, short_model


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    """A network in int8, and its bytes."""
    path = tmp_path_factory.mktemp("packed") / "file"
    model = short_model("shufflenet_v2", folded=True, quantized=True)
    export(model, random_variables(model), path, quantize="int8", image_size=32)
    flatbuffer = path.read_bytes()
    return flatbuffer, schema.Model.GetRootAs(flatbuffer)


def place(flatbuffer, vector):
    """Offset of a vector in the file."""
    starts = (x.__array_interface__["data"][0] for x in (vector, np.frombuffer(flatbuffer, "u1")))
    first, origin = starts
    return first - origin


def test_equal_zero_points_are_stored_once(packed):
    flatbuffer, model = packed
    graph = model.Subgraphs(0)
    places = {}
    for index in range(graph.TensorsLength()):
        quantization = graph.Tensors(index).Quantization()
        if quantization and quantization.ZeroPointLength() > 1:  # of a kernel's or bias's channels
            vector = quantization.ZeroPointAsNumpy()
            assert not vector.any()
            places.setdefault(len(vector), set()).add(place(flatbuffer, vector))
    assert len(places) > 3
    assert all(len(each) == 1 for each in places.values())


def test_buffers_are_aligned_as_the_schema_asks(packed):
    flatbuffer, model = packed
    buffers = (model.Buffers(index) for index in range(model.BuffersLength()))
    filled = [buffer.DataAsNumpy() for buffer in buffers if buffer.DataLength()]
    assert len(filled) > 20
    assert {place(flatbuffer, vector) % 16 for vector in filled} == {0}


def test_tensors_are_named_by_their_place_in_the_network(packed):
    _, model = packed
    graph = model.Subgraphs(0)
    names = [graph.Tensors(index).Name().decode() for index in range(graph.TensorsLength())]
    assert "ShuffleNetV2/stage2_block1/depthwise/conv/conv_general_dilated" in names
    assert len(set(names)) == len(names)
    assert not [name for name in names if "(" in name or ";" in name]
    images, logits = graph.Inputs(0), graph.Outputs(0)
    assert names[images] == "serving_default_images"
    assert "(" not in names[logits]


def test_data_behind_the_tables_is_taken_in(packed):
    """As ai-edge-quantizer writes files of some hundred kilobytes."""
    flatbuffer, _ = packed
    model = schema.ModelT.InitFromPackedBuf(flatbuffer)
    largest = max(model.buffers, key=lambda buffer: 0 if buffer.data is None else len(buffer.data))
    data, largest.data, largest.size = largest.data.tobytes(), None, len(largest.data)
    largest.offset = len(flatbuffer)  # more than the tables take without the data
    builder = flatbuffers.Builder()
    builder.Finish(model.Pack(builder), b"TFL3")
    behind = bytes(builder.Output()).ljust(len(flatbuffer), b"\0") + data
    found = schema.Model.GetRootAs(pack(behind))
    lengths = [found.Buffers(index).DataLength() for index in range(found.BuffersLength())]
    place = lengths.index(max(lengths))
    assert found.Buffers(place).DataAsNumpy().tobytes() == data
    assert found.Buffers(place).Offset() == 0
