"""What the parity tests of the Inception networks share."""

from functools import partial

import torch
from flax import linen
from torch import nn

from convert.rule import Rule


def thin(channels: int, alpha: float) -> int:
    """TF-slim's rule."""
    return max(int(channels * alpha), 16)


def rule_at(rule: Rule, alpha: float) -> Rule:
    """A rule for networks of torchvision that `thinned` has narrowed."""
    return rule._replace(own_options={**rule.own_options, "alpha": alpha})


def thinned(network: nn.Module, alpha: float, size: int, channels: int = 3) -> nn.Module:
    """Narrow every layer of a torchvision network or block but those that give logits.

    torchvision has one width only. What a layer gives is thinned; what it reads is seen by running
    the network in training on a map of that size and that many channels.
    """
    heads = {"fc", "aux1.fc2", "aux2.fc2", "AuxLogits.fc"}

    def narrow_conv(unit, args):
        conv = unit.conv
        width = thin(conv.out_channels, alpha)
        geometry = (conv.kernel_size, conv.stride, conv.padding)
        unit.conv = nn.Conv2d(args[0].shape[1], width, *geometry, bias=False)
        unit.bn = nn.BatchNorm2d(width, unit.bn.eps, unit.bn.momentum)

    def narrow_linear(name, layer, args):
        layer.in_features = args[0].shape[1]
        layer.out_features = layer.out_features if name in heads else thin(1024, alpha)
        layer.weight = nn.Parameter(torch.zeros(layer.out_features, layer.in_features))
        layer.bias = nn.Parameter(torch.zeros(layer.out_features))

    handles = []
    for name, module in network.named_modules():
        if hasattr(module, "bn"):
            handles.append(module.register_forward_pre_hook(narrow_conv))
        elif isinstance(module, nn.Linear):
            handles.append(module.register_forward_pre_hook(partial(narrow_linear, name)))
    with torch.no_grad():
        network.train()(torch.zeros(2, channels, size, size))
    for handle in handles:
        handle.remove()
    return network


class Unit(nn.Module):
    """Convolution, normalization or bias, ReLU, under our names."""

    def __init__(self, channels, features, kernel=1, stride=1, padding=None, normalized=True):
        super().__init__()
        padding = (kernel - 1) // 2 if padding is None else padding
        self.conv = nn.Conv2d(channels, features, kernel, stride, padding, bias=not normalized)
        self.norm = nn.BatchNorm2d(features, eps=1e-3) if normalized else nn.Identity()

    def forward(self, x):
        return self.norm(self.conv(x)).relu()


class Logits(nn.Module):
    """Logits [n, c] of torch's as a map [n, c, 1, 1], which blocks are compared by."""

    def __init__(self, head):
        super().__init__()
        self.head = head

    def forward(self, x):
        return self.head(x)[:, :, None, None]


class LogitsMap(linen.Module):
    """The same of ours: [n, c] as [n, 1, 1, c]."""

    head: linen.Module

    def __call__(self, x, train=False):
        return self.head(x, train)[:, None, None, :]
