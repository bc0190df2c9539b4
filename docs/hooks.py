"""Pages that mkdocs makes from the code: one for each network, and the public names."""

import ast
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

from convert.published.catalogue import CATALOGUE
from flaxmobile import list_models, summarize
from flaxmobile.descriptions import describe_choices, describe_options
from flaxmobile.registry import get_spec
from flaxmobile.summary import Row

_NUMBERS = {"layers", "multiply-adds", "output", "parameters", "size", "top-1", "year"}
_STUB = Path(__file__).parents[1] / "flaxmobile" / "__init__.pyi"


def make_pages() -> dict[str, str]:
    """Return the text of each page by its path below `docs`."""
    networks = {f"networks/{name}.md": network_page(name) for name in list_models()}
    return {"networks/index.md": "\n".join(_overview()), **networks, "api.md": reference_page()}


def on_files(files: Any, config: Any) -> Any:
    """Add the pages to the site (a hook of mkdocs)."""
    from mkdocs.structure.files import File

    for path, text in make_pages().items():
        files.append(File.generated(config, path, content=text))
    return files


def on_config(config: Any) -> Any:
    """List the networks in the navigation (a hook of mkdocs)."""
    pages = ["networks/index.md", *(f"networks/{name}.md" for name in list_models())]
    config.nav = [{"Networks": pages} if "Networks" in entry else entry for entry in config.nav]
    return config


def _overview() -> Iterator[str]:
    yield "# Networks\n"
    yield from _table("network", "also", "year", "parameters", "multiply-adds", "size", "top-1")
    for name in list_models():
        spec = get_spec(name)
        yield _row(
            f"[`{name}`]({name}.md)",
            ", ".join(f"`{alias}`" for alias in spec.aliases),
            spec.year,
            f"{spec.params / 1e6:.2f} M",
            f"{spec.macs / 1e6:,.1f} M",
            spec.image_size,
            "" if spec.top1 is None else f"{spec.top1:.1f} %",
        )


def network_page(name: str) -> str:
    """Describe a network: paper, layers, options, published weights, choices."""
    return "\n".join(_network(name))


def _network(name: str) -> Iterator[str]:
    spec = get_spec(name)
    yield f"# {name}\n"
    yield f"{spec.paper}, {spec.year}.\n"
    yield f'```python\nimport flaxmobile\n\nmodel = flaxmobile.create_model("{name}")\n```\n'
    yield f"## Layers at {spec.image_size}×{spec.image_size}\n"
    summary = summarize(name, spec.image_size)
    yield from _table("block", "layers", "output", "parameters", "multiply-adds")
    for block, rows in groupby(summary.rows, lambda row: row.path.partition("/")[0]):
        yield _block(block, list(rows))
    yield _row("total", len(summary.rows), "", f"{summary.params:,}", f"{summary.macs:,}") + "\n"
    yield "## Options\n"
    yield from _table("option", "default", "meaning")
    for option in describe_options(name):
        yield _row(f"`{option.name}`", f"`{option.default}`", option.meaning)
    published = [entry.published for entry in CATALOGUE.values() if entry.model == name]
    if published:
        yield "\n## Published weights\n"
        yield from _table("name of `load_pretrained`", "parameters", "top-1", "licence")
    for each in published:
        top1 = "" if each.top1 is None else f"{each.top1:.1f} %"
        yield _row(f"`{each.name}`", f"{each.params / 1e6:.2f} M", top1, each.licence)
    yield f"\n## Choices\n\n{describe_choices(name)}"


def _block(name: str, rows: list[Row]) -> str:
    params, macs = sum(row.params for row in rows), sum(row.macs for row in rows)
    output = "×".join(map(str, rows[-1].output))
    return _row(f"`{name}`", len(rows), output, f"{params:,}", f"{macs:,}")


def reference_page() -> str:
    """List the public names for mkdocstrings."""
    imports = (
        node for node in ast.parse(_STUB.read_text()).body if isinstance(node, ast.ImportFrom)
    )
    names = [f"{node.module}.{alias.name}" for node in imports for alias in node.names]
    sections = (f"::: {name}\n" for name in names if not name.endswith("__version__"))
    return "\n".join(["# Reference\n", "Each name is an attribute of `flaxmobile`.\n", *sections])


def _table(*header: str) -> Iterator[str]:
    yield _row(*header)
    yield _row(*("---:" if each in _NUMBERS else "---" for each in header))


def _row(*cells: object) -> str:
    return f"| {' | '.join(str(cell).replace('|', '¦') for cell in cells)} |"
