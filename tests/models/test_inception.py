"""Inception V1, V2 and V3: structure, flavours, auxiliary classifiers, options."""

import json
from functools import cache, partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from flaxmobile import InputError, create_backbone, create_model, summarize
from flaxmobile.layers import AUX_LOGITS, to_symmetric_range
from flaxmobile.models import inception_v1
from tests.networks import abstract, random_variables, short_model
from tests.xla import THOROUGH

ORACLES = json.loads((Path(__file__).parents[1] / "data" / "oracles.json").read_text())
NAMES = ("inception_v1", "inception_v2", "inception_v3")
every_network = pytest.mark.parametrize("name", NAMES)
with_auxiliary = pytest.mark.parametrize("name", ["inception_v1", "inception_v3"])


@cache
def images(size):
    return np.random.default_rng(0).normal(size=(2, size, size, 3)).astype(np.float32)


def maps_of(model, size):
    """Size and channels of every module's output in the order of execution."""
    names = [block.name for block in model.blocks() if block.name.startswith(("inc", "mixed"))]
    images = jax.ShapeDtypeStruct((1, size, size, 3), "f")
    maps, _ = jax.eval_shape(
        model.clone(taps=tuple(names)).init_with_output, jax.random.key(0), images
    )
    return {name: (maps[name].shape[1], maps[name].shape[3]) for name in names}


@every_network
def test_base_has_as_many_parameters_as_tf_slims(name):
    """TF-slim counts the running statistics; it has no scales."""
    rows = summarize(create_model(name, num_classes=0)).rows
    count = sum(3 * row.output[-1] if row.kind == "norm" else row.params for row in rows)
    assert count == ORACLES["published"]["inception_base_params"][name]


def test_caffes_bn_inception_has_as_many_parameters_as_is_published():
    """pytorchcv and others count 11,295,240, among them the biases that we leave out."""
    rows = summarize(create_model("inception_v2", flavour="caffe")).rows
    biases = sum(row.output[-1] for row in rows if row.kind == "norm")
    assert sum(row.params for row in rows) + biases == 11295240


@pytest.mark.parametrize("flavour", inception_v1.FLAVOURS)
@pytest.mark.parametrize("padding", ["symmetric", "same"])
def test_inception_v1_is_table_1(flavour, padding):
    assert maps_of(create_model("inception_v1", flavour=flavour, padding=padding), 224) == {
        "inception3a": (28, 256),
        "inception3b": (28, 480),
        "inception4a": (14, 512),
        "inception4b": (14, 512),
        "inception4c": (14, 512),
        "inception4d": (14, 528),
        "inception4e": (14, 832),
        "inception5a": (7, 832),
        "inception5b": (7, 1024),
    }


@pytest.mark.parametrize(("flavour", "wide"), [("slim", 576), ("paper", 608), ("caffe", 608)])
@pytest.mark.parametrize("padding", ["symmetric", "same"])
def test_inception_v2_is_figure_5(flavour, wide, padding):
    assert maps_of(create_model("inception_v2", flavour=flavour, padding=padding), 224) == {
        "inception3a": (28, 256),
        "inception3b": (28, 320),
        "inception3c": (14, 576),
        "inception4a": (14, 576),
        "inception4b": (14, 576),
        "inception4c": (14, wide),
        "inception4d": (14, wide),
        "inception4e": (7, 448 + wide),
        "inception5a": (7, 1024),
        "inception5b": (7, 1024),
    }


def test_inception_v3_is_table_1():
    assert maps_of(create_model("inception_v3"), 299) == {
        "mixed5b": (35, 256),
        "mixed5c": (35, 288),
        "mixed5d": (35, 288),
        **{f"mixed6{letter}": (17, 768) for letter in "abcde"},
        "mixed7a": (8, 1280),
        "mixed7b": (8, 2048),
        "mixed7c": (8, 2048),
    }


@pytest.mark.parametrize(("flavour", "kernel"), [("torchvision", 3), ("paper", 5)])
def test_third_branch_of_inception_v1(flavour, kernel):
    variables = abstract(create_model("inception_v1", flavour=flavour))
    unit = variables["params"]["inception4a"]["branch5x5"]
    assert unit["conv"]["kernel"].shape == (kernel, kernel, 16, 48)
    assert ("bias" in unit["conv"]) == ("norm" not in unit) == (flavour == "paper")
    assert ("batch_stats" in variables) == (flavour == "torchvision")


SEPARABLE = {"stem_depthwise": (7, 7, 1, 24), "stem_pointwise": (1, 1, 24, 64)}


@pytest.mark.parametrize(
    ("flavour", "shapes"),
    [("slim", SEPARABLE), ("paper", SEPARABLE), ("caffe", {"stem": (7, 7, 3, 64)})],
)
def test_first_layer_of_inception_v2(flavour, shapes):
    params = abstract(create_model("inception_v2", flavour=flavour))["params"]
    found = {name: group for name, group in params.items() if name.startswith("stem")}
    kernels = {name: group.get("conv", group)["kernel"].shape for name, group in found.items()}
    assert kernels == shapes
    assert "bias" not in found.get("stem_depthwise", {})
    last = found[list(shapes)[-1]]
    assert ("bias" in last["conv"]) == ("norm" not in last) == (flavour == "slim")


