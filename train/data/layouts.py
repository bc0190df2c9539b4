"""Where the splits of an image folder lie."""

from collections.abc import Callable, Collection
from pathlib import Path

from flaxmobile.errors import InputError, shorten
from train.data.files import BESIDE, LeftOut, visible_entries
from train.data.records import Selection

_SPELLINGS = {
    "train": ("train", "training"),
    "validation": ("val", "valid", "validation"),
    "test": ("test", "testing"),
}
"""Split -> names of its folder, in lower case."""


def find_splits(path: Path, selection: Selection, left_out: LeftOut) -> dict[str, Path]:
    """Find the folders of the splits: train/ and so on, or the folder itself for training.

    Args:
      path: the data set.
      selection: other names of the folders.
      left_out: takes what lies beside them.

    Returns:
      Split -> folder, "train" among them.

    Raises:
      InputError: two folders for a split, a name that is not there, or no folder for training.
    """
    names = [entry.name for entry in visible_entries(path, LeftOut()) if entry.is_dir()]
    places = {}
    for split, name in _match(path, names, selection, mark="/").items():
        places[split] = path / name
        if not places[split].is_dir():
            raise InputError(f"--splits: {path} has no folder {name}")
    used = {place.name for place in places.values()}
    beside = [name for name in names if name not in used]
    if not places or (beside and _is_class(places, selection)):
        return {"train": path}
    if "train" not in places:
        raise InputError(f"{path} has {next(iter(places.values())).name}/ but no train/ beside it")
    for name in beside:
        left_out.add(BESIDE, str(path / name))
    return places


def match_splits(
    path: Path,
    names: Collection[str],
    selection: Selection,
    stem: Callable[[str], str] = str,
) -> dict[str, str]:
    """Choose which of the names in a folder is which split, "train" among them.

    Args:
      path: the folder, for messages.
      names: of what it has for each split.
      selection: which name is meant, where it is not the split's own.
      stem: the part of a name that says the split.

    Raises:
      InputError: two names for a split, a name that is not there, or none for training.
    """
    chosen = _match(path, names, selection, stem)
    listed = shorten(list(names)) or "nothing"
    for split, name in chosen.items():
        if name not in names:
            raise InputError(f"--splits {split}={name}: {path} has {listed}")
    if "train" not in chosen:
        raise InputError(f"{path} has {listed}: say what is for training, --splits train=NAME")
    return chosen


def _match(
    path: Path,
    names: Collection[str],
    selection: Selection,
    stem: Callable[[str], str] = str,
    mark: str = "",
) -> dict[str, str]:
    """Choose the names that are given or spelled like a split; messages put `mark` after them."""
    chosen = {}
    for split, spellings in _SPELLINGS.items():
        given = selection.splits.get(split)
        found = [given] if given else [name for name in names if stem(name).lower() in spellings]
        if len(found) > 1:
            raise InputError(
                f"{path} has {' and '.join(name + mark for name in found)}: remove one, or name "
                f"the one to use, --splits {split}={found[0]}"
            )
        if found:
            chosen[split] = found[0]
    return chosen


def _is_class(places: dict[str, Path], selection: Selection) -> bool:
    """Tell whether train/ is a class, of trains, and not a split."""
    if list(places) != ["train"] or selection.labels or selection.splits:
        return False
    return not class_folders(places["train"], LeftOut())


def class_folders(place: Path, left_out: LeftOut) -> tuple[str, ...]:
    """Return the class folders of a split, as torchvision numbers them; () if it is flat."""
    entries = list(visible_entries(place, left_out))
    folders = tuple(entry.name for entry in entries if entry.is_dir())
    if folders:
        for entry in entries:
            if not entry.is_dir():
                left_out.add(BESIDE, entry.path)
    return folders
