"""The interface of candidates, and the network and images that all of them get."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from itertools import product
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from convert.rules import RULES
from convert.verification import join
from flaxmobile.bench.job import Job
from flaxmobile.tasks import HEADS, build, resolve_name
from flaxmobile.variables import abstract_variables

_ORIGINS = ("torchvision", "timm")


class Missing(Exception):  # noqa: N818
    """Raised by a candidate that cannot take part; says why."""


class Candidate(ABC):
    """Something that can be called repeatedly."""

    def prepare(self) -> None:
        """Trace and compile, if there is something to compile."""
        return

    @abstractmethod
    def call(self) -> Any:
        """Do the task once; on an accelerator the result may not be computed yet."""

    def fetch(self, outputs: Any) -> np.ndarray:
        """Wait for a call's result: numbers that must be equal among candidates."""
        return join(outputs)

    def expected(self) -> np.ndarray | None:
        """Return the outputs expected of the first call, for a peer with weights of its own.

        None where they are those of our candidate.
        """
        return None

    def memory(self) -> int | None:
        """Bytes of temporary memory, if known."""
        return None

    def file_size(self) -> int | None:
        """Bytes of the file that is run, if there is one."""
        return None

    def tolerance(self, job: Job) -> float:
        """Return the error that is accepted, as a share of the largest output."""
        return tolerance(job)


def data(job: Job) -> tuple[np.ndarray, np.ndarray]:
    """Make images [n, s, s, 3] and labels [n], the same for every candidate."""
    rng = np.random.default_rng(1)
    shape = (job.batch_size, job.image_size, job.image_size, 3)
    images = rng.normal(size=shape).astype(np.float32)
    return images, rng.integers(0, 1000, job.batch_size)


def dtype(job: Job) -> Any:
    """Return the type of the network's arithmetic; parameters are float32 or wider."""
    return jnp.dtype(build(job.model, **job.options).dtype)


def tolerance(job: Job) -> float:
    """Return the error that is accepted of a candidate, as a share of the largest output.

    In bfloat16 MobileNetV2's logits differ by 4 to 11 percent from those in float32, with plain
    Flax, with torch and with flaxmobile. float16 has 3 bits more, and so has TF32, in which a GPU
    multiplies float32. A loss is a mean over images.
    """
    kind = dtype(job)
    if kind == jnp.bfloat16:
        share = 0.2
    elif kind == jnp.float16 or jax.default_backend() != "cpu":
        share = 0.2 / 2**3
    else:
        return 1e-3
    return share / 8 if job.task == "train" else share


def network(job: Job) -> tuple[Any, Any]:
    """Make our network without dropout, and weights like a trained network's.

    It gets the options of torchvision's or timm's network, such as the padding, where there is one.
    """
    fixed: Mapping[str, Any] = next(
        (RULES[key].options for key in RULES if key in product(_ORIGINS, [job.model])), {}
    )
    backbone = job.options.get("backbone")
    if backbone and resolve_name(backbone) != fixed.get("backbone"):
        fixed = {}  # of another network under the same head
    dropout = {} if job.model in HEADS else {"dropout_rate": 0.0}
    model = build(job.model, **{**fixed, **dropout, **job.options})
    rng, wide = np.random.default_rng(0), jnp.promote_types(model.dtype, jnp.float32)

    def draw(path: Any, leaf: Any) -> np.ndarray:
        if path[-1].key == "kernel":
            deviation = np.sqrt(2 / np.prod(leaf.shape[:-1]))
            return rng.normal(0, deviation, leaf.shape).astype(wide)
        low, high = (0.8, 1.2) if path[-1].key in ("scale", "var") else (-0.1, 0.1)
        return rng.uniform(low, high, leaf.shape).astype(wide)

    return model, jax.tree_util.tree_map_with_path(draw, abstract_variables(model))
