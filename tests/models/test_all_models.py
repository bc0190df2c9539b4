"""What every registered network must do, whatever its paper says."""

from functools import cache

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn
from flax import nnx
from flax.nnx import bridge
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import flaxmobile
from tests.networks import random_variables, small_backbone, small_model

every_model = pytest.mark.parametrize("name", flaxmobile.list_models())

# Channels of the last map of each stride, of timm's feature_info (shared oracles, "endpoints").
CHANNELS = {
    "mobilenet_v1": {2: 64, 4: 128, 8: 256, 16: 512, 32: 1024},
    "mobilenet_v2": {2: 16, 4: 24, 8: 32, 16: 96, 32: 320},
    "mobilenet_v3_large": {2: 16, 4: 24, 8: 40, 16: 112, 32: 960},
    "mobilenet_v3_small": {2: 16, 4: 16, 8: 24, 16: 48, 32: 576},
    "xception": {2: 64, 4: 128, 8: 256, 16: 728, 32: 2048},
    "inception_v3": {2: 64, 4: 192, 8: 288, 16: 768, 32: 2048},
    "inception_v4": {2: 64, 4: 160, 8: 384, 16: 1024, 32: 1536},
}


def size_of(model):
    return max(64, model.min_image_size)


@cache
def batch(size, count=16):
    rng = np.random.default_rng(0)
    return rng.normal(size=(count, size, size, 3)).astype(np.float32), np.arange(count) % 5


def loss_of(model, params, stats, images, labels):
    """Loss with (logits, new statistics), in training; no dropout, whose keys differ by form."""
    logits, updates = model.apply(
        {"params": params, "batch_stats": stats}, images, train=True, mutable=["batch_stats"]
    )
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    return losses.mean(), (logits, updates["batch_stats"])


def gradient_of(model):
    return jax.value_and_grad(
        lambda variables, *arrays: loss_of(
            model, variables["params"], variables["batch_stats"], *arrays
        ),
        has_aux=True,
        allow_int=True,
    )


@cache
def trained(name, dtype="float32"):
    """(loss, logits, statistics, gradients) of one training pass on one device."""
    model = small_model(name, dropout_rate=0.0, dtype=dtype)
    (loss, (logits, stats)), gradients = jax.jit(gradient_of(model))(
        random_variables(model), *batch(size_of(model))
    )
    return jax.device_get((loss, logits, stats, gradients["params"]))


@every_model
def test_training_gives_every_parameter_a_gradient(name):
    loss, _, _, gradients = trained(name)
    assert np.isfinite(loss)
    for path, leaf in jax.tree_util.tree_leaves_with_path(gradients):
        assert np.isfinite(leaf).all(), path
        assert np.abs(leaf).max() > 0, path


@every_model
def test_bfloat16_trains_close_to_float32(name):
    for got, want in zip(trained(name, "bfloat16"), trained(name), strict=True):
        for leaf in jax.tree.leaves(got):
            assert np.isfinite(leaf).all()
            assert leaf.dtype == np.float32
        a, b = (
            np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(t)]) for t in (got, want)
        )
        print(np.linalg.norm(a - b) / np.linalg.norm(b))


def spread(name, how):
    """What `trained` gives, over eight devices."""
    model = small_model(name, dropout_rate=0.0)
    variables, arrays = random_variables(model), batch(size_of(model))
    if how == "jit":
        mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
        variables = jax.device_put(variables, NamedSharding(mesh, PartitionSpec()))
        arrays = jax.device_put(arrays, NamedSharding(mesh, PartitionSpec("data")))
        (loss, (logits, stats)), gradients = jax.jit(gradient_of(model))(variables, *arrays)
        assert len(logits.sharding.device_set) == 8
        return jax.device_get((loss, logits, stats, gradients["params"]))

    def step(variables, *arrays):
        (loss, aux), gradients = gradient_of(model.clone(axis_name="data"))(variables, *arrays)
        return jax.lax.pmean(loss, "data"), *aux, jax.lax.pmean(gradients["params"], "data")

    shards = [array.reshape(8, -1, *array.shape[1:]) for array in arrays]
    results = jax.device_get(jax.pmap(step, "data", in_axes=(None, 0, 0))(variables, *shards))
    loss, logits, stats, gradients = results
    first = jax.tree.map(lambda leaf: leaf[0], (loss, stats, gradients))
    return first[0], logits.reshape(-1, logits.shape[-1]), *first[1:]


