from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from flaxmobile import create_backbone, create_model, fold_batch_norm, summarize
from flaxmobile.errors import InputError
from flaxmobile.layers import ConvNorm, round_channels
from flaxmobile.models.mobilenet_v2 import SHORTCUTS, InvertedResidual, SplitInvertedResidual
from tests.networks import numbered_blocks, random_variables, randomised


def normal(*shape):
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def conv_norm(variables, name, x, *, stride=1, dilation=1, activate=True):
    """Convolution, inference normalization and ReLU6 in the most direct way."""
    kernel = variables["params"][name]["conv"]["kernel"]
    pad = kernel.shape[0] // 2 * dilation
    y = lax.conv_general_dilated(
        x,
        kernel,
        (stride, stride),
        [(pad, pad), (pad, pad)],
        rhs_dilation=(dilation, dilation),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=x.shape[-1] // kernel.shape[2],
    )
    norm, stats = (
        jax.tree.map(np.asarray, variables[kind][name]["norm"])
        for kind in ("params", "batch_stats")
    )
    y = (np.asarray(y) - stats["mean"]) / np.sqrt(stats["var"] + 1e-5) * norm["scale"]
    y += norm["bias"]
    return np.clip(y, 0, 6) if activate else y


@pytest.mark.parametrize("linear", [True, False])
@pytest.mark.parametrize("shortcut", SHORTCUTS)
@pytest.mark.parametrize(
    ("features", "expansion", "stride", "dilation"),
    [(8, 6, 1, 1), (8, 6, 1, 2), (16, 6, 1, 1), (8, 6, 2, 1), (8, 1, 1, 1)],
)
def test_block_is_what_the_paper_draws(features, expansion, stride, dilation, shortcut, linear):
    block = InvertedResidual(
        features, expansion, stride=stride, dilation=dilation, shortcut=shortcut, linear=linear
    )
    x = normal(2, 8, 10, 8)
    variables = randomised(jax.eval_shape(block.init, jax.random.key(0), x))
    units = {"depthwise", "project"}
    units |= {"expand"} if expansion > 1 else set()
    units |= {"shortcut"} if shortcut == "projection" and stride == 1 else set()
    assert set(variables["params"]) == set(variables["batch_stats"]) == units

    expanded = conv_norm(variables, "expand", x) if expansion > 1 else x
    y = conv_norm(variables, "depthwise", expanded, stride=stride, dilation=dilation)
    if shortcut == "expansion" and stride == 1:
        y = y + expanded
    y = conv_norm(variables, "project", y, activate=not linear)
    if shortcut == "bottleneck" and stride == 1 and features == 8:
        y = y + x
    if shortcut == "projection" and stride == 1:
        y = y + conv_norm(variables, "shortcut", x, activate=False)
    actual = jax.jit(block.apply)(variables, x)
    np.testing.assert_allclose(actual, y, rtol=1e-5, atol=1e-5 * np.abs(y).max())


def test_an_unknown_shortcut_names_the_nearest():
    says = r"'bottelneck' \(did you mean 'bottleneck'\?\); accepted: bottleneck, .*projection"
    with pytest.raises(InputError, match=says):
        InvertedResidual(8, shortcut="bottelneck").init(jax.random.key(0), normal(1, 8, 8, 8))
    with pytest.raises(InputError, match=says):
        create_model("v2", shortcut="bottelneck")


def test_network_is_table_2():
    blocks = numbered_blocks(create_model("v2"))
    rows = [  # stage: t, c, n, s
        (1, 1, 16, 1, 1),
        (2, 6, 24, 2, 2),
        (3, 6, 32, 3, 2),
        (4, 6, 64, 4, 2),
        (5, 6, 96, 3, 1),
        (6, 6, 160, 3, 2),
        (7, 6, 320, 1, 1),
    ]
    expected = {
        (stage, block): (t, c, s if block == 1 else 1)
        for stage, t, c, n, s in rows
        for block in range(1, n + 1)
    }
    assert {
        place: (block.expansion, block.features, block.stride) for place, block in blocks.items()
    } == expected
    assert {block.dilation for block in blocks.values()} == {1}
    assert all(block.linear for block in blocks.values())


@pytest.mark.parametrize("shortcut", SHORTCUTS)
@pytest.mark.parametrize("output_stride", [8, 32])
def test_ablations_reach_every_block_but_the_first_of_a_stage_that_shrinks(shortcut, output_stride):
    blocks = numbered_blocks(
        create_model("v2", shortcut=shortcut, linear=False, output_stride=output_stride)
    )
    shrinking = {(stage, 1) for stage in (2, 3, 4, 6)}
    for place, block in blocks.items():
        assert block.shortcut == ("none" if place in shrinking else shortcut)
        assert not block.linear


@pytest.mark.parametrize(
    ("alpha", "widths", "last"),
    [
        (0.1, [8, 8, 8, 8, 8, 16, 16, 32], 1280),
        (0.33, [16, 8, 8, 16, 24, 32, 56, 104], 1280),
        (1.0, [32, 16, 24, 32, 64, 96, 160, 320], 1280),
        (1.4, [48, 24, 32, 48, 88, 136, 224, 448], 1792),
        (2.0, [64, 32, 48, 64, 128, 192, 320, 640], 2560),
    ],
)
def test_any_width_builds_and_the_last_layer_never_shrinks(alpha, widths, last):
    model = create_model("v2", alpha=alpha, num_classes=7)
    images = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
    params = jax.eval_shape(model.init, jax.random.key(0), images)["params"]
    names = ["stem", *(f"stage{number}_block1" for number in range(1, 8))]
    kernels = [params[name].get("project", params[name])["conv"]["kernel"] for name in names]
    assert [kernel.shape[-1] for kernel in kernels] == widths
    assert (
        params["head"]["conv"]["kernel"].shape[-1] == last == round_channels(1280 * max(1, alpha))
    )
    assert params["classifier"]["kernel"].shape == (last, 7)


