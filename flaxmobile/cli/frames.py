"""Images that are no files of their own: of stdin, a video or a camera."""

import dataclasses
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from PIL import Image

from flaxmobile.errors import InputError, first_line, pip_install
from flaxmobile.images import read_image
from flaxmobile.prediction import Frame

STDIN = Path("-")
VIDEOS = (
    ".3gp", ".avi", ".m4v", ".mjpeg", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".ogv", ".ts",
    ".webm", ".wmv",
)  # fmt: skip
"""Suffixes of videos; any other file is an image."""


def is_video(path: Path) -> bool:
    """Whether a path has the suffix of a video."""
    return path.suffix.lower() in VIDEOS


def read_stdin() -> Frame:
    """Read an image from stdin.

    Raises:
      InputError: stdin is a terminal, or holds no image.
    """
    if sys.stdin.isatty():
        raise InputError("- reads an image from stdin, which is a terminal: … < cat.jpg")
    return Frame("-", read_image(sys.stdin.buffer.read(), "stdin"))


@dataclasses.dataclass(frozen=True)
class Stream:
    """A video file, or a camera.

    Attributes:
      source: path, or number of a camera.
      every: seconds between the frames to take; 0 takes each.
      most: number of frames to take; None takes all.
    """

    source: Path | int
    every: float = 0.0
    most: int | None = None

    @property
    def live(self) -> bool:
        """Whether it is a camera, whose frames are worth nothing later."""
        return isinstance(self.source, int)

    def __str__(self) -> str:
        return f"webcam {self.source}" if self.live else str(self.source)

    def frames(self) -> Iterator[Frame]:
        """Yield the frames, each with its time in seconds.

        Raises:
          InputError: OpenCV is not installed, or cannot read it.
        """
        cv2 = _import_opencv()
        capture = cv2.VideoCapture(self.source if self.live else str(self.source))
        try:
            if not capture.isOpened():
                kinds = "there is no such camera" if self.live else "OpenCV reads no video in it"
                raise InputError(f"{self} cannot be opened: {kinds}")
            yield from self._read(cv2, capture)
        finally:
            capture.release()

    def _read(self, cv2: Any, capture: Any) -> Iterator[Frame]:
        start, taken, due = time.monotonic(), 0, 0.0
        rate = capture.get(cv2.CAP_PROP_FPS) or 1.0
        number = -1
        while taken != self.most and capture.grab():
            number += 1
            # A container without times counts frames; a camera's driver has a clock of its own.
            milliseconds = capture.get(cv2.CAP_PROP_POS_MSEC) or 1000 * number / rate
            seconds = time.monotonic() - start if self.live else milliseconds / 1000
            if seconds + 1e-6 < due:
                continue
            decoded, pixels = capture.retrieve()
            if not decoded:
                break
            taken, due = taken + 1, due + self.every
            image = Image.fromarray(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB))
            yield Frame(str(self), image, seconds)
        if not taken:
            raise InputError(f"{self} has no frames that can be read")


def _import_opencv() -> Any:
    # FFmpeg's own lines about a damaged file say less than ours; read when OpenCV is loaded.
    os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    try:
        import cv2
    except ImportError as error:
        raise InputError(
            f"videos and cameras are read by OpenCV ({first_line(error)}): {pip_install('video')}"
        ) from None
    return cv2
