"""Heads that are not the network's own, and auxiliary ones that the user does not want."""

import numpy as np
import pytest
import torch
from torchvision.models import googlenet, mobilenet_v3_small

from convert import engine
from convert.rules import RULES
from flaxmobile import InputError, load_metadata, load_weights
from tests.convert.commands import convert, convert_back, error_of, save
from tests.convert.rules import fill
from tests.convert.states import random_state

HEADS = {
    "sequential": {
        "classifier.1.weight": torch.zeros(7, 1280),
        "classifier.1.bias": torch.zeros(7),
        "classifier.4.weight": torch.zeros(3, 7),
    },
    "other names": {"head.fc.weight": torch.zeros(3, 1280), "scale": torch.zeros(())},
    "missing": {},
}


def with_head(head):
    state = {name: t for name, t in random_state().items() if not name.startswith("classifier")}
    return {**state, **head}


@pytest.mark.parametrize("head", HEADS.values(), ids=HEADS)
def test_another_head_loads_as_a_backbone_and_the_error_says_so(tmp_path, capsys, head):
    path = save(with_head(head), tmp_path / "w.pth")
    err = error_of(capsys, convert(path, tmp_path / "flax"))
    assert "cannot be filled" in err
    assert "; --no-classifier would load it as a backbone, without its head\n" in err
    assert list(tmp_path.iterdir()) == [path]
    assert convert(path, tmp_path / "flax", "--no-classifier") == 0
    out = capsys.readouterr().out
    names = [f"left out, as not part of a backbone: {', '.join(head)}"] * bool(head)
    assert [line for line in out.splitlines() if line.startswith("left out")] == names
    model, variables = load_weights(tmp_path / "flax")
    assert (model.num_classes, model.alpha) == (0, 0.35)
    stem = random_state()["features.0.0.weight"].numpy()
    kernel = variables["params"]["stem"]["conv"]["kernel"]
    assert np.array_equal(kernel, stem.transpose(2, 3, 1, 0))
    assert load_metadata(tmp_path / "flax").class_names is None
    assert convert_back(tmp_path / "flax", tmp_path / "b.pth") == 0
    back = torch.load(tmp_path / "b.pth")
    assert back.keys() == {name for name in random_state() if not name.startswith("classifier")}


def test_a_networks_own_head_may_be_left_out_too(tmp_path, capsys):
    path = save(random_state(), tmp_path / "w.pth")
    assert convert(path, tmp_path / "flax", "--no-classifier") == 0
    assert "a backbone: classifier.1.weight, classifier.1.bias" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ({"features.19.0.weight": torch.zeros(3)}, "features.19.0.weight is unknown"),
        ({"features.0.0.weight": torch.zeros(3)}, "features.0.0.weight is float32[3]"),
        ({"features.0.0.num_batches": torch.zeros(3)}, "features.0.0.num_batches is unknown"),
    ],
)
def test_a_damaged_body_is_not_a_matter_of_the_head(tmp_path, capsys, damage, message):
    path = save({**random_state(), **damage}, tmp_path / "w.pth")
    for flags in ([], ["--no-classifier"]):
        err = error_of(capsys, convert(path, tmp_path / "flax", *flags))
        assert message in err
        assert "would load" not in err


def v3_state(**changes):
    state = mobilenet_v3_small(width_mult=0.5, num_classes=5).state_dict()
    return {k: v.numpy() for k, v in state.items()} | changes


def v3_backbone(state):
    rule = RULES["torchvision", "mobilenet_v3_small"]
    return fill(rule, "mobilenet_v3_small", state, num_classes=0)


def test_the_layer_before_the_head_stays_if_it_is_still_there():
    found = v3_backbone(v3_state(**{"classifier.5.bias": np.zeros(3, np.float32)}))
    assert found.options["hidden_layer"] is True
    assert set(found.variables["params"]) >= {"hidden", "last"}
    assert list(found.left_out) == ["classifier.3.weight", "classifier.3.bias", "classifier.5.bias"]


def test_the_layer_before_the_head_goes_if_it_is_another():
    other = {
        "classifier.0.weight": np.zeros((9, 288), np.float32),
        "classifier.0.bias": np.zeros(9, np.float32),
    }
    found = v3_backbone(v3_state(**other))
    assert found.options["hidden_layer"] is False
    assert "hidden" not in found.variables["params"]
    assert set(found.left_out) == {
        f"classifier.{i}.{k}" for i in (0, 3) for k in ("weight", "bias")
    }


@pytest.fixture(scope="module")
def google():
    state = googlenet(num_classes=7, aux_logits=True, init_weights=False).state_dict()
    return {name: tensor.numpy() for name, tensor in state.items()}


GOOGLENET = RULES["torchvision", "inception_v1"]


def test_auxiliary_heads_are_kept_or_left_out(google):
    kept = fill(GOOGLENET, "inception_v1", google)
    dropped = fill(GOOGLENET, "inception_v1", google, aux_logits=False)
    assert (kept.options["aux_logits"], dropped.options["aux_logits"]) == (True, False)
    assert kept.left_out == {}
    assert list(dropped.left_out) == [name for name in google if name.startswith("aux")]
    assert set(dropped.left_out.values()) == {"not part of a network with aux_logits=False"}
    assert kept.variables["params"].keys() - dropped.variables["params"].keys() == {
        "auxiliary1",
        "auxiliary2",
    }
    state = engine.from_flax(GOOGLENET, dropped.model, dropped.variables)
    assert state.keys() == {name for name in google if not name.startswith("aux")}


def test_auxiliary_heads_that_are_not_there_cannot_be_kept(google):
    without = {name: array for name, array in google.items() if not name.startswith("aux")}
    with pytest.raises(InputError, match=r"aux1\.conv\.conv\.weight is missing"):
        fill(GOOGLENET, "inception_v1", without, aux_logits=True)


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ({"flavour": "keras"}, "flavour"),
        ({"num_classes": 8}, "num_classes is 8, the file's network has 7"),
    ],
)
def test_a_choice_that_the_file_contradicts_is_refused(google, chosen, message):
    with pytest.raises(InputError, match=message):
        fill(GOOGLENET, "inception_v1", google, **chosen)


def test_an_option_that_no_weights_depend_on_is_taken(google):
    found = fill(GOOGLENET, "inception_v1", google, dropout_rate=0.3)
    assert found.model.dropout_rate == 0.3
