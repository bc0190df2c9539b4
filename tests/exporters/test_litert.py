import json
import zipfile
from collections import Counter

import flatbuffers.table
import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from flatbuffers import number_types

from flaxmobile import InputError, export
from flaxmobile.exporters.litert.writing import operators
from tests.exporters.runtimes import run_litert
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


@pytest.fixture(scope="module")
def in_integers(network, metadata, images, tmp_path_factory):
    """The network in int8, and its float file, both for normalized images."""
    folder = tmp_path_factory.mktemp("int8")
    prepared = metadata.preprocessing.normalize(np.concatenate([images, 255 - images]))
    settings = {"metadata": metadata, "batch_size": len(prepared)}
    export(*network, folder / "float", **settings)
    settings |= {"batch_size": 1, "quantize": "int8", "calibration": prepared}
    export(*network, folder / "int8", **settings)
    return folder, prepared


def test_int8_files_compute_in_int8(in_integers):
    folder, _ = in_integers
    whole, parts = ((folder / name).read_bytes() for name in ("float", "int8"))
    assert Counter(operators(parts)) == Counter(operators(whole))  # nothing is converted between
    assert len(parts) < 0.4 * len(whole)  # a small network; its operators and text count
    runner = Interpreter(model_content=parts).get_signature_runner()
    assert runner.get_input_details()["images"]["dtype"] == np.int8
    assert runner.get_output_details()["logits"]["dtype"] == np.int8


def test_int8_logits_are_those_of_float_within_steps_of_their_scale(in_integers):
    folder, prepared = in_integers
    expected = run_litert(folder / "float", prepared)["logits"]
    runner = Interpreter(model_path=str(folder / "int8")).get_signature_runner()
    (scale, zero), (out_scale, out_zero) = (
        details["quantization"]
        for details in (runner.get_input_details()["images"], runner.get_output_details()["logits"])
    )
    integers = np.clip(np.rint(prepared / scale) + zero, -128, 127).astype(np.int8)
    found = np.concatenate([runner(images=each[None])["logits"] for each in integers])
    logits = (found.astype(np.float32) - out_zero) * out_scale
    assert np.abs(logits - expected).max() < 0.1 * np.ptp(expected)


@pytest.mark.parametrize("percentile", [100, 80])
def test_a_range_holds_the_ends_of_a_percentage_of_the_images(
    in_integers, network, metadata, percentile, tmp_path
):
    _, prepared = in_integers
    shown = np.concatenate([prepared[:9], 20 * prepared[9:10]])
    settings = {"calibration": shown, "calibration_percentile": percentile}
    export(*network, tmp_path / "f", quantize="int8", metadata=metadata, **settings)
    runner = Interpreter(model_path=str(tmp_path / "f")).get_signature_runner()
    scale, _ = runner.get_input_details()["images"]["quantization"]
    low = np.percentile(shown.min((1, 2, 3)), 100 - percentile)
    high = np.percentile(shown.max((1, 2, 3)), percentile)
    assert scale == pytest.approx((high - low) / 255, rel=1e-5)


def test_int8_takes_raw_images(network, metadata, images, tmp_path):
    settings = {"raw_images": True, "probabilities": True, "metadata": metadata}
    export(*network, tmp_path / "f", quantize="int8", calibration=images, **settings)
    runner = Interpreter(model_path=str(tmp_path / "f")).get_signature_runner()
    found = runner(images=images[:1])["probabilities"]
    scale, zero = runner.get_output_details()["probabilities"]["quantization"]
    assert runner.get_input_details()["images"]["dtype"] == np.uint8
    np.testing.assert_allclose(((found.astype(int) - zero) * scale).sum(), 1, atol=5 * scale)


@pytest.mark.parametrize(
    "calibration, message",
    [
        (None, "int8 needs images"),
        (np.zeros((2, 32, 32, 3), np.float32), r"shape \[2, 32, 32, 3\]; .*\[k, 48, 48, 3\]"),
        (np.zeros((0, 48, 48, 3), np.float32), "shape"),
        (np.zeros((2, 48, 48, 3), np.uint8), "uint8; accepted: .* float32"),
    ],
)
def test_int8_needs_images_as_the_file_takes_them(
    calibration, message, network, metadata, tmp_path
):
    with pytest.raises(InputError, match=message):
        export(
            *network, tmp_path / "f", quantize="int8", calibration=calibration, metadata=metadata
        )
    assert not list(tmp_path.iterdir())
