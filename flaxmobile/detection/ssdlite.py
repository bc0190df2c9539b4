"""SSDLite: SSD with depthwise separable convolutions in place of full ones.

Papers: Liu et al., "SSD: Single Shot MultiBox Detector", ECCV 2016 (arXiv:1512.02325); Sandler et
al., "MobileNetV2", CVPR 2018 (arXiv:1801.04381), section 6.2; Howard et al., "Searching for
MobileNetV3", ICCV 2019 (arXiv:1905.02244), section 6.3. Where they are silent:

- Variant "torchvision" has the widths, normalization and order of its
  `ssdlite320_mobilenet_v3_large`.
- Variant "paper" is that of TensorFlow's Object Detection API, with which the authors worked, and
  whose sizes are the papers': fewer boxes on the first map (`default_sides`), the last 1×1
  convolution of MobileNet V2's and MNASNet's classifiers after their last map, and, as that has,
  widths that scale with alpha.

The maps are one of stride 16, the last of stride 32, and four more that shrink further. The first
is inside the block that goes from 16 to 32, after its expansion, where the backbone expands.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import Array

from flaxmobile.detection.boxes import default_sides, make_default_boxes
from flaxmobile.errors import InputError
from flaxmobile.layers import (
    Conv,
    HeadedNetwork,
    MakeUnit,
    Network,
    ScaledNetwork,
    depthwise_unit,
    relu6,
    round_channels,
)
from flaxmobile.layers.parameters import trace_init

FINE, COARSE = 16, 32
"""Strides of the backbone's two maps."""
EXTRA_CHANNELS = (512, 256, 256, 128)
"""Channels of the maps after the backbone's, each half as high and wide as the one before."""
LEAST_CHANNELS = 16


class ExtraBlock(nn.Module):
    """Narrow to half of the channels (1×1), filter with stride 2 (3×3), widen (1×1).

    Attributes:
      features: output channels.
      unit: convolution, normalization and activation, with the network's options bound.
    """

    features: int
    unit: MakeUnit

    @nn.compact
    def __call__(self, x: Array, train: bool = False) -> Array:
        """Map x [n, h, w, c] to [n, ceil(h / 2), ceil(w / 2), features]."""
        narrow = max(LEAST_CHANNELS, self.features // 2)
        x = self.unit(narrow, name="reduce")(x, train)
        x = depthwise_unit(self.unit, x, train, stride=2, name="depthwise")
        y: Array = self.unit(self.features, name="project")(x, train)
        return y


class Extras(nn.Module):
    """Blocks after the backbone.

    Attributes:
      channels: of each block's output.
      unit: see `ExtraBlock`.
    """

    channels: tuple[int, ...]
    unit: MakeUnit

    @nn.compact
    def __call__(self, x: Array, train: bool = False) -> list[Array]:
        """Map the last map [n, h, w, c] of the backbone to further ones, the finest first."""
        maps = []
        for number, channels in enumerate(self.channels, start=1):
            x = ExtraBlock(channels, self.unit, name=f"block{number}")(x, train)
            maps.append(x)
        return maps


class Predictor(nn.Module):
    """Numbers of each default box from the maps: a depthwise (3×3) and a 1×1 convolution per map.

    Attributes:
      features: how many numbers a box has.
      boxes: per cell of each map.
      unit: see `ExtraBlock`.
      dtype: type of the last convolution's arithmetic and of the numbers.
    """

    features: int
    boxes: tuple[int, ...]
    unit: MakeUnit
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, maps: list[Array], train: bool = False) -> Array:
        """Map the maps to [n, boxes, features], in the order of `make_default_boxes`."""
        numbers = []
        for level, (x, boxes) in enumerate(zip(maps, self.boxes, strict=True), start=1):
            n, height, width, _ = x.shape
            x = depthwise_unit(self.unit, x, train, name=f"map{level}_depthwise")
            project = Conv(
                boxes * self.features,
                dtype=self.dtype,
                kernel_init=nn.initializers.normal(0.03),  # torchvision's, for logits near 0
                name=f"map{level}_project",
            )
            numbers.append(project(x).reshape(n, height * width * boxes, self.features))
        return jnp.concatenate(numbers, 1)


