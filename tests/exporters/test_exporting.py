"""What a file takes and gives, in every format."""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from flaxmobile import InputError, Metadata, Preprocessing, create_model, export
from flaxmobile.detection import decode, make_anchors
from flaxmobile.exporters.exporting import FORMATS
from flaxmobile.exporters.program import Program
from flaxmobile.layers.activations import ACTIVATIONS
from tests.exporters.runtimes import RUNTIMES, assert_close
from tests.networks import random_variables, short_backbone, short_model, small_model

ALL = pytest.mark.parametrize("format", RUNTIMES)
OPEN = [format for format in RUNTIMES if FORMATS[format].takes_any_batch]


@ALL
def test_raw_images_give_the_probabilities_of_the_preset(format, network, metadata, tmp_path):
    """Photographs of odd sizes, resized and cut out; the file does the rest."""
    model, variables = network
    rng = np.random.default_rng(1)
    pixels = [rng.integers(0, 256, (4, 5, 3), np.uint8) for _ in range(50)]
    photographs = [
        Image.fromarray(each).resize((61 + 7 * i, 149 - i)) for i, each in enumerate(pixels)
    ]
    preset = metadata.preprocessing
    logits = jax.jit(model.apply)(variables, np.stack([preset(each) for each in photographs]))
    path, count = tmp_path / "file", len(photographs)
    options = {"raw_images": True, "probabilities": True, "batch_size": count}
    export(model, variables, path, format, metadata=metadata, **options)
    raw = np.stack([np.asarray(preset.crop(each)) for each in photographs])
    found = RUNTIMES[format](path, raw)
    assert_close(found, {"probabilities": jax.nn.softmax(logits)})
    np.testing.assert_array_equal(found["probabilities"].argmax(1), logits.argmax(1))
    assert len(set(np.asarray(logits.argmax(1)))) > 1


@pytest.mark.parametrize("format", ["litert", "onnx"])
def test_raw_images_of_a_grey_network_are_rgb(format, tmp_path):
    model = short_model(in_channels=1)
    variables, preset = random_variables(model), Preprocessing(32).for_channels(1)
    raw = np.random.default_rng(1).integers(0, 256, (2, 32, 32, 3), np.uint8)
    path, options = tmp_path / "file", {"raw_images": True, "batch_size": 2}
    export(model, variables, path, format, metadata=Metadata(Preprocessing(32)), **options)
    logits = jax.jit(model.apply)(variables, preset.normalize(raw))
    assert_close(RUNTIMES[format](path, raw), {"logits": logits})


@pytest.mark.parametrize("format", OPEN)
def test_the_number_of_images_may_stay_open(format, network, metadata, images, tmp_path):
    model, variables = network
    export(model, variables, tmp_path / "file", format, metadata=metadata, batch_size=None)
    normalized = metadata.preprocessing.normalize(images)
    expected = np.asarray(jax.jit(model.apply)(variables, normalized))
    for count in (1, 3):
        found = RUNTIMES[format](tmp_path / "file", normalized[:count])
        assert_close(found, {"logits": expected[:count]})


@ALL
def test_maps_of_a_backbone_have_the_names_of_strides_and_taps(format, metadata, images, tmp_path):
    backbone = short_backbone(out_strides=(8, 32), taps=("stage3_block1/expand",))
    variables = random_variables(backbone)
    export(backbone, variables, tmp_path / "file", format, metadata=metadata)
    x = metadata.preprocessing.normalize(images[:1])
    maps = jax.jit(backbone.apply)(variables, x)
    names = {8: "stride8", 32: "stride32", "stage3_block1/expand": "stage3_block1/expand"}
    expected = {names[key]: np.asarray(value) for key, value in maps.items()}
    assert_close(RUNTIMES[format](tmp_path / "file", x), expected)


@ALL
def test_a_detector_gives_decoded_anchors(format, tmp_path):
    model = create_model("blazeface", detector=True)
    variables = random_variables(model)
    for name in ("scores_stride8", "scores_stride16"):  # scores that differ from 0 and 1
        variables["params"][name]["kernel"] *= 0.01
    export(model, variables, tmp_path / "file", format, metadata=Metadata(Preprocessing(128)))
    x = np.random.default_rng(0).normal(size=(1, 128, 128, 3)).astype(np.float32)
    expected = decode(jax.jit(model.apply)(variables, x), make_anchors())._asdict()
    assert_close(RUNTIMES[format](tmp_path / "file", x), expected)


@ALL
def test_another_size_is_cut_out_of_its_proportion(format, network, metadata, images, tmp_path):
    model, variables = network
    export(model, variables, tmp_path / "file", format, metadata=metadata, image_size=32)
    x = metadata.preprocessing.normalize(images[:1, :32, :32])
    expected = {"logits": np.asarray(jax.jit(model.apply)(variables, x))}
    assert_close(RUNTIMES[format](tmp_path / "file", x), expected)


