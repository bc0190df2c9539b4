"""Keras's preset for images."""

from flaxmobile.preprocessing import Preprocessing

_HALF = (0.5, 0.5, 0.5)


def preset(image_size: int) -> Preprocessing:
    """Return Keras's preset for a network trained at that size, the same for all of its files.

    Images are resized by the nearest pixel, the default of `keras.utils.load_img`, and scaled to
    -1..1 as `preprocess_input` of mode "tf" does (MobileNet V3 does so itself). Unlike in Keras,
    which squeezes both sides, the shorter side is resized to `image_size` and the image cropped.
    """
    return Preprocessing(image_size, image_size, _HALF, _HALF, "nearest")
