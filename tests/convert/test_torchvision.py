"""What torchvision says about its weights travels with them."""

import sys

import pytest
import torch
from torchvision.models import get_model_weights

from convert.rules import RULES
from convert.rules.torchvision.facts import MODELS

FACTS = RULES["torchvision", "mobilenet_v2"].facts


@pytest.mark.parametrize(
    ("published", "address", "resize_size"),
    [
        ("IMAGENET1K_V1", "b0353104", 256),
        ("IMAGENET1K_V2", "7ebf99e0", 232),
    ],
)
def test_a_published_file_is_recognised_by_its_hash(published, address, resize_size):
    facts = FACTS(address + "0" * 56, 1000)
    weights = get_model_weights("mobilenet_v2")[published]
    assert facts.source["weights"] == published
    assert facts.source["url"] == weights.url
    assert "BSD-3-Clause" in facts.source["licence"]
    assert list(facts.class_names) == weights.meta["categories"]
    assert facts.preprocessing.resize_size == resize_size


def test_the_preset_prepares_images_as_torchvision_does():
    facts = FACTS("7ebf99e0" + "0" * 56, 1000)
    image = torch.randint(0, 256, (3, 300, 260), generator=torch.manual_seed(0), dtype=torch.uint8)
    image = to_pil(image)
    expected = get_model_weights("mobilenet_v2")["IMAGENET1K_V2"].transforms()(image)
    ours = torch.tensor(facts.preprocessing(image)).permute(2, 0, 1)
    assert torch.allclose(ours, expected, rtol=0, atol=1e-6)


def to_pil(image):
    from torchvision.transforms.functional import to_pil_image

    return to_pil_image(image)


def test_another_file_gets_the_standard_preset():
    facts = FACTS("0" * 64, 1000)
    assert (facts.preprocessing.image_size, facts.preprocessing.resize_size) == (224, 256)
    assert facts.preprocessing.interpolation == "bilinear"
    assert (len(facts.class_names), facts.class_names[0]) == (1000, "tench")
    assert facts.source == {}


def test_other_classes_get_no_names():
    assert FACTS("7ebf99e0" + "0" * 56, 10).class_names is None


def test_without_torchvision_a_published_file_is_any_other(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchvision", None)
    facts = FACTS("7ebf99e0" + "0" * 56, 1000)
    assert facts.class_names[0] == "tench"
    assert (facts.preprocessing.resize_size, facts.source) == (256, {})


@pytest.mark.parametrize("name", MODELS)
def test_every_published_width_is_recognised(name):
    published = [w for theirs in MODELS[name].values() for w in get_model_weights(theirs)]
    hashes = [w.url.rpartition("-")[2].removesuffix(".pth") for w in published]
    found = [RULES["torchvision", name].facts(h + "0" * 56, 1000).source["url"] for h in hashes]
    assert found == [weights.url for weights in published]
