"""int8 in ONNX files, after training."""

import sys
from collections import Counter

import jax
import numpy as np
import onnx
import pytest

from flaxmobile import InputError, Metadata, Preprocessing, export, list_models
from tests.exporters.runtimes import run_onnx
from tests.networks import random_variables, short_model, small_size


@pytest.fixture(scope="module")
def prepared(metadata, images):
    return metadata.preprocessing.normalize(np.concatenate([images, 255 - images]))


@pytest.mark.parametrize("batch_size", [None, 4])  # 4 images and 2 with 2 of them again
def test_int8_logits_are_near_those_of_float(batch_size, network, metadata, prepared, tmp_path):
    settings = {"format": "onnx", "metadata": metadata, "batch_size": batch_size}
    export(*network, tmp_path / "float", **settings)
    export(*network, tmp_path / "int8", quantize="int8", calibration=prepared, **settings)
    found, expected = (
        run_onnx(tmp_path / name, prepared[:4])["logits"] for name in ("int8", "float")
    )
    assert 0 < np.abs(found - expected).max() < 0.1 * np.ptp(expected)
    sizes = [(tmp_path / name).stat().st_size for name in ("int8", "float")]
    assert sizes[0] < 0.5 * sizes[1]  # a small network; its nodes and text count
    before, after = (onnx.load(tmp_path / name) for name in ("float", "int8"))
    assert {each.key: each.value for each in after.metadata_props} == {
        each.key: each.value for each in before.metadata_props
    } | {"quantize": "int8"}
    kinds = Counter(node.op_type for node in after.graph.node)
    assert kinds["Conv"] == Counter(node.op_type for node in before.graph.node)["Conv"]
    made = {name: node for node in after.graph.node for name in node.output}
    for node in after.graph.node:
        if node.op_type == "Conv":
            assert {made[name].op_type for name in node.input[:2]} == {"DequantizeLinear"}


@pytest.mark.parametrize("name", list_models())
def test_every_network_is_calibrated(name, tmp_path):
    model, size = short_model(name), small_size(name)
    shown = np.random.default_rng(0).normal(size=(2, size, size, 3)).astype(np.float32)
    settings = {"metadata": Metadata(Preprocessing(size)), "quantize": "int8", "calibration": shown}
    export(model, variables := random_variables(model), tmp_path / "file", "onnx", **settings)
    found = run_onnx(tmp_path / "file", shown[:1])["logits"]
    expected = np.asarray(jax.jit(model.apply)(variables, shown[:1]))
    assert np.abs(found - expected).max() < 0.25 * np.ptp(expected)


def test_int8_takes_raw_images(network, metadata, images, tmp_path):
    settings = {"raw_images": True, "probabilities": True, "metadata": metadata}
    export(*network, tmp_path / "f", "onnx", quantize="int8", calibration=images, **settings)
    found = run_onnx(tmp_path / "f", images[:1])["probabilities"]
    np.testing.assert_allclose(found.sum(), 1, atol=0.02)


def test_a_missing_runtime_is_named(network, metadata, prepared, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    settings = {"quantize": "int8", "calibration": prepared, "metadata": metadata}
    with pytest.raises(InputError, match=r"int8 of ONNX needs onnxruntime: pip install .*export"):
        export(*network, tmp_path / "f", "onnx", **settings)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("batch_size", [1, 4])
def test_a_range_holds_the_ends_of_a_percentage_of_the_images(
    network, metadata, prepared, batch_size, tmp_path
):
    shown = np.concatenate([prepared[:5], 20 * prepared[5:6]])
    settings = {"metadata": metadata, "batch_size": batch_size, "quantize": "int8"}
    steps = []
    for percentile in (80, 100):
        path = tmp_path / f"{percentile}"
        settings |= {"calibration": shown, "calibration_percentile": percentile}
        export(*network, path, "onnx", **settings)
        graph = onnx.load(path).graph
        constants = {each.name: onnx.numpy_helper.to_array(each) for each in graph.initializer}
        rounded = [node for node in graph.node if node.op_type == "QuantizeLinear"]
        steps.append(np.array([constants[node.input[1]].item() for node in rounded]))
        low = np.percentile(shown.min((1, 2, 3)), 100 - percentile)
        high = np.percentile(shown.max((1, 2, 3)), percentile)
        assert steps[-1][0] == pytest.approx((high - low) / 255, rel=1e-5)
    assert (steps[0] <= steps[1] * 1.0001).all()
    assert (steps[0] < steps[1] * 0.9).sum() > 2  # those of others are of ReLU6
