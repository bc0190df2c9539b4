import itertools

import numpy as np
import pytest
import torch

from flaxmobile.errors import InputError
from flaxmobile.ops import make_window, output_size


@pytest.mark.parametrize("kernel", [1, 3, 5, 7])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("dilation", [1, 2])
def test_symmetric_is_torch_padding(kernel, stride, dilation):
    pad = (kernel - 1) // 2 * dilation
    for height, width in ((8, 9), (15, 32)):
        window = make_window((height, width), (kernel, kernel), stride, "symmetric", dilation)
        assert window.padding == ((pad, pad), (pad, pad))
        layer = torch.nn.Conv2d(1, 1, kernel, stride, padding=pad, dilation=dilation)
        shape = layer(torch.zeros(1, 1, height, width)).shape[2:]
        assert output_size((height, width), (kernel, kernel), window) == tuple(shape)


@pytest.mark.parametrize("dilation", [1, 2])
def test_same_is_tensorflow_padding(dilation):
    """The formula of TensorFlow's guide: ceil(size / stride) outputs, the odd pixel at the end."""
    for size, kernel, stride in itertools.product(range(1, 12), (1, 2, 3, 5, 7), (1, 2, 3)):
        reach = (kernel - 1) * dilation + 1
        rest = size % stride or stride
        total = max(reach - rest, 0)
        window = make_window((size, 32), (kernel, 3), (stride, 1), "SAME", (dilation, 1))
        assert window.padding == ((total // 2, total - total // 2), (1, 1))
        assert output_size((size, 32), (kernel, 3), window) == (-(-size // stride), 32)


def test_same_and_symmetric_differ_under_a_stride():
    same, symmetric = (make_window((8, 8), (3, 3), 2, rule) for rule in ("SAME", "symmetric"))
    assert same.padding == ((0, 1), (0, 1))
    assert symmetric.padding == ((1, 1), (1, 1))


def test_valid_pads_nothing_and_explicit_padding_is_kept():
    assert make_window((8, 8), (3, 5), padding="VALID").padding == ((0, 0), (0, 0))
    assert make_window((8, 8), (3, 5), padding=((0, 2), (3, 1))).padding == ((0, 2), (3, 1))
    assert make_window((8, 8), (3, 5), padding=[1, (0, 4)]).padding == ((1, 1), (0, 4))


def test_axes_are_told_apart():
    window = make_window((8, 9), (1, 7), (1, 2), "symmetric", (3, 2))
    assert window == ((1, 2), ((0, 0), (6, 6)), (3, 2))
    np.testing.assert_array_equal(output_size((8, 9), (1, 7), window), (8, 5))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"padding": "same"}, "unknown padding 'same'.*'symmetric', 'SAME', 'VALID'"),
        ({"strides": 0}, "strides .0, 0. .*at least 1"),
        ({"dilation": (1, -1)}, "dilation .1, -1. .*at least 1"),
        ({"padding": ((0, -1), (0, 0))}, "padding is ..0, -1., .0, 0..; accepted: 0 or more"),
        ({"padding": "VALID", "dilation": 4}, "8 x 8.*3 x 3.*dilation"),
    ],
)
def test_a_window_that_cannot_be_is_refused(options, says):
    with pytest.raises(InputError, match=says):
        make_window((8, 8), (3, 3), **options)
