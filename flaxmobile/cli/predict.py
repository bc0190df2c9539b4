"""`flaxmobile predict`: classify images or their pixels, or find objects or faces."""

import collections
import dataclasses
import glob
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import jax
import tyro

from convert.published.loading import open_any_weights
from flaxmobile.allocator import keep_freed_memory
from flaxmobile.cli.answers import (
    STDOUT,
    Answer,
    Answered,
    in_json,
    label,
    print_answers,
    through_csv,
)
from flaxmobile.cli.boxes import (
    describe_box,
    find_boxes,
    is_detector,
    plot_boxes,
    table_of_boxes,
)
from flaxmobile.cli.classes import (
    describe_classes,
    find_classes,
    form_of,
    output_of,
    table_of_classes,
)
from flaxmobile.cli.frames import STDIN, Stream, is_video, read_stdin
from flaxmobile.cli.heatmaps import draw_heatmaps
from flaxmobile.cli.plot import plot_predictions
from flaxmobile.command.flags import PICTURES, check_writable, parse, reading_arguments
from flaxmobile.errors import InputError, check_value
from flaxmobile.layers import Network
from flaxmobile.prediction import Frame
from flaxmobile.trees import Tree
from flaxmobile.weights import Metadata
from train.data.files import LeftOut, image_files

_MOST_PICTURES = 64
_BATCH = 32


class Loaded(NamedTuple):
    """Contents of a weights directory."""

    model: Any
    variables: Tree
    metadata: Metadata


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


def main(prog: str, argv: Sequence[str]) -> None:
    """Print the classes of each image, the most probable or the largest first."""
    config = parse(Config, argv, prog)
    with reading_arguments(prog):
        config.check()
    sources = config.sources()
    images = [each for each in sources if not isinstance(each, Stream)]
    streams = [each for each in sources if isinstance(each, Stream)]
    with reading_arguments(prog):
        for flag in config.pictures():
            if streams:
                raise InputError(f"{flag} shows images, and {streams[0]} is a video")
            if len(images) > _MOST_PICTURES:
                raise InputError(
                    f"{flag} shows at most {_MOST_PICTURES} images, {len(images)} were given"
                )
    weights = open_any_weights(config.weights)
    model, variables = weights.load()
    if config.heatmap and (is_detector(model) or not isinstance(model, Network)):
        raise InputError(f"--heatmap is for classifiers, and {config.weights} holds none")
    if not is_detector(model) and model.num_classes == 0:
        raise InputError(f"{config.weights} cannot classify: its model has num_classes 0")
    if jax.default_backend() == "cpu":
        keep_freed_memory()
    loaded = Loaded(model, variables, weights.metadata)
    if streams:
        show_stream(config, sources, loaded)
    elif is_detector(model):
        show_boxes(config, images, loaded)
    else:
        show_classes(config, images, loaded)


def show_boxes(config: Config, images: Sequence[Path | Frame], loaded: Loaded) -> None:
    """Print, and draw, what a detector finds in each image."""
    results = [find_boxes(*loaded, each, config.threshold) for each in images]
    if config.plot is not None:
        plot_boxes(config.plot, images, results)
    described = [[describe_box(each) for each in found] for found in results]
    _print(config, images, described, table_of_boxes(images, results))


def show_classes(config: Config, images: Sequence[Path | Frame], loaded: Loaded) -> None:
    """Print, and draw, the classes of each image."""
    output = output_of(loaded.model, loaded.metadata)
    found = list(find_classes(*loaded, images, config.top, _BATCH))
    results = [each.best for each in found]
    bars = [[(each.name, each.answer) for each in best] for best in results]
    if config.plot is not None:
        overlays = [each.overlay for each in found if each.overlay is not None]
        plot_predictions(config.plot, images, bars, form_of(output), overlays)
    if config.heatmap is not None:
        heatmaps = draw_heatmaps(*loaded, images, [best[0].index for best in results])
        plot_predictions(config.heatmap, images, bars, form_of(output), seen=heatmaps)
    described = [describe_classes(best, output) for best in results]
    _print(config, images, described, table_of_classes(images, results, output))


def show_stream(config: Config, sources: Sequence[Path | Frame | Stream], loaded: Loaded) -> None:
    """Print what is found in images and frames, as they come."""
    asked: collections.deque[dict[str, object]] = collections.deque()
    live = any(isinstance(each, Stream) and each.live for each in sources)

    def images() -> Iterator[Path | Frame]:
        for source in sources:
            for each in source.frames() if isinstance(source, Stream) else (source,):
                asked.append(label(each))
                yield each

    answers = _answers(config, loaded, images(), 1 if live else _BATCH)
    number = form_of(output_of(loaded.model, loaded.metadata))
    answered: Iterable[Answered] = ((asked.popleft(), each) for each in answers)
    if config.csv is not None:
        answered = through_csv(config.csv, answered, timed=True)
    if config.csv == STDOUT:
        collections.deque(answered, maxlen=0)
    else:
        print_answers(answered, number, json_array=config.json)


def _answers(
    config: Config, loaded: Loaded, images: Iterable[Path | Frame], batch: int
) -> Iterator[Sequence[Answer]]:
    if is_detector(loaded.model):
        for image in images:
            yield [describe_box(each) for each in find_boxes(*loaded, image, config.threshold)]
        return
    output = output_of(loaded.model, loaded.metadata)
    for found in find_classes(*loaded, images, config.top, batch):
        yield describe_classes(found.best, output)


def _print(
    config: Config, images: Sequence[Path | Frame], answers: Sequence[Sequence[Answer]], table: str
) -> None:
    answered = list(zip(map(label, images), answers, strict=True))
    if config.csv is not None:
        collections.deque(through_csv(config.csv, answered), maxlen=0)
    if config.csv != STDOUT:
        print(in_json(answered) if config.json else table)
