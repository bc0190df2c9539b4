"""torchvision's MobileNet V2 with random numbers everywhere, and the same numbers in ours.

Two things make parity meaningful: BatchNorm's parameters and statistics are random, so that every
parameter matters, and `convert` carries the numbers, both there and back.
"""

import copy
import functools

import jax
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models import mobilenet_v2

from convert import engine
from convert.rules import RULES

RULE = RULES["torchvision", "mobilenet_v2"]
NUM_CLASSES = 10


@functools.cache
def random_network(alpha):
    """A torchvision network without dropout, in float32; copy before changing it."""
    torch.manual_seed(0)
    network = mobilenet_v2(width_mult=alpha, num_classes=NUM_CLASSES, dropout=0.0)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.2)
            nn.init.normal_(module.running_mean, std=0.2)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
        elif isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=0.05)
            nn.init.normal_(module.bias, std=0.2)
    return network.eval()


@functools.cache
def carried_network(alpha):
    """Our network with the numbers of `random_network`, without dropout, and its variables."""
    state = random_network(alpha).state_dict()
    found = engine.to_flax(RULE, "mobilenet_v2", {k: v.numpy() for k, v in state.items()}, alpha)
    return found.model.clone(dropout_rate=0.0), found.variables


def carried_back(model, variables):
    """Our tree of parameters (or of their gradients) and statistics under torchvision's names."""
    return engine.from_flax(RULE, model, jax.tree.map(np.asarray, variables))


def double(network):
    """A float64 copy whose depthwise convolutions do not take minutes."""
    network = copy.deepcopy(network).double()
    for module in network.modules():
        if isinstance(module, nn.Conv2d) and module.groups > 1:
            module.forward = functools.partial(shifted_depthwise, module)
    return network


def shifted_depthwise(conv: nn.Conv2d, x: Tensor) -> Tensor:
    """The depthwise convolution as one product per kernel element.

    torch has no fast one in float64: its own takes 10 times as long as the rest of the network.
    """
    (stride, _), (kernel, _), (pad, _) = conv.stride, conv.kernel_size, conv.padding
    x = functional.pad(x, (pad, pad, pad, pad))
    height, width = ((size - kernel) // stride + 1 for size in x.shape[2:])
    return sum(
        x[
            :,
            :,
            i : i + (height - 1) * stride + 1 : stride,
            j : j + (width - 1) * stride + 1 : stride,
        ]
        * conv.weight[:, :, i, j].reshape(1, -1, 1, 1)
        for i in range(kernel)
        for j in range(kernel)
    )


def to_torch(images: np.ndarray) -> Tensor:
    """[n, h, w, c] to torch's [n, c, h, w]."""
    return torch.tensor(images).permute(0, 3, 1, 2)


def from_torch(features: Tensor) -> np.ndarray:
    """[n, c, h, w] to our [n, h, w, c]."""
    return features.detach().permute(0, 2, 3, 1).numpy()
