import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import flaxmobile
from flaxmobile import create_backbone, create_model, summarize
from flaxmobile.errors import InputError
from flaxmobile.models.ic_conv import STAGES, ICConv
from tests.networks import abstract, random_variables, randomised

bases = pytest.mark.parametrize("base", ["resnet50", "mobilenet_v2"])


def normal(*shape):
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def mixed(channels, seed=0):
    return np.random.default_rng(seed).integers(1, 5, (channels, 2)).tolist()


def pattern_of(**options):
    """Three dilations, in every fourth layer: tracing and compiling take their time."""
    layers = create_model("ic_conv", **options).layers()
    three = [[1, 1], [2, 1], [1, 4]]
    return {layer: [three[i % 3] for i in range(layers[layer])] for layer in [*layers][::4]}


@pytest.mark.parametrize("padding", ["symmetric", "SAME"])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(("groups", "features"), [(1, 6), (4, 8)])
def test_each_channel_is_convolved_with_its_own_dilation(groups, features, stride, padding):
    x, dilations = normal(2, 11, 12, 4), tuple(map(tuple, mixed(features)))
    conv = ICConv(
        features, 3, stride, groups=groups, padding=padding, use_bias=False, dilations=dilations
    )
    variables = randomised(jax.eval_shape(conv.init, jax.random.key(0), x))
    kernel = variables["params"]["kernel"]
    assert kernel.shape == (3, 3, 4 // groups, features)
    y = jax.jit(conv.apply)(variables, x)
    for channel, (vertical, horizontal) in enumerate(dilations):
        alone = x if groups == 1 else x[..., channel // 2, None]
        pads = "SAME" if padding == "SAME" else [(vertical, vertical), (horizontal, horizontal)]
        expected = lax.conv_general_dilated(
            alone,
            kernel[..., channel, None],
            (stride, stride),
            pads,
            rhs_dilation=(vertical, horizontal),
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )
        np.testing.assert_allclose(y[..., channel], expected[..., 0], rtol=1e-4, atol=1e-5)


def test_equal_dilations_are_one_convolution():
    x = normal(1, 8, 8, 4)
    dilations = ((1, 2), (3, 1), (1, 2), (3, 1), (1, 2), (1, 1))
    conv = ICConv(6, 3, dilations=dilations)
    variables = jax.eval_shape(conv.init, jax.random.key(0), x)
    assert str(jax.make_jaxpr(conv.apply)(variables, x)).count("conv_general_dilated[") == 3


def test_dilations_that_lie_together_need_no_reordering():
    x = normal(1, 8, 8, 4)
    together, apart = (
        ICConv(4, 3, dilations=dilations)
        for dilations in (((1, 1), (1, 1), (1, 2), (3, 1)), ((1, 2), (1, 1), (3, 1), (1, 1)))
    )
    variables = jax.eval_shape(together.init, jax.random.key(0), x)
    counts = [
        str(jax.make_jaxpr(conv.apply)(variables, x)).count("gather[") for conv in (together, apart)
    ]
    assert counts[1] == counts[0] + 1


def test_groups_other_than_depthwise_are_refused():
    with pytest.raises(InputError, match=r"groups is 2; accepted: 1 or 4 \(depthwise\)"):
        ICConv(4, 3, groups=2, dilations=((1, 1),) * 4).init(jax.random.key(0), normal(1, 8, 8, 4))


def test_resnet50_has_torchvisions_counts():
    summary = summarize(create_model("ic_conv"), 224)
    assert (summary.params, summary.macs) == (25557032, 4089184256)


@bases
def test_a_pattern_changes_neither_parameters_nor_multiply_adds(base):
    options = {"base": base, "alpha": 0.1}
    plain = create_model("ic_conv", **options)
    dilated = create_model("ic_conv", **options, pattern=pattern_of(**options))
    assert abstract(dilated) == abstract(plain)
    assert summarize(dilated, 64).rows == summarize(plain, 64).rows


def test_mobilenet_base_is_mobilenet_v2():
    ours, theirs = (
        create_model("ic_conv", base="mobilenet_v2", alpha=0.1),
        create_model("v2", alpha=0.1, dropout_rate=0.0),
    )
    assert abstract(ours) == abstract(theirs)
    images = jax.ShapeDtypeStruct((2, 64, 64, 3), jnp.float32)
    programs = [jax.make_jaxpr(net.apply)(abstract(net), images) for net in (ours, theirs)]
    assert str(programs[0]) == str(programs[1])


@bases
def test_a_pattern_of_ones_is_the_plain_network(base):
    plain = create_model("ic_conv", base=base, alpha=0.1, num_classes=5)
    ones = {layer: [[1, 1]] * channels for layer, channels in plain.layers().items()}
    same, other = (
        create_model("ic_conv", base=base, alpha=0.1, num_classes=5, pattern=pattern)
        for pattern in (ones, pattern_of(base=base, alpha=0.1))
    )
    variables, images = random_variables(plain), normal(1, 64, 64, 3)
    expected, found, dilated = (
        jax.jit(net.apply)(variables, images) for net in (plain, same, other)
    )
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())
    assert np.abs(dilated - expected).max() > 0.01 * np.abs(expected).max()


def test_layers_are_every_3x3_convolution_but_the_stem():
    for base in STAGES:
        model = create_model("ic_conv", base=base)
        rows = summarize(model, 64).rows
        found = {row.path: row.output[-1] for row in rows if row.kind.endswith("3x3")}
        expected = {f"{layer}/conv": channels for layer, channels in model.layers().items()}
        assert expected == {path: c for path, c in found.items() if path != "stem/conv"}
        assert len(expected) == {"resnet50": 16, "resnet101": 33, "mobilenet_v2": 17}[base]


def test_backbone_has_resnets_maps():
    backbone = create_backbone("ic_conv")
    images = jax.ShapeDtypeStruct((1, 224, 224, 3), jnp.float32)
    features, _ = jax.eval_shape(backbone.init_with_output, jax.random.key(0), images)
    assert {stride: f.shape[1:] for stride, f in features.items()} == {
        2: (112, 112, 64), 4: (56, 56, 256), 8: (28, 28, 512), 16: (14, 14, 1024), 32: (7, 7, 2048),
    }  # fmt: skip
    shallow = abstract(create_backbone("ic_conv", out_strides=(2,)))
    assert set(shallow["params"]) == {"stem"}


def test_a_supernet_has_large_kernels_in_the_same_layers():
    plain, supernet = (create_model("ic_conv", alpha=0.1, supernet=d) for d in (0, 4))
    small, large = abstract(plain)["params"], abstract(supernet)["params"]
    assert large["stage2_block1"]["filter"]["conv"]["kernel"].shape == (9, 9, 16, 16)
    for layer in plain.layers():
        name, unit = layer.split("/")
        del small[name][unit]["conv"], large[name][unit]["conv"]
    assert small == large


def test_a_pattern_survives_a_weights_directory(tmp_path):
    pattern = pattern_of(alpha=0.1)
    options = {"alpha": 0.1, "num_classes": 5, "pattern": pattern}
    model = create_model("ic_conv", **options)
    variables = random_variables(model)
    flaxmobile.save_weights(tmp_path / "weights", "ic_conv", options, variables)
    loaded, found = flaxmobile.load_weights(tmp_path / "weights")
    assert loaded == model
    assert hash(loaded) == hash(model)
    images = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)
    assert str(jax.make_jaxpr(loaded.apply)(found, images)) == str(
        jax.make_jaxpr(model.apply)(variables, images)
    )


