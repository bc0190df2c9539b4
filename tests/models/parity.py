"""What must agree between a torch network and ours with the same numbers.

Two things make parity meaningful: BatchNorm's parameters and statistics are random, so that every
parameter matters, and the numbers are carried strictly, there and back: by `convert`'s rule where
an origin publishes weights, by equal names where the reference is written in these tests.

Blocks and training steps are compared in float64: dozens of normalizations amplify rounding, and
gradients in float32 differ by percents between any two orders of summation (torch and ours from
each other, and each from float64).
"""

import copy
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch
from flax import linen, traverse_util
from torch import Tensor, nn
from torch.nn import functional

from convert import engine
from convert.layouts import TORCH
from convert.reading import Reading
from convert.rule import Rule
from flaxmobile import create_model
from flaxmobile.layers import AUX_LOGITS, Network
from tests.networks import abstract
from tests.xla import OPTIMIZED, THOROUGH

NUM_CLASSES = 10

FULL_SIZE = 224
"""From here on, programs are compiled as users compile them."""

WIDE = 3_000_000
"""Parameters from which on a training step in float64, in plain loops, takes half a minute."""

Names = Callable[[str], str]
"""Our path of a module -> the reference's name of it."""


def equal_names(path: str) -> str:
    return path.replace("/", ".")


Size = int | tuple[int, int]
"""Side of a square, or height and width, in pixels."""


class Pair(NamedTuple):
    """A torch network or block and ours with the same numbers.

    Attributes:
      torch: in float32 and evaluation mode; copy before changing it.
      flax: without dropout.
      variables: of `flax`.
      back: our tree (of parameters, or gradients, and statistics) under torch's names.
    """

    torch: nn.Module
    flax: linen.Module
    variables: Any
    back: Callable[[Any], Mapping[str, np.ndarray]]


def randomised(network: nn.Module, seed: int = 0) -> nn.Module:
    """Draw every parameter and statistic that torch begins at 0 or 1."""
    torch.manual_seed(seed)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.2)
            nn.init.normal_(module.running_mean, std=0.2)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
        elif isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                nn.init.normal_(module.bias, std=0.2)
        elif isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=0.05)
            if module.bias is not None:
                nn.init.normal_(module.bias, std=0.2)
    return network.eval()


def published(rule: Rule, name: str, network: nn.Module, alpha: float | None = None) -> Pair:
    """Randomise a network of a library whose weights `convert` reads, and carry its numbers."""
    network = randomised(network)
    state = {key: tensor.numpy() for key, tensor in network.state_dict().items()}
    chosen = {} if alpha is None else {"alpha": alpha}
    found = engine.to_flax(Reading.of(rule, state), name, chosen)

    def back(variables):
        return engine.from_flax(rule, found.model, jax.tree.map(np.asarray, variables))

    return Pair(network, found.model.clone(dropout_rate=0.0), found.variables, back)


def written_here(reference: nn.Module, name: str, **options: Any) -> Pair:
    """Randomise a network that the tests define, whose names are ours, and carry its numbers."""
    model = create_model(name, **{"num_classes": NUM_CLASSES, "dropout_rate": 0.0, **options})
    return paired(reference, model, abstract(model))


def block(
    reference: nn.Module,
    module: linen.Module,
    channels: int,
    size: int = 12,
    names: Names = equal_names,
) -> Pair:
    """Randomise a torch block and carry its numbers into a Flax module of the same names."""
    x = jax.ShapeDtypeStruct((1, size, size, channels), np.float64)
    with jax.enable_x64(True):
        shapes = jax.eval_shape(module.init, jax.random.key(0), x)
    return paired(reference, module, shapes, names)


def paired(
    reference: nn.Module, module: linen.Module, shapes: Any, names: Names = equal_names
) -> Pair:
    """Randomise a reference and carry its numbers by name; every tensor is used exactly once."""
    reference = randomised(reference)
    state = dict(reference.state_dict())
    flat = traverse_util.flatten_dict(shapes, sep="/")

    def name_of(path: str) -> str:
        collection, *parts, leaf = path.split("/")
        return f"{names('/'.join(parts))}.{TORCH.leaves[f'{collection}/{leaf}']}"

    filled = {}
    for path, leaf in flat.items():
        array = state.pop(name_of(path)).numpy().transpose(TORCH.axes[leaf.ndim])
        assert array.shape == leaf.shape, f"{path} is {leaf.shape}, the reference {array.shape}"
        filled[path] = array.copy()
    assert all(name.endswith("num_batches_tracked") for name in state), sorted(state)

    def back(variables):
        leaves = traverse_util.flatten_dict(variables, sep="/")
        return {
            name_of(path): np.asarray(leaf).transpose(np.argsort(TORCH.axes[leaf.ndim]))
            for path, leaf in leaves.items()
        }

    return Pair(reference, module, traverse_util.unflatten_dict(filled, sep="/"), back)


