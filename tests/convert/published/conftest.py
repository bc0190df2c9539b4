"""The server, empty caches, and huggingface_hub pointed at both."""

import pytest
from huggingface_hub import constants

from tests.convert.published.server import Server


@pytest.fixture
def server():
    server = Server()
    yield server
    server.close()


@pytest.fixture(autouse=True)
def caches(tmp_path, monkeypatch):
    """Folders of the caches; the environment is read at every call, or by huggingface_hub once."""
    for variable in ("TORCH_HOME", "KERAS_HOME"):
        monkeypatch.setenv(variable, str(tmp_path / "cache" / variable))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache" / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    return tmp_path / "cache"


@pytest.fixture
def hub(server, monkeypatch):
    """The server as the Hub."""
    monkeypatch.setattr(constants, "ENDPOINT", server.url)
    template = server.url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    return server
