"""torchvision's MNASNet."""

from collections.abc import Iterator, Mapping

from convert.layouts import TORCH
from convert.rule import Options, Rule
from convert.rules.torchvision.files import CLOSER, STANDARD, published
from flaxmobile.layers import round_channels
from flaxmobile.models import mnasnet

_FIRST_STACK = 8
"""Index of stage 2 in `layers`: before it stand the layers of the stem and of stage 1, flat."""


def _modules(options: Options) -> Iterator[tuple[str, str]]:
    first = ("stem", "stage1_block1/depthwise", "stage1_block1/project")
    for ours, index in zip(first, (0, 3, 6), strict=True):
        yield from _unit(ours, "layers", index)
    for number, stage in enumerate(mnasnet.STAGES[1:], start=2):
        for block in range(1, stage.blocks + 1):
            theirs = f"layers.{_FIRST_STACK + number - 2}.{block - 1}.layers"
            for layer, index in (("expand", 0), ("depthwise", 3), ("project", 6)):
                yield from _unit(f"stage{number}_block{block}/{layer}", theirs, index)
    yield from _unit("head", "layers", _FIRST_STACK + len(mnasnet.STAGES) - 1)
    yield "classifier", "classifier.1"


def _unit(ours: str, theirs: str, index: int) -> Iterator[tuple[str, str]]:
    yield f"{ours}/conv", f"{theirs}.{index}"
    yield f"{ours}/norm", f"{theirs}.{index + 1}"


def _widths(options: Options) -> Mapping[str, int]:
    alpha = options["alpha"]
    channels = {
        f"stage{number}_block1/project/conv": stage.channels * alpha
        for number, stage in enumerate(mnasnet.STAGES, start=1)
    }
    channels["stem/conv"] = mnasnet.STEM_CHANNELS * alpha
    return {module: round_channels(width) for module, width in channels.items()}


MNASNET = Rule(
    layout=TORCH,
    version=2,  # 1 had other widths below alpha 1
    modules=_modules,
    own_options={
        "padding": "symmetric",
        "norm_epsilon": 1e-5,
    },
    widths=_widths,
    preprocessing=STANDARD,
    published=(
        published("mnasnet0.5_top1_67.823-3ffadce67e", alpha=0.5),
        published("mnasnet0_75-7090bc5f", CLOSER, alpha=0.75),
        published("mnasnet1.0_top1_73.512-f206786ef8"),
        published("mnasnet1_3-a4c69d6f", CLOSER, alpha=1.3),
    ),
)