def assert_block_agrees(pair: Pair, shape: tuple[int, int, int, int], tolerance=1e-8) -> None:
    """Outputs in both modes, all gradients and the statistics, for x of [n, h, w, c] in float64.

    `pair.flax` is a module (x, train) whose dtype is float64.
    """
    rng = np.random.default_rng(0)
    images = rng.normal(size=shape)
    theirs = double(pair.torch)
    x = to_torch(images).requires_grad_()
    evaluated = from_torch(theirs(x))
    trained = theirs.train()(x)
    direction = rng.normal(size=evaluated.shape)
    (trained * to_torch(direction)).sum().backward()

    with jax.enable_x64(True):
        variables = cast(pair.variables, np.float64)

        def along(params, images):
            y, updates = pair.flax.apply(
                {**variables, "params": params}, images, True, mutable=["batch_stats"]
            )
            return (y * direction).sum(), (y, updates)

        @jax.jit
        def step(params, images):
            (gradients, dx), (y, updates) = jax.grad(along, (0, 1), has_aux=True)(params, images)
            return dx, y, pair.flax.apply(variables, images), {"params": gradients, **updates}

        dx, in_training, in_evaluation, changes = step(variables["params"], images)
    assert_close(in_training, from_torch(trained), tolerance, "output in training")
    assert_close(in_evaluation, evaluated, tolerance, "output in evaluation")
    assert_close(dx, from_torch(x.grad), tolerance, "gradient of the images")
    found = pair.back(changes)
    assert_gradients_close(found, gradients_of(theirs), tolerance)
    assert_all_close(found, statistics_of(theirs), tolerance)


def assert_logits_agree(pair: Pair, size: Size, batch: int = 2, tolerance: float = 1e-4) -> None:
    """Ours in float32 and evaluation mode, to a share of the largest logit.

    The reference's in float64: its rounding in float32 is as large as ours, 6e-5 in MobileNeXt's
    logits of a 97x97 image, and would be in the difference.
    """
    images, _ = batch_of(size, batch, np.float32)
    with torch.no_grad():
        expected = double(pair.torch)(to_torch(images).double()).numpy()
    assert np.isfinite(expected).all()
    options = THOROUGH if np.max(size) >= FULL_SIZE else None
    apply = jax.jit(pair.flax.apply, compiler_options=options)
    assert_close(apply(pair.variables, images), expected, tolerance, "logits")


def assert_training_step_agrees(
    pair: Pair, size: int, batch: int = 2, tolerance: float = 1e-8
) -> None:
    """Loss, every gradient and the BatchNorm update in float64, auxiliary heads included."""
    images, labels = batch_of(size, batch, np.float64)
    theirs = double(pair.torch).train()
    weight = pair.flax.aux_weight
    expected_loss = torch_loss(theirs(to_torch(images)), torch.tensor(labels), weight)
    expected_loss.backward()
    with jax.enable_x64(True):
        model = pair.flax.clone(dtype=np.float64)
        wide = sum(leaf.size for leaf in jax.tree.leaves(pair.variables)) >= WIDE
        step = jax.jit(partial(our_step, model), compiler_options=OPTIMIZED if wide else None)
        loss, changes = step(cast(pair.variables, np.float64), images, labels)
    found = pair.back(changes)
    assert_close(loss, expected_loss.item(), tolerance, "loss")
    assert_all_close(found, statistics_of(theirs), tolerance)
    assert_gradients_close(found, gradients_of(theirs), tolerance)


def our_step(model: Network, variables, images, labels):
    """Loss, and gradients and statistics in one tree."""

    def loss_of(params):
        logits, updates = model.apply(
            {**variables, "params": params}, images, train=True, mutable=["batch_stats", AUX_LOGITS]
        )
        mean = partial(_mean_loss, labels=labels)
        loss = mean(logits) + sum(
            model.aux_weight * mean(leaf) for leaf in jax.tree.leaves(updates.get(AUX_LOGITS))
        )
        return loss, updates.get("batch_stats", {})

    (loss, statistics), gradients = jax.value_and_grad(loss_of, has_aux=True)(variables["params"])
    return loss, {"params": gradients, "batch_stats": statistics}


def _mean_loss(logits, labels):
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()


def torch_loss(outputs: Any, labels: Tensor, weight: float) -> Tensor:
    """The same of a torch network, which gives its auxiliary logits after the logits."""
    logits, *auxiliary = (outputs,) if isinstance(outputs, Tensor) else outputs
    loss = functional.cross_entropy(logits, labels)
    for extra in auxiliary:
        if extra is not None:
            loss = loss + weight * functional.cross_entropy(extra, labels)
    return loss