@every_network
def test_no_layer_is_thinner_than_16_channels(name):
    options = {"flavour": "caffe"} if name == "inception_v2" else {}

    def params(alpha):
        model = create_model(name, alpha=alpha, **options)
        return flatten_dict(abstract(model)["params"], sep="/")

    whole = params(1.0)
    for alpha, factor in ((0.01, 0), (0.75, 0.75), (2.0, 2)):
        thin = params(alpha)
        for path, leaf in whole.items():
            if path.endswith("conv/kernel"):
                assert thin[path].shape[-1] == max(16, int(factor * leaf.shape[-1])), path


@with_auxiliary
def test_auxiliary_logits_are_for_training_alone(name):
    model = short_model(name)
    variables = random_variables(model)
    plain = model.clone(aux_logits=False)
    x = images(model.min_image_size)
    heads = {group for group in variables["params"] if group.startswith("auxiliary")}
    assert len(heads) == {"inception_v1": 2, "inception_v3": 1}[name]

    def call(model, train):
        mutable = [AUX_LOGITS, "batch_stats"] if train else [AUX_LOGITS]
        rngs = {"dropout": jax.random.key(0)}
        return partial(model.apply, train=train, mutable=mutable, rngs=rngs)

    def run(model):
        return jax.jit(call(model, train=True), compiler_options=THOROUGH)(variables, x)

    logits, updates = run(model)
    sown = jax.tree.leaves(updates[AUX_LOGITS])
    assert [leaf.shape for leaf in sown] == [(2, 5)] * len(heads)
    assert all(np.ptp(leaf) > 0 for leaf in sown)
    np.testing.assert_array_equal(run(plain)[0], logits)
    assert AUX_LOGITS not in jax.eval_shape(call(model, train=False), variables, x)[1]
    with_heads, without = (
        str(jax.make_jaxpr(call(network, train=False))(variables, x)) for network in (model, plain)
    )
    assert with_heads == without


@with_auxiliary
def test_no_auxiliary_classifier_without_classes_or_in_a_backbone(name):
    model = create_model(name, aux_logits=True, num_classes=0)
    for other in (model, create_backbone(name, aux_logits=True)):
        assert not [group for group in abstract(other)["params"] if group.startswith("aux")]


def test_auxiliary_classifiers_of_inception_v1_drop_values():
    model = short_model("inception_v1", dropout_rate=0.0, aux_dropout_rate=0.7)
    variables = random_variables(model)

    @jax.jit
    def sown(key):
        mutable, rngs = [AUX_LOGITS, "batch_stats"], {"dropout": key}
        return model.apply(variables, images(32), train=True, mutable=mutable, rngs=rngs)

    (first, a), (second, b) = (sown(jax.random.key(seed)) for seed in (0, 1))
    np.testing.assert_array_equal(first, second)
    for x, y in zip(jax.tree.leaves(a[AUX_LOGITS]), jax.tree.leaves(b[AUX_LOGITS]), strict=True):
        assert np.abs(x - y).max() > 0


@with_auxiliary
def test_transform_input_is_the_range_of_the_training(name):
    model = short_model(name)
    variables = random_variables(model)
    x = images(model.min_image_size)
    moved = np.asarray(to_symmetric_range(jnp.asarray(x)))
    apply = jax.jit(model.apply)
    found = jax.jit(model.clone(transform_input=True).apply)(variables, x)
    np.testing.assert_allclose(found, apply(variables, moved), rtol=1e-4, atol=1e-5)
    assert np.abs(found - apply(variables, x)).max() > 1e-3


def test_padding_of_inception_v3_is_that_of_its_means():
    symmetric, same = (short_model("inception_v3", padding=p) for p in ("symmetric", "same"))
    variables = random_variables(symmetric)
    x = images(75)
    counted, left_out = (jax.jit(model.apply)(variables, x) for model in (symmetric, same))
    assert np.abs(counted - left_out).max() > 1e-3


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("inception_v1", {"flavour": "slim"}, "unknown flavour 'slim'.*accepted: torchvision, pap"),
        ("inception_v2", {"flavour": "cafe"}, r"'cafe' \(did you mean 'caffe'\?\); accepted: slim"),
        ("inception_v1", {"aux_dropout_rate": 1.0}, "aux_dropout_rate is 1.0; accepted: 0 or more"),
        ("inception_v3", {"aux_logits": "yes"}, "aux_logits is 'yes'; accepted: True or False"),
    ],
)
def test_an_option_that_the_network_does_not_offer_is_refused(name, options, message):
    with pytest.raises(InputError, match=message):
        create_model(name, **options)
