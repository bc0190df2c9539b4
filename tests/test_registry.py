import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

import flaxmobile
from flaxmobile import registry
from tests.networks import (
    abstract,
    plain,
    random_variables,
    short_backbone,
    short_model,
    small_backbone,
    small_model,
)

MODELS = flaxmobile.list_models()
every_model = pytest.mark.parametrize("name", MODELS)
SCALABLE = [name for name in MODELS if "alpha" in registry.model_options(name)]


def _output(model, shape=None, dtype=np.float32):
    """Shape and dtype of what a network gives, without computing it."""
    least = model.min_image_size
    shape = (2, least, least, 3) if shape is None else shape
    images = jax.ShapeDtypeStruct(shape, dtype)
    return jax.eval_shape(model.apply, abstract(plain(model)), images)


@every_model
def test_spec_is_complete(name):
    spec = registry.get_spec(name)
    assert 2014 <= spec.year <= 2026
    assert spec.paper
    counts = flaxmobile.summarize(flaxmobile.create_model(name), spec.image_size)
    assert (spec.params, spec.macs) == (counts.params, counts.macs)
    assert spec.image_size >= spec.network.min_image_size
    assert (spec.top1 is None) == (not spec.top1_source)


@every_model
def test_every_alias_builds_the_same_network(name):
    for alias in (*registry.get_spec(name).aliases, name.replace("_", "-")):
        assert flaxmobile.create_model(alias) == flaxmobile.create_model(name)
        assert flaxmobile.create_backbone(alias) == flaxmobile.create_backbone(name)


def test_aliases_are_unique_and_hide_no_name():
    aliases = [alias for spec in registry.SPECS.values() for alias in spec.aliases]
    assert len(set(aliases)) == len(aliases)
    assert not set(aliases) & set(registry.SPECS)
    assert registry.resolve_name("v2") == "mobilenet_v2"


@pytest.mark.parametrize("create", [flaxmobile.create_model, flaxmobile.create_backbone])
@pytest.mark.parametrize(
    ("given", "nearest"), [("mobilnet_v2", "mobilenet_v2"), ("MobileNet_V2", "mobilenet_v2")]
)
def test_unknown_model_says_the_nearest_name_and_what_is_accepted(create, given, nearest):
    with pytest.raises(ValueError, match=f"unknown model '{given}'.*mean '{nearest}'.*accepted:"):
        create(given)


@every_model
def test_unknown_option_says_the_nearest_name_and_what_is_accepted(name):
    with pytest.raises(ValueError, match=f"{name} 'num_clases'.*mean 'num_classes'.*accepted:"):
        flaxmobile.create_model(name, num_clases=5)


@pytest.mark.parametrize("channels", [1, 4])
def test_images_may_have_other_channels(channels):
    model = flaxmobile.create_model("v2", alpha=0.35, in_channels=channels, num_classes=5)
    images = jnp.zeros((1, 32, 32, channels))
    variables = jax.eval_shape(model.init, jax.random.key(0), images)
    assert variables["params"]["stem"]["conv"]["kernel"].shape[2] == channels
    with pytest.raises(flaxmobile.InputError, match=rf"accepted: \[n, h, w, {channels}\]"):
        jax.eval_shape(model.apply, variables, jnp.zeros((1, 32, 32, 3)))


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("v2", {"in_channels": 0}),
        ("inception_v1", {"in_channels": 1, "transform_input": True}),
        ("inception_v3", {"in_channels": 4, "transform_input": True}),
    ],
)
def test_channels_that_a_network_cannot_have_are_refused(name, options):
    with pytest.raises(flaxmobile.InputError, match="in_channels is"):
        flaxmobile.create_model(name, **options)


@pytest.mark.parametrize("option", ["pretrained", "weights"])
def test_published_weights_have_a_function_of_their_own(option):
    with pytest.raises(flaxmobile.InputError, match=rf"no option {option};.* load_pretrained\("):
        flaxmobile.create_model("v2", **{option: True})


