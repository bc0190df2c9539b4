"""Folders of images, one per class."""

import pickle
import shutil

import pytest
from torchvision.datasets import ImageFolder

from flaxmobile.errors import InputError
from flaxmobile.images import UnreadableImageError
from train.data import Selection, open_dataset
from train.data.augment import augment_photograph


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


@pytest.mark.parametrize(
    ("train", "validation"), [("Train", "valid"), ("training", "Validation"), ("TRAIN", "VAL")]
)
def test_splits_have_their_usual_names(image_folder, train, validation):
    expected = open_dataset(f"folder:{image_folder}")
    (image_folder / "train").rename(image_folder / train)
    (image_folder / "val").rename(image_folder / validation)
    dataset = open_dataset(f"folder:{image_folder}")
    assert (dataset.train.files, dataset.validation.files) == (
        expected.train.files, expected.validation.files
    )  # fmt: skip
    assert dataset.notes == ()


def test_splits_may_have_names_of_their_own(image_folder):
    (image_folder / "val").rename(image_folder / "dev")
    selection = Selection(splits={"validation": "dev", "test": "dev"})
    dataset = open_dataset(f"folder:{image_folder}", selection=selection)
    assert dataset.validation == dataset.test
    assert len(dataset.test) == 9
    assert dataset.notes == ("left out: files and folders beside the classes or splits (1: test)",)
    with pytest.raises(InputError, match="has no folder nowhere"):
        open_dataset(
            f"folder:{image_folder}", selection=Selection(splits={"validation": "nowhere"})
        )


@pytest.fixture
def one_folder(tmp_path, write_images):
    """Class folders of 20, 10 and 3 images, with nothing around them."""
    for name, count in {"daisy": 20, "rose": 10, "tulip": 3}.items():
        write_images(tmp_path / "all" / name, count)
    return tmp_path / "all"


def test_of_one_folder_the_same_share_of_each_class_is_held_out(one_folder):
    whole = set(ImageFolder(str(one_folder)).samples)
    dataset = open_dataset(f"folder:{one_folder}", selection=Selection(val_split=0.2))
    assert dataset.notes == (
        "no validation split: 7 of 33 training images are held out for it, 0.2 of each class by "
        "seed 0 (--val-split)",
    )
    train, held = (set(labelled_files(s)) for s in (dataset.train, dataset.validation))
    assert train | held == whole
    assert not train & held
    counts = [[label for _, label in part].count(k) for part in (train, held) for k in range(3)]
    assert counts == [16, 8, 2, 4, 2, 1]
    assert labelled_files(dataset.train) == sorted(train)


def test_the_seed_decides_what_is_held_out(one_folder):
    held = {
        seed: open_dataset(f"folder:{one_folder}", selection=Selection(seed=seed)).validation.files
        for seed in (0, 1, 2)
    }
    assert len(set(held.values())) == 3
    assert open_dataset(f"folder:{one_folder}").validation.files == held[0]


def test_a_train_folder_without_val_is_split_too(image_folder):
    shutil.rmtree(image_folder / "val")
    dataset = open_dataset(f"folder:{image_folder}")
    assert [len(s) for s in (dataset.train, dataset.validation, dataset.test)] == [12, 3, 6]


def test_a_share_for_validation_is_refused_where_there_is_a_split(image_folder):
    with pytest.raises(InputError, match=r"--val-split 0.2 .*flowers has a validation split"):
        open_dataset(f"folder:{image_folder}", selection=Selection(val_split=0.2))


def test_single_images_cannot_be_held_out(tmp_path, write_images):
    write_images(tmp_path / "rose", 1)
    write_images(tmp_path / "tulip", 1)
    with pytest.raises(InputError, match=r"no class of .* has two images"):
        open_dataset(f"folder:{tmp_path}")


def test_trains_may_be_a_class(one_folder, write_images):
    write_images(one_folder / "train", 2)
    assert "train" in open_dataset(f"folder:{one_folder}").class_names


def test_an_unlabelled_flat_test_folder_is_said_and_not_evaluated(image_folder, write_images):
    shutil.rmtree(image_folder / "test")
    write_images(image_folder / "test", 4)
    dataset = open_dataset(f"folder:{image_folder}")
    assert dataset.test is None
    assert dataset.notes == ("test/ has no labels and is not evaluated",)


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
        return [str(root), "no class folders", "--labels FILE.csv"]
    if fault == "no train":
        shutil.rmtree(root / "train")
        return [str(root), "has val/ but no train/"]
    if fault == "flat":
        shutil.rmtree(root / "train")
        write_images(root / "train", 3)
        return [str(root / "train"), "no class folders"]
    if fault == "flat val":
        shutil.rmtree(root / "val")
        write_images(root / "val", 3)
        return [str(root / "val"), "no class folders"]
    if fault == "two validation splits":
        (root / "Valid").mkdir()
        return ["Valid/ and val/", "--splits validation=Valid"]
    if fault == "case":
        write_images(root / "train" / "Rose", 3)
        write_images(root / "val" / "Rose", 3)
        write_images(root / "test" / "Rose", 3)
        return ["differ by case only: 'Rose', 'rose'"]
    if fault == "class without images":
        shutil.rmtree(root / "val" / "rose")
        (root / "val" / "rose").mkdir()
        (root / "val" / "rose" / "notes.txt").write_text("")
        return [str(root / "val" / "rose"), "no images"]
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
        "no train",
        "flat",
        "flat val",
        "two validation splits",
        "case",
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
