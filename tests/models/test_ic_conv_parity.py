"""IC-Conv networks against PyTorch: ResNet-50 and MobileNet V2 written here, with dilations.

torchvision has the networks without dilations; with them, each channel of the reference is a
convolution of its own.
"""

from functools import cache, partial

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional
from torchvision.models import resnet50

from flaxmobile import create_model
from flaxmobile.layers import ConvNorm
from flaxmobile.models.ic_conv import Bottleneck, ICConv
from tests.models.parity import (
    NUM_CLASSES,
    assert_block_agrees,
    assert_logits_agree,
    assert_training_step_agrees,
    block,
    paired,
    written_here,
)
from tests.networks import abstract

PAIRS = ((1, 1), (2, 1), (1, 3), (4, 4))


def dilations_of(channels, seed=0):
    """Every dilation of PAIRS, in no order."""
    rng = np.random.default_rng(seed)
    return [list(map(int, PAIRS[i])) for i in rng.permutation(np.arange(channels) % len(PAIRS))]


class MixedConv(nn.Conv2d):
    """A convolution each of whose output channels is computed alone, with its own dilation."""

    def __init__(self, given, channels, stride, groups, dilations):
        super().__init__(given, channels, 3, stride, groups=groups, bias=False)
        self.dilations = dilations

    def forward(self, x):
        maps = []
        for channel, (vertical, horizontal) in enumerate(self.dilations):
            maps.append(
                functional.conv2d(
                    x if self.groups == 1 else x[:, channel : channel + 1],
                    self.weight[channel : channel + 1],
                    stride=self.stride,
                    padding=(vertical, horizontal),
                    dilation=(vertical, horizontal),
                )
            )
        return torch.cat(maps, 1)


class Unit(nn.Module):
    """Convolution, normalization, and what follows."""

    def __init__(self, conv, after=None):
        super().__init__()
        self.conv, self.norm = conv, nn.BatchNorm2d(conv.out_channels)
        self.after = after or (lambda x: x)

    def forward(self, x):
        return self.after(self.norm(self.conv(x)))


def pointwise(given, channels, after=None, stride=1):
    return Unit(nn.Conv2d(given, channels, 1, stride, bias=False), after)


class Residual(nn.Module):
    """A bottleneck of ResNet, strided in the middle."""

    def __init__(self, given, width, stride, dilations):
        super().__init__()
        self.reduce = pointwise(given, width, functional.relu)
        self.filter = Unit(MixedConv(width, width, stride, 1, dilations), functional.relu)
        self.expand = pointwise(width, 4 * width)
        if stride == 2 or given != 4 * width:
            self.shortcut = pointwise(given, 4 * width, stride=stride)

    def forward(self, x):
        y = self.expand(self.filter(self.reduce(x)))
        return functional.relu(y + (self.shortcut(x) if hasattr(self, "shortcut") else x))


class Inverted(nn.Module):
    """A block of MobileNet V2."""

    def __init__(self, given, width, expansion, stride, dilations):
        super().__init__()
        wide = given * expansion
        if expansion > 1:
            self.expand = pointwise(given, wide, functional.relu6)
        self.depthwise = Unit(MixedConv(wide, wide, stride, wide, dilations), functional.relu6)
        self.project = pointwise(wide, width)
        self.adds = stride == 1 and given == width

    def forward(self, x):
        y = self.expand(x) if hasattr(self, "expand") else x
        y = self.project(self.depthwise(y))
        return x + y if self.adds else y


class ResNet(nn.Module):
    """ResNet-50 with 8, 16, 24 and 48 channels in its stages' 3×3 convolutions (alpha 0.1)."""

    def __init__(self, pattern):
        super().__init__()
        self.stem = Unit(nn.Conv2d(3, 8, 7, 2, 3, bias=False), functional.relu)
        self.blocks, given = [], 8
        for stage, (width, count) in enumerate([(8, 3), (16, 4), (24, 6), (48, 3)], 1):
            for number in range(1, count + 1):
                name = f"stage{stage}_block{number}"
                dilations = pattern.get(f"{name}/filter", [(1, 1)] * width)
                stride = 2 if stage > 1 and number == 1 else 1
                self.add_module(name, Residual(given, width, stride, dilations))
                self.blocks.append(name)
                given = 4 * width
        self.classifier = nn.Linear(given, NUM_CLASSES)

    def forward(self, x):
        x = functional.max_pool2d(self.stem(x), 3, 2, 1)
        for name in self.blocks:
            x = getattr(self, name)(x)
        return self.classifier(x.mean((2, 3)))


