"""torchvision's MobileNet V2."""

from collections.abc import Iterator, Mapping

from convert.layouts import TORCH
from convert.rule import Options, Rule
from convert.rules.torchvision.blocks import conv_norm
from convert.rules.torchvision.files import CLOSER, STANDARD, published
from flaxmobile.layers import round_channels
from flaxmobile.models import mobilenet_v2


def _modules(options: Options) -> Iterator[tuple[str, str]]:
    yield from conv_norm("stem", "features.0")
    index = 0
    for number, stage in enumerate(mobilenet_v2.STAGES, start=1):
        for block in range(1, stage.blocks + 1):
            index += 1
            ours, theirs = f"stage{number}_block{block}", f"features.{index}.conv"
            layers = ("depthwise",) if stage.expansion == 1 else ("expand", "depthwise")
            for position, layer in enumerate(layers):
                yield from conv_norm(f"{ours}/{layer}", f"{theirs}.{position}")
            yield f"{ours}/project/conv", f"{theirs}.{len(layers)}"
            yield f"{ours}/project/norm", f"{theirs}.{len(layers) + 1}"
    yield from conv_norm("head", f"features.{index + 1}")
    yield "classifier", "classifier.1"


def widths(options: Options) -> Mapping[str, int]:
    """Channels of the stem, the stages and the head."""
    alpha = options["alpha"]
    channels = {
        f"stage{number}_block1/project/conv": stage.channels * alpha
        for number, stage in enumerate(mobilenet_v2.STAGES, start=1)
    }
    channels["stem/conv"] = mobilenet_v2.STEM_CHANNELS * alpha
    channels["head/conv"] = mobilenet_v2.HEAD_CHANNELS * max(1.0, alpha)
    return {module: round_channels(width) for module, width in channels.items()}


MOBILENET_V2 = Rule(
    layout=TORCH,
    modules=_modules,
    own_options={
        "padding": "symmetric",
        "norm_epsilon": 1e-5,
        "shortcut": "bottleneck",
        "linear": True,
    },
    widths=widths,
    preprocessing=STANDARD,
    published=(
        published("mobilenet_v2-b0353104"),
        published("mobilenet_v2-7ebf99e0", CLOSER, "IMAGENET1K_V2"),
    ),
)
