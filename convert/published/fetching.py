"""Published weights by name: torchvision:…, timm:…, keras:…, mediapipe:…, hf:OWNER/REPOSITORY.

No library of a publisher is needed. Files are cached where its own library caches them, if it does.
"""

import contextlib
import os
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlparse

from convert.formats.contents import NOTHING_SAID, Statements
from convert.published.catalogue import PUBLISHERS, Entry, find_entry
from convert.published.configs import read_config
from convert.published.downloads import Digest, download
from convert.published.hub import CONFIG, Repository, UnreachableError, fetch_file, fetch_weights
from convert.rule import Published
from flaxmobile.errors import InputError

SCHEMES = (*PUBLISHERS, "hf")


class Fetched(NamedTuple):
    """A file of weights.

    Attributes:
      path: of the file.
      model: registered name of the network.
      origin: origin of its names.
      published: its publisher's statements about it, if it is in the catalogue.
      said: statements beside it, in a config.json.
    """

    path: Path
    model: str
    origin: str = "auto"
    published: Published | None = None
    said: Statements = NOTHING_SAID


def scheme_of(weights: str | os.PathLike[str]) -> str | None:
    """Return the scheme in SCHEME:NAME; None for anything else and for files that exist."""
    scheme, colon, _ = os.fspath(weights).partition(":")
    return scheme if colon and scheme in SCHEMES and not Path(weights).exists() else None


def fetch(name: str, model: str | None = None, alpha: float | None = None) -> Fetched:
    """Fetch published weights, or find them in the cache.

    Args:
      name: SCHEME:NAME, see `scheme_of`.
      model: registered name of the network; by default that of the weights.
      alpha: its width, where the name stands for several; by default 1.0.

    Raises:
      InputError: there are no such weights, they are of another network, they cannot be fetched, or
        a library for that is not installed.
    """
    if scheme_of(name) == "hf":
        return _from_hub(Repository.parse(name.partition(":")[2]), model)
    entry = find_entry(name, model, alpha)
    if entry.published.repository:
        return _from_repository_of(entry)
    published = entry.published
    path = _cache_of(published.name) / Path(urlparse(published.url).path).name
    md5, sha256 = Digest("md5", published.md5), Digest("sha256", published.sha256)
    download(published.url, path, md5 if published.md5 else sha256)
    return Fetched(path, entry.model, entry.origin, published)


def _from_repository_of(entry: Entry) -> Fetched:
    """Fetch weights of the catalogue from the Hub; its config.json is believed over the table."""
    repository, said = Repository(entry.published.repository), NOTHING_SAID
    path = fetch_weights(repository)
    # Offline it may be missing: timm itself fetches the weights alone.
    with contextlib.suppress(UnreachableError):
        if (config := fetch_file(repository, CONFIG)) is not None:
            said = read_config(config, str(repository)).said
    return Fetched(path, entry.model, entry.origin, entry.published, said)


def _from_hub(repository: Repository, model: str | None) -> Fetched:
    config = fetch_file(repository, CONFIG)
    if config is None:
        if model is None:
            raise InputError(
                f"{repository} has no {CONFIG} that names the network; name it: "
                f"python -m convert --weights {repository} --model NAME"
            )
        said = Statements(source={"weights": str(repository)})
        return Fetched(fetch_weights(repository), model, said=said)
    found = read_config(config, str(repository))
    if model not in (None, found.model):
        raise InputError(f"{repository} holds {found.model}, not {model}: --model {found.model}")
    said = found.said.over(Statements(source={"weights": str(repository)}))
    path = fetch_weights(repository)
    return Fetched(path, found.model, found.origin, said=said)


def _cache_of(name: str) -> Path:
    """Return the folder in which the library of a publisher caches its files.

    MediaPipe's caches none: they lie in a folder of ours, by name, as files of one name differ.
    """
    places, home = os.environ, Path.home()
    if name.startswith("keras:"):
        return Path(places.get("KERAS_HOME", home / ".keras")).expanduser() / "models"
    cache = Path(places.get("XDG_CACHE_HOME", home / ".cache"))
    if name.startswith("mediapipe:"):
        return cache / "flaxmobile" / "mediapipe" / name.partition(":")[2]
    return Path(places.get("TORCH_HOME", cache / "torch")).expanduser() / "hub" / "checkpoints"