LAYER = "stage1_block1/filter"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"base": "resnet5"}, r"'resnet5' \(did you mean 'resnet50'\?\); accepted: resnet50, res"),
        ({"supernet": 7}, "supernet is 7; accepted: 0 to 6"),
        ({"supernet": -1}, "supernet is -1; accepted: 0 to 6"),
        ({"supernet": 2, "pattern": {}}, "supernet and pattern are given; accepted: one of them"),
        (
            {"pattern": "dilations.json"},
            "pattern is 'dilations.json'; accepted: Mapping or tuple of Mapping or None",
        ),
        ({"pattern": {"stage1_block1/filtr": []}}, "layer .*'stage1_block1/filtr'.*block1/filter"),
        ({"pattern": {"stage1_block4/filter": []}}, "unknown layer .*accepted: stage1_block1/filt"),
        ({"pattern": {3: []}}, "unknown layer of the dilation pattern 3"),
        ({"pattern": {LAYER: [[1, 1]] * 7}}, f"has 7 for {LAYER}; accepted: 8 entries, "),
        ({"pattern": {LAYER: 8}}, f"has 8 for {LAYER}; accepted: 8 entries"),
        (
            {"pattern": {LAYER: [[1, 1]] * 7 + [[0, 1]]}},
            r"\(0, 1\) for channel 7 of .* from 1 to 6",
        ),
        ({"pattern": {LAYER: [[1, 7]] * 8}}, r"has \(1, 7\) for channel 0 of .*; accepted: "),
        ({"pattern": {LAYER: [[1, 2.0]] * 8}}, r"has \(1, 2.0\) for channel 0"),
        ({"pattern": {LAYER: [[1, True]] * 8}}, r"has \(1, True\) for channel 0"),
        ({"pattern": {LAYER: [[1, 1, 1]] * 8}}, r"has \(1, 1, 1\) for channel 0"),
        ({"pattern": {LAYER: [2] * 8}}, "has 2 for channel 0"),
    ],
)
def test_options_that_the_network_does_not_offer_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        create_model("ic_conv", alpha=0.1, **options)
