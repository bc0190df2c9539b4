"""Policies draw what torchvision's draw, as often."""

import collections

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import stats
from timm.data import auto_augment as timm_policies
from torchvision import transforms
from torchvision.transforms import autoaugment

from train.data.operations import apply_operation
from train.data.policies import (
    AugMix,
    AutoAugment,
    AutoAugmentV0,
    RandAugment,
    TrivialAugmentWide,
)
from train.data.policy_tables import IMAGENET, V0

SIZE = (40, 31)
DRAWS = 4000

POLICIES = {
    "randaugment": (RandAugment(), transforms.RandAugment()),
    "randaugment 30": (RandAugment(magnitude=30), transforms.RandAugment(magnitude=30)),
    "autoaugment": (AutoAugment(), transforms.AutoAugment()),
    "trivial": (TrivialAugmentWide(), transforms.TrivialAugmentWide()),
}


@pytest.fixture(scope="module")
def image():
    pixels = np.random.default_rng(0).integers(0, 256, (31, 40, 3), np.uint8)
    return Image.fromarray(pixels)


def rounded(plan):
    """A plan without the noise of float32, and with the magnitude that the operation sees."""
    whole = {"TranslateX", "TranslateY", "Posterize"}
    return tuple((n, int(m) if n in whole else round(m, 3) + 0.0) for n, m in plan)


def theirs(policy, image, monkeypatch, draws=DRAWS):
    """What a policy of torchvision does to an image, several times."""
    plan, plans = [], []
    monkeypatch.setattr(
        autoaugment, "_apply_op", lambda img, name, m, **_: plan.append((name, m)) or img
    )
    torch.manual_seed(0)
    for _ in range(draws):
        plan.clear()
        policy(image)
        plans.append(rounded(plan))
    return plans


def assert_as_often(ours, expected, single=False):
    """Compare how often each plan was drawn, or each operation where plans are many."""
    if single:
        ours, expected = ([op for plan in plans for op in plan] for plans in (ours, expected))
    ours, expected = collections.Counter(ours), collections.Counter(expected)
    names = sorted(set(ours) | set(expected), key=str)
    counts = np.array([[found[name] for name in names] for found in (ours, expected)])
    often = counts.sum(0) >= 10
    counts = np.concatenate([counts[:, often], counts[:, ~often].sum(1, keepdims=True)], 1)
    counts = counts[:, counts.sum(0) > 0]
    assert stats.chi2_contingency(counts).pvalue > 0.001


@pytest.mark.parametrize("name", POLICIES)
def test_policies_draw_what_torchvision_draws_as_often(name, image, monkeypatch):
    policy, reference = POLICIES[name]
    rng = np.random.default_rng(0)
    ours = [rounded(policy.draw(SIZE, rng)) for _ in range(DRAWS)]
    expected = theirs(reference, image, monkeypatch)
    assert {len(plan) for plan in ours} == {len(plan) for plan in expected}
    single = name.startswith("randaugment")
    assert_as_often(ours, expected, single)
    if name == "autoaugment":  # few enough to be drawn all
        assert set(ours) == set(expected)


@pytest.mark.parametrize("severity", [3, 10])
def test_augmix_draws_what_torchvision_draws_as_often(image, monkeypatch, severity):
    rng, draws = np.random.default_rng(0), 1000
    policy = AugMix(severity=severity)
    ours = [rounded(policy.draw(SIZE, rng)) for _ in range(3 * draws)]
    expected = theirs(transforms.AugMix(severity=severity), image, monkeypatch, draws)
    assert_as_often(ours, expected, single=True)
    lengths = collections.Counter(map(len, ours))
    assert set(lengths) == {1, 2, 3}
    assert min(lengths.values()) > 0.9 * draws
    assert sum(map(len, expected)) / draws == pytest.approx(6, abs=0.2)


class NoChange(AugMix):
    def draw(self, size, rng):
        return []


