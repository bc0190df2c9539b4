"""What every registered network must do in training and inference, whatever its paper says."""

import inspect
from functools import cache, partial

import chex
import jax
import numpy as np
import optax
import pytest
from flax import nnx
from flax.traverse_util import flatten_dict, unflatten_dict
from jax import export
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import flaxmobile
from flaxmobile.layers import AUX_LOGITS
from tests.networks import abstract, random_variables, short_model, small_size, training_pass

# All tests of a network in one worker: they share what is traced and compiled.
every_model = pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.xdist_group(name)) for name in flaxmobile.list_models()],
)

EVERY_RULE = [
    pytest.param(name, marks=pytest.mark.xdist_group(name))
    for name in ("mobilenet_v3_small", "shufflenet_v1", "shufflenet_v2")
]
"""These have every rule of ours among them."""


@cache
def batch(count=16, size=64):
    rng = np.random.default_rng(0)
    return rng.normal(size=(count, size, size, 3)).astype(np.float32), np.arange(count) % 5


def batch_of(name, count=16):
    return batch(count, small_size(name))


def classify(model, variables, images, labels):
    """(loss, logits, new statistics, gradients); no dropout, for the sake of comparison."""

    def loss_of(outputs):
        # Over explicit axes JAX 0.12 has no gradient of what is chosen by a number.
        targets = jax.nn.one_hot(labels, outputs[0].shape[-1], dtype=outputs[0].dtype)
        return sum(optax.softmax_cross_entropy(output, targets).mean() for output in outputs)

    return training_pass(model.apply, loss_of, variables, images)


def double(name):
    """A model and its variables in float64: the same numbers, whatever the order of sums."""
    variables = jax.tree.map(np.float64, random_variables(short_model(name)))
    return short_model(name, dropout_rate=0.0, dtype="float64"), variables


@cache
def trained(name, **options):
    """A training pass under `jit`, the batch spread over eight devices."""
    with jax.enable_x64(True):
        (model, variables), arrays = double(name), batch_of(name)
        model = model.clone(**options)
        mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
        variables = jax.device_put(variables, NamedSharding(mesh, PartitionSpec()))
        arrays = jax.device_put(arrays, NamedSharding(mesh, PartitionSpec("data")))
        step = jax.jit(partial(classify, model))
        results = step(variables, *arrays)
        assert len(results[1].sharding.device_set) == 8
        return jax.device_get(results)


@every_model
def test_training_gives_every_parameter_a_gradient(name):
    loss, _, _, gradients = trained(name)
    assert np.isfinite(loss)
    for path, leaf in jax.tree_util.tree_leaves_with_path(gradients):
        assert np.isfinite(leaf).all(), path
        assert np.abs(leaf).max() > 0, path


# Inception V3's last maps have one pixel at its smallest size, so that 16 values make a statistic:
# its gradients correlate by 0.09 to 0.18 then, by how XLA fuses. So its statistics are frozen here.
FROZEN = ("inception_v3",)


@every_model
def test_bfloat16_trains_close_to_float64(name):
    """Up to what rounding to 8 bits does to random layers, which ReLU6 and BatchNorm amplify.

    Least correlations measured, of Inception V4: logits 0.993, statistics 0.999998, gradients 0.67;
    of MobileNet V2 0.999, 0.999998 and 0.89, and with all of its 17 blocks 0.98, 0.9999 and 0.42.
    """
    options = {"frozen_norm": True} if name in FROZEN else {}
    model = short_model(name, dropout_rate=0.0, dtype="bfloat16", **options)
    step = jax.jit(partial(classify, model))
    loss, *trees = jax.device_get(step(random_variables(model), *batch_of(name)))
    exact, *exact_trees = trained(name, **options)
    np.testing.assert_allclose(loss, exact, rtol=0.1)
    for got, want, least in zip(trees, exact_trees, (0.98, 0.9999, 0.5), strict=True):
        a, b = (np.concatenate(list(map(np.ravel, jax.tree.leaves(tree)))) for tree in (got, want))
        assert np.isfinite(a).all()
        assert a.dtype == np.float32
        assert a @ b / np.linalg.norm(a) / np.linalg.norm(b) > least


