"""Damaged files of every origin and network: one error lists all that is wrong."""

import jax
import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from convert import engine
from convert.recognition import recognise
from convert.rules import RULES
from convert.sources import Source
from flaxmobile import InputError
from flaxmobile.tasks import build
from tests.convert.commands import convert, error_of
from tests.convert.keras_writer import write_keras_2
from tests.convert.rules import each_rule, fill, options_for
from tests.convert.tflite_writer import encode_tflite
from tests.networks import abstract


def tensors_of(origin, name):
    """A whole file, without the memory for its numbers."""
    rule = RULES[origin, name]
    model = build(name, **options_for(origin, name, rule.variants[0]))

    def constant(path, leaf):
        value = rule.constants.get(f"{path[0].key}/{path[-1].key}", 0.5)
        return np.broadcast_to(np.float32(value), leaf.shape)

    variables = jax.tree_util.tree_map_with_path(constant, abstract(model))
    return model, engine.from_flax(rule, model, variables)


def spread(names, count):
    """So many of the names from the middle, where none tells the number of classes."""
    middle = names[len(names) // 4 : 3 * len(names) // 4]
    return [middle[len(middle) * i // count] for i in range(count)]


def damaged(rule, name, tensors):
    """Damage a file's tensors in every way, and give what the error has to say of it."""
    floats = [key for key, array in tensors.items() if array.dtype == np.float32]
    dropped, renamed, reshaped, retyped, spoilt = spread(floats, 5)
    del tensors[dropped]
    layer, leaf = rule.layout.split(renamed)
    other = rule.layout.join(f"{layer}x", leaf)
    tensors[other] = tensors.pop(renamed)
    tensors[reshaped] = tensors[reshaped][..., None]
    tensors[retyped] = tensors[retyped].astype(np.float64) + 1e-12  # as no float32 is
    tensors[spoilt] = np.array(tensors[spoilt])
    tensors[spoilt].flat[-1] = np.nan
    stranger = rule.layout.join("stranger", leaf)
    tensors[stranger] = np.zeros(3, np.float32)
    return [
        f"{dropped} is missing",
        f"{renamed} is missing (did you mean ",
        f"{other} is unknown (did you mean ",
        f"{reshaped} is float32[",
        f"{retyped} is float64[",
        f"{spoilt} holds 1 of {tensors[spoilt].size} values that are NaN or infinite",
        f"{stranger} is unknown",
    ]


@each_rule()
def test_all_damages_are_told_at_once(origin, name):
    rule = RULES[origin, name]
    model, tensors = tensors_of(origin, name)
    expected = damaged(rule, name, tensors)
    with pytest.raises(InputError) as caught:
        fill(rule, name, tensors)
    message = str(caught.value)
    assert f"{name} with {model.size_text()} cannot be filled" in message
    assert [part for part in expected if part not in message] == []
    assert message.count("\n") < 15


def write_zip(path, tensors):
    torch.save({name: torch.tensor(array) for name, array in tensors.items()}, path)


def write_legacy(path, tensors):
    state = {name: torch.tensor(array) for name, array in tensors.items()}
    torch.save(state, path, _use_new_zipfile_serialization=False)


def write_flat(path, tensors):
    save_file({name: np.ascontiguousarray(array) for name, array in tensors.items()}, path)


def write_h5(path, tensors):
    write_keras_2(path, {f"{name}:0": array for name, array in tensors.items()})


def write_tflite(path, tensors):
    path.write_bytes(encode_tflite(list(tensors.items())))


FILES = [
    ("torchvision", "shufflenet_v2", "w.pth", write_zip),
    ("torchvision", "shufflenet_v2", "w.pt", write_legacy),
    ("timm", "mobilenet_v1", "w.safetensors", write_flat),
    ("timm-tf", "mobilenet_v3_small", "w.safetensors", write_flat),
    ("authors", "shufflenet_v1", "w.pth", write_zip),
    ("keras", "mobilenet_v2", "w.h5", write_h5),
    ("mediapipe", "blazeface", "w.tflite", write_tflite),
]


@pytest.mark.parametrize(
    ("origin", "name", "file", "write"),
    FILES,
    ids=[f"{origin}-{file}" for origin, _, file, _ in FILES],
)
def test_a_damaged_file_is_one_line_and_nothing_is_written(
    tmp_path, capsys, origin, name, file, write
):
    _, tensors = tensors_of(origin, name)
    tensors = {key: np.array(array) for key, array in tensors.items()}
    expected = damaged(RULES[origin, name], name, tensors)
    write(tmp_path / file, tensors)
    status = convert(tmp_path / file, tmp_path / "flax", "--source", origin, model=name)
    err = error_of(capsys, status)
    assert [part for part in expected if part not in err] == []
    assert [path.name for path in tmp_path.iterdir()] == [file]


@each_rule(lambda origin, rule: "num_classes" not in rule.options)
def test_another_number_of_classes_is_refused(origin, name):
    rule = RULES[origin, name]
    _, tensors = tensors_of(origin, name)
    with pytest.raises(InputError, match="num_classes is 8, the file's network has 7"):
        fill(rule, name, tensors, num_classes=8)


@each_rule(lambda origin, rule: rule.widths)
def test_another_width_is_refused(origin, name):
    rule = RULES[origin, name]
    _, tensors = tensors_of(origin, name)
    with pytest.raises(InputError, match=r"--alpha is 2\.0, the tensors have the widths of"):
        fill(rule, name, tensors, alpha=2.0)


@each_rule()
def test_another_network_is_refused_and_the_right_one_named(origin, name):
    _, tensors = tensors_of(origin, name)
    other = "mnasnet" if name == "inception_v4" else "inception_v4"
    with pytest.raises(InputError, match=f": --model {name}$"):
        recognise(other, "auto", Source(tensors, "0" * 64))
