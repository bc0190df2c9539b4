"""Names of data sets of TFDS, which is an extra."""

import contextlib
from collections.abc import Iterator, Sequence

from flaxmobile.errors import InputError, first_line, nearest, pip_install

_OURS = ("digits", "scenes", "packed:", "idx:", "hf:", "sizes:")
"""How names begin that TFDS is not asked for, whatever the task."""

WITHOUT_TFDS = ("digits", "folder:PATH", "packed:DIR", "idx:DIR", "hf:OWNER/DATASET")
"""Names for classification that need no TFDS."""

_PATHS = (".", "/", "~")


@contextlib.contextmanager
def taken_for_tfds(name: str, others: Sequence[str]) -> Iterator[None]:
    """Import what reads TFDS for a name that is none of the others.

    Args:
      name: of a data set.
      others: names that need no TFDS, for messages.

    Raises:
      InputError: it is a path, data for another task, or TFDS is not installed.
    """
    kind, _, rest = name.partition(":")
    path = name if kind.startswith(_PATHS) else rest if rest.startswith(_PATHS) else None
    if path and f"{kind}:" not in _OURS:
        raise InputError(f"{name} is the name of no data set; for a folder write folder:{path}")
    if name in _OURS or name.startswith(tuple(each for each in _OURS if each.endswith(":"))):
        raise InputError(
            f"--dataset is {name}; accepted for this --task: {', '.join(others)}, or one of TFDS"
        )
    try:
        yield
    except ImportError as error:
        *first, last = others
        raise InputError(
            f"dataset {name!r}{nearest(name, others)}: all names but {', '.join(first)} and {last} "
            "are those of TFDS, which needs tensorflow-datasets "
            f"({first_line(error)}): {pip_install('tfds')}"
        ) from None
