"""Inception V2 (BN-Inception): batch normalization, and 5×5 convolutions as two 3×3.

Paper: Ioffe and Szegedy, "Batch Normalization: Accelerating Deep Network Training by Reducing
Internal Covariate Shift", ICML 2015 (arXiv:1502.03167). The network is figure 5 of its appendix.

Three flavours:

- "slim" (the default) is TF-slim's `inception_v2`: a separable 7×7 first layer of 8 depthwise
  outputs per image channel, with a bias in the place of normalization.
- "paper" has that layer too (the appendix' last sentence), normalized.
- "caffe" is the BN-Inception whose weights are passed around: a dense 7×7 first layer. We leave out
  its convolutions' biases, which normalization takes out.

In all:

- Figure 5 has 128 channels in the pooling branches of 4c and 4d, and 576 in all where its columns
  add up to 608: "paper" and "caffe" follow the columns, "slim" the sum.
- Convolutions pad as TensorFlow does by default. Max pooling always does: on even sizes that is
  Caffe's rounding up.
- The running statistics have torchvision's momentum. TF-slim's 0.9997 suits millions of steps.
- `alpha` is TF-slim's width multiplier (`depth_multiplier`); the paper has none.
"""

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import ClassVar, NamedTuple

import jax.numpy as jnp
from flax import linen as nn
from jax import Array

from flaxmobile.errors import InputError, unknown
from flaxmobile.layers import (
    Conv,
    ConvNorm,
    Network,
    avg_pool,
    max_pool,
    relu,
    thin_channels,
)


class Widths(NamedTuple):
    """A row of figure 5: the channels of a module's convolutions, 0 where there is none."""

    branch1x1: int
    reduce3x3: int
    branch3x3: int
    reduce_double: int
    double3x3: int
    pool_project: int


STAGES = {
    8: {
        "inception3a": Widths(64, 64, 64, 64, 96, 32),
        "inception3b": Widths(64, 64, 96, 64, 96, 64),
    },
    16: {
        "inception3c": Widths(0, 128, 160, 64, 96, 0),
        "inception4a": Widths(224, 64, 96, 96, 128, 128),
        "inception4b": Widths(192, 96, 128, 96, 128, 128),
        "inception4c": Widths(160, 128, 160, 128, 160, 128),
        "inception4d": Widths(96, 128, 192, 160, 192, 128),
    },
    32: {
        "inception4e": Widths(0, 128, 192, 192, 256, 0),
        "inception5a": Widths(352, 192, 320, 160, 224, 128),
        "inception5b": Widths(352, 192, 320, 192, 224, 128),
    },
}
"""Stride -> module, under the figure's name -> widths."""
STEM_CHANNELS, CONV2_CHANNELS = 64, 192
STEM_MULTIPLIER = 8


class Flavour(NamedTuple):
    """Where the references differ."""

    separable_stem: bool
    normalized_stem: bool
    pool_project: dict[str, int]
    """Module -> width of its pooling branch, where it is not figure 5's."""


FLAVOURS = {
    "slim": Flavour(
        separable_stem=True,
        normalized_stem=False,
        pool_project={"inception4c": 96, "inception4d": 96},
    ),
    "paper": Flavour(separable_stem=True, normalized_stem=True, pool_project={}),
    "caffe": Flavour(separable_stem=False, normalized_stem=True, pool_project={}),
}


class Inception(nn.Module):
    """1×1, 3×3, two 3×3 and pooling side by side: a row of figure 5.

    Attributes:
      widths: channels of each convolution; without `branch1x1` the block shrinks its input by
        strides, and the pooled input passes through.
      max_pooling: take the largest of the neighbours instead of their mean.
      count_padding: average pooling counts padded pixels.
      conv: the convolution unit, with the network's options bound.
    """

    widths: Widths
    max_pooling: bool = False
    count_padding: bool = False
    conv: Callable[..., nn.Module] = ConvNorm

    @nn.compact
    def __call__(self, x: Array, train: bool = False) -> Array:
        """Map x [n, h, w, c] to [n, h, w, sum of widths], or to half the size and c more."""
        widths = self.widths
        shrinks = widths.branch1x1 == 0
        stride = 2 if shrinks else 1

        def unit(x: Array, features: int, name: str, kernel: int = 1, stride: int = 1) -> Array:
            return self.conv(features, kernel, stride=stride, activation=relu, name=name)(x, train)

        branch3x3 = unit(x, widths.reduce3x3, "branch3x3_reduce")
        branch3x3 = unit(branch3x3, widths.branch3x3, "branch3x3", 3, stride)
        double = unit(x, widths.reduce_double, "double3x3_reduce")
        double = unit(double, widths.double3x3, "double3x3_1", 3)
        double = unit(double, widths.double3x3, "double3x3_2", 3, stride)
        if shrinks:
            return jnp.concatenate([branch3x3, double, max_pool(x, 3, 2, "SAME")], axis=-1)
        branch1x1 = unit(x, widths.branch1x1, "branch1x1")
        if self.max_pooling:
            pooled = max_pool(x, 3)
        else:
            pooled = avg_pool(x, 3, count_padding=self.count_padding)
        pooled = unit(pooled, widths.pool_project, "pool_project")
        return jnp.concatenate([branch1x1, branch3x3, double, pooled], axis=-1)


