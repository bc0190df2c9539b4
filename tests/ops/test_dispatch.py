"""`native_forms`: the accelerator's program on every platform, without a choice in it."""

import re
from collections import Counter
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flaxmobile.layers import ConvNorm, SqueezeExcite, relu6
from flaxmobile.ops import (
    dense_conv,
    depthwise_conv,
    global_mean,
    grouped_conv,
    make_window,
    materialize_on_cpu,
    native_forms,
    pointwise_conv,
    window_max,
)
from flaxmobile.ops.dispatch import Forms, apply_form

IMAGES = (2, 28, 28, 24)
POOL = make_window(IMAGES[1:3], (3, 3), 2, "symmetric")

OPS = {  # the operation, shapes of its arguments, and the native program's main operations
    "depthwise": (
        partial(depthwise_conv, strides=2, padding="symmetric"),
        [IMAGES, (3, 3, 1, 24)],
        {"convolution": 1},
    ),
    "stem": (partial(dense_conv, strides=2), [(2, 28, 28, 3), (3, 3, 3, 8)], {"convolution": 1}),
    "dense": (dense_conv, [IMAGES, (3, 3, 24, 8)], {"convolution": 1}),
    "pointwise": (pointwise_conv, [IMAGES, (1, 1, 24, 8)], {"convolution": 1}),
    "grouped": (grouped_conv, [IMAGES, (1, 1, 8, 12)], {"convolution": 1}),
    "max": (partial(window_max, (3, 3), POOL), [IMAGES], {"reduce_window": 1}),
    "mean": (global_mean, [IMAGES], {"reduce": 1}),
    "once": (materialize_on_cpu, [IMAGES], {}),
}


MODULES = {
    "normalized": ConvNorm(24, 3, groups=24, activation=relu6),
    "expansion": ConvNorm(96, 1, activation=relu6),
    "squeeze": SqueezeExcite(8),
}


def prepare(name, dtype=jnp.float32):
    """The operation, or the module in training, and the shapes of its arguments."""
    if name in OPS:
        return OPS[name][:2]
    module = MODULES[name].clone(dtype=dtype)
    variables = jax.eval_shape(module.init, jax.random.key(0), jnp.zeros(IMAGES))
    leaves, tree = jax.tree.flatten(variables)
    call = partial(module.apply, mutable=["batch_stats"])
    if isinstance(module, ConvNorm):
        call = partial(call, train=True)

    def apply(x, *leaves):
        return call(jax.tree.unflatten(tree, leaves), x)[0]

    return apply, [IMAGES, *(leaf.shape for leaf in leaves)]


def program(name, platform, native, gradients):
    operation, shapes = prepare(name)

    def value(*arrays):
        with native_forms(native):
            return operation(*arrays)

    def step(*arrays):
        y, pull = jax.vjp(value, *arrays)
        return y, pull(y)

    # The platforms' dead branches stay in an exported program, but not in a lowered one.
    arguments = [jax.ShapeDtypeStruct(shape, np.float32) for shape in shapes]
    traced = jax.jit(step if gradients else value).trace(*arguments)
    return str(traced.jaxpr), traced.lower(lowering_platforms=(platform,)).as_text()


def count(text):
    """Count the operations that differ between forms, those of a function once for each call."""
    wanted = r"stablehlo\.(convolution|reduce_window|select_and_scatter|reduce|dot_general|slice)\b"
    functions = dict(re.findall(r"func\.func \w+ @(\w+)(.*?)(?=func\.func \w+ @|\Z)", text, re.S))

    def inside(name):
        called = map(inside, re.findall(r"call @(\w+)", functions[name]))
        return sum(called, Counter(re.findall(wanted, functions[name])))

    return inside("main")


@pytest.mark.parametrize("gradients", [False, True])
@pytest.mark.parametrize("name", [*OPS, *MODULES])
def test_a_native_program_makes_no_choice_and_has_no_gradient_of_its_own(name, gradients):
    jaxpr, text = program(name, "cpu", True, gradients)
    assert not re.search("platform_index|cond|custom_vjp|optimization_barrier", jaxpr)
    assert not re.search(r"stablehlo\.(case|optimization_barrier|dot_general)", text)


@pytest.mark.parametrize("gradients", [False, True])
@pytest.mark.parametrize("name", [*OPS, *MODULES])
def test_a_native_program_for_a_cpu_is_an_accelerators(name, gradients):
    _, found = program(name, "cpu", True, gradients)
    _, expected = program(name, "cuda", False, gradients)
    assert count(found) == count(expected)
    if name in OPS and not gradients:
        assert count(found) == OPS[name][2]


def test_without_the_context_a_cpu_gets_forms_of_its_own():
    """The tests above can see a difference."""
    for name in ("depthwise", "stem", "pointwise", "grouped", "max", "mean"):
        assert count(program(name, "cpu", False, False)[1]) != OPS[name][2], name


@pytest.mark.parametrize("name", [*OPS, *MODULES])
def test_native_gradients_traced_after_the_context_are_the_same(name):
    rng = np.random.default_rng(0)
    with jax.enable_x64(True):
        operation, shapes = prepare(name, np.float64)
        arrays = [jnp.asarray(rng.uniform(0.5, 2, shape)) for shape in shapes]

        def results(native):
            def value(*arrays):
                with native_forms(native):
                    return operation(*arrays)

            y, pull = jax.vjp(value, *arrays)
            return y, pull(jnp.sin(jnp.arange(y.size, dtype=y.dtype).reshape(y.shape)))

        for found, expected in zip(*map(jax.tree.leaves, map(results, (True, False))), strict=True):
            np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9)


def test_layers_of_the_same_shape_are_traced_once():
    def traces(layers):
        count = 0

        def double(_, x):
            nonlocal count
            count += 1
            return 2 * x

        forms = Forms(cpu=double, accelerator=double)

        def loss(x):
            for _ in range(layers):
                x = apply_form(forms, "static", x)
            return x.sum()

        jax.jit(jax.value_and_grad(loss)).trace(jnp.ones(8))
        return count

    assert traces(3) == traces(1) > 0
