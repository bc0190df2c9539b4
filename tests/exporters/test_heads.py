"""Segmenters and detectors on a phone's and a server's runtime."""

import jax
import numpy as np
import pytest

from flaxmobile import Metadata, Preprocessing, create_detector, create_segmenter, export
from flaxmobile.detection.boxes import clip_boxes, decode_boxes
from flaxmobile.exporters.litert.writing import operators
from tests.exporters.runtimes import assert_close, run_litert, run_onnx
from tests.networks import random_variables

SIZE = 64
RUNTIMES = {"litert": run_litert, "onnx": run_onnx}
METADATA = Metadata(Preprocessing(SIZE, SIZE))
IMAGES = np.random.default_rng(0).normal(size=(1, SIZE, SIZE, 3)).astype(np.float32)


def export_and_run(model, variables, format, folder):
    export(model, variables, folder / "file", format, metadata=METADATA)
    return RUNTIMES[format](folder / "file", IMAGES)


@pytest.fixture(scope="module", params=["lraspp", "deeplab_v3"])
def segmenter(request):
    model = create_segmenter(request.param, "v2", alpha=0.35, num_classes=3)
    variables = random_variables(model)
    return model, variables, np.asarray(jax.jit(model.apply)(variables, IMAGES))


@pytest.mark.parametrize("format", RUNTIMES)
def test_segmenters_give_the_logits_of_every_pixel(format, segmenter, tmp_path):
    model, variables, expected = segmenter
    assert_close(export_and_run(model, variables, format, tmp_path), {"logits": expected})


def test_segmenters_are_calibrated(segmenter, tmp_path):
    """ONNX Runtime has to accept the resizing between integers."""
    model, variables, expected = segmenter
    settings = {"metadata": METADATA, "quantize": "int8", "calibration": IMAGES}
    export(model, variables, tmp_path / "file", "onnx", **settings)
    found = run_onnx(tmp_path / "file", IMAGES)["logits"]
    assert np.abs(found - expected).max() < 0.3 * np.ptp(expected)


@pytest.mark.parametrize("side", [33, 48, 65, 97])  # whose factors are no numbers of float32
def test_any_number_of_images_is_resized_to_the_exact_size(side, tmp_path):
    model = create_segmenter("lraspp", "v2", alpha=0.35, num_classes=3)
    variables = random_variables(model)
    images = np.random.default_rng(0).normal(size=(2, side, side, 3)).astype(np.float32)
    settings = {"metadata": Metadata(Preprocessing(side)), "batch_size": None}
    export(model, variables, tmp_path / "file", "onnx", **settings)
    expected = np.asarray(jax.jit(model.apply)(variables, images))
    assert_close(run_onnx(tmp_path / "file", images), {"logits": expected})


@pytest.mark.parametrize("format", RUNTIMES)
def test_detectors_give_decoded_boxes_and_the_scores_of_every_class(format, tmp_path):
    model = create_detector("ssdlite", "v2", alpha=0.35, num_classes=3)
    variables = random_variables(model)
    outputs = jax.jit(model.apply)(variables, IMAGES)
    boxes = decode_boxes(outputs["offsets"], model.default_boxes((SIZE, SIZE))[None])
    expected = {
        "boxes": np.asarray(clip_boxes(boxes, (SIZE, SIZE))),
        "scores": np.asarray(jax.nn.softmax(outputs["logits"])),
    }
    assert_close(export_and_run(model, variables, format, tmp_path), expected)


def test_segmenters_have_one_operator_for_each_layer(tmp_path):
    """Of LR-ASPP four convolutions; the rest are the backbone's."""
    model = create_segmenter("lraspp", "v2", alpha=0.35, num_classes=3)
    export(model, random_variables(model), tmp_path / "file", metadata=METADATA)
    found = operators((tmp_path / "file").read_bytes())
    assert found.count("DEPTHWISE_CONV_2D") == 17
    assert found.count("LOGISTIC") == 1
    assert found.count("RESIZE_BILINEAR") == 2
    assert set(found).isdisjoint({"BATCH_MATMUL", "FULLY_CONNECTED", "TRANSPOSE", "RESHAPE"})
