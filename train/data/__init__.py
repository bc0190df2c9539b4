"""Labelled images for training, from files to batches of pixels."""

from pathlib import Path

from flaxmobile.errors import InputError
from train.data.folders import open_folder
from train.data.records import Dataset

__all__ = ["Dataset", "open_dataset"]


def open_dataset(name: str, data_dir: str | None = None) -> Dataset:
    """Open a data set by name; one of TFDS is prepared first if necessary.

    Args:
      name: "digits" (embedded), "folder:PATH" (class folders under PATH/train and PATH/val, and
        under PATH/test if there is one), or the name of a TFDS data set.
      data_dir: directory of TFDS's data; by default TFDS's own.

    Raises:
      InputError: an unknown name, or data that is missing, incomplete or not for classification.
    """
    if name.startswith("folder:"):
        return open_folder(name, Path(name.removeprefix("folder:")).expanduser())
    if name.startswith((".", "/", "~")):
        raise InputError(f"--dataset is {name}; for a folder write folder:{name}")
    if name == "digits":
        from train.data.digits import open_digits  # TFDS takes half a second to import

        return open_digits(data_dir)
    from train.data.tfds import open_tfds

    return open_tfds(name, data_dir)
