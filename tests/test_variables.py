"""Variables of a network: how they are made."""

import chex
import jax
import numpy as np
import pytest

import flaxmobile
from flaxmobile.models import mobilenet_v2
from flaxmobile.variables import abstract_variables, transfer_backbone
from tests.networks import random_variables, short_model


def test_init_is_the_networks_and_is_compiled_once(monkeypatch):
    model = short_model()
    variables = flaxmobile.init(model, jax.random.key(3))
    chex.assert_trees_all_equal_shapes_and_dtypes(variables, abstract_variables(model))
    assert 0.009 < np.std(variables["params"]["classifier"]["kernel"]) < 0.011
    monkeypatch.setattr(mobilenet_v2.MobileNetV2, "build", None)  # a second trace would fail
    again = flaxmobile.init(model.clone(), jax.random.key(3), np.int64(32))
    chex.assert_trees_all_equal(again, variables)


@pytest.mark.parametrize(
    ("alpha", "variant"), [(1.0, "paper"), (0.35, "paper"), (1.0, "torchvision")]
)
def test_a_detector_begins_with_all_that_a_classifier_has_of_it(alpha, variant):
    """The last convolution too, unless the detector has a narrower one."""
    classifier = flaxmobile.create_model("v2", alpha=alpha)
    detector = flaxmobile.create_detector("ssdlite", "v2", alpha=alpha, head_variant=variant)
    trained, fresh = random_variables(classifier), random_variables(detector, seed=1)
    moved = transfer_backbone(detector, trained, fresh)
    chex.assert_trees_all_equal_shapes_and_dtypes(moved, fresh)
    for collection, groups in moved.items():
        for name, group in groups["backbone"].items():
            assert group is trained[collection][name]
        last = groups.get("last")
        assert (last is not None) == (variant == "paper")
        assert (last is trained[collection]["head"]) == (variant == "paper" and alpha == 1.0)
        assert groups["extra"] is fresh[collection]["extra"]
