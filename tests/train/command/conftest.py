"""A network that compiles in a second, a directory to work in, and a whole run of it."""

import pytest

from flaxmobile import registry
from tests.train.command.process import STEPS, run_command
from tests.train.tiny import SPEC


@pytest.fixture(autouse=True)
def tiny(monkeypatch, tmp_path_factory):
    """The network `tiny`, and a working directory of its own."""
    monkeypatch.setitem(registry.SPECS, "tiny", SPEC)
    monkeypatch.chdir(tmp_path_factory.mktemp("cwd"))


@pytest.fixture(scope="session")
def uninterrupted(tmp_path_factory):
    """A whole run, to compare with."""
    directory = tmp_path_factory.mktemp("whole") / "run"
    run_command("--steps", STEPS, "--output", directory)
    return directory
