"""Images as the detectors accept them."""

from typing import Any

import jax.numpy as jnp
import numpy as np

from flaxmobile.errors import InputError, check_value

_OVERSHOOT = 0.25
"""Pixels outside 0..1 by at most this are clipped: bicubic and Lanczos resizing overshoot."""


def check_image(image: Any) -> np.ndarray:
    """Return an image's pixels [h, w, 3] as float32 in 0..1.

    Raises:
      InputError: another shape or dtype, or floating point outside 0..1.
    """
    pixels = np.asarray(image)
    if pixels.ndim != 3 or pixels.shape[2] != 3 or 0 in pixels.shape:
        raise InputError(f"the image has shape {list(pixels.shape)}; accepted: [h, w, 3]")
    if pixels.dtype == np.uint8:
        return pixels.astype(np.float32) / 255
    if not jnp.issubdtype(pixels.dtype, jnp.floating):
        raise InputError(
            f"the image has dtype {pixels.dtype}; accepted: uint8, or floating point in 0..1"
        )
    if not (pixels.min() >= -_OVERSHOOT and pixels.max() <= 1 + _OVERSHOOT):
        raise InputError(
            f"the image's numbers are from {pixels.min():g} to {pixels.max():g}; accepted: 0 to 1 "
            "(or uint8 in 0..255)"
        )
    return pixels.astype(np.float32).clip(0, 1)


def check_share(name: str, value: float) -> None:
    """Raise InputError unless a threshold is in 0..1."""
    check_value(name, value, 0 <= value <= 1, "0 to 1")
