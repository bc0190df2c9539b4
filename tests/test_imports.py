"""Imports go one way, from the ground up."""

import ast
import graphlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("flaxmobile", "train", "convert")
FILES = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]

# A room, which is a module or a package, imports rooms of lower floors alone.
FLOORS = (
    (
        "errors",
        "compat",
        "files",
        "trees",
        "versions",
        "table",
        "cores",
        "allocator",
        "compiler",
        "imagenet",
        "outputs",
    ),
    ("gpu", "tpu", "sizes", "ops", "dilations", "buckets", "model_json"),
    ("command", "images", "layers", "preprocessing"),
    ("models", "heatmaps", "variables"),
    ("specs", "detection", "segmentation", "nnx"),
    ("registry", "inference"),
    ("tasks", "dilation_search", "summary", "descriptions"),
    ("folding", "weights"),
    ("prediction", "exporters"),
    ("convert",),
    ("train",),
    ("bench",),
    ("cli",),
    ("__init__",),
    ("__main__",),
)
LEVELS = {room: level for level, rooms in enumerate(FLOORS) for room in rooms}
FACES = {"cli", "__init__", "__main__"}
HEAVY = {"torch", "torchvision", "timm", "tensorflow", "keras", "libtpu"}
HEAVY |= {
    "onnx",
    "onnxruntime",
    "ai_edge_litert",
    "ai_edge_quantizer",
    "litert_converter",
    "openvino",
}
PRIVATE = re.compile(
    r"\bjax\.(_src|core|extend|interpreters|lib)\b|\b(flax\.linen|nn)\.module\b|\btype_handlers\b"
    r"|\b(flax|optax|orbax|grain)[\w.]*\._"
)


def module_name(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path) for path in FILES}


def room(module):
    """The entry of FLOORS that a module belongs to."""
    package, *inner = module.split(".")
    return package if package != "flaxmobile" else inner[0] if inner else "__init__"


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


def own_imports(path):
    """(line, module) of what a file imports from these packages, which must be there."""
    for line, name, _ in imports(path):
        if name.partition(".")[0] in PACKAGES:
            assert name in MODULES, f"{path}:{line} imports {name}"
            yield line, name


def test_every_room_has_one_floor_and_every_floor_its_rooms():
    rooms = [room for rooms in FLOORS for room in rooms]
    assert len(rooms) == len(set(rooms))
    assert {room(module) for module in MODULES} == set(rooms)


@pytest.mark.parametrize("path", FILES, ids=module_name)
def test_no_import_points_up(path):
    own = room(module_name(path))
    for line, name in own_imports(path):
        other = room(name)
        assert other == own or LEVELS[other] < LEVELS[own], f"{path}:{line} imports {name}"
        assert other == own or other not in FACES or own in FACES, f"{path}:{line}: {name}"


def packages_run(module, path):
    """The packages whose __init__ a module's imports run first: those that it is not in itself."""
    for _, name, top in imports(path):
        parts = name.split(".")
        for parent in (".".join(parts[:depth]) for depth in range(1, len(parts))):
            if top and parent in MODULES and not f"{module}.".startswith(f"{parent}."):
                yield parent


def test_there_is_no_circle():
    graph = {}
    for path in FILES:
        module = module_name(path)
        named = {name for _, name in own_imports(path)} - {module}
        graph[module] = named | set(packages_run(module, path))
    graphlib.TopologicalSorter(graph).prepare()


@pytest.mark.parametrize("path", FILES, ids=module_name)
def test_heavy_libraries_are_imported_where_they_are_used(path):
    for line, name, top in imports(path):
        library = name.partition(".")[0]
        if library in HEAVY:
            assert not top, f"{path}:{line} imports {library} at the top"
            assert room(module_name(path)) in ("convert", "bench", "exporters"), (
                f"{path}:{line}: {library}"
            )


@pytest.mark.parametrize("path", FILES, ids=module_name)
def test_interfaces_that_are_not_public_are_named_in_one_module(path):
    if module_name(path) != "flaxmobile.compat":
        assert not PRIVATE.findall(path.read_text())