class Inverted(AugMix):
    def draw(self, size, rng):
        return [("Invert", 0.0)]


def test_augmix_averages_the_image_and_its_chains(image):
    rng = np.random.default_rng(0)
    np.testing.assert_array_equal(NoChange()(image, rng), image)
    pixels = np.asarray(image, float)
    shares = []
    for _ in range(300):
        mixed = np.asarray(Inverted()(image, rng), float)
        share = np.polyfit((255 - 2 * pixels).ravel(), (mixed - pixels).ravel(), 1)[0]
        np.testing.assert_allclose(mixed, pixels + share * (255 - 2 * pixels), atol=1)
        shares.append(share)
    assert stats.kstest(shares, "uniform").pvalue > 0.01  # Beta(1, 1)


# ---- tables


def level(operation):
    return operation.name, operation.prob, operation.magnitude


@pytest.mark.parametrize(
    ("table", "reference"),
    [
        (IMAGENET, timm_policies.auto_augment_policy_original),
        (V0, timm_policies.auto_augment_policy_v0),
    ],
)
def test_tables_are_those_of_timm(table, reference):
    """Where timm's operation is called otherwise, it is another form of the same."""
    names = {"PosterizeOriginal": "Posterize", "TranslateYRel": "TranslateY"}
    rows = [[level(operation) for operation in row] for row in reference({})]
    assert [[(n, p, m) for n, p, m in row] for row in table] == [
        [(names.get(n, n), p, m) for n, p, m in row] for row in rows
    ]


V0_MAGNITUDES = {  # of the model garden: a level of 10 is the top
    ("Rotate", 8): {24, -24}, ("ShearX", 9): {0.27, -0.27}, ("ShearY", 4): {0.12, -0.12},
    ("TranslateY", 9): {225, -225}, ("Color", 9): {0.72}, ("Color", 0): {-0.9},
    ("Posterize", 6): {2}, ("Posterize", 2): {0}, ("Solarize", 3): {76}, ("Solarize", 10): {256},
    ("SolarizeAdd", 3): {33}, ("SolarizeAdd", 7): {77}, ("Invert", 9): {0},
}  # fmt: skip


def test_v0_has_the_magnitudes_of_the_model_garden():
    policy, rng = AutoAugmentV0("nearest", fill=128), np.random.default_rng(0)
    found = collections.defaultdict(set)
    for _ in range(DRAWS):
        for name, magnitude in policy.draw((224, 224), rng):
            found[name].add(round(magnitude, 6) + 0.0)
    for (name, _), magnitudes in V0_MAGNITUDES.items():
        assert magnitudes <= found[name], name
    rows = {name: {lv for row in V0 for n, p, lv in row if n == name and p} for name in found}
    signed = {"Rotate", "ShearX", "ShearY", "TranslateY"}
    for name, levels in rows.items():
        fixed = name in {"Equalize", "Invert", "AutoContrast"}
        count = sum(2 if name in signed and lv else 1 for lv in levels)
        assert len(found[name]) == (1 if fixed else count), name


@pytest.mark.parametrize("policy", [RandAugment(), AutoAugmentV0("nearest", 128), AugMix()])
def test_the_generator_alone_decides(policy, image):
    first, again, *others = (
        np.asarray(policy(image, np.random.default_rng(seed))) for seed in (3, 3, *range(10))
    )
    np.testing.assert_array_equal(first, again)
    assert first.shape == (31, 40, 3)
    assert any((first != other).any() for other in others)


def test_a_policy_applies_its_operations_in_order(image):
    plan = [("Rotate", 20.0), ("Solarize", 100.0)]
    expected = apply_operation(image, "Rotate", 20.0, Image.Resampling.BICUBIC, 7)
    expected = apply_operation(expected, "Solarize", 100.0)
    np.testing.assert_array_equal(RandAugment("bicubic", 7).apply(image, plan), expected)
