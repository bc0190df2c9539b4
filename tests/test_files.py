"""Files and directories that appear complete or not at all."""

import errno
import threading
import time

import pytest

from flaxmobile.files import written_at_once


def test_a_file_replaces_another_when_it_is_complete(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with written_at_once(path) as draft:
        draft.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_a_directory_replaces_another_as_a_whole(tmp_path):
    path = tmp_path / "a"
    for name in ("1", "2"):
        with written_at_once(path) as draft:
            draft.mkdir()
            (draft / name).touch()
    assert [each.name for each in path.iterdir()] == ["2"]
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
@pytest.mark.parametrize("kind", ["file", "directory"])
def test_after_an_error_everything_is_as_it_was(tmp_path, error, kind):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(error), written_at_once(path) as draft:
        if kind == "directory":
            draft.mkdir()
            draft = draft / "b"
        draft.write_text("new")
        raise error
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_errors_name_the_path_and_not_the_draft(tmp_path):
    path = tmp_path / "a.txt"
    with pytest.raises(OSError, match=str(path)) as raised, written_at_once(path) as draft:
        raise OSError(errno.ENOSPC, "No space left", str(draft / "b"))
    assert raised.value.filename == str(path / "b")
    path.mkdir()
    with pytest.raises(IsADirectoryError) as raised, written_at_once(path) as draft:
        draft.touch()
    assert raised.value.filename == str(path)


def test_a_draft_is_removed_though_threads_still_write_into_it(tmp_path):
    def write_late(draft):
        for name in ("0", "1", "2"):
            time.sleep(0.3)
            draft.mkdir(exist_ok=True)
            (draft / name).touch()

    with pytest.raises(ValueError, match="full"), written_at_once(tmp_path / "a") as draft:
        draft.mkdir()
        thread = threading.Thread(target=write_late, args=(draft,))
        thread.start()
        raise ValueError("full")
    thread.join()
    assert not list(tmp_path.iterdir())
