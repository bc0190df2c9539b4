"""TF-slim's Inception v1 to v4 and Inception-ResNet-v2, whose layers have names of one pattern.

`Mixed_5b/Branch_1/Conv2d_0b_5x5` is the second layer (b) of a branch; one that shrinks its map is
`Conv2d_1a_3x3`. Normalization has no scale. Source: `slim/nets` of tensorflow/models.
"""

from collections.abc import Iterable, Iterator, Mapping
from string import ascii_lowercase

from convert.layouts import SLIM
from convert.rule import Options, Rule
from convert.rules.keras.blocks import WITHOUT_SCALE
from convert.rules.slim.names import layer
from convert.rules.timm.files import HALF, preset
from convert.rules.torchvision.inception_v3 import STEM
from convert.rules.units import Names, units_of
from convert.rules.widths import inception_widths
from flaxmobile.layers import Unit
from flaxmobile.layers.branches import Branch, Module
from flaxmobile.models.inception_resnet_v2 import InceptionResNetV2, Residual
from flaxmobile.models.inception_v1 import InceptionV1
from flaxmobile.models.inception_v2 import InceptionV2
from flaxmobile.models.inception_v3 import InceptionV3
from flaxmobile.models.inception_v4 import InceptionV4

_SECOND = {"conv2_reduce": "Conv2d_2b_1x1", "conv2": "Conv2d_2c_3x3"}
_STEM = STEM | {"conv7b": "Conv2d_7b_1x1"}  # torchvision has TF-slim's names
_V1_MODULES = ("3b", "3c", "4b", "4c", "4d", "4e", "4f", "5b", "5c")
_V2_MODULES = ("3b", "3c", "4a", "4b", "4c", "4d", "4e", "5a", "5b", "5c")
_V4_MODULES = (
    *("3a", "4a", "5a", "5b", "5c", "5d", "5e"),
    *("6a", "6b", "6c", "6d", "6e", "6f", "6g", "6h"),
    *("7a", "7b", "7c", "7d"),
)

_V1_EXCEPTIONS = {"Mixed_5b/Branch_2/Conv2d_0b_3x3": "Mixed_5b/Branch_2/Conv2d_0a_3x3"}
_V3_EXCEPTIONS = {
    "Mixed_5c/Branch_1/Conv2d_0a_1x1": "Mixed_5c/Branch_1/Conv2d_0b_1x1",
    "Mixed_5c/Branch_1/Conv2d_0b_5x5": "Mixed_5c/Branch_1/Conv_1_0c_5x5",
    "Mixed_6a/Branch_0/Conv2d_1a_3x3": "Mixed_6a/Branch_0/Conv2d_1a_1x1",
    "Mixed_6a/Branch_1/Conv2d_1a_3x3": "Mixed_6a/Branch_1/Conv2d_1a_1x1",
    "Mixed_7b/Branch_1/Conv2d_0c_3x1": "Mixed_7b/Branch_1/Conv2d_0b_3x1",
}
_V4_EXCEPTIONS = {"Mixed_3a/Branch_1/Conv2d_1a_3x3": "Mixed_3a/Branch_1/Conv2d_0a_3x3"}
"""The name by the pattern -> the one that a network has in its place."""

Scopes = Iterable[tuple[str, str]]
"""Pairs of our path of a unit and TF-slim's scope of it."""


def _v1(model: InceptionV1) -> Names:
    modules = {b.name: b.row for b in model.blocks() if b.name.startswith("inception")}
    scopes = [("stem", "Conv2d_1a_7x7"), *_SECOND.items(), *_mixed(modules, _V1_MODULES)]
    yield from _inside("InceptionV1", scopes, _V1_EXCEPTIONS)
    yield "classifier", "InceptionV1/Logits/Conv2d_0c_1x1"


def _v2(model: InceptionV2) -> Names:
    modules = {b.name: b.row for b in model.blocks() if b.name.startswith("inception")}
    yield "stem_depthwise", "InceptionV2/Conv2d_1a_7x7/depthwise"
    yield "stem_pointwise/conv", "InceptionV2/Conv2d_1a_7x7/pointwise"
    yield from _inside("InceptionV2", [*_SECOND.items(), *_mixed(modules, _V2_MODULES)])
    yield "classifier", "InceptionV2/Logits/Conv2d_1c_1x1"


def _v3(model: InceptionV3) -> Names:
    blocks = model.blocks()
    modules = {b.name: b.row for b in blocks if b.name.startswith("mixed")}
    scopes = [
        *((b.name, _STEM[b.name]) for b in blocks if b.name in _STEM),
        *_mixed(modules, [name.removeprefix("mixed") for name in modules]),
    ]
    yield from _inside("InceptionV3", scopes, _V3_EXCEPTIONS)
    if model.aux_logits:
        theirs = "InceptionV3/AuxLogits/Conv2d"
        yield from layer("auxiliary/project", f"{theirs}_1b_1x1")
        yield from layer("auxiliary/conv5x5", f"{theirs}_2a_5x5")
        yield "auxiliary/classifier", f"{theirs}_2b_1x1"
    yield "classifier", "InceptionV3/Logits/Conv2d_1c_1x1"


