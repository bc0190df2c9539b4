"""LiteRT's metadata: what MediaPipe and Android's libraries read about a .tflite file.

The schema is metadata_schema.fbs of TensorFlow Lite Support. No kept package has its Python form,
so the few tables are written here by their fields' numbers.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from flaxmobile.errors import InputError, pip_install
from flaxmobile.exporters.program import IMAGES, Program

NAME = "TFLITE_METADATA"
"""Name of the model's metadata entry."""

_IDENTIFIER = b"M001"
_PARSER = "1.0.0"  # least version of a parser that knows these fields


class _Byte(int):
    """A number that takes one byte: enumerations and the kinds of unions."""


_FEATURE, _IMAGE = _Byte(1), _Byte(2)  # ContentProperties
_NORMALIZATION = _Byte(1)  # ProcessUnitOptions
_AXIS_LABELS = _Byte(2)  # AssociatedFileType
_COLORS = {"RGB": _Byte(1), "grey": _Byte(2)}  # ColorSpaceType; 0 is unknown


def build_metadata(program: Program, labels: str | None) -> bytes:
    """Build the metadata of a program; `labels` is the name of the attached file of class names.

    Raises:
      InputError: flatbuffers is not installed.
    """
    try:
        import flatbuffers
    except ImportError:
        raise InputError(f"LiteRT files need flatbuffers: {pip_install('export')}") from None
    outputs = [_output(name, labels) for name in program.outputs]
    graph = {2: [_input(program)], 3: outputs}  # SubGraphMetadata
    preprocessing = program.metadata.preprocessing.describe()
    model = {  # ModelMetadata
        0: program.network,
        1: f"{program.network} by flaxmobile. Images: {preprocessing}",
        3: [graph],
        7: _PARSER,
    }
    licence = program.metadata.source.get("licence")
    if isinstance(licence, str):
        model[5] = licence
    builder = flatbuffers.Builder()
    builder.Finish(_write(builder, model), _IDENTIFIER)
    return bytes(builder.Output())


def _input(program: Program) -> dict[int, Any]:
    """TensorMetadata of the images."""
    preprocessing, (_, height, width, _) = program.metadata.preprocessing, program.images.shape
    color = _COLORS.get("RGB" if program.is_raw else preprocessing.channel_order, _Byte(0))
    size = {0: width, 1: height}  # ImageSize
    tensor = {0: IMAGES, 3: {0: _IMAGE, 1: {0: color, 1: size}}}
    if not program.is_raw:
        mean, std = (np.multiply(x, 255.0) for x in (preprocessing.mean, preprocessing.std))
        tensor[4] = [{0: _NORMALIZATION, 1: {0: mean, 1: std}}]
    return tensor


def _output(name: str, labels: str | None) -> dict[int, Any]:
    """TensorMetadata of an output."""
    tensor: dict[int, Any] = {0: name, 3: {0: _FEATURE, 1: {}}}
    if labels is not None:
        tensor[6] = [{0: labels, 1: "names of the classes", 2: _AXIS_LABELS}]
    return tensor


def _write(builder: Any, value: Any) -> int:
    """Write a text, a vector, or a table as {number of the field: value}; return its offset."""
    if isinstance(value, str):
        return int(builder.CreateString(value))
    if isinstance(value, np.ndarray):
        return int(builder.CreateNumpyVector(value.astype(np.float32)))
    if isinstance(value, Mapping):
        return _write_table(builder, value)
    return _write_vector(builder, value)


def _write_table(builder: Any, fields: Mapping[int, Any]) -> int:
    inner = {slot: _write(builder, v) for slot, v in fields.items() if not isinstance(v, int)}
    builder.StartObject(max(fields, default=-1) + 1)
    for slot, value in fields.items():
        if slot in inner:
            builder.PrependUOffsetTRelativeSlot(slot, inner[slot], 0)
        elif isinstance(value, _Byte):
            builder.PrependInt8Slot(slot, value, 0)
        else:
            builder.PrependUint32Slot(slot, value, 0)
    return int(builder.EndObject())


def _write_vector(builder: Any, items: Sequence[Any]) -> int:
    offsets = [_write(builder, item) for item in items]
    builder.StartVector(4, len(offsets), 4)
    for offset in reversed(offsets):
        builder.PrependUOffsetTRelative(offset)
    return int(builder.EndVector())
