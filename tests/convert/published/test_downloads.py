"""Files by their address: complete and verified in the cache, or the cache as it was."""

import errno
import hashlib
import io
import subprocess
import sys
import threading
import time

import pytest

from convert.published import downloads
from convert.published.downloads import Digest, download
from flaxmobile import InputError

CONTENT = bytes(range(256)) * 4096  # 1 MiB: several reads


@pytest.fixture
def published(server):
    url, digest = server.publish("files/weights.pth", CONTENT)
    return url, Digest("sha256", digest[:8])


def kept(folder):
    return [path for path in folder.rglob("*") if path.is_file()]


def test_a_file_is_fetched_once(server, published, tmp_path):
    path = tmp_path / "deep" / "weights.pth"
    for _ in range(2):
        download(published[0], path, published[1])
        assert path.read_bytes() == CONTENT
    assert len(server.requests) == 1
    assert kept(tmp_path) == [path]


def test_a_file_without_a_digest_is_complete(server, published, tmp_path):
    server.cut = [1000]
    download(published[0], tmp_path / "a", Digest("sha256", ""))
    assert (tmp_path / "a").read_bytes() == CONTENT


def test_a_broken_transfer_goes_on_where_it_stopped(server, published, tmp_path):
    server.cut = [300_000, 400_000]
    download(published[0], tmp_path / "a", published[1])
    assert (tmp_path / "a").read_bytes() == CONTENT
    ranges = [asked for _, _, asked in server.requests]
    assert ranges == [None, "bytes=300000-", "bytes=700000-"]


def test_a_file_that_is_replaced_meanwhile_is_begun_again(server, published, tmp_path):
    new = bytes(reversed(CONTENT))
    server.cut, server.later = [300_000], {"files/weights.pth": new}
    download(published[0], tmp_path / "a", Digest("sha256", hashlib.sha256(new).hexdigest()))
    assert (tmp_path / "a").read_bytes() == new


def test_a_damaged_file_in_the_cache_is_fetched_again(published, tmp_path):
    path = tmp_path / "a"
    path.write_bytes(CONTENT[:-1])
    download(published[0], path, published[1])
    assert path.read_bytes() == CONTENT


def test_a_bar_on_a_terminal_shows_the_progress(published, tmp_path, monkeypatch):
    terminal = io.StringIO()
    terminal.isatty = lambda: True
    monkeypatch.setattr(sys, "stderr", terminal)
    download(published[0], tmp_path / "a", published[1])
    assert "weights.pth: 100%" in terminal.getvalue()


def absent(server, monkeypatch):
    server.files.clear()
    return "the server answers 404 Not Found"


def wrong(server, monkeypatch):
    server.wrong = True
    return "is not the published file: its SHA256 does not begin with"


def broken(server, monkeypatch):
    server.cut = [1000, 0]
    return "the transfer ended after 1,000 of 1,048,576 bytes"


def silent(server, monkeypatch):
    server.silent = threading.Event()
    monkeypatch.setattr(downloads, "TIMEOUT", 0.2)
    return r"did not answer within 0.2 s|timed out"


def gone(server, monkeypatch):
    server.http.shutdown()
    server.http.server_close()
    return "the server cannot be reached: Connection refused"


def full(server, monkeypatch):
    def fail(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(downloads, "_receive", fail)
    return "a cannot be written: No space left on device"


@pytest.mark.parametrize("fault", [absent, wrong, broken, silent, gone, full])
@pytest.mark.parametrize("before", [None, b"damaged"])
def test_after_a_failure_the_cache_is_as_it_was(
    server, published, tmp_path, monkeypatch, fault, before
):
    message, path = fault(server, monkeypatch), tmp_path / "cache" / "files" / "a"
    if before is not None:
        path.parent.mkdir(parents=True)
        path.write_bytes(before)
    with pytest.raises(InputError, match=message) as caught:
        download(published[0], path, published[1])
    assert "\n" not in str(caught.value)
    assert [file.read_bytes() for file in kept(tmp_path)] == [before] * (before is not None)
    assert path.parents[1].exists() == (before is not None)


def test_two_processes_do_not_disturb_each_other(server, published, tmp_path):
    program = (
        "import sys; from pathlib import Path\n"
        "from convert.published.downloads import Digest, download\n"
        "download(sys.argv[1], Path(sys.argv[2]), Digest('sha256', sys.argv[3]))\n"
    )
    path, digest = tmp_path / "a", hashlib.sha256(CONTENT).hexdigest()
    server.silent = threading.Event()
    processes = [
        subprocess.Popen([sys.executable, "-c", program, published[0], str(path), digest])
        for _ in range(2)
    ]
    while len(server.requests) < 2:  # both wait for an answer
        assert all(process.poll() is None for process in processes)
        time.sleep(0.01)
    server.silent.set()
    assert [process.wait() for process in processes] == [0, 0]
    assert kept(tmp_path) == [path]
    assert path.read_bytes() == CONTENT
