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


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.__qualname__)
def test_a_block_names_its_source(block):
    source = inspect.getmodule(block) if issubclass(block, Network) else block
    in_paper = re.search(r"([Ff]igure|[Tt]able|[Ss]ection) \d", source.__doc__)
    assert in_paper or re.search(r"Read from the graph of MediaPipe's `\w+`", source.__doc__)


def test_the_overview_names_what_is_there():
    named = re.findall(r"`(\w+)\.(\w+)`", flaxmobile.models.__doc__)
    assert len(named) > 12
    for module, member in named:
        assert hasattr(importlib.import_module(f"flaxmobile.models.{module}"), member)
