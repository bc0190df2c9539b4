"""MobileNet V2 against torchvision: blocks, logits, and one training step.

float32 is compared where it can be. A training step cannot: fifty normalizations amplify rounding,
and gradients in float32 differ by percents between any two orders of summation (torch and ours from
each other, and each from float64). It is compared in float64, where the two agree to 1e-8, and our
float32 statistics are compared with torch's float64 ones, because torch's own float32 ones are off
by up to 1.1e-5.
"""

import copy
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch

from flaxmobile.layers import round_channels
from flaxmobile.models.mobilenet_v2 import STAGES, InvertedResidual
from tests.models.torch_reference import (
    NUM_CLASSES,
    carried_back,
    carried_network,
    double,
    from_torch,
    random_network,
    shifted_depthwise,
    to_torch,
)

BATCH = 2
CASES = [(alpha, size) for alpha in (0.35, 0.5, 1.0, 1.4) for size in (96, 224)]
QUICK = {"xla_backend_optimization_level": 0}
"""Compiles a third faster: most of the time goes there."""

every_size = pytest.mark.parametrize(("alpha", "size"), CASES)


def batch_of(size, dtype):
    rng = np.random.default_rng(size)
    images = rng.normal(size=(BATCH, size, size, 3)).astype(np.float32)
    return images.astype(dtype), rng.integers(0, NUM_CLASSES, BATCH)


def assert_close(actual, expected, tolerance, name=""):
    """Within `tolerance` of the largest entry of `expected`."""
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.shape == expected.shape
    error = np.abs(actual - expected).max() / np.abs(expected).max()
    assert error <= tolerance, f"{name} differs by {error:.1e} of its largest entry"


def assert_all_close(actual, expected, tolerance):
    assert expected
    for name, tensor in expected.items():
        assert_close(actual[name], tensor, tolerance, name)


def gradients_of(module, prefix=""):
    return {prefix + name: p.grad.numpy() for name, p in module.named_parameters()}


def statistics_of(module, prefix=""):
    buffers = {prefix + name: b.numpy() for name, b in module.named_buffers()}
    return {name: b for name, b in buffers.items() if not name.endswith("num_batches_tracked")}


def cast(tree, dtype):
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), tree)


# Where a block of table 2 stands in torchvision's list, and our name of it.
POSITIONS = {
    f"stage{number}_block{block}": 1 + sum(s.blocks for s in STAGES[: number - 1]) + block - 1
    for number, stage in enumerate(STAGES, start=1)
    for block in range(1, stage.blocks + 1)
}


@pytest.mark.parametrize(
    ("alpha", "name", "stride", "shortcut", "size"),
    [
        (0.35, "stage1_block1", 1, False, 12),  # expansion 1
        (0.25, "stage1_block1", 1, True, 12),  # expansion 1, as many channels out as in
        (0.35, "stage2_block1", 2, False, 12),
        (0.35, "stage2_block1", 2, False, 13),
        (0.25, "stage2_block1", 2, False, 12),  # no shortcut, though as many channels out as in
        (0.35, "stage2_block2", 1, True, 12),
        (0.35, "stage5_block1", 1, False, 12),
        (1.0, "stage7_block1", 1, False, 7),
    ],
)
def test_block_agrees_in_outputs_gradients_and_statistics(alpha, name, stride, shortcut, size):
    theirs = copy.deepcopy(random_network(alpha).features[POSITIONS[name]])
    model, variables = carried_network(alpha)
    stage = STAGES[int(name[5]) - 1]
    ours = InvertedResidual(round_channels(stage.channels * alpha), stage.expansion, stride)
    assert theirs.stride == stride
    assert theirs.use_res_connect == shortcut
    own = {collection: variables[collection][name] for collection in variables}
    rng = np.random.default_rng(0)
    shape = (4, size, size, theirs.conv[0][0].in_channels)
    images = rng.normal(size=shape).astype(np.float32)
    x = to_torch(images).requires_grad_()
    evaluated = from_torch(theirs.eval()(x))
    trained = theirs.train()(x)
    direction = rng.normal(size=evaluated.shape).astype(np.float32)
    (trained * to_torch(direction)).sum().backward()

    def along(params, images):
        y, updates = ours.apply({**own, "params": params}, images, True, mutable=["batch_stats"])
        return (y * direction).sum(), (y, updates["batch_stats"])

    @jax.jit
    def step(params, images):
        gradients, (y, statistics) = jax.grad(along, (0, 1), has_aux=True)(params, images)
        return gradients, statistics, y, ours.apply(own, images)

    (gradients, dx), statistics, *outputs = step(own["params"], images)
    whole = {
        "params": {**variables["params"], name: gradients},
        "batch_stats": {**variables["batch_stats"], name: statistics},
    }
    found, prefix = carried_back(model, whole), f"features.{POSITIONS[name]}."
    assert_close(outputs[0], from_torch(trained), 1e-5, "output in training")
    assert_close(outputs[1], evaluated, 1e-5, "output in evaluation")
    assert_close(dx, from_torch(x.grad), 1e-3, "gradient of the images")
    assert_all_close(found, gradients_of(theirs, prefix), 1e-3)
    assert_all_close(found, statistics_of(theirs, prefix), 1e-5)


