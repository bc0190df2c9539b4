"""int8 in ONNX files, after training."""

import sys
from collections import Counter

import numpy as np
import onnx
import pytest

from flaxmobile import InputError, export
from tests.exporters.runtimes import run_onnx


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


def test_a_percentile_is_litert_s(network, metadata, prepared, tmp_path):
    settings = {"quantize": "int8", "calibration": prepared, "calibration_percentile": 99}
    with pytest.raises(InputError, match="percentile is 99; accepted for onnx: 100"):
        export(*network, tmp_path / "f", "onnx", metadata=metadata, **settings)
    assert not list(tmp_path.iterdir())
