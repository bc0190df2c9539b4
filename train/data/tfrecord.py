"""Records of TFRecord files by index, without TensorFlow."""

import mmap
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from flaxmobile.errors import InputError

# A record is its length (8 bytes), a checksum (4), its bytes and another checksum (4).
_HEADER, _END = 12, 4


class Shard(NamedTuple):
    """Part of a file: `take` records after the first `skip`."""

    path: Path
    skip: int
    take: int


class TfRecords:
    """The records of files, in order. Their places are found once; a file is open while read."""

    def __init__(self, shards: Iterable[Shard]) -> None:
        """Find the records: a pass over the lengths, about 10 s for ImageNet.

        Raises:
          InputError: a file that is cut, or has fewer records than it should.
        """
        self._shards = tuple(shards)
        spans = [_spans(shard) for shard in self._shards]
        self._spans = np.concatenate(spans)
        self._shard = np.repeat(np.arange(len(spans)), [len(found) for found in spans])

    def __len__(self) -> int:
        return len(self._spans)

    def __getitem__(self, index: int) -> bytes:
        """Read the bytes of a record."""
        start, length = self._spans[index].tolist()
        with self._shards[self._shard[index]].path.open("rb") as file:
            file.seek(start)
            return file.read(length)


def _spans(shard: Shard) -> np.ndarray:
    """Return (start, length) of each record of a shard, int64 [take, 2]."""
    spans: list[tuple[int, int]] = []
    last = shard.skip + shard.take
    if not shard.path.stat().st_size:
        raise InputError(f"{shard.path} is empty instead of {last} records and more")
    with (
        shard.path.open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content,
    ):
        place = 0
        while len(spans) < last:
            start = place + _HEADER
            length = struct.unpack_from("<Q", content, place)[0] if start < len(content) else 0
            place = start + length + _END
            if place > len(content):
                raise InputError(f"{shard.path} is cut after {len(spans)} records of {last}")
            spans.append((start, length))
    return np.array(spans[shard.skip :], np.int64).reshape(-1, 2)
