"""LR-ASPP: a light head for segmentation, of MobileNet V3.

Paper: Howard et al., "Searching for MobileNetV3", ICCV 2019 (arXiv:1905.02244), section 6.4 and
figure 10. The last map is filtered by 1×1, gated by a pooled map, enlarged, and added, as logits,
to those of the map of stride 8.

- Variant "torchvision": the gate is one number per channel, of the mean over the whole image.
- Variant "paper": the gate is a map of averages over 49×49 pixels of the last map, every 16 rows
  and 20 columns, enlarged bilinearly: for Cityscapes' images, twice as wide as they are high. A
  smaller map is averaged as a whole.
  Of the last block of stride 8 it reads the depthwise convolution's output, where the block is an
  inverted residual: so does DeepLab's code, whose networks these are.
- The paper's small networks, 1.51 M and 0.47 M parameters (table 7, F = 128), have
  `reduced_tail=True` and `reduced_expansion=True` in the backbone.
"""

from typing import Any, ClassVar

from flax import linen as nn
from jax import Array

from flaxmobile.errors import check_value
from flaxmobile.layers import Conv, Network, relu
from flaxmobile.layers.resizing import resize
from flaxmobile.ops import global_mean
from flaxmobile.segmentation.segmenter import LOW_STRIDE, Segmenter

_WINDOW, _STEPS = 49, (16, 20)


class LRASPP(Segmenter):
    """The head of figure 10 over any network with maps of stride 8 and deeper.

    Attributes:
      channels: of the filtered and gated map; F in the paper's table 7.
      The others: see `Segmenter`.
    """

    channels: int = 128

    heads: ClassVar[tuple[str, ...]] = ("low_classifier", "high_classifier")

    @classmethod
    def choose_maps(cls, network: Network, head_variant: str) -> dict[str, Any]:
        """Choose the variant's map of stride 8, and the last of all."""
        maps = super().choose_maps(network, head_variant)
        if head_variant == "paper" and network.inverted_residuals:
            *_, block = (p.name for p in network.places() if p.geometry.total == LOW_STRIDE)
            return {**maps, "taps": (f"{block}/depthwise",)}
        return maps

    def check(self) -> None:
        """Raise InputError for an option that the segmenter does not offer."""
        super().check()
        check_value("channels", self.channels, self.channels >= 1, "1 or more")

    def head(self, maps: dict[Any, Array], images: Array, train: bool) -> Array:
        """Map the two maps to logits [n, h, w, num_classes]."""
        low, high = self.low_and_high(maps)
        x = self.unit()(self.channels, activation=relu, name="project")(high, train)
        gate = Conv(self.channels, use_bias=False, dtype=self.dtype, name="gate")
        x = x * resize(nn.sigmoid(gate(self.pool(high))), x)  # [n, h / 16, w / 16, channels]
        logits = self.classifier("high_classifier")(resize(x, low))
        logits += self.classifier("low_classifier")(low)  # [n, h / 8, w / 8, num_classes]
        return resize(logits, images)

    def pool(self, x: Array) -> Array:
        """Average x [n, h, w, c] under the variant's windows: [n, h', w', c]."""
        height, width = x.shape[1:3]
        if self.head_variant == "torchvision" or max(height, width) < _WINDOW:
            return global_mean(x)[:, None, None].astype(x.dtype)
        window = (min(height, _WINDOW), min(width, _WINDOW))
        return nn.avg_pool(x, window, _STEPS, "VALID")
