"""Images that lie in several folders: links and copies of one image."""

import filecmp
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from train.data.files import Identity


def merge_same_images(
    root: Path, files: Iterable[tuple[str, int]]
) -> list[tuple[str, tuple[int, ...]]]:
    """Give each image the labels of all folders that it lies in.

    Files are one image if one is a link to the other, or if their names and bytes are equal.

    Args:
      root: folder that holds them.
      files: (path below root, label) of each.

    Returns:
      (first path, labels) of each image.
    """
    labels: dict[str, list[int]] = {}
    seen: dict[Identity, str] = {}
    alike: dict[tuple[str, int], list[str]] = defaultdict(list)
    for file, label in files:
        path = root / file
        found = path.stat()
        identity, kind = (found.st_dev, found.st_ino), (path.name, found.st_size)
        if identity not in seen:
            copies = (each for each in alike[kind] if filecmp.cmp(root / each, path, shallow=False))
            seen[identity] = next(copies, file)
            alike[kind].append(file)
        labels.setdefault(seen[identity], []).append(label)
    return [(file, tuple(sorted(set(found)))) for file, found in labels.items()]
