"""Settings of the data: which images are read, and how they are changed for training."""

import dataclasses

from flaxmobile.errors import InputError
from train.data.records import Selection

_SPLITS = ("train", "validation", "test")


@dataclasses.dataclass(frozen=True)
class DataSettings:
    """Flags about the data."""

    dataset: str = "digits"
    """digits (embedded), folder:PATH (one folder per class in PATH, or in its train/, val/ and
    test/), or the name of any TFDS dataset."""
    data_dir: str | None = None
    """Directory of TFDS's data; by default TFDS's own."""
    val_split: float | None = None
    """Share of the training images that is held out for validation, the same of each class, by
    --seed. By default 0.1 where the data has no validation split."""
    splits: tuple[str, ...] = ()
    """The data's own names of its splits: folders (train=Training validation=dev), or expressions
    of TFDS (train=train[:80%] validation=train[80%:])."""
    labels: tuple[str, ...] = ()
    """CSV files with the classes of images that lie in no class folder. A row names a file, with
    or without its suffix, and its class."""
    label_columns: tuple[str, ...] = ()
    """Columns of --labels with the file and with the class; by default they are found."""

    def check_data(self) -> None:
        """Raise InputError for a value that is wrong for any data."""
        if self.val_split is not None and not 0 < self.val_split < 1:
            raise InputError(f"--val-split is {self.val_split}; accepted: between 0 and 1")
        for word in self.splits:
            split, equals, name = word.partition("=")
            if split not in _SPLITS or not equals or not name:
                raise InputError(
                    f"--splits has {word!r}; accepted: train=NAME, validation=NAME, test=NAME"
                )
        if len(self.label_columns) not in (0, 2):
            raise InputError("--label-columns takes two names: of the file and of the class")
        if self.label_columns and not self.labels:
            raise InputError("--label-columns needs --labels FILE.csv")

    def select(self, seed: int) -> Selection:
        """Say what of the data is used for which split; the seed decides what is held out."""
        return Selection(
            splits={word.partition("=")[0]: word.partition("=")[2] for word in self.splits},
            val_split=self.val_split,
            seed=seed,
            labels=self.labels,
            label_columns=self.label_columns,
        )
