"""What every registered network must do as a backbone, whatever its paper says."""

import json
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

import flaxmobile
from flaxmobile.registry import get_spec
from tests.networks import (
    abstract,
    random_variables,
    randomised,
    short_backbone,
    short_model,
    small_backbone,
    small_size,
)

MODELS = flaxmobile.list_models()
every_model = pytest.mark.parametrize("name", MODELS)

ORACLES = Path(__file__).parents[1] / "data" / "oracles.json"
ENDPOINTS = json.loads(ORACLES.read_text())["endpoints"]
"""Channels of the last map of each stride, of timm's feature_info."""
del ENDPOINTS["about"]


def images_of(name, count):
    size = small_size(name)
    return np.random.default_rng(0).normal(size=(count, size, size, 3)).astype(np.float32)


@pytest.mark.parametrize("name", ENDPOINTS)
def test_backbone_channels_are_the_published_ones(name):
    backbone = flaxmobile.create_backbone(name)
    size = get_spec(name).image_size
    images = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
    features, _ = jax.eval_shape(backbone.init_with_output, jax.random.key(0), images)
    assert tuple(features) == (2, 4, 8, 16, 32)
    assert [feature.shape[-1] for feature in features.values()] == ENDPOINTS[name]


@every_model
def test_a_backbone_reads_the_classifiers_variables(name):
    """And ignores the head: both trees make the same program."""
    backbone = short_backbone(name)
    whole, own = abstract(short_model(name)), abstract(backbone)
    part = {kind: {group: whole[kind][group] for group in own[kind]} for kind in own}
    assert part == own
    assert not set(own["params"]) & set(backbone.heads)
    programs = (
        jax.make_jaxpr(backbone.apply)(variables, images_of(name, 1)) for variables in (whole, part)
    )
    one, other = ([equation.primitive for equation in program.eqns] for program in programs)
    assert one == other


@every_model
def test_a_shallow_backbone_has_no_deeper_blocks(name):
    deep = short_backbone(name)
    whole = abstract(deep)["params"]
    for stride in (4, 8):
        params = abstract(short_backbone(name, out_strides=(stride,)))["params"]
        blocks = {place.name for place in deep.places() if place.geometry.total <= stride}
        assert params == {group: whole[group] for group in whole if group in blocks}


# Squeeze-excite means over the image, which is another mean over more places.
ATROUS_OPTIONS = {
    "mobilenet_v3_large": {"minimalistic": True},
    "mobilenet_v3_small": {"minimalistic": True},
    "ic_conv": {"pattern": {"stage4_block1/filter": [[1, 1], [2, 1], [1, 4]] * 16}},
}
ATROUS = [
    *((name, ATROUS_OPTIONS.get(name, {})) for name in MODELS if get_spec(name).network.dilates),
    (
        "ic_conv",
        {
            "base": "mobilenet_v2",
            "pattern": {"stage6_block1/depthwise": [[1, 1], [2, 1], [1, 4]] * 32},
        },
    ),
]


@pytest.mark.parametrize(("name", "options"), ATROUS)
def test_a_dilated_network_computes_the_strided_networks_features_at_more_places(name, options):
    """The à trous property: every n-th pixel of the dilated maps is the strided network's.

    In float64: the networks are deep, and convolutions of both kinds round differently.
    """
    create = partial(small_backbone, name, padding="symmetric", dtype=np.float64, **options)
    networks = [create(output_stride=stride) for stride in (32, 16, 8)]
    variables = jax.tree.map(np.float64, random_variables(networks[0]))
    images = np.random.default_rng(0).normal(size=(1, 64, 96, 3))
    with jax.enable_x64(True):
        coarse, *others = jax.jit(
            lambda variables: [network.apply(variables, images) for network in networks],
        )(variables)
    for fine in others:
        *shallow, deepest = fine
        step, scale = 32 // deepest, np.abs(coarse[32]).max()
        places = partial(np.testing.assert_allclose, rtol=1e-9, atol=1e-9 * scale)
        places(fine[deepest][:, ::step, ::step], coarse[32])
        assert np.abs(fine[deepest][:, 1::step, 1::step] - coarse[32]).max() > 0.01 * scale
        for stride in shallow:
            places(fine[stride], coarse[stride])


class Segmenter(nn.Module):
    """A small feature pyramid, as a user would write it: coarse maps added to fine ones."""

    backbone: nn.Module
    classes: int

    @nn.compact
    def __call__(self, images, train=False):
        features = self.backbone(images, train)
        fine, *coarser = sorted(features)
        total = nn.Dense(8, name="lateral0")(features[fine])
        for number, stride in enumerate(coarser, start=1):
            lateral = nn.Dense(8, name=f"lateral{number}")(features[stride])
            total += jax.image.resize(lateral, total.shape, "bilinear")
        return nn.Dense(self.classes, name="predict")(nn.relu(total))


def segmenter(name):
    strides = get_spec(name).network.endpoint_strides[1:3]
    return Segmenter(short_backbone(name, out_strides=strides), classes=2)


@every_model
def test_a_backbone_has_the_same_variables_inside_a_users_module(name):
    model = segmenter(name)
    shapes = jax.eval_shape(model.init, jax.random.key(0), images_of(name, 1))
    own = abstract(model.backbone)
    assert {kind: shapes[kind]["backbone"] for kind in own} == own


def test_a_backbone_trains_inside_a_users_module():
    """On the task to find the bright pixels."""
    model, images = segmenter("mobilenet_v2"), images_of("mobilenet_v2", 4)
    logits, shapes = jax.eval_shape(model.init_with_output, jax.random.key(0), images)
    bright = jax.image.resize(images.mean(-1), logits.shape[:3], "linear") > 0
    targets = bright.astype(np.int32)
    variables = randomised(shapes)
    optimizer = optax.sgd(0.1, momentum=0.9)

    @jax.jit
    def step(variables, state):
        def loss_of(params):
            logits, updates = model.apply(
                {**variables, "params": params}, images, train=True, mutable=["batch_stats"]
            )
            losses = optax.softmax_cross_entropy_with_integer_labels(logits, targets)
            return losses.mean(), updates

        (loss, updates), gradients = jax.value_and_grad(loss_of, has_aux=True)(variables["params"])
        moves, state = optimizer.update(gradients, state)
        return {**updates, "params": optax.apply_updates(variables["params"], moves)}, state, loss

    state, losses = optimizer.init(variables["params"]), []
    for _ in range(10):
        variables, state, loss = step(variables, state)
        losses.append(float(loss))
    assert losses[-1] < 0.8 * losses[0]
