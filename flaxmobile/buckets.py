"""Directories in a bucket, such as gs://BUCKET/RUN, through `etils.epath`."""

import atexit
import functools
import importlib.util
import logging
import os
import shutil
import tempfile
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from flaxmobile.errors import InputError, first_line, pip_install

THREADS = 8
"""Files that are copied at the same time."""


def is_url(path: str | os.PathLike[str] | None) -> bool:
    """Tell whether a path is a URL."""
    return path is not None and "://" in os.fspath(path)


def check_url(url: str) -> None:
    """Raise InputError unless a URL names a directory in a bucket that can be reached from here."""
    scheme, _, place = url.partition("://")
    if scheme != "gs" or not all(place.rstrip("/").partition("/")):
        raise InputError(f"{url} is no directory in a bucket; accepted: gs://BUCKET/DIRECTORY")
    if importlib.util.find_spec("gcsfs") is None:
        raise InputError(f"{url} needs gcsfs: {pip_install('gcs')}")


def open_bucket(url: str) -> Any:
    """Return a directory in a bucket as an `etils.epath.Path`, which need not exist.

    Raises:
      InputError: no such URL, or its package is missing.
    """
    check_url(url)
    # One implementation, whether TensorFlow is installed or not, whose listings are of now.
    os.environ.setdefault("EPATH_USE_TF", "false")
    from etils import epath
    from fsspec.config import conf

    for protocol in ("gcs", "gs"):
        conf.setdefault(protocol, {}).setdefault("use_listings_cache", False)
    logging.getLogger("gcsfs").setLevel(logging.CRITICAL)  # it logs what it raises, and more
    return epath.Path(url.rstrip("/"))


def list_files(directory: Any) -> set[str]:
    """List the files in and below a directory of a bucket, by their path in it.

    Raises:
      Exception: as the storage's library raises it where the bucket cannot be read.
    """

    def fail(error: OSError) -> None:
        if not isinstance(error, FileNotFoundError):
            raise error

    own = str(directory).partition("://")[2]
    names = set()
    for top, _, files in directory.walk(on_error=fail):
        below = str(top).rpartition("://")[2].removeprefix(own).strip("/")
        names |= {f"{below}/{name}".lstrip("/") for name in files if name}
    return names


def download(directory: Any, names: Iterable[str], target: Path) -> None:
    """Copy files of a bucket into a local directory."""

    def copy(name: str) -> None:
        path = target / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes((directory / name).read_bytes())

    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(copy, names))


@functools.cache
def fetch_directory(url: str) -> Path:
    """Copy a directory of a bucket into a temporary one, which this process keeps.

    Raises:
      InputError: there is none, or it cannot be read.
    """
    directory = open_bucket(url)
    temporary = Path(tempfile.mkdtemp(prefix="flaxmobile-"))
    atexit.register(shutil.rmtree, temporary, ignore_errors=True)
    target = temporary / url.partition("://")[2].rstrip("/")
    try:
        names = list_files(directory)
        download(directory, names, target)
    except Exception as error:  # whatever the storage's library raises
        raise InputError(f"{url} cannot be read: {first_line(error)}") from error
    if not names:
        raise InputError(f"there is nothing in {url}")
    return target