@pytest.mark.parametrize("option", ["out_strides", "parent"])
def test_fields_that_are_not_options_are_refused(option):
    with pytest.raises(flaxmobile.InputError, match=f"unknown option .*{option!r}"):
        flaxmobile.create_model("v2", **{option: None})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"alpha": "1.4"}, "alpha is '1.4'; accepted: float"),
        ({"alpha": None}, "alpha is None; accepted: float"),
        ({"alpha": True}, "alpha is True; accepted: float"),
        ({"num_classes": 5.0}, "num_classes is 5.0; accepted: int"),
        ({"num_classes": True}, "num_classes is True; accepted: int"),
        ({"frozen_norm": 1}, "frozen_norm is 1; accepted: True or False"),
        ({"axis_name": 3}, "axis_name is 3; accepted: str or NoneType"),
        ({"output_stride": "16"}, "output_stride is '16'; accepted: int"),
    ],
)
def test_a_value_of_the_wrong_type_is_refused(options, message):
    with pytest.raises(flaxmobile.InputError, match=message):
        flaxmobile.create_model("v2", **options)


@pytest.mark.parametrize("name", SCALABLE)
@pytest.mark.parametrize("alpha", [0, 0.0, -1.0, float("nan"), float("inf"), -float("inf")])
def test_alpha_must_be_a_number_above_0(name, alpha):
    accepted = r"(.*above 0|[\d., ]+)$"  # or the widths that it has
    with pytest.raises(flaxmobile.InputError, match=f"alpha is {alpha}; accepted: {accepted}"):
        flaxmobile.create_model(name, alpha=alpha)


@every_model
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_classes": -1}, "num_classes is -1; accepted: 0 or more"),
        ({"dropout_rate": 1.0}, "dropout_rate is 1.0; accepted: 0 or more, below 1"),
        ({"dense_layers": ((0, "relu"),)}, r"dense_layers is \(0, 'relu'\); accepted: pairs"),
        ({"dense_layers": ((9, "rely"),)}, "unknown .* 'rely'.*'relu'"),
        ({"dropout_rate": -0.1}, "dropout_rate is -0.1"),
        ({"dropout_rate": float("nan")}, "dropout_rate is nan"),
        ({"norm_momentum": 2.0}, "norm_momentum is 2.0; accepted: 0 to 1"),
        ({"norm_epsilon": -1.0}, "norm_epsilon is -1.0; accepted: 0 or more"),
        ({"padding": "SAME"}, "unknown padding 'SAME'.*accepted: symmetric, same"),
        ({"output_stride": 4}, "output_stride is 4; accepted: .*(32|16)"),
    ],
)
def test_an_option_that_no_network_offers_is_refused(name, options, message):
    with pytest.raises(flaxmobile.InputError, match=message):
        flaxmobile.create_model(name, **options)


@every_model
@pytest.mark.parametrize("create", [flaxmobile.create_model, flaxmobile.create_backbone])
def test_an_output_stride_that_the_network_cannot_give_is_refused(name, create):
    offered = flaxmobile.create_model(name).output_strides
    accepted = ", ".join(map(str, offered))
    for stride in {0, 2, 4, 8, 12, 16, 32, 64} - set(offered):
        message = f"output_stride is {stride}; accepted: {accepted}$"
        with pytest.raises(flaxmobile.InputError, match=message):
            create(name, output_stride=stride)


@pytest.mark.parametrize("dtype", ["bfloat16", jnp.bfloat16, jnp.dtype("bfloat16")])
def test_dtype_is_a_type_or_its_name(dtype):
    assert flaxmobile.create_model("v2", dtype=dtype).dtype == jnp.bfloat16


@pytest.mark.parametrize(
    ("dtype", "message"),
    [
        ("float23", r"unknown dtype 'float23' \(did you mean 'float32'\?\); accepted: float32, bf"),
        ("int32", "unknown dtype 'int32'.*accepted: float32"),
        (jnp.uint8, "unknown dtype 'uint8'"),
        (None, "unknown dtype None"),
        (5, "unknown dtype 5"),
    ],
)
def test_other_dtypes_are_refused(dtype, message):
    with pytest.raises(flaxmobile.InputError, match=message):
        flaxmobile.create_model("v2", dtype=dtype)


