"""Layouts of images with masks: two folders side by side, Pascal VOC's and Cityscapes'."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from convert.voc import NAMES as VOC_NAMES
from flaxmobile.errors import InputError
from train.data.files import LeftOut, image_files, visible_entries
from train.data.layouts import find_splits, match_splits
from train.data.masks.label_map import map_values
from train.data.masks.mask import IGNORED
from train.data.records import Selection

Pair = tuple[str, str]
"""Path of an image and of its mask, below the folder of the data set."""

_IMAGES = ("images", "image", "imgs", "img")
_MASKS = ("masks", "mask", "annotations", "labels")
"""Names of the two folders, in lower case."""

NO_IMAGE = "masks without an image"
NO_LABEL = "the test images, whose masks are not published"

CITYSCAPES: Mapping[int, str] = {
    7: "road", 8: "sidewalk", 11: "building", 12: "wall", 13: "fence", 17: "pole",
    19: "traffic light", 20: "traffic sign", 21: "vegetation", 22: "terrain", 23: "sky",
    24: "person", 25: "rider", 26: "car", 27: "truck", 28: "bus", 31: "train", 32: "motorcycle",
    33: "bicycle",
}  # fmt: skip
"""Value in Cityscapes' files of labelIds -> name of the class; trainIds count these from 0. The
others are not evaluated. Source: cityscapesScripts, helpers/labels.py."""


class Layout(NamedTuple):
    """What a folder holds.

    Attributes:
      splits: "train", "validation" or "test" -> its pairs.
      class_names: where the layout implies them; otherwise ().
      table: class of each value of the masks, see `EncodedMask`; None where they are classes.
    """

    splits: dict[str, tuple[Pair, ...]]
    class_names: tuple[str, ...] = ()
    table: bytes | None = None


def find_layout(path: Path, selection: Selection, left_out: LeftOut) -> Layout:
    """List the pairs of a folder.

    Args:
      path: the folder.
      selection: other names of the splits.
      left_out: takes what is not used.

    Raises:
      InputError: none of the layouts, or an image without a mask.
    """
    if (path / "SegmentationClass").is_dir():
        return _read_voc(path, selection)
    if (path / "leftImg8bit").is_dir():
        return _read_cityscapes(path, selection, left_out)
    if found := _side_by_side(path):
        images, masks = found
        places = {
            split: (place, masks / place.relative_to(images))
            for split, place in find_splits(images, selection, left_out).items()
        }
    else:
        places = {}
        for split, place in find_splits(path, selection, left_out).items():
            if (found := _side_by_side(place)) is None:
                raise InputError(
                    f"{place} has no masks; accepted: images/ and masks/ in it or in its train/ "
                    "and val/, JPEGImages/ and SegmentationClass/ (Pascal VOC), leftImg8bit/ and "
                    "gtFine/ (Cityscapes)"
                )
            places[split] = found
    return Layout({split: _pair(path, *found, left_out) for split, found in places.items()})


def _side_by_side(folder: Path) -> tuple[Path, Path] | None:
    """Find the folders of images and of masks in a folder."""
    names = [entry.name for entry in visible_entries(folder, LeftOut()) if entry.is_dir()]
    images, masks = (
        next((name for name in names if name.lower() in spellings), None)
        for spellings in (_IMAGES, _MASKS)
    )
    return (folder / images, folder / masks) if images and masks else None


def _pair(root: Path, images: Path, masks: Path, left_out: LeftOut) -> tuple[Pair, ...]:
    """Give each image the mask of the same name, whatever the suffixes; NAME_mask is one too."""
    if not masks.is_dir():
        raise InputError(f"{images} has no masks: {masks} is not there")
    known = {_stem(file, masks): file for file in image_files(masks, left_out)}
    pairs, used = [], set()
    for image in image_files(images, left_out):
        stem = _stem(image, images)
        mask = known.get(stem) or known.get(f"{stem}_mask")
        if mask is None:
            raise InputError(f"{image} has no mask: {masks / stem}.png is not there")
        pairs.append(_below(root, image, mask))
        used.add(mask)
    for mask in known.values():
        if mask not in used:
            left_out.add(NO_IMAGE, mask)
    return tuple(pairs)


def _read_voc(path: Path, selection: Selection) -> Layout:
    """Read the lists in ImageSets/Segmentation/; without them all masks are for training."""
    lists = path / "ImageSets" / "Segmentation"
    files = {file.stem: file for file in sorted(lists.glob("*.txt"))}
    if files:
        chosen = match_splits(lists, files, selection)
        names = {split: files[name].read_text().split() for split, name in chosen.items()}
    else:
        names = {"train": sorted(file.stem for file in path.glob("SegmentationClass/*.png"))}
    pairs = {
        split: _existing(
            path, ((f"JPEGImages/{n}.jpg", f"SegmentationClass/{n}.png") for n in stems)
        )
        for split, stems in names.items()
    }
    return Layout(pairs, VOC_NAMES)


def _read_cityscapes(path: Path, selection: Selection, left_out: LeftOut) -> Layout:
    """Read the 19 evaluated classes, from files of trainIds or of labelIds."""
    places = find_splits(path / "leftImg8bit", selection, left_out)
    if places.pop("test", None):
        left_out.add(NO_LABEL, "test")
    ready = next((path / "gtFine").rglob("*_labelTrainIds.png"), None)
    kind = "labelTrainIds" if ready else "labelIds"
    splits = {}
    for split, place in places.items():
        stems = sorted(
            file.relative_to(path / "leftImg8bit").as_posix().removesuffix("_leftImg8bit.png")
            for file in place.rglob("*_leftImg8bit.png")
        )
        splits[split] = _existing(
            path,
            ((f"leftImg8bit/{s}_leftImg8bit.png", f"gtFine/{s}_gtFine_{kind}.png") for s in stems),
        )
    names = dict(enumerate(CITYSCAPES.values())) if ready else CITYSCAPES
    return Layout(splits, *map_values(names, others=IGNORED))


def _existing(path: Path, pairs: Iterable[Pair]) -> tuple[Pair, ...]:
    """Check that the files of pairs are there."""
    found = tuple(pairs)
    for image, mask in found:
        if not (path / image).is_file():
            raise InputError(f"{path / image} is not there, though the list of its split names it")
        if not (path / mask).is_file():
            raise InputError(f"{path / image} has no mask: {path / mask} is not there")
    return found


def _stem(file: str, folder: Path) -> str:
    return Path(file).relative_to(folder).with_suffix("").as_posix()


def _below(root: Path, image: str, mask: str) -> Pair:
    return Path(image).relative_to(root).as_posix(), Path(mask).relative_to(root).as_posix()
