"""What identifies data: its files and their content, not the place where they lie."""

import pytest

from train.data import open_dataset
from train.data.identity import changes, identify


@pytest.fixture
def before(flowers):
    return identify(flowers)


def test_data_that_moved_is_the_same(image_folder, before):
    moved = image_folder.rename(image_folder.with_name("elsewhere"))
    assert changes(before, identify(open_dataset(f"folder:{moved}"))) == []


@pytest.mark.parametrize("change", ["renamed", "written anew", "moved to another class"])
def test_other_images_of_the_same_number_are_told(image_folder, before, change):
    path = image_folder / "val" / "rose" / "004.png"
    if change == "renamed":
        path.rename(path.with_name("999.png"))
    elif change == "written anew":
        path.write_bytes(path.with_name("003.png").read_bytes())
    else:
        path.rename(image_folder / "val" / "tulip" / "004.png")
    now = identify(open_dataset(f"folder:{image_folder}"))
    assert changes(before, now) == [
        "validation: 9 images before, 9 images now that are not the same"
    ]


def test_grown_and_missing_splits_are_told(image_folder, before, write_images):
    write_images(image_folder / "train" / "rose", 2, first=50)
    (image_folder / "test").rename(image_folder / "unused")
    now = identify(open_dataset(f"folder:{image_folder}"))
    assert changes(before, now) == [
        "train: 15 images before, 17 images now",
        "test: 6 images before, none now",
    ]


def test_an_unreadable_file_counts_by_its_name(image_folder, flowers, before):
    (image_folder / "train" / "rose" / "007.png").unlink()
    assert [line.partition(":")[0] for line in changes(before, identify(flowers))] == ["train"]
