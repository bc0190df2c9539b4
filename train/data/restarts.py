"""JPEG files with restart markers, from which a part is cut out without decoding the rest.

A decoder begins afresh at each restart marker (ITU-T T.81, E.2.4), so what lies between two of them
can be left out. `flaxmobile pack` writes such files.
"""

import dataclasses
import struct
from collections.abc import Sequence

import numpy as np

Box = tuple[int, int, int, int]
"""(left, top, right, bottom) in pixels."""

_SOI, _EOI = b"\xff\xd8", b"\xff\xd9"
_BASELINE, _SCAN, _INTERVAL, _EXIF = 0xC0, 0xDA, 0xDD, 0xE1
_FRAMES = {*range(0xC1, 0xD0)} - {0xC4, 0xC8, 0xCC}
"""Markers of frames that are not baseline, as progressive ones."""

_MARGIN = 1
"""Pixels beside a part that the interpolation of its colours makes use of."""

_MOST = 4
"""Blocks in an interval: more waste pixels, fewer waste bytes."""


@dataclasses.dataclass(frozen=True)
class Restarts:
    """Where a JPEG file can be cut: a grid of intervals, each coded on its own.

    Attributes:
      size: (width, height) of the image in pixels.
      interval: width and height of an interval in pixels.
      frame: place of the height and the width in the file.
      scan: place of the coded pixels.
    """

    size: tuple[int, int]
    interval: tuple[int, int]
    frame: int
    scan: int

    def cut(self, encoded: bytes, box: Box) -> tuple[bytes, tuple[int, int]]:
        """Cut out a part, whose pixels stay the same.

        Args:
          encoded: the file.
          box: the part.

        Returns:
          A file that contains the part, and the pixel (x, y) where it begins. It is the whole file
          if that is damaged.
        """
        (width, height), (w, h) = self.size, self.interval
        columns, rows = -(-width // w), -(-height // h)
        left, top = (max(0, edge - _MARGIN) for edge in box[:2])
        right, bottom = (edge + _MARGIN for edge in box[2:])
        first, last = left // w, min(columns, -(-right // w))
        places = range(top // h, min(rows, -(-bottom // h)))
        end = encoded.rfind(_EOI)
        markers = _markers(encoded[self.scan : end]) + self.scan
        if end < 0 or len(markers) + 1 != columns * rows:
            return encoded, (0, 0)
        starts, ends = [self.scan, *(markers + 2).tolist()], [*markers.tolist(), end]
        coded = [
            encoded[starts[row * columns + first] : ends[row * columns + last - 1]]
            for row in places
        ]
        head = bytearray(encoded[: self.scan])
        size = (min(height, places.stop * h) - places.start * h, min(width, last * w) - first * w)
        struct.pack_into(">HH", head, self.frame, *size)
        return bytes(head) + _joined(coded) + _EOI, (first * w, places.start * h)


def _joined(coded: Sequence[bytes]) -> bytes:
    """Join rows of intervals, and number their markers from 0 to 7 again and again."""
    joined = np.frombuffer(b"\xff\xd0".join(coded), np.uint8).copy()
    markers = _markers(joined)
    joined[markers + 1] = 0xD0 + np.arange(len(markers)) % 8
    return joined.tobytes()


def _markers(coded: bytes | np.ndarray) -> np.ndarray:
    """Find the restart markers among coded pixels, in which another 0xFF is followed by 0."""
    values = np.frombuffer(coded, np.uint8)
    found = np.flatnonzero(values[:-1] == 0xFF)
    return found[values[found + 1] & 0xF8 == 0xD0]


def read_restarts(encoded: bytes) -> Restarts | None:
    """Read where a file can be cut; None for other files.

    These are baseline JPEG files without EXIF, in one scan, whose intervals divide their rows.
    """
    if not encoded.startswith(_SOI):
        return None
    place, interval, frame = 2, 0, 0
    try:
        while True:
            mark, marker, length = struct.unpack_from(">BBH", encoded, place)
            if mark != 0xFF or marker in _FRAMES or marker == _EXIF:
                return None
            if marker == _INTERVAL:
                (interval,) = struct.unpack_from(">H", encoded, place + 4)
            elif marker == _BASELINE:
                frame = place + 5
            elif marker == _SCAN:
                break
            place += 2 + length
        if not interval or not frame or encoded[frame + 4] != encoded[place + 4]:
            return None
        height, width, components = struct.unpack_from(">HHB", encoded, frame)
        sampling = [encoded[frame + 6 + 3 * component] for component in range(components)]
    except (struct.error, IndexError):
        return None
    several = components > 1
    w = 8 * max(factors >> 4 for factors in sampling) if several else 8
    h = 8 * max(factors & 15 for factors in sampling) if several else 8
    if not width or not height or not w or not h or -(-width // w) % interval:
        return None
    return Restarts((width, height), (w * interval, h), frame, place + 2 + length)


def restart_interval(width: int) -> int:
    """Return how many blocks of 16 pixels an interval of an image of this width should have."""
    blocks = -(-width // 16)
    return max(count for count in range(1, _MOST + 1) if blocks % count == 0)
