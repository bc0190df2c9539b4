from functools import partial

import jax
import jax.numpy as jnp
import pytest

from flaxmobile.errors import InputError
from flaxmobile.ops import dense_conv
from tests.ops.conv_oracle import DTYPES, Case, check, check_specials


def dense(image, kernel, inputs, outputs, groups=1, **options) -> Case:
    return Case(image, kernel, inputs // groups, outputs, inputs, **options)


# 3 input channels take the im2col form on the CPU, more take the native one.
CASES = [
    dense((8, 8), (3, 3), 3, 8),
    dense((9, 9), (3, 3), 3, 5, strides=2, padding="symmetric", batch=1),
    dense((8, 9), (3, 3), 3, 5, strides=2, batch=3),
    dense((9, 8), (5, 5), 3, 8, strides=(1, 2), padding=((1, 2), (0, 3)), dilation=(2, 1)),
    dense((9, 9), (7, 7), 4, 8, strides=2, padding="symmetric"),
    dense((9, 8), (1, 7), 1, 8, padding="VALID"),
    dense((2, 3), (5, 7), 3, 8, strides=2, padding="symmetric", dilation=2),
    dense((1, 1), (3, 3), 2, 4, strides=2),
    dense((8, 9), (3, 3), 6, 8, strides=2),
    dense((9, 8), (5, 5), 6, 8, padding="VALID", batch=3),
    dense((8, 8), (3, 3), 8, 6, groups=2, strides=2, padding="symmetric", dilation=2),
    dense((6, 6), (1, 1), 6, 4, groups=2),
    dense((7, 6), (3, 3), 6, 4, padding="symmetric", dilation=7),  # columns see padding alone
    dense((7, 6), (3, 3), 6, 4, padding="symmetric", dilation=(7, 4), strides=2),
    dense((5, 9), (3, 3), 6, 4, padding=((9, 11), (2, 3)), dilation=(10, 2)),
    dense((3, 3), (2, 2), 6, 4, padding=((6, 6), (6, 6)), dilation=12),  # no tap sees the image
    # Taps that see half of the image or less become a sum of products on the CPU.
    dense((9, 8), (3, 3), 6, 4, padding="symmetric", dilation=5),
    dense((9, 8), (3, 3), 6, 4, padding="symmetric", dilation=(5, 4), strides=(2, 3), batch=1),
    dense((5, 9), (2, 4), 6, 4, padding=((5, 6), (7, 0)), dilation=(7, 3), strides=2),
    dense((1, 4), (3, 3), 6, 4, padding=((5, 5), (3, 3)), dilation=(4, 2), strides=(2, 1)),
]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_value_and_gradients_are_the_native_convolutions(case, dtype):
    check(case, lambda x, kernel: dense_conv(x, kernel, **case.options), dtype)


def test_taps_that_see_padding_alone_cost_nothing():
    """DeepLab v3's rate of 36 on its map of 33×33 at 520: the middle of the kernel alone."""

    def flops(dilation, side):
        x, kernel = jnp.zeros((1, 33, 33, 8)), jnp.zeros((side, side, 8, 4))
        conv = partial(dense_conv, padding="symmetric", dilation=dilation)
        return jax.jit(conv).lower(x, kernel).compile().cost_analysis()["flops"]

    assert flops(36, 3) == flops(1, 1) < flops(12, 3)


@pytest.mark.parametrize(("size", "products"), [(33, 9), (100, 0)])
def test_large_rates_are_products_of_what_each_tap_sees(size, products):
    """A rate of 12: 57 percent of a small map's multiply-adds are not with padding."""
    x, kernel = jnp.zeros((1, size, size, 64)), jnp.zeros((3, 3, 64, 32))
    conv = partial(dense_conv, padding="symmetric", dilation=12)
    text = jax.jit(conv).lower(x, kernel).as_text()
    assert text.count("stablehlo.dot_general") == products
    assert text.count("stablehlo.convolution") == (not products)


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_the_stem_of_mobilenet_v2_at_224_is_right(dtype):
    case = dense((224, 224), (3, 3), 3, 32, strides=2, padding="symmetric")
    check(case, lambda x, kernel: dense_conv(x, kernel, **case.options), dtype, "float32")


@pytest.mark.parametrize("strides", [1, 2])
def test_infinities_and_nans_reach_what_they_reach_natively(strides):
    case = dense((6, 6), (3, 3), 3, 5, strides=strides)
    check_specials(case, lambda x, kernel: dense_conv(x, kernel, **case.options))


@pytest.mark.parametrize(
    "shape", [(3, 3, 8), (3, 3, 4, 8), (3, 3, 12, 8), (3, 3, 3, 5), (3, 3, 0, 8)], ids=str
)
def test_a_kernel_that_does_not_fit_is_refused(shape):
    with pytest.raises(InputError, match="for 6 channels") as error:
        dense_conv(jnp.zeros((1, 8, 8, 6)), jnp.zeros(shape))
    assert str(list(shape)) in str(error.value)
