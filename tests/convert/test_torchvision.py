"""What torchvision says about its weights travels with them."""

import pytest
import torch
from torchvision.models import GoogLeNet, get_model_weights

from convert.rules import RULES
from convert.rules.torchvision.facts import ADDRESS, FILES

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


# Our name of a network -> torchvision's names of its published widths.
NETWORKS = {
    "mobilenet_v2": ["mobilenet_v2"],
    "mobilenet_v3_large": ["mobilenet_v3_large"],
    "mobilenet_v3_small": ["mobilenet_v3_small"],
    "mnasnet": ["mnasnet0_5", "mnasnet0_75", "mnasnet1_0", "mnasnet1_3"],
    "shufflenet_v2": [f"shufflenet_v2_x{width}" for width in ("0_5", "1_0", "1_5", "2_0")],
    "inception_v1": ["googlenet"],
    "inception_v3": ["inception_v3"],
}
PUBLISHED = [
    (model, weights)
    for model, names in NETWORKS.items()
    for name in names
    for weights in get_model_weights(name)
]


def test_all_published_files_are_known():
    urls = [f"{ADDRESS}{known.file}.pth" for files in FILES.values() for known in files]
    assert urls == [weights.url for _, weights in PUBLISHED]


@pytest.mark.parametrize(("model", "weights"), PUBLISHED, ids=str)
def test_a_published_file_has_torchvisions_preset(model, weights):
    sha256 = weights.url.removesuffix(".pth").rpartition("-")[2] + "0" * 48
    found = RULES["torchvision", model].facts(sha256, 1000)
    preset, ours = weights.transforms(), found.preprocessing
    assert (found.source["weights"], found.source["url"]) == (weights.name, weights.url)
    assert [ours.image_size] == preset.crop_size
    assert [ours.resize_size] == preset.resize_size
    assert ours.interpolation == preset.interpolation.value
    halves = (0.5, 0.5, 0.5)
    inception = model.startswith("inception")
    expected = [halves, halves] if inception else [tuple(preset.mean), tuple(preset.std)]
    assert [ours.mean, ours.std] == expected


def test_transform_input_is_in_the_preprocessing():
    """The published network on its own images is the one without transform on ours."""
    weights = get_model_weights("googlenet")["IMAGENET1K_V1"]
    torch.manual_seed(0)
    image = to_pil(torch.randint(0, 256, (3, 256, 256), dtype=torch.uint8))
    network = GoogLeNet(init_weights=False, transform_input=True)
    expected = network._transform_input(weights.transforms()(image)[None])[0]
    facts = RULES["torchvision", "inception_v1"].facts("1378be20" + "0" * 56, 1000)
    ours = torch.tensor(facts.preprocessing(image)).permute(2, 0, 1)
    assert torch.allclose(ours, expected, rtol=0, atol=1e-5)
