"""Settings of a run, as its config.json keeps them."""

import dataclasses
from typing import Annotated, Any, Literal, Self

import tyro

from flaxmobile.buckets import check_url, is_url
from flaxmobile.command.options import read_options
from flaxmobile.errors import InputError, check_flags, flag
from flaxmobile.tasks import build
from flaxmobile.trees import as_tuples
from train.data.settings import DataSettings
from train.hosts import HostSettings
from train.optimization import OptimizationSettings
from train.recipes import list_recipes
from train.slices import PlanSettings
from train.task_settings import FACTS, TaskSettings
from train.tracking import Tracker, check_tracker

OF_ONE_CALL = (
    "output", "resume", "eval_only", "plan", "plan_slices", "plan_batch", "coordinator",
    "process_count", "process_index", "profile",
)  # fmt: skip
"""Settings of a single call, which a run does not keep."""

_RECIPE_HELP = (
    "Published settings to start from, and their network; other flags override them. With another "
    "--batch-size the learning rate changes in proportion, and a number of steps inversely. "
    f"By default that of the embedded data.\n{list_recipes()}\n"
)


@dataclasses.dataclass(frozen=True)
class Config(TaskSettings, DataSettings, OptimizationSettings, HostSettings, PlanSettings):
    """Train a network.

    Without other flags it trains on the embedded handwritten digits.

    Examples:
      python -m train --model v2 --alpha 1.4
      python -m train --dataset folder:photos --init-from timm:mobilenetv3_large_100.ra_in1k
      python -m train --task detect --dataset folder:boxes --output runs/boxes
      python -m train --output runs/boxes --resume
    """

    model: str = "mobilenet_v2"
    """Name or alias of the network, or of the one under the head; `flaxmobile list` shows them."""
    alpha: float | None = None
    """Width multiplier; by default that of the weights in --init-from, or the network's."""
    options: tuple[str, ...] = ()
    """More options of the network, such as groups=8 or aux_logits=true."""
    output: str | None = None
    """Directory of the run, or gs://BUCKET/RUN; by default runs/<model>-<dataset>-<time>."""
    image_size: int | None = None
    """Height and width of the input in pixels; by default the dataset's (digits: 64) or the
    network's, but at least the network's minimum."""
    recipe: Annotated[str | None, tyro.conf.arg(help=_RECIPE_HELP)] = None
    batch_size: int = 128
    """Images per step over all devices."""
    epochs: int = 90
    """Passes over the training images."""
    steps: int | None = None
    """Number of steps; overrides --epochs."""
    dropout_rate: float | None = None
    """Dropout before the classifier; by default the network's."""
    drop_path_rate: float | None = None
    """Stochastic depth (MobileNet V3 and V4): block i of n, from 0, is skipped for the fraction
    RATE * i / n of the images, where it has a shortcut (timm's schedule)."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Type of the arithmetic; parameters are float32."""
    remat: bool = False
    """Recompute blocks in the backward pass instead of saving their activations. MobileNetV2 on a
    TPU then needs 0.6 times the memory, 0.9 times the memory traffic and 1.3 times the
    operations."""
    parallel: Literal["jit", "pmap"] = "jit"
    """How the batch is sharded: jit over a mesh of all devices, or pmap."""
    seed: int = 0
    """Seed of the initial weights, the order of the data, augmentation and dropout."""
    init_from: str | None = None
    """Weights directory to start from, or published weights such as timm:mobilenetv2_100.ra_in1k;
    if the classes differ, the classifier is reinitialized."""
    quantize: Literal["int8"] | None = None
    """Quantization-aware training: fine-tune the weights of --init-from with the rounding of the
    int8 model; their normalization is folded. `flaxmobile export --quantize int8` then needs no
    calibration."""
    freeze_backbone: bool = False
    """Train only the classifier."""
    resume: bool = False
    """Continue the run in --output from its newest checkpoint, with its settings. If there is no
    run yet, begin one, so that a restarted job can repeat its command."""
    eval_only: bool = False
    """Evaluate the weights of --init-from, or the best ones of the run in --output, and stop."""
    workers: int | None = None
    """Processes that load images; 0 uses threads instead. By default 0 for digits, scenes and idx,
    and on up to two cores; otherwise one per core, at most 16."""
    on_bad_image: Literal["error", "skip"] = "error"
    """What to do with a file that cannot be read: stop and name it, or skip it and report how
    many."""
    log_every: int = 10
    """Steps between two lines of metrics.jsonl."""
    track: Tracker | None = None
    """Send the numbers of metrics.jsonl to an experiment tracker as well: Weights & Biases or
    Trackio."""
    profile: int | None = None
    """Number of steps to trace, into profile/ of the run."""
    skip_nonfinite: int = 0
    """Steps in a row that may be skipped because their loss or a gradient is not finite, before the
    run stops."""
    patience: int | None = None
    """Epochs without a better validation after which the run ends; by default it does not."""
    keep: int = 2
    """Newest checkpoints to keep, beside that of the best validation."""
    checkpoint_every: int = 1000
    """Steps between checkpoints within an epoch; each epoch ends with one too."""

    def check(self) -> None:
        """Raise InputError for a value that is wrong for any data and devices."""
        accepted = {
            "batch_size": (self.batch_size >= 1, "1 and more"),
            "epochs": (self.epochs >= 1, "1 and more"),
            "steps": (self.steps is None or self.steps >= 1, "1 and more"),
            "skip_nonfinite": (self.skip_nonfinite >= 0, "0 and more"),
            "patience": (self.patience is None or self.patience >= 1, "1 and more"),
            "keep": (self.keep >= 1, "1 and more"),
            "profile": (self.profile is None or self.profile >= 1, "1 and more"),
            "workers": (self.workers is None or self.workers >= 0, "0 and more"),
            "log_every": (self.log_every >= 1, "1 and more"),
            "checkpoint_every": (self.checkpoint_every >= 1, "1 and more"),
            "seed": (0 <= self.seed < 2**32, "0 to 4294967295"),
        }
        check_flags(self, accepted)
        self.check_hosts()
        self.check_plan(self.dataset)
        self.check_data()
        self.check_optimization()
        self.check_task()
        network = build(self.network, **self.network_options)
        least = network.min_image_size
        for name in ("image_size", "train_size"):
            size = getattr(self, name)
            if size is not None and size < least:
                raise InputError(f"{flag(name)} is {size}; {self.model} needs {least} or more")
        if self.freeze_backbone and not self.weights:
            who = "--recipe finetune" if self.recipe == "finetune" else "--freeze-backbone"
            raise InputError(f"{who} needs --init-from: there is no trained backbone yet")
        if self.quantize:
            self._check_quantize()
        if self.eval_only and not self.weights:
            raise InputError("--eval-only needs --init-from WEIGHTS, or --output RUN")
        if self.task == "classify" and self.best_by == "map" and not self.multi_label:
            raise InputError("--best-by map needs --multi-label")
        if self.track:
            check_tracker(self.track)
        if self.output and is_url(self.output):
            check_url(self.output)
        if self.resume and not self.output:
            raise InputError("--resume needs --output: the directory of the run to continue")

    def _check_quantize(self) -> None:
        if not self.weights:
            raise InputError("--quantize needs --init-from: trained weights, whose rounding is new")
        if self.task != "classify":
            raise InputError(f"--quantize is for --task classify, not {self.task}")
        if self.freeze_backbone:
            raise InputError("--quantize trains all layers: leave out --freeze-backbone")
        if self.parallel == "pmap":
            raise InputError("--quantize needs --parallel jit: ranges are those of a whole batch")

    @property
    def network_options(self) -> dict[str, Any]:
        """Options of `flaxmobile.tasks.build` from the flags."""
        # In evaluation model.json says whether the network is quantized.
        quantized = True if self.quantize and not self.eval_only else None
        return read_options(
            self.options,
            backbone=self.model if self.head else None,
            detector=True if self.task == "detect" and not self.head else None,
            alpha=self.alpha,
            dropout_rate=self.dropout_rate,
            drop_path_rate=self.drop_path_rate,
            folded=quantized,
            quantized=quantized,
            given_steps=False if quantized else None,
        )

    @property
    def network(self) -> str:
        """Name of the network in model.json: that of its head, if it has one."""
        return self.head or self.model

    @property
    def metric(self) -> str:
        """The validation result that is shown beside the loss."""
        return FACTS[self.task].metrics[0]

    @property
    def weights(self) -> str | None:
        """Weights directory to start from, or the best one of the run to evaluate."""
        if self.init_from is None and self.eval_only and self.output:
            return f"{self.output.rstrip('/')}/best"
        return self.init_from

    def to_json(self) -> dict[str, Any]:
        """Return plain values, without those of a single call."""
        return {k: v for k, v in dataclasses.asdict(self).items() if k not in OF_ONE_CALL}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Self:
        """Build the settings from the values of `to_json`."""
        return cls(**{name: as_tuples(value) for name, value in values.items()})
