"""Problems of a file's tensors: wrong names, and wrong values."""

from collections.abc import Mapping, Sequence

import numpy as np

from convert.rule import Layout
from convert.targets import Target
from flaxmobile.errors import nearest


def name_problems(
    layout: Layout, claims: Mapping[str, Sequence[str]], targets: Mapping[str, Target]
) -> list[str]:
    """Find names that are missing, unknown, doubled, or wrapped unlike the others.

    Args:
      layout: of the origin.
      claims: the origin's names -> the file's names for them.
      targets: by the origin's names.
    """
    counters = {layout.counter_beside(name) for name in targets}
    missing = [name for name in targets if name not in claims]
    unknown = [name for name in claims if name not in targets and name not in counters]
    doubled = [name for name, claimants in claims.items() if len(claimants) > 1]
    names = [name for claimants in claims.values() for name in claimants]
    wrapped = [name for name in names if name.startswith(layout.wrapper)]
    problems = [f"{name} is missing{nearest(name, unknown)}" for name in missing]
    problems += [f"{claims[name][0]} is unknown{nearest(name, missing)}" for name in unknown]
    problems += [f"{' and '.join(claims[name])} both claim {name}" for name in doubled]
    if wrapped and len(wrapped) < len(names):
        problems.append(
            f"{len(wrapped)} of {len(names)} names start with {layout.wrapper!r}, such as "
            f"{wrapped[0]}; accepted: all or none"
        )
    return problems


def value_problems(name: str, array: np.ndarray, target: Target) -> list[str]:
    """Find types or shapes other than the target's, and values that are not finite."""
    if (array.dtype, array.shape) != (target.dtype, target.shape):
        return [
            f"{name} is {array.dtype}{list(array.shape)}, accepted: "
            f"{target.dtype}{list(target.shape)}"
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
