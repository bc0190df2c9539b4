"""What torchvision says about its weights travels with them."""

import pytest
import torch
from torch.hub import HASH_REGEX
from torchvision import models
from torchvision.models import detection, segmentation

from convert.facts import facts_about
from convert.published.catalogue import CATALOGUE, find_entry
from convert.rules import RULES
from tests.convert.rules import facts_of

RULE = RULES["torchvision", "mobilenet_v2"]


def test_the_preset_prepares_images_as_torchvision_does():
    facts = facts_of(RULE, "7ebf99e0")
    image = torch.randint(0, 256, (3, 300, 260), generator=torch.manual_seed(0), dtype=torch.uint8)
    image = to_pil(image)
    expected = models.get_model_weights("mobilenet_v2")["IMAGENET1K_V2"].transforms()(image)
    ours = torch.tensor(facts.preprocessing(image)).permute(2, 0, 1)
    assert torch.allclose(ours, expected, rtol=0, atol=1e-6)


def to_pil(image):
    from torchvision.transforms.functional import to_pil_image

    return to_pil_image(image)


def test_other_classes_get_no_names():
    assert facts_of(RULE, "7ebf99e0", 10).class_names is None


FAMILIES = ("mobilenet", "mnasnet", "shufflenet", "googlenet", "inception")
"""What torchvision calls the networks that we have."""
NAMES = [
    name
    for module in (models, models.quantization)
    for name in models.list_models(module, include=[f"*{family}*" for family in FAMILIES])
]
PUBLISHED = [
    (f"torchvision:{name}.{weights.name}", weights)
    for name in NAMES
    for weights in models.get_model_weights(name)
]

SEGMENTERS = {
    "lraspp": ("lraspp_mobilenet_v3_large", segmentation.LRASPP_MobileNet_V3_Large_Weights),
    "deeplab_v3": (
        "deeplabv3_mobilenet_v3_large",
        segmentation.DeepLabV3_MobileNet_V3_Large_Weights,
    ),
}


def test_all_published_files_are_known():
    known = {name for name in CATALOGUE if name.startswith("torchvision:")}
    own = {f"torchvision:{name}.{each.DEFAULT.name}" for name, each in SEGMENTERS.values()}
    own.add("torchvision:ssdlite320_mobilenet_v3_large.COCO_V1")
    assert known == {name for name, _ in PUBLISHED} | own


def test_the_published_detector_has_torchvisions_preset():
    (weights,) = detection.SSDLite320_MobileNet_V3_Large_Weights
    found = find_entry("torchvision:ssdlite320_mobilenet_v3_large")
    facts = facts_of(RULES["torchvision", "ssdlite"], found.published.sha256, 91)
    assert (found.model, found.published.url) == ("ssdlite", weights.url)
    assert found.published.params == weights.meta["num_params"]
    assert list(facts.class_names) == weights.meta["categories"]
    assert facts.preprocessing.height_and_width == (320, 320)
    assert facts.preprocessing.mean == facts.preprocessing.std == (0.5, 0.5, 0.5)


@pytest.mark.parametrize("model", SEGMENTERS)
def test_a_published_segmenter_has_torchvisions_preset(model):
    name, (weights,) = SEGMENTERS[model]
    found = find_entry(f"torchvision:{name}")
    facts = facts_of(RULES["torchvision", model], found.published.sha256, 21)
    preset, ours = weights.transforms(), facts.preprocessing
    assert (found.model, found.published.url) == (model, weights.url)
    assert found.published.params == weights.meta["num_params"]
    assert list(facts.class_names) == weights.meta["categories"]
    assert [ours.resize_size] == preset.resize_size
    assert [ours.mean, ours.std] == [tuple(preset.mean), tuple(preset.std)]
    assert ours.interpolation == preset.interpolation.value


@pytest.mark.parametrize("name", NAMES)
def test_a_network_alone_means_torchvisions_default(name):
    published = find_entry(f"torchvision:{name}").published
    assert published.url == models.get_model_weights(name).DEFAULT.url


@pytest.mark.parametrize(("name", "weights"), PUBLISHED, ids=str)
def test_a_published_file_has_torchvisions_preset(name, weights):
    entry = CATALOGUE[name]
    rule, published = RULES["torchvision", entry.model], entry.published
    digest = HASH_REGEX.search(weights.url)  # by which torch verifies what it fetched
    assert published.sha256 == (digest.group(1) if digest else "")
    found = facts_about(rule, rule.make(num_classes=1000, **rule.options), published)
    preset, ours = weights.transforms(), found.preprocessing
    assert (found.source["weights"], found.source["url"]) == (name, weights.url)
    assert published.params == weights.meta["num_params"]
    assert published.top1 == weights.meta["_metrics"]["ImageNet-1K"]["acc@1"]
    assert "BSD-3-Clause" in found.source["licence"]
    assert list(found.class_names) == weights.meta["categories"]
    assert [ours.image_size] == preset.crop_size
    assert [ours.resize_size] == preset.resize_size
    assert ours.interpolation == preset.interpolation.value
    halves = (0.5, 0.5, 0.5)
    inception = entry.model.startswith("inception")
    expected = [halves, halves] if inception else [tuple(preset.mean), tuple(preset.std)]
    assert [ours.mean, ours.std] == expected


def test_transform_input_is_in_the_preprocessing():
    """The published network on its own images is the one without transform on ours."""
    weights = models.get_model_weights("googlenet")["IMAGENET1K_V1"]
    torch.manual_seed(0)
    image = to_pil(torch.randint(0, 256, (3, 256, 256), dtype=torch.uint8))
    network = models.GoogLeNet(init_weights=False, transform_input=True)
    expected = network._transform_input(weights.transforms()(image)[None])[0]
    facts = facts_of(RULES["torchvision", "inception_v1"], "1378be20")
    ours = torch.tensor(facts.preprocessing(image)).permute(2, 0, 1)
    assert torch.allclose(ours, expected, rtol=0, atol=1e-5)
