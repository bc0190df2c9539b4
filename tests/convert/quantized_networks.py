"""torchvision's quantized networks with random weights, in the layout of its published files."""

import warnings
from functools import cache, partial

import numpy as np
import torch
import torch.ao.quantization as quantization
from torchvision.models import quantization as networks
from torchvision.models.mobilenetv3 import _mobilenet_v3_conf
from torchvision.models.quantization import mobilenetv3

CLASSES = 10
KERNELS = {
    "tensor": quantization.default_weight_observer,
    "channel": quantization.default_per_channel_weight_observer,
}
"""What of a kernel has steps of its own -> torch's observer: qnnpack's and fbgemm's."""


def randomise(network):
    """Give the normalizations something to do."""
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.2)
            module.running_var.uniform_(0.5, 2)
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.normal_(module.bias, 0, 0.3)


@torch.no_grad()
def calibrated(build, side=64, kernel="tensor", **options):
    """Build a network, and quantize it by the ranges that images give: MobileNet V2's way."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch gives eager quantization up
        torch.manual_seed(0)
        network = build(weights=None, quantize=False, num_classes=CLASSES, **options).eval()
        randomise(network)
        network.qconfig = quantization.QConfig(quantization.default_observer, KERNELS[kernel])
        network.fuse_model()
        quantization.prepare(network, inplace=True)
        network(torch.randn(4, 3, side, side))
        return quantization.convert(network, inplace=True)


@cache
@torch.no_grad()
def trained(build, side=64, observes=True):
    """Build a network, let it see images in training, and return its state dict and the network.

    MobileNet V3's way: the state dict is that from which `convert` makes the quantized network.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(0)
        network = build()
        randomise(network)
        network.fuse_model(is_qat=True)
        network.qconfig = quantization.get_default_qat_qconfig("qnnpack")
        quantization.prepare_qat(network, inplace=True)
        for _ in range(2):
            network(torch.randn(4, 3, side, side))
        if not observes:
            network.apply(quantization.disable_observer)
        state = {name: tensor.clone() for name, tensor in network.state_dict().items()}
        return state, quantization.convert(network.eval(), inplace=True)


def mobilenet_v3_small(width=0.35):
    """Build torchvision's quantizable MobileNet V3-small, which its constructors leave out."""
    settings, last = _mobilenet_v3_conf("mobilenet_v3_small", width_mult=width)
    block = mobilenetv3.QuantizableInvertedResidual
    return mobilenetv3.QuantizableMobileNetV3(settings, last, num_classes=CLASSES, block=block)


mobilenet_v2 = partial(networks.mobilenet_v2, width_mult=0.35)
trainable_v2 = partial(mobilenet_v2, weights=None, num_classes=CLASSES)


@torch.no_grad()
def run(network, images):
    """Run a network on images [n, h, w, 3].

    Returns:
      Logits, and by the modules' names the outputs [n, h, w, c] of all that give quantized ones.
    """
    seen = {}

    def remember(name, module, given, output):
        if isinstance(output, torch.Tensor) and output.is_quantized:
            numbers = output.dequantize().numpy()
            seen[name] = numbers.transpose(0, 2, 3, 1) if numbers.ndim == 4 else numbers

    hooks = [
        module.register_forward_hook(partial(remember, name))
        for name, module in network.named_modules()
    ]
    logits = network(torch.tensor(np.asarray(images).transpose(0, 3, 1, 2))).numpy()
    for hook in hooks:
        hook.remove()
    return logits, seen
