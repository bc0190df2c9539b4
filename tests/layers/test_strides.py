import jax
import numpy as np
import pytest
from jax import lax

from flaxmobile.layers.strides import plan_strides

CHAIN = (1, 2, 2, 2, 1, 2)


def steps_of(strides, output_stride, before=2):
    return [tuple(step) for step in plan_strides(strides, output_stride, before)]


def test_strides_within_the_output_stride_stay():
    assert steps_of(CHAIN, 32) == [
        (1, 1, 1, 2),
        (2, 1, 1, 4),
        (2, 1, 1, 8),
        (2, 1, 1, 16),
        (1, 1, 1, 16),
        (2, 1, 1, 32),
    ]


def test_strides_beyond_it_dilate_what_follows():
    assert steps_of(CHAIN, 8) == [
        (1, 1, 1, 2),
        (2, 1, 1, 4),
        (2, 1, 1, 8),
        (1, 1, 2, 8),  # its own strided layer is not yet dilated
        (1, 2, 2, 8),
        (1, 2, 4, 8),
    ]


def test_a_stride_of_4_dilates_by_4():
    assert steps_of((4, 4, 1), 4, before=1) == [(4, 1, 1, 4), (1, 1, 4, 4), (1, 4, 4, 4)]


def test_no_blocks_give_no_steps():
    assert steps_of((), 8) == []


def convolve(x, kernel, stride, dilation):
    return lax.conv_general_dilated(
        x, kernel, (stride,), [(dilation, dilation)], rhs_dilation=(dilation,)
    )


@pytest.mark.parametrize("output_stride", [1, 2, 4, 8, 16])
def test_a_dilated_chain_computes_the_strided_chains_values_at_more_places(output_stride):
    """Of blocks of two layers each: the strided one, and one that follows it."""
    rng = np.random.default_rng(0)
    kernels = rng.normal(size=(len(CHAIN), 2, 1, 1, 3))
    image = rng.normal(size=(1, 1, 64))
    with jax.enable_x64(True):
        results = []
        for target in (16, output_stride):
            x = image
            for step, (strided, later) in zip(plan_strides(CHAIN, target), kernels, strict=True):
                x = convolve(x, strided, step.stride, step.dilation)
                x = convolve(x, later, 1, step.later_dilation)
                assert x.shape[-1] == 64 // step.total
            results.append(x)
    coarse, fine = results
    np.testing.assert_allclose(fine[..., :: 16 // output_stride], coarse, rtol=0, atol=1e-9)
