"""The authors' networks in torch, written from their public modules, with their names and order."""

import math

import torch
from torch import nn
from torch.nn import functional

from flaxmobile.layers import round_channels
from tests.models.mobilenext import TABLE, form_of


def normalized(given, wanted, side=1, stride=1, groups=1, activation=None):
    """Convolution, BatchNorm and maybe activation, as items of a list."""
    conv = nn.Conv2d(given, wanted, side, stride, side // 2, groups=groups, bias=False)
    return [conv, nn.BatchNorm2d(wanted), *([activation()] if activation else [])]


class Sandglass(nn.Module):
    def __init__(self, given, wanted, stride, ratio, keep_3x3):
        super().__init__()
        first, last, self.adds = form_of(given, wanted, stride, ratio, keep_3x3)
        narrow = given // ratio
        if narrow < wanted / 6:
            narrow = round_channels(math.ceil(wanted / 6), 16)
        layers = normalized(given, narrow) + normalized(narrow, wanted, activation=nn.ReLU6)
        if first:
            layers = normalized(given, given, 3, groups=given, activation=nn.ReLU6) + layers
        if last:
            layers += normalized(wanted, wanted, 3, stride, groups=wanted)
        self.conv = nn.Sequential(*layers)

    def forward(self, x):
        return x + self.conv(x) if self.adds else self.conv(x)


class MobileNeXt(nn.Module):
    """`MXNet` of the file `mnext.py`."""

    def __init__(self, alpha=1.0, num_classes=10):
        super().__init__()
        given = round_channels(32 * alpha)
        layers = [nn.Sequential(*normalized(3, given, 3, 2, activation=nn.ReLU6))]
        for ratio, width, repeats, stride in TABLE:
            wanted = 1280 if width == 1280 and alpha < 1 else round_channels(width * alpha)
            for number in range(repeats):
                keep = repeats == 1 and stride == 1
                layers.append(Sandglass(given, wanted, 1 if number else stride, ratio, keep))
                given = wanted
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(nn.Dropout(0.0), nn.Linear(given, num_classes))

    def forward(self, x):
        return self.classifier(self.features(x).mean((2, 3)))


class ShuffleUnitV1(nn.Module):
    def __init__(self, given, wanted, groups, first, stride):
        super().__init__()
        self.groups, middle, made = groups, wanted // 4, wanted - given * (stride == 2)
        self.branch_main_1 = nn.Sequential(
            *normalized(given, middle, groups=1 if first else groups, activation=nn.ReLU),
            *normalized(middle, middle, 3, stride, middle),
        )
        self.branch_main_2 = nn.Sequential(*normalized(middle, made, groups=groups))
        if stride == 2:
            self.branch_proj = nn.AvgPool2d(3, 2, 1)

    def forward(self, x):
        y = self.branch_main_1(x)
        order = [
            place for group in range(self.groups) for place in range(group, y.shape[1], self.groups)
        ]
        y = self.branch_main_2(y[:, order])
        if hasattr(self, "branch_proj"):
            return torch.cat([self.branch_proj(x), y.relu()], 1)
        return (x + y).relu()


class ShuffleUnitV2(nn.Module):
    def __init__(self, given, wanted, stride):
        super().__init__()
        middle = wanted // 2
        self.branch_main = nn.Sequential(
            *normalized(given, middle, activation=nn.ReLU),
            *normalized(middle, middle, 3, stride, middle),
            *normalized(middle, wanted - given, activation=nn.ReLU),
        )
        if stride == 2:
            self.branch_proj = nn.Sequential(
                *normalized(given, given, 3, 2, given),
                *normalized(given, given, activation=nn.ReLU),
            )

    def forward(self, x):
        if hasattr(self, "branch_proj"):
            return torch.cat([self.branch_proj(x), self.branch_main(x)], 1)
        return torch.cat([x[:, ::2], self.branch_main(x[:, 1::2])], 1)


class ShuffleNet(nn.Module):
    """`ShuffleNetV1` of Megvii with groups, `ShuffleNetV2` without."""

    def __init__(self, stem, stages, groups=None, head=None, num_classes=10):
        super().__init__()
        self.first_conv = nn.Sequential(*normalized(3, stem, 3, 2, activation=nn.ReLU))
        units, given = [], stem
        for stage, (wanted, count) in enumerate(zip(stages, (4, 8, 4), strict=True)):
            for number in range(count):
                stride = 1 if number else 2
                if groups is None:
                    units.append(ShuffleUnitV2(given // (2 if number else 1), wanted, stride))
                else:
                    first = (stage, number) == (0, 0)
                    units.append(ShuffleUnitV1(given, wanted, groups, first, stride))
                given = wanted
        self.features = nn.Sequential(*units)
        if head:
            self.conv_last = nn.Sequential(*normalized(given, head, activation=nn.ReLU))
        self.classifier = nn.Sequential(nn.Linear(head or given, num_classes, bias=False))

    def forward(self, x):
        x = self.features(functional.max_pool2d(self.first_conv(x), 3, 2, 1))
        if hasattr(self, "conv_last"):
            x = self.conv_last(x)
        return self.classifier(x.mean((2, 3)))


class BlazeBlock(nn.Module):
    def __init__(self, given, wanted, stride=1, residual=True):
        super().__init__()
        self.stride, self.extra, self.residual = stride, wanted - given, residual
        self.convs = nn.Sequential(
            nn.Conv2d(given, given, 3, stride, 0 if stride == 2 else 1, groups=given),
            nn.Conv2d(given, wanted, 1),
        )

    def forward(self, x):
        shrinks = self.stride == 2
        y = self.convs(functional.pad(x, (0, 2, 0, 2)) if shrinks else x)
        if not self.residual:
            return y.relu()
        x = functional.max_pool2d(x, 2) if shrinks else x
        return (y + functional.pad(x, (0, 0, 0, 0, 0, self.extra))).relu()


def blaze_list(given, rows, stem=False):
    layers = [nn.Conv2d(3, given, 5, 2), nn.ReLU()] if stem else []
    for wanted, stride in rows:
        layers.append(BlazeBlock(given, wanted, stride))
        given = wanted
    return nn.Sequential(*layers)


FINE = [(24, 1), (28, 1), (32, 2), (36, 1), (42, 1), (48, 2), (56, 1), (64, 1), (72, 1), (80, 1)]
BACK = [(24, 1)] * 7 + [(24, 2)] + [(24, 1)] * 7
BACK += [(48, 2)] + [(48, 1)] * 7 + [(96, 2)] + [(96, 1)] * 7


class BlazeFace(nn.Module):
    """`BlazeFace(back_model)` of hollance's port."""

    def __init__(self, back_model=False):
        super().__init__()
        if back_model:
            self.backbone = blaze_list(24, BACK, stem=True)
            self.final = BlazeBlock(96, 96, 2, residual=False)
        else:
            self.backbone1 = blaze_list(24, [*FINE, (88, 1)], stem=True)
            self.backbone2 = blaze_list(88, [(96, 2)] + [(96, 1)] * 4)
        fine = 96 if back_model else 88
        self.classifier_8, self.classifier_16 = nn.Conv2d(fine, 2, 1), nn.Conv2d(96, 6, 1)
        self.regressor_8, self.regressor_16 = nn.Conv2d(fine, 32, 1), nn.Conv2d(96, 96, 1)

    def forward(self, x):
        first, second = list(self.children())[:2]
        fine = first(functional.pad(x, (1, 2, 1, 2)))
        maps = fine, second(fine)
        outputs = []
        for name, numbers in (("regressor", 16), ("classifier", 1)):
            heads = getattr(self, f"{name}_8"), getattr(self, f"{name}_16")
            found = [head(x).permute(0, 2, 3, 1) for head, x in zip(heads, maps, strict=True)]
            outputs.append(torch.cat([y.reshape(len(x), -1, numbers) for y in found], 1))
        return outputs
