"""The origins' own networks take the tensors that the rules write."""

import pytest

from convert import engine
from convert.references import build_reference
from convert.rules import RULES
from convert.torch_files import torch_state
from flaxmobile import InputError, create_model
from flaxmobile.registry import options_of
from tests.networks import random_variables

ALPHAS = {"mobilenet_v3_large": 0.75, "mobilenet_v3_small": 0.75}


LIBRARIES = [key for key in RULES if key[0] not in ("authors", "mediapipe", "keras")]


@pytest.mark.parametrize(("origin", "name"), LIBRARIES, ids=str)
def test_every_origin_has_the_network_of_its_rule(origin, name):
    """Our tensors load there strictly, in its order."""
    rule = RULES[origin, name]
    alpha = {"alpha": ALPHAS[name]} if name in ALPHAS and origin != "timm" else {}
    model = create_model(name, num_classes=7, **{**rule.options, **rule.variants[0], **alpha})
    state = engine.from_flax(rule, model, random_variables(model))
    network = build_reference(origin, name, options_of(model))
    assert list(network.state_dict()) == list(state)
    network.load_state_dict(torch_state(state, rule.version))


def test_an_origin_without_the_network_is_said():
    with pytest.raises(InputError, match="torchvision has no xception"):
        build_reference("torchvision", "xception", {})
