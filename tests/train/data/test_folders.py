"""Folders of images, one per class."""

import pickle
import shutil

import pytest
from torchvision.datasets import ImageFolder

from flaxmobile.errors import InputError
from train.data import open_dataset
from train.data.augment import augment_photograph
from train.data.records import UnreadableImageError


def labelled_files(source):
    return [(source[index].name, source[index].label) for index in range(len(source))]


def test_a_folder_has_the_classes_and_files_of_torchvision_in_its_order(image_folder, write_images):
    write_images(image_folder / "train" / "rose" / "deeper" / "down", 2, suffix=".JPG")
    write_images(image_folder / "train" / "daisy", 2, first=40, suffix=".jpeg")
    dataset = open_dataset(f"folder:{image_folder}")
    for split, source in (("train", dataset.train), ("val", dataset.validation)):
        reference = ImageFolder(str(image_folder / split))
        assert labelled_files(source) == reference.samples
        assert list(dataset.class_names) == reference.classes
    assert len(dataset.test) == 6
    assert (dataset.preset, dataset.augment) == (None, augment_photograph)


def test_a_folder_gives_the_bytes_of_its_files(flowers, image_folder):
    record = flowers.validation[4]
    path = image_folder / "val" / "rose" / "004.png"
    assert (record.encoded, record.label, record.name) == (path.read_bytes(), 1, str(path))


def test_a_folder_without_test_has_no_test_split(image_folder):
    shutil.rmtree(image_folder / "test")
    assert open_dataset(f"folder:{image_folder}").test is None


def test_hidden_and_other_files_are_no_images_and_no_classes(image_folder):
    (image_folder / "train" / ".ipynb_checkpoints").mkdir()
    (image_folder / "train" / "notes.txt").write_text("")
    (image_folder / "train" / "rose" / "._000.png").write_text("")
    (image_folder / "train" / "rose" / "notes.txt").write_text("")
    dataset = open_dataset(f"folder:{image_folder}")
    assert len(dataset.train) == 15
    assert dataset.class_names == ("daisy", "rose", "tulip")


def test_sources_can_be_pickled(flowers):
    assert pickle.loads(pickle.dumps(flowers.train))[8] == flowers.train[8]


def test_a_file_that_is_gone_is_unreadable(flowers, image_folder):
    (image_folder / "train" / "daisy" / "002.png").unlink()
    with pytest.raises(UnreadableImageError, match=r"daisy/002.png cannot be read: No such file"):
        flowers.train[2]


def broken_folder(root, fault, write_images):
    """Break a good folder in one way; return what the error must say."""
    if fault == "missing":
        shutil.rmtree(root)
        return [str(root), "not a folder", "train/ and val/"]
    if fault == "file":
        shutil.rmtree(root)
        root.write_text("")
        return [str(root), "not a folder"]
    if fault == "empty":
        shutil.rmtree(root)
        root.mkdir()
        return [str(root), "no train/", "under train/ and val/"]
    if fault == "no val":
        shutil.rmtree(root / "val")
        return [str(root), "no val/"]
    if fault == "flat":
        shutil.rmtree(root / "train")
        write_images(root / "train", 3)
        return [str(root / "train"), "no class folders"]
    if fault == "class without images":
        shutil.rmtree(root / "val" / "rose")
        (root / "val" / "rose").mkdir()
        (root / "val" / "rose" / "image.bmp").write_text("")
        return [str(root / "val" / "rose"), "no images", ".jpg, .jpeg, .png"]
    if fault == "class missing in val":
        shutil.rmtree(root / "val" / "rose")
        return [str(root), "different classes in train/ and val/", "'rose' only in train/"]
    if fault == "classes differ in test":
        (root / "test" / "rose").rename(root / "test" / "roses")
        return ["train/ and test/", "'rose' only in train/", "'roses' only in test/"]
    raise AssertionError(fault)


@pytest.mark.parametrize(
    "fault",
    [
        "missing",
        "file",
        "empty",
        "no val",
        "flat",
        "class without images",
        "class missing in val",
        "classes differ in test",
    ],
)
def test_a_broken_folder_is_refused_with_the_reason(image_folder, fault, write_images):
    said = broken_folder(image_folder, fault, write_images)
    with pytest.raises(InputError) as error:
        open_dataset(f"folder:{image_folder}")
    assert "\n" not in str(error.value)
    for part in said:
        assert part in str(error.value)
