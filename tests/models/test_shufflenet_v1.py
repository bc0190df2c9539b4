"""ShuffleNet against a network written here from figure 2 and table 1 of the paper."""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from flaxmobile import create_model, summarize
from flaxmobile.errors import InputError
from flaxmobile.layers import ConvNorm
from flaxmobile.models.shufflenet_v1 import ShuffleNetUnit, stage_channels, stem_channels
from tests.models.parity import (
    NUM_CLASSES,
    assert_block_agrees,
    assert_logits_agree,
    assert_training_step_agrees,
    block,
    written_here,
)
from tests.networks import abstract

TABLE = {  # table 1: channels of stages 2, 3, 4
    1: (144, 288, 576),
    2: (200, 400, 800),
    3: (240, 480, 960),
    4: (272, 544, 1088),
    8: (384, 768, 1536),
}
every_groups = pytest.mark.parametrize("groups", TABLE)


class Normalized(nn.Module):
    """Convolution and BatchNorm."""

    def __init__(self, given, wanted, side=1, stride=1, groups=1):
        super().__init__()
        self.conv = nn.Conv2d(given, wanted, side, stride, side // 2, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(wanted)

    def forward(self, x):
        return self.norm(self.conv(x))


def shuffle(x, groups):
    """Figure 1c, channel by channel: the first of every group, then the second of every group."""
    size = x.shape[1] // groups
    order = [group * size + member for member in range(size) for group in range(groups)]
    return x[:, order]


class Unit(nn.Module):
    """Figure 2b, or with `downsamples` figure 2c."""

    def __init__(self, given, wanted, groups, downsamples, first_groups=None):
        super().__init__()
        self.groups, self.downsamples = groups, downsamples
        middle, made = wanted // 4, wanted - given if downsamples else wanted
        first_groups = first_groups or groups
        self.reduce = Normalized(given, middle, groups=first_groups)
        stride = 2 if downsamples else 1
        self.depthwise = Normalized(middle, middle, 3, stride, groups=middle)
        self.expand = Normalized(middle, made, groups=groups)

    def forward(self, x):
        y = shuffle(functional.relu(self.reduce(x)), self.groups)
        y = self.expand(self.depthwise(y))
        if self.downsamples:
            return functional.relu(torch.cat([functional.avg_pool2d(x, 3, 2, 1), y], dim=1))
        return functional.relu(x + y)


class Reference(nn.Module):
    """Table 1 with other channels."""

    def __init__(self, stem, channels, groups):
        super().__init__()
        self.stem = Normalized(3, stem, 3, 2)
        given = stem
        for stage, (wanted, repeats) in enumerate(zip(channels, (3, 7, 3), strict=True), start=2):
            for number in range(1, repeats + 2):
                first = 1 if (stage, number) == (2, 1) else None
                unit = Unit(given, wanted, groups, downsamples=number == 1, first_groups=first)
                self.add_module(f"stage{stage}_block{number}", unit)
                given = wanted
        self.classifier = nn.Linear(given, NUM_CLASSES, bias=False)

    def forward(self, x):
        x = functional.max_pool2d(functional.relu(self.stem(x)), 3, 2, 1)
        for name, unit in self.named_children():
            if name.startswith("stage"):
                x = unit(x)
        return self.classifier(x.mean((2, 3)))


@cache
def pair(groups, alpha):
    channels = [int(width * alpha) for width in TABLE[groups]]
    stem = {(1, 0.25): 6, (3, 0.25): 6, (8, 0.25): 8, (3, 1.0): 24}[groups, alpha]
    reference = Reference(stem, channels, groups)
    return written_here(reference, "shufflenet_v1", groups=groups, alpha=alpha)


@pytest.mark.parametrize("size", [11, 12])
@pytest.mark.parametrize(
    ("channels", "features", "groups", "first"),
    [(24, 24, 3, None), (24, 48, 3, None), (24, 40, 2, 1), (32, 64, 8, None), (24, 36, 1, None)],
)
def test_unit_agrees(channels, features, groups, first, size):
    downsamples = channels != features
    theirs = Unit(channels, features, groups, downsamples, first)
    ours = ShuffleNetUnit(
        features,
        groups,
        first_groups=first,
        stride=2 if downsamples else 1,
        unit=partial(ConvNorm, dtype=np.float64),
    )
    assert_block_agrees(block(theirs, ours, channels), (3, size, size, channels))


@pytest.mark.parametrize(("groups", "alpha", "size"), [(1, 0.25, 64), (8, 0.25, 65)])
def test_logits_agree(groups, alpha, size):
    assert_logits_agree(pair(groups, alpha), size)


def test_logits_agree_at_full_size():
    assert_logits_agree(pair(3, 1.0), 224, batch=1)


def test_training_step_agrees():
    assert_training_step_agrees(pair(3, 0.25), 64)


@every_groups
def test_network_is_table_1(groups):
    params = abstract(create_model("shufflenet_v1", groups=groups))["params"]
    given = 24
    for stage, (width, blocks) in enumerate(zip(TABLE[groups], (4, 8, 4), strict=True), start=2):
        for number in range(1, blocks + 1):
            unit = params[f"stage{stage}_block{number}"]
            first = 1 if (stage, number) == (2, 1) else groups
            assert unit["reduce"]["conv"]["kernel"].shape == (1, 1, given // first, width // 4)
            made = width - given if number == 1 else width
            assert unit["expand"]["conv"]["kernel"].shape == (1, 1, width // 4 // groups, made)
            given = width
    assert set(params["classifier"]) == {"kernel"}


@every_groups
@pytest.mark.parametrize("alpha", [0.01, 0.1, 0.25, 0.33, 0.5, 1.0, 1.5, 2.0])
def test_groups_divide_every_width_and_every_stage_is_wider_than_the_last(groups, alpha):
    widths = stage_channels(groups, alpha)
    assert all(width % (4 * groups) == 0 for width in widths)
    stem = stem_channels(groups, alpha)
    assert stem < widths[0] < widths[1] < widths[2]
    for width, published in zip(widths, TABLE[groups], strict=True):
        assert width <= max(published * alpha + 2 * groups, stem + 12 * groups)
        assert width >= published * alpha - 2 * groups


@pytest.mark.parametrize("groups", [3, 8])
@pytest.mark.parametrize("alpha", [0.5, 1.5, 2.0])
def test_the_widths_that_the_authors_publish_are_not_rounded(groups, alpha):
    assert stage_channels(groups, alpha) == tuple(width * alpha for width in TABLE[groups])


@pytest.mark.parametrize(
    ("alpha", "groups", "stem", "millions"),
    [
        (0.5, 3, 12, 38),
        (0.5, 8, 16, 40),
        (1.0, 3, 24, 138),
        (1.0, 8, 24, 138),
        (1.5, 3, 24, 292),
        (1.5, 8, 24, 290),
        (2.0, 3, 48, 524),
        (2.0, 8, 48, 522),
    ],
)
def test_multiply_adds_are_the_authors(alpha, groups, stem, millions):
    """Megvii's README (ShuffleNet-Series, ShuffleNetV1), which rounds some up and some down."""
    model = create_model("shufflenet_v1", alpha=alpha, groups=groups)
    summary = summarize(model, 224)
    assert summary.rows[0].output[-1] == stem
    assert abs(summary.macs / 1e6 - millions) < 1


@pytest.mark.parametrize("alpha", [0.01, 3.3])
def test_any_width_builds(alpha):
    model = create_model("shufflenet_v1", alpha=alpha, groups=8, num_classes=5)
    images = jax.ShapeDtypeStruct((2, 33, 47, 3), jnp.float32)
    assert jax.eval_shape(model.apply, abstract(model), images).shape == (2, 5)


def test_padding_reaches_the_pools():
    """A constant image stays one where the mean leaves padded pixels out."""
    x = np.ones((1, 8, 8, 8), np.float32)
    counted, left_out = (
        ShuffleNetUnit(16, 2, stride=2, padding=padding, unit=partial(ConvNorm, padding=padding))
        for padding in ("symmetric", "SAME")
    )
    variables = counted.init(jax.random.key(0), x)
    assert counted.apply(variables, x)[0, 0, 0, 0] == pytest.approx(4 / 9)
    np.testing.assert_allclose(left_out.apply(variables, x)[..., :8], 1, rtol=1e-6)
    same = create_model("shufflenet_v1", padding="same", alpha=0.25, num_classes=5)
    assert same.unit().keywords["padding"] == "SAME"


@pytest.mark.parametrize("groups", [0, 5, 6, 16, -1])
def test_other_groups_are_refused(groups):
    with pytest.raises(InputError, match=rf"groups is {groups}; accepted: 1, 2, 3, 4, 8"):
        create_model("shufflenet_v1", groups=groups)
