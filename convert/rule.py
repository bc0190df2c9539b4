"""Rules: how an origin stores a network, as data that is read in both directions."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from convert.class_names import imagenet_names
from convert.layouts import Layout
from flaxmobile.layers import Model, ScaledNetwork
from flaxmobile.preprocessing import Preprocessing
from flaxmobile.tasks import build, head_name

Options = Mapping[str, Any]
"""Options of `flaxmobile.tasks.build`."""
NO_OPTIONS: Options = MappingProxyType({})
Names = Iterable[tuple[str, str]]
"""Pairs of our path of a module and the origin's name of it."""
Modules = Callable[[Any], Names]
"""A Flax network -> the names of its modules."""


class Published(NamedTuple):
    """A file of weights that an origin publishes.

    Attributes:
      name: publisher and its own name, such as "torchvision:mobilenet_v2.IMAGENET1K_V2".
      preprocessing: the origin's preset for evaluation.
      licence: of the weights, by its SPDX name.
      params: number of the network's parameters.
      url: address of the file.
      repository: on the Hugging Face Hub, if the file is there.
      sha256: of the file at `url`, or its first digits; "" where the publisher does not say it.
      md5: of that file; "" where the publisher does not say it.
      alpha: width of the network.
      top1: ImageNet accuracy in percent, where the publisher's library says it.
      top1_source: where it says so.
    """

    name: str
    preprocessing: Preprocessing
    licence: str
    params: int
    url: str = ""
    repository: str = ""
    sha256: str = ""
    md5: str = ""
    alpha: float = 1.0
    top1: float | None = None
    top1_source: str = ""

    @property
    def source(self) -> dict[str, str]:
        """Facts for model.json."""
        library = self.name.partition(":")[0]
        licence = f"{self.licence} ({library}); the training data may add terms"
        places = {"url": self.url, "repository": self.repository}
        known = {key: place for key, place in places.items() if place}
        return {"weights": self.name, **known, "licence": licence}


def _multiplier_1(model: Model) -> int:
    return 1


class Parts(NamedTuple):
    """Kernels that an origin stores in parts along the output channels: `convert.parts`.

    Attributes:
      name: of the list of parts in a layer.
      sizes: model -> our path of a module -> channels of its parts.
      hint: end of a sentence for files whose parts have other sizes.
    """

    name: str
    sizes: Callable[[Any], Mapping[str, tuple[int, ...]]]
    hint: str


class Ranges(NamedTuple):
    """How an origin stores the network where it is quantized.

    Attributes:
      names: model -> our path of each range, and the origin's name of what has it; several of ours
        may be one of the origin's.
      options: of `create_model` in which the quantized network differs from the other.
      constants: as in `Rule`.
    """

    names: Modules
    options: Options = NO_OPTIONS
    constants: Mapping[str, float] = {}


_FREE = {
    *(each.name for each in dataclasses.fields(ScaledNetwork)),
    *("split", "pattern", "drop_path_rate", "aux_dropout_rate"),
} - {"padding", "norm_epsilon", "output_stride", "folded"}
"""Options at any value of which an origin has the network, unless its rule says one."""


