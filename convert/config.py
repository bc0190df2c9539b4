"""The command line of `python -m convert`."""

import dataclasses
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from tyro.conf import FlagCreatePairsOff

from convert.choices import HEADLESS
from convert.facts import read_class_names
from convert.formats.contents import Statements
from convert.published.fetching import scheme_of
from convert.sources import Selection
from flaxmobile.command.options import read_options
from flaxmobile.errors import InputError
from flaxmobile.registry import create_model
from flaxmobile.tasks import HEADS

_SUFFIXES = {
    "torch": (".pth", ".pt", ".safetensors"),
    "keras": (".weights.h5", ".keras", ".h5"),
}
"""Library -> suffixes of its files."""


@dataclasses.dataclass(frozen=True)
class Config:
    """Convert reference weights to a weights directory, or with --to-torch or --to-keras back.

    Examples:
      python -m convert --model v2 --weights mobilenet_v2.pth --output weights/v2
      python -m convert --weights torchvision:mobilenet_v2 --output weights/v2 --verify cat.jpg
      python -m convert --weights weights/v2 --output v2.safetensors --to-torch
    """

    weights: Path
    """File of reference weights, or torchvision:NAME, timm:NAME, keras:NAME, mediapipe:NAME or
    hf:OWNER/REPOSITORY[@REVISION] to fetch published ones, which `flaxmobile list --pretrained`
    shows; with --to-torch or --to-keras a weights directory."""
    output: Path
    """Weights directory to write; with --to-torch a .pth or .safetensors file, with --to-keras
    .weights.h5, .keras or .h5."""
    model: str | None = None
    """Name or alias of the network, which published weights say themselves; `flaxmobile list` shows
    them."""
    source: Literal[
        "auto",
        "torchvision",
        "timm",
        "timm-tf",
        "keras",
        "authors",
        "fid",
        "transformers",
        "ports",
        "slim",
        "mediapipe",
    ] = "auto"
    """Origin of the file; auto recognises it by the names of the tensors."""
    alpha: float | None = None
    """Width multiplier: checked against the file's; for torchvision:IMAGENET1K_V1, the width to
    fetch."""
    classifier: Annotated[
        bool, FlagCreatePairsOff, tyro.conf.arg(help_behavior_hint="(default: keep it)")
    ] = True
    """Write a backbone and leave out the file's head, whatever it is."""
    options: tuple[str, ...] = ()
    """Options that override those of the file's network, such as aux_logits=false."""
    image_size: int | None = None
    """Side of the square image in pixels, where neither the file nor its publisher says it."""
    resize_size: int | None = None
    """Length of the shorter side before the crop; by default in the proportion of the origin's."""
    mean: tuple[float, ...] = ()
    """Mean of pixels in 0..1: one number, or one per channel. 0.5 with --std 0.5 gives -1..1."""
    std: tuple[float, ...] = ()
    """Standard deviation of pixels in 0..1: one number, or one per channel."""
    interpolation: Literal["bilinear", "bicubic", "nearest"] | None = None
    """How images are resized."""
    class_names: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Names of the classes in order: one a line, or JSON, a list or {"0": name, …}."""
    output_activation: Literal["auto", "softmax", "sigmoid", "none"] = "auto"
    """Activation of the answer: softmax, sigmoid (one class, or several labels an image), or none;
    auto is the file's, otherwise softmax, or sigmoid for one class."""
    weights_key: str | None = None
    """Place of the state dict in a torch checkpoint, such as model_ema; dots for nested ones."""
    prefix: str | None = None
    """Beginning of the network's names, such as backbone, where it cannot be found; tensors of
    other names are left out."""
    allow_narrowing: Annotated[bool, FlagCreatePairsOff] = False
    """Round float64 to float32; without it only numbers that stay the same are accepted."""
    report: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Text file to write: how every tensor was used, or all that is wrong with the file."""
    verify: Annotated[
        tyro.conf.UseAppendAction[tuple[Path, ...]], tyro.conf.arg(metavar="IMAGE|DIR")
    ] = ()
    """Run the origin's network and this one on an image, or on all images of a directory, and write
    nothing unless their logits, and a detector's offsets, agree. May be repeated. Needs the
    origin's library."""
    to_torch: Annotated[bool, FlagCreatePairsOff] = False
    """Write a torch state dict instead."""
    to_keras: Annotated[bool, FlagCreatePairsOff] = False
    """Write Keras's weights instead: .weights.h5 for Keras 3, .h5 for Keras 2, or .keras, the whole
    model, which needs Keras."""

    @property
    def library(self) -> str | None:
        """The library that gets a file of its own, if any."""
        return "torch" if self.to_torch else "keras" if self.to_keras else None

    @property
    def chosen(self) -> dict[str, Any]:
        """Options that override those of the file's network."""
        options = read_options(self.options, alpha=self.alpha)
        return options if self.classifier else {**options, **HEADLESS}

    @property
    def stated(self) -> Statements:
        """The user's statements about the weights."""
        fields = {
            "image_size": self.image_size,
            "resize_size": self.resize_size,
            "mean": _per_channel("--mean", self.mean),
            "std": _per_channel("--std", self.std),
            "interpolation": self.interpolation,
        }
        return Statements(
            {name: value for name, value in fields.items() if value is not None},
            None if self.output_activation == "auto" else self.output_activation,
            None if self.class_names is None else read_class_names(self.class_names),
        )

    @property
    def selection(self) -> Selection:
        """The user's word on which tensors of the file are meant."""
        return Selection(self.weights_key, self.prefix, self.allow_narrowing)

    def check(self) -> None:
        """Raise InputError for values that are not accepted, alone or together."""
        if library := self.library:
            if self.to_torch and self.to_keras:
                raise InputError("--to-torch and --to-keras write different files: choose one")
            if excess := [flag for flag in _FORWARD_ONLY if getattr(self, flag) != _DEFAULTS[flag]]:
                names = ", ".join("--" + flag.replace("_", "-") for flag in excess)
                raise InputError(
                    f"--to-{library} reads network and preprocessing from --weights and verifies "
                    f"nothing: leave out {names.replace('--classifier', '--no-classifier')}"
                )
            if not self.output.name.endswith(_SUFFIXES[library]):
                raise InputError(
                    f"--output is {self.output}; with --to-{library} accepted: a file name in "
                    f"{', '.join(_SUFFIXES[library])}"
                )
            return
        scheme = scheme_of(self.weights)
        if self.model is None and scheme is None:
            raise InputError("--model is missing: the name of the network whose weights these are")
        if self.verify and not self.classifier:
            raise InputError("--verify compares logits, which --no-classifier leaves out")
        if self.class_names and not self.classifier:
            raise InputError("--class-names names classes, which --no-classifier leaves out")
        given = read_options(self.options, alpha=self.alpha)
        if given.get("num_classes", 1) == 0:
            raise InputError("use --no-classifier instead of --options num_classes=0")
        if self.model is not None and self.model not in HEADS:  # a head's backbone is the file's
            create_model(self.model, **given)
        if scheme not in (None, "hf") and not self.source.startswith(("auto", str(scheme))):
            raise InputError(f"--source is {self.source}, --weights {self.weights}: leave one out")


_BOTH_WAYS = ("weights", "output", "source", "to_torch", "to_keras")
_DEFAULTS = {field.name: field.default for field in dataclasses.fields(Config)}
_FORWARD_ONLY = [name for name in _DEFAULTS if name not in _BOTH_WAYS]


def _per_channel(flag: str, numbers: tuple[float, ...]) -> tuple[float, ...] | None:
    if len(numbers) not in (0, 1, 3):
        raise InputError(f"{flag} has {len(numbers)} numbers; accepted: 1, or 3 (one per channel)")
    return (numbers * 3)[:3] or None