@every_size
def test_logits_agree(alpha, size):
    images, _ = batch_of(size, np.float32)
    model, variables = carried_network(alpha)
    with torch.no_grad():
        expected = random_network(alpha)(to_torch(images)).numpy()
    assert_close(jax.jit(model.apply)(variables, images), expected, 1e-4)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", [8, 9])
def test_the_reference_depthwise_is_torchs_own(stride, size):
    torch.manual_seed(0)
    conv = torch.nn.Conv2d(6, 6, 3, stride, 1, groups=6, bias=False).double()
    x = torch.randn(2, 6, size, size, dtype=torch.float64, requires_grad=True)
    results = []
    for form in (conv, partial(shifted_depthwise, conv)):
        y = form(x)
        results.append([y, *torch.autograd.grad((y**2).sum(), (x, conv.weight))])
    for own, shifted in zip(*results, strict=True):
        assert torch.allclose(own, shifted, rtol=0, atol=1e-12)


def our_step(model, variables, images, labels):
    """Loss, gradients and statistics of a training step."""

    def loss_of(params):
        logits, updates = model.apply(
            {**variables, "params": params}, images, train=True, mutable=["batch_stats"]
        )
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
        return losses.mean(), updates["batch_stats"]

    (loss, statistics), gradients = jax.value_and_grad(loss_of, has_aux=True)(variables["params"])
    return loss, {"params": gradients, "batch_stats": statistics}


STEPS = 2
"""Of SGD, with the same gradient: the second is the first that momentum changes."""


def sgd(params, gradients):
    optimizer = optax.sgd(0.1, momentum=0.9)
    state = optimizer.init(params)
    for _ in range(STEPS):
        updates, state = optimizer.update(gradients, state)
        params = optax.apply_updates(params, updates)
    return params


def vector(tensors):
    """All numbers in a row: an optimizer works on each by itself, and one shape compiles once."""
    return np.concatenate([np.ravel(tensor) for tensor in tensors])


@every_size
def test_training_step_agrees_in_float64(alpha, size):
    images, labels = batch_of(size, np.float64)
    network = double(random_network(alpha)).train()
    expected_loss = torch.nn.functional.cross_entropy(
        network(to_torch(images)), torch.tensor(labels)
    )
    expected_loss.backward()
    expected = gradients_of(network)
    model, variables = carried_network(alpha)
    with jax.enable_x64(True):
        step = jax.jit(partial(our_step, model.clone(dtype=np.float64)), compiler_options=QUICK)
        loss, changes = step(cast(variables, np.float64), images, labels)
        found = carried_back(model, changes)
        before = vector(p.detach().numpy() for p in network.parameters())
        after = sgd(before, vector(found[name] for name in expected))
    assert_close(loss, expected_loss.item(), 1e-8, "loss")
    assert_all_close(found, statistics_of(network), 1e-8)

    # The normalizations further on take out what a projection's bias adds: its gradient is zero,
    # and both sides hold rounding alone.
    for position in POSITIONS.values():
        last = f"features.{position}.conv.{len(network.features[position].conv) - 1}"
        scale = np.abs(expected[f"{last}.weight"]).max()
        for bias in (expected.pop(f"{last}.bias"), found[f"{last}.bias"]):
            assert np.abs(bias).max() <= 1e-8 * scale
    assert_all_close(found, expected, 1e-8)

    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
    for _ in range(STEPS):
        optimizer.step()
    expected_after = vector(p.detach().numpy() for p in network.parameters())
    assert_close(after, expected_after, 1e-8, "a parameter after the step")


@pytest.mark.parametrize(("alpha", "size"), [(0.35, 96), (1.4, 224)])
def test_statistics_in_float32_agree_with_torchs_in_float64(alpha, size):
    images, _ = batch_of(size, np.float32)
    network = double(random_network(alpha)).train()
    with torch.no_grad():
        network(to_torch(images.astype(np.float64)))
    model, variables = carried_network(alpha)
    forward = jax.jit(partial(model.apply, train=True, mutable=["batch_stats"]))
    _, updates = forward(variables, images)
    found = carried_back(model, {**variables, **updates})
    assert_all_close(found, statistics_of(network), 1e-5)