def test_features_and_bfloat16(metadata, images, tmp_path):
    """Phones and servers compute in float32 what was trained in bfloat16."""
    model = small_model(num_classes=0, dtype=jnp.bfloat16)
    variables = random_variables(model)
    export(model, variables, tmp_path / "file", "onnx", metadata=metadata)
    x = metadata.preprocessing.normalize(images[:1])
    expected = jax.jit(model.clone(dtype=jnp.float32).apply)(variables, x)
    assert_close(RUNTIMES["onnx"](tmp_path / "file", x), {"features": np.asarray(expected)})


@pytest.mark.parametrize("format", ["litert", "onnx"])
def test_float16_halves_the_file(format, network, metadata, images, tmp_path):
    for path, quantize in (("whole", None), ("half", "float16")):
        export(*network, tmp_path / path, format, metadata=metadata, quantize=quantize)
    sizes = [(tmp_path / path).stat().st_size for path in ("half", "whole")]
    assert 0.49 < sizes[0] / sizes[1] < 0.56
    x = metadata.preprocessing.normalize(images[:1])
    half, whole = (RUNTIMES[format](tmp_path / path, x) for path in ("half", "whole"))
    assert_close(half, whole, tolerance=1e-2)
    assert (half["logits"] != whole["logits"]).any()


def test_own_heads_of_every_activation_are_known(metadata, images, tmp_path):
    model = short_model(dense_layers=tuple((8, each) for each in ACTIVATIONS))
    variables = random_variables(model)
    export(model, variables, tmp_path / "file", "onnx", metadata=metadata)
    x = metadata.preprocessing.normalize(images[:1])
    logits = jax.jit(model.clone(native=True).apply)(variables, x)
    assert_close(RUNTIMES["onnx"](tmp_path / "file", x), {"logits": np.asarray(logits)})


@pytest.mark.parametrize("format", ["litert", "onnx"])
def test_an_operation_that_a_format_lacks_is_named(format, metadata, tmp_path):
    images = jax.ShapeDtypeStruct((1, 8, 8, 3), np.float32)
    program = Program(lambda x: {"sorted": jnp.sort(x)}, images, "Sort", metadata, "none")
    with pytest.raises(InputError, match=r"(?i)sort of the network"):
        FORMATS[format].write(program, tmp_path / "file")


def test_float16_is_refused_where_it_overflows(network, tmp_path):
    model, variables = network
    large = jax.tree.map(lambda leaf: leaf * 1e6, variables)
    with pytest.raises(InputError, match="float16 holds numbers up to 65504"):
        export(model, large, tmp_path / "file", "onnx", quantize="float16")


WRONG = {
    "an output that exists": ({"output": "exists"}, "exists already"),
    "an unknown format": ({"format": "tflite"}, "litert"),
    "an open batch": ({"format": "litert", "batch_size": None}, "no dynamic batch"),
    "float16 elsewhere": ({"format": "stablehlo", "quantize": "float16"}, "accepted for stablehlo"),
    "names of others": ({"metadata": Metadata(class_names=("one",))}, "1 class names"),
    "no images": ({"batch_size": 0}, "1 or more"),
    "too small": ({"image_size": 31}, "32 or more"),
    "four channels": ({"model": {"in_channels": 4}, "raw_images": True}, "RGB"),
    "no classes": ({"model": {"num_classes": 0}, "probabilities": True}, "no logits"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_request_is_refused_and_nothing_is_written(case, tmp_path):
    options, message = WRONG[case]
    options = {"format": "onnx", "output": "new", **options}
    (tmp_path / "exists").write_text("kept")
    model = small_model(**options.pop("model", {}))
    output = tmp_path / options.pop("output")
    with pytest.raises(InputError, match=message):
        export(model, random_variables(model), output, **options)
    assert [path.name for path in tmp_path.iterdir()] == ["exists"]
    assert (tmp_path / "exists").read_text() == "kept"


def test_a_detector_takes_its_own_size(tmp_path):
    model = create_model("blazeface", detector=True)
    with pytest.raises(InputError, match="takes 128"):
        export(model, random_variables(model), tmp_path / "file", "onnx")


@pytest.mark.parametrize(
    "format, library, line",
    [
        ("onnx", "onnx", r"pip install -e '.*\[export\]'"),
        ("litert", "litert_converter.mlir", "pip install --no-deps litert-converter"),
        ("litert", "flatbuffers", r"pip install -e '.*\[export\]'"),
        ("litert", "ai_edge_quantizer", r"pip install -e '.*\[quantize\]'"),
        ("saved_model", "tensorflow", "pip install tensorflow-cpu"),
    ],
)
def test_a_missing_library_is_named_with_the_line_to_type(
    format, library, line, network, metadata, tmp_path, monkeypatch
):
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(InputError, match=line):
        half = {"quantize": "float16"} if library == "ai_edge_quantizer" else {}
        export(*network, tmp_path / "file", format, metadata=metadata, **half)
    assert not list(tmp_path.iterdir())
