"""Names of a network inside something larger: what stands before them, and what stands beside."""

import jax
import numpy as np
import pytest
import torch
from torchvision.models import detection, segmentation

from convert import engine
from convert.reading import Reading
from convert.recognition import recognise
from convert.rules import RULES
from convert.sources import Source
from flaxmobile import InputError
from tests.convert.commands import convert, error_of, save
from tests.convert.states import random_state

RULE = RULES["torchvision", "mobilenet_v2"]


@pytest.fixture(scope="module")
def state():
    return {name: tensor.numpy() for name, tensor in random_state(0.1, 5).items()}


@pytest.fixture(scope="module")
def filled(state):
    return engine.to_flax(Reading.of(RULE, state), "mobilenet_v2")


def under(prefix, state):
    return {prefix + name: tensor for name, tensor in state.items()}


@pytest.mark.parametrize(
    "prefix",
    ["module.", "_orig_mod.", "model.", "backbone.", "net.", "features.", "module.model.encoder."],
)
def test_what_all_names_share_is_stripped_and_said(state, filled, prefix):
    reading = Reading.of(RULE, under(prefix, state))
    found = engine.to_flax(reading, "mobilenet_v2")
    jax.tree.map(np.testing.assert_array_equal, found.variables, filled.variables)
    assert reading.notes == (f"the file's names are the origin's after {prefix!r}",)
    assert found.used == tuple(prefix + name for name in filled.used)


def test_tensors_of_the_training_are_left_out_with_the_reason(state):
    beside = {
        "n_averaged": "the number of networks in an average",
        "criterion.weight": "the loss's own tensors",
        "module.features.0.0.total_ops": "thop's counts of operations and parameters",
        "module.total_params": "thop's counts of operations and parameters",
        "val_acc.correct": "a metric's counts",
        "train_metrics.accuracy.tp": "a metric's counts",
    }
    tensors = {**under("module.", state), **dict.fromkeys(beside, np.zeros(()))}
    assert engine.to_flax(Reading.of(RULE, tensors), "mobilenet_v2").left_out == beside


@pytest.mark.parametrize("name", ["mean", "module.mean", "classifier.1.scale", "head.weight"])
def test_other_tensors_beside_the_network_are_refused(state, name):
    tensors = {**under("module.", state), name: np.zeros(3, np.float32)}
    with pytest.raises(InputError, match=f"{name} is unknown"):
        engine.to_flax(Reading.of(RULE, tensors), "mobilenet_v2")


def test_a_prefix_on_some_names_is_refused(state):
    tensors = {("module." + k if "features" in k else k): v for k, v in state.items()}
    with pytest.raises(InputError, match=r"(?s)mobilenet_v2 cannot.*weight is missing.*is unknown"):
        engine.to_flax(Reading.of(RULE, tensors), "mobilenet_v2")


def test_a_classifier_beside_the_body_is_the_networks_and_a_second_body_is_not(tmp_path, capsys):
    state = {("net." + k if "features" in k else k): v for k, v in random_state(0.1, 5).items()}
    assert convert(save(state, tmp_path / "w.pth"), tmp_path / "flax") == 0
    out = capsys.readouterr().out
    assert "after 'net.'\nthe file's own head: classifier.1" in out
    state["features.0.0.weight"] = torch.zeros(8, 3, 3, 3)
    err = error_of(capsys, convert(save(state, tmp_path / "w.pth"), tmp_path / "other"))
    assert "cannot be filled: features.0.0.weight is unknown" in err


def test_a_network_that_is_there_twice_is_chosen_by_its_prefix(state, filled):
    teacher = {name: tensor + 1 for name, tensor in state.items()}
    tensors = {**under("student.", state), **under("teacher.", teacher)}
    source = Source(tensors, "0" * 64)
    with pytest.raises(InputError, match=r"2 times, under 'student\.' and 'teacher\.'.*--prefix"):
        recognise("mobilenet_v2", "torchvision", source)
    for prefix, change in [("student", 0), ("student.", 0), ("teacher", 1)]:
        _, reading = recognise("mobilenet_v2", "torchvision", source, prefix)
        found = engine.to_flax(reading, "mobilenet_v2")
        jax.tree.map(
            lambda a, b, change=change: np.testing.assert_array_equal(a, b + np.float32(change)),
            found.variables,
            filled.variables,
        )
        assert len(found.left_out) == len(state)


