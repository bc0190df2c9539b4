"""BlazeFace: a feature extractor and face detector for 128×128 images.

Paper: Bazarevsky et al., "BlazeFace: Sub-millisecond Neural Face Detection on Mobile GPUs", 2019
(arXiv:1907.05047). The network is its table 4 (five single and six double blocks), the blocks its
figure 1, the anchors of the two maps its figure 2. `flaxmobile.detect_faces` turns the detector's
numbers into faces.

Where the paper is silent we decide:

- Padding is TensorFlow's ("same"), as in the released model; normalization follows every
  convolution of a block, with Keras's numbers. The released model has it folded (`folded=True`).
- `variant="mediapipe"` is the released front-camera ("short range") model: 16 single blocks with
  3×3 kernels that grow from 24 to 96 channels, where the paper's table has 5×5 kernels and double
  blocks.
- `variant="mediapipe_back"` is the released back-camera model for 256×256 images: 31 such blocks
  and one without shortcut. Its maps of 16×16 and 8×8 have strides 16 and 32, so `output_stride` is
  32.
- The shortcut of a block that shrinks or widens is max pooling and zero channels; "projection" is a
  1×1 convolution, normalization and ReLU after the pooling instead, as some ports have it.
"""

import math
from collections.abc import Callable, Mapping
from typing import ClassVar, NamedTuple

import jax.numpy as jnp
from flax import linen as nn
from jax import Array

from flaxmobile.errors import unknown
from flaxmobile.layers import Conv, ConvNorm, Network, max_pool, relu


class Row(NamedTuple):
    """A row of table 4. `squeezed` is the width inside a double block, 0 for a single one."""

    channels: int
    squeezed: int = 0
    stride: int = 1
    residual: bool = True


PAPER = (  # 64×64×24 on
    Row(24),
    Row(24),
    Row(48, stride=2),  # 32×32
    Row(48),
    Row(48),
    Row(96, squeezed=24, stride=2),  # 16×16
    Row(96, squeezed=24),
    Row(96, squeezed=24),
    Row(96, squeezed=24, stride=2),  # 8×8
    Row(96, squeezed=24),
    Row(96, squeezed=24),
)
MEDIAPIPE = (
    Row(24),
    Row(28),
    Row(32, stride=2),  # 32×32
    Row(36),
    Row(42),
    Row(48, stride=2),  # 16×16
    Row(56),
    Row(64),
    Row(72),
    Row(80),
    Row(88),
    Row(96, stride=2),  # 8×8
    Row(96),
    Row(96),
    Row(96),
    Row(96),
)
MEDIAPIPE_BACK = (
    *[Row(24)] * 7,  # 128×128
    Row(24, stride=2),  # 64×64
    *[Row(24)] * 7,
    Row(48, stride=2),  # 32×32
    *[Row(48)] * 7,
    Row(96, stride=2),  # 16×16
    *[Row(96)] * 7,
    Row(96, stride=2, residual=False),  # 8×8
)

STEM_CHANNELS = 24
SHORTCUTS = ("pad", "projection")

ANCHORS = {8: 2, 16: 6}
"""Stride of a map -> anchors in each of its cells (figure 2)."""


class Variant(NamedTuple):
    """A table, and what belongs to it.

    Attributes:
      rows: of the table.
      kernel_size: of the blocks' depthwise convolutions.
      image_size: side of the images that it was made for.
      anchors: as `ANCHORS`.
    """

    rows: tuple[Row, ...]
    kernel_size: int
    image_size: int = 128
    anchors: Mapping[int, int] = ANCHORS


VARIANTS = {
    "paper": Variant(PAPER, 5),
    "mediapipe": Variant(MEDIAPIPE, 3),
    "mediapipe_back": Variant(MEDIAPIPE_BACK, 3, image_size=256, anchors={16: 2, 32: 6}),
}

KEYPOINTS = ("right eye", "left eye", "nose tip", "mouth", "right ear", "left ear")
REGRESSORS = 4 + 2 * len(KEYPOINTS)
"""Numbers per anchor: centre x, centre y, width, height, then x and y of each keypoint."""


