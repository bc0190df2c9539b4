"""Downloads: a file at its address, complete and verified in its place, or not at all."""

import hashlib
import http.client
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, NamedTuple
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from tqdm import tqdm

from flaxmobile.errors import InputError
from flaxmobile.files import written_at_once

TIMEOUT = 30.0
"""Seconds to wait for a server that says nothing."""
_CHUNK = 2**18
_BROKEN = (ConnectionError, TimeoutError, http.client.HTTPException)
"""Errors after which a transfer is continued where it stopped."""


class Digest(NamedTuple):
    """The digest of a file, or its first digits.

    Attributes:
      algorithm: "sha256" or "md5".
      digits: hexadecimal; none if the publisher does not say them.
    """

    algorithm: str
    digits: str

    def fits(self, path: Path) -> bool:
        """Tell whether a file has this digest; any file fits one that is not said."""
        if not self.digits:
            return True
        with path.open("rb") as file:
            found = hashlib.file_digest(file, self.algorithm).hexdigest()
        return found.startswith(self.digits)


def download(url: str, path: Path, digest: Digest) -> None:
    """Bring a file to its place in a cache, unless it is there with that digest.

    A transfer that breaks is continued where it stopped, as long as each attempt brings something.
    Each process writes a draft of its own, so that two do not disturb each other. A bar on stderr
    shows the progress on a terminal.

    Raises:
      InputError: the file cannot be fetched or written, or has another digest. The cache is then as
        it was.
    """
    if path.is_file() and digest.fits(path):
        return
    try:
        with _folder_of(path), written_at_once(path) as draft:
            with draft.open("wb") as file:
                _transfer(url, file)
            if not digest.fits(draft):
                raise InputError(
                    f"{url} is not the published file: its {digest.algorithm.upper()} does not "
                    f"begin with {digest.digits}; nothing was kept"
                )
    except (*_BROKEN, OSError) as error:
        raise InputError(_explain(url, path, error)) from None


@contextmanager
def _folder_of(path: Path) -> Iterator[None]:
    """Make the folder of a file; what was made goes again if the file does not come."""
    made = [folder for folder in path.parents if not folder.exists()]
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield
    except BaseException:
        for folder in made:
            with suppress(OSError):  # another process has put a file there
                folder.rmdir()
        raise


def _transfer(url: str, file: BinaryIO) -> None:
    name = url.partition("?")[0].rpartition("/")[2]
    with tqdm(desc=name, unit="B", unit_scale=True, unit_divisor=1024, disable=None) as bar:
        tag = ""
        while True:
            start = file.tell()
            try:
                request = Request(url)
                if start:
                    request.add_header("Range", f"bytes={start}-")
                if start and tag:
                    request.add_header("If-Range", tag)  # another file by now: all of it
                with urlopen(request, timeout=TIMEOUT) as answer:
                    tag = answer.headers.get("ETag", "")
                    _receive(answer, file, bar)
                return
            except _BROKEN:
                if file.tell() <= start:
                    raise


def _receive(answer: http.client.HTTPResponse, file: BinaryIO, bar: tqdm) -> None:
    """Append an answer to the file, or begin it again if the server sends all of it."""
    if answer.status != http.HTTPStatus.PARTIAL_CONTENT:
        file.seek(0)
        file.truncate()
    length = answer.headers.get("Content-Length")
    whole = None if length is None else file.tell() + int(length)
    bar.total, bar.n = whole, file.tell()
    while chunk := answer.read(_CHUNK):
        file.write(chunk)
        bar.update(len(chunk))
    if whole is not None and file.tell() < whole:  # `read` does not say so
        raise ConnectionError(f"the transfer ended after {file.tell():,} of {whole:,} bytes")


def _explain(url: str, path: Path, error: Exception) -> str:
    if isinstance(error, HTTPError):
        error.close()
        reason = f"the server answers {error.code} {error.reason}"
    elif isinstance(error, URLError):
        reason = f"the server cannot be reached: {_text(error.reason)}"
    elif isinstance(error, TimeoutError):
        reason = f"the server did not answer within {TIMEOUT:g} s"
    elif isinstance(error, _BROKEN):
        reason = _text(error)
    else:
        return f"{path} cannot be written: {_text(error)}"
    return f"{url} cannot be fetched: {reason}"


def _text(error: object) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
