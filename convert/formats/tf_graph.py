"""TensorFlow's frozen graphs: the variables that became constants, by name.

Sources: `graph.proto`, `node_def.proto`, `attr_value.proto` and `tensor.proto` of TensorFlow.
`freeze_graph` makes variables constants, and leaves the nodes that read them.
"""

import math
import re
from pathlib import Path
from typing import NamedTuple

import numpy as np

from convert.formats.contents import Contents
from convert.formats.tf_checkpoint import DTYPES, read_shape, with_one_word_for_kernels
from convert.formats.wire import as_bytes, bytes_of, number_of, read_fields
from flaxmobile.errors import InputError

_START = re.compile(rb"\x0a.{1,3}\x0a", re.DOTALL)
"""The first node, and its name."""
_READ = re.compile(r"/read$|/ReadVariableOp(_\d+)?$")
"""End of the name of a node that reads a variable."""
_NODE = 1
_ACCEPTED = "accepted: a frozen graph with variables that freeze_graph made constants"


class _Node(NamedTuple):
    """A node of a graph: its name and operation, the names of its inputs, and its constant."""

    name: str
    operation: str
    inputs: tuple[str, ...]
    constant: bytes


def is_start_of_graph(head: bytes) -> bool:
    """Tell whether a file begins as serialized graphs do."""
    return _START.match(head) is not None


def read_graph(path: Path) -> Contents:
    """Read the variables of a frozen graph.

    Raises:
      InputError: the file is damaged, or has no such variables.
    """
    try:
        graph = read_fields(path.read_bytes())
        nodes = [_node(as_bytes(value)) for number, value in graph if number == _NODE]
        read = {
            node.inputs[0]
            for node in nodes
            if node.operation == "Identity" and _READ.search(node.name)
        }
        tensors = {
            node.name: _tensor(node.constant)
            for node in nodes
            if node.operation == "Const" and node.name in read
        }
    except (ArithmeticError, LookupError, TypeError, ValueError):
        raise InputError(f"{path} is damaged, or no graph of TensorFlow; {_ACCEPTED}") from None
    if not tensors:
        raise InputError(f"{path} is a graph without variables; {_ACCEPTED}")
    return Contents(with_one_word_for_kernels(tensors))


def _node(message: bytes) -> _Node:
    """Decode a `NodeDef`."""
    fields = list(read_fields(message))
    name, operation = (bytes_of(dict(fields), place).decode() for place in (1, 2))
    inputs = tuple(as_bytes(value).decode() for number, value in fields if number == 3)
    attributes = [dict(read_fields(as_bytes(value))) for n, value in fields if n == 5]
    values = (bytes_of(each, 2) for each in attributes if bytes_of(each, 1) == b"value")
    return _Node(name, operation, inputs, bytes_of(dict(read_fields(next(values, b""))), 8))


def _tensor(message: bytes) -> np.ndarray:
    """Decode a `TensorProto`: its bytes, or one or more numbers, of which the last is repeated."""
    fields = dict(read_fields(message))
    dtype, shape = DTYPES[number_of(fields, 1)], read_shape(bytes_of(fields, 2))
    content = bytes_of(fields, 4)
    if not content and dtype == np.float32:
        content = bytes_of(fields, 5)
    numbers = np.frombuffer(content, dtype)
    size = math.prod(shape)
    if not 0 < len(numbers) <= size:
        raise ValueError("another number of values than the shape's")
    return np.pad(numbers, (0, size - len(numbers)), mode="edge").reshape(shape)
