"""The model card of a repository of weights, from model.json and the metrics of the run."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax

from flaxmobile.variables import abstract_variables
from flaxmobile.weights import WeightsDirectory

_LICENCES = ("apache-2.0", "bsd-3-clause", "mit")
"""Licences by the Hub's names; another one stands in the text alone."""


def write_card(weights: WeightsDirectory, name: str, architecture: str | None) -> str:
    """Write a model card.

    Args:
      weights: the weights; if they are `best` of a run, its metrics are read too.
      name: OWNER/REPOSITORY.
      architecture: timm's name of the network, if timm has it.
    """
    source = weights.metadata.source
    licence = str(source.get("licence", "")).partition(" ")[0].lower()
    lines = [
        "---",
        f"library_name: {'timm' if architecture else 'flaxmobile'}",
        "pipeline_tag: image-classification",
        *([f"license: {licence}"] if licence in _LICENCES else []),
        "tags:",
        "- image-classification",
        "- flaxmobile",
        *(["- timm"] if architecture else []),
        "---",
        f"# {name.partition('/')[2]}",
        "",
        *(f"- **{key}:** {value}" for key, value in _facts(weights)),
        "",
        "```python",
        "import flaxmobile",
        "",
        f'model, variables = flaxmobile.load_pretrained("hf:{name}")',
        "```",
    ]
    if architecture:
        use = f'model = timm.create_model("hf-hub:{name}", pretrained=True)'
        lines += ["", "```python", "import timm", "", use, "```"]
    if weights.metadata.class_names:
        lines += ["", "Classes: " + ", ".join(weights.metadata.class_names)]
    return "\n".join(lines) + "\n"


def _facts(weights: WeightsDirectory) -> Iterator[tuple[str, str]]:
    model, metadata = weights.model, weights.metadata
    leaves = jax.tree.leaves(abstract_variables(model)["params"])
    yield "Network", f"{weights.model_name} with {model.size_text()}"
    yield "Parameters", f"{sum(leaf.size for leaf in leaves):,}"
    yield "Images", metadata.preprocessing.describe()
    yield "Answer", str(metadata.output)
    for key in ("origin", "weights", "licence"):
        if key in metadata.source:
            yield key.capitalize(), str(metadata.source[key])
    for split, line in _metrics(weights.path.parent / "metrics.jsonl").items():
        shown = {key: line[key] for key in ("accuracy", "top5", "loss") if key in line}
        numbers = ", ".join(f"{key} {value:.4f}" for key, value in shown.items())
        yield f"{split.capitalize()} split", f"{numbers} (step {line.get('step')})"


def _metrics(path: Path) -> dict[str, dict[str, Any]]:
    """Read the best line of the validation split, whose weights are kept, and the last of test."""
    if not path.is_file():
        return {}
    found: dict[str, dict[str, Any]] = {}
    for line in map(json.loads, path.read_text(encoding="utf-8").splitlines()):
        split = line.get("split")
        best = found.get("validation", {}).get("accuracy", -1.0)
        if split == "test" or (split == "validation" and line.get("accuracy", 0.0) > best):
            found[split] = line
    return found
