"""Prefixes: what stands before a network's own names where it is part of something larger."""

from collections import Counter
from collections.abc import Collection, Iterable
from typing import NamedTuple

from convert.layouts import Layout

_DEEPEST = 12
"""Parts of the longest prefix that is looked for."""


class Prefix(NamedTuple):
    """The difference between a file's names and the origin's.

    Attributes:
      cut: the beginning of the file's names, such as "module." or "backbone.".
      added: the beginning of the origin's names that the file's lack, such as "features.".
    """

    cut: str = ""
    added: str = ""

    def own(self, name: str) -> str | None:
        """Return the origin's name of one of the file's; None for a name outside the network."""
        return self.added + name.removeprefix(self.cut) if name.startswith(self.cut) else None

    def describe(self) -> str:
        """Describe the difference for the user."""
        cut = f"after {self.cut!r}" * bool(self.cut)
        added = f"without {self.added!r}" * bool(self.added)
        return " and ".join(filter(None, [cut, added]))


def find_prefixes(
    layout: Layout, layers: Collection[str], names: Iterable[str], cut: str | None = None
) -> list[Prefix]:
    """Find the prefix without which most names are the origin's.

    Args:
      layout: of the origin.
      layers: the origin's names of all layers.
      names: the file's names of its tensors.
      cut: the user's prefix; by default any.

    Returns:
      The best, the shortest first; several where the file holds the network several times.
    """
    if not layout.may_be_inside:
        return [Prefix()]
    if cut:
        cut = cut.rstrip(layout.separator) + layout.separator
    plain = Prefix(cut or "")
    most_common = Counter(layer.partition(layout.separator)[0] for layer in layers).most_common(1)
    body = most_common[0][0] + layout.separator
    known: dict[Prefix, set[str]] = {}
    for name in names:
        parts = layout.split(name)[0].split(layout.separator)
        for place in range(min(len(parts), _DEEPEST)):
            before = layout.separator.join([*parts[:place], ""])
            rest = layout.separator.join(parts[place:])
            for added in ("", body)[: 1 + layout.may_be_part]:
                if added + rest in layers and not (added and before.endswith(added)):
                    known.setdefault(Prefix(before, added), set()).add(added + rest)
    fitting = {each: found for each, found in known.items() if cut in (None, each.cut)}
    most = max(map(len, fitting.values()), default=0)
    if 2 * most <= len(layers):  # names such as `conv.0` are in every network
        return [plain]
    best = [prefix for prefix, found in fitting.items() if len(found) == most]
    return sorted(best, key=lambda each: (each.added, len(each.cut)))
