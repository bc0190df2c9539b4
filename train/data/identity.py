"""Identity of a data set, wherever it lies: what a resumed run compares."""

import hashlib

import numpy as np

from flaxmobile.images import UnreadableImageError
from train.data.records import Dataset, Source

_READ = 16
"""Images of a split whose content is hashed; of the others `Source.listing` alone is."""

Identity = dict[str, dict[str, int | str]]
"""Split -> its number of images and their digest."""


def identify(dataset: Dataset) -> Identity:
    """Return size and digest of each split; paths above its files do not count."""
    splits = {"train": dataset.train, "validation": dataset.validation, "test": dataset.test}
    return {
        name: {"images": len(source), "digest": _digest(source)}
        for name, source in splits.items()
        if source is not None
    }


def changes(before: Identity, now: Identity) -> list[str]:
    """Say which splits differ, and how many images they had and have."""
    found = []
    for split in sorted({*before, *now}, key=["train", "validation", "test"].index):
        old, new = before.get(split), now.get(split)
        if old != new:
            counts = [
                f"{identity['images']} images" if identity else "none" for identity in (old, new)
            ]
            same = " that are not the same" if counts[0] == counts[1] else ""
            found.append(f"{split}: {counts[0]} before, {counts[1]} now{same}")
    return found


def _digest(source: Source) -> str:
    digest = hashlib.sha256()
    for name in source.listing():
        digest.update(name.encode(errors="surrogateescape") + b"\0")
    for index in np.unique(np.linspace(0, len(source) - 1, _READ).round().astype(int)).tolist():
        try:
            record = source[index]
        except UnreadableImageError:
            continue
        digest.update(record.encoded + str(record.label).encode())
    return digest.hexdigest()[:16]
