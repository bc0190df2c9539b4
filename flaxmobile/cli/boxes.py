"""`flaxmobile predict` with a detector: objects or faces, as boxes over the images."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from flaxmobile.cli.plot import draw_image, pictures
from flaxmobile.detection import SSDLite, detect_faces, detect_objects
from flaxmobile.layers import Model
from flaxmobile.models.blazeface import BlazeFace
from flaxmobile.models.blazeface_tables import KEYPOINTS
from flaxmobile.prediction import Frame, as_image
from flaxmobile.table import RULE, format_table
from flaxmobile.trees import Tree
from flaxmobile.weights import Metadata

SIDES = ("xmin", "ymin", "xmax", "ymax")


@dataclasses.dataclass(frozen=True)
class Found:
    """An object or a face.

    Attributes:
      index: of its class; 0 for a face.
      name: of its class.
      score: 0 to 1.
      box: in pixels of the image, by `SIDES`.
      keypoints: of a face, name -> (x, y).
    """

    index: int
    name: str
    score: float
    box: dict[str, float]
    keypoints: Mapping[str, tuple[float, float]]


def is_detector(model: Model) -> bool:
    """Whether a network finds boxes."""
    return isinstance(model, SSDLite) or (isinstance(model, BlazeFace) and model.detector)


def find_boxes(
    model: Model, variables: Tree, metadata: Metadata, image: Path | Frame, threshold: float
) -> list[Found]:
    """Find the objects or faces in an image, the best first.

    Raises:
      InputError: the image cannot be read.
    """
    pixels = np.asarray(as_image(image))
    if isinstance(model, BlazeFace):
        return list(_faces(detect_faces(model, variables, pixels, score_threshold=threshold)))
    names = metadata.class_names or tuple(map(str, range(model.num_classes)))
    preprocessing = metadata.preprocessing
    objects = detect_objects(
        model, variables, pixels, preprocessing=preprocessing, score_threshold=threshold
    )
    return [
        Found(int(label), names[label], float(score), _sides(box), {})
        for box, label, score in zip(*objects, strict=True)
    ]


def _faces(faces: Any) -> Iterator[Found]:
    for (ymin, xmin, ymax, xmax), points, score in zip(*faces, strict=True):
        keypoints = {
            name: (float(x), float(y)) for name, (x, y) in zip(KEYPOINTS, points, strict=True)
        }
        yield Found(0, "face", float(score), _sides((xmin, ymin, xmax, ymax)), keypoints)


def _sides(box: Sequence[float]) -> dict[str, float]:
    return dict(zip(SIDES, map(float, box), strict=True))


def describe_box(found: Found) -> dict[str, Any]:
    """Return what JSON and CSV say of an object."""
    keypoints = {"keypoints": found.keypoints} if found.keypoints else {}
    return {
        "index": found.index,
        "class": found.name,
        "probability": found.score,
        "box": found.box,
        **keypoints,
    }


def table_of_boxes(images: Sequence[Path | Frame], results: Sequence[Sequence[Found]]) -> str:
    """Lay the boxes out as a table, a row for each; an image without any has one row."""
    rows: list[tuple[str, ...] | str] = [("image", "class", "probability", *SIDES)]
    for image, found in zip(images, results, strict=True):
        rows.append(RULE)
        if not found:
            rows.append((str(image), "nothing found", *[""] * 5))
        for place, each in enumerate(found):
            sides = (f"{each.box[side]:.0f}" for side in SIDES)
            rows.append(("" if place else str(image), each.name, f"{each.score:.2%}", *sides))
    return format_table(rows, right=range(2, 7))


def plot_boxes(
    path: Path, images: Sequence[Path | Frame], results: Sequence[Sequence[Found]]
) -> None:
    """Draw boxes, names and keypoints over the images; the file appears complete or not at all."""
    from matplotlib.patches import Rectangle

    with pictures(path, len(images), (9.0, 6.0)) as rows:
        for (axes,), image, found in zip(rows, images, results, strict=True):
            scale = draw_image(axes, image, longest=1024)
            for each in found:
                left, top, right, bottom = (scale * each.box[side] for side in SIDES)
                corner, size = (left, top), (right - left, bottom - top)
                axes.add_patch(Rectangle(corner, *size, fill=False, color="#e4572e", linewidth=2))
                label = f"{each.name} {each.score:.0%}"
                box = {"facecolor": "#e4572e", "edgecolor": "none", "pad": 1}
                axes.text(left, top, label, va="bottom", color="white", bbox=box, clip_on=True)
                for x, y in each.keypoints.values():
                    axes.plot(scale * x, scale * y, ".", color="#e4572e")
