"""Reading and writing files of weights: tensors, or one line."""

import random
import resource
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from convert.sources import Selection, read_source, write_tensors
from flaxmobile import InputError
from tests.convert.commands import refusal
from tests.convert.states import random_state

TENSORS = {"a.weight": torch.arange(6.0).reshape(2, 3), "a.steps": torch.tensor(3)}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "weights.pth"


def save(tensors, path, form):
    if form == "safetensors":
        save_file(tensors, path)
    else:
        torch.save(tensors, path, _use_new_zipfile_serialization=form == "zip")


@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("w.safetensors", "safetensors"),
        ("w.pth", "safetensors"),
        ("w.pth", "zip"),
        ("w.pt", "legacy"),
    ],
)
def test_files_are_read_without_torch_whatever_their_name(tmp_path, monkeypatch, name, form):
    save(TENSORS, tmp_path / name, form)
    monkeypatch.setitem(sys.modules, "torch", None)
    tensors = read_source(tmp_path / name).tensors
    assert tensors.keys() == TENSORS.keys()
    for key, tensor in TENSORS.items():
        assert np.array_equal(tensors[key], tensor.numpy())
        assert tensors[key].dtype == tensor.numpy().dtype


@pytest.mark.parametrize("form", ["zip", "safetensors"])
@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
def test_a_file_in_half_precision_is_widened_and_changes_no_number(path, form, precision):
    kind = getattr(torch, precision)
    # every finite number of the type
    numbers = torch.arange(-(2**15), 2**15, dtype=torch.int32).to(torch.int16).view(kind)
    numbers = numbers[numbers.isfinite()]
    save({"a": numbers, "steps": torch.tensor(3)}, path, form)
    source = read_source(path)
    assert source.precision == precision
    assert source.tensors["a"].dtype == np.float32
    assert np.array_equal(source.tensors["a"], numbers.float().numpy())
    assert source.tensors["steps"].dtype == np.int64


def test_halves_among_float32_are_widened(path):
    halves = torch.tensor([0.1, 2.0])
    save({"a": halves, "b": halves.half(), "c": halves.bfloat16()}, path, "zip")
    source = read_source(path)
    assert {array.dtype for array in source.tensors.values()} == {np.dtype(np.float32)}
    assert np.array_equal(source.tensors["c"], halves.bfloat16().float().numpy())
    assert source.precision == "bfloat16 and float16 and float32"
    assert source.notes == ("widened from bfloat16 and float16, which changes no number",)


def test_float64_is_narrowed_where_no_number_changes_or_when_asked(path):
    numbers = torch.tensor([0.5, torch.nan, torch.inf, 1.0], dtype=torch.float64)
    save({"a": numbers}, path, "zip")
    assert read_source(path).tensors["a"].dtype == np.float32
    assert read_source(path).notes == ("narrowed from float64, which changes no number",)
    save({"a": numbers, "b": numbers + 1e-12, "c": numbers * 1e300}, path, "zip")
    found = read_source(path).tensors
    assert [array.dtype for array in found.values()] == [np.float32, np.float64, np.float64]
    rounded = read_source(path, Selection(allow_narrowing=True))
    assert {array.dtype for array in rounded.tensors.values()} == {np.dtype(np.float32)}
    assert rounded.notes == ("narrowed from float64, which rounds numbers of 2 tensors",)


FORMS = ["zip", "legacy", "safetensors"]


@pytest.mark.parametrize("form", FORMS)
def test_a_truncated_file_is_refused_wherever_it_ends(tmp_path, form):
    path = tmp_path / ("weights.safetensors" if form == "safetensors" else "weights.pth")
    save(random_state(0.1, 1), path, form)
    whole = path.read_bytes()
    rng = random.Random(0)
    ends = [rng.randrange(len(whole)) for _ in range(20)] + [rng.randrange(4000) for _ in range(20)]
    for end in [1, 8, 10, *ends, len(whole) - 1]:
        path.write_bytes(whole[:end])
        kind = "safetensors" if form == "safetensors" else "torch"
        assert f"is damaged or not a {kind} file" in refusal(path)


