"""timm's Xception (`legacy_xception`)."""

from collections.abc import Iterator

from convert.layouts import TORCH
from convert.rule import Options, Rule
from convert.rules.timm.files import HALF, preset, published
from flaxmobile.models import xception


def _modules(options: Options) -> Iterator[tuple[str, str]]:
    for number in (1, 2):
        yield f"stem_conv{number}/conv", f"conv{number}"
        yield f"stem_conv{number}/norm", f"bn{number}"
    for index, module in enumerate(xception.modules(options["middle_blocks"]), start=1):
        theirs = f"block{index}"
        if module.stride > 1:
            yield f"{module.name}/shortcut/conv", f"{theirs}.skip"
            yield f"{module.name}/shortcut/norm", f"{theirs}.skipbn"
        for number in range(len(module.channels)):
            ours = f"{module.name}/separable{number + 1}"
            place = 3 * number + module.activate_first  # ReLU, separable convolution, normalization
            yield from _separable(ours, f"{theirs}.rep.{place}", f"{theirs}.rep.{place + 1}")
    for number in (1, 2):
        ours = f"exit_separable{number}"
        yield from _separable(ours, f"conv{number + 2}", f"bn{number + 2}")
    yield "classifier", "fc"


def _separable(ours: str, conv: str, norm: str) -> Iterator[tuple[str, str]]:
    yield f"{ours}/depthwise", f"{conv}.conv1"
    yield f"{ours}/pointwise/conv", f"{conv}.pointwise"
    yield f"{ours}/pointwise/norm", norm


_PRESET = preset(299, 0.8975, mean=HALF, std=HALF, interpolation="bicubic")

XCEPTION = Rule(
    layout=TORCH,
    modules=_modules,
    own_options={
        "alpha": 1.0,
        "middle_blocks": 8,
        "order": "depthwise_first",
        "padding": "symmetric",
        "norm_epsilon": 1e-5,
    },
    preprocessing=_PRESET,
    published=(published("legacy_xception.tf_in1k", "xception-43020ad28", _PRESET, "v0.1-cadene"),),
)