@pytest.mark.parametrize(
    ("strides", "message"),
    [
        ({"out_strides": (3,)}, "out_strides has 3; output_stride 32 gives 2, 4, 8, 16, 32"),
        ({"out_strides": (4, 64)}, "out_strides has 64"),
        ({"out_strides": ()}, "out_strides has no stride"),
        ({"out_strides": (32,), "output_stride": 16}, "has 32; output_stride 16 gives 2, 4, 8, 16"),
        ({"out_strides": ("4",)}, r"out_strides is \('4',\); accepted: tuple of int"),
        ({"out_strides": ("4", 64)}, r"out_strides is \('4', 64\); accepted: tuple of int"),
        ({"out_strides": 8}, "out_strides is 8; accepted: tuple of int"),
        ({"out_strides": 4}, "out_strides is 4; accepted: "),
        ({"output_stride": 12}, "output_stride is 12; accepted: 8, 16, 32"),
        ({"output_stride": "16"}, "output_stride is '16'; accepted: int"),
    ],
)
def test_strides_that_the_network_cannot_give_are_refused(strides, message):
    with pytest.raises(flaxmobile.InputError, match=message):
        flaxmobile.create_backbone("v2", **strides)


CROPS_EDGES = {
    "inception_v1": ("symmetric",),
    "inception_v3": ("symmetric", "same"),
    "inception_v4": ("symmetric", "same"),
    "inception_resnet_v2": ("symmetric", "same"),
    "xception": ("symmetric", "same"),
}
"""Under these paddings they still have convolutions or pooling without padding."""

STRIDES = [
    (name, stride) for name in MODELS for stride in flaxmobile.create_model(name).output_strides
]


@pytest.mark.parametrize("padding", ["symmetric", "same"])
@pytest.mark.parametrize(("name", "output_stride"), STRIDES)
def test_maps_have_the_size_over_the_stride_rounded_up(name, output_stride, padding):
    """Of every stride up to the output stride, for any size from the smallest."""
    backbone = short_backbone(name, output_stride=output_stride, padding=padding)
    lost = 5 if padding in CROPS_EDGES.get(name, ()) else 0
    least = backbone.min_image_size
    for size in ((least, least + 13), (2 * least + 1, 3 * least)):
        features = _output(backbone, (1, *size, 3))
        assert tuple(features) == tuple(s for s in backbone.endpoint_strides if s <= output_stride)
        for stride, feature in features.items():
            for given, found in zip(size, feature.shape[1:3], strict=True):
                assert -(-given // stride) - lost <= found <= -(-given // stride)


@every_model
def test_groups_that_depend_on_the_number_of_classes_are_the_heads(name):
    few, many = (abstract(short_model(name, num_classes=n))["params"] for n in (5, 6))
    changed = {group for group in few if few[group] != many[group]}
    assert changed == set(registry.get_spec(name).network.heads)


@every_model
@pytest.mark.parametrize("axis", [1, 2])
def test_an_image_below_the_networks_minimum_is_refused(name, axis):
    model = short_model(name)
    shape = [1, 400, 400, 3]
    shape[axis] = model.min_image_size - 1
    message = f"shape {shape}; accepted: [n, h, w, 3] with h and w of at least {shape[axis] + 1}"
    with pytest.raises(flaxmobile.InputError, match=re.escape(message)):
        _output(model, shape)
    shape[axis] += 1
    assert _output(model, shape).shape == (1, 5)


@every_model
@pytest.mark.parametrize(
    ("shape", "dtype", "message"),
    [
        ((400, 400, 3), np.float32, r"shape \[400, 400, 3\]; accepted: \[n, h, w, 3\]"),
        ((1, 1, 400, 400, 3), np.float32, r"shape \[1, 1, 400, 400, 3\]; accepted: "),
        ((1, 400, 400, 1), np.float32, r"shape \[1, 400, 400, 1\]; accepted: \[n, h, w, 3\]"),
        ((1, 3, 400, 400), np.float32, r"shape \[1, 3, 400, 400\]; accepted: \[n, h, w, 3\]"),
        ((1, 400, 400, 3), np.uint8, "dtype uint8; accepted: floating point, normalized"),
        ((1, 400, 400, 3), np.bool_, "dtype bool; accepted: floating point"),
    ],
)
def test_images_of_the_wrong_shape_or_dtype_are_refused(name, shape, dtype, message):
    with pytest.raises(flaxmobile.InputError, match=message):
        _output(short_model(name), shape, dtype)


@every_model
@pytest.mark.parametrize(
    ("dtype", "num_classes"), [("bfloat16", 5), ("bfloat16", 0), ("float16", 5)]
)
def test_logits_pooled_features_and_parameters_are_float32(name, dtype, num_classes):
    model = short_model(name, dtype=dtype, num_classes=num_classes)
    size = model.min_image_size
    images = jax.ShapeDtypeStruct((2, size, size, 3), np.float32)
    output, variables = jax.eval_shape(model.init_with_output, jax.random.key(0), images)
    assert (output.ndim, output.dtype) == (2, jnp.float32)
    assert output.shape[1] == num_classes or not num_classes
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}


