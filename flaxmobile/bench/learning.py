"""Learn Fashion-MNIST beside torchvision: from its weights, by its loop, on the same batches.

MobileNetV2 with alpha 0.5 starts from torchvision's initial weights. Ours and torchvision's own
training loop see the same batches, optimizer and schedule. `python -m flaxmobile.bench.learning`
with a DIR compares the losses of ten steps in float64 and the test accuracies over three seeds,
then trains ours with mixup and from a teacher, and records all figures in `learning.json`. DIR
holds the IDX files, such as those of Debian's package dataset-fashion-mnist.
"""

import json
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from convert import engine
from convert.reading import Reading
from convert.references import build_reference
from convert.rules import RULES
from flaxmobile.layers import Network
from flaxmobile.preprocessing import Preprocessing
from flaxmobile.registry import create_model, options_of
from flaxmobile.trees import Tree
from train.config import Config
from train.data.idx import read_idx
from train.losses import Teacher
from train.mixing import Mixing
from train.optimizers import make_optimizer, make_schedule
from train.parallel import JitParallel
from train.step import Objective, create_state

RECORDS = Path(__file__).with_name("learning.json")
SEEDS = (0, 1, 2)
EPOCHS, BATCH, TEST_BATCH = 3, 128, 500
COMPARED_STEPS = 10
SETTINGS = Config(learning_rate=0.1, weight_decay=4e-5, schedule="cosine", warmup_epochs=1)
STUDENT, TEACHER = 0.5, 1.0
"""Width multipliers."""
MIXUP = 0.2
PRESET = Preprocessing(32, 32, mean=(0.5,) * 3, std=(0.5,) * 3)


_normalize = jax.jit(PRESET.normalize)  # to the bit as in our step


class Images(NamedTuple):
    """A split of the data.

    Attributes:
      pixels: uint8 [n, 32, 32]: the images of 28×28 in a black frame.
      labels: int32 [n].
    """

    pixels: np.ndarray
    labels: np.ndarray

    def batch(self, chosen: Any) -> tuple[np.ndarray, np.ndarray]:
        """Return RGB pixels [n, 32, 32, 3] and labels [n] of some images."""
        return np.repeat(self.pixels[chosen][..., None], 3, -1), self.labels[chosen]


def read_split(directory: Path, name: str) -> Images:
    """Read the images and labels of a split, "train" or "t10k"."""
    pixels = read_idx(directory / f"{name}-images-idx3-ubyte.gz")
    labels = read_idx(directory / f"{name}-labels-idx1-ubyte.gz")
    return Images(np.pad(pixels, ((0, 0), (2, 2), (2, 2))), labels.astype(np.int32))


