"""Folders of images, one per class."""

import pickle
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngImageFile
from torchvision.datasets import ImageFolder

from flaxmobile.errors import InputError
from flaxmobile.preprocessing import UnreadableImageError, register_heif
from train.data import Selection, open_dataset
from train.data.augment import augment_photograph
from train.data.files import image_suffixes


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


# ---- layouts


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


# ---- files


def test_what_is_left_out_is_said(image_folder, write_images):
    for name in (".ipynb_checkpoints", "__MACOSX", "@eaDir"):
        write_images(image_folder / "train" / "rose" / name, 1)
    write_images(image_folder / "train" / "lost+found", 1)
    (image_folder / "train" / "rose" / "._000.png").write_text("")
    (image_folder / "val" / "rose" / "Thumbs.db").write_text("")
    (image_folder / "train" / "rose" / "notes.txt").write_text("no image")
    (image_folder / "train" / "README").write_text("")
    (image_folder / "vaild").mkdir()
    dataset = open_dataset(f"folder:{image_folder}")
    assert len(dataset.train) == 15
    assert dataset.class_names == ("daisy", "rose", "tulip")
    (note,) = dataset.notes
    for said in (
        "hidden or system files and folders (6: ._000.png, .ipynb_checkpoints, @eaDir, Thumbs.db",
        "files that are no images (1: notes.txt)",
        "files and folders beside the classes or splits (2: README, vaild)",
    ):
        assert said in note


def test_links_may_form_circles(image_folder):
    rose = image_folder / "train" / "rose"
    for place in (rose / "back", rose / "deep" / "up", image_folder / "train" / "loop"):
        place.parent.mkdir(exist_ok=True)
        place.symlink_to(image_folder / "train", target_is_directory=True)
    elsewhere = image_folder.parent / "elsewhere"
    (image_folder / "train" / "daisy").rename(elsewhere)
    (image_folder / "train" / "daisy").symlink_to(elsewhere, target_is_directory=True)
    (elsewhere / "circle").symlink_to(elsewhere, target_is_directory=True)
    dataset = open_dataset(f"folder:{image_folder}")
    assert dataset.class_names == ("daisy", "rose", "tulip")
    assert len(dataset.train) == 15
    assert "links to a folder that holds them" in dataset.notes[0]
    assert "(4: back, circle, loop, up)" in dataset.notes[0]


@pytest.mark.parametrize(
    "suffix", [".webp", ".bmp", ".tif", ".TIFF", ".gif", ".jfif", ".avif", ".ppm", ".jp2"]
)
def test_images_of_every_format_are_read(image_folder, write_images, suffix):
    write_images(image_folder / "train" / "rose", 1, first=40, suffix=suffix)
    dataset = open_dataset(f"folder:{image_folder}")
    assert (len(dataset.train), dataset.notes) == (16, ())


@pytest.mark.parametrize("name", ["photo", "photo.dat", "photo.jpg.1"])
def test_images_under_other_suffixes_are_found_by_content(image_folder, name):
    path = image_folder / "train" / "rose" / "005.png"
    Image.open(path).save(path.with_name(name), "jpeg")
    dataset = open_dataset(f"folder:{image_folder}")
    assert (len(dataset.train), dataset.notes) == (16, ())


@pytest.fixture
def heic_reader(monkeypatch):
    """A stand-in for pillow-heif, which reads PNG files under HEIC's suffix; PIL knows neither."""
    for name in ("OPEN", "EXTENSION", "ID"):
        monkeypatch.setattr(Image, name, getattr(Image, name).copy())

    def register():
        Image.register_open("HEIF", PngImageFile)
        Image.register_extension("HEIF", ".heic")

    def forget():
        register_heif.cache_clear()
        image_suffixes.cache_clear()

    forget()
    yield SimpleNamespace(register_heif_opener=register)
    forget()


@pytest.mark.parametrize("installed", [False, True])
def test_heic_files_need_pillow_heif(image_folder, monkeypatch, heic_reader, installed):
    monkeypatch.setitem(sys.modules, "pillow_heif", heic_reader if installed else None)
    path = image_folder / "train" / "rose" / "005.png"
    path.rename(path.with_name("photo.HEIC"))
    dataset = open_dataset(f"folder:{image_folder}")
    assert len(dataset.train) == 14 + installed
    said = ("left out: HEIC files, which pip install pillow-heif makes readable (1: photo.HEIC)",)
    assert dataset.notes == (() if installed else said)


# ---- tables of labels


def write_table(path, rows, separator=","):
    path.write_text("".join(separator.join(row) + "\n" for row in rows))
    return str(path)


@pytest.fixture
def flat(tmp_path, write_images):
    """Six images in one folder, and their classes."""
    write_images(tmp_path / "flat", 6)
    return tmp_path / "flat", [(f"{n:03}.png", ("rose", "tulip")[n % 2]) for n in range(6)]


def open_flat(folder, *tables, columns=()):
    selection = Selection(labels=tables, label_columns=columns)
    dataset = open_dataset(f"folder:{folder}", selection=selection)
    files = [*labelled_files(dataset.train), *labelled_files(dataset.validation)]
    return dataset, {(Path(name).name, dataset.class_names[label]) for name, label in files}


