"""Pickles, read without running anything that they name.

Python's unpickler imports and calls what a file tells it to. This one builds plain containers, and
a `Record` of every other object; only the few functions that its caller hands over are called.
"""

import pickletools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

MOST_STEPS = 5_000_000
"""Steps of the longest pickle that is read: a list of a million numbers takes a million."""

Function = Callable[..., Any]
"""Builds what a pickle names, from the pickle's arguments."""

_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_EMPTY = {"EMPTY_TUPLE": tuple, "EMPTY_LIST": list, "EMPTY_DICT": dict, "EMPTY_SET": list}
_PUSHES = {
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
    *("STRING", "BINSTRING", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8"),
    *("UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "BYTEARRAY8"),
}
"""Steps that push their argument."""


@dataclass(frozen=True)
class Global:
    """The name of a class or function, which is not imported."""

    name: str


@dataclass(eq=False, repr=False)
class Record:
    """An object of a class that is not imported.

    Attributes:
      kind: name of the class, or of the function that would have made the object.
      args: that it would have been made of.
      state: that it would have been given after that.
      entries: its entries, where it is a mapping.
    """

    kind: str
    args: Any = ()
    state: Any = None
    entries: dict[Any, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        """Name the class alone: records may hold each other without end."""
        return f"<{self.kind}>"


def _make_dict(pairs: Iterable[Any] = ()) -> dict[Any, Any]:
    return {_key(key): value for key, value in pairs}


def _make_dict_of_flat(items: list[Any]) -> dict[Any, Any]:
    return _make_dict(zip(items[::2], items[1::2], strict=True))


_CONTAINERS: Mapping[str, Function] = {
    "collections.OrderedDict": _make_dict,
    "collections.defaultdict": lambda factory=None: {},
    "__builtin__.set": list,
    "builtins.set": list,
    "torch.Size": tuple,
    "copyreg._reconstructor": lambda kind, base, state: Record(_kind_of(kind)),
    "copy_reg._reconstructor": lambda kind, base, state: Record(_kind_of(kind)),
}


def unpickle(
    file: Any,
    functions: Mapping[str, Function],
    persistent: Function,
) -> Any:
    """Read the pickle at a file's position, and leave the position behind it.

    Args:
      file: binary, with `read` and `readline`.
      functions: by name: called with the pickle's arguments where it names them.
      persistent: called with each persistent identifier.

    Returns:
      Numbers, texts, bytes, tuples, lists (also for sets), dictionaries, records, and what the
      functions return. A container may hold itself.

    Raises:
      ValueError, or another error of Python's that is no defect here: the pickle is damaged.
    """
    machine = _Machine({**_CONTAINERS, **functions}, persistent)
    for count, (opcode, argument, _) in enumerate(pickletools.genops(file)):
        if count > MOST_STEPS:
            raise ValueError("the pickle is too long")
        machine.step(opcode.name, argument)
    return machine.pop()


def _kind_of(called: Any) -> str:
    return called.name if isinstance(called, Global) else "object"


def _key(value: Any) -> Any:
    """Return a key of a dictionary, whose hash needs no recursion; others stand for themselves."""
    if isinstance(value, Record | str | bytes | int | float | None):
        return value
    return Record(type(value).__name__, value)


class _Machine:
    """The stack machine that a pickle is a program for."""

    def __init__(self, functions: Mapping[str, Function], persistent: Function) -> None:
        self.functions, self.persistent = functions, persistent
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}

    def pop(self) -> Any:
        """Take the top of the stack."""
        return self.stack.pop()

    def pop_to_mark(self) -> list[Any]:
        """Take all that stands above the last mark."""
        mark = self.marks.pop()
        taken = self.stack[mark:]
        del self.stack[mark:]
        return taken

    def call(self, function: Any, args: Any) -> Any:
        """Call one of the functions; make a record of any other call."""
        known = self.functions.get(_kind_of(function))
        return known(*args) if known else Record(_kind_of(function), args)

    def step(self, name: str, argument: Any) -> None:
        """Take one step, by the opcode's name in `pickletools`.

        Raises:
          ValueError: no pickle that is saved to a file has it.
        """
        stack = self.stack
        match name:
            case _ if name in _PUSHES:
                stack.append(argument)
            case "BINGET" | "LONG_BINGET" | "GET":
                stack.append(self.memo[argument])
            case "BINPUT" | "LONG_BINPUT" | "PUT":
                self.memo[argument] = stack[-1]
            case "MEMOIZE":
                self.memo[len(self.memo)] = stack[-1]
            case "MARK":
                self.marks.append(len(stack))
            case "TUPLE" | "LIST" | "FROZENSET" | "DICT":
                self.push_container(name)
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                size = int(name[-1])
                stack[-size:] = [tuple(stack[-size:])]
            case _ if name in _CONSTANTS:
                stack.append(_CONSTANTS[name])
            case _ if name in _EMPTY:
                stack.append(_EMPTY[name]())
            case "APPEND" | "APPENDS" | "ADDITEMS" | "SETITEM" | "SETITEMS":
                self.fill(name)
            case "POP":
                stack.pop()
            case "POP_MARK":
                self.pop_to_mark()
            case "DUP":
                stack.append(stack[-1])
            case "PROTO" | "FRAME" | "STOP":
                pass
            case _:
                self.make(name, argument)

    def push_container(self, name: str) -> None:
        """Push a container of all above the mark."""
        items = self.pop_to_mark()
        kinds: Mapping[str, Function] = {"TUPLE": tuple, "DICT": _make_dict_of_flat}
        self.stack.append(kinds.get(name, list)(items))

    def fill(self, name: str) -> None:
        """Add to the container below what stands above it."""
        stack = self.stack
        count = {"APPEND": 1, "SETITEM": 2}.get(name)
        if count:
            items = stack[-count:]
            del stack[-count:]
        else:
            items = self.pop_to_mark()
        container = stack[-1]
        if name.startswith("SETITEM"):
            entries = container.entries if isinstance(container, Record) else container
            entries.update(_make_dict_of_flat(items))
        elif isinstance(container, list):
            container.extend(items)

    def make(self, name: str, argument: Any) -> None:
        """Name a class, call it, or give an object its state."""
        stack = self.stack
        match name:
            case "GLOBAL":
                stack.append(Global(argument.replace(" ", ".")))
            case "STACK_GLOBAL":
                attribute, module = stack.pop(), stack.pop()
                stack.append(Global(".".join([module, attribute])))
            case "REDUCE" | "NEWOBJ":
                args, function = stack.pop(), stack.pop()
                stack.append(self.call(function, args))
            case "NEWOBJ_EX":
                _, args, function = stack.pop(), stack.pop(), stack.pop()
                stack.append(self.call(function, args))
            case "INST":
                stack.append(self.call(Global(argument.replace(" ", ".")), self.pop_to_mark()))
            case "OBJ":
                function, *args = self.pop_to_mark()
                stack.append(self.call(function, args))
            case "BUILD":
                state = stack.pop()
                if isinstance(stack[-1], Record):
                    stack[-1].state = state
            case "PERSID":
                stack.append(self.persistent(argument))
            case "BINPERSID":
                stack.append(self.persistent(stack.pop()))
            case _:  # of extension registries and of buffers outside the file
                raise ValueError(f"a pickle with {name}")
