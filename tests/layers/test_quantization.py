import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

import flaxmobile
from flaxmobile.layers.quantization import (
    join_ranges,
    kernel_steps,
    quantize,
    quantize_kernel,
    quantizing,
)
from tests.networks import random_variables, short_model


class Identity(nn.Module):
    updates: bool

    @nn.compact
    def __call__(self, x):
        with quantizing(updates=self.updates, momentum=0.75, marks=False):
            return quantize(x)


RANGE = {"batch_stats": {"range": {"least": jnp.float32(-1), "most": jnp.float32(1.55)}}}


def test_an_activation_has_256_values_and_0_is_one_of_them():
    x = jnp.linspace(-3, 3, 5000).at[0].set(0)
    found = np.unique(Identity(False).apply(RANGE, x))
    np.testing.assert_allclose(found, np.arange(-100, 156) * 0.01, atol=1e-6)
    assert 0 in found


def test_gradients_pass_inside_the_range_alone():
    x = jnp.asarray([-1.2, -0.304, 0.017, 1.5, 1.7])
    gradient = jax.grad(lambda x: Identity(False).apply(RANGE, x).sum())(x)
    assert gradient.tolist() == [0, 1, 1, 1, 0]


def test_training_takes_the_batchs_range_and_updates_the_running_one():
    x = jnp.asarray([-5.0, 5.2])
    y, updated = Identity(True).apply(RANGE, x, mutable=["batch_stats"])
    np.testing.assert_allclose(y, x, atol=10.2 / 255)
    found = updated["batch_stats"]["range"]
    np.testing.assert_allclose([found["least"], found["most"]], [-2, 2.4625])


def test_blocks_of_a_group_are_rounded_by_the_union_of_their_ranges():
    """In training by that and the batch's own range; each keeps its own running one."""
    ranges = {"a": (-1.0, 0.5), "b": (0.0, 1.55)}
    statistics = {
        name: {"range": {"least": jnp.float32(least), "most": jnp.float32(most)}}
        for name, (least, most) in ranges.items()
    }

    class Two(nn.Module):
        updates: bool

        @nn.compact
        def __call__(self, x):
            shared = join_ranges([("a", "b"), ("absent",)], self.variables["batch_stats"])
            with quantizing(updates=self.updates, momentum=0.75, marks=False, shared=shared):
                return [Rounded(name=name)(x) for name in ranges]

    class Rounded(nn.Module):
        @nn.compact
        def __call__(self, x):
            return quantize(x)

    x = jnp.linspace(-3, 3, 5000)
    for found in Two(False).apply({"batch_stats": statistics}, x):
        np.testing.assert_allclose(np.unique(found), np.arange(-100, 156) * 0.01, atol=1e-6)
    few = jnp.asarray([-0.2, 0.4, 2.0])
    rounded, updated = Two(True).apply({"batch_stats": statistics}, few, mutable=["batch_stats"])
    for found in rounded:  # in steps of -1 to 2
        np.testing.assert_allclose(found * 85, np.rint(few * 85), atol=1e-4)
    found = jax.tree.map(float, updated["batch_stats"])
    assert found["a"]["range"] == pytest.approx({"least": -0.8, "most": 0.875})
    assert found["b"]["range"] == pytest.approx({"least": -0.05, "most": 1.6625})


def test_each_feature_of_a_kernel_has_its_own_255_steps():
    kernel = jnp.asarray(np.random.default_rng(0).normal(size=(3, 3, 4, 2)) * [1, 50])
    with quantizing(updates=False, momentum=0, marks=False):
        found = quantize_kernel(kernel, kernel_steps(nn.Module(), kernel))
    kernel, found = np.asarray(kernel), np.asarray(found)
    steps = np.abs(kernel).max((0, 1, 2)) / 127
    np.testing.assert_allclose(found / steps, np.rint(kernel / steps), atol=1e-4)


def test_given_steps_are_a_kernels_own():
    """All 256 of them: -128 too, which torch's kernels have."""

    class Kernel(nn.Module):
        @nn.compact
        def __call__(self, kernel):
            with quantizing(updates=False, momentum=0, marks=False, given_steps=True):
                return quantize_kernel(kernel, kernel_steps(self, kernel))

    kernel = jnp.asarray([[-20.0, 1.0], [-12.8, 0.26], [0.06, -0.24], [12.71, 70]])
    steps = {"batch_stats": {"kernel_steps": jnp.asarray([0.1, 0.5])}}
    expected = [[-12.8, 1.0], [-12.8, 0.5], [0.1, 0.0], [12.7, 63.5]]
    np.testing.assert_allclose(Kernel().apply(steps, kernel), expected, atol=1e-5)


@pytest.mark.parametrize(
    "name, options, message",
    [
        ("shufflenet_v1", {"folded": True}, "cannot be quantized .* accepted: mobile"),
        ("blazeface", {"folded": True, "detector": True}, "detector is True; accepted: False"),
        ("mobilenet_v2", {}, "with folded=True"),
        ("mobilenet_v2", {"folded": True, "dtype": "bfloat16"}, "in float32"),
        ("mobilenet_v2", {"folded": True, "split": 2}, "split is 2"),
        ("mobilenext", {"folded": True, "identity_tensor_multiplier": 0.5}, "multiplier is 0.5"),
    ],
)
def test_what_cannot_be_quantized_is_refused(name, options, message):
    with pytest.raises(flaxmobile.InputError, match=message):
        flaxmobile.create_model(name, quantized=True, **options)


@pytest.mark.parametrize("settings", [{}, {"quantize": "float16"}, {"calibration": 1}])
def test_weights_with_ranges_are_exported_in_int8_without_calibration(settings, tmp_path):
    model = short_model(folded=True, quantized=True)
    settings = {"quantize": "int8"} | settings if "calibration" in settings else settings
    with pytest.raises(flaxmobile.InputError, match="without calibration"):
        flaxmobile.export(model, {}, tmp_path / "file", **settings)


def test_steps_are_given_to_a_quantized_network_alone():
    with pytest.raises(flaxmobile.InputError, match="given_steps is True; accepted: in a quant"):
        flaxmobile.create_model("mobilenet_v2", folded=True, given_steps=True)


def test_ranges_are_shared_inside_a_larger_module_too():
    class Larger(nn.Module):
        network: nn.Module

        def __call__(self, x):
            return self.network(x)

    model = short_model("shufflenet_v2", folded=True, quantized=True)
    variables = random_variables(model)
    x = np.random.default_rng(0).normal(size=(1, 32, 32, 3)).astype(np.float32)
    variables |= jax.jit(lambda v: model.apply(v, x, train=True, mutable=["batch_stats"]))(
        variables
    )[1]
    inside = {kind: {"network": tree} for kind, tree in variables.items()}
    expected, found = jax.jit(lambda v, w: (model.apply(v, x), Larger(model).apply(w, x)))(
        variables, inside
    )
    np.testing.assert_array_equal(found, expected)
