"""Names of units (a convolution and the normalization after it), as the origins form them."""

from collections.abc import Iterator
from functools import partial

from flaxmobile.layers import Max, Unit
from flaxmobile.layers.branches import Fork, Mean, Module

Names = Iterator[tuple[str, str]]


def unit(ours: str, theirs: str, conv: str, norm: str) -> Names:
    """Name the two layers of a unit.

    Args:
      ours: our path of the unit.
      theirs: common beginning of the origin's two names.
      conv, norm: what each name adds to it.
    """
    yield f"{ours}/conv", f"{theirs}{conv}"
    yield f"{ours}/norm", f"{theirs}{norm}"


sequential = partial(unit, conv=".0", norm=".1")
"""A torch Sequential, such as torchvision's `Conv2dNormActivation`."""
basic_conv = partial(unit, conv=".conv", norm=".bn")
"""torchvision's `BasicConv2d` and timm's `ConvNormAct`."""


def listed(ours: str, theirs: str, place: int) -> Names:
    """Name a convolution at a place of a torch Sequential, with its normalization after it."""
    return unit(ours, theirs, f".{place}", f".{place + 1}")


def ranges_of_units(modules: Names) -> Names:
    """Name the range of each unit's output as its convolution, where that cuts off itself."""
    for ours, theirs in modules:
        if ours.endswith("/conv"):
            yield f"{ours.removesuffix('conv')}range", theirs


def units_of(layer: Unit | Fork | Mean | Max) -> tuple[Unit, ...]:
    """Return the units of a layer of a branch; pooling has none."""
    match layer:
        case Unit():
            return (layer,)
        case Fork(units):
            return units
    return ()


def branches(ours: str, theirs: str, module: Module, first: int = 0) -> Names:
    """Name the units of an Inception module: `branch1` alone, `branch1.0` in a Sequential.

    A branch with parallel units is not a Sequential; its units are attributes: `branch1_1a`.

    Args:
      ours: our path of the module.
      theirs: the origin's.
      module: its branches.
      first: the origin's number of the first branch.
    """
    for number, branch in enumerate(module, start=first):
        forks = any(isinstance(layer, Fork) for layer in branch)
        for place, layer in enumerate(branch):
            inside = "" if len(branch) == 1 else f"{'_' if forks else '.'}{place}"
            units = units_of(layer)
            for index, each in enumerate(units):
                letter = "ab"[index] if len(units) > 1 else ""
                name = f"{theirs}.branch{number}{inside}{letter}"
                yield from basic_conv(f"{ours}/{each.name}", name)
