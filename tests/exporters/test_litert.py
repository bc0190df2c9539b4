import json
import zipfile
from collections import Counter

import flatbuffers.table
import numpy as np
import pytest
from flatbuffers import number_types

from flaxmobile import export
from flaxmobile.exporters.litert.writing import operators
from tests.exporters.weights import NAMES
from tests.networks import random_variables, short_backbone, short_model


@pytest.mark.parametrize("padding, pads", [("symmetric", 5), ("same", 0)])
def test_only_symmetric_padding_of_strides_is_an_operator(padding, pads, metadata, tmp_path):
    model = short_model(padding=padding)
    export(model, random_variables(model), tmp_path / "file", metadata=metadata, image_size=64)
    assert Counter(operators((tmp_path / "file").read_bytes()))["PAD"] == pads


class Table(flatbuffers.table.Table):
    """A table of a flatbuffer, read by the numbers of its fields."""

    def position(self, number):
        offset = self.Offset(4 + 2 * number)
        assert offset, f"there is no field {number}"
        return self.Pos + offset

    def table(self, number):
        return Table(self.Bytes, self.Indirect(self.position(number)))

    def first(self, number):
        """The first table of a vector."""
        start = self.Indirect(self.position(number)) + 4
        return Table(self.Bytes, self.Indirect(start))

    def text(self, number):
        return self.String(self.position(number)).decode()

    def byte(self, number):
        return self.Get(number_types.Int8Flags, self.position(number))

    def floats(self, number):
        return self.GetVectorAsNumpy(number_types.Float32Flags, self.Offset(4 + 2 * number))


def read_metadata(flatbuffer):
    """The root table of the file's TFLITE_METADATA."""
    from litert_converter import schema_py_generated as schema

    model = schema.Model.GetRootAs(flatbuffer)
    entries = [model.Metadata(i) for i in range(model.MetadataLength())]
    entry = next(each for each in entries if each.Name() == b"TFLITE_METADATA")
    data = model.Buffers(entry.Buffer()).DataAsNumpy().tobytes()
    assert data[4:8] == b"M001"
    return Table(data, int.from_bytes(data[:4], "little"))


def test_metadata_says_what_android_and_mediapipe_ask(network, metadata, tmp_path):
    """Fields by their numbers in metadata_schema.fbs."""
    export(*network, tmp_path / "file", metadata=metadata)
    root = read_metadata((tmp_path / "file").read_bytes())
    assert (root.text(0), root.text(5), root.text(7)) == ("MobileNetV2", "CC0", "1.0.0")
    graph = root.first(3)  # the only subgraph
    images, output = graph.first(2), graph.first(3)
    assert (images.text(0), output.text(0)) == ("images", "logits")
    assert images.table(3).byte(0) == 2  # ImageProperties
    unit = images.first(4)
    assert unit.byte(0) == 1  # NormalizationOptions of pixels in 0..255
    mean, std = unit.table(1).floats(0), unit.table(1).floats(1)
    np.testing.assert_allclose(mean, np.multiply(metadata.preprocessing.mean, 255), rtol=1e-6)
    np.testing.assert_allclose(std, np.multiply(metadata.preprocessing.std, 255), rtol=1e-6)
    labels = output.first(6)
    assert (labels.text(0), labels.byte(2)) == ("labels.txt", 2)  # TENSOR_AXIS_LABELS


def test_maps_have_no_labels(metadata, tmp_path):
    backbone = short_backbone(out_strides=(8,))
    export(backbone, random_variables(backbone), tmp_path / "file", metadata=metadata)
    with zipfile.ZipFile(tmp_path / "file") as archive:
        assert archive.namelist() == ["flaxmobile.json"]


def test_labels_and_preprocessing_are_files_inside_the_file(network, metadata, tmp_path):
    export(*network, tmp_path / "file", metadata=metadata, raw_images=True)
    with zipfile.ZipFile(tmp_path / "file") as archive:
        assert archive.read("labels.txt").decode().split("\n") == [*NAMES, ""]
        said = json.loads(archive.read("flaxmobile.json"))
    assert said["preprocessing"] == json.loads(json.dumps(metadata.preprocessing.to_json()))
    assert said["raw_images"] is True
    images = read_metadata((tmp_path / "file").read_bytes()).first(3).first(2)
    assert not images.Offset(4 + 2 * 4)  # the file normalizes