class MobileNet(nn.Module):
    """MobileNet V2 with 8 to 32 channels (alpha 0.1)."""

    TABLE = ((1, 8, 1, 1), (6, 8, 2, 2), (6, 8, 3, 2), (6, 8, 4, 2), (6, 16, 3, 1), (6, 16, 3, 2),
             (6, 32, 1, 1))  # fmt: skip

    def __init__(self, pattern):
        super().__init__()
        self.stem = Unit(nn.Conv2d(3, 8, 3, 2, 1, bias=False), functional.relu6)
        self.blocks, given = [], 8
        for stage, (expansion, width, count, first) in enumerate(self.TABLE, 1):
            for number in range(1, count + 1):
                name = f"stage{stage}_block{number}"
                dilations = pattern.get(f"{name}/depthwise", [(1, 1)] * given * expansion)
                stride = first if number == 1 else 1
                self.add_module(name, Inverted(given, width, expansion, stride, dilations))
                self.blocks.append(name)
                given = width
        self.head = pointwise(given, 1280, functional.relu6)
        self.classifier = nn.Linear(1280, NUM_CLASSES)

    def forward(self, x):
        x = self.stem(x)
        for name in self.blocks:
            x = getattr(self, name)(x)
        return self.classifier(self.head(x).mean((2, 3)))


REFERENCES = {"resnet50": ResNet, "mobilenet_v2": MobileNet}


def pattern_of(base):
    """For a strided layer and another one."""
    layers = create_model("ic_conv", base=base, alpha=0.1).layers()
    chosen = [layer for layer in layers if layer.startswith(("stage2_block1", "stage3_block2"))]
    assert len(chosen) == 2
    return {layer: dilations_of(layers[layer], seed) for seed, layer in enumerate(chosen)}


@cache
def pair(base):
    pattern = pattern_of(base)
    reference = REFERENCES[base](pattern)
    return written_here(reference, "ic_conv", base=base, alpha=0.1, pattern=pattern)


@pytest.mark.parametrize(("channels", "stride", "size"), [(32, 1, 12), (24, 1, 9), (32, 2, 13)])
def test_bottleneck_agrees(channels, stride, size):
    dilations = dilations_of(8)
    unit = partial(ConvNorm, dtype=np.float64)

    def conv(features, kernel_size=1, **options):
        if kernel_size == 1:
            return unit(features, **options)
        mixed = tuple(map(tuple, dilations))
        return ConvNorm(
            features,
            kernel_size,
            convolution=partial(ICConv, dilations=mixed),
            dtype=np.float64,
            **options,
        )

    ours = Bottleneck(8, stride, unit=conv)
    reference = Residual(channels, 8, stride, dilations)
    assert_block_agrees(block(reference, ours, channels), (4, size, size, channels))


@pytest.mark.parametrize(
    ("groups", "stride", "size"), [(1, 1, 7), (1, 2, 12), (8, 1, 8), (8, 2, 9)]
)
def test_unit_agrees(groups, stride, size):
    dilations = dilations_of(8, seed=1)
    mixed = tuple(map(tuple, dilations))
    ours = ConvNorm(
        8,
        3,
        stride,
        groups=groups,
        convolution=partial(ICConv, dilations=mixed),
        dtype=np.float64,
    )
    reference = Unit(MixedConv(8, 8, stride, groups, dilations))
    assert_block_agrees(block(reference, ours, 8), (4, size, size, 8))


@pytest.mark.parametrize("base", REFERENCES)
def test_logits_agree(base):
    assert_logits_agree(pair(base), 64)


@pytest.mark.parametrize("base", REFERENCES)
def test_training_step_agrees(base):
    assert_training_step_agrees(pair(base), 64, batch=4)


def torchvision_name(path):
    """torchvision's name of a module of ResNet-50, by ours."""
    block, *unit = path.split("/")
    if block == "classifier":
        return "fc"
    if block == "stem":
        return {"conv": "conv1", "norm": "bn1"}[unit[0]]
    stage, number = block.removeprefix("stage").split("_block")
    layer, leaf = unit
    if layer == "shortcut":
        inner = f"downsample.{0 if leaf == 'conv' else 1}"
    else:
        kind = "conv" if leaf == "conv" else "bn"
        inner = f"{kind}{['reduce', 'filter', 'expand'].index(layer) + 1}"
    return f"layer{stage}.{int(number) - 1}.{inner}"


def test_without_a_pattern_it_is_torchvisions_resnet50():
    model = create_model("ic_conv", num_classes=NUM_CLASSES)
    reference = resnet50(num_classes=NUM_CLASSES)
    found = paired(reference, model, abstract(model), torchvision_name)
    assert_logits_agree(found, 224, batch=1)