@every_model
@pytest.mark.parametrize("how", ["jit", "pmap"])
def test_eight_devices_give_the_numbers_of_one(name, how):
    for got, want in zip(spread(name, how), trained(name), strict=True):
        jax.tree.map(
            lambda a, b: print(np.abs(a - b).max() / np.abs(b).max()),
            got,
            want,
        )


@every_model
def test_inference_is_the_default_and_leaves_the_statistics_alone(name):
    model = small_model(name)
    variables = random_variables(model)
    images, _ = batch(size_of(model), 2)
    apply = jax.jit(
        lambda v, x: (model.apply(v, x, mutable=["batch_stats"]), model.apply(v, x, train=False))
    )
    (logits, updates), explicit = apply(variables, images)
    np.testing.assert_array_equal(logits, explicit)
    chex.assert_trees_all_equal(updates["batch_stats"], variables["batch_stats"])
    assert np.abs(logits - trained(name)[1][:2]).max() > 1e-3  # training is something else


@every_model
def test_a_second_batch_compiles_nothing(name):
    model = small_model(name)
    traces = []

    @jax.jit
    def apply(variables, images):
        traces.append(images.shape)
        return model.apply(variables, images)

    images, _ = batch(size_of(model), 2)
    first = apply(random_variables(model), images)
    second = apply(random_variables(model, seed=1), images[::-1].copy())
    assert len(traces) == 1
    assert apply._cache_size() == 1
    assert np.abs(first - second).max() > 0


@pytest.mark.parametrize("name", sorted(set(CHANNELS) & set(flaxmobile.list_models())))
def test_backbone_channels_are_the_published_ones(name):
    backbone = flaxmobile.create_backbone(name)
    images = jax.ShapeDtypeStruct((1, 224, 224, 3), jnp.float32)
    features, _ = jax.eval_shape(backbone.init_with_output, jax.random.key(0), images)
    assert {stride: f.shape for stride, f in features.items()} == {
        stride: (1, 224 // stride, 224 // stride, channels)
        for stride, channels in CHANNELS[name].items()
    }


@every_model
def test_a_backbone_reads_the_classifiers_variables(name):
    backbone = small_backbone(name)
    whole = random_variables(small_model(name))
    own = random_variables(backbone)
    part = {kind: {group: whole[kind][group] for group in own[kind]} for kind in own}
    images, _ = batch(size_of(backbone), 1)
    apply = jax.jit(backbone.apply)
    chex.assert_trees_all_equal(apply(whole, images), apply(part, images))


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


@every_model
def test_a_backbone_trains_inside_a_users_module(name):
    """On the task to find the bright pixels."""
    backbone = small_backbone(name, out_strides=(4, 8))
    model = Segmenter(backbone, classes=2)
    images, _ = batch(size_of(backbone), 4)
    pooled = nn.avg_pool(images.mean(-1, keepdims=True), (4, 4), (4, 4))[..., 0]
    targets = (pooled > 0).astype(np.int32)
    variables = jax.jit(model.init)(jax.random.key(0), images)
    assert jax.tree.map(jnp.shape, variables["params"]["backbone"]) == jax.tree.map(
        jnp.shape, random_variables(backbone)["params"]
    )
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


@every_model
def test_nnx_users_get_the_same_network(name):
    model = small_model(name)
    images, _ = batch(size_of(model), 2)
    wrapped = bridge.ToNNX(model, rngs=nnx.Rngs(0)).lazy_init(images)
    variables = bridge.nnx_attrs_to_linen_vars(nnx.to_pure_dict(nnx.state(wrapped)))
    print(variables.keys())
