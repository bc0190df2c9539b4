"""Settings of the data: which images are read, and how they are changed for training."""

import dataclasses
from typing import Literal

from flaxmobile.errors import InputError, check_flags
from train.data.augment import MIN_CROP
from train.data.records import Selection

_SPLITS = ("train", "validation", "test")


@dataclasses.dataclass(frozen=True)
class DataSelection:
    """Flags that say which images are used for which split."""

    dataset: str = "digits"
    """digits (embedded), folder:PATH (one folder per class in PATH, or in its train/, val/ and
    test/), packed:DIR (what `flaxmobile pack` wrote), idx:DIR (files of MNIST's format),
    hf:OWNER/DATASET (Hugging Face Hub), or the name of any TFDS dataset. For --task segment and
    detect: scenes (embedded), folder:PATH or one of TFDS."""
    data_dir: str | None = None
    """Directory of the data of TFDS or the Hugging Face Hub; by default their own."""
    val_split: float | None = None
    """Share of the training images that is held out for validation: the same share of each class,
    drawn by --seed; of a TFDS dataset the last images. By default 0.1 where the data has no
    validation split."""
    splits: tuple[str, ...] = ()
    """The data's own names of its splits: folders (train=Training validation=dev), or expressions
    (TFDS and Hugging Face: train=train[:80%] validation=train[80%:])."""
    labels: tuple[str, ...] = ()
    """CSV files with the classes of images that lie in no class folder. A row names a file, with
    or without its suffix, and its class."""
    label_columns: tuple[str, ...] = ()
    """Columns of --labels with the file and with the class; by default they are found."""
    multi_label: bool = False
    """Images may have several labels: those of the class folders that they lie in, or are linked or
    copied into, or from --labels: cells such as cat|dog, a row for each label, or a column of 0 and
    1 for each class. The loss is --loss bce; `map` is the mean average precision."""
    label_map: tuple[str, ...] = ()
    """Classes of the values of masks, for --task segment: 0=background 255=tumour, and 7=ignore for
    pixels without a class. By default a value is the number of its class, and 255 is none."""

    def check_selection(self) -> None:
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
        says_itself = self.dataset.startswith(("folder:", "packed:"))
        if self.multi_label and not self.labels and not says_itself:
            raise InputError(
                "--multi-label needs --labels FILE.csv, or folder:PATH with images that lie in, or "
                "are linked into, several class folders"
            )

    def select(self, seed: int) -> Selection:
        """Say what of the data is used for which split; the seed decides what is held out."""
        return Selection(
            splits={word.partition("=")[0]: word.partition("=")[2] for word in self.splits},
            val_split=self.val_split,
            seed=seed,
            labels=self.labels,
            label_columns=self.label_columns,
            multi_label=self.multi_label,
            label_map=self.label_map,
        )


@dataclasses.dataclass(frozen=True)
class DataSettings(DataSelection):
    """Flags about the data and its augmentation."""

    class_weights: Literal["balanced"] | None = None
    """Weigh the loss of each training image by the inverse of the size of its class."""
    train_size: int | None = None
    """Height and width of training images, where it is not --image-size: networks are often best
    at larger images than they were trained with (FixRes)."""
    resize_size: int | None = None
    """Short side to which images are resized for evaluation, before the central --image-size is
    cropped; by default in the proportion of the data or of the network (256 to 224)."""
    min_crop: float = MIN_CROP
    """Least share of a photograph's area that a training crop keeps."""
    scale_range: tuple[float, float] = (0.5, 2.0)
    """Least and largest random scale of training images before they are cropped, for --task
    segment."""
    box_augmentation: Literal["ssdlite", "ssd", "none"] = "ssdlite"
    """Augmentation for --task detect, as in torchvision's reference: ssdlite crops and mirrors, ssd
    zooms out and distorts colours as well."""
    flip: bool = True
    """Mirror half of the training photographs. --no-flip for letters, X-rays and the like."""
    auto_augment: Literal["randaugment", "autoaugment", "v0", "trivial", "augmix"] | None = None
    """Policy of random operations on training images: torchvision's RandAugment, AutoAugment for
    ImageNet, TrivialAugment-wide and AugMix, or the v0 AutoAugment of TensorFlow's model garden."""
    auto_augment_magnitude: int | None = None
    """Strength of randaugment (0 to 30, by default 9) or augmix (1 to 10, by default 3)."""
    color_jitter: tuple[float, ...] = ()
    """Most change of brightness, contrast and saturation (one number or three), and of hue (a
    fourth), at random: 0.4, or 0.4 0.4 0.4 0.1."""
    random_erasing: float = 0.0
    """Share of the training images in which a random box is erased."""
    repeated_augmentation: int = 1
    """Variants of an image that are taken in a row; an epoch is as long as before, and holds
    fewer images."""

    def check_data(self) -> None:
        """Raise InputError for a value that is wrong for any data."""
        self.check_selection()
        self._check_augmentation()
        if self.multi_label and self.class_weights:
            raise InputError("--class-weights does not apply to --multi-label: leave one out")

    def _check_augmentation(self) -> None:
        magnitudes = {"randaugment": range(31), "augmix": range(1, 11)}
        strength = self.auto_augment_magnitude
        if strength is not None and strength not in magnitudes.get(self.auto_augment or "", ()):
            raise InputError(
                f"--auto-augment-magnitude is {strength}; accepted: 0 to 30 with --auto-augment "
                "randaugment, 1 to 10 with augmix"
            )
        shares = (*self.color_jitter, 0, 0, 0, 0)
        accepted = {
            "min_crop": (0 < self.min_crop <= 1, "above 0, up to 1"),
            "scale_range": (
                0 < self.scale_range[0] <= self.scale_range[1] <= 10,
                "two numbers above 0 up to 10, the least first",
            ),
            "random_erasing": (0 <= self.random_erasing <= 1, "0 to 1"),
            "repeated_augmentation": (self.repeated_augmentation >= 1, "1 and more"),
            "color_jitter": (
                len(self.color_jitter) in (0, 1, 3, 4) and min(shares) >= 0 and shares[3] <= 0.5,
                "1, 3 or 4 numbers of 0 and more, the hue's at most 0.5",
            ),
        }
        check_flags(self, accepted)
