"""Torch files with any content, also such as torch would not write."""

import io
import os
import pickle
import zipfile
from collections import OrderedDict
from typing import NamedTuple

import torch


class Malicious:
    """Creates a file when it is unpickled."""

    def __init__(self, path, function=os.mkdir):
        self.path, self.function = path, function

    def __reduce__(self):
        return self.function, (str(self.path),)


class Storage(NamedTuple):
    """A storage that a pickle names."""

    key: str = "0"
    count: int = 6
    kind: type = torch.FloatStorage


class Tensor:
    """A tensor in a pickle, whatever its storage holds."""

    def __init__(self, storage=Storage(), offset=0, shape=(2, 3), strides=(3, 1)):  # noqa: B008
        more = (False, OrderedDict())  # no gradient, no hooks
        self.args = storage, offset, shape, strides, *more

    def __reduce__(self):
        return torch._utils._rebuild_tensor_v2, self.args


class Quantized(Tensor):
    """A quantized tensor in a pickle: int8 integers, and what they mean."""

    def __init__(self, *how, storage=None, **place):
        super().__init__(storage or Storage(kind=torch.QInt8Storage), **place)
        self.args = *self.args[:4], how, *self.args[4:]

    def __reduce__(self):
        return torch._utils._rebuild_qtensor, self.args


class _Pickler(pickle.Pickler):
    def persistent_id(self, thing):
        if isinstance(thing, Storage):
            return "storage", thing.kind, thing.key, "cpu", thing.count
        return None


def dump(content):
    """Pickle content with such tensors."""
    out = io.BytesIO()
    _Pickler(out, protocol=2).dump(content)
    return out.getvalue()


def write_archive(path, content, storages, byteorder=b"little", compression=zipfile.ZIP_STORED):
    """Write a zip archive as torch does, from a pickle or its content."""
    program = content if isinstance(content, bytes) else dump(content)
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("archive/data.pkl", program)
        archive.writestr("archive/byteorder", byteorder)
        for key, numbers in storages.items():
            archive.writestr(f"archive/data/{key}", numbers)
