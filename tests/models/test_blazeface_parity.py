"""BlazeFace against PyTorch, written here from the paper's table 4 and figure 1."""

from functools import cache, partial
from itertools import pairwise

import jax
import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from flaxmobile import create_model
from flaxmobile.layers import ConvNorm
from flaxmobile.models.blazeface import BlazeBlock
from tests.models.parity import (
    NUM_CLASSES,
    assert_block_agrees,
    assert_close,
    assert_logits_agree,
    assert_training_step_agrees,
    batch_of,
    block,
    paired,
    to_torch,
    written_here,
)
from tests.networks import abstract


class SameConv(nn.Conv2d):
    """TensorFlow's padding: what is missing to ceil(size / stride), the odd pixel at the end."""

    def forward(self, x):
        pads = []
        for size, kernel, stride in zip(x.shape[:1:-1], self.kernel_size, self.stride, strict=True):
            missing = max((-(-size // stride) - 1) * stride + kernel - size, 0)
            pads += [missing // 2, missing - missing // 2]
        return super().forward(functional.pad(x, pads))


def unit(given, channels, size=1, stride=1, groups=1, activate=False):
    conv = SameConv(given, channels, size, stride, groups=groups, bias=False)
    norm = nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01)
    return Unit(conv, norm, activate)


class Unit(nn.Module):
    def __init__(self, conv, norm, activate):
        super().__init__()
        self.conv, self.norm, self.activate = conv, norm, activate

    def forward(self, x):
        x = self.norm(self.conv(x))
        return x.relu() if self.activate else x


class Blaze(nn.Module):
    """Figure 1: left without `squeezed`, right with it."""

    def __init__(self, given, channels, squeezed=0, stride=1, size=5, shortcut="pad"):
        super().__init__()
        self.stride, self.extra = stride, channels - given
        inner = given
        if squeezed:
            self.squeeze_depthwise = unit(given, given, size, stride, groups=given)
            self.squeeze = unit(given, squeezed, activate=True)
            inner, stride = squeezed, 1
        self.depthwise = unit(inner, inner, size, stride, groups=inner)
        self.project = unit(inner, channels)
        if shortcut == "projection" and (self.stride == 2 or self.extra):
            self.shortcut = unit(given, channels, activate=True)

    def forward(self, x):
        y = self.squeeze(self.squeeze_depthwise(x)) if hasattr(self, "squeeze") else x
        y = self.project(self.depthwise(y))
        if self.stride == 2:
            x = functional.max_pool2d(x, 2, ceil_mode=True)
        if hasattr(self, "shortcut"):
            x = self.shortcut(x)
        elif self.extra:
            zeros = torch.zeros(len(x), self.extra, *x.shape[2:], dtype=x.dtype)
            x = torch.cat([x, zeros], 1)
        return (x + y).relu()


PAPER = [  # input channels, output channels, squeezed, stride
    (24, 24, 0, 1), (24, 24, 0, 1), (24, 48, 0, 2), (48, 48, 0, 1), (48, 48, 0, 1),
    (48, 96, 24, 2), (96, 96, 24, 1), (96, 96, 24, 1),
    (96, 96, 24, 2), (96, 96, 24, 1), (96, 96, 24, 1),
]  # fmt: skip
WIDTHS = [24, 24, 28, 32, 36, 42, 48, 56, 64, 72, 80, 88, 96, 96, 96, 96, 96]
MEDIAPIPE = [
    (given, channels, 0, 2 if channels in (32, 48) or (given, channels) == (88, 96) else 1)
    for given, channels in pairwise(WIDTHS)
]


class Network(nn.Module):
    def __init__(self, rows, size, detector=False):
        super().__init__()
        self.stem = unit(3, 24, 5, 2, activate=True)
        self.strides = [row[3] for row in rows]
        for number, row in enumerate(rows, 1):
            self.add_module(f"block{number}", Blaze(*row, size))
        self.detector = detector
        if detector:
            fine = [row[1] for row in rows][sum(np.cumprod(self.strides) <= 4) - 1]
            self.boxes_stride8, self.scores_stride8 = nn.Conv2d(fine, 32, 1), nn.Conv2d(fine, 2, 1)
            self.boxes_stride16, self.scores_stride16 = nn.Conv2d(96, 96, 1), nn.Conv2d(96, 6, 1)
        else:
            self.classifier = nn.Linear(96, NUM_CLASSES)

    def forward(self, x):
        x, total, maps = self.stem(x), 2, {}
        for number, stride in enumerate(self.strides, 1):
            x, total = getattr(self, f"block{number}")(x), total * stride
            maps[total] = x
        if not self.detector:
            return self.classifier(x.mean((2, 3)))
        boxes, scores = [], []
        for stride in (8, 16):
            box, score = (
                getattr(self, f"{kind}_stride{stride}")(maps[stride]).permute(0, 2, 3, 1)
                for kind in ("boxes", "scores")
            )
            boxes.append(box.reshape(len(x), -1, 16))
            scores.append(score.reshape(len(x), -1))
        return torch.cat(boxes, 1), torch.cat(scores, 1)


@pytest.mark.parametrize("shortcut", ["pad", "projection"])
@pytest.mark.parametrize(
    ("given", "channels", "squeezed", "stride", "kernel", "size"),
    [
        (8, 8, 0, 1, 5, 9),  # single
        (8, 12, 0, 2, 5, 12),
        (8, 12, 0, 1, 3, 9),  # MediaPipe's: wider at stride 1
        (8, 12, 0, 2, 3, 13),
        (8, 8, 6, 1, 5, 9),  # double
        (8, 12, 6, 2, 5, 12),
    ],
)
def test_block_agrees(given, channels, squeezed, stride, kernel, size, shortcut):
    conv = partial(
        ConvNorm, padding="SAME", norm_momentum=0.99, norm_epsilon=1e-3, dtype=np.float64
    )
    ours = BlazeBlock(channels, squeezed, stride, kernel, shortcut, unit=conv)
    theirs = Blaze(given, channels, squeezed, stride, kernel, shortcut)
    assert_block_agrees(block(theirs, ours, given, size), (3, size, size, given))


@cache
def pair(variant):
    rows, size = {"paper": (PAPER, 5), "mediapipe": (MEDIAPIPE, 3)}[variant]
    return written_here(Network(rows, size), "blazeface", variant=variant)


@pytest.mark.parametrize("variant", ["paper", "mediapipe"])
def test_logits_agree(variant):
    assert_logits_agree(pair(variant), 128, batch=1)


@pytest.mark.parametrize("variant", ["paper", "mediapipe"])
def test_training_step_agrees(variant):
    assert_training_step_agrees(pair(variant), 47)


@pytest.mark.parametrize("variant", ["paper", "mediapipe"])
def test_detector_outputs_agree(variant):
    rows, size = {"paper": (PAPER, 5), "mediapipe": (MEDIAPIPE, 3)}[variant]
    model = create_model("blazeface", variant=variant, detector=True)
    found = paired(Network(rows, size, detector=True), model, abstract(model))
    images, _ = batch_of(128, 1, np.float32)
    with torch.no_grad():
        boxes, scores = found.torch(to_torch(images))
    ours = jax.jit(model.apply)(found.variables, images)
    assert ours["boxes"].shape == (1, 896, 16)
    assert_close(ours["boxes"], boxes, 1e-4, "boxes")
    assert_close(ours["scores"], scores, 1e-4, "scores")
