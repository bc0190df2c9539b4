"""Labelled images for training, from files to batches of pixels."""

from pathlib import Path

from train.data.digits import open_digits
from train.data.folders import open_folder
from train.data.hub import open_hub
from train.data.idx import open_idx
from train.data.packed import open_packed
from train.data.records import Dataset, Selection, refuse
from train.data.stand_in import open_stand_in
from train.data.tfds_names import WITHOUT_TFDS, taken_for_tfds

__all__ = ["Dataset", "Selection", "open_dataset"]


def open_dataset(
    name: str, data_dir: str | None = None, selection: Selection | None = None
) -> Dataset:
    """Open a data set by name; one of TFDS is prepared first if necessary.

    Args:
      name: "digits" (embedded), "folder:PATH" (class folders in PATH, or under PATH/train, and
        PATH/val and PATH/test where there are such; flat folders with a table of labels),
        "packed:DIR" (what `flaxmobile pack` wrote), "idx:DIR" (the files of MNIST and its like),
        "hf:OWNER/DATASET" (of the Hugging Face Hub),
        "sizes:IMAGESxCLASSES" (no data, to plan a run), or the name of a TFDS data set
        (extra `tfds`).
      data_dir: directory of TFDS's data; by default TFDS's own.
      selection: what is used for which split; by default what the data set says.

    Raises:
      InputError: an unknown name, or data that is missing, incomplete or not for classification.
    """
    selection = selection or Selection()
    if name.startswith("folder:"):
        return open_folder(name, Path(name.removeprefix("folder:")).expanduser(), selection)
    if name.startswith("packed:"):
        refuse(selection, name, "val_split", "splits", "labels")
        return open_packed(name, Path(name.removeprefix("packed:")).expanduser())
    if name.startswith("idx:"):
        refuse(selection, name, "splits", "labels")
        return open_idx(name, Path(name.removeprefix("idx:")).expanduser(), selection)
    if name.startswith("sizes:"):
        refuse(selection, name, "val_split", "splits", "labels")
        return open_stand_in(name)
    if name.startswith("hf:"):
        refuse(selection, name, "labels")
        return open_hub(name, data_dir, selection)
    if name == "digits":
        refuse(selection, name, "val_split", "splits", "labels")
        return open_digits()
    refuse(selection, name, "labels")
    with taken_for_tfds(name, WITHOUT_TFDS):
        from train.data.tfds import open_tfds
    return open_tfds(name, data_dir, selection)