@pytest.mark.parametrize(
    "damage",
    [
        lambda whole: b"\xff" * 8 + whole[8:],
        lambda whole: whole[:8] + b"x" + whole[9:],
        lambda whole: whole.replace(b'"F32"', b'"F99"', 1),
        lambda whole: whole.replace(b'"shape":[2,3]', b'"shape":[2,4]'),
        lambda whole: whole + b"more",
    ],
    ids=["length", "json", "type", "shape", "longer"],
)
def test_a_damaged_safetensors_header_is_refused(tmp_path, damage):
    path = tmp_path / "weights.safetensors"
    save_file(TENSORS, path)
    whole = path.read_bytes()
    assert damage(whole) != whole
    path.write_bytes(damage(whole))
    assert "is damaged or not a safetensors file" in refusal(path)


def test_two_safetensors_of_one_name_are_refused(tmp_path):
    tensor = '"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}'
    header = f"{{{tensor}, {tensor}}}".encode()
    path = tmp_path / "weights.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(8))
    assert "holds two tensors named 'a'" in refusal(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({}, "holds no tensors"),
        ({"a": torch.zeros(3).to(torch.float8_e5m2)}, "holds 'a' (F8_E5M2)"),
    ],
)
def test_safetensors_that_are_no_weights_are_refused(tmp_path, content, message):
    save_file(content, tmp_path / "weights.safetensors")
    assert message in refusal(tmp_path / "weights.safetensors")


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".bin", ".safetensors"])
@pytest.mark.parametrize("content", [b"hello, this is text\n" * 9, b"PK\x03\x04", b"\x89PNG"])
def test_a_file_that_is_no_checkpoint_is_refused(path, content, suffix):
    path = path.with_suffix(suffix)
    path.write_bytes(content)
    assert "is damaged or not a " in refusal(path)


def test_a_missing_file_is_named(path):
    assert "cannot be read: No such file" in refusal(path)


def test_a_directory_is_refused(tmp_path):
    (tmp_path / "w.pth").write_bytes(b"")
    assert "is a directory: name a file in it, such as w.pth" in refusal(tmp_path)


def test_without_the_library_the_error_names_the_extra(tmp_path, monkeypatch):
    for library in ("torch", "safetensors"):
        monkeypatch.setitem(sys.modules, library, None)
    (tmp_path / "weights.safetensors").write_bytes(b"x")
    with pytest.raises(InputError, match=r"pip install -e '.*\[hub\]'"):
        read_source(tmp_path / "weights.safetensors")
    with pytest.raises(InputError, match=r"pip install -e '.*\[torch\]', or choose a \.safe"):
        write_tensors(tmp_path / "w.pth", {"a": np.zeros(3, np.float32)})


@pytest.mark.parametrize("name", ["w.pth", "w.safetensors"])
def test_a_written_file_is_read_back(tmp_path, name):
    arrays = {"a": np.arange(6, dtype=np.float32).reshape(2, 3).T, "n": np.zeros((), np.int64)}
    write_tensors(tmp_path / "new" / name, arrays)
    found = read_source(tmp_path / "new" / name).tensors
    assert found.keys() == arrays.keys()
    for key, array in arrays.items():
        assert np.array_equal(found[key], array)
        assert (found[key].dtype, found[key].shape) == (array.dtype, array.shape)


def test_safetensors_do_not_say_a_version(tmp_path):
    with pytest.raises(InputError, match=r"version 2.*accepted: a \.pth file"):
        write_tensors(tmp_path / "w.safetensors", {"a": np.zeros(3, np.float32)}, version=2)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["w.pth", "w.safetensors"])
def test_a_full_disk_leaves_nothing(tmp_path, name):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))  # bytes in a file
    try:
        with pytest.raises(OSError, match="File too large"):
            write_tensors(tmp_path / name, {"a": np.zeros(30_000, np.float32)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(tmp_path.iterdir()) == []
