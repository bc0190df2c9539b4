"""Draw the picture of the README: published accuracy against multiply-adds, `accuracy.png`.

Accuracies are those of TF-slim (MobileNet V1 to V3), the authors (MobileNeXt) and torchvision
(MNASNet, ShuffleNet V2); multiply-adds are counted by `flaxmobile.summarize`.
"""

import json
from pathlib import Path

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt

from convert.published.catalogue import CATALOGUE
from flaxmobile import create_model, summarize

_HERE = Path(__file__).parent
_TABLES = _HERE.parents[1] / "tests" / "data" / "oracles.json"
_NAMES = {
    "mobilenet_v1": "MobileNet V1",
    "shufflenet_v2": "ShuffleNet V2",
    "mobilenet_v2": "MobileNet V2",
    "mnasnet": "MNASNet",
    "mobilenext": "MobileNeXt",
    "mobilenet_v3_small": "MobileNet V3",
}


def published_accuracies() -> dict[str, dict[float, float]]:
    """Return top-1 at 224×224 in percent by width, for each network that has several widths."""
    tables = json.loads(_TABLES.read_text())["published"]
    found: dict[str, dict[float, float]] = {name: {} for name in _NAMES}
    for name in ("mobilenet_v1", "mobilenet_v2", "mobilenext"):
        for row in tables[name]["rows"]:
            top1 = row["top1"]
            found[name][row["alpha"]] = top1["224"] if isinstance(top1, dict) else top1
    for row in tables["mobilenet_v3"]["rows"]:
        kind, width = row["model"].split()
        if width != "minimalistic":
            found.setdefault(f"mobilenet_v3_{kind}", {})[float(width)] = row["top1"]
    for entry in CATALOGUE.values():
        published = entry.published
        if entry.model in ("mnasnet", "shufflenet_v2") and published.top1 is not None:
            found[entry.model][published.alpha] = published.top1
    return found


def draw(path: Path) -> None:
    """Write the picture: one line a network, one point a width."""
    figure, axes = plt.subplots(figsize=(8, 4.2), dpi=150, layout="constrained")
    points = {
        name: sorted(
            (summarize(create_model(name, alpha=alpha)).macs / 1e6, top1)
            for alpha, top1 in rows.items()
        )
        for name, rows in published_accuracies().items()
    }
    large = points.pop("mobilenet_v3_large")
    for (name, label), color in zip(_NAMES.items(), plt.get_cmap("tab10").colors, strict=False):
        (line,) = axes.plot(*zip(*points[name], strict=True), "o-", color=color, markersize=4)
        if name == "mobilenet_v3_small":  # large and small are two networks
            axes.plot(*zip(*large, strict=True), "o-", color=color, markersize=4)
        line.set_label(label)
    axes.set_xscale("log")
    ticks = [30, 60, 100, 200, 300, 600]
    axes.set_xticks(ticks, [str(tick) for tick in ticks], minor=False)
    axes.minorticks_off()
    axes.set_xlabel("million multiply-adds at 224×224")
    axes.set_ylabel("ImageNet top-1, percent")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="0.92")
    axes.legend(frameon=False, loc="lower right")
    figure.savefig(path)


if __name__ == "__main__":
    draw(_HERE / "accuracy.png")
