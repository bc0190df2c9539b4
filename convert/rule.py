"""What a rule is: how an origin stores a network, as data that is read both ways."""

import dataclasses
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from flaxmobile.preprocessing import Preprocessing

Options = Mapping[str, Any]
"""Of `flaxmobile.create_model`."""
Modules = Callable[[Options], Iterable[tuple[str, str]]]
"""Options of the network -> pairs of our path of a module and its name."""


class Counter(NamedTuple):
    """An integer that a framework keeps beside a tensor and that our networks do not have."""

    name: str
    beside: str
    reason: str
    """Why it may be ignored."""


class Layout(NamedTuple):
    """A framework's names and axes.

    Attributes:
      leaves: our collection and leaf -> its name, in the order in which it lists a layer's tensors;
        "params/norm/bias" is for modules that are called norm.
      axes: rank -> its axes in our order, so that `theirs.transpose(axes[rank])` is ours.
      counter: ignored when read, 0 when written.
      wrapper: what a wrapper of the whole network puts before every name.
      separator: between the name of a layer and that of its tensor.
      depthwise_axes: of depthwise kernels, where they differ from those of other kernels.
      splits_depthwise: depthwise kernels are [kh, kw, in, out / in], not [kh, kw, 1, out].
      ignored: patterns of names that are in no network -> why they may be ignored.
    """

    leaves: Mapping[str, str]
    axes: Mapping[int, tuple[int, ...]]
    counter: Counter | None = None
    wrapper: str = ""
    separator: str = "."
    depthwise_axes: tuple[int, ...] | None = None
    splits_depthwise: bool = False
    ignored: Mapping[str, str] = {}

    def kind_of(self, module: str, kind: str) -> str:
        """The key of `leaves` for a leaf of a module."""
        collection, _, leaf = kind.rpartition("/")
        own = f"{collection}/{module.rpartition('/')[2]}/{leaf}"
        return own if own in self.leaves else kind

    def reason_to_ignore(self, name: str) -> str | None:
        """Why a tensor may be ignored, if it may."""
        return next((why for how, why in self.ignored.items() if re.search(how, name)), None)

    def axes_of(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Its axes in our order, of a tensor whose shape is ours: kernels are [kh, kw, in, out]."""
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


class Facts(NamedTuple):
    """What an origin says about a file of its weights.

    Attributes:
      preprocessing: how it prepares images for them.
      class_names: one per class, where it names them.
      source: whatever else is known: published name, address, licence.
    """

    preprocessing: Preprocessing
    class_names: tuple[str, ...] | None
    source: Mapping[str, Any]


class Rule(NamedTuple):
    """How an origin stores a network.

    Attributes:
      layout: of its framework.
      modules: the names of all modules, in the origin's order, such as
        ("stage3_block2/expand/conv", "features.5.conv.0.0").
      other_names: the same under other names, which some of the origin's files have.
      options: of `create_model`, under which our outputs are the origin's.
      facts: (SHA-256 of a file, its number of classes) -> what is known about it.
      widths: options -> our path of a module -> its output channels, for modules that tell one
        width from another; None where the network has no `alpha` above 0 of the user's choice.
      variants: options that the origin's files differ in, told apart by names and widths; the first
        is the origin's default.
      version: of the torch module, which torchvision's MNASNet insists on.
      as_convolutions: our paths of dense layers that the origin stores as 1×1 convolutions.
      image_size: options -> side of the whole image in pixels, where its networks differ in it.
      constants: our collection and leaf -> its value in all modules, where the origin's network has
        no such parameter.
    """

    layout: Layout
    modules: Modules
    options: Options
    facts: Callable[[str, int], Facts]
    widths: Callable[[Options], Mapping[str, int]] | None = None
    variants: Sequence[Options] = ({},)
    as_convolutions: Sequence[str] = ()
    version: int = 1
    other_names: Sequence[Modules] = ()
    constants: Mapping[str, float] = {}
    image_size: Callable[[Options], int] | None = None

    def sized(self, facts: Facts, options: Options) -> Facts:
        """The facts about a file whose network has these options."""
        if self.image_size is None:
            return facts
        size = self.image_size(options)
        preprocessing = dataclasses.replace(facts.preprocessing, image_size=size, resize_size=size)
        return facts._replace(preprocessing=preprocessing)
