"""Base class of networks for dense tasks: a head over the feature maps of a backbone."""

import contextlib
import dataclasses
from collections.abc import Mapping
from functools import partial
from typing import Any, ClassVar, Self

import jax.numpy as jnp
from flax import linen as nn
from jax import Array

from flaxmobile.errors import InputError, check_choice, check_value
from flaxmobile.layers.conv import ConvNorm
from flaxmobile.layers.network import AUX_LOGITS, Network
from flaxmobile.ops import native_forms

VARIANTS = ("torchvision", "paper")


class HeadedNetwork(nn.Module):
    """A head over the feature maps of a backbone.

    A subclass says which maps it needs (`choose_maps`) and what it makes of them (`head`). The
    backbone's variables are those of the classifier without its head, in the group `backbone`.
    Options of the backbone, such as `dtype` and `folded`, are the head's too: `clone` takes them.

    Attributes:
      backbone: returns the maps that the head needs.
      num_classes: classes of the output, the background among them.
      head_variant: "torchvision" or "paper", see each head.
      head_norm_momentum, head_norm_epsilon: of the head's normalizations, see `BatchNorm`.
    """

    backbone: Network
    num_classes: int = 21
    head_variant: str = VARIANTS[0]
    head_norm_momentum: float = 0.9
    head_norm_epsilon: float = 1e-5

    default_output_stride: ClassVar[int | None] = None
    """Output stride of a backbone that can dilate, unless the user says another; None: its own."""
    backbone_defaults: ClassVar[Mapping[str, Any]] = {}
    """Other options of the backbone, where it has them, unless the user says others."""
    heads: ClassVar[tuple[str, ...]] = ()
    """Top-level parameter groups that depend on the number of classes."""
    classifier_groups: ClassVar[Mapping[str, str]] = {}
    """Own top-level parameter groups that a classifier may have too -> their names there."""

    @classmethod
    def choose_maps(cls, network: Network, head_variant: str) -> dict[str, Any]:
        """Return `out_strides` and `taps` of the backbone that the head needs.

        Args:
          network: the backbone before the choice.
          head_variant: of the head.

        Raises:
          InputError: the network has no such maps.
        """
        raise NotImplementedError

    def head(self, maps: dict[Any, Array], images: Array, train: bool) -> Any:
        """Map the backbone's maps, and the images that they come from, to the output."""
        raise NotImplementedError

    @nn.compact
    def __call__(self, images: Array, train: bool = False) -> Any:
        """Map images [n, h, w, in_channels] to the output of the head."""
        self.check()
        maps = self.backbone(images, train)
        with native_forms() if self.native else contextlib.nullcontext():
            return self.head(maps, images, train)

    def check(self) -> None:
        """Raise InputError for an option that the network does not offer."""
        self.backbone.check()
        check_choice("head_variant", self.head_variant, VARIANTS)
        if self.quantized:
            raise InputError("quantized is True; accepted: for classifiers and backbones")
        momentum, epsilon = self.head_norm_momentum, self.head_norm_epsilon
        check_value("num_classes", self.num_classes, self.num_classes >= 1, "1 or more")
        check_value("head_norm_momentum", momentum, 0 <= momentum <= 1, "0 to 1")
        check_value("head_norm_epsilon", epsilon, epsilon >= 0, "0 or more")

    def clone(self, **changes: Any) -> Self:
        """Return a copy with other options, of the head or of the backbone."""
        own = {field.name for field in dataclasses.fields(self)}
        passed_on = [name for name in changes if name not in own and not name.startswith("_")]
        if passed_on:
            options = {name: changes.pop(name) for name in passed_on}
            changes["backbone"] = self.backbone.clone(**options)
        return super().clone(**changes)

    def countable(self) -> Self:
        """Return a form of the network that calls each layer once, for `summarize`."""
        return self.clone(backbone=self.backbone.countable())

    def size_text(self) -> str:
        """Name the size of the network, for messages."""
        return f"{self.num_classes} classes"

    def epsilon_of(self, group: str) -> float:
        """Return the epsilon of the normalizations in a top-level group of parameters."""
        return self.backbone.norm_epsilon if group == "backbone" else self.head_norm_epsilon

    def momentum_of(self, group: str) -> float:
        """Return the momentum of the normalizations in a top-level group of parameters."""
        return self.backbone.norm_momentum if group == "backbone" else self.head_norm_momentum

    def without_momentum(self) -> Self:
        """Return a form of the network whose new running statistics are those of the batch."""
        return self.clone(norm_momentum=0.0, head_norm_momentum=0.0)

    def unit(self) -> partial[ConvNorm]:
        """Bind the options to `ConvNorm` once, for all layers of the head.

        `frozen_norm` is the backbone's alone: a new head has its statistics to learn.
        """
        return partial(
            self.backbone.unit(),
            frozen_norm=False,
            norm_momentum=self.head_norm_momentum,
            norm_epsilon=self.head_norm_epsilon,
        )

    def sow_auxiliary(self, name: str, logits: Array) -> None:
        """Sow the logits of an auxiliary classifier, for the training step."""
        if not self.is_initializing():
            self.sow(AUX_LOGITS, name, logits)

    @property
    def aux_weight(self) -> float:
        """Weight of each auxiliary classifier's loss."""
        return 0.0

    @property
    def gives_logits(self) -> bool:
        """Whether the output is logits [n, …, num_classes]."""
        return False

    @property
    def is_backbone(self) -> bool:
        """Whether the output is feature maps."""
        return False

    @property
    def dtype(self) -> jnp.dtype:
        """Type of the arithmetic."""
        return jnp.dtype(self.backbone.dtype)

    @property
    def axis_name(self) -> str | None:
        """The `jax.pmap` axis over which statistics of the batch are averaged."""
        return self.backbone.axis_name

    @property
    def norm_momentum(self) -> float:
        """Weight of the old running statistics in an update, in the backbone."""
        return self.backbone.norm_momentum

    @property
    def in_channels(self) -> int:
        """Channels of the images."""
        return self.backbone.in_channels

    @property
    def min_image_size(self) -> int:
        """Least height and width of the images."""
        return self.backbone.min_image_size

    @property
    def folded(self) -> bool:
        """Whether the normalizations are folded into the convolutions."""
        return self.backbone.folded

    @property
    def quantized(self) -> bool:
        """Whether the numbers are those of the int8 model."""
        return self.backbone.quantized

    @property
    def native(self) -> bool:
        """Whether every operation has the form that an accelerator gets."""
        return self.backbone.native


Model = Network | HeadedNetwork
"""A classifier or backbone, or a network for another task."""