def double(network: nn.Module) -> nn.Module:
    """A float64 copy whose depthwise convolutions do not take minutes, and without torch's sixth.

    torch multiplies by 1/6 of float32 in the hard sigmoid of any type: 2e-8 off.
    """
    network = copy.deepcopy(network).double()
    for module in network.modules():
        if type(module) is nn.Conv2d and module.groups == module.in_channels > 1:
            module.forward = partial(shifted_depthwise, module)
        elif isinstance(module, nn.Hardsigmoid):
            module.forward = exact_hard_sigmoid
    return network


def exact_hard_sigmoid(x: Tensor) -> Tensor:
    return functional.relu6(x + 3) / 6


def shifted_depthwise(conv: nn.Conv2d, x: Tensor) -> Tensor:
    """The depthwise convolution as one product per kernel element.

    torch has no fast one in float64: its own takes 10 times as long as the rest of the network.
    """
    strides, pads, steps = conv.stride, conv.padding, conv.dilation
    x = functional.pad(x, (pads[1], pads[1], pads[0], pads[0]))
    x = x.repeat_interleave(conv.out_channels // conv.in_channels, dim=1)
    height, width = (
        (size - (kernel - 1) * step - 1) // stride + 1
        for size, kernel, stride, step in zip(
            x.shape[2:], conv.kernel_size, strides, steps, strict=True
        )
    )
    total = sum(
        x[
            :,
            :,
            i * steps[0] : i * steps[0] + (height - 1) * strides[0] + 1 : strides[0],
            j * steps[1] : j * steps[1] + (width - 1) * strides[1] + 1 : strides[1],
        ]
        * conv.weight[:, :, i, j].reshape(1, -1, 1, 1)
        for i in range(conv.kernel_size[0])
        for j in range(conv.kernel_size[1])
    )
    return total if conv.bias is None else total + conv.bias.reshape(1, -1, 1, 1)


def batch_of(size: Size, count: int, dtype: Any) -> tuple[np.ndarray, np.ndarray]:
    rng, shape = np.random.default_rng(size), np.broadcast_to(size, 2)
    images = rng.normal(size=(count, *shape, 3)).astype(np.float32)
    return images.astype(dtype), rng.integers(0, NUM_CLASSES, count)


def assert_close(actual: Any, expected: Any, tolerance: float, name: str = "") -> None:
    """Within `tolerance` of the largest entry of `expected`."""
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.shape == expected.shape, f"{name}: {actual.shape} instead of {expected.shape}"
    _assert_within(actual, expected, tolerance, np.abs(expected).max(), name)


def assert_all_close(actual: Mapping, expected: Mapping, tolerance: float) -> None:
    for name, tensor in expected.items():
        assert_close(actual[name], tensor, tolerance, name)


def assert_gradients_close(actual: Mapping, expected: Mapping, tolerance: float) -> None:
    """Within `tolerance` of the largest entry of the module's gradients.

    Not of each tensor's: normalizations further on may take out what a bias adds, and then its
    gradient is zero and both sides hold rounding alone.
    """
    assert expected
    scales: dict[str, float] = {}
    for name, tensor in expected.items():
        module = name.rpartition(".")[0]
        scales[module] = max(scales.get(module, 0.0), float(np.abs(tensor).max()))
    for name, tensor in expected.items():
        assert actual[name].shape == tensor.shape, name
        scale = scales[name.rpartition(".")[0]]
        assert scale > 0, f"no gradient reaches {name}"
        _assert_within(actual[name], tensor, tolerance, scale, name)


def _assert_within(actual, expected, tolerance, scale, name):
    error = np.abs(actual - expected).max() / scale
    assert error <= tolerance, f"{name} differs by {error:.1e} of the largest entry"


def gradients_of(module: nn.Module) -> dict[str, np.ndarray]:
    return {name: parameter.grad.numpy() for name, parameter in module.named_parameters()}


def statistics_of(module: nn.Module) -> dict[str, np.ndarray]:
    buffers = {name: buffer.numpy() for name, buffer in module.named_buffers()}
    return {name: b for name, b in buffers.items() if name.endswith(("mean", "var"))}


def cast(tree: Any, dtype: Any) -> Any:
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), tree)


def to_torch(images: np.ndarray) -> Tensor:
    """[n, h, w, c] to torch's [n, c, h, w]."""
    return torch.tensor(images).permute(0, 3, 1, 2)


def from_torch(features: Tensor) -> np.ndarray:
    """[n, c, h, w] to our [n, h, w, c]."""
    return features.detach().permute(0, 2, 3, 1).numpy()
