"""Data sets of the Hugging Face Hub, read by its library `datasets`."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from flaxmobile.errors import InputError, first_line, pip_install
from flaxmobile.images import UnreadableImageError
from train.data.augment import augment_photograph
from train.data.balance import describe_inequality
from train.data.holdout import ensure_validation
from train.data.records import Dataset, Record, Selection

_VALIDATION = ("validation", "val", "valid", "dev")


class HubSource:
    """A split; its images stay encoded."""

    def __init__(self, name: str, rows: Any, image: str, label: str) -> None:
        """Read the columns `image` and `label` of a `datasets.Dataset`."""
        self.name, self._image, self._label = name, image, label
        self._classes = rows.features[label].num_classes
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> Record:
        """Read one record; InputError if its label is outside the classes."""
        row, name = self._rows[index], f"{self.name}/{index}"
        label = row[self._label]
        if label is None or not 0 <= label < self._classes:
            raise InputError(f"{name} has label {label}; accepted: 0 to {self._classes - 1}")
        content, path = row[self._image]["bytes"], row[self._image]["path"]
        if content is None:
            try:
                content = Path(path).read_bytes()
            except (OSError, TypeError) as error:
                raise UnreadableImageError(f"{name} cannot be read: {error}") from None
        return Record(content, int(label), name)

    def labels(self) -> np.ndarray:
        """Return the label of each record, -1 where it has none."""
        return np.array([-1 if label is None else label for label in self._rows[self._label]])

    def listing(self) -> Iterable[str]:
        """List the labels."""
        return map(str, self.labels().tolist())

    def part(self, chosen: np.ndarray) -> "HubSource":
        """Return a source of some of the images."""
        rows = self._rows.select(np.flatnonzero(chosen))
        return HubSource(self.name, rows, self._image, self._label)


def open_hub(name: str, data_dir: str | None, selection: Selection) -> Dataset:
    """Open "hf:OWNER/DATASET" or "hf:OWNER/DATASET:CONFIGURATION", see `train.data.open_dataset`.

    The library downloads it once, into its own cache or data_dir.
    """
    repository, _, configuration = name.removeprefix("hf:").partition(":")
    builder = _prepared_builder(name, repository, configuration or None, data_dir)
    image, label = _columns(name, builder.info.features)
    names = tuple(builder.info.splits)
    splits = {split: split for split in ("train", "test") if split in names}
    if found := next((split for split in _VALIDATION if split in names), None):
        splits["validation"] = found
    splits |= selection.splits
    if "train" not in splits:
        raise InputError(f"{name} has no train split but {', '.join(names)}: --splits train=NAME")
    sources = {
        split: _open_split(name, builder, expression, image, label)
        for split, expression in splits.items()
    }
    train, validation, notes = ensure_validation(
        sources["train"], sources.get("validation"), selection, name
    )
    class_names = tuple(builder.info.features[label].names)
    test = sources.get("test")
    if test and (test.labels() < 0).all():
        notes += (f"{test.name} has no labels and is not evaluated",)
        test = None
    unequal = describe_inequality(train.labels().clip(0), class_names)
    return Dataset(
        name=name,
        class_names=class_names,
        train=train,
        validation=validation,
        test=test,
        augment=augment_photograph,
        notes=(*notes, *([unequal] if unequal else [])),
    )


def _prepared_builder(
    name: str, repository: str, configuration: str | None, data_dir: str | None
) -> Any:
    try:
        import datasets
    except ImportError:
        raise InputError(f"{name} needs the library datasets: {pip_install('datasets')}") from None
    try:
        builder = datasets.load_dataset_builder(repository, configuration, cache_dir=data_dir)
        builder.download_and_prepare()
    except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        raise InputError(f"{name} cannot be opened: {first_line(error)}") from error
    return builder


def _columns(name: str, features: Any) -> tuple[str, str]:
    """Return the column of images and that of classes."""
    kinds = {column: type(feature).__name__ for column, feature in features.items()}
    images = [column for column, kind in kinds.items() if kind == "Image"]
    labels = [column for column, kind in kinds.items() if kind == "ClassLabel"]
    if not images or not labels or (len(labels) > 1 and "label" not in labels):
        found = ", ".join(f"{column} ({kind})" for column, kind in kinds.items())
        raise InputError(
            f"{name} is not one of classified images: it needs a column of Image and one of "
            f"ClassLabel, called label if there are several, and has {found}"
        )
    return images[0], "label" if "label" in labels else labels[0]


def _open_split(name: str, builder: Any, expression: str, image: str, label: str) -> HubSource:
    import datasets

    try:
        rows = builder.as_dataset(split=expression)
    except (ValueError, KeyError, AssertionError) as error:
        raise InputError(
            f"--splits: {expression!r} is no split of {name} ({', '.join(builder.info.splits)}): "
            f"{first_line(error)}"
        ) from None
    if not len(rows):
        raise InputError(f"{name}/{expression} has no images")
    rows = rows.cast_column(image, datasets.Image(decode=False))
    return HubSource(f"{name}/{expression}", rows, image, label)
