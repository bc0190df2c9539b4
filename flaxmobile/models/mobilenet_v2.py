"""MobileNet V2: inverted residuals with linear bottlenecks.

Paper: Sandler et al., "MobileNetV2: Inverted Residuals and Linear Bottlenecks", CVPR 2018
(arXiv:1801.04381). The network is its table 2, the block its table 1 and figure 4d.

Where the paper and the reference implementations differ, we follow the implementations (TF-slim
and torchvision, which agree):

- Table 2 gives the stage of 64 channels stride 2 and a 28×28 input; its own output sizes need that
  stride at the stage of 64 and stride 1 at the stage of 96, as here.
- The text counts 19 residual bottlenecks, the table has 17: 17.
- The first block has expansion 1 and then no expansion convolution.
- Widths are rounded to multiples of 8; the last 1×1 convolution does not shrink below alpha 1.
- Dropout 0.2 before the classifier, which table 2 writes as a 1×1 convolution.
- `split` is section 5.1, memory-efficient inference, which none of the implementations has.
"""

import itertools
import math
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import Array, lax

from flaxmobile.errors import InputError, unknown
from flaxmobile.layers import (
    Activation,
    BatchNorm,
    ConvNorm,
    Network,
    plan_strides,
    relu6,
    round_channels,
)
from flaxmobile.ops import pointwise_conv


class Stage(NamedTuple):
    """A row of table 2: t, c, n, s."""

    expansion: int
    channels: int
    blocks: int
    stride: int


STAGES = (
    Stage(expansion=1, channels=16, blocks=1, stride=1),
    Stage(expansion=6, channels=24, blocks=2, stride=2),
    Stage(expansion=6, channels=32, blocks=3, stride=2),
    Stage(expansion=6, channels=64, blocks=4, stride=2),
    Stage(expansion=6, channels=96, blocks=3, stride=1),
    Stage(expansion=6, channels=160, blocks=3, stride=2),
    Stage(expansion=6, channels=320, blocks=1, stride=1),
)
STEM_CHANNELS = 32
HEAD_CHANNELS = 1280

SHORTCUTS = ("bottleneck", "expansion", "projection", "none")