class InceptionV2(Network):
    """Figure 5 of the paper.

    Attributes:
      alpha: width multiplier, above 0; no layer is thinner than 16 channels.
      flavour: "slim", "paper" or "caffe", see above.
      The others: see `Network`.
    """

    alpha: float = 1.0
    flavour: str = "slim"
    padding: str = "same"
    norm_epsilon: float = 1e-3

    output_strides: ClassVar[tuple[int, ...]] = (32,)
    stages: ClassVar[Mapping[int, Mapping[str, Widths]]] = STAGES

    def check(self) -> None:
        """Raise InputError for an option that the network does not offer."""
        super().check()
        if not 0 < self.alpha < math.inf:
            raise InputError(f"alpha is {self.alpha}; accepted: any number above 0")
        if self.flavour not in FLAVOURS:
            raise unknown("flavour", self.flavour, FLAVOURS)

    @nn.compact
    def __call__(self, images: Array, train: bool = False) -> Array | dict[int, Array]:
        """Map images [n, h, w, 3] to logits [n, num_classes], or to {stride: features}."""
        self.check()
        conv = self.conv_norm()
        x = self._stem(self.check_images(images), train)
        endpoints = {2: x}  # [n, h/2, w/2, 64]
        if self.deepest_stride > 2:
            x = max_pool(x, 3, 2, "SAME")
            x = conv(x.shape[-1], activation=relu, name="conv2_reduce")(x, train)
            features = thin_channels(CONV2_CHANNELS, self.alpha)
            x = conv(features, 3, activation=relu, name="conv2")(x, train)
            endpoints[4] = x  # [n, h/4, w/4, 192]
        for stride, modules in self.stages.items():
            if stride > self.deepest_stride:
                break
            x = max_pool(x, 3, 2, "SAME") if stride == 8 else x
            for name in modules:
                x = Inception(
                    self._widths(modules, name),
                    max_pooling=name == "inception5b",
                    count_padding=self.padding != "same",
                    conv=conv,
                    name=name,
                )(x, train)
            endpoints[stride] = x  # [n, h/stride, w/stride, c]
        if self.out_strides is not None:
            return {stride: endpoints[stride] for stride in self.out_strides}
        return self.classify(x, train)

    def _stem(self, x: Array, train: bool) -> Array:
        """Map images [n, h, w, 3] to [n, h/2, w/2, 64]."""
        conv = self.conv_norm(activation=relu)
        flavour = FLAVOURS[self.flavour]
        features = thin_channels(STEM_CHANNELS, self.alpha)
        if not flavour.separable_stem:
            return conv(features, 7, stride=2, name="stem")(x, train)
        x = Conv(
            3 * min(features // 3, STEM_MULTIPLIER),
            7,
            stride=2,
            groups=3,
            padding=conv.keywords["padding"],
            use_bias=False,
            dtype=self.dtype,
            name="stem_depthwise",
        )(x)  # [n, h/2, w/2, 24]
        conv = partial(conv, folded=self.folded or not flavour.normalized_stem)
        return conv(features, name="stem_pointwise")(x, train)

    def _widths(self, modules: Mapping[str, Widths], name: str) -> Widths:
        widths = modules[name]
        project = FLAVOURS[self.flavour].pool_project.get(name, widths.pool_project)
        widths = widths._replace(pool_project=project)
        return Widths(*(thin_channels(c, self.alpha) if c else 0 for c in widths))
