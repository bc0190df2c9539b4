"""MobileNeXt in torch, from the paper and the forms of the authors' public block."""

import math

import torch
from torch import nn

from flaxmobile.layers import round_channels
from tests.models.parity import NUM_CLASSES

TABLE = [  # t, c, b, s; the authors corrected the blocks of 960 channels from 2 to 3
    (2, 96, 1, 2),
    (6, 144, 1, 1),
    (6, 192, 3, 2),
    (6, 288, 3, 2),
    (6, 384, 4, 1),
    (6, 576, 4, 2),
    (6, 960, 3, 1),
    (6, 1280, 1, 1),
]


class Normalized(nn.Module):
    """Convolution and BatchNorm, with ReLU6 or without; over all channels or each of them."""

    def __init__(self, given, wanted, side=1, stride=1, activate=False):
        super().__init__()
        groups = given if side > 1 and given == wanted else 1
        self.conv = nn.Conv2d(given, wanted, side, stride, side // 2, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(wanted)
        self.activate = activate

    def forward(self, x):
        x = self.norm(self.conv(x))
        return nn.functional.relu6(x) if self.activate else x


def form_of(given, wanted, stride, ratio, keep_3x3):
    """Whether a block has the first, the last depthwise convolution, and a shortcut.

    In the order of the public block's cases. Its last one covers a stride of 2 too, but there it
    neither shrinks nor leaves the shortcut out: here it does, as in the paper.
    """
    if ratio == 2:
        return True, True, False
    if given != wanted and stride == 1 and not keep_3x3:
        return False, False, False
    if given != wanted and stride == 2 and not keep_3x3:
        return False, True, False
    return True, True, not keep_3x3 and stride == 1


class Block(nn.Module):
    """The public block; `shared` is the share of the channels that the shortcut adds."""

    def __init__(self, given, wanted, stride, ratio, keep_3x3=False, shared=1.0):
        super().__init__()
        first, last, self.identity = form_of(given, wanted, stride, ratio, keep_3x3)
        self.shared = round(given * shared)
        narrow = given // ratio
        if narrow < wanted / 6:
            narrow = round_channels(math.ceil(wanted / 6), 16)
        if first:
            self.depthwise1 = Normalized(given, given, 3, activate=True)
        self.reduce = Normalized(given, narrow)
        self.expand = Normalized(narrow, wanted, activate=True)
        if last:
            self.depthwise2 = Normalized(wanted, wanted, 3, stride)

    def forward(self, x):
        y = x
        for layer in self.children():
            y = layer(y)
        if self.identity:
            rest = torch.zeros_like(x[:, self.shared :])
            y = y + torch.cat([x[:, : self.shared], rest], dim=1)
        return y


class Reference(nn.Module):
    """The table at a width."""

    def __init__(self, alpha):
        super().__init__()
        given = round_channels(32 * alpha)
        self.stem = Normalized(3, given, 3, 2, activate=True)
        for stage, (ratio, width, repeats, stride) in enumerate(TABLE, start=1):
            scale = max(alpha, 1.0) if width == 1280 else alpha
            wanted = round_channels(width * scale)
            for number in range(1, repeats + 1):
                keep = repeats == 1 and stride == 1
                unit = Block(given, wanted, stride if number == 1 else 1, ratio, keep)
                self.add_module(f"stage{stage}_block{number}", unit)
                given = wanted
        self.classifier = nn.Linear(given, NUM_CLASSES)

    def forward(self, x):
        for name, unit in self.named_children():
            if name != "classifier":
                x = unit(x)
        return self.classifier(x.mean((2, 3)))
