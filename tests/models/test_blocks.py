"""Every block says which figure, table or section of its paper it is, or whose file it is from."""

import importlib
import inspect
import pkgutil
import re

import pytest
from flax import linen as nn

import flaxmobile.models
from flaxmobile.layers import Network

MODULES = [
    importlib.import_module(f"flaxmobile.models.{info.name}")
    for info in pkgutil.iter_modules(flaxmobile.models.__path__)
]
BLOCKS = [
    member
    for module in MODULES
    for name, member in vars(module).items()
    if inspect.isclass(member)
    and issubclass(member, nn.Module)
    and member.__module__ == module.__name__
    and not name.startswith("_")
]


OVERVIEW = re.findall(r"^\| .* \| (.*) \| `([\w.]+)`.* \|$", flaxmobile.models.__doc__, re.M)
"""Of each block in the overview: its paper's figure or table, and where it is."""


def sources(text):
    """The figures, tables and sections that a text names."""
    return set(re.findall(r"(figure|table|section)s? (\d+)", text.lower()))


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.__qualname__)
def test_a_block_names_its_source(block):
    source = (inspect.getmodule(block) if issubclass(block, Network) else block).__doc__
    assert sources(source) or re.search(r"Read from the graph of MediaPipe's `\w+`", source)


@pytest.mark.parametrize(("paper", "where"), OVERVIEW)
def test_the_overview_and_the_block_name_the_same_source(paper, where):
    name, _, member = where.rpartition(".")
    name = name if name.startswith("flaxmobile") else f"flaxmobile.models.{name}"
    module = importlib.import_module(name)
    block = getattr(module, member)
    source = block if callable(block) else module  # a table has no docstring of its own
    assert sources(paper) <= sources(source.__doc__)


def test_the_overview_is_read():
    assert len(OVERVIEW) > 12
