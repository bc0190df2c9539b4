"""Imports go one way, from the ground up."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("flaxmobile", "train", "convert", "bench")
FILES = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]

# A module may import those of lower floors, and of its own floor inside its own package.
FLOORS = (
    ("flaxmobile.errors", "flaxmobile.compat", "flaxmobile.files", "flaxmobile.trees"),
    ("flaxmobile.tpu",),
    ("flaxmobile.ops", "flaxmobile.preprocessing", "flaxmobile.table"),
    ("flaxmobile.layers",),
    ("flaxmobile.models",),
    ("flaxmobile.registry",),
    ("flaxmobile.variables",),
    (
        "flaxmobile.detection",
        "flaxmobile.dilation_search",
        "flaxmobile.folding",
        "flaxmobile.summary",
        "flaxmobile.weights",
    ),
    ("flaxmobile",),
    ("flaxmobile.cli",),
    ("flaxmobile.__main__",),
    ("train", "convert"),
    ("bench",),
)
HEAVY = {"torch", "torchvision", "timm", "tensorflow", "keras", "libtpu", "onnxruntime"}


def module_name(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def floor(module):
    """Floor and group of a module: the longest entry of FLOORS that it lies in."""
    found = [
        (len(group), level, group)
        for level, groups in enumerate(FLOORS)
        for group in groups
        if module == group or module.startswith(group + ".")
    ]
    _, level, group = max(found)
    return level, group


def imports(path):
    """(line, imported module, whether at the top level) of every import."""
    tree = ast.parse(path.read_text())
    top = {id(node) for node in tree.body}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name, id(node) in top
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            for alias in node.names:
                below = ROOT / node.module.replace(".", "/") / alias.name
                is_module = below.is_dir() or below.with_suffix(".py").is_file()
                name = f"{node.module}.{alias.name}" if is_module else node.module
                yield node.lineno, name, id(node) in top


@pytest.mark.parametrize("path", FILES, ids=module_name)
def test_no_import_points_up(path):
    level, group = floor(module_name(path))
    for line, name, top in imports(path):
        if name.partition(".")[0] not in PACKAGES:
            continue
        if not top and module_name(path) == "flaxmobile.weights" and name == "flaxmobile":
            continue  # its version number
        their_level, their_group = floor(name)
        assert their_level < level or their_group == group, f"{path}:{line} imports {name}"


@pytest.mark.parametrize("path", FILES, ids=module_name)
def test_heavy_libraries_are_imported_where_they_are_used(path):
    for line, name, top in imports(path):
        library = name.partition(".")[0]
        if library in HEAVY:
            assert not top, f"{path}:{line} imports {library} at the top"
            assert path.relative_to(ROOT).parts[0] != "flaxmobile", f"{path}:{line}: {library}"


def test_every_module_has_a_floor():
    assert len(FILES) > 40
    for path in FILES:
        floor(module_name(path))
