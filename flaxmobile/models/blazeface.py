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
- `variant="mediapipe_full_range"` is the released model for faces within five metres, for 192×192
  images: 15 double blocks down to stride 32, and a decoder that adds the coarser map, enlarged, to
  those of strides 16, 8 and 4. There each of the 48×48 cells is an anchor.
- `variant="mediapipe_full_range_sparse"` is its form of fewer numbers other than 0: blocks that
  shrink have no shortcut, padding is symmetric, and each head is a `SpreadHead`.
- The shortcut of a block that shrinks or widens is max pooling and zero channels; "projection" is a
  1×1 convolution, normalization and ReLU after the pooling instead, as some ports have it.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar

import jax.numpy as jnp
from flax import linen as nn
from jax import Array

from flaxmobile.errors import check_choice, check_value
from flaxmobile.layers import (
    Block,
    Conv,
    ConvNorm,
    Layer,
    MakeUnit,
    Maps,
    Network,
    Place,
    activate,
    depthwise_unit,
    max_pool,
    relu,
    unit_block,
)
from flaxmobile.layers.resizing import resize
from flaxmobile.models.blazeface_tables import REGRESSORS, VARIANTS, Step, Variant
from flaxmobile.ops import Padding

SHORTCUTS = ("pad", "projection")


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
        y, depthwise = x, partial(depthwise_unit, self.unit, kernel_size=self.kernel_size)
        if self.squeezed:
            y = depthwise(y, train, stride=self.stride, name="squeeze_depthwise")
            y = self.unit(self.squeezed, activation=relu, name="squeeze")(y, train)
        stride = 1 if self.squeezed else self.stride
        y = depthwise(y, train, stride=stride, name="depthwise")
        last = None if self.residual else relu
        y = self.unit(self.features, activation=last, name="project")(y, train)
        return activate(relu, y + self._short(x, train)) if self.residual else y

    def _short(self, x: Array, train: bool) -> Array:
        channels_in = x.shape[-1]
        if self.stride != 1:
            x = max_pool(x, self.stride, self.stride, "SAME")
        if self.stride == 1 and channels_in == self.features:
            return x
        if self.shortcut == "projection":
            return self.unit(self.features, activation=relu, name="shortcut")(x, train)
        return jnp.pad(x, [(0, 0), (0, 0), (0, 0), (0, self.features - channels_in)])


class DecoderStep(nn.Module):
    """A finer map plus the coarser one, enlarged, filtered by double BlazeBlocks.

    Read from the graph of MediaPipe's `face_detection_full_range`.

    Attributes:
      step: channels and number of blocks.
      kernel_size: of the blocks' depthwise convolutions.
      unit: convolution, normalization and activation, with the network's options bound.
    """

    step: Step
    kernel_size: int
    unit: Callable[..., nn.Module]

    @nn.compact
    def __call__(self, fine: Array, coarse: Array, train: bool = False) -> Array:
        """Map fine [n, h, w, c] and coarse [n, h', w', c'] to [n, h, w, channels]."""
        channels = self.step.channels
        fine = self.unit(channels, activation=relu, name="fine")(fine, train)
        coarse = self.unit(channels, activation=relu, name="coarse")(coarse, train)
        x = fine + resize(coarse, fine)
        for number in range(1, self.step.blocks + 1):
            x = BlazeBlock(
                channels,
                squeezed=channels // 2,
                kernel_size=self.kernel_size,
                unit=self.unit,
                name=f"block{number}",
            )(x, train)
        return x


class SpreadHead(nn.Module):
    """Numbers of four cells at once: 1×1 convolution, depthwise of stride 2, depth to space.

    Read from the graph of MediaPipe's `face_detection_full_range_sparse`.

    Attributes:
      features: numbers per cell.
      padding: rule of the depthwise convolution.
      dtype: type of the arithmetic.
    """

    features: int
    padding: Padding
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Map x [n, h, w, c] to [n, h, w, features]."""
        wide = 4 * self.features
        y = Conv(wide, dtype=self.dtype, name="project")(x)
        y = Conv(wide, 3, 2, groups=wide, padding=self.padding, dtype=self.dtype, name="depthwise")(
            y
        )
        n, h, w, _ = y.shape
        cells = y.reshape(n, h, w, 2, 2, self.features).transpose(0, 1, 3, 2, 4, 5)
        return cells.reshape(n, 2 * h, 2 * w, self.features)[:, : x.shape[1], : x.shape[2]]


class BlazeFace(Network):
    """Table 4 of the paper with a classifier on its last map, or the detector's heads.

    Attributes:
      detector: return {"boxes": [n, anchors, 16], "scores": [n, anchors]}, the raw regressors and
        score logits of `flaxmobile.detection`, instead of logits of classes.
      variant: "paper", "mediapipe", "mediapipe_back", "mediapipe_full_range" or
        "mediapipe_full_range_sparse".
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
    quantizes = True

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
        if self.quantized:
            check_value("detector", self.detector, not self.detector, "False where it is quantized")

    def size_text(self) -> str:
        """Name the size of the network, for messages."""
        return f"variant {self.variant}" if self.detector else super().size_text()

    def blocks(self) -> list[Block]:
        """List the blocks in order, the stem first."""
        rows = enumerate(self.table.rows, start=1)
        return [
            unit_block("stem", *self.table.stem, stride=2),
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
        if not self.detector:
            return super().finish(maps, train)
        return self._detect(self._decode(maps.by_stride, train))

    def _decode(self, features: dict[int, Array], train: bool) -> dict[int, Array]:
        """Add what coarser maps know to the finer ones, where the variant has a decoder."""
        coarse = features[max(features)]
        for step in self.table.decoder:
            layer = DecoderStep(
                step, self.table.kernel_size, self.unit(), name=f"decoder_stride{step.stride}"
            )
            coarse = layer(features[step.stride], coarse, train)
            features = {**features, step.stride: coarse}
        return features

    def _detect(self, features: dict[int, Array]) -> dict[str, Array]:
        """Read the anchors of each map, row by row, the finest map first."""
        boxes, scores = [], []
        for stride, anchors in self.table.anchors.items():
            x = features[stride].astype(jnp.promote_types(self.dtype, jnp.float32))
            box = self._head(anchors * REGRESSORS, x.dtype, f"boxes_stride{stride}")(x)
            score = self._head(anchors, x.dtype, f"scores_stride{stride}")(x)
            number = math.prod(score.shape[1:])
            boxes.append(box.reshape(x.shape[0], number, REGRESSORS))
            scores.append(score.reshape(x.shape[0], number))
        return {"boxes": jnp.concatenate(boxes, 1), "scores": jnp.concatenate(scores, 1)}

    def _head(self, features: int, dtype: Any, name: str) -> Conv | SpreadHead:
        if self.table.spread_heads:
            return SpreadHead(features, self.window_padding, dtype, name=name)
        return Conv(features, dtype=dtype, name=name)
