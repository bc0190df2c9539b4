"""Tables of classes beside flat folders."""

import shutil
from pathlib import Path

import pytest

from flaxmobile.errors import InputError
from train.data import Selection, open_dataset


def labelled_files(source):
    return [(source[index].name, source[index].label) for index in range(len(source))]


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
