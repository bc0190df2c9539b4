"""Data sets of images with masks, by name."""

from flaxmobile.errors import InputError
from train.data import scenes
from train.data.masks.mask import EncodedMask
from train.data.records import Dataset, Selection


def open_masks(name: str, selection: Selection) -> Dataset:
    """Open a data set for segmentation.

    Args:
      name: "scenes" (embedded).
      selection: what is used for which split.

    Raises:
      InputError: an unknown name, or data that is missing or incomplete.
    """
    if name == scenes.NAME:
        return scenes.open_scenes(_mask_of_scene)
    raise InputError(f"--dataset is {name}; accepted for --task segment: scenes")


def _mask_of_scene(scene: scenes.Scene) -> EncodedMask:
    return EncodedMask(scenes.as_netpbm(scene.mask), "the mask of a scene")
