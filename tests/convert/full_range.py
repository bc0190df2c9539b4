"""MediaPipe's full-range BlazeFace in PyTorch, written from the graphs of its two TFLite files."""

import itertools
from functools import cache

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from tests.convert.tflite_writer import Sparse, encode_tflite

# Channels, those between the halves of a block, stride.
DENSE = [
    (32, 8, 1), (32, 8, 1),
    (48, 12, 2), (48, 12, 1), (64, 16, 1),
    (96, 24, 2), (128, 32, 1), (128, 32, 1),
    (144, 36, 2), (192, 48, 1), (256, 64, 1),
    (384, 96, 2), (384, 96, 1), (384, 96, 1), (384, 96, 1),
]  # fmt: skip
SPARSE = [
    (32, 8, 1), (32, 8, 1),
    (64, 16, 2), (64, 16, 1), (64, 16, 1),
    (128, 32, 2), (128, 32, 1), (128, 32, 1),
    (192, 48, 2), (192, 48, 1), (192, 48, 1),
    (384, 96, 2), (384, 96, 1), (384, 96, 1), (384, 96, 1),
]  # fmt: skip
STEPS = [(96, 2), (64, 2), (48, 1)]  # channels and blocks of the decoder


class FullRange(nn.Module):
    """Layers by Keras's names: made, and called, in the order in which Keras numbers them.

    `called` is the order in which the graph of the file runs them.
    """

    def __init__(self, sparse=False):
        super().__init__()
        self.sparse, self.layers, self.called = sparse, nn.ModuleDict(), []
        with torch.no_grad():
            self(torch.zeros(1, 3, 64, 64))

    def conv(self, x, channels, kernel=1, stride=1, depthwise=False, name=None):
        kind = "depthwise_conv2d" if depthwise else "conv2d"
        number = next(self.numbers[kind])
        name = name or (f"{kind}_{number}" if number else kind)
        if name not in self.layers:
            groups = x.shape[1] if depthwise else 1
            layer = nn.Conv2d(x.shape[1], channels, kernel, stride, groups=groups)
            nn.init.kaiming_normal_(layer.weight)
            nn.init.normal_(layer.bias, std=0.1)
            self.layers[name] = layer
        self.called.append(name)
        if kernel == 3:
            x = functional.pad(x, (0, 1, 0, 1) if stride == 2 and not self.sparse else (1, 1, 1, 1))
        return self.layers[name](x)

    def block(self, x, channels, squeezed, stride=1):
        given = x.shape[1]
        y = self.conv(x, given, 3, stride, depthwise=True)
        y = self.conv(y, squeezed).relu()
        y = self.conv(self.conv(y, squeezed, 3, depthwise=True), channels)
        if stride == 2 and self.sparse:
            return y.relu()
        x = functional.max_pool2d(x, 2) if stride == 2 else x
        return (y + functional.pad(x, (0, 0, 0, 0, 0, channels - given))).relu()

    def head(self, x, numbers, name):
        if not self.sparse:
            return self.conv(x, numbers, name=name)
        y = self.conv(x, 4 * numbers, name=f"{name}_wide")
        y = self.conv(y, 4 * numbers, 3, 2, depthwise=True, name=f"{name}_spread")
        n, _, h, w = y.shape
        cells = y.view(n, 2, 2, numbers, h, w).permute(0, 3, 4, 1, 5, 2)
        return cells.reshape(n, numbers, 2 * h, 2 * w)

    def forward(self, x):
        self.numbers, self.called = (
            {"conv2d": itertools.count(), "depthwise_conv2d": itertools.count()},
            [],
        )
        x = self.conv(x, 32, 3, 2).relu()
        maps = []
        for channels, squeezed, stride in SPARSE if self.sparse else DENSE:
            if stride == 2:
                maps.append((x, len(self.called)))
            x = self.block(x, channels, squeezed, stride)
        for (channels, blocks), (fine, place) in zip(STEPS, maps[:0:-1], strict=True):
            coarse = self.conv(x, channels).relu()
            fine = self.conv(fine, channels).relu()
            if self.sparse:  # the graph runs it as soon as it can
                self.called.insert(place, self.called.pop())
            x = fine + functional.interpolate(coarse, scale_factor=2, mode="bilinear")
            for _ in range(blocks):
                x = self.block(x, channels, channels // 2)
        scores = self.head(x, 1, "classifier_face_4")
        boxes = self.head(x, 16, "regressor_face_4")
        return [each.permute(0, 2, 3, 1).flatten(1, 2) for each in (boxes, scores)]


@cache
def random_network(sparse):
    """In numbers that float16 holds too; of the sparse one's pointwise kernels most are 0."""
    torch.manual_seed(0)
    port = FullRange(sparse)
    for layer in port.layers.values():
        if sparse and layer.kernel_size == (1, 1):
            torch.nn.init.sparse_(layer.weight.data.view(len(layer.weight), -1), 0.7)
            layer.weight.data *= 100 * (2 / (0.3 * layer.in_channels)) ** 0.5
    return port.half().float().requires_grad_(requires_grad=False)


def encode(port):
    """The file: in the dense one names tell the layers, in the other their order does."""
    constants, operations, sparse = [], [], {}
    leaves = ("kernel", "bias") if port.sparse else ("Kernel", "Bias")
    for number, name in enumerate(port.called):
        layer, label = port.layers[name], f"tensor{number}" if port.sparse else name
        depthwise = layer.groups > 1
        kernel = layer.weight.numpy().transpose((1, 2, 3, 0) if depthwise else (0, 2, 3, 1))
        names = [f"{label}/{leaf}" for leaf in leaves]
        arrays = [array.astype(np.float16) for array in (kernel, layer.bias.numpy())]
        constants += zip(names, arrays, strict=True)
        operations.append(("DEPTHWISE_CONV_2D" if depthwise else "CONV_2D", names))
        if port.sparse and layer.kernel_size == (1, 1):
            sparse[names[0]] = Sparse((1, 1, 1, 1), "Uint16Vector")
    return encode_tflite(constants, sparse=sparse, operations=operations)
