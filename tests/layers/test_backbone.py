"""The walk over a network's blocks: named taps inside them, and the native form of operations."""

from collections import OrderedDict

import jax
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

import flaxmobile
from tests.networks import abstract, random_variables, short_backbone, short_model

every_model = pytest.mark.parametrize("name", flaxmobile.list_models())

SSDLITE = {"mobilenet_v2": 576, "mobilenet_v3_large": 672, "mobilenet_v3_small": 288}
"""Channels of the expansion in the first block of stride 32, on a map of stride 16."""


def batch(count=2, size=64):
    return np.random.default_rng(0).normal(size=(count, size, size, 3)).astype(np.float32)


def shapes(model):
    """Shapes of the model's outputs, and of everything that Flax captures inside it."""
    size = model.min_image_size + 1
    images = jax.ShapeDtypeStruct((2, size, size, 3), np.float32)

    def run(variables, images):
        return model.apply(variables, images, capture_intermediates=True, mutable="intermediates")

    outputs, captured = jax.eval_shape(run, abstract(model), images)
    return outputs, captured["intermediates"]


def unit_paths(params):
    """Paths of the units (convolution and normalization) inside the blocks."""
    leaves = flatten_dict(params, sep="/")
    units = [path.removesuffix("/conv/kernel") for path in leaves if path.endswith("/conv/kernel")]
    return [path for path in units if "/" in path]


@every_model
def test_every_block_and_every_unit_inside_it_can_be_tapped(name):
    backbone = short_backbone(name)
    units = [path for path in unit_paths(abstract(backbone)["params"]) if "/" in path]
    blocks = [
        block.name for block in backbone.blocks() if block.name in abstract(backbone)["params"]
    ]
    assert units
    assert blocks
    outputs, captured = shapes(backbone.clone(taps=(*blocks, *units)))
    for tap in (*blocks, *units):
        found = captured
        for part in tap.split("/"):
            found = found[part]
        assert outputs[tap].shape == found["__call__"][0].shape, tap


@pytest.mark.parametrize("name", SSDLITE)
def test_ssdlite_reads_the_expansion_of_the_first_block_of_stride_32(name):
    model = flaxmobile.create_model(name)
    first = next(place for place in model.places() if place.geometry.total == 32)
    tap = f"{first.name}/expand"
    backbone = flaxmobile.create_backbone(name, out_strides=(32,), taps=(tap,))
    images = jax.ShapeDtypeStruct((1, 320, 320, 3), np.float32)
    features = jax.eval_shape(backbone.apply, abstract(backbone), images)
    assert list(features) == [32, tap]
    assert features[tap].shape == (1, 20, 20, SSDLITE[name])


def test_a_tap_is_what_its_unit_gives_however_the_blocks_are_run():
    taps = ("stage3_block1/expand", "stage3_block2", "stem")
    backbone = short_backbone("mobilenet_v2", out_strides=(8,), taps=taps)
    variables, images = random_variables(backbone), batch(8)

    def captured(backbone, **options):
        return backbone.apply(
            variables, images, capture_intermediates=True, mutable=["intermediates"], **options
        )

    features, tree = jax.jit(captured, static_argnums=0)(backbone)
    inside = tree["intermediates"]
    expected = OrderedDict(
        {
            8: inside["stage3_block2"]["__call__"][0],
            taps[0]: inside["stage3_block1"]["expand"]["__call__"][0],
            taps[1]: inside["stage3_block2"]["__call__"][0],
            taps[2]: inside["stem"]["__call__"][0],
        }
    )
    jax.tree.map(np.testing.assert_array_equal, features, expected)
    for other in (backbone.clone(chunk_bytes=2**10), backbone.clone(native=True)):
        found = jax.jit(other.apply)(variables, images)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, 1e-4, 1e-4), found, expected)


@pytest.mark.parametrize("remat", [False, True])
def test_gradients_flow_through_a_tap(remat):
    taps = ("stage4_block1/expand",)
    backbone = short_backbone("mobilenet_v2", out_strides=(), taps=taps).clone(remat=remat)
    variables, images = random_variables(backbone), batch()

    @jax.jit
    def gradients(params):
        def loss(params):
            tree = {**variables, "params": params}
            features, _ = backbone.apply(tree, images, train=True, mutable=["batch_stats"])
            return features[taps[0]].mean()

        return jax.grad(loss)(params)

    found = gradients(variables["params"])
    assert np.abs(found["stage4_block1"]["expand"]["conv"]["kernel"]).max() > 0
    assert np.abs(found["stage4_block1"]["project"]["conv"]["kernel"]).max() == 0


def test_a_tap_alone_needs_no_deeper_block():
    backbone = flaxmobile.create_backbone("v2", out_strides=(), taps=("stage3_block1/expand",))
    blocks = set(abstract(backbone)["params"])
    assert "stage3_block1" in blocks
    assert "stage3_block2" not in blocks


@pytest.mark.parametrize(
    ("taps", "message"),
    [
        (
            ("stage9_block1",),
            "unknown tap 'stage9_block1' .did you mean 'stage.*accepted: stem, st",
        ),
        (("expand",), "unknown tap 'expand'.*accepted: stem, stage1_block1"),
        (3, "taps is 3; accepted: tuple of str"),
        ((3,), r"taps is \(3,\); accepted: tuple of str"),
    ],
)
def test_a_tap_in_no_block_is_refused(taps, message):
    with pytest.raises(flaxmobile.InputError, match=message):
        flaxmobile.create_backbone("v2", taps=taps)


def test_a_tap_of_a_unit_that_the_block_has_not_is_refused():
    backbone = flaxmobile.create_backbone("v2", taps=("stage1_block1/expand",))
    accepted = "stage1_block1/depthwise, stage1_block1/project, stage1_block1"
    with pytest.raises(flaxmobile.InputError, match=f"'stage1_block1/expand'.*: {accepted}"):
        abstract(backbone)


def test_taps_inside_blocks_need_whole_blocks():
    with pytest.raises(flaxmobile.InputError, match="split is 2; accepted: 1 with taps inside"):
        flaxmobile.create_backbone("v2", split=2, taps=("stage3_block1/expand",))


@every_model
def test_native_operations_leave_no_choice_of_a_platform(name):
    """One convolution for each layer, on a CPU too: what converters to other formats expect."""
    model = short_model(name)
    images = jax.ShapeDtypeStruct((1, model.min_image_size, model.min_image_size, 3), np.float32)
    variables = abstract(model)

    def program(function):
        return jax.jit(function).lower(variables, images).as_text()

    leaves = flatten_dict(variables["params"])
    layers = [path for path in leaves if path[-1] == "kernel" and leaves[path].ndim == 4]
    executed = [path for path in layers if not path[0].startswith("auxiliary")]
    native = model.clone(native=True)
    for text in (program(native.apply), program(flaxmobile.jit_inference(native))):
        assert "stablehlo.case" not in text
        assert text.count("stablehlo.convolution") >= len(executed)
    assert "stablehlo.case" in program(model.apply)
