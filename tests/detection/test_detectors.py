"""Detectors: sizes, shapes, and what they share with classifiers."""

import jax
import numpy as np
import pytest

import flaxmobile
from flaxmobile import InputError, create_detector, create_model, detect_objects
from flaxmobile.tasks import options_of
from tests.networks import abstract, randomised


def random_detector(**options):
    """A small detector and its variables."""
    model = create_detector("ssdlite", "v2", alpha=0.35, num_classes=5, **options)
    return model, randomised(abstract(model))


@pytest.fixture(scope="module")
def small():
    return random_detector()


@pytest.fixture(scope="module", params=["torchvision", "paper"])
def either(request):
    return random_detector(head_variant=request.param)


def test_size_is_torchvisions():
    found = flaxmobile.summarize(create_detector("ssdlite", "mobilenet_v3_large"), 320)
    assert found.params == 3_440_060
    assert round(found.macs / 1e9, 3) == 0.583


@pytest.mark.parametrize(
    ("name", "classes", "params", "macs"),
    [
        ("v1", 81, "5.1", "1.3"),
        ("v2", 81, "4.3", "0.8"),
        ("v3", 91, "3.2", "0.51"),
        ("v3-small", 91, "1.8", "0.16"),
    ],
)
def test_sizes_are_the_papers(name, classes, params, macs):
    """Table 6 of V2's paper, whose table 5 says 80 classes, and table 6 of V3's."""
    model = create_detector("ssdlite", name, num_classes=classes, head_variant="paper")
    found = flaxmobile.summarize(model, 320)
    assert f"{found.params / 1e6:.1f}" == params
    assert f"{found.macs / 1e9:.{len(macs) - 2}f}" == macs


def test_size_is_that_of_tensorflows_file():
    """OpenVINO's model zoo counts 4.475 million parameters in ssdlite_mobilenet_v2."""
    model = create_detector("ssdlite", "v2", head_variant="paper", folded=True)
    found = flaxmobile.summarize(model, 300)
    assert round(found.params / 1e6, 3) == 4.475


@pytest.mark.parametrize("variant", ["torchvision", "paper"])
@pytest.mark.parametrize(
    ("name", "taps"), [("v2", ("stage6_block1/expand",)), ("v1", ()), ("shufflenet_v2", ())]
)
def test_the_finer_map_is_the_expansion_where_there_is_one(name, taps, variant):
    model = create_detector("ssdlite", name, num_classes=5, head_variant=variant)
    size = (299, 331)
    assert model.backbone.taps == taps
    assert model.backbone.out_strides == ((32,) if taps else (16, 32))
    images = jax.ShapeDtypeStruct((2, *size, 3), np.float32)
    outputs = jax.eval_shape(model.apply, abstract(model), images)
    boxes = len(model.default_boxes(size))
    assert outputs["offsets"].shape == (2, boxes, 4)
    assert (outputs["logits"].shape, outputs["logits"].dtype) == ((2, boxes, 5), np.float32)


@pytest.mark.parametrize("name", sorted({*flaxmobile.list_models()} - {"blazeface"}))
def test_every_network_with_the_strides_can_be_the_backbone(name):
    model = create_detector("ssdlite", name, num_classes=5)
    size = (160, 192)
    images = jax.ShapeDtypeStruct((1, *size, 3), np.float32)
    outputs = jax.eval_shape(model.apply, abstract(model), images)
    assert outputs["logits"].shape == (1, len(model.default_boxes(size)), 5)


def test_predictors_begin_as_torchvisions_do(small):
    """With a deviation of 0.03, so that no class is likelier than another."""
    params = flaxmobile.init(small[0], jax.random.key(0))["params"]
    for group in ("offsets", "logits"):
        kernel = np.asarray(params[group]["map1_project"]["kernel"])
        assert kernel.std() == pytest.approx(0.03, rel=0.1)
        assert not params[group]["map1_project"]["bias"].any()


def test_weights_directory_returns_the_same_network(either, tmp_path):
    model, variables = either
    flaxmobile.save_weights(tmp_path / "w", "ssdlite", options_of(model), variables)
    loaded, same = flaxmobile.load_weights(tmp_path / "w")
    assert loaded == model
    jax.tree.map(np.testing.assert_array_equal, same, variables)


def test_folding_and_compiled_inference_keep_the_outputs(either):
    model, variables = either
    images = np.random.default_rng(0).normal(size=(3, 64, 96, 3)).astype(np.float32)
    expected = jax.jit(model.apply)(variables, images)
    found = flaxmobile.jit_inference(*flaxmobile.fold_batch_norm(model, variables))(images)
    assert set(found) == {"offsets", "logits"}
    for name, wanted in expected.items():
        scale = float(np.abs(wanted).max())
        np.testing.assert_allclose(found[name], wanted, atol=2e-4 * scale)


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (("ssd", "v2"), {}, "unknown detection head 'ssd' .did you mean 'ssdlite'"),
        (("ssdlite", "vgg"), {}, "unknown model 'vgg'"),
        (("ssdlite", "blazeface"), {}, "BlazeFace has no feature map of stride 32"),
        (("ssdlite", "v2"), {"output_stride": 16}, "MobileNetV2 has no feature map of stride 32"),
        (("ssdlite", "v2"), {"alpa": 1.0}, "unknown option of ssdlite on mobilenet_v2 'alpa'"),
        (
            ("ssdlite", "v2"),
            {"head_variant": "tf"},
            "unknown head_variant 'tf'; accepted: torchvis",
        ),
        (("ssdlite", "v2"), {"num_classes": 0}, "num_classes is 0; accepted: 1 or more"),
    ],
)
def test_wrong_option_is_one_line(arguments, options, message):
    with pytest.raises(InputError, match=f"^{message}") as error:
        create_detector(*arguments, **options)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"score_threshold": 1.5}, "score_threshold is 1.5; accepted: 0 to 1"),
        ({"iou_threshold": -0.1}, "iou_threshold is -0.1; accepted: 0 to 1"),
        ({"max_objects": 0}, "max_objects is 0; accepted: 1 or more"),
    ],
)
def test_other_thresholds_are_refused(small, options, message):
    with pytest.raises(InputError, match=message):
        detect_objects(*small, np.zeros((8, 8, 3), np.uint8), **options)


def test_other_models_and_images_are_refused(small):
    with pytest.raises(InputError, match="the model is MobileNetV2; accepted: create_detector"):
        detect_objects(create_model("v2"), {}, np.zeros((8, 8, 3), np.uint8))
    with pytest.raises(InputError, match=r"shape \[8, 8\]; accepted: \[h, w, 3\]"):
        detect_objects(*small, np.zeros((8, 8), np.uint8))
