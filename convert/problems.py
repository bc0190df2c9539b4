"""Problems of a file's tensors: wrong names, and wrong values."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from convert.layouts import Layout
from convert.targets import Target
from flaxmobile.errors import InputError, nearest


class FillError(InputError):
    """A file that does not fill a network.

    Attributes:
      sentence: what is wrong with it, and what may be done.
      kinds: all problems of its tensors, kind by kind; the text has the first of each.
    """

    def __init__(self, sentence: str, kinds: Sequence[Sequence[str]]) -> None:
        self.sentence, self.kinds = sentence, kinds
        shown = [problem for problems in kinds for problem in problems[:_SHOWN]]
        count = sum(map(len, kinds)) - len(shown)
        more = [f"and {count} more, which --report FILE lists"] if count else []
        lines = [line if len(line) <= _LONGEST else f"{line[:_LONGEST]}…" for line in shown]
        super().__init__("\n".join([sentence, *(f"  {line}" for line in [*lines, *more])]))

    def report(self) -> str:
        """Return the sentence and all problems."""
        return "\n".join([self.sentence, *(line for problems in self.kinds for line in problems)])


_SHOWN = 3
"""Problems of a kind in an error's text."""
_LONGEST = 240
"""Characters of a line in an error's text."""


_FEW = 50
"""Names that are compared with each other."""


class Names(NamedTuple):
    """The names that a file and a network do not share.

    Attributes:
      missing: the origin's names that the file lacks.
      unknown: the file's names that the network lacks.
    """

    missing: list[str]
    unknown: list[str]

    def problems(self) -> list[list[str]]:
        """Return a problem for each name, with the nearest one where the names are few."""
        few = max(map(len, self)) <= _FEW
        missing, unknown = (self.missing, self.unknown) if few else ([], [])
        return [
            [f"{name} is missing{nearest(name, unknown)}" for name in self.missing],
            [f"{name} is unknown{nearest(name, missing)}" for name in self.unknown],
        ]


def compare_names(
    layout: Layout,
    claims: Mapping[str, str],
    outside: Iterable[str],
    targets: Mapping[str, Target],
) -> Names:
    """Find names that are missing, or unknown.

    Args:
      layout: of the origin.
      claims: the origin's names -> the file's names.
      outside: the file's names of tensors outside the network.
      targets: by the origin's names.
    """
    counters = {layout.counter_beside(name) for name in targets}
    unknown = [own for name, own in claims.items() if name not in targets and name not in counters]
    return Names([name for name in targets if name not in claims], [*unknown, *outside])


_SIGNS = {
    r"_packed_params|\.zero_point$|fake_quant|activation_post_process": (
        "its weights are quantized: convert the float weights that they were made from"
    ),
    r"\.weight_orig$|\.weight_mask$": (
        "it is pruned: make that permanent with torch.nn.utils.prune.remove, and save it again"
    ),
    r"\.weight_[gv]$|\.parametrizations\.": (
        "its weights are parametrized: remove the parametrizations, and save it again"
    ),
    r"\.lora_|^lora_": "it holds LoRA adapters: merge them into the network, and save it again",
}
"""Pattern of a name that the network lacks -> what the file is."""


def find_cause(names: Names, targets: Mapping[str, Target], kinds: Sequence[Sequence[str]]) -> str:
    """Say in a sentence why a file does not fill a network.

    Args:
      names: that they do not share.
      targets: by the origin's names.
      kinds: all problems, of the options first.
    """
    for pattern, cause in _SIGNS.items():
        if any(re.search(pattern, name) for name in names.unknown):
            return cause
    statistics = [name for name, target in targets.items() if target.path.startswith("batch_stats")]
    if statistics and set(statistics) <= set(names.missing) and len(names.missing) < len(targets):
        return (
            "it has no statistics of batch normalization: if they were folded into its "
            "convolutions, convert the file from before that"
        )
    found = [problem for kind in kinds for problem in kind]
    if kinds[0] or len(found) == 1:
        return found[0]
    if names.missing or names.unknown:
        return (
            f"it lacks {len(names.missing)} of {len(targets)} tensors, and has "
            f"{len(names.unknown)} that are not the network's"
        )
    return "its tensors have the network's names, but not its shapes, types or numbers"


def value_problems(name: str, array: np.ndarray, target: Target) -> list[str]:
    """Find types or shapes other than the target's, and values that are not finite."""
    fits = target.takes(array.shape)
    if array.dtype != target.dtype or not fits:
        wide = array.dtype == np.float64 and fits
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
