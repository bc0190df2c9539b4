"""Segmenters: sizes, shapes, and what they share with classifiers."""

from functools import partial

import jax
import numpy as np
import pytest
from numpy.testing import assert_allclose

import flaxmobile
from flaxmobile import InputError, create_detector, create_segmenter
from flaxmobile.tasks import SEGMENTERS, options_of
from tests.networks import abstract, random_variables

SMALL = {"alpha": 0.35, "num_classes": 5}


def small(head="lraspp", backbone="v2", **options):
    return create_segmenter(head, backbone, **{**SMALL, **options})


def images_of(height=65, width=97, count=1):
    rng = np.random.default_rng(0)
    return rng.normal(size=(count, height, width, 3)).astype(np.float32)


@pytest.fixture(scope="module", params=SEGMENTERS)
def pair(request):
    """A small segmenter, whose backbone has another epsilon than its head, and its variables."""
    model = small(request.param, norm_epsilon=0.1)
    return model, random_variables(model)


AUXILIARY_MACS = (40 * 10 * 9 + 10 * 21) * 65 * 65
"""torchvision counts the auxiliary classifier, which is for training; `summarize` does not."""


@pytest.mark.parametrize(
    ("head", "params", "macs"),
    [
        ("lraspp", 3_221_538, 2_086_219_688),
        ("deeplab_v3", 11_029_328, 10_452_447_938 - AUXILIARY_MACS),
    ],
)
def test_sizes_are_torchvisions(head, params, macs):
    model = create_segmenter(head, "v3", num_classes=21, dilated=True)
    found = flaxmobile.summarize(model, 520)
    assert (found.params, found.macs) == (params, macs)


def test_size_of_deeplab_without_aspp_is_that_of_v2s_paper():
    options = {"aspp": False, "head_variant": "paper", "auxiliary": False}
    found = flaxmobile.summarize(create_segmenter("deeplab_v3", "v2", num_classes=21, **options))
    assert round(found.params / 1e6, 2) == 2.11

    macs = flaxmobile.summarize(
        create_segmenter("deeplab_v3", "v2", num_classes=21, **options), 513
    ).macs
    assert 0.99 * 2.75e9 < macs < 2.75e9


@pytest.mark.parametrize(
    ("name", "params", "macs"), [("v3", 1.51, 9.74e9), ("v3-small", 0.47, 2.90e9)]
)
def test_sizes_of_lraspp_are_the_papers(name, params, macs):
    """Table 7 of V3's paper, whose operations are 2 and 4 percent more than the convolutions'."""
    options = {"reduced_tail": True, "reduced_expansion": True, "head_variant": "paper"}
    model = create_segmenter("lraspp", name, num_classes=19, **options)
    found = flaxmobile.summarize(model, (1025, 2049))
    assert round(found.params / 1e6, 2) == params
    assert 0.95 * macs < found.macs < macs


@pytest.mark.parametrize(
    ("name", "tap"),
    [
        ("mobilenet_v2", "stage3_block3/depthwise"),
        ("mobilenet_v3_small", "stage2_block2/depthwise"),
        ("mnasnet", "stage3_block3/depthwise"),
        ("mobilenext", "stage3_block1"),
    ],
)
def test_lraspp_of_the_paper_reads_a_depthwise_convolution_where_there_is_one(name, tap):
    model = create_segmenter("lraspp", name, num_classes=5, head_variant="paper")
    assert model.backbone.taps == (tap,)
    images = jax.ShapeDtypeStruct((1, 65, 97, 3), np.float32)
    assert jax.eval_shape(model.apply, abstract(model), images).shape == (1, 65, 97, 5)


@pytest.mark.parametrize("name", flaxmobile.list_models())
@pytest.mark.parametrize("head", SEGMENTERS)
def test_every_network_can_be_the_backbone(head, name):
    model = create_segmenter(head, name, num_classes=5)
    images = jax.ShapeDtypeStruct((2, 97, 129, 3), np.float32)
    logits = jax.eval_shape(model.apply, abstract(model), images)
    assert (logits.shape, logits.dtype) == ((2, 97, 129, 5), np.float32)


