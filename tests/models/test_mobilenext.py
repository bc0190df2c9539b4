"""MobileNeXt against the network written in `tests.models.mobilenext`."""

import json
from functools import cache, partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flaxmobile import create_backbone, create_model, summarize
from flaxmobile.errors import InputError
from flaxmobile.layers import ConvNorm
from flaxmobile.models.mobilenext import Sandglass, stage_channels
from tests.models.mobilenext import TABLE, Block, Reference, form_of
from tests.models.parity import (
    NUM_CLASSES,
    assert_block_agrees,
    assert_logits_agree,
    assert_training_step_agrees,
    block,
    written_here,
)
from tests.networks import abstract, random_variables

ORACLES = json.loads((Path(__file__).parents[1] / "data" / "oracles.json").read_text())
PUBLISHED = ORACLES["published"]["mobilenext"]["rows"]


@cache
def pair(alpha):
    return written_here(Reference(alpha), "mobilenext", alpha=alpha)


@pytest.mark.parametrize(
    ("channels", "features", "stride", "reduction", "keep_3x3", "multiplier"),
    [
        (16, 24, 2, 2, False, 1.0),  # the first block's form
        (16, 24, 1, 2, False, 1.0),
        (16, 16, 1, 2, False, 1.0),  # no shortcut, though the shapes agree
        (24, 32, 1, 6, False, 1.0),  # no depthwise convolution
        (24, 32, 2, 6, False, 1.0),  # the last alone
        (24, 24, 1, 6, False, 1.0),  # both, and the shortcut
        (24, 24, 2, 6, False, 1.0),  # both, and none
        (24, 24, 1, 6, True, 1.0),
        (24, 32, 1, 6, True, 1.0),
        (24, 32, 2, 6, True, 1.0),
        (24, 24, 1, 6, False, 0.5),
        (24, 24, 1, 6, False, 0.35),  # 8.4 of 24 channels
        (24, 24, 1, 6, False, 0.0),
    ],
)
def test_block_agrees(channels, features, stride, reduction, keep_3x3, multiplier):
    theirs = Block(channels, features, stride, reduction, keep_3x3, multiplier)
    ours = Sandglass(
        features,
        reduction,
        stride=stride,
        keep_3x3=keep_3x3,
        identity_tensor_multiplier=multiplier,
        unit=partial(ConvNorm, dtype=np.float64),
    )
    assert_block_agrees(block(theirs, ours, channels), (3, 11, 11, channels))


@pytest.mark.parametrize(("alpha", "size"), [(0.1, 65), (0.35, 64)])
def test_logits_agree(alpha, size):
    assert_logits_agree(pair(alpha), size)


def test_logits_agree_at_full_size():
    assert_logits_agree(pair(1.0), 224, batch=1)


def test_training_step_agrees():
    assert_training_step_agrees(pair(0.1), 64)


@pytest.mark.parametrize("alpha", [0.35, 0.5, 0.75, 1.0, 1.4])
def test_parameters_are_the_references(alpha):
    """With 1000 classes; at 1.0 the authors' code has 3,535,416."""
    theirs = sum(parameter.numel() for parameter in Reference(alpha).parameters())
    features = stage_channels(alpha)[-1]
    theirs += (1000 - NUM_CLASSES) * (features + 1)
    summary = summarize(create_model("mobilenext", alpha=alpha))
    assert summary.params == theirs
    if alpha == 1.0:
        assert (summary.params, summary.macs) == (3535416, 311342592)


@pytest.mark.parametrize("row", PUBLISHED, ids=lambda row: str(row["alpha"]))
def test_counts_are_within_10_percent_of_the_published(row):
    """But for the parameters at 0.75: the authors' code has 2.77 million, their table 2.5."""
    summary = summarize(create_model("mobilenext", alpha=row["alpha"]))
    assert summary.macs == pytest.approx(row["macs_m"] * 1e6, rel=0.1)
    if row["alpha"] == 0.75:
        assert summary.params == 2766168
    else:
        assert summary.params == pytest.approx(row["params_m"] * 1e6, rel=0.1)


def test_network_is_the_corrected_table_2():
    params = abstract(create_model("mobilenext"))["params"]
    layers = {}
    given = 32
    for stage, (ratio, width, repeats, stride) in enumerate(TABLE, start=1):
        for number in range(1, repeats + 1):
            keep = repeats == 1 and stride == 1
            step = stride if number == 1 else 1
            first, last, _ = form_of(given, width, step, ratio, keep)
            layers[f"stage{stage}_block{number}"] = {
                "reduce",
                "expand",
                *["depthwise1"] * first,
                *["depthwise2"] * last,
            }
            kernel = params[f"stage{stage}_block{number}"]["expand"]["conv"]["kernel"]
            assert kernel.shape[-1] == width
            given = width
    assert {name: set(unit) for name, unit in params.items() if name.startswith("stage")} == layers
    assert set(params) == {"stem", "classifier", *layers}


@pytest.mark.parametrize(
    ("alpha", "widths"),
    [
        (0.1, (16, 16, 24, 32, 40, 56, 96, 1280)),
        (0.35, (32, 48, 64, 104, 136, 200, 336, 1280)),
        (1.4, (136, 200, 272, 400, 536, 808, 1344, 1792)),
    ],
)
def test_the_last_stage_never_shrinks(alpha, widths):
    assert stage_channels(alpha) == widths


def test_an_identity_tensor_multiplier_leaves_the_parameters_and_changes_the_features():
    images = np.random.default_rng(0).normal(size=(1, 32, 32, 3)).astype(np.float32)
    options = {"alpha": 0.1, "out_strides": (8,)}
    whole, half, none = (
        create_backbone("mobilenext", identity_tensor_multiplier=share, **options)
        for share in (1.0, 0.5, 0.0)
    )
    assert abstract(whole) == abstract(half) == abstract(none)
    variables = random_variables(whole)
    maps = [jax.jit(net.apply)(variables, images)[8] for net in (whole, half, none)]
    for one, other in ((0, 1), (1, 2), (0, 2)):
        assert np.abs(maps[one] - maps[other]).max() > 1e-3


def test_every_width_shrinks_by_32():
    """At 0.05 the blocks that shrink have as many channels out as in."""
    backbone = create_backbone("mobilenext", alpha=0.05)
    images = jax.ShapeDtypeStruct((1, 65, 96, 3), jnp.float32)
    features = jax.eval_shape(backbone.apply, abstract(backbone), images)
    assert {s: f.shape[1:3] for s, f in features.items()} == {
        s: (-(-65 // s), 96 // s) for s in (2, 4, 8, 16, 32)
    }


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_a_share_of_the_identity_outside_0_to_1_is_refused(share):
    message = f"identity_tensor_multiplier is {share}; accepted: 0 to 1"
    with pytest.raises(InputError, match=message):
        create_model("mobilenext", identity_tensor_multiplier=share)