class InvertedResidual(nn.Module):
    """Expand (1×1), filter (depthwise 3×3), project (1×1, linear): table 1, figure 4d.

    Attributes:
      features: output channels.
      expansion: width of the filtered tensor over the input's; 1 leaves the first layer out.
      stride: 1 or 2. Only stride 1 has a shortcut.
      dilation: of the depthwise convolution.
      shortcut: what is added to what (figure 6b):
        "bottleneck" the input to the output where their shapes agree (the paper's choice);
        "expansion" the expanded tensor to the filtered one, between the wide ends;
        "projection" the input through a 1×1 convolution and normalization, in every stride-1 block;
        "none" nothing.
      linear: leave the projection without activation (the paper's choice; figure 6a).
      activation: of the other layers.
      split: in how many parts the expanded tensor is computed in inference (section 5.1): one at a
        time, each expanded, filtered, projected and added up, so that only a part of the wide
        tensor ever exists. A divisor of its channels; 1 computes it whole, as training does, and
        so does a block that expands nothing. Same parameters, same output to rounding.
      conv: the convolution unit, with the network's options bound.
    """

    features: int
    expansion: int = 6
    stride: int = 1
    dilation: int = 1
    shortcut: str = "bottleneck"
    linear: bool = True
    activation: Activation = relu6
    split: int = 1
    conv: Callable[..., nn.Module] = ConvNorm

    @nn.compact
    def __call__(self, x: Array, train: bool = False) -> Array:
        """Map x [n, h, w, c] to [n, ceil(h / stride), ceil(w / stride), features]."""
        if self.shortcut not in SHORTCUTS:
            raise unknown("shortcut", self.shortcut, SHORTCUTS)
        narrow, wide = x, x.shape[-1] * self.expansion
        if self.split < 1 or (self.expansion != 1 and wide % self.split):
            raise InputError(f"split is {self.split}; accepted: a divisor of {wide} channels")
        whole = train or self.is_initializing() or 1 in (self.split, self.expansion)
        x = self._whole(x, wide, train) if whole else self._in_parts(x, wide)
        if self.stride != 1:
            return x
        if self.shortcut == "projection":
            return x + self.conv(self.features, name="shortcut")(narrow, train)
        if self.shortcut == "bottleneck" and narrow.shape == x.shape:
            return x + narrow
        return x

    def _whole(self, x: Array, wide: int, train: bool) -> Array:
        """The block without its shortcut between the narrow ends."""
        if self.expansion != 1:
            x = self.conv(wide, activation=self.activation, name="expand")(x, train)
        expanded = x  # [n, h, w, expansion * c]
        x = self._depthwise(wide, name="depthwise")(x, train)
        if self.shortcut == "expansion" and self.stride == 1:
            x += expanded  # [n, h / stride, w / stride, expansion * c]
        last = None if self.linear else self.activation
        return self.conv(self.features, activation=last, name="project")(x, train)

    def _in_parts(self, x: Array, wide: int) -> Array:
        """The same in inference, with a part of the wide tensors at a time.

        The loop is XLA's, and slices the kernels part by part: unrolled, or with the kernels'
        parts stacked before it, more would be in memory than is saved.
        """
        part = wide // self.split
        expand = self.conv(part, activation=self.activation, parent=None)
        depthwise = self._depthwise(part, parent=None)
        project = self.conv(self.features, parent=None)
        given = {
            unit: {kind: tree[unit] for kind, tree in self.variables.items() if unit in tree}
            for unit in ("expand", "depthwise", "project")
        }
        last = given["project"]["params"]["conv"]

        def add(number: Array, total: Array) -> Array:
            def of(tree: Any, axis: int = -1) -> Any:
                start = number * part
                return jax.tree.map(
                    lambda leaf: lax.dynamic_slice_in_dim(leaf, start, part, axis), tree
                )

            expanded = expand.apply(of(given["expand"]), x)
            y = depthwise.apply(of(given["depthwise"]), expanded)
            if self.shortcut == "expansion" and self.stride == 1:
                y += expanded
            y = pointwise_conv(y, of(last["kernel"], axis=2).astype(y.dtype))
            return total + y.astype(total.dtype)

        rows, columns = (-(-side // self.stride) for side in x.shape[1:3])
        shape = (x.shape[0], rows, columns, self.features)
        zeros = jnp.zeros(shape, jnp.promote_types(x.dtype, jnp.float32))
        y = lax.fori_loop(0, self.split, add, zeros)
        if project.folded:
            y = (y + last["bias"].reshape(1, 1, 1, -1)).astype(project.dtype)
        else:
            norm = {kind: tree["norm"] for kind, tree in given["project"].items()}
            y = BatchNorm(epsilon=project.norm_epsilon, dtype=project.dtype).apply(norm, y)
        return y if self.linear else self.activation(y)

    def _depthwise(self, wide: int, **place: Any) -> nn.Module:
        return self.conv(
            wide,
            3,
            stride=self.stride,
            dilation=self.dilation,
            groups=wide,
            activation=self.activation,
            **place,
        )


class MobileNetV2(Network):
    """Table 2 of the paper, at any width.

    Attributes:
      alpha: width multiplier, above 0.
      shortcut, linear: the paper's ablations, see `InvertedResidual`.
      split: parts of every block's expanded tensor in inference, see `InvertedResidual`; a common
        divisor of their channels.
      The others: see `Network`.
    """

    alpha: float = 1.0
    shortcut: str = "bottleneck"
    linear: bool = True
    split: int = 1

    stages: ClassVar[tuple[Stage, ...]] = STAGES

    def check(self) -> None:
        """Raise InputError for an option that the network does not offer."""
        super().check()
        if not 0 < self.alpha < math.inf:
            raise InputError(f"alpha is {self.alpha}; accepted: any number above 0")
        if self.shortcut not in SHORTCUTS:
            raise unknown("shortcut", self.shortcut, SHORTCUTS)
        wide = math.gcd(
            *(
                round_channels(stage.channels * self.alpha) * following.expansion
                for stage, following in itertools.pairwise(self.stages)
            )
        )
        if self.split < 1 or wide % self.split:
            raise InputError(
                f"split is {self.split}; accepted: a common divisor of the expanded channels, "
                f"which are multiples of {wide}"
            )

    @nn.compact
    def __call__(self, images: Array, train: bool = False) -> Array | dict[int, Array]:
        """Map images [n, h, w, 3] to logits [n, num_classes], or to {stride: features}."""
        self.check()
        conv = self.conv_norm()
        x = self.check_images(images)
        x = conv(
            round_channels(STEM_CHANNELS * self.alpha), 3, stride=2, activation=relu6, name="stem"
        )(x, train)  # [n, h/2, w/2, 32]
        endpoints = {2: x}
        blocks = [
            (f"stage{number}_block{block}", stage, stage.stride if block == 1 else 1)
            for number, stage in enumerate(self.stages, start=1)
            for block in range(1, stage.blocks + 1)
        ]
        steps = plan_strides((stride for *_, stride in blocks), self.output_stride, before=2)
        for (name, stage, stride), step in zip(blocks, steps, strict=True):
            if step.total > self.deepest_stride:
                break
            x = endpoints[step.total] = InvertedResidual(
                round_channels(stage.channels * self.alpha),
                stage.expansion,
                stride=step.stride,
                dilation=step.dilation,
                shortcut=self.shortcut if stride == 1 else "none",
                linear=self.linear,
                split=self.split,
                conv=conv,
                name=name,
            )(x, train)
        if self.out_strides is not None:
            return {stride: endpoints[stride] for stride in self.out_strides}
        x = conv(
            round_channels(HEAD_CHANNELS * max(1.0, self.alpha)), activation=relu6, name="head"
        )(x, train)  # [n, h/32, w/32, 1280]
        return self.classify(x, train)
