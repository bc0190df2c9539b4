"""Label maps: which value of a mask is which class."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from flaxmobile.errors import InputError
from train.data.masks.mask import IGNORED, UNNAMED

IGNORE = "ignore"
"""Name of the values that have no class."""


class LabelMap(NamedTuple):
    """What the values of masks mean.

    Attributes:
      class_names: in the order of the classes.
      table: class of each value, see `train.data.masks.mask.EncodedMask`.
    """

    class_names: tuple[str, ...]
    table: bytes


def map_values(names: Mapping[int, str], others: int = UNNAMED) -> LabelMap:
    """Number classes in the order in which their names come first.

    Args:
      names: value -> name of its class, or "ignore"; several values may be one class.
      others: class of the values that are not named: UNNAMED, which is refused where one is met, or
        IGNORED.
    """
    class_names = tuple(dict.fromkeys(name for name in names.values() if name != IGNORE))
    table = bytearray([others] * 256)
    for value, name in names.items():
        table[value] = IGNORED if name == IGNORE else class_names.index(name)
    return LabelMap(class_names, bytes(table))


def read_label_map(words: Iterable[str]) -> LabelMap:
    """Read the words of --label-map, such as 0=background 255=tumour 7=ignore.

    Raises:
      InputError: a word that is not VALUE=NAME, a value that is named twice, or fewer than two
        classes.
    """
    names: dict[int, str] = {}
    for word in words:
        value, _, name = (part.strip() for part in word.partition("="))
        if not value.isdecimal() or not 0 <= int(value) <= 255 or not name or name.endswith(","):
            raise InputError(
                f"--label-map has {word!r}; accepted: VALUE=NAME with a value of 0 to 255, such as "
                f"0=background 255=object, and VALUE={IGNORE} for pixels without a class"
            )
        if int(value) in names:
            raise InputError(f"--label-map names the value {value} twice")
        names[int(value)] = name
    label_map = map_values(names)
    if len(label_map.class_names) < 2:
        raise InputError(
            f"--label-map {' '.join(words)} has fewer than two classes: there is nothing to tell "
            "apart"
        )
    return label_map
