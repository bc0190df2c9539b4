"""A run in a bucket: written to a local directory, which a thread copies there."""

import atexit
import dataclasses
import datetime
import json
import shutil
import socket
import tempfile
import threading
import types
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self, TypeVar

import jax
from tqdm.auto import tqdm

from flaxmobile.buckets import THREADS, download, is_url, list_files, open_bucket
from flaxmobile.errors import InputError, first_line
from flaxmobile.files import written_at_once
from flaxmobile.weights import drop_strangers
from train import PROG, hosts
from train.config import Config
from train.peers import leave
from train.run_files import (
    OWNER,
    Version,
    complete,
    grouped,
    is_mark,
    list_run,
    newest_step,
    rank,
    run_id,
)

SECONDS = 15.0
"""Seconds between two copies."""

_T = TypeVar("_T")


class Mirror:
    """Where a run is written: without a bucket, in its directory and nowhere else.

    Attributes:
      url: the directory in a bucket, if the run has one.
      own: each process has a local directory of its own; otherwise all of them see the same.
    """

    def __init__(self, url: str | None = None) -> None:
        """Copy nothing."""
        self.url, self.own = url, url is not None

    def claim(self) -> None:
        """Become the one process that writes the run into the bucket."""

    def finish(self) -> None:
        """Copy what is not in the bucket yet."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: types.TracebackType | None,
    ) -> None:
        pass


def open_mirror(config: Config) -> tuple[Config, Mirror]:
    """Fetch the run from the bucket of --output, if it is in one.

    Returns:
      The settings with a local directory as --output, and what copies it.

    Raises:
      InputError: the bucket cannot be read, or there is a run in it that is not to be continued.
    """
    if config.eval_only or config.output is None or not is_url(config.output):
        return config, Mirror()
    url, mirror = config.output, Mirror(config.output)
    directory = local_directory(url)
    if hosts.is_first():
        mirror = _BucketMirror(url, directory)
        mirror.fetch(config.resume)
    hosts.wait_for_all()  # what the first process has newer than the bucket is there now
    if not hosts.is_first():
        directory = Path(tempfile.mkdtemp(prefix="flaxmobile-"))
        atexit.register(shutil.rmtree, directory, ignore_errors=True)
        remote = open_bucket(url)
        _reading(url, lambda: _fetch(remote, list_files(remote), directory))
    return dataclasses.replace(config, output=str(directory)), mirror


def newest_copy(url: str) -> Any:
    """Return where the newest state of a run is: in the bucket, or in the local copy (`Path`).

    Raises:
      InputError: the bucket cannot be read, or the local copy is of another run.
    """
    remote = open_bucket(url)
    names = _reading(url, lambda: list_files(remote))
    return local_directory(url) if _is_ahead(url, remote, names) else remote


def local_directory(url: str) -> Path:
    """Return runs/BUCKET/RUN, which the first process writes."""
    return Path("runs") / url.partition("://")[2].rstrip("/")


class _BucketMirror(Mirror):
    """The mirror of the first process."""

    def __init__(self, url: str, directory: Path) -> None:
        """Copy `directory` to `url`; nothing is read or written yet."""
        super().__init__(url)
        self._name, self._directory, self._remote = url, directory, open_bucket(url)
        self._copied: dict[str, Version] = {}
        self._run = uuid.uuid4().hex
        self._claim = ""
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._keep_copying, daemon=True)

    def fetch(self, resume: bool) -> None:
        """Fetch the run, unless the local copy is as new.

        Raises:
          InputError: the bucket cannot be read, or there is a run and it is not to be continued.
        """
        url, directory = self._name, self._directory
        names = _reading(url, lambda: list_files(self._remote))
        exists, ahead = "config.json" in names, _is_ahead(url, self._remote, names)
        if exists and not resume:
            raise InputError(
                f"{url} exists already: add --resume to continue that run, or choose another "
                "--output"
            )
        if ahead and not resume:
            raise InputError(
                f"{directory} holds a run that is not in {url}: add --resume to continue it, or "
                "remove it"
            )
        # What is not in the directory is removed from there, such as incomplete checkpoints.
        managed = (name for name in names if name.startswith(("checkpoints/", "best/")))
        self._copied = dict.fromkeys(managed, (0, 0))
        if exists and not ahead:
            directory.parent.mkdir(parents=True, exist_ok=True)
            with written_at_once(directory) as draft:
                _reading(url, lambda: _fetch(self._remote, names, draft))
            self._copied |= list_run(directory)
        self._run = run_id(directory) or self._run
        if ahead and jax.process_count() > 1:  # the others fetch it from there
            self.claim()
            self._writing(self._copy)

    def claim(self) -> None:
        """Write the object that says who owns the run; another owner ends at its next copy.

        Raises:
          InputError: the bucket cannot be written.
        """
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        owner = {"run": self._run, "owner": uuid.uuid4().hex}
        self._claim = json.dumps({**owner, "host": socket.gethostname(), "since": now}) + "\n"
        self._writing(lambda: (self._remote / OWNER).write_text(self._claim))

    def finish(self) -> None:
        """Copy what is not in the bucket yet.

        Raises:
          InputError: it could not be written; says where the run is.
        """
        self._stopping.set()
        try:
            self._copy()
        except Exception as error:  # whatever the storage's library raises
            raise InputError(
                f"{self._name} could not be written ({first_line(error)}): the run is in "
                f"{self._directory}; repeat the command with --resume to copy it"
            ) from error

    def __enter__(self) -> Self:
        (self._directory / OWNER).write_text(self._claim)
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: types.TracebackType | None,
    ) -> None:
        """Copy the rest; an error of the body is not hidden by one of copying."""
        try:
            self.finish()
        except InputError as not_copied:
            if kind is None:
                raise
            tqdm.write(str(not_copied))

    def _writing(self, write: Callable[[], object]) -> None:
        try:
            write()
        except Exception as error:  # whatever the storage's library raises
            raise InputError(f"{self._name} cannot be written: {first_line(error)}") from error

    def _keep_copying(self) -> None:
        failing = False
        while not self._stopping.wait(SECONDS):
            try:
                self._copy()
            except Exception as error:  # whatever the storage's library raises
                if not failing:
                    tqdm.write(
                        f"{self._name} could not be written ({first_line(error)}): the run goes on "
                        f"in {self._directory}, and copying is tried again"
                    )
                failing = True
            else:
                if failing:
                    tqdm.write(f"{self._name} is written again")
                failing = False

    def _copy(self) -> None:
        """Copy what has changed; the bucket can be resumed from at each moment."""
        with self._lock, ThreadPoolExecutor(THREADS) as pool:
            self._check_owner()
            here = list_run(self._directory)
            changed = [name for name in here if self._copied.get(name) != here[name]]
            for names in grouped(changed, rank):
                list(pool.map(self._upload, names, [here[name] for name in names]))
            gone = [name for name in self._copied if name not in here]
            for names in grouped(gone, lambda name: not is_mark(name)):
                list(pool.map(self._remove, names))

    def _check_owner(self) -> None:
        if (self._remote / OWNER).read_text() != self._claim:
            leave(
                f"{PROG}: error: another process has begun to write {self._name}: this one ends; "
                f"its copy of the run is in {self._directory}"
            )

    def _upload(self, name: str, version: Version) -> None:
        try:
            content = (self._directory / name).read_bytes()
        except FileNotFoundError:  # replaced meanwhile: what came instead is copied next time
            return
        (self._remote / name).write_bytes(content)
        self._copied[name] = version

    def _remove(self, name: str) -> None:
        (self._remote / name).unlink(missing_ok=True)
        del self._copied[name]


def _fetch(remote: Any, names: set[str], directory: Path) -> None:
    directory.mkdir(exist_ok=True)
    download(remote, complete(names), directory)
    drop_strangers(directory / "best")


def _is_ahead(url: str, remote: Any, names: set[str]) -> bool:
    """Tell whether there is a local copy, and it is as new as the bucket or newer."""
    local = local_directory(url)
    if not (local / "config.json").is_file():
        return False
    if "config.json" not in names:
        return True
    if run_id(local) != _reading(url, lambda: run_id(remote)):
        raise InputError(f"{local} holds another run than {url}: move it away")
    return newest_step(list_run(local)) >= newest_step(names)


def _reading(url: str, read: Callable[[], _T]) -> _T:
    try:
        return read()
    except InputError:
        raise
    except Exception as error:  # whatever the storage's library raises
        raise InputError(f"{url} cannot be read: {first_line(error)}") from error
