"""Some images of a data set or a folder, as evaluation prepares them."""

from collections.abc import Sized
from pathlib import Path

import numpy as np

from flaxmobile.errors import InputError
from flaxmobile.images import open_image, read_image
from flaxmobile.preprocessing import Preprocessing
from train.data import open_dataset
from train.data.files import LeftOut, image_files


def sample_images(name: str, preprocessing: Preprocessing, count: int) -> np.ndarray:
    """Return images [k, h, w, 3] in uint8, evenly spaced over a data set.

    Args:
      name: a data set, whose training images are taken, see `open_dataset`; or a folder of images.
      preprocessing: resizes and cuts out.
      count: how many; all, where there are fewer.

    Raises:
      InputError: no such data, no images, or a file that is none.
    """
    if Path(name).expanduser().is_dir():
        paths = image_files(Path(name).expanduser(), LeftOut())
        if not paths:
            raise InputError(f"{name} has no images")
        return np.stack(
            [np.asarray(preprocessing.crop(open_image(paths[i]))) for i in _spaced(paths, count)]
        )
    source = open_dataset(name).train
    records = [source[i] for i in _spaced(source, count)]
    return np.stack(
        [np.asarray(preprocessing.crop(read_image(r.encoded, r.name))) for r in records]
    )


def _spaced(items: Sized, count: int) -> list[int]:
    length = len(items)
    places = np.linspace(0, length - 1, min(count, length)).round()
    return [int(place) for place in places]
