"""Problems of a file's tensors: wrong names, and wrong values."""

from collections.abc import Iterable, Mapping

import numpy as np

from convert.rule import Layout
from convert.targets import Target
from flaxmobile.errors import nearest


def name_problems(
    layout: Layout,
    claims: Mapping[str, str],
    outside: Iterable[str],
    targets: Mapping[str, Target],
) -> list[str]:
    """Find names that are missing, or unknown.

    Args:
      layout: of the origin.
      claims: the origin's names -> the file's names.
      outside: the file's names of tensors outside the network.
      targets: by the origin's names.
    """
    counters = {layout.counter_beside(name) for name in targets}
    missing = [name for name in targets if name not in claims]
    unknown = [name for name in claims if name not in targets and name not in counters]
    return [
        *(f"{name} is missing{nearest(name, [*unknown, *outside])}" for name in missing),
        *(f"{claims[name]} is unknown{nearest(name, missing)}" for name in unknown),
        *(f"{name} is unknown{nearest(name, missing)}" for name in outside),
    ]


def value_problems(name: str, array: np.ndarray, target: Target) -> list[str]:
    """Find types or shapes other than the target's, and values that are not finite."""
    if (array.dtype, array.shape) != (target.dtype, target.shape):
        wide = array.dtype == np.float64 and array.shape == target.shape
        return [
            f"{name} is {array.dtype}{list(array.shape)}, accepted: "
            f"{target.dtype}{list(target.shape)}{' (--allow-narrowing rounds it)' * wide}"
        ]
    return [*not_finite(name, array), *_negative(name, array, target)]


def _negative(name: str, array: np.ndarray, target: Target) -> list[str]:
    """Count the variances below 0, which have no square root."""
    count = np.count_nonzero(array < 0) if target.path.endswith("/var") else 0
    return [f"{name} holds {count} of {array.size} variances below 0"] if count else []


def not_finite(name: str, array: np.ndarray) -> list[str]:
    """Count the values that are NaN or infinite."""
    count = array.size - np.count_nonzero(np.isfinite(array))
    return (
        [f"{name} holds {count} of {array.size} values that are NaN or infinite"] if count else []
    )
