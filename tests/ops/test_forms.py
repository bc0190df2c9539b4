"""Which form of a convolution each platform gets, and what it costs: read, not timed."""

import re
from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flaxmobile.compiler import inference_options
from flaxmobile.ops import dense_conv, depthwise_conv, grouped_conv, pointwise_conv
from flaxmobile.ops.depthwise import shifted
from tests.ops.conv_oracle import Case, with_gradients
from tests.xla import THOROUGH

OPS = {
    "depthwise": (depthwise_conv, Case((8, 8), (3, 3), 1, 6, 6, strides=2)),
    "pointwise": (pointwise_conv, Case((8, 8), (1, 1), 6, 8, 6, padding="VALID")),
    "grouped": (grouped_conv, Case((8, 8), (1, 1), 3, 8, 6, padding="VALID")),
    "stem": (dense_conv, Case((8, 8), (3, 3), 3, 8, 3, strides=2)),
}


def apply(op, case):
    mixes = op in (pointwise_conv, grouped_conv)
    options = {"strides": case.strides} if mixes else case.options
    return lambda x, kernel: op(x, kernel, **options)


def operations(op, case, platform, gradients) -> Counter:
    """Count the StableHLO operations of the program lowered for a platform."""
    x, kernel, dy = (jax.ShapeDtypeStruct(a.shape, a.dtype) for a in case.arrays())
    conv = apply(op, case)
    if gradients:
        function, arguments = lambda *a: with_gradients(conv, *a), (x, kernel, dy)
    else:
        function, arguments = conv, (x, kernel)
    text = jax.export.export(jax.jit(function), platforms=[platform])(*arguments).mlir_module()
    return Counter(re.findall(r"stablehlo\.(\w+)", text))


@pytest.mark.parametrize("gradients", [False, True])
@pytest.mark.parametrize("name", OPS)
def test_cpu_never_gets_a_convolution(name, gradients):
    counts = operations(*OPS[name], "cpu", gradients)
    assert counts["convolution"] == 0
    assert counts["multiply"] + counts["dot_general"] >= 1


def test_few_columns_are_summed_up_in_a_loop_unless_there_is_a_gradient():
    few = Case((28, 28), (1, 1), 32, 8, 32, padding="VALID")
    for op, case in ((pointwise_conv, few), OPS["stem"]):
        assert operations(op, case, "cpu", gradients=False)["dot_general"] == 0
        assert operations(op, case, "cpu", gradients=True)["dot_general"] == 3
    for other in (
        few._replace(inputs=33, channels=33),
        few._replace(outputs=12),  # no whole vectors
        few._replace(image=(27, 28)),
    ):
        assert operations(pointwise_conv, other, "cpu", gradients=False)["dot_general"] == 1


def test_few_pixels_are_multiplied_in_three_parts():
    case = Case((8, 8), (1, 1), 64, 1024, 64, padding="VALID", batch=1)
    assert operations(pointwise_conv, case, "cpu", gradients=False)["dot_general"] == 3
    for other in (case._replace(outputs=1023), case._replace(batch=2)):
        assert operations(pointwise_conv, other, "cpu", gradients=False)["dot_general"] == 1


def test_a_depthwise_convolution_reads_only_the_padded_map():
    """If the middle tap read the map before padding, its activation would be computed twice."""

    def filtered(x, kernel):
        return depthwise_conv(jnp.clip(x, 0, 6), kernel)

    shapes = (2, 16, 16, 8), (3, 3, 1, 8)
    arguments = [jax.ShapeDtypeStruct(shape, np.float32) for shape in shapes]
    options = {**THOROUGH, **inference_options()}
    compiled = jax.jit(filtered).lower(*arguments).compile(options)
    assert compiled.as_text().count(" clamp(") == 1


@pytest.mark.parametrize("gradients", [False, True])
@pytest.mark.parametrize("platform", ["cuda", "tpu"])
@pytest.mark.parametrize("name", OPS)
def test_accelerators_get_the_native_convolution_and_no_slices(name, platform, gradients):
    counts = operations(*OPS[name], platform, gradients)
    assert counts["convolution"] == (3 if gradients else 1)
    assert not {"slice", "pad", "multiply", "dot_general", "while"} & set(counts)


@pytest.mark.parametrize("platform", ["cpu", "cuda", "tpu"])
def test_a_dense_convolution_of_many_channels_is_native_everywhere(platform):
    case = Case((8, 8), (3, 3), 6, 8, 6)
    assert operations(dense_conv, case, platform, gradients=False)["convolution"] == 1


def compile_layer(conv, case):
    """Value and gradients of one layer compiled for this CPU, and its input's size in bytes."""
    arrays = case.arrays()
    compiled = jax.jit(lambda *a: with_gradients(conv, *a)).lower(*arrays).compile(THOROUGH)
    return compiled, arrays[0].nbytes


@pytest.mark.parametrize(("strides", "copies"), [(1, 4.0), (2, 2.0)])
def test_training_a_layer_materializes_no_copy_of_the_activations_per_tap(strides, copies):
    """Measured: 3.9 inputs of temporary memory at stride 1, 1.9 at stride 2.

    Differentiating the sum of slices automatically takes 8.1 and 3.1, a copy for almost every tap.
    """
    case = Case((28, 28), (3, 3), 1, 64, 64, strides=strides, padding="symmetric", batch=8)
    compiled, size = compile_layer(apply(depthwise_conv, case), case)
    assert not re.search(r"\bconvolution\(", compiled.as_text())
    assert compiled.memory_analysis().temp_size_in_bytes < copies * size

    naive, _ = compile_layer(lambda x, k: shifted.__wrapped__(case.window, x, k), case)
    assert naive.memory_analysis().temp_size_in_bytes > copies * size


def test_training_a_1x1_layer_needs_no_temporary_memory_for_its_activations():
    case = Case((28, 28), (1, 1), 32, 64, 32, padding="VALID", batch=8)
    compiled, size = compile_layer(apply(pointwise_conv, case), case)
    assert not re.search(r"\bconvolution\(", compiled.as_text())
    assert compiled.memory_analysis().temp_size_in_bytes < 0.1 * size
