"""WIDER FACE's layout: lists of boxes in `wider_face_split/`, images in `WIDER_train/images/`.

A list has, for each image, its name, the number of its faces, and a line for each with x, y, width,
height and six marks, of which the fourth says that the face is invalid. An image without faces has
a line of zeros.
"""

from collections.abc import Iterator
from pathlib import Path

from flaxmobile.errors import InputError
from train.data.files import LeftOut
from train.data.layouts import match_splits
from train.data.objects.annotations import Files, annotate, read_size, read_text
from train.data.records import BACKGROUND, Selection

_PREFIX, _SUFFIX = "wider_face_", "_bbx_gt"
_NUMBERS = 10
_INVALID = 7


def find_wider(path: Path) -> dict[str, Path]:
    """Find the lists of a folder: name of a split -> file."""
    files = sorted((path / "wider_face_split").glob(f"{_PREFIX}*{_SUFFIX}.txt"))
    return {file.stem.removeprefix(_PREFIX).removesuffix(_SUFFIX): file for file in files}


def read_wider(
    path: Path, selection: Selection, left_out: LeftOut
) -> tuple[tuple[str, ...], dict[str, Files]]:
    """Read the names of the two classes, and the files of each split with their faces.

    Invalid faces are ignored, see `Annotations`.

    Raises:
      InputError: a damaged list, or missing images.
    """
    lists = find_wider(path)
    chosen = match_splits(path / "wider_face_split", lists, selection)
    splits = {}
    for split, name in chosen.items():
        folder, files = path / f"WIDER_{name}" / "images", []
        for image, faces in _read(lists[name]):
            file = folder / image
            if not file.is_file():
                raise InputError(f"{lists[name]} names {image}, which is not in {folder}")
            objects = [
                ((x, y, x + width, y + height), 1, bool(marks[_INVALID - 4]))
                for x, y, width, height, *marks in faces
            ]
            files.append((str(file), annotate(read_size(file), objects, str(file), left_out)))
        splits[split] = tuple(files)
    return (BACKGROUND, "face"), splits


def _read(file: Path) -> Iterator[tuple[str, list[list[float]]]]:
    """Yield the name of each image and the numbers of its faces."""
    lines = iter(enumerate(read_text(file).splitlines(), start=1))
    for number, name in lines:
        try:
            _, count = next(lines)
            rows = []
            for _ in range(max(1, int(count))):
                number, line = next(lines)
                rows.append([float(word) for word in line.split()])
                if len(rows[-1]) != _NUMBERS:
                    raise ValueError
        except (StopIteration, ValueError):
            raise InputError(
                f"{file} line {number}: accepted are the name of an image, the number of its "
                f"faces, and {_NUMBERS} numbers for each"
            ) from None
        yield name.strip(), rows if int(count) else []
