"""An ONNX graph under construction: nodes, constants, and the layout of images.

ONNX convolves images [n, c, h, w], and XLA here [n, h, w, c]. Arrays of four or more axes are kept
with axes 1 and 2 at the end ("channels first"), so that a network has one transposition of its
images, and one of each map that it returns.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

Value = str | np.ndarray
"""Name of an array of the graph, channels first; or a constant, in XLA's own layout."""
Rule = Callable[..., Value | list[Value]]
"""What an operation of JAX appends: (graph, operation, *inputs) -> its output or outputs."""


class Rounded(np.ndarray):
    """A kernel whose numbers are integers times the steps of each output channel.

    Attributes:
      steps: float32 [features]; of views, such as transposed kernels, too.
    """

    steps: np.ndarray

    def __array_finalize__(self, source: Any) -> None:
        """Keep the steps."""
        self.steps = getattr(source, "steps", np.zeros(0, np.float32))


def channels_first(rank: int) -> tuple[int, ...]:
    """Return the permutation to channels first: (0, 3, 1, 2) for images; none below four axes."""
    return (0, *range(3, rank), 1, 2) if rank > 3 else tuple(range(rank))


def channels_last(rank: int) -> tuple[int, ...]:
    """Return the permutation from channels first to XLA's layout."""
    return tuple(np.argsort(channels_first(rank)).tolist())


class Graph:
    """Nodes in order, each with one output unless it is said otherwise."""

    def __init__(self) -> None:
        self.nodes: dict[str, Any] = {}
        """First output of a node -> the node."""
        self.constants: dict[str, np.ndarray] = {}

    def add(self, operator: str, *inputs: Value, outputs: int = 1, **attributes: Any) -> Any:
        """Append a node; return the name of its output, or a list of names of several."""
        from onnx import helper

        names = [self.constant(x) if isinstance(x, np.ndarray) else x for x in inputs]
        number = len(self.nodes)
        made = [f"{operator}_{number}{f'_{i}' if i else ''}" for i in range(outputs)]
        self.nodes[made[0]] = helper.make_node(operator, names, made, made[0], **attributes)
        return made[0] if outputs == 1 else made

    def constant(self, array: np.ndarray) -> str:
        """Return the name of a constant, which is stored once."""
        for name, known in self.constants.items():
            if known is array:
                return name
        name = f"constant_{len(self.constants)}"
        self.constants[name] = array
        return name

    def made_by(self, value: Value, operator: str) -> tuple[list[Value], Any] | None:
        """Return inputs and node if the value is the output of such an operator, otherwise None."""
        node = self.nodes.get(value) if isinstance(value, str) else None
        if node is None or node.op_type != operator:
            return None
        return [self.constants.get(name, name) for name in node.input], node

    def transpose(self, value: Value, permutation: Sequence[int]) -> Any:
        """Permute axes; nothing is added where they stay."""
        if list(permutation) == sorted(permutation):
            return value
        return self.add("Transpose", value, perm=list(permutation))

    def keep_only(self, outputs: Iterable[str]) -> None:
        """Drop nodes and constants that no output needs."""
        wanted = set(outputs)
        for first, node in reversed(list(self.nodes.items())):
            if wanted.isdisjoint(node.output):
                del self.nodes[first]
            else:
                wanted.update(node.input)
        self.constants = {k: v for k, v in self.constants.items() if k in wanted}


def attributes(node: Any) -> dict[str, Any]:
    """Return the attributes of a node, as `Graph.add` takes them."""
    from onnx import helper

    return {each.name: helper.get_attribute_value(each) for each in node.attribute}
