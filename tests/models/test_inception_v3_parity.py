"""Inception V3 against torchvision: blocks, logits, training steps."""

from functools import cache, partial
from unittest import mock

import numpy as np
import pytest
from torch.nn import functional
from torchvision.models import inception, inception_v3

from convert.rules import RULES
from convert.rules.torchvision.inception_v3 import LAYERS
from flaxmobile.layers import ConvNorm
from flaxmobile.layers.branches import Branches, scale
from flaxmobile.models.inception_v3 import TABLE, InceptionAux
from tests.models.inception import Logits, LogitsMap, rule_at, thin, thinned
from tests.models.parity import (
    NUM_CLASSES,
    assert_block_agrees,
    assert_logits_agree,
    assert_training_step_agrees,
    block,
    published,
)

RULE = RULES["torchvision", "inception_v3"]
ALPHA = 0.1


def torchvisions(**options):
    return inception_v3(num_classes=NUM_CLASSES, init_weights=False, dropout=0.0, **options)


class SmallAux(inception.InceptionAux):
    """For images below 299, which torchvision's refuses: averages into bins."""

    def forward(self, x):
        x = self.conv1(self.conv0(functional.adaptive_avg_pool2d(x, 5)))
        return self.fc(x.mean((2, 3)))


@cache
def thin_pair():
    blocks = [getattr(inception, f"Inception{letter}") for letter in "ABCDE"]
    network = torchvisions(
        aux_logits=True, inception_blocks=[inception.BasicConv2d, *blocks, SmallAux]
    )
    return published(rule_at(RULE, ALPHA), "inception_v3", thinned(network, ALPHA, 96))


def block_name(path, module):
    """torchvision's name of a module inside a block."""
    unit, leaf = path.split("/")
    return f"{LAYERS[module][unit]}.{'bn' if leaf == 'norm' else leaf}"


UNIT = partial(ConvNorm, norm_epsilon=1e-3, dtype=np.float64)
BLOCKS = {
    "mixed5b": (inception.InceptionA, {"pool_features": 32}),
    "mixed6a": (inception.InceptionB, {}),
    "mixed6c": (inception.InceptionC, {"channels_7x7": 160}),
    "mixed7a": (inception.InceptionD, {}),
    "mixed7b": (inception.InceptionE, {}),
}


@pytest.mark.parametrize(("module", "size"), [(m, 7) for m in BLOCKS] + [("mixed6a", 8)])
def test_block_agrees(module, size):
    theirs, options = BLOCKS[module]
    network = thinned(theirs(24, **options), ALPHA, size, 24)
    names = partial(block_name, module=module)
    branches = next(row for name, row, *_ in TABLE if name == module)
    ours = Branches(scale(branches, partial(thin, alpha=ALPHA)), unit=UNIT)
    pair = block(network, ours, 24, names=names)
    assert_block_agrees(pair, (2, size, size, 24))


@pytest.mark.parametrize("size", [17, 20])
def test_auxiliary_classifier_agrees(size):
    def names(path):
        _, unit, *leaf = path.split("/")
        return "head.fc" if unit == "classifier" else f"head.{block_name(f'{unit}/{leaf[0]}', aux)}"

    aux = "auxiliary"
    theirs = Logits(thinned(inception.InceptionAux(24, NUM_CLASSES), ALPHA, 17, 24))
    ours = LogitsMap(InceptionAux(NUM_CLASSES, ALPHA, np.float64, UNIT))
    assert_block_agrees(block(theirs, ours, 24, names=names), (2, size, size, 24))


def with_pool(forward, pool, x):
    with mock.patch.object(inception.F, "avg_pool2d", pool):
        return forward(x)


@cache
def fid_pair():
    """torchvision's network with the pooling of TensorFlow's graph of 2015-12-05."""
    network = thinned(torchvisions(aux_logits=False), ALPHA, 96)
    averages = partial(functional.avg_pool2d, count_include_pad=False)
    for name, module in network.named_children():
        if hasattr(module, "branch_pool"):
            pool = functional.max_pool2d if name == "Mixed_7c" else averages
            module._forward = partial(with_pool, module._forward, pool)
    return published(rule_at(RULES["fid", "inception_v3"], ALPHA), "inception_v3", network)


@pytest.mark.parametrize("size", [75, (83, 110)])
def test_fids_logits_agree(size):
    pair = fid_pair()
    assert_logits_agree(pair, size)
    with pytest.raises(AssertionError):
        assert_logits_agree(pair._replace(flax=pair.flax.clone(variant="slim")), size)


def test_full_size_logits_agree():
    network = torchvisions(aux_logits=True, transform_input=True)
    pair = published(RULE, "inception_v3", network)
    pair = pair._replace(flax=pair.flax.clone(transform_input=True))
    assert_logits_agree(pair, 299, batch=1)


def test_logits_of_the_smallest_size_agree():
    assert_logits_agree(thin_pair(), 75)


def test_training_step_agrees():
    assert_training_step_agrees(thin_pair(), 96)
