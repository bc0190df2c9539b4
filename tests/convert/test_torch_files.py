"""Torch files: read without torch, nothing in them is run, and no damage goes unseen."""

import argparse
import datetime
import enum
import pathlib
import pickle
import random
import warnings
import zipfile

import numpy as np
import pytest
import torch

from convert.sources import Selection, read_source
from flaxmobile import InputError
from tests.convert.commands import refusal
from tests.convert.torch_writer import Malicious, Storage, Tensor, write_archive

TENSORS = {"a.weight": torch.arange(6.0).reshape(2, 3), "a.steps": torch.tensor(3)}
NUMBERS = np.arange(6, dtype=np.float32).tobytes()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "weights.pth"


def assert_read(path, tensors=TENSORS):
    found = read_source(path).tensors
    assert list(found) == list(tensors)
    for name, tensor in tensors.items():
        assert found[name].dtype == tensor.detach().numpy().dtype
        assert np.array_equal(found[name], tensor.detach().numpy())


@pytest.mark.parametrize("zipped", [True, False])
def test_tensors_of_every_shape_and_type_are_read(path, zipped):
    base = torch.arange(24.0).reshape(4, 6)
    content = {
        "view": base[1:3, ::2],
        "transposed": base.T,
        "whole": base,
        "parameter": torch.nn.Parameter(base[0]),
        "frozen": torch.nn.Parameter(base, requires_grad=False),
        "empty": torch.zeros(0, 3),
        "scalar": torch.tensor(0.1, dtype=torch.float64),  # as no float32 is
        "channels_last": torch.rand(2, 3, 4, 5).to(memory_format=torch.channels_last),
        **{
            f"of {kind}": torch.tensor([0, 1, 1]).to(kind)
            for kind in (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool)
        },
        "of uint16": torch.tensor([1, 65535], dtype=torch.uint16),
    }
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    assert_read(path, content)


class Colour(enum.Enum):
    RED = 1


class Mapping(dict):
    """As configurations are kept in."""


@pytest.mark.parametrize("form", ["zip", "legacy"])
def test_nothing_that_a_checkpoint_names_is_run(path, form):
    trap = path.parent / "trap"
    mapping = Mapping(lr=0.1)
    mapping.path = pathlib.Path("data")
    content = {
        "args": argparse.Namespace(lr=0.1, path=pathlib.Path("data")),
        "config": mapping,
        "best": np.float64(0.5),
        "history": np.arange(3),
        "when": datetime.datetime(2024, 1, 1),
        "colour": Colour.RED,
        "extra": [Malicious(trap)],
        "state_dict": TENSORS,
    }
    torch.save(content, path, _use_new_zipfile_serialization=form == "zip")
    assert_read(path)
    assert not trap.exists()
    torch.load(path, weights_only=False)
    assert trap.exists()  # the trap works


def chain(function, *args):
    """A pickle that calls what a call returns."""
    first = pickle.dumps(Malicious("__builtins__", function), protocol=2)[:-1]
    return first + pickle.dumps(args, protocol=2)[2:-1] + b"R."


@pytest.mark.parametrize(
    "program",
    [
        chain(getattr, "system"),
        b"\x80\x02(cposix\nsystem\nX\x05\x00\x00\x00falseo.",
        b"(X\x05\x00\x00\x00falseiposix\nsystem\n.",
        b"\x80\x04\x8c\x05posix\x8c\x06system\x93\x8c\x05false\x85R.",
        b"\x80\x04cposix\nsystem\n)}\x92.",
        b"\x80\x02cposix\nsystem\n)\x81}X\x01\x00\x00\x00aK\x01sb.",
        b"\x80\x02cposix\nsystem\n}X\x01\x00\x00\x00aK\x01sb.",
        b"\x80\x02\x82\x01.",
        b"\x80\x05\x97\x98.",
        b"\x80\x02h\x09.",
        b"\x80\x02r\xff\xff\xff\x7f.",
        b"\x80\x04\x8d\xff\xff\xff\xff\xff\xff\xff\x7fa.",
        b"\x80\x02" + b"L" + b"9" * 100_000 + b"L\n.",
        b"\x80\x02(" + b"(" * 20_000 + b"t" * 20_000 + b"t.",
        b"\x80\x02}" + b"(" * 100_000 + b"t" * 100_000 + b"Ns.",
        b"\x80\x02" + b"]" * 20_000 + b"a" * 19_999 + b".",
        b"\x80\x02" + b"0" * 10,
        b"\x80\x02}q\x00X\x01\x00\x00\x00ah\x00s.",
        b"",
        b".",
    ],
    ids=range(20),
)
def test_a_program_of_an_attacker_is_refused(path, program):
    write_archive(path, program, {})
    refusal(path)


