"""Base class of all segmenters."""

from typing import Any, ClassVar

import jax.numpy as jnp
from jax import Array

from flaxmobile.errors import InputError
from flaxmobile.layers import Conv, HeadedNetwork, Network

LOW_STRIDE = 8
"""Stride of the map with the finer detail."""


class Segmenter(HeadedNetwork):
    """A head that classifies every pixel: images [n, h, w, c] to logits [n, h, w, num_classes].

    Its options are those of `HeadedNetwork`.
    """

    default_output_stride: ClassVar[int | None] = 16

    @property
    def gives_logits(self) -> bool:
        """Whether the output is logits [n, …, num_classes]."""
        return True

    @classmethod
    def choose_maps(cls, network: Network, head_variant: str) -> dict[str, Any]:
        """Choose the first map of stride 8, as torchvision does, and the last of all."""
        places = [place for place in network.places() if place.endpoint]
        low = next((p.name for p in places if p.geometry.total == LOW_STRIDE), None)
        if low is None:
            raise InputError(
                f"{type(network).__name__} has no feature map of stride {LOW_STRIDE}, which the "
                "head needs; choose another backbone"
            )
        return {"out_strides": (network.output_stride,), "taps": (low,)}

    def low_and_high(self, maps: dict[Any, Array]) -> tuple[Array, Array]:
        """Return the map of stride 8 [n, h / 8, w / 8, c] and the last one."""
        return maps[self.backbone.taps[0]], maps[self.backbone.output_stride]

    def classifier(self, name: str) -> Conv:
        """Make a 1×1 convolution to logits, computed in float32 or wider."""
        dtype = jnp.promote_types(self.dtype, jnp.float32)
        return Conv(self.num_classes, dtype=dtype, name=name)
