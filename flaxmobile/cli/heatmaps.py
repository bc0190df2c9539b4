"""What a classifier sees of an image, coloured where it speaks for its class."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from flaxmobile.heatmaps import grad_cam
from flaxmobile.layers import Network
from flaxmobile.prediction import Frame, as_image
from flaxmobile.trees import Tree
from flaxmobile.weights import Metadata

_COLOURS = "inferno"  # of matplotlib
_OPACITY = 0.5


def draw_heatmaps(
    model: Network,
    variables: Tree,
    metadata: Metadata,
    images: Sequence[Path | Frame],
    classes: Sequence[int],
) -> list[Image.Image]:
    """Lay the heat of a class over the part of each image that the classifier sees."""
    import matplotlib as mpl

    preprocessing, pictures = metadata.preprocessing, []
    for image, each in zip(images, classes, strict=True):
        crop = preprocessing.crop(as_image(image))
        pixels = preprocessing.normalize(np.asarray(crop))[None]
        heat = np.asarray(grad_cam(model, variables, pixels, np.array([each])))[0]
        smooth = Image.fromarray(heat).resize(crop.size, Image.Resampling.BILINEAR)
        coloured = Image.fromarray(mpl.colormaps[_COLOURS](np.asarray(smooth), bytes=True))
        pictures.append(Image.blend(crop, coloured.convert("RGB"), _OPACITY))
    return pictures
