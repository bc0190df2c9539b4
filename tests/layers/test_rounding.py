import numpy as np
from torchvision.models._utils import _make_divisible

from flaxmobile.layers import round_channels


def test_channels_are_torchvisions_for_every_width():
    for base in (8, 16, 24, 32, 64, 96, 160, 320, 1280):
        for alpha in np.arange(0.01, 2.51, 0.01):
            assert round_channels(base * alpha) == _make_divisible(base * alpha, 8)


def test_channels_are_torchvisions_for_other_divisors():
    for channels in range(1, 700):
        for divisor in (1, 2, 4, 16, 32):
            assert round_channels(channels, divisor) == _make_divisible(channels, divisor)


def test_channels_never_fall_below_90_percent_or_the_divisor():
    assert round_channels(11) == 16  # 8 would be 73 percent
    assert round_channels(1) == 8
    for channels in range(8, 700):
        assert round_channels(channels) >= 0.9 * channels
        assert round_channels(channels) % 8 == 0