@every_model
def test_statistics_are_of_the_batch_on_all_devices(name):
    """`shard_map` refuses, when it is traced, a result that is not known to be the same on all."""

    def trace(axis_name):
        model = short_model(name, dropout_rate=0.0, axis_name=axis_name)

        def statistics(variables, images):
            mutable = ["batch_stats", AUX_LOGITS]
            return model.apply(variables, images, train=True, mutable=mutable)[1]["batch_stats"]

        everywhere, over = PartitionSpec(), PartitionSpec("data")
        mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
        mapped = jax.shard_map(
            statistics, mesh=mesh, in_specs=(everywhere, over), out_specs=everywhere
        )
        return jax.eval_shape(mapped, abstract(model), batch_of(name)[0])

    own = abstract(short_model(name))["batch_stats"]
    chex.assert_trees_all_equal_shapes_and_dtypes(trace("data"), own)
    if name == "mobilenet_v2":
        with pytest.raises(ValueError, match="out_specs"):
            trace(None)


@pytest.mark.parametrize("name", EVERY_RULE)
def test_pmap_gives_the_numbers_of_jit(name):
    """On eight devices; `test_nnx_users_train_the_same_network` has those of one."""

    def step(variables, *arrays):
        loss, logits, stats, gradients = classify(model.clone(axis_name="data"), variables, *arrays)
        loss, gradients = jax.lax.pmean((loss, gradients), "data")
        return loss, logits, stats, gradients

    with jax.enable_x64(True):
        (model, variables), arrays = double(name), batch_of(name)
        shards = [array.reshape(8, -1, *array.shape[1:]) for array in arrays]
        mapped = jax.pmap(step, "data", in_axes=(None, 0, 0))
        loss, logits, stats, gradients = jax.device_get(
            mapped.lower(variables, *shards).compile()(variables, *shards)
        )
    loss, stats, gradients = jax.tree.map(lambda leaf: leaf[0], (loss, stats, gradients))
    results = loss, logits.reshape(-1, logits.shape[-1]), stats, gradients
    for got, want in zip(results, trained(name), strict=True):
        chex.assert_trees_all_close(got, want, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("name", EVERY_RULE)
def test_shard_map_gives_the_numbers_of_jit(name):
    """Of the whole batch: it adds up the gradients of what all devices share by itself."""

    def step(variables, *arrays):
        loss, logits, stats, gradients = classify(model.clone(axis_name="data"), variables, *arrays)
        gradients = jax.tree.map(lambda leaf: leaf / 8, gradients)
        return jax.lax.pmean(loss, "data"), logits, stats, gradients

    everywhere, over = PartitionSpec(), PartitionSpec("data")
    with jax.enable_x64(True):
        (model, variables), arrays = double(name), batch_of(name)
        mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
        mapped = jax.shard_map(
            step,
            mesh=mesh,
            in_specs=(everywhere, over, over),
            out_specs=(everywhere, over, everywhere, everywhere),
        )
        results = jax.jit(mapped)(variables, *arrays)
    for got, want in zip(results, trained(name), strict=True):
        chex.assert_trees_all_close(got, want, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("name", EVERY_RULE)
def test_a_mesh_of_explicit_axes_gives_the_same_numbers(name):
    """As `jax.make_mesh` makes them where nothing else is asked for."""
    with jax.enable_x64(True):
        (model, variables), arrays = double(name), batch_of(name)
        mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Explicit,))
        variables = jax.device_put(variables, NamedSharding(mesh, PartitionSpec()))
        arrays = jax.device_put(arrays, NamedSharding(mesh, PartitionSpec("data")))
        step = jax.jit(partial(classify, model))
        results = step(variables, *arrays)
        logits = jax.jit(model.apply)(variables, arrays[0])
        infer = flaxmobile.jit_inference(model)
        chex.assert_trees_all_close(infer(variables, arrays[0]), logits, rtol=1e-8, atol=1e-10)
    assert len(results[1].sharding.device_set) == len(logits.sharding.device_set) == 8
    for got, want in zip(jax.device_get(results), trained(name), strict=True):
        chex.assert_trees_all_close(got, want, rtol=1e-8, atol=1e-10)


