"""BlazeFace: a feature extractor and face detector for 128×128 images.

Paper: Bazarevsky et al., "BlazeFace: Sub-millisecond Neural Face Detection on Mobile GPUs", 2019
(arXiv:1907.05047). The network is its table 4 (five single and six double blocks), the blocks its
figure 1, the anchors of the two maps its figure 2. `flaxmobile.detect_faces` turns the detector's
numbers into faces.

Where the paper is silent:

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

from flaxmobile.errors import check_choice
from flaxmobile.layers import (
    Block,
    Conv,
    ConvNorm,
    Layer,
    MakeUnit,
    Maps,
    Network,
    Place,
    max_pool,
    relu,
    unit_block,
)


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
    """A table, with the sizes and anchors that belong to it.

    Attributes:
      rows: of the table.
      kernel_size: of the blocks' depthwise convolutions.
      image_size: side of the images that it is for.
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
      residual: add a shortcut.
      unit: convolution, normalization and activation, with the network's options bound.
    """

    features: int
    squeezed: int = 0
    stride: int = 1
    kernel_size: int = 5
    shortcut: str = "pad"
    residual: bool = True
    unit: Callable[..., nn.Module] = ConvNorm

    @nn.compact
    def __call__(self, x: Array, train: bool = False) -> Array:
        """Map x [n, h, w, c] to [n, ceil(h / stride), ceil(w / stride), features]."""
        check_choice("shortcut", self.shortcut, SHORTCUTS)
        y = x
        if self.squeezed:
            y = self._filter(y, "squeeze_depthwise", self.stride, train)
            y = self.unit(self.squeezed, activation=relu, name="squeeze")(y, train)
        stride = 1 if self.squeezed else self.stride
        y = self._filter(y, "depthwise", stride, train)
        y = self.unit(self.features, name="project")(y, train)
        return relu(y + self._short(x, train) if self.residual else y)

    def _filter(self, x: Array, name: str, stride: int, train: bool) -> Array:
        channels = x.shape[-1]
        return self.unit(channels, self.kernel_size, stride=stride, groups=channels, name=name)(
            x, train
        )

    def _short(self, x: Array, train: bool) -> Array:
        channels_in = x.shape[-1]
        if self.stride != 1:
            x = max_pool(x, self.stride, self.stride, "SAME")
        if self.stride == 1 and channels_in == self.features:
            return x
        if self.shortcut == "projection":
            return self.unit(self.features, activation=relu, name="shortcut")(x, train)
        return jnp.pad(x, [(0, 0), (0, 0), (0, 0), (0, self.features - channels_in)])


class BlazeFace(Network):
    """Table 4 of the paper with a classifier on its last map, or the detector's heads.

    Attributes:
      detector: return {"boxes": [n, anchors, 16], "scores": [n, anchors]}, the raw regressors and
        score logits of `flaxmobile.detection`, instead of logits of classes.
      variant: "paper", "mediapipe" or "mediapipe_back".
      shortcut: "pad" (max pooling and zero channels), or "projection" (a 1×1 convolution for them).
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

    dilates: ClassVar[bool] = False

    @property
    def table(self) -> Variant:
        """The variant's table, sizes and anchors."""
        return VARIANTS[self.variant]

    @property
    def gives_logits(self) -> bool:
        """Whether the output is logits [n, num_classes]."""
        return super().gives_logits and not self.detector

    def check_options(self) -> None:
        """Raise InputError for an option that the network does not offer."""
        super().check_options()
        check_choice("variant", self.variant, VARIANTS)
        check_choice("shortcut", self.shortcut, SHORTCUTS)

    def size_text(self) -> str:
        """Name the size of the network, for messages."""
        return f"variant {self.variant}" if self.detector else super().size_text()

    def blocks(self) -> list[Block]:
        """List the blocks in order, the stem first."""
        rows = enumerate(self.table.rows, start=1)
        return [
            unit_block("stem", STEM_CHANNELS, 5, stride=2),
            *(Block(f"block{number}", row, row.stride) for number, row in rows),
        ]

    def build(self, place: Place, unit: MakeUnit) -> Layer:
        """Make the layer of a block."""
        return BlazeBlock(
            place.row.channels,
            place.row.squeezed,
            place.row.stride,
            self.table.kernel_size,
            self.shortcut,
            place.row.residual,
            unit=unit,
            name=place.name,
        )

    def finish(self, maps: Maps, train: bool) -> Array | dict[str, Array]:
        """Classify the last map, or read the detector's anchors."""
        return self._detect(maps.by_stride) if self.detector else super().finish(maps, train)

    def _detect(self, features: dict[int, Array]) -> dict[str, Array]:
        """Read the anchors of both maps: all of the finer one, row by row, then the coarser's."""
        boxes, scores = [], []
        for stride, anchors in self.table.anchors.items():
            x = features[stride].astype(jnp.promote_types(self.dtype, jnp.float32))
            box = Conv(anchors * REGRESSORS, dtype=x.dtype, name=f"boxes_stride{stride}")(x)
            score = Conv(anchors, dtype=x.dtype, name=f"scores_stride{stride}")(x)
            number = math.prod(score.shape[1:])
            boxes.append(box.reshape(x.shape[0], number, REGRESSORS))
            scores.append(score.reshape(x.shape[0], number))
        return {"boxes": jnp.concatenate(boxes, 1), "scores": jnp.concatenate(scores, 1)}