@pytest.mark.parametrize(("name", "variant"), [("mobilenet_v4", "medium"), ("mnasnet", "a1")])
@pytest.mark.parametrize(
    "create", [partial(create_segmenter, "lraspp"), partial(create_detector, "ssdlite")]
)
def test_head_and_backbone_have_variants_of_their_own(create, name, variant):
    model = create(name, num_classes=5, variant=variant, head_variant="paper")
    assert (model.backbone.variant, model.head_variant) == (variant, "paper")
    options = options_of(model)
    assert (options["variant"], options["head_variant"]) == (variant, "paper")


@pytest.mark.parametrize(
    "create", [partial(create_segmenter, "lraspp"), partial(create_detector, "ssdlite")]
)
def test_variant_is_the_heads_where_the_backbone_has_none(create):
    assert create("v2", num_classes=5, variant="paper").head_variant == "paper"
    with pytest.raises(InputError, match="unknown head_variant 'timm'"):
        create("v2", num_classes=5, variant="timm")


@pytest.mark.parametrize("variant", ["torchvision", "paper"])
@pytest.mark.parametrize("size", [(784, 400), (97, 129)])
def test_gate_of_the_paper_is_a_map_on_large_images(variant, size):
    model = small(head_variant=variant)
    images = jax.ShapeDtypeStruct((1, *size, 3), np.float32)
    logits = jax.eval_shape(model.apply, abstract(model), images)
    assert logits.shape == (1, *size, 5)


def test_weights_of_a_classifier_fit_the_backbone(pair):
    _, variables = pair
    classifier = abstract(flaxmobile.create_model("v2", alpha=0.35))
    for collection, groups in classifier.items():
        own = variables[collection]["backbone"]
        assert jax.tree.map(np.shape, own) == {
            name: jax.tree.map(np.shape, groups[name]) for name in own
        }


def test_weights_directory_returns_the_same_network(pair, tmp_path):
    model, variables = pair
    options = options_of(model)
    name = next(name for name, head in SEGMENTERS.items() if type(model) is head)
    flaxmobile.save_weights(tmp_path / "w", name, options, variables)
    loaded, same = flaxmobile.load_weights(tmp_path / "w")
    assert loaded == model
    jax.tree.map(np.testing.assert_array_equal, same, variables)


def test_folding_and_compiled_inference_keep_the_outputs(pair):
    model, variables = pair
    images = images_of()
    expected = np.asarray(jax.jit(model.apply)(variables, images))
    folded, params = flaxmobile.fold_batch_norm(model, variables)
    assert set(params) == {"params"}
    assert folded.folded
    found = flaxmobile.jit_inference(folded, params)(images)
    assert_allclose(found, expected, atol=2e-4 * np.abs(expected).max())


def test_exported_program_gives_the_same_logits(tmp_path):
    model = small()
    variables = random_variables(model)
    flaxmobile.export(model, variables, tmp_path / "a", "stablehlo", image_size=64)
    images = images_of(64, 64)
    found = flaxmobile.load_exported(tmp_path / "a")(images)["logits"]
    expected = np.asarray(jax.jit(model.apply)(variables, images))
    assert_allclose(found, expected, atol=2e-4 * np.abs(expected).max())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"head": "unet"}, "unknown segmentation head 'unet'; accepted: lraspp, deeplab_v3"),
        ({"backbone": "vgg"}, "unknown model 'vgg'"),
        ({"num_classes": 0}, "num_classes is 0; accepted: 1 or more"),
        ({"head_variant": "timm"}, "unknown head_variant 'timm'; accepted: torchvision, paper"),
        ({"chanels": 64}, "unknown option of lraspp on mobilenet_v2 'chanels' .did you mean"),
        ({"channels": "many"}, "channels is 'many'; accepted: int"),
        ({"output_stride": 4}, "output_stride is 4; accepted: 8, 16, 32"),
    ],
)
def test_wrong_option_is_one_line(options, message):
    with pytest.raises(InputError, match=f"^{message}") as error:
        small(**options)
    assert "\n" not in str(error.value)
