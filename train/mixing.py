"""Mixup and cutmix of a batch, inside the training step."""

import dataclasses

import jax
import jax.numpy as jnp
from jax import Array


@dataclasses.dataclass(frozen=True)
class Mixing:
    """Mix each image of a batch with its neighbour.

    Images 0 and 1, 2 and 3, … are mixed with each other. The data are shuffled, so that the pairs
    are random, and no image leaves its device. Both images of a pair, and all pairs of a step, have
    the same share. With both kinds on, each step takes one of them at random.

    Attributes:
      mixup: parameter α of the Beta(α, α) distribution of mixup's share (Zhang et al. 2018); 0 is
        off.
      cutmix: the same for cutmix (Yun et al. 2019), whose share is the area that stays.
    """

    mixup: float = 0.0
    cutmix: float = 0.0

    def __call__(self, key: Array, pixels: Array, targets: Array) -> tuple[Array, Array]:
        """Mix pixels [n, h, w, c] and targets [n, classes]; n is even."""
        if not (self.mixup or self.cutmix):
            return pixels, targets
        choice, share_key, box_key = jax.random.split(key, 3)
        both = self.mixup > 0 and self.cutmix > 0
        cuts = jax.random.bernoulli(choice) if both else jnp.asarray(self.cutmix > 0)
        alpha = jnp.where(cuts, self.cutmix, self.mixup)
        share = jax.random.beta(share_key, alpha, alpha)
        inside = _box(box_key, share, *pixels.shape[1:3])
        area = 1 - inside.mean(dtype=share.dtype)
        kept = jnp.where(cuts, jnp.where(inside, 0, 1), share)[None, :, :, None]
        pixels = pixels.astype(jnp.promote_types(targets.dtype, jnp.float32))
        mixed = kept * pixels + (1 - kept) * _neighbours(pixels)
        share = jnp.where(cuts, area, share)
        return mixed, share * targets + (1 - share) * _neighbours(targets)


def _neighbours(values: Array) -> Array:
    pairs = values.reshape(-1, 2, *values.shape[1:])
    return jnp.flip(pairs, axis=1).reshape(values.shape)


def _box(key: Array, share: Array, height: int, width: int) -> Array:
    """Cut a box of the image's shape and the area 1 - share, clipped by the image's edges.

    Returns:
      bool [h, w]: true inside of the box.
    """
    side = jnp.sqrt(1 - share)
    places = [
        _interval(axis_key, side, length)
        for axis_key, length in zip(jax.random.split(key), (height, width), strict=True)
    ]
    return places[0][:, None] & places[1][None, :]


def _interval(key: Array, side: Array, length: int) -> Array:
    centre = jax.random.randint(key, (), 0, length)
    half = jnp.floor(side * length / 2).astype(centre.dtype)
    places = jnp.arange(length)
    return (places >= centre - half) & (places < centre + half)
