"""`flaxmobile predict`: classify images or their pixels, or find objects or faces."""

import collections
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax

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
from flaxmobile.cli.frames import Stream
from flaxmobile.cli.heatmaps import draw_heatmaps
from flaxmobile.cli.plot import plot_predictions
from flaxmobile.cli.predict_config import Config
from flaxmobile.command.flags import parse, reading_arguments
from flaxmobile.errors import InputError
from flaxmobile.layers import Network
from flaxmobile.prediction import Frame
from flaxmobile.trees import Tree
from flaxmobile.weights import Metadata

_MOST_PICTURES = 64
_BATCH = 32


class Loaded(NamedTuple):
    """Contents of a weights directory."""

    model: Any
    variables: Tree
    metadata: Metadata


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
