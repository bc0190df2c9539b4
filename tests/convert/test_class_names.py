"""What the classes of ImageNet are called, with and without a background class."""

import pytest
from torchvision.models import get_model_weights

from convert.class_names import imagenet_names


def test_a_thousand_classes_are_torchvisions():
    weights = get_model_weights("mobilenet_v2")["IMAGENET1K_V2"]
    assert list(imagenet_names(1000)) == weights.meta["categories"]


def test_the_background_comes_first():
    names = imagenet_names(1001)
    assert names[:2] == ("background", "tench")
    assert names[1:] == imagenet_names(1000)


@pytest.mark.parametrize("num_classes", [0, 10, 999, 1002])
def test_other_numbers_have_no_names(num_classes):
    assert imagenet_names(num_classes) is None
