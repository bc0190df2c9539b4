"""Flags of `flaxmobile predict`, and the images that they name."""

import dataclasses
import glob
from pathlib import Path
from typing import Annotated

import tyro

from flaxmobile.cli.answers import STDOUT
from flaxmobile.cli.frames import STDIN, Stream, is_video, read_stdin
from flaxmobile.command.flags import PICTURES, check_writable
from flaxmobile.errors import InputError, check_value
from flaxmobile.prediction import Frame
from train.data.files import LeftOut, image_files


@dataclasses.dataclass(frozen=True)
class Config:
    """Classify images or their pixels, or find objects or faces in them.

    The frames of a video and of a camera (extra `video`) are answered as they come.

    Examples:
      flaxmobile predict cat.jpg dog.jpg --weights torchvision:mobilenet_v2
      flaxmobile predict photos --weights runs/photos/best --csv answers.csv
      flaxmobile predict crowd.jpg --weights mediapipe:face_detection_full_range --plot faces.png
    """

    images: Annotated[
        tuple[Path, ...],
        tyro.conf.Positional,
        tyro.conf.arg(metavar="IMAGE…", help_behavior_hint="(at least one, or --webcam)"),
    ]
    """Image files (RGB, grey, 16 bit, palette, with transparency or CMYK), folders of them, videos,
    and - for an image on stdin."""
    weights: Annotated[str, tyro.conf.arg(metavar="DIR|PUBLISHED")]
    """Weights directory: `best` of a training run, or what `python -m convert` wrote; or published
    weights such as torchvision:mobilenet_v2; `flaxmobile list --pretrained` shows them."""
    webcam: Annotated[int | None, tyro.conf.arg(metavar="NUMBER")] = None
    """Take the frames of a camera, until Ctrl-C or --frames; the first camera is 0."""
    every: Annotated[float, tyro.conf.arg(metavar="SECONDS")] = 0.0
    """Time between the frames that are taken of a video or a camera; 0 takes each."""
    frames: Annotated[int | None, tyro.conf.arg(metavar="INT")] = None
    """Most frames to take of each video or camera; by default all."""
    top: int = 5
    """Number of classes to show for each image."""
    threshold: float = 0.5
    """Least score of the boxes that a detector shows, 0 to 1."""
    json: bool = False
    """Print a JSON array for machines instead of the table."""
    csv: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Write a CSV file with a row for each class or box; - prints it instead of the table."""
    plot: Annotated[Path | None, tyro.conf.arg(metavar="FILE.png")] = None
    """Draw each image beside a bar chart of its classes, under the mask of a segmenter, or with the
    boxes of a detector."""
    heatmap: Annotated[Path | None, tyro.conf.arg(metavar="FILE.png")] = None
    """Draw the same, coloured where the image speaks for a classifier's best class (Grad-CAM)."""

    def check(self) -> None:
        """Raise InputError for values that are not accepted."""
        if not self.images and self.webcam is None:
            raise InputError("no IMAGE was given")
        check_value("--every", self.every, self.every >= 0, "0 or more seconds")
        check_value("--frames", self.frames, self.frames is None or self.frames > 0, "1 or more")
        check_value("--webcam", self.webcam, (self.webcam or 0) >= 0, "0 or more")
        if self.top < 1:
            raise InputError(f"--top is {self.top}; accepted: 1 or more")
        check_value("--threshold", self.threshold, 0 <= self.threshold <= 1, "0 to 1")
        if self.json and self.csv == STDOUT:
            raise InputError("--json and --csv - both print; accepted: one of them, or a file")
        for flag, picture in self.pictures().items():
            check_writable(flag, picture, PICTURES)
        if self.csv not in (None, STDOUT):
            check_writable("--csv", self.csv)

    def pictures(self) -> dict[str, Path]:
        """Return the pictures to draw, by flag."""
        pictures = {"--plot": self.plot, "--heatmap": self.heatmap}
        return {flag: picture for flag, picture in pictures.items() if picture is not None}

    def sources(self) -> list[Path | Frame | Stream]:
        """List the images, those below folders too, and the videos.

        Raises:
          InputError: one that does not exist, or a folder without images.
        """
        found: list[Path | Frame | Stream] = []
        for path in self.images:  # before the long work; images that cannot be read fail later
            # Path.glob refuses an absolute pattern.
            matches = [Path(name) for name in sorted(glob.glob(str(path)))]  # noqa: PTH207
            if path == STDIN:
                found.append(read_stdin())
            elif not path.exists() and not matches:
                raise InputError(f"{path} cannot be read: there is no such file")
            else:
                for each in [path] if path.exists() else matches:
                    found += _below(each) if each.is_dir() else [self._file(each)]
        if self.webcam is not None:
            found.append(Stream(self.webcam, self.every, self.frames))
        return found

    def _file(self, path: Path) -> Path | Stream:
        return Stream(path, self.every, self.frames) if is_video(path) else path


def _below(folder: Path) -> list[Path]:
    left_out = LeftOut()
    files = [Path(file) for file in image_files(folder, left_out)]
    if not files:
        raise InputError(f"{folder} holds no images ({left_out.describe() or 'it is empty'})")
    return files