@pytest.mark.parametrize("prefix", ["", "backbone."])
def test_a_state_dict_of_the_body_alone_is_a_backbone(state, filled, prefix):
    body = {name: array for name, array in state.items() if name.startswith("features.")}
    tensors = {prefix + name.removeprefix("features."): array for name, array in body.items()}
    reading = Reading.of(RULE, tensors)
    found = engine.to_flax(reading, "mobilenet_v2", {"num_classes": 0})
    jax.tree.map(
        np.testing.assert_array_equal,
        found.variables["params"],
        {k: v for k, v in filled.variables["params"].items() if k != "classifier"},
    )
    assert "without 'features.'" in reading.notes[0]


def file_of(build, **options):
    """A file of a network of torchvision's, without the memory for its numbers."""
    with torch.device("meta"):
        state = build(weights=None, weights_backbone=None, **options).state_dict()
    return {
        name: np.broadcast_to(np.float32(0.5), tensor.shape)
        for name, tensor in state.items()
        if not name.endswith("num_batches_tracked")
    }


@pytest.mark.parametrize(
    ("build", "prefix", "outside"),
    [
        (segmentation.lraspp_mobilenet_v3_large, "backbone.", "classifier.cbr.0.weight"),
        (segmentation.deeplabv3_mobilenet_v3_large, "backbone.", "classifier.0.convs.0.0.weight"),
        (
            detection.fasterrcnn_mobilenet_v3_large_fpn,
            "backbone.body.",
            "backbone.fpn.inner_blocks.0.0.weight",
        ),
    ],
)
def test_a_body_inside_something_larger_is_taken_as_a_backbone(build, prefix, outside):
    tensors = file_of(build)
    reading = Reading.of(RULES["torchvision", "mobilenet_v3_large"], tensors)
    found = engine.to_flax(reading, "mobilenet_v3_large", {"num_classes": 0})
    assert {*found.used} == {name for name in tensors if name.startswith(prefix)}
    assert found.left_out[outside] == "not part of a backbone"
    assert reading.notes == (
        f"the file's names are the origin's after {prefix!r} and without 'features.'",
    )


def test_the_body_of_ssdlite_is_taken_as_a_backbone():
    tensors = file_of(detection.ssdlite320_mobilenet_v3_large)
    reading = Reading.of(RULES["torchvision", "mobilenet_v3_large"], tensors)
    found = engine.to_flax(reading, "mobilenet_v3_large", {"num_classes": 0})
    assert found.options["reduced_tail"] is True
    assert {*found.used} == {name for name in tensors if name.startswith("backbone.features.")}
    assert len(found.left_out) == len(tensors) - len(found.used)


def test_key_prefix_and_rounding_are_chosen_on_the_command_line(tmp_path, capsys):
    state = random_state(0.1, 5)
    wide = {f"net.{name}": tensor.double() * 1.1 for name, tensor in state.items()}
    wide = {name: w if w.ndim else w.long() for name, w in wide.items()}
    both = {**wide, **{name.replace("net.", "old."): tensor for name, tensor in wide.items()}}
    content = {"epoch": 3, "model": both, "model_ema": {k: 2 * v for k, v in both.items()}}
    path = save(content, tmp_path / "w.pth")
    flags = ["--weights-key", "model_ema", "--prefix", "net", "--allow-narrowing"]
    for count, message in enumerate(
        [
            "2 state dicts of one network: model, model_ema; choose with --weights-key model or "
            "--weights-key model_ema (timm takes the average, model_ema, by default)",
            "2 times, under 'net.' and 'old.': choose one with --prefix",
            "--allow-narrowing rounds it",
        ]
    ):
        given = flags[: 2 * count]
        assert message in error_of(capsys, convert(path, tmp_path / "flax", *given))
    assert convert(path, tmp_path / "flax", *flags) == 0
    out = capsys.readouterr().out
    assert "took the state dict under 'model_ema'; beside it, not read: epoch, model\n" in out
    assert "narrowed from float64, which rounds numbers of 524 tensors\n" in out
    assert "after 'net.'" in out
    assert "left out, as outside the prefix 'net.': old.features.0.0.weight, " in out


def test_a_prefix_that_is_not_there_is_said(tmp_path, capsys):
    path = save({"net": random_state(0.1, 5)}, tmp_path / "w.pth")
    err = error_of(capsys, convert(path, tmp_path / "flax", "--prefix", "backbone"))
    assert "none of the file's 314 names after the prefix 'backbone', such as 'features.0" in err


@pytest.mark.parametrize("key", ["model", "models.model"])
def test_a_key_that_is_not_there_is_refused(tmp_path, capsys, key):
    path = save({"net": random_state(0.1, 5)}, tmp_path / "w.pth")
    err = error_of(capsys, convert(path, tmp_path / "flax", "--weights-key", key))
    assert f"unknown --weights-key {key!r}; accepted: net" in err
