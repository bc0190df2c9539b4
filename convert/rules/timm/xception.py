"""timm's Xception (`legacy_xception`), and Cadene's, from which it comes.

Cadene's network calls the classifier `last_linear`, and its older files have pointwise kernels of
two axes.
"""

from functools import partial

from convert.layouts import TORCH
from convert.rule import Rule
from convert.rules.timm.files import HALF, preset, published
from convert.rules.units import Names, unit
from flaxmobile.models.xception import Module, Xception


def _modules(model: Xception, classifier: str = "fc") -> Names:
    modules = [block.row for block in model.blocks() if isinstance(block.row, Module)]
    for number in (1, 2):
        yield from unit(f"stem_conv{number}", "", f"conv{number}", f"bn{number}")
    for index, module in enumerate(modules, start=1):
        theirs = f"block{index}"
        if module.stride > 1:
            yield from unit(f"{module.name}/shortcut", theirs, ".skip", ".skipbn")
        for number in range(len(module.channels)):
            ours = f"{module.name}/separable{number + 1}"
            place = 3 * number + module.activate_first  # ReLU, separable convolution, normalization
            yield from _separable(ours, f"{theirs}.rep.{place}", f"{theirs}.rep.{place + 1}")
    for number in (1, 2):
        ours = f"exit_separable{number}"
        yield from _separable(ours, f"conv{number + 2}", f"bn{number + 2}")
    yield "classifier", classifier


def _separable(ours: str, conv: str, norm: str) -> Names:
    yield f"{ours}/depthwise", f"{conv}.conv1"
    yield from unit(f"{ours}/pointwise", "", f"{conv}.pointwise", norm)


_PRESET = preset(299, 0.8975, mean=HALF, std=HALF, interpolation="bicubic")

RULE = Rule(
    network=Xception,
    layout=TORCH,
    modules=_modules,
    other_names=(partial(_modules, classifier="last_linear"),),
    own_options={"alpha": 1.0},
    preprocessing=_PRESET,
    published=(
        published(
            "legacy_xception.tf_in1k",
            22_855_952,
            _PRESET,
            "xception-43020ad28",
            release="v0.1-cadene",
            on_hub=False,
        ),
    ),
)
