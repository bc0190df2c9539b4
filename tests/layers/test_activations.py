import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from flaxmobile.layers import relu6

POINTS = [-np.inf, -1.0, -0.0, 0.0, 1e-30, 3.0, 6.0, 6.5, np.inf, np.nan]


def test_relu6_and_its_gradient_are_torchs_everywhere():
    x = torch.tensor(POINTS, requires_grad=True)
    y = torch.nn.functional.relu6(x)
    y.sum().backward()
    points = jnp.array(POINTS)
    np.testing.assert_array_equal(relu6(points), y.detach().numpy())
    gradient = jax.vmap(jax.grad(relu6))(points)
    known = ~np.isnan(POINTS)  # torch passes the gradient at NaN, JAX does not: no number is right
    np.testing.assert_array_equal(gradient[known], x.grad.numpy()[known])


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.float32])
def test_relu6_keeps_the_type(dtype):
    y = relu6(jnp.array([-1, 3, 7], dtype))
    assert y.dtype == dtype
    np.testing.assert_array_equal(y.astype(jnp.float32), [0, 3, 6])
