"""Data sets of images with masks, by name."""

from pathlib import Path

from flaxmobile.errors import InputError
from train.data import scenes
from train.data.arrays import as_netpbm
from train.data.masks.folders import open_folder
from train.data.masks.mask import EncodedMask
from train.data.records import Dataset, Selection


def open_masks(name: str, selection: Selection) -> Dataset:
    """Open a data set for segmentation.

    Args:
      name: "scenes" (embedded), or "folder:PATH": images/ and masks/ in PATH or in its train/, val/
        and test/; or Pascal VOC's or Cityscapes' folder.
      selection: what is used for which split.

    Raises:
      InputError: an unknown name, or data that is missing or incomplete.
    """
    if name == scenes.NAME:
        return scenes.open_scenes(_mask_of_scene)
    if name.startswith("folder:"):
        return open_folder(name, Path(name.removeprefix("folder:")).expanduser(), selection)
    raise InputError(f"--dataset is {name}; accepted for --task segment: scenes, folder:PATH")


def _mask_of_scene(scene: scenes.Scene) -> EncodedMask:
    return EncodedMask(as_netpbm(scene.mask), "the mask of a scene")
