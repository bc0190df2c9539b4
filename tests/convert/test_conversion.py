"""`convert_file`: all that the command prints and writes, as data."""

import dataclasses
import hashlib

import numpy as np
import pytest

from convert.back import convert_back
from convert.conversion import convert_file
from flaxmobile import InputError, save_weights
from tests.convert.commands import save
from tests.convert.states import STEM, random_state


@pytest.fixture
def path(tmp_path):
    return save(random_state(), tmp_path / "w.pth")


def test_a_conversion_is_data_and_neither_prints_nor_writes(path, capsys):
    found = convert_file(path, "v2", chosen={"num_classes": 0, "dropout_rate": 0.3})
    assert capsys.readouterr() == ("", "")
    assert list(path.parent.iterdir()) == [path]
    assert (found.model_name, found.origin, found.file) == ("mobilenet_v2", "torchvision", path)
    assert found.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert (found.precision, found.agreement) == ("float32", None)
    filled = found.filled
    assert (filled.options["alpha"], filled.model.num_classes) == (0.35, 0)
    assert filled.model.dropout_rate == 0.3
    kernel = filled.variables["params"]["stem"]["conv"]["kernel"]
    assert np.array_equal(kernel, random_state()[STEM].numpy().transpose(2, 3, 1, 0))
    assert set(filled.left_out) == {"classifier.1.weight", "classifier.1.bias"}
    assert {*filled.used, *filled.ignored, *filled.left_out} == set(random_state())
    assert (len(filled.used), filled.constants) == (260, ())
    assert found.assumed["padding"] == "symmetric"
    assert found.facts.preprocessing.resize_size == 256


def test_a_conversion_can_be_saved_and_turned_back(path, tmp_path):
    found = convert_file(path, "mobilenet_v2")
    filled = found.filled
    directory = tmp_path / "flax"
    save_weights(directory, found.model_name, filled.options, filled.variables, found.metadata)
    back = convert_back(directory)
    assert (back.model_name, back.model) == ("mobilenet_v2", filled.model)
    assert (back.origin, back.version) == ("torchvision", 1)
    for name, tensor in random_state().items():
        if tensor.ndim:
            assert np.array_equal(back.tensors[name], tensor.numpy())


def test_tensors_are_listed_under_the_reason_that_left_them_out(path):
    found = convert_file(path, "v2", chosen={"num_classes": 0})
    reasons = {"a": "not part of a backbone", "b": "an optimizer's", "c": "not part of a backbone"}
    two = dataclasses.replace(found, filled=found.filled._replace(left_out=reasons))
    assert [line for line in two.describe() if line.startswith("left out")] == [
        "left out, as not part of a backbone: a, c",
        "left out, as an optimizer's: b",
    ]


def test_another_width_than_chosen_is_refused(path):
    with pytest.raises(InputError, match=r"alpha 0\.35"):
        convert_file(path, "v2", chosen={"alpha": 1.4})
