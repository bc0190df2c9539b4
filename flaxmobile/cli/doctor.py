"""`flaxmobile doctor`: versions, devices and extras, and a test of the numbers."""

import dataclasses
import importlib.metadata
import platform
import re
import time
from collections.abc import Iterator, Sequence

import jax
import numpy as np

from flaxmobile.allocator import keep_freed_memory
from flaxmobile.command.flags import parse
from flaxmobile.compiler import inference_options, training_options
from flaxmobile.cores import usable_cores
from flaxmobile.errors import InputError
from flaxmobile.folding import fold_batch_norm
from flaxmobile.inference import jit_inference
from flaxmobile.registry import create_model
from flaxmobile.trees import Tree
from flaxmobile.variables import abstract_variables

LOGITS = (-1.02359, 3.32101, 4.26650, 1.48265, -1.87823)
"""The network of the test in float64, op by op."""

_TOLERANCE = 1e-3
_LIBRARIES = ("flaxmobile", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy")
_REQUIREMENT = re.compile(r"([\w.-]+).*extra == ['\"]([\w-]+)['\"]")
_NOT_SHOWN = {"docs", "lint", "newest", "test", "cuda", "tpu"}
"""Extras for development, and those of JAX, which the devices show."""


@dataclasses.dataclass(frozen=True)
class Config:
    """Show what this installation has, and compare a small network with stored numbers."""


def main(prog: str, argv: Sequence[str]) -> None:
    """Print the report.

    Raises:
      InputError: the network gives other numbers than those stored.
    """
    parse(Config, argv, prog)
    print(f"Python {platform.python_version()} on {platform.platform(terse=True)}")
    print("  ".join(f"{name} {_version(name)}" for name in _LIBRARIES))
    for line in _devices():
        print(line)
    for extra, missing in _extras().items():
        print(f"extra {extra}: {'missing ' + ', '.join(missing) if missing else 'installed'}")
    start = time.perf_counter()
    difference = compare_numbers()
    print(f"self-test: within {difference:.0e} in {time.perf_counter() - start:.0f} s")


def _devices() -> Iterator[str]:
    kinds = [device.device_kind for device in jax.devices()]
    names = ", ".join(f"{kinds.count(kind)} × {kind}" for kind in dict.fromkeys(kinds))
    yield f"{jax.default_backend()}: {names}; {usable_cores()} CPU cores"
    if jax.default_backend() == "cpu":
        known = None not in (training_options(), inference_options())
        yield f"compiler options: {'known' if known else 'unknown to this XLA, slower'}"
        kept = keep_freed_memory()
        yield f"allocator: {'glibc, keeps memory' if kept else 'not glibc, training is slower'}"


def _extras() -> dict[str, list[str]]:
    """Each extra, and which of its packages are not installed."""
    found: dict[str, list[str]] = {}
    for requirement in importlib.metadata.requires("flaxmobile") or ():
        match = _REQUIREMENT.match(requirement)
        if match is None or match[1] == "flaxmobile" or match[2] in _NOT_SHOWN:
            continue
        missing = found.setdefault(match[2], [])
        if _version(match[1]) is None:
            missing.append(match[1])
    return found


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def compare_numbers() -> float:
    """Run a small network on made-up weights, compiled and folded as predictions are.

    Returns:
      The largest difference of its logits from those stored, relative to the largest of them.

    Raises:
      InputError: the difference is above 0.001.
    """
    model = create_model("mobilenet_v2", alpha=0.35, num_classes=len(LOGITS))
    variables = made_up(abstract_variables(model))
    images = _waves((2, 64, 64, model.in_channels), 0)
    with jax.default_matmul_precision("highest"):
        found = np.asarray(jit_inference(*fold_batch_norm(model, variables))(images))
    difference = float(np.abs(found[0] - LOGITS).max() / np.abs(LOGITS).max())
    if not difference <= _TOLERANCE:
        raise InputError(
            f"self-test: logits {np.round(found[0], 4)}, accepted: {np.round(LOGITS, 4)}; another "
            "version of jax may help: pip install --upgrade jax"
        )
    return difference


def made_up(variables: Tree) -> Tree:
    """Fill a tree of shapes with numbers like a trained network's, equal on every machine."""
    leaves, structure = jax.tree_util.tree_flatten_with_path(variables)
    made = []
    for number, (path, leaf) in enumerate(leaves):
        waves = _waves(leaf.shape, number)
        if path[-1].key == "kernel":
            waves *= np.sqrt(4 / np.prod(leaf.shape[:-1]))
        made.append(1 + waves / 2 if path[-1].key in ("scale", "var") else waves)
    return jax.tree.unflatten(structure, made)


def _waves(shape: Sequence[int], number: int) -> np.ndarray:
    """Numbers from -1 to 1 without a visible pattern."""
    steps = np.arange(np.prod(shape), dtype=np.float64) + 1
    return np.sin(steps * steps % 1009 + number).reshape(shape).astype(np.float32)
