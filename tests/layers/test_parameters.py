"""Parameters that are there are not made again."""

import jax
import numpy as np
import pytest
from flax import errors
from flax import linen as nn

from flaxmobile.errors import InputError
from flaxmobile.layers import Conv, Dense
from flaxmobile.layers.norm import BatchNorm

IMAGES = np.ones((2, 4, 4, 3), np.float32)


@pytest.mark.parametrize("layer", [Conv, Dense])
def test_an_initializer_runs_only_where_there_is_no_parameter(layer):
    calls = []

    def init(key, shape, dtype):
        calls.append(shape)
        return nn.initializers.ones(key, shape, dtype)

    module, x = layer(5, kernel_init=init), IMAGES if layer is Conv else IMAGES[0, 0]
    variables = module.init(jax.random.key(0), x)
    assert len(calls) == 1
    kernel = variables["params"]["kernel"]
    assert (kernel.dtype, set(np.ravel(kernel))) == (np.float32, {1.0})
    module.apply(variables, x)
    assert len(calls) == 1


@pytest.mark.parametrize(
    ("layer", "said"),
    [
        (Conv, r"have own/kernel of shape \[1, 1, 2, 3\], and the network \[1, 1, 3, 3\]"),
        (BatchNorm, r"have own/scale of shape \[2\], and the network \[3\]"),
    ],
)
def test_a_parameter_of_another_shape_is_named(layer, said):
    class Parent(nn.Module):
        @nn.compact
        def __call__(self, x):
            options = {"features": 3} if layer is Conv else {}
            return layer(**options, name="own")(x)

    variables = Parent().init(jax.random.key(0), IMAGES[..., :2])
    with pytest.raises(InputError, match=said + ": they are of another width"):
        Parent().apply(variables, IMAGES)
    with pytest.raises(errors.ScopeCollectionNotFound):
        Parent().apply({}, IMAGES)


def test_a_boxed_parameter_is_taken_out_of_its_box():
    variables = Conv(5).init(jax.random.key(0), IMAGES)
    boxed = jax.tree.map(lambda x: nn.Partitioned(x, names=(None,) * x.ndim), variables)
    found = Conv(5).apply(boxed, IMAGES)
    np.testing.assert_array_equal(found, Conv(5).apply(variables, IMAGES))
