"""MobileNet V2: the paper's ablations, its sizes, and dilation in place of stride."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util

from flaxmobile import InputError, create_backbone, create_model
from flaxmobile.layers import relu6
from flaxmobile.models.mobilenet_v2 import SHORTCUTS, InvertedResidual
from flaxmobile.weights import abstract_variables
from tests.networks import random_variables, randomised

IMAGES = jax.random.normal(jax.random.key(7), (2, 8, 8, 16))


def block(**options):
    """A block with random variables; its output, and its named intermediate results."""
    module = InvertedResidual(**{"features": 16, "expansion": 2, **options})
    variables = randomised(module.init(jax.random.key(0), IMAGES))
    output, state = module.apply(variables, IMAGES, capture_intermediates=True)
    flat = traverse_util.flatten_dict(state["intermediates"], sep="/")
    return output, {name: value[0] for name, value in flat.items()}, variables


def test_the_shortcut_between_bottlenecks_adds_the_input():
    output, inside, _ = block()
    np.testing.assert_allclose(output, inside["project/__call__"] + IMAGES, atol=1e-6)


@pytest.mark.parametrize("options", [{"stride": 2}, {"features": 24}, {"shortcut": "none"}])
def test_there_is_no_shortcut_where_shapes_differ_or_none_is_wanted(options):
    output, inside, _ = block(**options)
    np.testing.assert_array_equal(output, inside["project/__call__"])


def test_the_shortcut_between_expansions_adds_before_the_projection():
    output, inside, variables = block(shortcut="expansion")
    np.testing.assert_array_equal(output, inside["project/__call__"])
    wide = inside["expand/__call__"] + inside["depthwise/__call__"]
    kernel = variables["params"]["project"]["conv"]["kernel"][0, 0]
    np.testing.assert_allclose(inside["project/conv/__call__"], wide @ kernel, rtol=1e-4, atol=1e-4)


def test_the_projection_shortcut_adds_a_convolved_input_in_every_stride_1_block():
    output, inside, variables = block(shortcut="projection", features=24)
    added = inside["project/__call__"] + inside["shortcut/__call__"]
    np.testing.assert_allclose(output, added, atol=1e-6)
    assert variables["params"]["shortcut"]["conv"]["kernel"].shape == (1, 1, 16, 24)
    assert "shortcut" not in block(shortcut="projection", stride=2)[2]["params"]


def test_the_bottleneck_is_linear_unless_it_is_not_wanted():
    linear, inside, _ = block(shortcut="none")
    clipped, _, _ = block(shortcut="none", linear=False)
    assert float(linear.min()) < 0
    np.testing.assert_allclose(clipped, relu6(inside["project/__call__"]), atol=1e-6)


def test_expansion_1_has_no_expansion_layer():
    assert set(block(expansion=1)[2]["params"]) == {"depthwise", "project"}


@pytest.mark.parametrize("shortcut", SHORTCUTS)
@pytest.mark.parametrize("linear", [True, False])
def test_the_network_takes_the_ablations(shortcut, linear):
    variables = abstract_variables(create_model("v2", shortcut=shortcut, linear=linear))
    projections = [name for name, group in variables["params"].items() if "shortcut" in group]
    stride_1 = ["stage1_block1", "stage5_block1", "stage7_block1"]
    stride_1 += [f"stage{s}_block{b}" for s, n in ((2, 2), (3, 3), (4, 4), (5, 3), (6, 3))
                 for b in range(2, n + 1)]  # fmt: skip
    assert sorted(projections) == (sorted(stride_1) if shortcut == "projection" else [])


def test_unknown_shortcut_is_refused():
    with pytest.raises(InputError, match="did you mean 'bottleneck'"):
        create_model("v2", shortcut="bottlneck")
    with pytest.raises(InputError, match="did you mean 'bottleneck'"):
        block(shortcut="bottlneck")


@pytest.mark.parametrize(
    ("alpha", "stem", "last_stage", "head"),
    [(0.1, 8, 32, 1280), (0.33, 16, 104, 1280), (1.0, 32, 320, 1280), (2.0, 64, 640, 2560)],
)
def test_any_width_above_zero(alpha, stem, last_stage, head):
    params = abstract_variables(create_model("v2", alpha=alpha))["params"]
    assert params["stem"]["conv"]["kernel"].shape[-1] == stem
    assert params["stage7_block1"]["project"]["conv"]["kernel"].shape[-1] == last_stage
    assert params["classifier"]["kernel"].shape == (head, 1000)


@pytest.mark.parametrize("size", [(32, 32), (33, 47), (64, 32), (97, 161)])
def test_any_size_from_32(size):
    backbone = create_backbone("v2", alpha=0.1)
    images = jnp.zeros((1, *size, 3))
    features = jax.eval_shape(lambda: backbone.init_with_output(jax.random.key(0), images)[0])
    for stride, feature in features.items():
        assert feature.shape[1:3] == tuple(-(-side // stride) for side in size)


@pytest.fixture(scope="module")
def strided():
    """The ordinary network at 64×64 and its features."""
    backbone = create_backbone("v2", alpha=0.1)
    images = jax.random.normal(jax.random.key(1), (1, 64, 64, 3))
    variables = random_variables(backbone)
    return images, variables, jax.jit(backbone.apply)(variables, images)


@pytest.mark.parametrize(("output_stride", "skip"), [(16, {32: 2}), (8, {16: 2, 32: 4})])
def test_dilation_computes_the_strided_features_and_those_between(strided, output_stride, skip):
    """Under symmetric padding, the dilated map at every skip-th pixel is the strided map."""
    images, variables, features = strided
    backbone = create_backbone("v2", alpha=0.1, output_stride=output_stride)
    dilated = jax.jit(backbone.apply)(variables, images)
    assert max(dilated) == output_stride
    last = dilated[output_stride]
    assert last.shape[1] == 64 // output_stride
    step = skip[32]
    np.testing.assert_allclose(last[:, ::step, ::step], features[32], rtol=1e-4, atol=1e-4)
    for stride in set(dilated) - {output_stride}:
        np.testing.assert_array_equal(dilated[stride], features[stride])


def test_the_dilated_network_has_the_same_variables():
    trees = [abstract_variables(create_model("v2", output_stride=s)) for s in (8, 16, 32)]
    assert trees[0] == trees[1] == trees[2]


def test_tensorflow_padding_differs_from_symmetric(strided):
    images, variables, features = strided
    backbone = create_backbone("v2", alpha=0.1, out_strides=(4,), padding="same")
    same = jax.jit(backbone.apply)(variables, images)
    assert same[4].shape == features[4].shape
    assert not np.allclose(same[4], features[4])
