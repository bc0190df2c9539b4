"""State dicts of torchvision's MobileNet V2 in which every number is random."""

import torch
from torchvision.models import mobilenet_v2

STEM = "features.0.0.weight"
EXPAND = "features.5.conv.0.0.weight"  # stage3_block2/expand
DEPTHWISE = "features.5.conv.1.0.weight"
VARIANCE = "features.18.1.running_var"


def random_state(alpha=0.35, num_classes=10, seed=0):
    """Statistics and affine parameters too; variances are positive."""
    with torch.device("meta"):
        shapes = mobilenet_v2(width_mult=alpha, num_classes=num_classes).state_dict()
    generator = torch.Generator().manual_seed(seed)
    return {
        name: 0.5 + torch.rand(tensor.shape, generator=generator)
        if tensor.is_floating_point()
        else torch.tensor(100)
        for name, tensor in shapes.items()
    }