@cache
def inference(name):
    """A model, its variables and a compiled (variables, images) -> (logits, statistics)."""
    model = short_model(name)
    traces = []

    def apply(variables, images):
        traces.append(images.shape)
        return model.apply(variables, images, mutable=["batch_stats"])

    return model, random_variables(model), jax.jit(apply), traces


@every_model
def test_inference_is_the_default_and_leaves_the_statistics_alone(name):
    model, variables, apply, _ = inference(name)
    images, _ = batch_of(name)
    logits, updates = apply(variables, images)
    chex.assert_trees_all_equal(updates["batch_stats"], variables["batch_stats"])
    assert np.abs(logits - trained(name)[1]).max() > 1e-3  # training is something else
    assert inspect.signature(model.__call__).parameters["train"].default is False


@every_model
def test_a_second_batch_compiles_nothing(name):
    model, variables, apply, traces = inference(name)
    images, _ = batch_of(name)
    first, _ = apply(variables, images)
    second, _ = apply(random_variables(model, seed=1), images[::-1].copy())
    assert traces == [images.shape]
    assert np.abs(first - second).max() > 0


@every_model
def test_a_batch_may_be_empty(name):
    """As what remains of a data set may be. Sizes are looked at when it is traced for a CPU."""
    model, variables, *_ = inference(name)
    images = batch_of(name)[0][:0]

    def loss(variables):
        logits = model.apply(variables, images)
        assert logits.shape == (0, 5)
        return logits.sum()

    jax.jit(jax.grad(loss)).lower(variables)


def exported(name):
    """Inference exported for batches of any size."""
    model, variables, *_ = inference(name)
    (count,) = export.symbolic_shape("count")
    images = jax.ShapeDtypeStruct((count, *batch_of(name)[0].shape[1:]), np.float32)
    return export.export(jax.jit(model.apply), platforms=["cpu", "tpu"])(variables, images)


@every_model
def test_one_program_is_exported_for_batches_of_any_size(name):
    assert exported(name).out_avals[0].shape[1:] == (5,)


@pytest.mark.parametrize("name", EVERY_RULE)
def test_an_exported_program_infers_batches_of_any_size(name):
    _, variables, apply, _ = inference(name)
    images, _ = batch_of(name)
    expected, _ = apply(variables, images)
    logits = jax.jit(exported(name).call)(variables, images[:3])
    chex.assert_trees_all_close(logits, expected[:3], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", EVERY_RULE)
def test_nnx_users_train_the_same_network(name):
    """On one device: logits and statistics are those of eight."""
    model, variables = double(name)
    images, _ = batch_of(name)
    with jax.enable_x64(True):
        wrapped = nnx.eval_shape(lambda: nnx.bridge.ToNNX(model, nnx.Rngs(0)).lazy_init(images))
        wrapped.to_nnx__rngs = nnx.Rngs(0)
        flat = {k: v for kind in variables.values() for k, v in flatten_dict(kind).items()}
        nnx.update(wrapped, unflatten_dict(flat))
        logits = nnx.jit(lambda net, x: net(x, train=True, mutable=["batch_stats"]))(
            wrapped, images
        )
    state = flatten_dict(nnx.to_pure_dict(nnx.state(wrapped, nnx.BatchStat)))
    chex.assert_trees_all_close(logits, trained(name)[1], rtol=1e-8, atol=1e-10)
    chex.assert_trees_all_close(unflatten_dict(state), trained(name)[2], rtol=1e-8, atol=1e-10)