def test_a_backbone_has_all_but_the_last_convolution_and_the_classifier():
    images = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)
    model, backbone = create_model("v2"), create_backbone("v2")
    whole, part = (
        jax.eval_shape(net.init, jax.random.key(0), images)["params"] for net in (model, backbone)
    )
    assert set(whole) - set(part) == {"head", "classifier"}
    shallow = create_backbone("v2", out_strides=(4, 8))
    assert set(jax.eval_shape(shallow.init, jax.random.key(0), images)["params"]) == {
        name for name in part if name == "stem" or name[5] in "123"
    }


def split_block(**options):
    """A block that expands 8 channels to 48, its input and its variables."""
    block = SplitInvertedResidual(8, **options)
    x = normal(2, 9, 10, 8)
    return block, x, randomised(jax.eval_shape(block.init, jax.random.key(0), x))


@pytest.mark.parametrize("folded", [False, True])
@pytest.mark.parametrize(
    ("stride", "shortcut", "linear", "padding"),
    [
        (1, "bottleneck", True, "symmetric"),
        (1, "expansion", False, "SAME"),
        (1, "projection", True, "SAME"),
        (2, "none", True, "SAME"),
        (2, "expansion", True, "symmetric"),
    ],
)
def test_a_split_block_gives_the_whole_ones_output(stride, shortcut, linear, padding, folded):
    block, x, variables = split_block(
        stride=stride,
        shortcut=shortcut,
        linear=linear,
        unit=partial(ConvNorm, padding=padding, folded=folded),
    )
    expected = jax.jit(block.apply)(variables, x)
    for split in (2, 3, 48):
        parts = block.clone(split=split)
        actual = jax.jit(parts.apply)(variables, x)
        scale = np.abs(expected).max()
        np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-5 * scale)
        assert "while" in jax.jit(parts.apply).lower(variables, x).as_text()


def test_split_leaves_training_and_the_parameters_alone():
    block, x, variables = split_block()
    parts = block.clone(split=4)
    assert jax.eval_shape(parts.init, jax.random.key(0), x) == jax.eval_shape(
        block.init, jax.random.key(0), x
    )
    whole, split = (
        jax.jit(partial(net.apply, train=True, mutable=["batch_stats"])).lower(variables, x)
        for net in (block, parts)
    )
    assert whole.as_text() == split.as_text()


def test_a_block_that_expands_nothing_is_not_split():
    block, x, variables = split_block(expansion=1)
    whole, split = (jax.jit(net.apply).lower(variables, x) for net in (block, block.clone(split=5)))
    assert whole.as_text() == split.as_text()


def test_the_gradient_of_inference_goes_through_the_parts():
    block, x, variables = split_block()
    whole, parts = (
        jax.grad(lambda x, net=net: jnp.square(net.apply(variables, x)).sum())(x)
        for net in (block, block.clone(split=4))
    )
    np.testing.assert_allclose(parts, whole, rtol=1e-4, atol=1e-5 * np.abs(whole).max())


def working_memory(network, variables, shape):
    images = jax.ShapeDtypeStruct(shape, jnp.float32)
    compiled = jax.jit(network.apply).lower(variables, images).compile()
    return compiled.memory_analysis().temp_size_in_bytes


def test_each_split_of_a_block_needs_less_memory():
    """Of the block with the widest tensor: 6 times 16 channels at 112×112."""
    block, shape = SplitInvertedResidual(24, stride=2), (1, 112, 112, 16)
    variables = jax.eval_shape(
        block.init, jax.random.key(0), jax.ShapeDtypeStruct(shape, jnp.float32)
    )
    one, two, four = (
        working_memory(block.clone(split=split), variables, shape) for split in (1, 2, 4)
    )
    assert two < 0.65 * one
    assert four < 0.4 * one


@pytest.mark.parametrize("folded", [False, True])
def test_a_split_network_gives_the_same_logits_in_less_memory(folded):
    """Half of what the widest block's expanded map takes, with the same padded beside it."""
    model = create_model("v2", num_classes=5)
    images, variables = normal(1, 224, 224, 3), random_variables(model)
    if folded:
        model, variables = fold_batch_norm(model, variables)
    results, memory = [], []
    for net in (model, model.clone(split=4)):
        compiled = jax.jit(net.apply).lower(variables, images).compile()
        results.append(compiled(variables, images))
        memory.append(compiled.memory_analysis().temp_size_in_bytes)
    scale = np.abs(results[0]).max()
    np.testing.assert_allclose(results[1], results[0], rtol=1e-4, atol=1e-4 * scale)
    assert memory[1] < min(memory[0], 0.5 * 2 * 112 * 112 * 96 * 4)


def test_split_is_counted_like_the_whole():
    whole, split = (summarize(create_model("v2", alpha=0.35, split=n), 64) for n in (1, 4))
    assert whole == split


@pytest.mark.parametrize(
    ("alpha", "split", "accepted"), [(1.0, 0, 48), (1.0, 5, 48), (1.0, -2, 48), (0.5, 32, 48)]
)
def test_a_split_that_does_not_divide_every_block_is_refused(alpha, split, accepted):
    message = f"split is {split}; accepted: a common divisor of .* multiples of {accepted}"
    with pytest.raises(InputError, match=message):
        create_model("v2", alpha=alpha, split=split)
    with pytest.raises(InputError, match=f"split is {split}; accepted: a divisor of 48"):
        SplitInvertedResidual(8, split=split).init(jax.random.key(0), normal(1, 8, 8, 8))
