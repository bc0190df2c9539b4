"""`jit_inference`: the outputs of `apply`, a few images at a time on a CPU."""

import re
import threading

import jax
import numpy as np
import pytest

import flaxmobile
from flaxmobile.compiler import inference_options
from flaxmobile.inference import parts, shares
from flaxmobile.inference.packing import pack_vectors
from tests.networks import random_variables, short_backbone, short_model, small_size
from tests.xla import THOROUGH


@pytest.mark.parametrize(
    ("create", "name"),
    [
        *((short_model, name) for name in flaxmobile.list_models()),
        (short_backbone, "mobilenet_v2"),
    ],
)
def test_outputs_are_those_of_apply(create, name, monkeypatch):
    """For a whole group of images and for the remainder, some images at a time in every block."""
    monkeypatch.setattr(parts, "_IMAGES", (4, 4))
    monkeypatch.setattr(parts, "_MAP_BYTES", 2**10)
    model, size = create(name), small_size(name)
    variables = random_variables(model)
    images = np.random.default_rng(0).normal(size=(6, size, size, 3)).astype(np.float32)
    expected = jax.jit(model.apply)(variables, images)
    lowered = jax.jit(flaxmobile.jit_inference(model)).lower(variables, images)
    assert lowered.as_text().count("stablehlo.while") > 3
    found = lowered.compile()(variables, images)
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for a, b in zip(jax.tree.leaves(expected), jax.tree.leaves(found), strict=True):
        np.testing.assert_allclose(b, a, atol=1e-4 * np.abs(a).max())


@pytest.mark.parametrize("count", [1, 7, 8, 19])
def test_any_number_of_images_gives_the_outputs_of_apply(count):
    model = short_model()
    infer, variables = flaxmobile.jit_inference(model), random_variables(model)
    images = np.random.default_rng(0).normal(size=(count, 48, 40, 3)).astype(np.float32)
    expected = jax.jit(model.apply)(variables, images)
    found = infer(variables, images)
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("count", [1, 9])
@pytest.mark.parametrize("dtype", [np.float32, "bfloat16"])
def test_variables_may_be_given_once(count, dtype):
    """Of two types, and from the host: a call hands over one array for all vectors of a type."""
    model = short_model(dtype=dtype)
    variables = random_variables(model)
    variables["params"] = jax.tree.map(lambda leaf: np.asarray(leaf, dtype), variables["params"])
    images = np.random.default_rng(0).normal(size=(count, 48, 40, 3)).astype(np.float32)
    expected = flaxmobile.jit_inference(model)(variables, images)
    infer = flaxmobile.jit_inference(model, variables)
    np.testing.assert_array_equal(infer(images), expected)
    np.testing.assert_allclose(jax.jit(infer)(images), expected, atol=2e-2 * np.abs(expected).max())


def test_variables_given_once_are_fewer_arguments():
    model = short_model()
    variables = random_variables(model)
    vectors = [leaf for leaf in jax.tree.leaves(variables) if leaf.ndim == 1]
    (packed, joined), unpack = pack_vectors(variables)
    assert len(joined) == 1
    assert len(jax.tree.leaves(packed)) == len(jax.tree.leaves(variables)) - len(vectors)
    again = unpack((packed, joined))
    assert jax.tree.structure(again) == jax.tree.structure(variables)
    jax.tree.map(np.testing.assert_array_equal, again, variables)


@pytest.mark.parametrize("count", [2, 8])
def test_inside_a_jit_it_computes_the_same(count):
    """JAX refuses compiler options there, so there are none."""
    model = short_model()
    infer, variables = flaxmobile.jit_inference(model), random_variables(model)
    images = np.random.default_rng(0).normal(size=(count, 32, 32, 3)).astype(np.float32)
    expected = 2 * infer(variables, images)
    doubled = jax.jit(lambda v, x: 2 * infer(v, x))(variables, images)
    of_these = jax.jit(lambda v: 2 * infer(v, images))(variables)
    for found in (doubled, of_these):
        np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("create", [short_model, short_backbone])
@pytest.mark.parametrize(("cores", "count", "number"), [(2, 8, 2), (3, 14, 3), (16, 13, 3)])
def test_each_core_takes_a_share_of_the_batch(cores, count, number, create, monkeypatch):
    """Shares are equal, for one program; with 14 images the last begins in the one before."""
    monkeypatch.setattr(shares, "usable_cores", lambda: cores)
    model = create("mobilenet_v2")
    infer, variables = flaxmobile.jit_inference(model), random_variables(model)
    images = np.random.default_rng(0).normal(size=(count, 32, 32, 3)).astype(np.float32)
    expected = jax.jit(model.apply)(variables, images)
    assert shares.count_shares(images) == number
    found = infer(variables, images)
    for a, b in zip(jax.tree.leaves(expected), jax.tree.leaves(found), strict=True):
        np.testing.assert_allclose(b, a, atol=1e-5 * np.abs(a).max())


