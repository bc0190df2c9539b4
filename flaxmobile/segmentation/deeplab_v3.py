"""DeepLabV3: atrous spatial pyramid pooling.

Paper: Chen et al., "Rethinking Atrous Convolution for Semantic Image Segmentation" (2017,
arXiv:1706.05587), section 3.3 and figure 5.

- Variant "torchvision" filters the pyramid by one more 3×3 convolution before the classifier, and
  drops half of the pyramid's values in training; "paper" classifies the pyramid itself.
- `aspp=False` is MobileNet V2's form (arXiv:1801.04381, section 6.3), a pyramid of only a 1×1
  convolution and the pooled map. It has `head_variant="paper"` and `auxiliary=False`.
- The auxiliary classifier is torchvision's, on the map of stride 8.
- The rates are torchvision's at every output stride; the paper halves them at 16.
"""

from typing import Any, ClassVar

import jax.numpy as jnp
from jax import Array

from flaxmobile.errors import check_value
from flaxmobile.layers import Dropout, relu
from flaxmobile.layers.resizing import resize
from flaxmobile.ops import global_mean
from flaxmobile.segmentation.segmenter import Segmenter

_AUXILIARY_SHARE = 4
"""Channels of the map of stride 8 over those of the auxiliary classifier's convolution."""


class DeepLabV3(Segmenter):
    """The pyramid of figure 5 over any network with maps of stride 8 and deeper.

    Attributes:
      aspp: has the dilated convolutions.
      rates: their dilations.
      channels: of each layer of the pyramid, and after it.
      dropout_rate: after the pyramid.
      auxiliary: has the auxiliary classifier, in training.
      aux_dropout_rate: before it.
      The others: see `Segmenter`.
    """

    aspp: bool = True
    rates: tuple[int, ...] = (12, 24, 36)
    channels: int = 256
    dropout_rate: float = 0.5
    auxiliary: bool = True
    aux_dropout_rate: float = 0.1

    heads: ClassVar[tuple[str, ...]] = ("aux_classifier", "classifier")

    @property
    def aux_weight(self) -> float:
        """Weight of the auxiliary classifier's loss, torchvision's."""
        return 0.5 if self.auxiliary else 0.0

    def check(self) -> None:
        """Raise InputError for an option that the segmenter does not offer."""
        super().check()
        check_value("rates", self.rates, all(each >= 1 for each in self.rates), "1 or more each")
        check_value("channels", self.channels, self.channels >= 1, "1 or more")
        for name in ("dropout_rate", "aux_dropout_rate"):
            rate = getattr(self, name)
            check_value(name, rate, 0 <= rate < 1, "0 or more, below 1")

    def head(self, maps: dict[Any, Array], images: Array, train: bool) -> Array:
        """Map the last map to logits [n, h, w, num_classes]; sow those of the map of stride 8."""
        low, high = self.low_and_high(maps)
        if self.auxiliary and (train or self.is_initializing()):
            self.sow_auxiliary("auxiliary", resize(self.classify_low(low, train), images))
        x = self.pyramid(high, train)
        if self.head_variant == "torchvision":
            x = self.unit()(self.channels, 3, activation=relu, name="refine")(x, train)
        return resize(self.classifier("classifier")(x), images)

    def pyramid(self, x: Array, train: bool) -> Array:
        """Filter x [n, h, w, c] at several scales to [n, h, w, channels]."""
        unit = self.unit()
        scales = [unit(self.channels, activation=relu, name="aspp_point")(x, train)]
        for rate in self.rates if self.aspp else ():
            layer = unit(self.channels, 3, dilation=rate, activation=relu, name=f"aspp_rate{rate}")
            scales.append(layer(x, train))
        pooled = global_mean(x)[:, None, None].astype(x.dtype)
        pooled = unit(self.channels, activation=relu, name="aspp_pool")(pooled, train)
        scales.append(jnp.broadcast_to(pooled, scales[0].shape))
        x = jnp.concatenate(scales, -1)
        x = unit(self.channels, activation=relu, name="aspp_project")(x, train)
        return self.drop(self.dropout_rate, "dropout", x, train)

    def classify_low(self, x: Array, train: bool) -> Array:
        """Map x [n, h / 8, w / 8, c] to logits [n, h / 8, w / 8, num_classes]."""
        channels = max(1, x.shape[-1] // _AUXILIARY_SHARE)
        x = self.unit()(channels, 3, activation=relu, name="aux_conv")(x, train)
        x = self.drop(self.aux_dropout_rate, "aux_dropout", x, train)
        return self.classifier("aux_classifier")(x)

    def drop(self, rate: float, name: str, x: Array, train: bool) -> Array:
        """Apply dropout to x."""
        layer = Dropout(rate, self.backbone.axis_name, name=name)
        return layer(x, deterministic=not train)