def test_containers_that_hold_each_other_many_times_are_refused_at_once(path):
    content = {}
    for _ in range(60):
        content = {"a": content, "b": content}
    torch.save(content, path)
    assert "holds 'a' (dict), 'b' (dict)" in refusal(path)


def test_names_of_a_file_do_not_fill_the_message(path):
    strange = {"a\nb" * 1000: [1], **{f"name {number}": [1] for number in range(1000)}}
    torch.save({"a": torch.zeros(3), **strange}, path)
    message = refusal(path)
    assert len(message) < 1000
    assert "and 993 more" in message


def test_modules_that_hold_each_other_many_times_are_refused(path):
    module = torch.nn.Linear(2, 2)
    for _ in range(60):
        module = torch.nn.Sequential(module, module)
    torch.save(module, path)
    assert "is damaged" in refusal(path)


@pytest.mark.parametrize(
    "tensor",
    [
        Tensor(offset=1),
        Tensor(offset=-1),
        Tensor(shape=(3, 3)),
        Tensor(shape=(-2, 3)),
        Tensor(shape=(2,)),
        Tensor(strides=(-3, 1)),
        Tensor(shape=(10**12, 3), strides=(0, 1)),
        Tensor(shape=(1,) * 100, strides=(1,) * 100),
        Tensor(shape=(0, 10**30), strides=(1, 1)),
        Tensor(shape="ab", strides="ab"),
        Tensor(storage=7),
        Tensor(storage=Storage(count=7), shape=(7,), strides=(1,)),
        Tensor(storage=Storage(count=5), shape=(5,), strides=(1,)),
        Tensor(storage=Storage(key="1")),
        Tensor(storage=Storage(key="../data.pkl")),
        Tensor(storage=Storage(key="/etc/passwd")),
    ],
    ids=range(16),
)
def test_a_tensor_outside_its_storage_is_refused(path, tensor):
    write_archive(path, {"a": Tensor()}, {"0": NUMBERS})
    assert np.array_equal(read_source(path).tensors["a"].ravel(), np.arange(6))
    write_archive(path, {"a": tensor}, {"0": NUMBERS})
    assert "is damaged or not a torch file" in refusal(path)


def test_tensors_that_multiply_the_files_size_are_refused(path):
    content = {str(number): Tensor(Storage("0", 250), 0, (250,), (1,)) for number in range(2000)}
    write_archive(path, content, {"0": bytes(1000)})
    assert "is damaged or not a torch file" in refusal(path)


def test_storages_that_overlap_are_refused(path):
    second = Tensor(Storage("1"))
    write_archive(path, {"a": Tensor(), "b": second}, {"0": NUMBERS, "1": NUMBERS})
    assert len(read_source(path).tensors) == 2
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("archive/version", "3")  # so that the directory is written again
        first, last = (archive.getinfo(f"archive/data/{key}") for key in "01")
        last.header_offset = first.header_offset
    assert "is damaged or not a torch file" in refusal(path)


def test_packed_and_doubled_members_are_refused(path):
    write_archive(path, {"a": Tensor()}, {"0": NUMBERS}, compression=zipfile.ZIP_DEFLATED)
    assert "holds packed members" in refusal(path)
    write_archive(path, {"a": Tensor()}, {"0": NUMBERS})
    with zipfile.ZipFile(path, "a") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # zipfile's warning
        archive.writestr("archive/data/0", NUMBERS)
    assert "holds two members of one name" in refusal(path)


def test_big_endian_numbers_are_refused(path):
    write_archive(path, {"a": Tensor()}, {"0": NUMBERS}, byteorder=b"big")
    assert "big-endian" in refusal(path)
    torch.save(TENSORS, path, _use_new_zipfile_serialization=False)
    whole = path.read_bytes()
    said = whole.index(b"little_endian") + len(b"little_endianq\x01")
    assert whole[said : said + 1] == pickle.NEWTRUE
    path.write_bytes(whole[:said] + pickle.NEWFALSE + whole[said + 1 :])
    assert "big-endian" in refusal(path)


