"""Data sets of the Hugging Face Hub.

The library `datasets` is not required. A stand-in has the part of it that is used, as version 5.2
behaves.
"""

import io
import pickle
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image as PilImage

from flaxmobile.errors import InputError
from flaxmobile.images import UnreadableImageError
from train.data import Selection, open_dataset


def png(number):
    file = io.BytesIO()
    PilImage.new("RGB", (8, 8), (number, 0, 0)).save(file, "png")
    return file.getvalue()


class Image:
    def __init__(self, decode=True):
        self.decode = decode


class ClassLabel:
    def __init__(self, names):
        self.names, self.num_classes = names, len(names)


class Value:
    pass


class Rows:
    """A `datasets.Dataset`."""

    def __init__(self, features, columns):
        self.features, self.columns = features, columns

    def __len__(self):
        return len(next(iter(self.columns.values())))

    def __getitem__(self, key):
        if isinstance(key, str):
            return self.columns[key]
        return {name: values[key] for name, values in self.columns.items()}

    def cast_column(self, name, feature):
        assert not feature.decode
        return Rows({**self.features, name: feature}, self.columns)

    def select(self, indices):
        columns = {n: [values[i] for i in indices] for n, values in self.columns.items()}
        return Rows(self.features, columns)


class DatasetsError(Exception):
    pass


FEATURES = {"image": Image(), "label": ClassLabel(["cat", "dog"])}


class Builder:
    """A `datasets.DatasetBuilder` of the given sizes of splits."""

    def __init__(self, sizes, features, labelled_test=True):
        self.info = SimpleNamespace(splits=dict.fromkeys(sizes), features=features)
        self.sizes, self.labelled_test, self.prepared = sizes, labelled_test, False

    def download_and_prepare(self):
        self.prepared = True

    def as_dataset(self, split):
        assert self.prepared
        if split not in self.sizes:
            raise ValueError(f'Unknown split "{split}".')
        count = self.sizes[split]
        unlabelled = split == "test" and not self.labelled_test
        return Rows(
            self.info.features,
            {
                "image": [{"bytes": png(number), "path": None} for number in range(count)],
                "label": [-1 if unlabelled else number % 2 for number in range(count)],
            },
        )


@pytest.fixture
def hub(monkeypatch):
    """Repositories by (name, configuration); the stand-in for the library opens them."""
    repositories = {}

    def load(name, configuration, cache_dir):
        if (name, configuration) not in repositories:
            raise FileNotFoundError(f"Couldn't reach '{name}' on the Hub\nmore lines")
        return repositories[name, configuration]

    module = SimpleNamespace(
        load_dataset_builder=load,
        Image=Image,
        exceptions=SimpleNamespace(DatasetsError=DatasetsError),
    )
    monkeypatch.setitem(sys.modules, "datasets", module)
    return repositories


def test_a_dataset_of_the_hub_is_read(hub):
    hub["owner/pets", None] = Builder({"train": 40, "valid": 5, "test": 7}, FEATURES)
    dataset = open_dataset("hf:owner/pets")
    assert dataset.class_names == ("cat", "dog")
    assert [len(s) for s in (dataset.train, dataset.validation, dataset.test)] == [40, 5, 7]
    record = pickle.loads(pickle.dumps(dataset.train))[3]
    assert record == (png(3), 1, "hf:owner/pets/train/3")
    assert dataset.notes == ()


def test_validation_is_held_out_and_a_test_split_without_labels_left_alone(hub):
    hub["pets", "large"] = Builder({"train": 40, "test": 7}, FEATURES, labelled_test=False)
    dataset = open_dataset("hf:pets:large", selection=Selection(val_split=0.25))
    assert [len(s) for s in (dataset.train, dataset.validation)] == [30, 10]
    assert np.bincount(dataset.validation.labels()).tolist() == [5, 5]
    found = {dataset.train[i].encoded for i in range(30)}
    found |= {dataset.validation[i].encoded for i in range(10)}
    assert found == {png(number) for number in range(40)}
    assert dataset.test is None
    assert dataset.notes[1] == "hf:pets:large/test has no labels and is not evaluated"


def test_images_may_be_files(hub, tmp_path):
    builder = hub["pets", None] = Builder({"train": 4}, FEATURES)
    (tmp_path / "cat.png").write_bytes(png(9))
    rows = builder.as_dataset
    builder.prepared = True

    def with_files(split):
        found = rows(split)
        found.columns["image"][0] = {"bytes": None, "path": str(tmp_path / "cat.png")}
        found.columns["image"][1] = {"bytes": None, "path": str(tmp_path / "gone.png")}
        return found

    builder.as_dataset = with_files
    selection = Selection(splits={"validation": "train"})
    train = open_dataset("hf:pets", selection=selection).train
    assert train[0].encoded == png(9)
    with pytest.raises(UnreadableImageError, match=r"hf:pets/train/1 cannot be read: .*gone.png"):
        train[1]


@pytest.mark.parametrize(
    ("features", "sizes", "selection", "said"),
    [
        ({"image": Image(), "text": Value()}, {"train": 4}, None, r"image \(Image\), text \(Value"),
        (FEATURES, {"dev": 4}, None, "no train split but dev: --splits train=NAME"),
        (FEATURES, {"train": 0}, None, "hf:pets/train has no images"),
        (FEATURES, {"train": 4}, Selection(splits={"test": "x"}), "'x' is no split of hf:pets"),
        (
            FEATURES,
            {"train": 4},
            Selection(labels=("a.csv",)),
            "--labels does not apply to hf:pets",
        ),
    ],
)
def test_what_cannot_be_used_is_refused_with_the_reason(hub, features, sizes, selection, said):
    hub["pets", None] = Builder(sizes, features)
    with pytest.raises(InputError, match=said):
        open_dataset("hf:pets", selection=selection)


def test_a_repository_that_cannot_be_reached_is_one_line(hub):
    with pytest.raises(InputError, match=r"hf:nobody/pets cannot be opened: Couldn't reach .*Hub$"):
        open_dataset("hf:nobody/pets")


def test_the_library_is_named_where_it_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(InputError, match=r"hf:owner/pets needs the library datasets: pip install"):
        open_dataset("hf:owner/pets")
