"""Inception V1 against torchvision, and the paper's flavour against a network written here."""

from functools import cache, partial

import jax.numpy as jnp
import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional
from torchvision.models import googlenet
from torchvision.models.googlenet import Inception as TheirInception
from torchvision.models.googlenet import InceptionAux

from convert.rules import RULES
from flaxmobile import create_model, summarize
from flaxmobile.layers import ConvNorm, to_symmetric_range
from flaxmobile.layers.branches import Branches
from flaxmobile.models.inception_v1 import (
    AuxiliaryClassifier,
    Widths,
    local_response_norm,
    module,
)
from tests.models.inception import Logits, LogitsMap, Unit, rule_at, thin, thinned
from tests.models.parity import (
    NUM_CLASSES,
    assert_block_agrees,
    assert_logits_agree,
    assert_training_step_agrees,
    block,
    from_torch,
    published,
    to_torch,
    written_here,
)

RULE = RULES["torchvision", "inception_v1"]
UNIT = partial(ConvNorm, norm_epsilon=1e-3, dtype=np.float64)
SMALL = Widths(4, 3, 5, 2, 6, 3)


def torchvisions(**options):
    dropout = {"dropout": 0.0, "dropout_aux": 0.0}
    return googlenet(num_classes=NUM_CLASSES, init_weights=False, **dropout, **options)


@cache
def thin_pair():
    network = thinned(torchvisions(aux_logits=True), 0.1, 64)
    pair = published(rule_at(RULE, 0.1), "inception_v1", network)
    return pair._replace(flax=pair.flax.clone(aux_dropout_rate=0.0))


def block_name(path, module="inception3a", theirs="inception3a", prefix=""):
    """torchvision's name of a module inside a block."""
    names = dict(RULE.modules(RULE.network(aux_logits=True)))
    inner = names[f"{module}/{path.removeprefix('head/')}"].removeprefix(f"{theirs}.")
    return f"{prefix}.{inner}" if prefix else inner


@pytest.mark.parametrize("size", [7, 8])
def test_module_agrees(size):
    ours = Branches(module(SMALL, 3), unit=UNIT)
    pair = block(TheirInception(8, *SMALL), ours, 8, names=block_name)
    assert_block_agrees(pair, (2, size, size, 8))


@pytest.mark.parametrize("size", [14, 5, 3])
def test_auxiliary_classifier_agrees(size):
    ours = AuxiliaryClassifier(NUM_CLASSES, dropout_rate=0.0, dtype=np.float64, unit=UNIT)
    theirs = Logits(InceptionAux(8, NUM_CLASSES, dropout=0.0))
    names = partial(block_name, module="auxiliary1", theirs="aux1", prefix="head")
    assert_block_agrees(block(theirs, LogitsMap(ours), 8, names=names), (2, size, size, 8))


def test_full_size_logits_agree():
    network = torchvisions(aux_logits=True, transform_input=True)
    pair = published(RULE, "inception_v1", network)
    pair = pair._replace(flax=pair.flax.clone(transform_input=True))
    assert_logits_agree(pair, 224, batch=1)


def test_logits_of_an_odd_size_agree():
    assert_logits_agree(thin_pair(), 75)


def test_training_step_agrees():
    assert_training_step_agrees(thin_pair(), 64)


def test_transform_input_maps_images_as_torchvision_does():
    standard = np.random.default_rng(0).normal(size=(1, 8, 8, 3)).astype(np.float32)
    network = torchvisions(transform_input=True)
    expected = from_torch(network._transform_input(to_torch(standard)))
    np.testing.assert_allclose(to_symmetric_range(jnp.asarray(standard)), expected, atol=1e-6)


class PaperModule(nn.Module):
    """Figure 2b."""

    def __init__(self, channels, c1, r3, c3, r5, c5, pool):
        super().__init__()
        unit = partial(Unit, normalized=False)
        self.branch1x1 = unit(channels, c1)
        self.branch3x3_reduce, self.branch3x3 = unit(channels, r3), unit(r3, c3, 3)
        self.branch5x5_reduce, self.branch5x5 = unit(channels, r5), unit(r5, c5, 5)
        self.pool_project = unit(channels, pool)

    def forward(self, x):
        threes = self.branch3x3(self.branch3x3_reduce(x))
        fives = self.branch5x5(self.branch5x5_reduce(x))
        pooled = self.pool_project(functional.max_pool2d(x, 3, 1, 1))
        return torch.cat([self.branch1x1(x), threes, fives, pooled], 1)