@pytest.mark.parametrize("zipped", [True, False])
def test_damaged_bytes_are_refused_or_change_nothing(path, zipped):
    torch.save({"state_dict": TENSORS}, path, _use_new_zipfile_serialization=zipped)
    whole, numbers = path.read_bytes(), TENSORS["a.weight"].numpy().tobytes()
    # The older format has no sum of its numbers, which stand at its end.
    end = len(whole) if zipped else whole.index(numbers) - 8
    rng = random.Random(0)
    for position in [*range(0, end, 9), *(rng.randrange(end) for _ in range(100))]:
        damaged = bytearray(whole)
        damaged[position] ^= rng.randrange(1, 256)
        path.write_bytes(damaged)
        try:
            found = read_source(path).tensors
        except InputError as error:
            assert "\n" not in str(error)
        else:
            if zipped:
                assert_read(path, dict(zip(found, TENSORS.values(), strict=True)))


def test_numbers_without_a_sum_are_read(path):
    torch.serialization.set_crc32_options(False)
    try:
        torch.save(TENSORS, path)
    finally:
        torch.serialization.set_crc32_options(True)
    assert_read(path)


def module():
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 1), torch.nn.BatchNorm2d(4))
    network.register_buffer("passing", torch.zeros(3), persistent=False)
    return network


def test_a_pickled_modules_tensors_are_read_and_it_is_said(path):
    network = module()
    torch.save({"epoch": 3, "model": torch.nn.DataParallel(network)}, path)
    assert_read(path, {f"module.{name}": each for name, each in network.state_dict().items()})
    assert read_source(path).notes == (
        "took the tensors of a pickled torch.nn.parallel.data_parallel.DataParallel, and ran none "
        "of its code",
    )


@pytest.mark.filterwarnings("ignore:.*torch.jit")  # torch gives TorchScript up
def test_a_torchscript_archives_tensors_are_read(path):
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 1), torch.nn.BatchNorm2d(4))
    torch.jit.script(network).save(path)
    assert_read(path, network.state_dict())


def test_a_pickle_that_is_not_torchs_is_named(path):
    path.write_bytes(pickle.dumps(Malicious(path.parent / "trap"), protocol=2))
    assert "holds a pickled posix.mkdir, not a torch file" in refusal(path)
    assert not (path.parent / "trap").exists()


@pytest.mark.parametrize(
    "content",
    [
        TENSORS,
        {"state_dict": TENSORS, "epoch": 3, "optimizer": {"lr": 0.1}},
        {"model": TENSORS, "args": None},
        {"model": "mobilenet_v2", "state_dict": TENSORS},
        {"net": TENSORS, "epoch": 3},
        {"train": {"params": TENSORS}},
        {"best_acc1": torch.tensor(76.0), "model_state_dict": TENSORS},
        {"state_dict": TENSORS, "optimizer": {"state": {0: {"m": torch.zeros(9)}}, "groups": []}},
        {"state_dict": TENSORS, "optim": {"m": {name: torch.zeros(9) for name in "abcdef"}}},
        {"head": {"w": torch.zeros(3)}, "ema_state_dict": TENSORS},
        {"model": TENSORS, "model_ema": TENSORS},
    ],
    ids=lambda content: "-".join(content),
)
def test_a_state_dict_is_found_in_a_checkpoint(path, content):
    torch.save(content, path)
    assert_read(path)


def test_what_was_taken_and_what_stands_beside_it_is_said(path):
    other = {name: torch.zeros(4) for name in "ab"}
    content = {
        "epoch": 3,
        "args": argparse.Namespace(lr=0.1),
        "optimizer": {"state": {0: {"m": torch.zeros(9)}}},
        "student": {"state_dict": {**TENSORS, "b.weight": torch.zeros(5)}},
        "teacher": other,
    }
    torch.save(content, path)
    assert read_source(path).notes == (
        "took the state dict under 'student.state_dict'; beside it, not read: epoch, args, "
        "optimizer, teacher",
        "other state dicts, for --weights-key: teacher (2 tensors)",
    )
    assert list(read_source(path, Selection(weights_key="teacher")).tensors) == ["a", "b"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1, 2], "holds a list"),
        (torch.zeros(3), "holds a float32 tensor"),
        ({}, "holds no tensors"),
        ({"state_dict": {}}, "holds 'state_dict' (dict)"),
        ({("a", 1): [1.0]}, "holds <tuple> (list)"),
        ({"a": torch.zeros(3), "b": [1.0]}, "holds 'b' (list)"),
        ({7: torch.zeros(3), "a": torch.zeros(3)}, "holds 7 (float32 tensor)"),
        ({"a": torch.zeros(3), "b": torch.zeros(3).to(torch.float8_e5m2)}, "torch.float8_e5m2"),
    ],
)
def test_content_that_is_no_state_dict_is_refused(path, content, message):
    torch.save(content, path)
    assert message in refusal(path)
    assert "accepted: a state dict of float32 tensors" in refusal(path)
