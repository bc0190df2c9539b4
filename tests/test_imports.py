"""Imports go one way, from the ground up."""

import ast
import graphlib
import re
from pathlib import Path

import pytest

from tests.floors import FLOORS

ROOT = Path(__file__).parents[1]
PACKAGES = ("flaxmobile", "train", "convert")
FILES = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]

LEVELS = {
    package: {name: level for level, names in enumerate(floors) for name in names.split()}
    for package, floors in FLOORS.items()
}
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


def room(module, package=""):
    """The room of a package, or of all three, that a module belongs to; None if it is outside."""
    if not package:
        name, *inner = module.split(".")
        return name if name != "flaxmobile" else inner[0] if inner else "__init__"
    if module == package:
        return "__init__"
    inside = module.startswith(f"{package}.")
    return module.removeprefix(f"{package}.").partition(".")[0] if inside else None


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


@pytest.mark.parametrize("package", FLOORS)
def test_every_room_has_one_floor_and_every_floor_its_rooms(package):
    rooms = [name for names in FLOORS[package] for name in names.split()]
    assert len(rooms) == len(set(rooms))
    assert {room(module, package) for module in MODULES} - {None} == set(rooms)


def test_every_package_of_several_modules_has_floors():
    inside = [module.rpartition(".")[0] for module in MODULES]
    packages = {package for package in inside if package and inside.count(package) > 2}
    assert set(FLOORS) == packages - {"flaxmobile", "flaxmobile.cli"} | {""}


@pytest.mark.parametrize("path", FILES, ids=module_name)
def test_no_import_points_up(path):
    module = module_name(path)
    for line, name in own_imports(path):
        for package, levels in LEVELS.items():
            own, other = room(module, package), room(name, package)
            if None not in (own, other) and own != other:
                assert levels[other] < levels[own], f"{path}:{line} imports {name}"
        own, other = room(module), room(name)
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
