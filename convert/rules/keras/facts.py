"""What Keras says about its weights."""

from convert.imagenet import class_names
from convert.rule import Facts
from flaxmobile.preprocessing import Preprocessing

_HALF = (0.5, 0.5, 0.5)


def facts(image_size: int, sha256: str, num_classes: int) -> Facts:
    """Give Keras's preset, the same for all files of a network.

    Images are what `keras.utils.load_img` makes of them, which takes the nearest pixel by default,
    and then -1..1 as `preprocess_input` of mode "tf" does (MobileNet V3 does so itself); but it is
    the shorter side that becomes `image_size`, where Keras squeezes both. Files of 1000 classes are
    ImageNet's; Keras has none with a background class.

    Args:
      image_size: side that the network is trained at, in pixels.
      sha256: of the file; Keras publishes MD5 sums alone, so it tells nothing.
      num_classes: of the file.
    """
    del sha256
    preset = Preprocessing(image_size, image_size, _HALF, _HALF, "nearest")
    return Facts(preset, class_names(1000) if num_classes == 1000 else None, {})
