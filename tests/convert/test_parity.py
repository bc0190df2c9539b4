"""Networks of the table of origins that tests/models compares at one size or not at all."""

from functools import cache

import numpy as np
import pytest
import timm
from timm.models import mobilenetv3
from torchvision.models import mobilenet_v3_small

from convert.rules import RULES
from tests.models.parity import (
    NUM_CLASSES,
    assert_logits_agree,
    assert_training_step_agrees,
    published,
)

TF = {"pad_type": "same", "bn_eps": 1e-3}


def timms(variant, alpha, **options):
    """timm's builder takes any width only under this private name."""
    return mobilenetv3._gen_mobilenet_v3(variant, alpha, num_classes=NUM_CLASSES, **options)


def timms_own(name, **options):
    return timm.create_model(name, num_classes=NUM_CLASSES, **options)


NETWORKS = {
    ("torchvision", "mobilenet_v3_small", 0.5): lambda: mobilenet_v3_small(
        width_mult=0.5, num_classes=NUM_CLASSES, dropout=0.0
    ),
    ("timm", "mobilenet_v2", 0.5): lambda: timms_own("mobilenetv2_050"),
    ("timm", "mnasnet", 0.5): lambda: timms_own("mnasnet_050"),
    ("timm", "mnasnet", 0.75): lambda: timms_own("semnasnet_075"),
    ("timm", "mnasnet", 1.0): lambda: timms_own("mnasnet_small"),
    ("timm", "mobilenet_v1", 1.0): lambda: timms_own("mobilenetv1_100h"),
    ("timm", "mobilenet_v2", 1.1): lambda: timms_own("mobilenetv2_110d"),
    ("timm", "mobilenet_v4", 1.0): lambda: timms_own("mobilenetv4_conv_medium"),
    ("timm", "mobilenet_v3_large", 0.5): lambda: timms("mobilenetv3_large", 0.5),
    ("timm", "mobilenet_v3_small", 0.5): lambda: timms("mobilenetv3_small", 0.5),
    ("timm-tf", "mobilenet_v3_large", 0.75): lambda: timms("mobilenetv3_large", 0.75, **TF),
    ("timm-tf", "mobilenet_v3_small", 1.0): lambda: timms("mobilenetv3_small_minimal", 1.0, **TF),
    ("timm", "inception_v3", None): lambda: timms_own("inception_v3", aux_logits=False),
}


@cache
def pair(origin, name, alpha):
    return published(RULES[origin, name], name, NETWORKS[origin, name, alpha](), alpha)


@pytest.mark.parametrize(("origin", "name", "alpha"), NETWORKS)
def test_logits_agree_at_two_sizes(origin, name, alpha):
    for size in (75, (98, 83)):
        assert_logits_agree(pair(origin, name, alpha), size, batch=1)


def test_timms_mobilenet_v2_trains_as_ours():
    assert_training_step_agrees(pair("timm", "mobilenet_v2", 0.5), 64)


def test_timms_inception_v3_is_torchvisions():
    """Whose training step tests/models compares."""
    theirs, ours = (RULES[origin, "inception_v3"] for origin in ("torchvision", "timm"))
    assert (ours.options, ours.modules, ours.layout) == (
        theirs.options,
        theirs.modules,
        theirs.layout,
    )
    network = pair("timm", "inception_v3", None)
    norms = [module for module in network.torch.modules() if hasattr(module, "running_var")]
    assert {norm.eps for norm in norms} == {network.flax.norm_epsilon}
    np.testing.assert_allclose([1 - norm.momentum for norm in norms], network.flax.norm_momentum)
