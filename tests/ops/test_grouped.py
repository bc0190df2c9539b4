import jax.numpy as jnp
import pytest

from flaxmobile.errors import InputError
from flaxmobile.ops import grouped_conv
from tests.ops.conv_oracle import DTYPES, Case, check, check_specials


def grouped(image, groups, inputs, outputs, **options) -> Case:
    """`inputs` and `outputs` of each group."""
    channels = groups * inputs
    return Case(image, (1, 1), inputs, groups * outputs, channels, padding="VALID", **options)


CASES = [
    grouped((8, 8), 3, 4, 5),
    grouped((9, 7), 2, 5, 3, strides=2, batch=3),
    grouped((8, 9), 4, 3, 2, strides=(1, 2), batch=1),
    grouped((8, 9), 6, 1, 2, strides=3),  # one channel to a group
    grouped((5, 5), 1, 6, 4),  # one group
    grouped((1, 1), 8, 2, 1, strides=2, batch=1),
]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_value_and_gradients_are_the_native_convolutions(case, dtype):
    check(case, lambda x, kernel: grouped_conv(x, kernel, strides=case.strides), dtype)


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
@pytest.mark.parametrize(
    "case",
    [
        grouped((28, 28), 3, 20, 80),
        grouped((14, 14), 8, 96, 24),
        grouped((7, 7), 3, 80, 320),
    ],
    ids=str,
)
def test_layers_of_shufflenet_v1_at_224_are_right(case, dtype):
    check(case, lambda x, kernel: grouped_conv(x, kernel), dtype, "float32")


@pytest.mark.parametrize("strides", [1, 2])
def test_infinities_and_nans_reach_what_they_reach_natively(strides):
    case = grouped((6, 6), 1, 4, 5, strides=strides)
    check_specials(case, lambda x, kernel: grouped_conv(x, kernel, strides=strides))


def test_a_nan_stays_in_its_group():
    x = jnp.ones((1, 2, 2, 6)).at[0, 0, 0, 3].set(jnp.nan)
    y = grouped_conv(x, jnp.ones((1, 1, 2, 9)))
    assert jnp.isnan(y[0, 0, 0]).tolist() == [False] * 3 + [True] * 3 + [False] * 3
    assert not jnp.isnan(y[0, 1:]).any()


@pytest.mark.parametrize(
    "shape", [(2, 6), (3, 3, 2, 6), (1, 1, 4, 6), (1, 1, 2, 8), (1, 1, 0, 6)], ids=str
)
def test_a_kernel_that_does_not_fit_is_refused(shape):
    with pytest.raises(InputError, match=r"\[1, 1, 6 / groups, d\] with d a multiple") as error:
        grouped_conv(jnp.zeros((1, 8, 8, 6)), jnp.zeros(shape))
    assert str(list(shape)) in str(error.value)