class BlazeBlock(nn.Module):
    """Single or double BlazeBlock (figure 1, left and right).

    Attributes:
      features: output channels.
      squeezed: channels between the two halves of a double block; 0 for a single one.
      stride: of the first depthwise convolution.
      kernel_size: of the depthwise convolutions.
      shortcut: "pad" (max pooling and zero channels) or "projection" (max pooling and a 1×1
        convolution with normalization and ReLU); the input itself where shapes agree.
      residual: has the shortcut at all.
      conv: the convolution unit, with the network's options bound.
    """

    features: int
    squeezed: int = 0
    stride: int = 1
    kernel_size: int = 5
    shortcut: str = "pad"
    residual: bool = True
    conv: Callable[..., nn.Module] = ConvNorm

    @nn.compact
    def __call__(self, x: Array, train: bool = False) -> Array:
        """Map x [n, h, w, c] to [n, ceil(h / stride), ceil(w / stride), features]."""
        if self.shortcut not in SHORTCUTS:
            raise unknown("shortcut", self.shortcut, SHORTCUTS)
        y = x
        if self.squeezed:
            y = self._filter(y, "squeeze_depthwise", self.stride, train)
            y = self.conv(self.squeezed, activation=relu, name="squeeze")(y, train)
        stride = 1 if self.squeezed else self.stride
        y = self._filter(y, "depthwise", stride, train)
        y = self.conv(self.features, name="project")(y, train)
        return relu(y + self._short(x, train) if self.residual else y)

    def _filter(self, x: Array, name: str, stride: int, train: bool) -> Array:
        channels = x.shape[-1]
        return self.conv(channels, self.kernel_size, stride=stride, groups=channels, name=name)(
            x, train
        )

    def _short(self, x: Array, train: bool) -> Array:
        given = x.shape[-1]
        if self.stride != 1:
            x = max_pool(x, self.stride, self.stride, "SAME")
        if self.stride == 1 and given == self.features:
            return x
        if self.shortcut == "projection":
            return self.conv(self.features, activation=relu, name="shortcut")(x, train)
        return jnp.pad(x, [(0, 0), (0, 0), (0, 0), (0, self.features - given)])


class BlazeFace(Network):
    """Table 4 of the paper with a classifier on its last map, or the detector's heads.

    Attributes:
      detector: give {"boxes": [n, anchors, 16], "scores": [n, anchors]}, the raw regressors and
        score logits of `flaxmobile.detection`, instead of logits of classes.
      variant: "paper", "mediapipe" or "mediapipe_back".
      shortcut: see `BlazeBlock`.
      The others: see `Network`.
    """

    detector: bool = False
    variant: str = "paper"
    shortcut: str = "pad"
    dropout_rate: float = 0.0
    padding: str = "same"
    norm_momentum: float = 0.99
    norm_epsilon: float = 1e-3
    output_stride: int = 16

    output_strides: ClassVar[tuple[int, ...]] = (16,)

    def check(self) -> None:
        """Raise InputError for an option that the network does not offer."""
        if self.variant not in VARIANTS:
            raise unknown("variant", self.variant, VARIANTS)
        if self.shortcut not in SHORTCUTS:
            raise unknown("shortcut", self.shortcut, SHORTCUTS)
        super().check()

    @property
    def accepted_output_strides(self) -> tuple[int, ...]:
        """The stem's stride times those of the variant's blocks."""
        return (2 * math.prod(row.stride for row in VARIANTS[self.variant].rows),)

    @nn.compact
    def __call__(
        self, images: Array, train: bool = False
    ) -> Array | dict[int, Array] | dict[str, Array]:
        """Map images [n, h, w, 3] to logits, to {stride: features}, or to boxes and scores."""
        self.check()
        conv = self.conv_norm()
        x = self.check_images(images)
        x = conv(STEM_CHANNELS, 5, stride=2, activation=relu, name="stem")(x, train)
        total, endpoints = 2, {2: x}  # [n, h/2, w/2, 24]
        variant = VARIANTS[self.variant]
        for number, row in enumerate(variant.rows, start=1):
            total *= row.stride
            if total > self.deepest_stride:
                break
            x = endpoints[total] = BlazeBlock(
                row.channels,
                row.squeezed,
                row.stride,
                variant.kernel_size,
                self.shortcut,
                row.residual,
                conv=conv,
                name=f"block{number}",
            )(x, train)
        if self.out_strides is not None:
            return {stride: endpoints[stride] for stride in self.out_strides}
        if self.detector:
            return self._detect(endpoints)
        return self.classify(x, train)

    def _detect(self, features: dict[int, Array]) -> dict[str, Array]:
        """Read the anchors of both maps: all of the finer one, row by row, then the coarser's."""
        boxes, scores = [], []
        for stride, anchors in VARIANTS[self.variant].anchors.items():
            x = features[stride].astype(jnp.promote_types(self.dtype, jnp.float32))
            box = Conv(anchors * REGRESSORS, dtype=x.dtype, name=f"boxes_stride{stride}")(x)
            score = Conv(anchors, dtype=x.dtype, name=f"scores_stride{stride}")(x)
            number = math.prod(score.shape[1:])
            boxes.append(box.reshape(x.shape[0], number, REGRESSORS))
            scores.append(score.reshape(x.shape[0], number))
        return {"boxes": jnp.concatenate(boxes, 1), "scores": jnp.concatenate(scores, 1)}
