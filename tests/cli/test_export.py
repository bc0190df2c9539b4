import json

import numpy as np
import onnx
import pytest
from PIL import Image

from flaxmobile import cli, save_weights
from tests.exporters.runtimes import run_onnx
from tests.exporters.weights import METADATA, NAMES
from tests.networks import random_variables, small_model

OPTIONS = {"alpha": 0.35, "num_classes": 5}


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    directory = tmp_path_factory.mktemp("export") / "w"
    save_weights(directory, "v2", OPTIONS, random_variables(small_model()), METADATA)
    return directory


@pytest.fixture
def export(weights, tmp_path, capsys):
    """Run the command, and give its status, stdout and stderr."""

    def run(*argv, output=tmp_path / "v2.onnx"):
        try:
            status = cli.main(["export", "--weights", str(weights), "--output", str(output), *argv])
        except SystemExit as stop:
            status = stop.code
        return status, *capsys.readouterr()

    return run


def test_a_weights_directory_becomes_a_file_with_its_labels(export, tmp_path):
    status, out, err = export(
        "--format", "onnx", "--raw-images", "--probabilities", "--labels", "--batch-size", "dynamic"
    )
    assert (status, err) == (0, "")
    assert out.startswith(f"wrote {tmp_path / 'v2.onnx'}: onnx, 1.6 MB")
    found = run_onnx(tmp_path / "v2.onnx", np.zeros((2, 48, 48, 3), np.uint8))
    np.testing.assert_allclose(found["probabilities"].sum(1), 1, rtol=1e-5)
    said = {p.key: p.value for p in onnx.load(tmp_path / "v2.onnx").metadata_props}
    assert json.loads(said["class_names"]) == list(NAMES)
    assert json.loads(said["preprocessing"])["image_size"] == 48


@pytest.mark.parametrize(
    "argv, status, message",
    [
        (["--format", "tflite"], 2, "litert"),
        (["--format", "onnx", "--batch-size", "many"], 2, "1 or more, or dynamic"),
        (["--format", "litert", "--batch-size", "dynamic"], 1, "no dynamic batch"),
        (["--format", "onnx", "--image-size", "16"], 1, "32 or more"),
    ],
)
def test_a_wrong_request_is_one_line(argv, status, message, export, tmp_path):
    found, out, err = export(*argv)
    assert (found, out, err.count("\n")) == (status, "", 1)
    assert message in err
    assert not list(tmp_path.iterdir())


def test_int8_is_calibrated_by_a_folder_of_images(export, tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    for shade in (0, 100, 255):
        Image.new("RGB", (60, 50), (shade, 50, 9)).save(folder / f"{shade}.png")
    argv = ("--format", "litert", "--quantize", "int8", "--calibrate", str(folder))
    status, out, err = export(*argv, output=tmp_path / "v2.tflite")
    assert status == 0, err
    assert out.startswith("wrote ")
    assert out.endswith(f"int8: ranges of 3 images of {folder}, least to largest\n")


@pytest.mark.parametrize(
    "argv, status, message",
    [
        (["--quantize", "int8"], 1, "--calibrate"),
        (["--calibrate", "digits"], 2, "--quantize int8"),
        (["--quantize", "int8", "--calibrate", "EMPTY"], 1, "EMPTY has no images"),
        (["--quantize", "int8", "--calibrate", "nothing_here"], 1, "nothing_here"),
        (["--quantize", "int8", "--calibrate", "digits", "--calibration-images", "0"], 2, "1 or"),
        (["--calibration-percentile", "50"], 2, "is 50; accepted: above 50, at most 100"),
    ],
)
def test_int8_without_images_is_one_line(argv, status, message, export, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "EMPTY").mkdir()
    found, _, err = export("--format", "litert", *argv)
    assert (found, err.count("\n")) == (status, 1)
    assert message in err
    assert not (tmp_path / "v2.onnx").exists()