class SSDLite(HeadedNetwork):
    """Detector over any network with maps of stride 16 and 32.

    Its answer is {"offsets": [n, boxes, 4], "logits": [n, boxes, num_classes]}, in float32 or
    wider: offsets from default boxes as `decode_boxes` reads them, and the logits of a softmax,
    whose class 0 is the background.
    Its options are those of `HeadedNetwork`; for `head_variant` see the file's docstring.
    """

    num_classes: int = 91
    head_norm_momentum: float = 0.97
    head_norm_epsilon: float = 1e-3

    heads: ClassVar[tuple[str, ...]] = ("logits",)
    classifier_groups: ClassVar[Mapping[str, str]] = {"last": "head"}
    backbone_defaults: ClassVar[Mapping[str, Any]] = {"reduced_tail": True, "norm_momentum": 0.97}

    @classmethod
    def choose_maps(cls, network: Network, head_variant: str) -> dict[str, Any]:
        """Choose the last map of stride 32, and the expansion inside the first block of it.

        torchvision and the papers tap it there. Where that block has no expansion, the last map of
        stride 16 takes its place.
        """
        totals = {place.name: place.geometry.total for place in network.places()}
        if missing := {FINE, COARSE} - {*network.endpoint_strides} | {COARSE} - {*totals.values()}:
            raise InputError(
                f"{type(network).__name__} has no feature map of stride {min(missing)}, which the "
                f"head needs under output_stride {COARSE}; choose another backbone"
            )
        if not network.inverted_residuals:
            return {"out_strides": (FINE, COARSE), "taps": ()}
        block = next(name for name, total in totals.items() if total == COARSE)
        return {"out_strides": (COARSE,), "taps": (f"{block}/expand",)}

    @property
    def scale(self) -> float:
        """Width of the head's maps over that at alpha 1."""
        follows = self.head_variant == "paper" and isinstance(self.backbone, ScaledNetwork)
        return self.backbone.alpha if follows else 1.0

    @property
    def extra_channels(self) -> tuple[int, ...]:
        """Channels of the maps after the backbone's."""
        return tuple(max(LEAST_CHANNELS, int(c * self.scale)) for c in EXTRA_CHANNELS)

    def head(self, maps: dict[Any, Array], images: Array, train: bool) -> dict[str, Array]:
        """Predict from the map of stride 32 and the other one."""
        unit = partial(self.unit(), activation=relu6)
        (fine,) = (x for name, x in maps.items() if name != COARSE)
        coarse = maps[COARSE]
        channels = self.backbone.detector_channels
        if self.head_variant == "paper" and channels:
            coarse = unit(round_channels(channels * self.scale), name="last")(coarse, train)
        pyramid = [fine, coarse, *Extras(self.extra_channels, unit, name="extra")(coarse, train)]
        boxes = tuple(map(len, default_sides(len(pyramid), self.head_variant)))
        dtype = jnp.promote_types(self.dtype, jnp.float32)
        return {
            "offsets": Predictor(4, boxes, unit, dtype, name="offsets")(pyramid, train),
            "logits": Predictor(self.num_classes, boxes, unit, dtype, name="logits")(
                pyramid, train
            ),
        }

    def default_boxes(self, image_size: tuple[int, int]) -> np.ndarray:
        """Place the default boxes for images of (height, width): float32 [boxes, 4].

        They are (xmin, ymin, xmax, ymax) in pixels, in the order of the answer.
        """
        images = jax.ShapeDtypeStruct((1, *image_size, self.in_channels), jnp.float32)
        maps, _ = trace_init(self.backbone, images)
        (fine,) = (x for name, x in maps.items() if name != COARSE)
        sizes = [fine.shape[1:3], maps[COARSE].shape[1:3]]
        for _ in EXTRA_CHANNELS:
            height, width = sizes[-1]
            sizes.append((-(-height // 2), -(-width // 2)))
        return make_default_boxes(sizes, image_size, self.head_variant)
