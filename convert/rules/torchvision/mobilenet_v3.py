"""torchvision's MobileNet V3, large and small."""

from collections.abc import Iterator, Mapping
from functools import partial

from convert.layouts import TORCH
from convert.rule import Options, Published, Rule
from convert.rules.torchvision.blocks import conv_norm
from convert.rules.torchvision.files import CLOSER, STANDARD, published
from flaxmobile.models.mobilenet_v3 import LARGE, SMALL, Scaled, Table, scale


def scale_as(table: Table, options: Options) -> Scaled:
    """Scale a table under options of `create_model`."""
    return scale(table, *(options[name] for name in ("alpha", "last_channel", "reduced_tail")))


def _modules(table: Table, options: Options) -> Iterator[tuple[str, str]]:
    scaled = scale_as(table, options)
    yield from conv_norm("stem", "features.0")
    given = scaled.stem
    for index, block in enumerate(scaled.blocks, start=1):
        ours, theirs = block.name, f"features.{index}.block"
        layers = ["depthwise", *["squeeze"] * block.row.stage.squeeze, "project"]
        if block.row.expanded_channels != given:
            layers.insert(0, "expand")
        given = block.row.channels
        for position, layer in enumerate(layers):
            if layer == "squeeze":
                yield f"{ours}/squeeze/reduce", f"{theirs}.{position}.fc1"
                yield f"{ours}/squeeze/expand", f"{theirs}.{position}.fc2"
            else:
                yield from conv_norm(f"{ours}/{layer}", f"{theirs}.{position}")
    yield from conv_norm("last", f"features.{len(scaled.blocks) + 1}")
    yield "hidden", "classifier.0"
    yield "classifier", "classifier.3"


def widths(table: Table, options: Options) -> Mapping[str, int]:
    """Channels of every layer but squeeze-excite's and the classifier."""
    scaled = scale_as(table, options)
    channels = {"stem/conv": scaled.stem, "last/conv": scaled.last, "hidden": scaled.hidden}
    for block in scaled.blocks:
        channels[f"{block.name}/depthwise/conv"] = block.row.expanded_channels
        channels[f"{block.name}/project/conv"] = block.row.channels
    return channels


def _rule(table: Table, *files: Published) -> Rule:
    return Rule(
        layout=TORCH,
        modules=partial(_modules, table),
        own_options={
            "padding": "symmetric",
            "norm_epsilon": 1e-3,
            "norm_momentum": 0.99,
            "last_channel": "torchvision",
            "minimalistic": False,
            "hidden_layer": True,
            "dilated": False,
        },
        widths=partial(widths, table),
        preprocessing=STANDARD,
        published=files,
        variants=({"reduced_tail": False}, {"reduced_tail": True}),
        removable={"hidden": "hidden_layer"},
    )


MOBILENET_V3_LARGE = _rule(
    LARGE,
    published("mobilenet_v3_large-8738ca79"),
    published("mobilenet_v3_large-5c1a4163", CLOSER, "IMAGENET1K_V2"),
)
MOBILENET_V3_SMALL = _rule(SMALL, published("mobilenet_v3_small-047dcff4"))
