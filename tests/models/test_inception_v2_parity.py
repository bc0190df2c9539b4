"""Inception V2 against a network written here from figure 5 of the paper."""

from functools import cache, partial

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from flaxmobile.layers import ConvNorm, Max
from flaxmobile.layers.branches import Branches, Mean
from flaxmobile.models.inception_v2 import Widths, module
from tests.models.inception import Unit, thin
from tests.models.parity import (
    NUM_CLASSES,
    assert_block_agrees,
    assert_logits_agree,
    assert_training_step_agrees,
    block,
    written_here,
)

UNIT = partial(ConvNorm, padding="SAME", norm_epsilon=1e-3, dtype=np.float64)

# Figure 5: #1×1, #3×3 reduce, #3×3, double #3×3 reduce, double #3×3, pool and projection.
FIGURE = (
    ("3a", 64, 64, 64, 64, 96, "avg", 32),
    ("3b", 64, 64, 96, 64, 96, "avg", 64),
    ("3c", 0, 128, 160, 64, 96, "pass through", 0),
    ("4a", 224, 64, 96, 96, 128, "avg", 128),
    ("4b", 192, 96, 128, 96, 128, "avg", 128),
    ("4c", 160, 128, 160, 128, 160, "avg", 128),
    ("4d", 96, 128, 192, 160, 192, "avg", 128),
    ("4e", 0, 128, 192, 192, 256, "pass through", 0),
    ("5a", 352, 192, 320, 160, 224, "avg", 128),
    ("5b", 352, 192, 320, 192, 224, "max", 128),
)


def same(x, kernel, stride, value=0.0):
    """Pad as TensorFlow does: what is odd goes to the right and below."""
    pads = []
    for side in (x.shape[3], x.shape[2]):
        count = -(-side // stride)
        missing = max((count - 1) * stride + kernel - side, 0)
        pads += [missing // 2, missing - missing // 2]
    return functional.pad(x, pads, value=value)


def shrink(x):
    return functional.max_pool2d(same(x, 3, 2, -torch.inf), 3, 2)


class SameUnit(Unit):
    """A convolution that pads as TensorFlow does."""

    def __init__(self, channels, features, kernel=1, stride=1, normalized=True):
        super().__init__(channels, features, kernel, stride, 0, normalized)

    def forward(self, x):
        return super().forward(same(x, self.conv.kernel_size[0], self.conv.stride[0]))


class Module(nn.Module):
    """A row of the figure."""

    def __init__(self, channels, c1, r3, c3, rd, cd, pool, project):
        super().__init__()
        stride = 2 if pool == "pass through" else 1
        self.branch3x3_reduce, self.branch3x3 = SameUnit(channels, r3), SameUnit(r3, c3, 3, stride)
        self.double3x3_reduce = SameUnit(channels, rd)
        self.double3x3_1, self.double3x3_2 = SameUnit(rd, cd, 3), SameUnit(cd, cd, 3, stride)
        self.pool = pool
        self.features = c3 + cd + (channels if stride == 2 else c1 + project)
        if stride == 1:
            self.branch1x1 = SameUnit(channels, c1)
            self.pool_project = SameUnit(channels, project)

    def forward(self, x):
        threes = self.branch3x3(self.branch3x3_reduce(x))
        doubles = self.double3x3_2(self.double3x3_1(self.double3x3_reduce(x)))
        if self.pool == "pass through":
            return torch.cat([threes, doubles, shrink(x)], 1)
        if self.pool == "max":
            pooled = functional.max_pool2d(x, 3, 1, 1)
        else:
            pooled = functional.avg_pool2d(x, 3, 1, 1, count_include_pad=False)
        return torch.cat([self.branch1x1(x), threes, doubles, self.pool_project(pooled)], 1)


class Depthwise(nn.Conv2d):
    """The first half of the separable first layer."""

    def forward(self, x):
        return super().forward(same(x, 7, 2))


class Network(nn.Module):
    """The figure, thinned, in a flavour."""

    def __init__(self, alpha, flavour):
        super().__init__()
        width = thin(64, alpha)
        if flavour == "caffe":
            self.stem = SameUnit(3, width, 7, 2)
        else:
            multiplier = min(width // 3, 8)
            self.stem_depthwise = Depthwise(3, 3 * multiplier, 7, 2, groups=3, bias=False)
            self.stem_pointwise = SameUnit(3 * multiplier, width, normalized=flavour == "paper")
        self.conv2_reduce = SameUnit(width, width)
        self.conv2 = SameUnit(width, thin(192, alpha), 3)
        channels = thin(192, alpha)
        for name, *row in FIGURE:
            if flavour == "slim" and name in ("4c", "4d"):
                row[-1] = 96  # so that 576 come out, which is what the figure gives as their sum
            scaled = [thin(c, alpha) if isinstance(c, int) and c else c for c in row]
            module = Module(channels, *scaled)
            self.add_module(f"inception{name}", module)
            channels = module.features
        self.classifier = nn.Linear(channels, NUM_CLASSES)

    def forward(self, x):
        dense = hasattr(self, "stem")
        x = self.stem(x) if dense else self.stem_pointwise(self.stem_depthwise(x))
        x = shrink(self.conv2(self.conv2_reduce(shrink(x))))
        for name, *_ in FIGURE:
            x = self.get_submodule(f"inception{name}")(x)
        return self.classifier(x.mean((2, 3)))


@cache
def pair(flavour, alpha=0.1):
    return written_here(Network(alpha, flavour), "inception_v2", alpha=alpha, flavour=flavour)


@pytest.mark.parametrize("size", [7, 8])
@pytest.mark.parametrize("pool", ["avg", "max", "pass through"])
def test_module_agrees(pool, size):
    row = (0, 3, 5, 2, 6, 0) if pool == "pass through" else (4, 3, 5, 2, 6, 3)
    theirs = Module(8, *row[:5], pool, row[5])
    pooling = Max(3, 1, "symmetric") if pool == "max" else Mean()
    ours = Branches(module(Widths(*row), pooling), count_padding=False, unit=UNIT)
    assert_block_agrees(block(theirs, ours, 8), (2, size, size, 8))


def test_full_size_logits_agree():
    assert_logits_agree(pair("slim", 1.0), 224, batch=1)


@pytest.mark.parametrize("flavour", ["paper", "caffe"])
def test_logits_of_an_odd_size_agree(flavour):
    assert_logits_agree(pair(flavour), 75)


def test_training_step_agrees():
    assert_training_step_agrees(pair("slim"), 64)