def _v4(model: InceptionV4) -> Names:
    blocks = model.blocks()
    modules = {b.name: b.row for b in blocks if b.name not in _STEM}
    scopes = [
        *((b.name, _STEM[b.name]) for b in blocks if b.name in _STEM),
        *_mixed(modules, _V4_MODULES),
    ]
    yield from _inside("InceptionV4", scopes, _V4_EXCEPTIONS)
    yield "classifier", "InceptionV4/Logits/Logits"


def _resnet_v2(model: InceptionResNetV2) -> Names:
    repeats = {"block35": "Repeat", "block17": "Repeat_1", "block8": "Repeat_2"}
    root, last = "InceptionResnetV2", model.blocks()[-2].name
    for name, row, *_ in model.blocks():
        if name in _STEM:
            yield from _inside(root, [(name, _STEM[name])])
        elif isinstance(row, Residual):
            repeat = repeats[name.partition("_")[0]]
            scope = "Block8" if name == last else f"{repeat}/{name}"
            yield from _inside(root, _residual(f"{name}/branches", scope, row.branches))
            yield f"{name}/widen", f"{root}/{scope}/Conv2d_1x1"
        elif name.startswith("mixed"):
            yield from _inside(root, _residual(name, f"Mixed_{name.removeprefix('mixed')}", row))
    yield "classifier", f"{root}/Logits/Logits"


def _inside(root: str, scopes: Scopes, exceptions: Mapping[str, str] = {}) -> Names:
    """Name the layers of units, given by their scopes in the network's."""
    for ours, theirs in scopes:
        yield from layer(ours, f"{root}/{exceptions.get(theirs, theirs)}")


def _mixed(modules: Mapping[str, Module], names: Iterable[str]) -> Scopes:
    """Give modules the names that begin with `Mixed_`."""
    for (ours, module), theirs in zip(modules.items(), names, strict=True):
        yield from _module(ours, f"Mixed_{theirs}", module)


def _residual(ours: str, theirs: str, module: Module) -> Scopes:
    """Give the units of a module of Inception-ResNet scopes: 1×1 convolutions alone are plain."""
    plain = f"{theirs}/Branch_0/Conv2d_1x1"
    for name, scope in _module(ours, theirs, module):
        yield name, plain if name == f"{ours}/branch1x1" else scope


def _module(ours: str, theirs: str, module: Module) -> Scopes:
    """Give the units of a module scopes: `Branch_1/Conv2d_0b_5x5`."""
    for number, branch in enumerate(module):
        for name, scope in _branch(branch):
            yield f"{ours}/{name}", f"{theirs}/Branch_{number}/{scope}"


def _branch(branch: Branch) -> Scopes:
    """Give the units of a branch scopes. Pooling counts, and units side by side have a letter each.

    The number is 1 where a unit shrinks its map.
    """
    rows: Iterator[Unit | None] = (u for each in branch for u in units_of(each) or (None,))
    for letter, unit in zip(ascii_lowercase, rows, strict=False):
        if unit is not None:
            height, width = (unit.kernel,) * 2 if isinstance(unit.kernel, int) else unit.kernel
            place = "1a" if unit.valid or unit.stride > 1 else f"0{letter}"
            yield unit.name, f"Conv2d_{place}_{height}x{width}"


_OPTIONS: Options = {"padding": "same", "norm_momentum": 0.9997}
_PLAIN = Rule(
    network=InceptionV1,
    layout=SLIM,
    modules=_v1,
    own_options={**_OPTIONS, "alpha": 1.0},
    as_convolutions=("classifier", "auxiliary/classifier"),
    constants=WITHOUT_SCALE,
    preprocessing=preset(mean=HALF, std=HALF),
)
_WITHOUT_AUXILIARY = _PLAIN._replace(
    layout=SLIM._replace(
        ignored={
            **SLIM.ignored,
            r"/AuxLogits/": "TF-slim's auxiliary classifier, which serves training alone",
        }
    ),
    as_convolutions=(),
    preprocessing=preset(299, mean=HALF, std=HALF),
)

RULES = {
    "inception_v1": _PLAIN,
    "inception_v2": _PLAIN._replace(
        network=InceptionV2,
        modules=_v2,
        own_options=_OPTIONS,
        widths=inception_widths,
        depth_multiplier=lambda model: model.stem_multiplier,
    ),
    "inception_v3": _PLAIN._replace(
        network=InceptionV3,
        modules=_v3,
        own_options=_OPTIONS,
        variants=({"aux_logits": True}, {"aux_logits": False}),
        widths=inception_widths,
        preprocessing=preset(299, mean=HALF, std=HALF),
    ),
    "inception_v4": _WITHOUT_AUXILIARY._replace(
        network=InceptionV4,
        modules=_v4,
        own_options={**_OPTIONS, "alpha": 1.0},
    ),
    "inception_resnet_v2": _WITHOUT_AUXILIARY._replace(
        network=InceptionResNetV2,
        modules=_resnet_v2,
        own_options={**_OPTIONS, "alpha": 1.0},
    ),
}