def test_shares_are_called_from_threads_of_their_own():
    """Otherwise JAX would run them one after the other."""
    for first_alone in (True, False):
        threads = shares.call_in_threads([threading.get_ident] * 3, first_alone)
        assert len(set(threads)) == 3
        assert threads[0] == threading.get_ident()


def test_shares_have_the_types_of_the_caller(monkeypatch):
    """`jax.enable_x64` holds for the thread that enters it."""
    monkeypatch.setattr(shares, "usable_cores", lambda: 2)
    model = short_model(dtype=np.float64)
    images = np.random.default_rng(0).normal(size=(8, 32, 32, 3))
    with jax.enable_x64(True):
        variables = jax.tree.map(np.float64, random_variables(model))
        expected = jax.jit(model.apply)(variables, images)
        found = flaxmobile.jit_inference(model)(variables, images)
        assert expected.dtype == np.float64
        np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-12)


def test_all_shares_have_one_program(monkeypatch):
    """Three shares of four images are traced as often as two are; in another call, not at all."""
    model, traced, counts = short_model(), [], []
    apply = type(model).__call__
    monkeypatch.setattr(
        type(model), "__call__", lambda *a, **k: traced.append(a[1].shape) or apply(*a, **k)
    )
    variables = random_variables(model)
    for cores in (2, 3):
        monkeypatch.setattr(shares, "usable_cores", lambda cores=cores: cores)
        infer, images = flaxmobile.jit_inference(model), np.ones((4 * cores, 32, 32, 3), np.float32)
        for _ in range(2):
            traced.clear()
            infer(variables, images)
            counts.append(len(traced))
    assert counts == [counts[0], 0, counts[0], 0]
    assert counts[0] < 4


def test_shares_of_a_compiled_program_start_before_the_first_has_ended():
    """So they run at the same time where a call returns only when its program has ended."""
    started = threading.Event()
    assert shares.call_in_threads([lambda: started.wait(60), started.set], first_alone=False)[0]


def test_an_error_of_a_share_is_raised():
    def fail():
        raise ValueError("share")

    with pytest.raises(ValueError, match="share"):
        shares.call_in_threads([int, fail], first_alone=True)


def test_images_on_several_devices_stay_there(monkeypatch):
    monkeypatch.setattr(shares, "usable_cores", lambda: 2)
    mesh = jax.make_mesh((8,), ("batch",), axis_types=(jax.sharding.AxisType.Auto,))
    images = np.random.default_rng(0).normal(size=(8, 32, 32, 3)).astype(np.float32)
    sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("batch"))
    assert shares.count_shares(jax.device_put(images, sharding)) == 1
    assert shares.count_shares(jax.device_put(images)) == shares.count_shares(images) == 2


def test_an_accelerator_takes_the_batch_as_one(monkeypatch):
    monkeypatch.setattr(shares, "usable_cores", lambda: 2)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert shares.count_shares(np.ones((32, 8, 8, 3))) == 1


@pytest.mark.parametrize(
    ("name", "layers", "operation"),
    [
        ("shufflenet_v1", r"/(stage\w+)/jit\(relu\)", "maximum"),
        ("mobilenet_v3_large", r"(stage3_block\d)/depthwise/conv", "multiply"),
    ],
)
def test_what_is_used_twice_is_materialized(name, layers, operation):
    """ShuffleNet's units, by three groups' products and a sum; what a gate sees and scales."""
    model = short_model(name)
    images = jax.ShapeDtypeStruct((1, 64, 64, 3), np.float32)
    lowered = jax.jit(flaxmobile.jit_inference(model)).lower(random_variables(model), images)
    text = lowered.compile({**THOROUGH, **inference_options()}).as_text()
    fused = [re.findall(rf" {operation}\(.*{layers}", part) for part in text.split("\n\n")]
    places = [layer for part in fused for layer in set(part)]
    assert len(places) == len(set(places)) > 0


@pytest.mark.parametrize(("platform", "loops"), [("cpu", 1), ("cuda", 0), ("tpu", 0)])
def test_accelerators_take_the_batch_as_a_whole(platform, loops):
    model = short_model()
    images = jax.ShapeDtypeStruct((16, 32, 32, 3), np.float32)
    exported = jax.export.export(jax.jit(flaxmobile.jit_inference(model)), platforms=[platform])
    text = exported(random_variables(model), images).mlir_module()
    assert len(re.findall(r"stablehlo\.while", text)) == loops


def test_an_exported_program_infers_batches_of_any_size():
    model, images = short_model(), np.ones((5, 32, 32, 3), np.float32)
    variables = random_variables(model)
    shape = jax.ShapeDtypeStruct((*jax.export.symbolic_shape("count"), 32, 32, 3), np.float32)
    exported = jax.export.export(jax.jit(flaxmobile.jit_inference(model)))(variables, shape)
    found = exported.call(variables, images)
    np.testing.assert_allclose(found, model.apply(variables, images), rtol=1e-4, atol=1e-5)


def test_no_images_have_no_logits():
    model = short_model()
    infer = flaxmobile.jit_inference(model)
    assert infer(random_variables(model), np.ones((0, 32, 32, 3), np.float32)).shape == (0, 5)
