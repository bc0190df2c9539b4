"""Settings of the task: what the network is for, and its head."""

import dataclasses
from typing import Any, Literal, NamedTuple

from flaxmobile.errors import InputError, check_choice, flag
from flaxmobile.models.blazeface import BlazeFace
from flaxmobile.specs import SPECS
from flaxmobile.tasks import DETECTORS, HEADS, SEGMENTERS

TaskName = Literal["classify", "segment", "detect"]
Metric = Literal["accuracy", "top5", "loss", "map", "miou"]


class Facts(NamedTuple):
    """What a task is without other flags.

    Attributes:
      dataset: its embedded data.
      metrics: validation metrics that can select the best weights; the default first.
      heads: names of its heads, the default first; none where the network classifies by itself.
      lacks: settings that do not apply to it.
    """

    dataset: str
    metrics: tuple[Metric, ...]
    heads: tuple[str, ...] = ()
    lacks: tuple[str, ...] = ()


_OF_CLASSES = (
    "multi_label", "labels", "label_columns", "auto_augment", "random_erasing", "min_crop",
    "label_smoothing", "loss", "mixup", "cutmix", "distill_from",
)  # fmt: skip
"""Settings that apply to classification alone."""

_NOT_OF_BOXES = ("class_weights", "resize_size", "scale_range", "train_size", "label_map")

FACTS: dict[TaskName, Facts] = {
    "classify": Facts("digits", ("accuracy", "top5", "loss", "map"), lacks=("label_map",)),
    "segment": Facts(
        "scenes",
        ("miou", "accuracy", "loss"),
        tuple(SEGMENTERS),
        (*_OF_CLASSES, "box_augmentation"),
    ),
    "detect": Facts("scenes", ("map", "loss"), tuple(DETECTORS), (*_OF_CLASSES, *_NOT_OF_BOXES)),
}
"""Tasks that can be trained."""


@dataclasses.dataclass(frozen=True)
class TaskSettings:
    """Flags about the task."""

    task: TaskName = "classify"
    """What the network is for: a class for an image, one for each of its pixels (segment), or boxes
    around its objects (detect)."""
    head: str | None = None
    """Head over the network, where the task has one: lraspp or deeplab_v3 for segment, ssdlite for
    detect; by default the first."""
    best_by: Metric = "accuracy"
    """Validation metric that selects the best weights; by default accuracy, miou for
    segment, map (COCO's mean average precision) for detect. With --multi-label map is the mean of
    the classes' average precisions."""

    def check_task(self) -> None:
        """Raise InputError for settings that do not apply to the task."""
        facts = FACTS[self.task]
        if self.head is not None:
            if not facts.heads:
                raise InputError(f"--head {self.head} does not apply to --task {self.task}")
            check_choice("--head", self.head, facts.heads)
        if self.best_by not in facts.metrics:
            raise InputError(
                f"--best-by is {self.best_by}; accepted for --task {self.task}: "
                f"{', '.join(facts.metrics)}"
            )
        for field in dataclasses.fields(self):
            if field.name in facts.lacks and getattr(self, field.name) != field.default:
                raise InputError(
                    f"{flag(field.name)} does not apply to --task {self.task}: leave it out"
                )


def task_defaults(task: TaskName, model: str) -> dict[str, Any]:
    """Return the settings of a task where the user gives none.

    A network that detects by itself has no head.

    Raises:
      InputError: a task that cannot be trained yet.
    """
    if task not in FACTS:
        raise InputError(f"--task is {task}; accepted: {', '.join(FACTS)}")
    facts = FACTS[task]
    return {
        "task": task,
        "dataset": facts.dataset,
        "head": _default_head(task, model),
        "best_by": facts.metrics[0],
    }


def _default_head(task: TaskName, model: str) -> str | None:
    heads = FACTS[task].heads
    by_itself = task == "detect" and model in SPECS and SPECS[model].network is BlazeFace
    return None if by_itself or not heads else heads[0]


def settings_of_weights(task: TaskName, model_name: str, options: dict[str, Any]) -> dict[str, Any]:
    """Return the settings that weights to start from imply: the network, and the task's head."""
    if model_name not in HEADS:
        return {"model": model_name, "head": _default_head(task, model_name)}
    head = {"head": model_name} if model_name in FACTS[task].heads else {}
    return {"model": options["backbone"], **head}


def task_of_head(head: str) -> TaskName | None:
    """Return the task that a head is for; None where that cannot be trained."""
    return next((task for task, facts in FACTS.items() if head in facts.heads), None)