@pytest.mark.parametrize(
    ("separator", "header", "name"),
    [
        (",", ("image", "label"), str),
        (";", ("id", "what it is"), lambda name: Path(name).stem),
        ("\t", ("path", "species"), lambda name: f"./{name}"),
        (",", None, str),
    ],
)
def test_a_flat_folder_takes_its_classes_from_a_table(flat, separator, header, name):
    folder, rows = flat
    lines = [header] if header else []
    lines += [(name(file), label) for file, label in rows]
    table = write_table(folder.parent / "labels.csv", lines, separator)
    dataset, found = open_flat(folder, table)
    assert dataset.class_names == ("rose", "tulip")
    assert found == set(rows)
    assert len(dataset.validation) == 2


def test_the_columns_of_a_table_are_found_or_named(flat):
    folder, rows = flat
    lines = [("width", "label", "sex", "file")]
    lines += [("30", label, "f" if file < "002" else "m", file) for file, label in rows]
    table = write_table(folder.parent / "labels.csv", lines)
    assert open_flat(folder, table)[1] == set(rows)
    dataset, _ = open_flat(folder, table, columns=("file", "sex"))
    assert dataset.class_names == ("f", "m")


def test_classes_that_are_numbers_are_sorted_by_value(flat):
    folder, rows = flat
    lines = [("file", "label"), *((file, "10" if label == "rose" else "9") for file, label in rows)]
    dataset, _ = open_flat(folder, write_table(folder.parent / "labels.csv", lines))
    assert dataset.class_names == ("9", "10")


def test_imagenets_flat_val_takes_its_classes_from_kaggles_table(image_folder, write_images):
    shutil.rmtree(image_folder / "val")
    write_images(image_folder / "val", 4, suffix=".JPEG")
    lines = [("ImageId", "PredictionString")]
    lines += [(f"{n:03}", f"{('rose', 'tulip')[n % 2]} 240 170 260 240 ") for n in range(4)]
    table = write_table(image_folder / "LOC_val_solution.csv", lines)
    dataset = open_dataset(f"folder:{image_folder}", selection=Selection(labels=(table,)))
    assert [label for _, label in labelled_files(dataset.validation)] == [1, 2, 1, 2]
    assert len(dataset.train) == 15
    alone = open_dataset(f"folder:{image_folder / 'val'}", selection=Selection(labels=(table,)))
    assert alone.class_names == ("rose", "tulip")


def test_a_flat_test_folder_that_no_table_names_is_not_evaluated(tmp_path, write_images):
    write_images(tmp_path / "train", 6)
    write_images(tmp_path / "test", 3, first=10)
    lines = [(f"{n:03}.png", "ab"[n % 2]) for n in range(5)]
    table = write_table(tmp_path / "labels.csv", [("file", "label"), *lines])
    dataset = open_dataset(f"folder:{tmp_path}", selection=Selection(labels=(table,)))
    assert dataset.test is None
    assert dataset.notes[0] == "test/ has no labels and is not evaluated"
    assert "images without a label (1: 005.png)" in dataset.notes[2]


def broken_table(folder, rows, fault):
    """Write a bad table; return it and what the error must say."""
    header, table = ("file", "label"), folder.parent / "labels.csv"
    if fault == "missing":
        return str(table), ["labels.csv cannot be read"]
    if fault == "empty":
        return write_table(table, []), ["labels.csv is empty"]
    if fault == "unknown file":
        rows = [*rows, ("other.png", "rose"), ("more.png", "rose")]
        return write_table(table, [header, *rows]), ["names 2 files", "other.png, more.png"]
    if fault == "two classes":
        return write_table(table, [header, *rows, ("001", "rose")]), ["'001' has two classes"]
    if fault == "short row":
        return write_table(table, [header, *rows, ("001",)]), ["line 8: 1 columns instead of 2"]
    if fault == "no files":
        lines = [("a", "b"), ("1", "2")]
        return write_table(table, lines), ["no column of", "(columns: a, b)", "--label-columns"]
    if fault == "two columns":
        lines = [(*header, "class"), *((*row, "x") for row in rows)]
        return write_table(table, lines), ["(label, class): --label-columns file CLASS"]
    raise AssertionError(fault)


@pytest.mark.parametrize(
    "fault",
    ["missing", "empty", "unknown file", "two classes", "short row", "no files", "two columns"],
)
def test_a_broken_table_is_refused_with_the_reason(flat, fault):
    table, said = broken_table(*flat, fault)
    with pytest.raises(InputError) as error:
        open_flat(flat[0], table)
    assert "\n" not in str(error.value)
    for part in said:
        assert part in str(error.value)


def test_a_table_with_classes_that_train_has_not_is_refused(image_folder, write_images):
    shutil.rmtree(image_folder / "val")
    write_images(image_folder / "val", 1)
    table = write_table(image_folder / "val.csv", [("file", "label"), ("val/000.png", "cactus")])
    with pytest.raises(InputError, match=r"val.csv: classes that are not in train/: cactus"):
        open_dataset(f"folder:{image_folder}", selection=Selection(labels=(table,)))


def test_a_column_that_is_not_there_is_refused(flat):
    folder, rows = flat
    table = write_table(folder.parent / "labels.csv", [("file", "label"), *rows])
    with pytest.raises(InputError, match=r"unknown column of .*'labl' \(did you mean 'label'"):
        open_flat(folder, table, columns=("file", "labl"))


# ---- faults


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
