"""The contents of a file of weights, whatever its format."""

import dataclasses
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple, Self

import numpy as np


@dataclasses.dataclass(frozen=True)
class Statements:
    """A file's, or a user's, statements about weights; None and absent fields say nothing.

    Attributes:
      preprocessing: fields of `flaxmobile.preprocessing.Preprocessing`.
      output: activation that turns the network's outputs into its answer, see
        `flaxmobile.outputs`.
      class_names: one per class.
      source: other facts for model.json: name, address, licence.
      unread: layers that prepare images in a way that `preprocessing` cannot express.
      options: of `create_model`, such as norm_epsilon, that no tensor shows.
    """

    preprocessing: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    output: str | None = None
    class_names: tuple[str, ...] | None = None
    source: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    unread: tuple[str, ...] = ()
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def over(self, other: Self) -> Self:
        """Return these statements, and the other's where these say nothing."""
        return type(self)(
            {**other.preprocessing, **self.preprocessing},
            other.output if self.output is None else self.output,
            other.class_names if self.class_names is None else self.class_names,
            {**other.source, **self.source},
            self.unread or other.unread,
            {**other.options, **self.options},
        )


NOTHING_SAID = Statements()


class HeadLayer(NamedTuple):
    """A dense layer, or a 1×1 convolution of pooled features: its name and its activation."""

    name: str
    activation: str


class Head(NamedTuple):
    """The layers that map a network's last feature map to its answer.

    Attributes:
      layers: those with weights, in order.
      obstacle: a layer before or between them that is neither average pooling nor an activation
        alone; empty if there is none.
    """

    layers: tuple[HeadLayer, ...]
    obstacle: str = ""


Naming = Literal["stated", "folded", "numbered", "quantized"]
"""Names of a file's tensors: as in the origin's files; the same, but with normalization folded into
the convolutions; with numbers for the layers, in the order in which they run, also folded; or those
of the origin's quantized networks, see `convert.quantized`."""

FOLDED = "its normalization is folded into the convolutions: the network is for inference"
"""A sentence for the user about a file."""


class Contents(NamedTuple):
    """The contents of a file of weights.

    Attributes:
      tensors: by name.
      said: the file's own statements.
      notes: sentences for the user: where in the file the tensors stand, and what stands beside.
      head: the network's last layers, where the file states them.
      naming: of the tensors.
    """

    tensors: dict[str, np.ndarray]
    said: Statements = NOTHING_SAID
    notes: tuple[str, ...] = ()
    head: Head | None = None
    naming: Naming = "stated"


ARITHMETIC = ("Add", "Div", "Mul", "Sub")
"""Operations of graphs that change the numbers of images."""


def preparations(
    operations: Iterable[tuple[str, Sequence[Hashable], Sequence[Hashable]]],
    images: Iterable[Hashable],
) -> tuple[str, ...]:
    """Return the kinds of arithmetic that a graph does with images before its first layer.

    Args:
      operations: kind, inputs and outputs of those before the layer, in the order of the graph.
      images: the graph's inputs.
    """
    reached, found = set(images), []
    for kind, given, made in operations:
        if reached.intersection(given):
            reached.update(made)
            found += [kind] if kind.capitalize() in ARITHMETIC else []
    return tuple(dict.fromkeys(found))


def is_number(constant: np.ndarray | None, number: float) -> bool:
    """Tell whether a constant of a graph is one number, which halves round."""
    return constant is not None and constant.size == 1 and abs(constant.item() / number - 1) < 1e-3