def batches(images: Images, seed: int, steps: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Shuffle each epoch anew, and mirror every other image at random."""
    rng = np.random.default_rng(seed)
    size = len(images.labels) // BATCH
    for step in range(steps):
        if step % size == 0:
            order = rng.permutation(len(images.labels))
        start = step % size * BATCH
        pixels, labels = images.batch(order[start : start + BATCH])
        mirrored = rng.random(BATCH) < 0.5
        yield np.where(mirrored[:, None, None, None], pixels[:, :, ::-1], pixels), labels


def torchvision_start(seed: int, alpha: float = STUDENT) -> tuple[Any, Network, Tree]:
    """Initialize torchvision's network; return it, ours, and its numbers for ours."""
    import torch

    torch.manual_seed(seed)
    model = create_model("v2", alpha=alpha, num_classes=10, dropout_rate=0.0)
    module = build_reference("torchvision", "mobilenet_v2", options_of(model))
    state = {name: tensor.numpy().copy() for name, tensor in module.state_dict().items()}
    rule = RULES["torchvision", "mobilenet_v2"]
    variables = engine.to_flax(Reading.of(rule, state), "mobilenet_v2", {"alpha": alpha}).variables
    return module, model, variables


class Result(NamedTuple):
    """A trained network.

    Attributes:
      losses: of each step.
      accuracy: share of the test images.
      variables: of ours.
    """

    losses: list[float]
    accuracy: float
    variables: Tree


def train_ours(
    model: Network,
    variables: Tree,
    data: Iterator[tuple[np.ndarray, np.ndarray]],
    steps: int,
    test: Images,
    teacher: tuple[Network, Tree] | None = None,
    mixup: float = 0.0,
) -> Result:
    """Train with the step of `python -m train`, for as many batches as there are.

    Args:
      model, variables: to start from.
      data: batches of pixels and labels.
      steps: length of the schedule.
      test: images to judge the result by.
      teacher: a trained network to learn from.
      mixup: see `train.mixing.Mixing`.
    """
    schedule = make_schedule(SETTINGS, steps // EPOCHS, steps)
    objective = Objective(
        model=model,
        preprocessing=PRESET,
        optimizer=make_optimizer(SETTINGS, schedule, steps // EPOCHS),
        schedule=schedule,
        norm_warmup=False,  # torchvision has none
        mixing=Mixing(mixup),
        teacher=Teacher(teacher[0], PRESET) if teacher else None,
    )
    parallel = JitParallel(jax.local_devices()[:1])
    step = parallel.train_step(objective, teacher[1] if teacher else None)
    state, key, losses = (
        parallel.put_state(create_state(objective, variables)),
        jax.random.key(0),
        [],
    )
    for pixels, labels in data:
        state, metrics = step(state, pixels, labels, key)
        losses.append(metrics["loss"])
    trained = parallel.get(state.variables)
    judge = partial(parallel.eval_step(objective), state.variables)
    hits = [np.asarray(judge(*batch)["rank"]) < 1 for batch in _in_order(test)]
    return Result([float(loss) for loss in losses], float(np.mean(np.concatenate(hits))), trained)


def train_torchvision(
    module: Any, data: Iterator[tuple[np.ndarray, np.ndarray]], steps: int, test: Images
) -> Result:
    """Train a torch module by a loop as torchvision's, see `train_ours`."""
    import torch
    from torch.nn.functional import cross_entropy

    parameters = list(module.parameters())
    module.train().to(memory_format=torch.channels_last)
    kernels = [parameter for parameter in parameters if parameter.ndim > 1]
    others = [parameter for parameter in parameters if parameter.ndim == 1]
    groups = [{"params": kernels, "weight_decay": SETTINGS.weight_decay}, {"params": others}]
    optimizer = torch.optim.SGD(groups, SETTINGS.learning_rate, SETTINGS.momentum)
    warmup = round(SETTINGS.warmup_epochs * (steps // EPOCHS))
    rise = torch.optim.lr_scheduler.LinearLR(optimizer, 1 / warmup, 1.0, warmup - 1)
    fall = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps - warmup)
    scheduler = torch.optim.lr_scheduler.SequentialLR(optimizer, [rise, fall], [warmup])
    losses = []

    def inputs(pixels: np.ndarray) -> Any:
        normalized = np.array(_normalize(pixels)).transpose(0, 3, 1, 2)
        return torch.from_numpy(normalized).to(parameters[0].dtype)

    for pixels, labels in data:
        loss = cross_entropy(module(inputs(pixels)), torch.tensor(labels).long())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
        losses.append(loss.item())
    module.eval()
    with torch.inference_mode():
        hits = [
            (module(inputs(pixels)).argmax(1).numpy() == labels)
            for pixels, labels in _in_order(test)
        ]
    return Result(losses, float(np.mean(np.concatenate(hits))), {})


def _in_order(images: Images) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for start in range(0, len(images.labels), TEST_BATCH):
        yield images.batch(slice(start, start + TEST_BATCH))


def compare_losses(train: Images, steps: int = COMPARED_STEPS) -> float:
    """Return the largest relative difference of the losses of some steps in float64."""
    module, model, variables = torchvision_start(SEEDS[0])
    few = Images(train.pixels[:TEST_BATCH], train.labels[:TEST_BATCH])
    total = EPOCHS * (len(train.labels) // BATCH)
    theirs = train_torchvision(module.double(), batches(train, 0, steps), total, few).losses
    with jax.enable_x64(True):
        wide = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), variables)
        model = model.clone(dtype=np.dtype("float64"))
        ours = train_ours(model, wide, batches(train, 0, steps), total, few).losses
    return float(np.max(np.abs(np.divide(ours, theirs) - 1)))


def compare_accuracies(train: Images, test: Images) -> Iterator[dict[str, list[float]]]:
    """Train everything for one seed after another; yield the test accuracies up to each."""
    steps = EPOCHS * (len(train.labels) // BATCH)
    _, model, variables = torchvision_start(SEEDS[0], TEACHER)
    taught = train_ours(model, variables, batches(train, 0, steps), steps, test)
    ways: dict[str, dict[str, Any]] = {
        "flaxmobile": {},
        f"flaxmobile, mixup {MIXUP}": {"mixup": MIXUP},
        f"flaxmobile, teacher of alpha {TEACHER}": {"teacher": (model, taught.variables)},
    }
    found: dict[str, list[float]] = {"teacher": [taught.accuracy]}
    for seed in SEEDS:
        module, model, variables = torchvision_start(seed)
        for way, settings in ways.items():
            data = batches(train, seed, steps)
            result = train_ours(model, variables, data, steps, test, **settings)
            found.setdefault(way, []).append(result.accuracy)
        result = train_torchvision(module, batches(train, seed, steps), steps, test)
        found.setdefault("torchvision", []).append(result.accuracy)
        yield found


def main(directory: str) -> None:
    """Compare, and record the figures."""
    train, test = (read_split(Path(directory), name) for name in ("train", "t10k"))
    figures: dict[str, Any] = {
        "largest relative difference of ten losses in float64": compare_losses(train)
    }
    for accuracies in compare_accuracies(train, test):
        figures["test accuracy"] = accuracies
        RECORDS.write_text(json.dumps(figures, indent=2) + "\n")
        print(json.dumps(figures), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