class Rule(NamedTuple):
    """Names, axes and options of a Flax network in an origin's files.

    Facts that depend on the network's options are functions of the network, `model`.

    Attributes:
      network: class of our network.
      layout: of the origin's framework.
      modules: model -> the names of all modules, in the origin's order, such as
        ("stage3_block2/expand/conv", "features.5.conv.0.0").
      preprocessing: the origin's preset for files that it did not publish.
      own_options: of `create_model`, under which our outputs are the origin's, where they are not
        the network's defaults.
      other_names: the same modules under other names, which some of the origin's files have.
      variants: options in which the origin's files differ, told apart by names and widths; the
        first is the origin's default.
      widths: model -> our path of a module -> its output channels, for modules that tell one width
        from another; None where the network has no `alpha` above 0 of the user's choice.
      published: files that the origin publishes, the one that its library takes by default first.
      about: facts about all files of the origin, such as its repository.
      class_names: number of classes -> their names, where it is ImageNet's.
      image_size: model -> side of the whole image in pixels, where the origin's networks differ in
        it.
      version: of the torch module, which torchvision's MNASNet insists on.
      as_convolutions: our paths of dense layers that the origin stores as 1×1 convolutions.
      constants: our collection and leaf, or with the module's name between them, or the path of one
        variable -> its value, where the origin's network has no such parameter.
      removable: our layers before the classifier that users replace together with it -> the option
        that leaves each out.
      depth_multiplier: model -> output channels for each input channel of depthwise kernels.
      num_classes: of all of the origin's files, where that tells it from another of the same names.
      classifier: our path of the layer whose channels are the classes, and how many it has for
        each class; None for the last of the network's `heads`, which has one.
      asked: options that no tensor shows, and that differ among the origin's own files -> who has
        which; the user says them for a file that is not a published one.
      parts: of kernels that the origin divides; None where it divides none.
      ranges: of the origin's quantized files; None where it has none, or where its network rounds
        in other places than ours.
      prepare: turns a file's tensors into those that the rule names.
      note: a sentence for the user about files that are read by the rule.
    """

    network: type[Model]
    layout: Layout
    modules: Modules
    preprocessing: Preprocessing
    own_options: Options = NO_OPTIONS
    other_names: Sequence[Modules] = ()
    variants: Sequence[Options] = ({},)
    widths: Callable[[Any], Mapping[str, int]] | None = None
    published: Sequence[Published] = ()
    about: Mapping[str, str] = {}
    class_names: Callable[[int], tuple[str, ...] | None] = imagenet_names
    image_size: Callable[[Any], int] | None = None
    version: int = 1
    as_convolutions: Sequence[str] = ()
    constants: Mapping[str, float] = {}
    removable: Mapping[str, str] = {}
    depth_multiplier: Callable[[Any], int] = _multiplier_1
    num_classes: int | None = None
    classifier: tuple[str, int] | None = None
    asked: Mapping[str, str] = {}
    parts: Parts | None = None
    ranges: Ranges | None = None
    prepare: Callable[[Mapping[str, np.ndarray]], Mapping[str, np.ndarray]] | None = None
    note: str = ""

    @property
    def options(self) -> Options:
        """Options of `create_model` that all of the origin's networks have."""
        defaults = {
            each.name: each.default
            for each in dataclasses.fields(self.network)
            if each.name not in _FREE and each.default is not dataclasses.MISSING
        }
        options = {**defaults, **self.own_options}
        silent = ("norm_epsilon", "norm_momentum") if options["folded"] else ()
        return {name: options[name] for name in options if name not in silent}

    def make(self, **options: Any) -> Any:
        """Build the network with these options."""
        name = head_name(self.network)
        return self.network(**options) if name is None else build(name, **options)

    def folded(self) -> "Rule":
        """Return the rule for files in which normalization is folded into the convolutions."""

        def without(modules: Modules) -> Modules:
            return lambda model: (pair for pair in modules(model) if not pair[0].endswith("/norm"))

        return self._replace(
            own_options={**self.own_options, "folded": True},
            modules=without(self.modules),
            other_names=[without(each) for each in self.other_names],
        )

    def numbered(self, layout: Layout) -> "Rule":
        """Return the rule for files with numbers for names, in a layout, of networks in a row."""
        folded = self.folded()

        def numbers(model: Model) -> Names:
            return ((ours, str(number)) for number, (ours, _) in enumerate(folded.modules(model)))

        return folded._replace(modules=numbers, other_names=(), layout=layout)

    def find_published(self, sha256: str) -> Published | None:
        """Return the published file of that SHA-256, if the rule knows it."""
        known = (each for each in self.published if each.sha256)
        return next((each for each in known if sha256.startswith(each.sha256)), None)

    def preset(self, model: Model) -> Preprocessing:
        """Return the origin's preset for a network whose file it did not publish."""
        if self.image_size is None:
            return self.preprocessing
        size = self.image_size(model)
        return dataclasses.replace(self.preprocessing, image_size=size, resize_size=size)
