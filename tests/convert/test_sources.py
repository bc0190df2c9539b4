"""Reading torch files: whatever the bytes are, tensors or one line; code is never executed."""

import os
import pickle
import random
import sys
import warnings

import numpy as np
import pytest
import torch

from convert.sources import read_source, write_torch
from flaxmobile import InputError
from tests.convert.states import random_state

TENSORS = {"a.weight": torch.arange(6.0).reshape(2, 3), "a.steps": torch.tensor(3)}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "weights.pth"


def refusal(path):
    with pytest.raises(InputError) as caught:
        read_source(path)
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    return message


@pytest.mark.parametrize("new_format", [True, False])
@pytest.mark.parametrize(
    "content",
    [
        TENSORS,
        {"state_dict": TENSORS, "epoch": 3, "optimizer": {"lr": 0.1}},
        {"model": TENSORS, "args": None},
        {"model": "mobilenet_v2", "state_dict": TENSORS},
        {name: torch.nn.Parameter(t, requires_grad=t.ndim > 0) for name, t in TENSORS.items()},
    ],
    ids=["plain", "state_dict", "model", "named", "parameters"],
)
def test_tensors_are_read_from_every_form(path, content, new_format):
    torch.save(content, path, _use_new_zipfile_serialization=new_format)
    tensors = read_source(path).tensors
    assert list(tensors) == list(TENSORS)
    for name, tensor in TENSORS.items():
        assert np.array_equal(tensors[name], tensor.numpy())
        assert tensors[name].dtype == tensor.numpy().dtype


class Malicious:
    """Creates a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("form", ["zip", "legacy", "pickle"])
def test_pickled_code_is_refused_and_not_executed(path, form):
    trap = path.parent / "trap"
    content = {"state_dict": TENSORS, "extra": Malicious(trap)}
    if form == "pickle":
        path.write_bytes(pickle.dumps(Malicious(trap), protocol=2))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=form == "zip")
    assert "posix.mkdir, which is not executed" in refusal(path)
    assert not trap.exists()
    if form == "pickle":
        pickle.loads(path.read_bytes())
    else:
        torch.load(path, weights_only=False)
    assert trap.exists()  # the trap works


def test_a_pickled_module_is_refused_by_name(path):
    torch.save(torch.nn.Linear(2, 2), path)
    assert "torch.nn.modules.linear.Linear, which is not executed" in refusal(path)


def test_a_torchscript_archive_is_refused_with_one_line(path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch gives TorchScript up
        torch.jit.script(torch.nn.Linear(2, 2)).save(path)
    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("always")
        assert "is damaged or not a torch file" in refusal(path)
    assert shown == []


@pytest.mark.parametrize("new_format", [True, False])
def test_a_truncated_file_is_refused_wherever_it_ends(path, new_format):
    torch.save(random_state(0.1, 1), path, _use_new_zipfile_serialization=new_format)
    whole = path.read_bytes()
    rng = random.Random(0)
    ends = [rng.randrange(len(whole)) for _ in range(20)] + [rng.randrange(4000) for _ in range(20)]
    for end in [0, 1, *ends, len(whole) - 1]:
        path.write_bytes(whole[:end])
        assert "is damaged or not a torch file" in refusal(path)


@pytest.mark.parametrize("content", [b"", b"hello, this is text\n" * 9, b"PK\x03\x04", b"\x89PNG"])
def test_a_file_that_is_no_checkpoint_is_refused(path, content):
    path.write_bytes(content)
    assert "is damaged or not a torch file" in refusal(path)


def test_a_missing_file_is_named(path):
    assert "cannot be read: No such file" in refusal(path)


def test_a_directory_is_refused(tmp_path):
    assert "cannot be read: Is a directory" in refusal(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1, 2], "holds a list"),
        (torch.zeros(3), "holds a Tensor"),
        ({}, "holds no tensors"),
        ({"state_dict": {}}, "holds no tensors"),
        ({"net": TENSORS, "epoch": 3}, "holds 'net' (dict), 'epoch' (int)"),
        ({"a": torch.zeros(3), "b": [1.0]}, "holds 'b' (list)"),
        ({7: torch.zeros(3)}, "holds 7 (torch.float32)"),
        ({"a": torch.zeros(3, dtype=torch.bfloat16)}, "holds 'a' (torch.bfloat16)"),
        ({"state_dict": TENSORS, "model": TENSORS}, "two state dicts"),
    ],
)
def test_content_that_is_no_state_dict_is_refused(path, content, message):
    torch.save(content, path)
    assert message in refusal(path)
    assert "accepted: a state dict of float32 tensors" in refusal(path)


def test_without_torch_the_error_names_the_extra(path, monkeypatch):
    path.write_bytes(b"x")
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(InputError, match=r"pip install 'flaxmobile\[torch\]'"):
        read_source(path)


def test_a_written_file_is_read_back(path):
    arrays = {"a": np.arange(6, dtype=np.float32).reshape(2, 3).T, "n": np.zeros((), np.int64)}
    write_torch(path.parent / "new" / "w.pth", arrays)
    found = read_source(path.parent / "new" / "w.pth").tensors
    assert list(found) == list(arrays)
    for name, array in arrays.items():
        assert np.array_equal(found[name], array)
        assert found[name].dtype == array.dtype


def test_a_failed_write_leaves_nothing(path, monkeypatch):
    def fill_the_disk(self, data):
        with self.open("wb") as file:
            file.write(bytes(data)[:10])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(type(path), "write_bytes", fill_the_disk)
    with pytest.raises(OSError, match="No space left"):
        write_torch(path, {"a": np.zeros(3, np.float32)})
    assert list(path.parent.iterdir()) == []
