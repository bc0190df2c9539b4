"""Plain Flax layers compute what ours do, on the same variables."""

import jax
import numpy as np
import pytest

from flaxmobile.bench.plain import plain_layers
from flaxmobile.models.ic_conv import ICConv


@pytest.mark.parametrize(("groups", "use_bias"), [(1, True), (4, False)])
def test_each_channel_keeps_its_dilation(groups, use_bias):
    dilations = ((1, 2), (2, 1), (1, 2), (3, 3), (1, 1), (1, 1), (2, 1), (4, 1))
    layer = ICConv(8, 3, stride=2, groups=groups, use_bias=use_bias, dilations=dilations)
    x = np.random.default_rng(0).normal(size=(2, 12, 11, 4)).astype(np.float32)
    variables = layer.init(jax.random.key(0), x)
    with plain_layers():
        plain = jax.jit(layer.apply).lower(variables, x).compile()
    assert plain.as_text().count("convolution(") == len(set(dilations))
    np.testing.assert_allclose(plain(variables, x), layer.apply(variables, x), atol=1e-5)
