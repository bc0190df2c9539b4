"""Data sets of images with masks, by name."""

from pathlib import Path

from train.data import scenes
from train.data.arrays import as_netpbm
from train.data.masks.folders import open_folder
from train.data.masks.label_map import read_label_map
from train.data.masks.mask import EncodedMask
from train.data.records import Dataset, Selection, refuse
from train.data.tfds_names import taken_for_tfds

_WITHOUT_TFDS = (scenes.NAME, "folder:PATH")


def open_masks(name: str, data_dir: str | None, selection: Selection) -> Dataset:
    """Open a data set for segmentation.

    Args:
      name: "scenes" (embedded); "folder:PATH": images/ and masks/ in PATH or in its train/, val/
        and test/, or Pascal VOC's or Cityscapes' folder; or the name of a TFDS data set whose
        images have masks (extra `tfds`).
      data_dir: directory of TFDS's data; by default TFDS's own.
      selection: what is used for which split, and what the values of masks mean.

    Raises:
      InputError: an unknown name, or data that is missing or incomplete.
    """
    if selection.label_map:
        read_label_map(selection.label_map)  # before data are prepared
    if name == scenes.NAME:
        refuse(selection, name, "val_split", "splits", "label_map")
        return scenes.open_scenes(_mask_of_scene)
    if name.startswith("folder:"):
        return open_folder(name, Path(name.removeprefix("folder:")).expanduser(), selection)
    with taken_for_tfds(name, _WITHOUT_TFDS):
        from train.data.masks.tfds import open_tfds_masks
    return open_tfds_masks(name, data_dir, selection, _WITHOUT_TFDS)


def _mask_of_scene(scene: scenes.Scene) -> EncodedMask:
    return EncodedMask(as_netpbm(scene.mask), "the mask of a scene")
