"""Files of weights that Keras publishes, with their heads, as plain data.

Those without a head (`no_top`) hold the same bodies. Source: `keras.applications`, which says MD5
and top-1 of some.
"""

from convert.rule import Published
from convert.rules.keras.presets import preset

_ADDRESS = "https://storage.googleapis.com/tensorflow/keras-applications/"


def published(
    name: str,
    path: str,
    params: int,
    image_size: int = 224,
    alpha: float = 1.0,
    md5: str = "",
    top1: float | None = None,
) -> Published:
    """Describe a published file.

    Args:
      name: Keras's name of the network, and what tells its files apart: width, size of the images.
      path: of the file at Keras's address, without ".h5".
      params: number of the parameters of our network.
      image_size: side of the images that the network was trained on, in pixels.
      alpha: width of the network.
      md5: of the file, where Keras checks it.
      top1: ImageNet accuracy in percent, where Keras says it.
    """
    return Published(
        name=f"keras:{name}",
        preprocessing=preset(image_size),
        licence="Apache-2.0",
        params=params,
        url=f"{_ADDRESS}{path}.h5",
        md5=md5,
        alpha=alpha,
        top1=top1,
        top1_source="" if top1 is None else "Keras's documentation of the network",
    )
