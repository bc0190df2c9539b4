"""Layouts: each framework's names and axes, shared by every origin that uses it."""

import re
from collections.abc import Mapping
from typing import NamedTuple


class Counter(NamedTuple):
    """An integer that a framework stores beside a tensor and that our networks do not have."""

    name: str
    beside: str
    reason: str
    """The reason to ignore it."""


class Layout(NamedTuple):
    """A framework's names and axes.

    Attributes:
      leaves: our collection and leaf -> its name, in the order in which it lists a layer's tensors;
        "params/norm/bias" is for modules that are called norm.
      axes: rank of our array -> permutation so that `origin.transpose(axes[rank])` is ours.
      counter: ignored when read, 0 when written.
      may_be_inside: names may have a prefix, as where the network is part of something larger.
      may_be_part: names may lack their beginning, as where a module inside the network was saved.
      separator: between the name of a layer and that of its tensor.
      depthwise_axes: of depthwise kernels, where they differ from those of other kernels.
      splits_depthwise: depthwise kernels are [kh, kw, in, out / in], not [kh, kw, 1, out].
      ignored: patterns of names that are in no network -> why they may be ignored.
    """

    leaves: Mapping[str, str]
    axes: Mapping[int, tuple[int, ...]]
    counter: Counter | None = None
    may_be_inside: bool = False
    may_be_part: bool = False
    separator: str = "."
    depthwise_axes: tuple[int, ...] | None = None
    splits_depthwise: bool = False
    ignored: Mapping[str, str] = {}

    def kind_of(self, module: str, kind: str) -> str:
        """Return the key of `leaves` for a leaf of a module."""
        collection, _, leaf = kind.rpartition("/")
        own = f"{collection}/{module.rpartition('/')[2]}/{leaf}"
        return own if own in self.leaves else kind

    def reason_to_ignore(self, name: str) -> str | None:
        """Return the reason to ignore a tensor; None where it may not be ignored."""
        return next((why for how, why in self.ignored.items() if re.search(how, name)), None)

    def splits(self, module: str) -> bool:
        """Tell whether a module of ours has a kernel that is split, see `splits_depthwise`."""
        names = module.split("/")
        return self.splits_depthwise and any(name.endswith("depthwise") for name in names)

    def axes_of(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Permutation that brings the origin's tensor into our axis order, given our shape."""
        depthwise = len(shape) == 4 and shape[2] == 1
        if depthwise and self.depthwise_axes is not None:
            return self.depthwise_axes
        return self.axes[len(shape)]

    def split(self, name: str) -> tuple[str, str]:
        """Split a tensor's name into that of its layer and its own."""
        layer, _, tensor = name.rpartition(self.separator)
        return layer, tensor

    def join(self, layer: str, tensor: str) -> str:
        """Undo `split`."""
        return f"{layer}{self.separator}{tensor}"

    def counter_beside(self, name: str) -> str | None:
        """Return the name of the counter beside a tensor, if it has one."""
        layer, tensor = self.split(name)
        if self.counter is None or tensor != self.counter.beside:
            return None
        return self.join(layer, self.counter.name)


TORCH = Layout(
    leaves={
        "params/kernel": "weight",
        "params/scale": "weight",
        "params/bias": "bias",
        "batch_stats/mean": "running_mean",
        "batch_stats/var": "running_var",
    },
    axes={
        4: (2, 3, 1, 0),  # [out, in / groups, kh, kw] -> [kh, kw, in / groups, out]
        2: (1, 0),  # [out, in] -> [in, out]
        1: (0,),
    },
    counter=Counter(
        "num_batches_tracked",
        beside="running_var",
        reason="BatchNorm's step counter, which a fixed momentum does not use",
    ),
    may_be_inside=True,
    may_be_part=True,
    ignored={
        r"(^|\.)total_(ops|params)$": "thop's counts of operations and parameters",
        r"(^|\.)n_averaged$": "the number of networks in an average",
        r"^(criterion|loss|loss_fn|loss_func)\.": "the loss's own tensors",
        r"(^|[._])(acc|accuracy|auroc|f1|metrics?|confmat|precision|recall)(_?\d+)?\.\w+$": (
            "a metric's counts"
        ),
    },
)

_TRAINED = {
    r"\.scale_activation\.": "the range of a gate, which is always the same",
    r"\.(activation_post_process|weight_fake_quant)\.": "the observers of its training",
    r"\.bn\.num_batches_tracked$": "BatchNorm's step counter",
    r"\.(scale|zero_point)$": "ranges of sums that the network does not compute",
}
QUANTIZED = TORCH._replace(
    leaves={
        "params/kernel": "weight",
        "params/bias": "bias",
        "batch_stats/kernel_steps": "steps",
        "batch_stats/least": "least",
        "batch_stats/most": "most",
    },
    axes={**TORCH.axes, 0: ()},
    ignored={**TORCH.ignored, **_TRAINED},
)
"""The names that `convert.quantized` gives."""
WITHOUT_RANGES = TORCH._replace(
    ignored={
        **TORCH.ignored,
        **_TRAINED,
        r"\.(least|most|steps)$": "steps and ranges of the quantized network",
    },
)
"""The same, for the float network of the same kernels."""

TFLITE = Layout(
    leaves={"params/kernel": "Kernel", "params/bias": "Bias"},
    axes={4: (1, 2, 3, 0), 1: (0,)},  # [out, kh, kw, in] -> [kh, kw, in, out]
    depthwise_axes=(1, 2, 0, 3),  # [1, kh, kw, out] -> [kh, kw, 1, out]
    separator="/",
)
"""The names that Keras's layers have in MediaPipe's TFLite files."""

KERAS = Layout(
    leaves={
        "params/kernel": "kernel",
        "params/bias": "bias",
        "params/scale": "gamma",
        "params/norm/bias": "beta",
        "batch_stats/mean": "moving_mean",
        "batch_stats/var": "moving_variance",
    },
    axes={rank: tuple(range(rank)) for rank in (1, 2, 4)},
    separator="/",
    splits_depthwise=True,
    ignored={
        r"^optimizer(_weights)?/": "the optimizer's state",
        r"\bseed_generator/": "the state of dropout's random numbers",
    },
)
"""The names that `convert.formats.keras` gives."""

SLIM = Layout(
    leaves={
        "params/kernel": "weights",
        "params/bias": "biases",
        "params/scale": "gamma",
        "params/norm/bias": "beta",
        "batch_stats/mean": "moving_mean",
        "batch_stats/var": "moving_variance",
    },
    axes=KERAS.axes,
    may_be_inside=True,
    separator="/",
    splits_depthwise=True,
    ignored={
        r"^global_step$": "the number of steps",
        r"/(Momentum|RMSProp(_1)?|Adam(_1)?)$|^beta[12]_power$": "the optimizer's state",
    },
)
"""The names that TF-slim's layers have in checkpoints, as `convert.formats.tf_checkpoint` reads
them."""
