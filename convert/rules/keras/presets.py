"""How Keras prepares images."""

from flaxmobile.preprocessing import Preprocessing

_HALF = (0.5, 0.5, 0.5)


def preset(image_size: int) -> Preprocessing:
    """Return Keras's preset for a network trained at that size, the same for all of its files.

    Images are what `keras.utils.load_img` makes of them, which takes the nearest pixel by default,
    and then -1..1 as `preprocess_input` of mode "tf" does (MobileNet V3 does so itself); but the
    shorter side becomes `image_size`, where Keras squeezes both.
    """
    return Preprocessing(image_size, image_size, _HALF, _HALF, "nearest")
