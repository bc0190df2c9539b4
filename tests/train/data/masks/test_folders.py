"""Layouts of images with masks, and what is wrong with them in one line."""

import numpy as np
import pytest
from PIL import Image

from convert.voc import NAMES as VOC_NAMES
from flaxmobile import InputError
from train.data import Selection
from train.data.identity import identify
from train.data.masks.layouts import CITYSCAPES
from train.data.masks.mask import IGNORED, decode_pair
from train.data.masks.opening import open_masks


def write(path, values, palette=False):
    """An image file of these values."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(np.asarray(values, np.uint8))
    if palette:
        image.putpalette([255 - number // 3 for number in range(768)])
    image.save(path)


def write_pair(image, mask, number=0, palette=False):
    """An image whose red is `number`, and a mask of the classes 0, 1, 2 and none."""
    write(image, np.full((6, 8, 3), number))
    write(mask, np.repeat([[0, 0, 1, 1, 2, 2, 255, 255]], 6, 0), palette)


def open_folder(path, **selection):
    return open_masks(f"folder:{path}", None, Selection(**selection))


def pair(dataset, split="train", index=0):
    image, mask = decode_pair(getattr(dataset, split)[index], len(dataset.class_names))
    return np.asarray(image), np.asarray(mask)


def splits_inside(root):
    for split, count in (("train", 3), ("val", 2)):
        for number in range(count):
            place = root / split
            write_pair(
                place / "images" / f"{number}.jpg", place / "masks" / f"{number}.png", number
            )


def splits_below(root):
    for split, count in (("training", 3), ("validation", 2)):
        for number in range(count):
            image = root / "images" / split / "city" / f"{number}.jpg"
            write_pair(image, root / "annotations" / split / "city" / f"{number}_mask.png", number)


@pytest.mark.parametrize("make", [splits_inside, splits_below])
def test_images_and_masks_lie_side_by_side(tmp_path, make):
    make(tmp_path)
    (tmp_path / "classes.txt").write_text("sky\n\nroad\ncar\n")
    dataset = open_folder(tmp_path)
    assert dataset.class_names == ("sky", "road", "car")
    assert (len(dataset.train), len(dataset.validation), dataset.test) == (3, 2, None)
    image, mask = pair(dataset, index=2)
    assert image[0, 0, 0] == 2
    assert mask[0].tolist() == [0, 0, 1, 1, 2, 2, 255, 255]
    assert set(dataset.train.sizes()) == {(8, 6)}


def test_without_splits_and_names_some_are_held_out_and_classes_are_numbered(tmp_path):
    for number in range(10):
        write_pair(tmp_path / f"images/{number}.png", tmp_path / f"masks/{number}.png")
    write(tmp_path / "masks/alone.png", [[0]])
    dataset = open_folder(tmp_path, val_split=0.2)
    assert dataset.class_names == ("0", "1", "2")
    assert (len(dataset.train), len(dataset.validation)) == (8, 2)
    notes = " ".join(dataset.notes)
    assert "3 classes, by the largest value in the training masks" in notes
    assert "masks without an image (1: alone.png)" in notes


def test_pascal_vocs_lists_name_the_splits(tmp_path):
    for name in ("a", "b", "c"):
        write_pair(
            tmp_path / f"JPEGImages/{name}.jpg", tmp_path / f"SegmentationClass/{name}.png",
            palette=True,
        )  # fmt: skip
    lists = tmp_path / "ImageSets/Segmentation"
    lists.mkdir(parents=True)
    for name, words in (("train", "a\n"), ("val", "b\n"), ("trainval", "a\nb\n")):
        (lists / f"{name}.txt").write_text(words)
    dataset = open_folder(tmp_path)
    assert dataset.class_names == VOC_NAMES
    assert [len(dataset.train), len(dataset.validation)] == [1, 1]
    assert pair(dataset)[1][0].tolist() == [0, 0, 1, 1, 2, 2, 255, 255]
    assert len(open_folder(tmp_path, splits={"train": "trainval"}).train) == 2
    (lists / "train.txt").write_text("a\nnone\n")
    with pytest.raises(InputError, match=r"none\.jpg is not there, though the list of its split"):
        open_folder(tmp_path)


@pytest.mark.parametrize("kind", ["labelIds", "labelTrainIds"])
def test_cityscapes_ids_become_the_19_evaluated_classes(tmp_path, kind):
    ids = [*CITYSCAPES, 0, 4, 29] if kind == "labelIds" else [*range(19), 255, 255, 255]
    for split in ("train", "val", "test"):
        write(tmp_path / f"leftImg8bit/{split}/bonn/bonn_0_leftImg8bit.png", np.zeros((2, 22, 3)))
        write(tmp_path / f"gtFine/{split}/bonn/bonn_0_gtFine_{kind}.png", [ids] * 2)
    dataset = open_folder(tmp_path)
    assert dataset.class_names[0] == "road"
    assert dataset.class_names[18] == "bicycle"
    assert dataset.test is None
    assert pair(dataset, "validation")[1][0].tolist() == [*range(19), *[IGNORED] * 3]


def test_the_identity_is_that_of_the_content(tmp_path):
    splits_inside(tmp_path / "one")
    (tmp_path / "one").rename(tmp_path / "two")
    splits_inside(tmp_path / "one")
    first, second = (identify(open_folder(tmp_path / name)) for name in ("one", "two"))
    assert first == second
    write(tmp_path / "two/train/masks/0.png", np.zeros((6, 8)))
    assert identify(open_folder(tmp_path / "two"))["train"] != first["train"]


BAD_MASKS = (
    (np.zeros((6, 9)), r"0\.png has 9×6 pixels, its image .*0\.jpg has 8×6: they must be equal"),
    (np.full((6, 8), 3), r"0\.png has pixels of class 3; accepted: 0 to 2, and 255 for those"),
    (np.zeros((6, 8, 3)), r"0\.png has colours \(mode RGB\); accepted: one number for each pixel"),
)


@pytest.mark.parametrize(("values", "said"), BAD_MASKS)
def test_a_wrong_mask_is_named(tmp_path, values, said):
    splits_inside(tmp_path)
    (tmp_path / "classes.txt").write_text("a\nb\nc\n")
    write(tmp_path / "train/masks/0.png", values)
    with pytest.raises(InputError, match=said) as error:
        pair(open_folder(tmp_path))
    assert "\n" not in str(error.value)


def remove_mask(root):
    (root / "train/masks/1.png").unlink()


def remove_masks(root):
    for mask in (root / "val/masks").iterdir():
        mask.unlink()
    (root / "val/masks").rmdir()


def name_one_class(root):
    (root / "classes.txt").write_text("all\n")


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (remove_mask, r"train/images/1\.jpg has no mask: .*train/masks/1\.png is not there"),
        (remove_masks, r"val has no masks; accepted: images/ and masks/ in it or in its train/"),
        (name_one_class, r"has one class, 'all': there is nothing to tell apart"),
    ],
)
def test_a_wrong_folder_is_refused(tmp_path, spoil, said):
    splits_inside(tmp_path)
    spoil(tmp_path)
    with pytest.raises(InputError, match=said) as error:
        open_folder(tmp_path)
    assert "\n" not in str(error.value)


def test_a_folder_that_is_not_there_is_refused():
    with pytest.raises(InputError, match=r"accepted: folder:PATH of a folder that is there"):
        open_masks("folder:nowhere", None, Selection())