class PaperAuxiliary(nn.Module):
    """Section 5, with adaptive pooling."""

    def __init__(self, channels, width, hidden):
        super().__init__()
        self.project = Unit(channels, width, normalized=False)
        self.hidden = nn.Linear(16 * width, hidden)
        self.classifier = nn.Linear(hidden, NUM_CLASSES)

    def forward(self, x):
        x = self.project(functional.adaptive_avg_pool2d(x, 4)).flatten(1)
        return self.classifier(self.hidden(x).relu())


class PaperNetwork(nn.Module):
    """Table 1 and figure 3, thinned."""

    TABLE = (
        ("3a", 64, 96, 128, 16, 32, 32),
        ("3b", 128, 128, 192, 32, 96, 64),
        ("4a", 192, 96, 208, 16, 48, 64),
        ("4b", 160, 112, 224, 24, 64, 64),
        ("4c", 128, 128, 256, 24, 64, 64),
        ("4d", 112, 144, 288, 32, 64, 64),
        ("4e", 256, 160, 320, 32, 128, 128),
        ("5a", 256, 160, 320, 32, 128, 128),
        ("5b", 384, 192, 384, 48, 128, 128),
    )

    def __init__(self, alpha):
        super().__init__()
        unit = partial(Unit, normalized=False)
        stem, conv2 = thin(64, alpha), thin(192, alpha)
        self.stem = unit(3, stem, 7, 2)
        self.conv2_reduce, self.conv2 = unit(stem, stem), unit(stem, conv2, 3)
        channels = conv2
        for name, *widths in self.TABLE:
            scaled = [thin(width, alpha) for width in widths]
            self.add_module(f"inception{name}", PaperModule(channels, *scaled))
            channels = sum(scaled[index] for index in (0, 2, 4, 5))
            if name in ("4a", "4d"):
                head = PaperAuxiliary(channels, thin(128, alpha), thin(1024, alpha))
                self.add_module("auxiliary1" if name == "4a" else "auxiliary2", head)
        self.classifier = nn.Linear(channels, NUM_CLASSES)

    def forward(self, x):
        shrink = partial(functional.max_pool2d, kernel_size=3, stride=2, ceil_mode=True)
        normalize = nn.LocalResponseNorm(5, alpha=1e-4, beta=0.75, k=1)
        x = normalize(shrink(self.stem(x)))
        x = normalize(self.conv2(self.conv2_reduce(x)))
        early = []
        for name, *_ in self.TABLE:
            x = shrink(x) if name.endswith("a") else x
            x = self.get_submodule(f"inception{name}")(x)
            if name in ("4a", "4d"):
                early.append(self.get_submodule(f"auxiliary{len(early) + 1}")(x))
        logits = self.classifier(x.mean((2, 3)))
        return (logits, *early) if self.training else logits


@cache
def paper_pair():
    options = {"flavour": "paper", "aux_logits": True, "aux_dropout_rate": 0.0}
    return written_here(PaperNetwork(0.1), "inception_v1", alpha=0.1, **options)


def test_papers_full_network_has_as_many_parameters():
    with torch.device("meta"):
        reference = PaperNetwork(1.0)
    model = create_model("inception_v1", flavour="paper", aux_logits=True, num_classes=NUM_CLASSES)
    assert summarize(model).params == sum(p.numel() for p in reference.parameters())


def test_papers_logits_agree():
    assert_logits_agree(paper_pair(), 64)


def test_papers_training_step_agrees():
    assert_training_step_agrees(paper_pair(), 64)


def test_papers_module_agrees():
    ours = Branches(module(SMALL, 5), unit=partial(UNIT, folded=True))
    assert_block_agrees(block(PaperModule(8, *SMALL), ours, 8), (2, 7, 7, 8))


@pytest.mark.parametrize("channels", [1, 4, 16])
def test_local_response_norm_is_torchs(channels):
    x = 100 * np.random.default_rng(0).normal(size=(2, 3, 5, channels)).astype(np.float32)
    expected = from_torch(nn.LocalResponseNorm(5, alpha=1e-4, beta=0.75, k=1)(to_torch(x)))
    np.testing.assert_allclose(local_response_norm(x), expected, rtol=1e-5)
    assert np.abs(expected / x).min() < 0.9
