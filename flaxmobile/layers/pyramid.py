"""Feature pyramid network (FPN): maps of equal width, each with the coarser ones added.

Paper: Lin et al., "Feature Pyramid Networks for Object Detection", CVPR 2017 (arXiv:1612.03144),
figure 3. Coarser maps than the backbone's are those of:

- "pool": its footnote 1, every second pixel of the coarsest map.
- "retinanet": Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017 (arXiv:1708.02002),
  section 4: two 3×3 convolutions of stride 2, the first of the backbone's coarsest map.
- "fcos": Tian et al., "FCOS", ICCV 2019 (arXiv:1904.01355), section 3.2: the same, but the first
  of the pyramid's coarsest map.

Numbers, initialization and odd sizes are as in torchvision's `FeaturePyramidNetwork`.
"""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jax import Array

from flaxmobile.errors import InputError, check_choice, check_value
from flaxmobile.layers.activations import relu
from flaxmobile.layers.backbone import MakeUnit
from flaxmobile.layers.conv import Conv
from flaxmobile.layers.resizing import enlarge

EXTRA_LEVELS = ("pool", "retinanet", "fcos")


class FeaturePyramid(nn.Module):
    """Feature pyramid network over a backbone's maps.

    Each map is made `features` wide (1×1), the next coarser level is enlarged to its size (nearest
    pixel) and added, and the sum is filtered (3×3).

    Attributes:
      features: channels of every level.
      extra: levels after the backbone's: None, "pool" (one), "retinanet" or "fcos" (two).
      unit: makes each convolution of figure 3 with its normalization, such as `backbone.unit()`;
        None makes convolutions with a bias. Those of extra levels always have a bias.
      dtype: type of the arithmetic, where `unit` is None, and of the extra levels.
    """

    features: int = 256
    extra: str | None = None
    unit: MakeUnit | None = None
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, maps: Mapping[int, Array], train: bool = False) -> dict[int, Array]:
        """Map {stride: [n, h / stride, w / stride, c]} to the same with `features` channels.

        Args:
          maps: as a backbone returns them, in any order, of any widths and sizes.
          train: normalizations use and update the statistics of the batch.

        Returns:
          Level by stride, the finest first. Extra levels have twice and four times the largest.

        Raises:
          InputError: an option or the maps are none of the above.
        """
        self.check(maps)
        levels: dict[int, Array] = {}
        coarser = None
        for stride in sorted(maps, reverse=True):
            x = self.convolve(f"lateral{stride}", maps[stride], 1, train)
            coarser = x if coarser is None else x + enlarge(coarser, x.shape[1], x.shape[2])
            levels[stride] = self.convolve(f"output{stride}", coarser, 3, train)
        return dict(sorted({**levels, **self.extra_levels(maps, levels)}.items()))

    def check(self, maps: Mapping[int, Array]) -> None:
        """Raise InputError for an option that is not offered, or what is not a backbone's maps."""
        check_value("features", self.features, self.features >= 1, "1 or more")
        if self.extra is not None:
            check_choice("extra", self.extra, EXTRA_LEVELS)
        wrong = [key for key in maps if not isinstance(key, int) or maps[key].ndim != 4]
        if wrong or not maps:
            shapes = {key: maps[key].shape for key in wrong}
            raise InputError(
                f"the pyramid's maps have {shapes or 'no entry'}; accepted: "
                "{stride: [n, height, width, channels]}, as create_backbone(out_strides=…) gives it"
            )

    def convolve(self, name: str, x: Array, kernel: int, train: bool) -> Array:
        """Convolve x [n, h, w, c] to [n, h, w, features]."""
        if self.unit is None:
            return self.biased(name, kernel)(x)
        y: Array = self.unit(self.features, kernel, name=name)(x, train)
        return y

    def extra_levels(
        self, maps: Mapping[int, Array], levels: Mapping[int, Array]
    ) -> dict[int, Array]:
        """Make the levels that are coarser than all maps."""
        last = max(maps)
        if self.extra is None:
            return {}
        if self.extra == "pool":
            return {2 * last: levels[last][:, ::2, ::2]}
        source = maps[last] if self.extra == "retinanet" else levels[last]
        once = self.biased(f"extra{2 * last}", 3, stride=2)(source)
        twice = self.biased(f"extra{4 * last}", 3, stride=2)(relu(once))
        return {2 * last: once, 4 * last: twice}

    def biased(self, name: str, kernel: int, stride: int = 1) -> Conv:
        """Make a convolution with a bias."""
        init = nn.initializers.lecun_uniform()  # `kaiming_uniform_(a=1)`, torchvision's
        return Conv(self.features, kernel, stride, dtype=self.dtype, kernel_init=init, name=name)
