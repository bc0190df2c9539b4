"""Whose file is it, and of which network?"""

from typing import get_args, get_type_hints

import numpy as np
import pytest
import timm
import torch
import torchvision

from convert.__main__ import Config
from convert.recognition import other_network, recognise
from convert.rules import RULES
from convert.sources import Source
from flaxmobile import InputError
from flaxmobile.layers import Network
from flaxmobile.registry import get_spec
from tests.convert.rules import each_rule, facts_of


def file_of(network, sha256="0" * 64):
    state = network.state_dict()
    # shapes do not matter
    return Source({name: np.zeros((), np.float32) for name in state}, sha256)


@pytest.fixture(scope="module", autouse=True)
def without_numbers():
    """Networks of names alone."""
    with torch.device("meta"):
        yield


def build(name):
    library, _, name = name.partition(":")
    make = timm.create_model if library == "timm" else torchvision.models.get_model
    return make(name)


@pytest.mark.parametrize(
    ("network", "model", "origin"),
    [
        ("torchvision:mobilenet_v2", "mobilenet_v2", "torchvision"),
        ("timm:mobilenetv2_050", "mobilenet_v2", "timm"),
        ("torchvision:mobilenet_v3_small", "mobilenet_v3_small", "torchvision"),
        ("timm:mnasnet_050", "mnasnet", "timm"),
        ("timm:tf_mobilenetv3_small_minimal_100", "mobilenet_v3_small", "timm-tf"),
        ("torchvision:shufflenet_v2_x0_5", "shufflenet_v2", "torchvision"),
    ],
)
def test_names_tell_the_origin(network, model, origin):
    found, _ = recognise(model, "auto", file_of(build(network)))
    assert found == origin


@pytest.mark.parametrize(
    ("network", "model", "sha256", "origin"),
    [
        ("timm:mobilenetv3_large_100", "mobilenet_v3_large", "f55367f5", "timm"),
        ("timm:mobilenetv3_large_100", "mobilenet_v3_large", "427764d5", "timm-tf"),
        ("timm:mobilenetv3_small_050", "mobilenet_v3_small", "384766db", "timm"),
        ("timm:inception_v3", "inception_v3", "0cc3c7bd", "torchvision"),
    ],
)
def test_the_hash_tells_origins_of_the_same_names_apart(network, model, sha256, origin):
    network = build(network)
    found, _ = recognise(model, "auto", file_of(network, sha256 + "0" * 56))
    assert found == origin
    with pytest.raises(InputError, match="name the file's origin with --source"):
        recognise(model, "auto", file_of(network))


@pytest.mark.parametrize(
    ("network", "model", "belongs"),
    [
        ("torchvision:mobilenet_v3_small", "mobilenet_v3_large", "mobilenet_v3_small"),
        ("torchvision:mobilenet_v3_large", "mobilenet_v3_small", "mobilenet_v3_large"),
        ("timm:mobilenetv2_050", "mobilenet_v1", "mobilenet_v2"),
        ("torchvision:mnasnet0_5", "mobilenet_v2", "mnasnet"),
    ],
)
def test_a_file_of_another_network_says_which(network, model, belongs):
    source = file_of(build(network))
    assert other_network(model, "auto", source).endswith(f": --model {belongs}")
    assert other_network(belongs, "auto", source) == ""


def test_a_file_of_no_network_is_said():
    source = Source({"a.weight": np.zeros(3, np.float32)}, "0" * 64)
    with pytest.raises(
        InputError, match=r"'a.weight', belongs to mnasnet from torchvision or timm$"
    ):
        recognise("mnasnet", "auto", source)


def test_every_origin_can_be_named():
    assert set(get_args(get_type_hints(Config)["source"])) >= {origin for origin, _ in RULES}


def test_an_origin_without_the_network_is_refused():
    with pytest.raises(InputError, match="accepted: auto, torchvision"):
        recognise("shufflenet_v2", "timm", file_of(torch.nn.Linear(2, 2)))


PUBLISHED = [(key, file) for key, rule in RULES.items() for file in rule.published if file.sha256]


@pytest.mark.parametrize(("key", "file"), PUBLISHED, ids=lambda each: getattr(each, "sha256", ""))
def test_a_published_file_is_known_by_its_hash(key, file):
    facts = facts_of(RULES[key], file.sha256)
    assert facts.source == {**file.source, **RULES[key].about}
    assert {"weights", "licence"} <= set(facts.source)
    assert facts.preprocessing.mean == file.preprocessing.mean
    assert [each for _, each in PUBLISHED if each.sha256.startswith(file.sha256[:8])] == [file]


@each_rule(lambda origin, rule: issubclass(rule.network, Network))
def test_another_file_gets_the_standard_preset(origin, name):
    facts = facts_of(RULES[origin, name], "0" * 64)
    assert facts.preprocessing.image_size == get_spec(name).image_size
    assert set(facts.source) == ({"repository"} if origin == "authors" else set())
    assert facts_of(RULES[origin, name], num_classes=10).class_names is None


def test_a_repository_alone_does_not_publish_a_file(monkeypatch):
    """The authors' rules name a repository for every file, which recognises none."""
    rule = RULES["torchvision", "mobilenet_v2"]
    copied = rule._replace(about={"repository": "someone/copies"}, published=())
    monkeypatch.setitem(RULES, ("authors", "mobilenet_v2"), copied)
    network = build("torchvision:mobilenet_v2")
    with pytest.raises(InputError, match="same names from torchvision and authors"):
        recognise("mobilenet_v2", "auto", file_of(network))
    published = file_of(network, rule.published[0].sha256 + "0" * 56)
    assert recognise("mobilenet_v2", "auto", published)[0] == "torchvision"