@every_model
def test_backbone_features_are_in_dtype(name):
    features = _output(short_backbone(name, dtype="bfloat16"))
    assert {feature.dtype for feature in features.values()} == {jnp.dtype("bfloat16")}


@every_model
def test_no_classes_give_the_pooled_features_that_the_classifier_reads(name):
    model, headless = short_model(name), short_model(name, num_classes=0)
    variables = random_variables(model)
    size = model.min_image_size
    images = np.random.default_rng(0).normal(size=(2, size, size, 3)).astype(np.float32)
    both = jax.jit(lambda v, x: (headless.apply(v, x), model.apply(v, x)))
    pooled, logits = both(variables, images)
    head = variables["params"]["classifier"]
    assert pooled.shape == (2, head["kernel"].shape[0])
    expected = np.asarray(pooled, np.float64) @ head["kernel"] + head.get("bias", np.zeros(5))[None]
    np.testing.assert_allclose(logits, expected, atol=1e-5 * np.abs(expected).max())


def test_numpy_scalars_are_numbers():
    """Such as `labels.max() + 1`; kept as Python's, which JSON can hold."""
    options = {"num_classes": np.int64(7), "alpha": np.float64(0.5), "frozen_norm": np.bool_(True)}
    found = registry.options_of(flaxmobile.create_model("v2", **options))
    assert {name: found[name] for name in options} == options
    assert json.loads(json.dumps({name: found[name] for name in options}))
    backbone = flaxmobile.create_backbone("v2", out_strides=np.asarray([4, 8]).tolist())
    assert backbone.out_strides == (4, 8)
    for strides in (np.asarray([4, 8]), list(np.asarray([4, 8]))):
        assert flaxmobile.create_backbone("v2", out_strides=strides) == backbone


class Segmenter(nn.Module):
    """A module of a user's own."""

    @nn.compact
    def __call__(self, images):
        backbone = flaxmobile.create_backbone("v2", out_strides=(8, 16), name="backbone")
        features = backbone(images)
        return nn.Dense(backbone.channels[8], name="head")(features[8])


def test_a_submodule_may_have_a_name_and_says_its_channels():
    images = jax.ShapeDtypeStruct((1, 32, 32, 3), np.float32)
    params = jax.eval_shape(Segmenter().init, jax.random.key(0), images)["params"]
    assert set(params) == {"backbone", "head"}
    assert flaxmobile.create_model("v2", name="net").name == "net"


def test_channels_are_those_of_the_maps():
    backbone = small_backbone(out_strides=(4, 32), taps=("stage6_block1/expand",))
    expected = {name: each.shape[-1] for name, each in _output(backbone).items()}
    assert backbone.channels == expected
    with pytest.raises(flaxmobile.InputError, match="a classifier has no maps"):
        _ = small_model().channels


@pytest.mark.parametrize("compiled", [False, True])
def test_images_in_lists_are_refused(compiled):
    """Tensors of torch: tests/test_preprocessing.py."""
    model = short_model()
    variables = random_variables(model)
    call = flaxmobile.jit_inference(model) if compiled else model.apply
    with pytest.raises(flaxmobile.InputError, match=r"images are of type .*Preprocessing"):
        call(variables, [[[[0.5]]]])


def test_train_must_be_static():
    model = short_model()
    images = np.zeros((1, 32, 32, 3), np.float32)
    with pytest.raises(flaxmobile.InputError, match='static_argnames="train"'):
        jax.jit(model.apply)(random_variables(model), images, train=True)
