import jax.numpy as jnp
import pytest

from flaxmobile.errors import InputError
from flaxmobile.ops import pointwise_conv
from tests.ops.conv_oracle import DTYPES, Case, check, check_specials


def pointwise(image, inputs, outputs, **options) -> Case:
    return Case(image, (1, 1), inputs, outputs, inputs, padding="VALID", **options)


CASES = [
    pointwise((8, 8), 6, 10),
    pointwise((9, 7), 10, 3, strides=2, batch=3),
    pointwise((8, 9), 5, 8, strides=(1, 2), batch=1),
    pointwise((8, 9), 1, 1, strides=3),
    pointwise((1, 1), 16, 1, strides=2, batch=1),
    pointwise((28, 29), 9, 8, strides=(1, 2), batch=1),
]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_value_and_gradients_are_the_native_convolutions(case, dtype):
    check(case, lambda x, kernel: pointwise_conv(x, kernel, strides=case.strides), dtype)


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
@pytest.mark.parametrize(
    "case",
    [
        pointwise((112, 112), 32, 16),
        pointwise((56, 56), 24, 144),
        pointwise((14, 14), 576, 96),
        pointwise((7, 7), 320, 1280),
        pointwise((7, 7), 160, 960, batch=1),
    ],
    ids=str,
)
def test_layers_of_mobilenet_v2_at_224_are_right(case, dtype):
    check(case, lambda x, kernel: pointwise_conv(x, kernel), dtype, "float32")


@pytest.mark.parametrize("strides", [1, 2])
def test_infinities_and_nans_reach_what_they_reach_natively(strides):
    case = pointwise((6, 6), 4, 5, strides=strides)
    check_specials(case, lambda x, kernel: pointwise_conv(x, kernel, strides=strides))


@pytest.mark.parametrize("shape", [(6, 8), (3, 3, 6, 8), (1, 1, 8, 6), (1, 1, 1, 6)], ids=str)
def test_a_kernel_that_does_not_fit_is_refused(shape):
    with pytest.raises(InputError, match=r"\[1, 1, 6, d\], not ") as error:
        pointwise_conv(jnp.zeros((1, 8, 8, 6)), jnp.zeros(shape))
    assert str(list(shape)) in str(error.value)
