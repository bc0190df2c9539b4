"""Conversion of images between normalizations."""

import numpy as np
from jax import Array

from flaxmobile.imagenet import IMAGENET_MEAN, IMAGENET_STD


def to_symmetric_range(images: Array) -> Array:
    """Map images [n, h, w, 3] that are normalized by ImageNet's statistics to -1..1.

    The published Inception networks were trained on images of mean and standard deviation 0.5;
    torchvision calls this `transform_input`.
    """
    scale = np.asarray(IMAGENET_STD, images.dtype) / 0.5
    shift = (np.asarray(IMAGENET_MEAN, images.dtype) - 0.5) / 0.5
    return images * scale.reshape(1, 1, 1, 3) + shift.reshape(1, 1, 1, 3)
