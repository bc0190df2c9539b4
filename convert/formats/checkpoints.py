"""State dicts in the content of a torch file: alone, in a checkpoint, or in a pickled module."""

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from convert.formats.pickles import Record
from convert.formats.qtensors import QuantizedTensor, unpack
from convert.formats.storages import StoredTensor
from flaxmobile.errors import InputError, shorten, unknown

ACCEPTED = "accepted: a state dict of float32 tensors, alone or in a checkpoint"

Tensor = StoredTensor | QuantizedTensor
_DEEPEST = 4
"""Levels of mappings in which state dicts are looked for."""
_MOST_MODULES = 100_000


class State(NamedTuple):
    """A state dict in a file.

    Attributes:
      key: where it stands, with dots; empty for the file's whole content.
      tensors: by name.
      others: its other entries by name.
      module: class of the pickled module that it was taken from, or empty.
    """

    key: str
    tensors: dict[str, Tensor]
    others: Mapping[Any, Any]
    module: str = ""

    @property
    def shapes(self) -> Counter[tuple[int, ...]]:
        """Shapes of the tensors with axes: those of a network and of its average are the same."""
        return Counter(tensor.shape for tensor in self.tensors.values() if tensor.shape)


def choose_state(path: Path, content: Any, key: str | None) -> tuple[State, tuple[str, ...]]:
    """Find the state dict to convert.

    Args:
      path: of the file.
      content: of the file.
      key: the user's, with dots; by default the largest state dict.

    Returns:
      The state dict, and notes about where it stands and what stands beside it.

    Raises:
      InputError: there is none, there are several of one network, or it holds more than tensors.
    """
    states = list(_find_states(content))
    if not states:
        raise InputError(f"{path} holds {_describe(content)}; {ACCEPTED}")
    if key is not None:
        named = [state for state in states if state.key == key]
        if not named:
            raise unknown("--weights-key", key, [state.key for state in states if state.key])
        state = named[0]
    else:
        state = max(states, key=lambda each: len(each.tensors))
        _check_alone(path, state, states)
    strange = {name: value for name, value in state.others.items() if not _is_plain(value)}
    if strange:
        raise InputError(f"{path} holds {_describe(strange)}; {ACCEPTED}")
    return state, tuple(_notes(content, state, states))


def _check_alone(path: Path, state: State, states: list[State]) -> None:
    """Raise InputError if several state dicts are of the network."""
    keys = [each.key for each in states if each.shapes == state.shapes]
    if len(keys) > 1:
        flags = " or ".join(f"--weights-key {key}" for key in keys)
        averaged = next((key for key in keys if "ema" in key.lower()), "")
        default = f" (timm takes the average, {averaged}, by default)" if averaged else ""
        raise InputError(
            f"{path} holds {len(keys)} state dicts of one network: {', '.join(keys)}; "
            f"choose with {flags}{default}"
        )


def _find_states(content: Any) -> Iterator[State]:
    """Yield the state dicts of a file, those of optimizers apart."""
    seen: set[int] = set()
    level = [("", content)]
    for _ in range(_DEEPEST):
        below = []
        for key, value in level:
            if id(value) in seen or "optim" in key.lower():
                continue
            seen.add(id(value))
            if _is_module(value):
                yield State(key, dict(_module_state(value)), {}, value.kind)
                continue
            entries = {name: each for name, each in _entries(value).items() if not _entries(each)}
            entries = unpack(entries)
            tensors = {k: v for k, v in entries.items() if _is_named_tensor(k, v)}
            if any(tensor.shape for tensor in tensors.values()):
                others = {name: each for name, each in entries.items() if name not in tensors}
                yield State(key, tensors, others)
            below += [
                (f"{key}.{name}" if key else name, each)
                for name, each in _entries(value).items()
                if isinstance(name, str) and name not in entries
            ]
        level = below


def _is_named_tensor(name: Any, value: Any) -> bool:
    return isinstance(name, str) and isinstance(value, Tensor)


def _entries(value: Any) -> Mapping[Any, Any]:
    """Return what a mapping holds, or the attributes of an object."""
    if isinstance(value, Record):
        state = value.state if isinstance(value.state, dict) else {}
        return {**state, **value.entries}
    return value if isinstance(value, dict) else {}


def _is_module(value: Any) -> bool:
    scripted = isinstance(value, Record) and value.kind.startswith("__torch__.")
    return scripted or (isinstance(value, Record) and "_parameters" in _entries(value))


def _module_state(module: Record) -> Iterator[tuple[str, Tensor]]:
    """Yield the names and tensors of a pickled module, or of a TorchScript one."""
    modules = [("", module)]
    for count, (prefix, each) in enumerate(modules):
        if count + len(modules) > _MOST_MODULES:
            raise ValueError("a module with too many modules")
        if ".quantized." in each.kind:
            raise InputError(
                "the file's module is quantized, and its kernels are packed: save its state dict "
                "instead, by torch.save(module.state_dict(), FILE)"
            )
        attributes = own = children = _entries(each)
        passing: Any = ()
        if "_parameters" in attributes:
            passing = attributes.get("_non_persistent_buffers_set") or ()
            own = {**attributes["_parameters"], **(attributes.get("_buffers") or {})}
            children = attributes.get("_modules") or {}
        for name, value in own.items():
            if isinstance(value, Tensor) and name not in passing:
                yield f"{prefix}{name}", value
        modules += [(f"{prefix}{k}.", v) for k, v in children.items() if _is_module(v)]


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, str | bytes | bool | int | float)


def _notes(content: Any, state: State, states: list[State]) -> Iterator[str]:
    """Tell the user which state dict was taken, and what stands beside it."""
    taken = {*state.tensors} if not state.key else {state.key.partition(".")[0]}
    beside = [str(name) for name in unpack(_entries(content)) if name not in taken]
    if state.module:
        yield f"took the tensors of a pickled {state.module}, and ran none of its code"
    elif state.key or beside:
        where = f"the state dict under {state.key!r}" if state.key else "the tensors"
        others = f"; beside it, not read: {shorten(beside)}" if beside else ""
        yield f"took {where}{others}"
    inner = [f"{each.key} ({len(each.tensors)} tensors)" for each in states if each is not state]
    if inner:
        yield f"other state dicts, for --weights-key: {shorten(inner)}"


def _describe(content: Any) -> str:
    """Describe content that is no state dict."""
    entries = _entries(content)
    if entries:
        return shorten([f"{name!r} ({_kind(value)})" for name, value in entries.items()])
    return "no tensors" if isinstance(content, dict) else f"a {_kind(content)}"


def _kind(value: Any) -> str:
    match value:
        case Record():
            return value.kind
        case StoredTensor():
            return f"{value.dtype.name} tensor"
        case QuantizedTensor():
            return "quantized tensor"
    return type(value).__name__
