"""What every command does alike."""

import errno
import os
from pathlib import Path

import pytest

from flaxmobile.cli import command
from flaxmobile.errors import InputError


def _raising(error):
    def main():
        raise error

    return main


def test_status_of_success_is_0_or_what_main_says():
    assert command.run("prog", lambda: None) == 0
    assert command.run("prog", lambda: 3) == 3


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (InputError("alpha is 0"), 1, "prog: error: alpha is 0"),
        (KeyboardInterrupt(), 130, "prog: interrupted"),
        (OSError(errno.ENOSPC, "No space left", "a/b"), 1, "prog: error: No space left: a/b"),
        (OSError(errno.EPERM, "No", "a/.b.png.12.tmp"), 1, "prog: error: No: a/b.png"),
        (OSError(errno.EPERM, "No", ".run.tmp/c.json"), 1, "prog: error: No: run/c.json"),
        (PermissionError(errno.EACCES, "Denied", "a/b"), 1, "prog: error: Denied: a/b"),
        (OSError(errno.ENAMETOOLONG, "Too long"), 1, "prog: error: Too long"),
    ],
)
def test_mendable_failure_is_one_line(error, status, line, capsys):
    assert command.run("prog", _raising(error)) == status
    printed = capsys.readouterr()
    assert (printed.out, printed.err) == ("", line + "\n")


@pytest.mark.parametrize("error", [ValueError("x"), RuntimeError("x"), OSError(errno.EIO, "x")])
def test_a_defect_keeps_its_traceback(error):
    with pytest.raises(type(error)) as raised:
        command.run("prog", _raising(error))
    assert raised.value is error


def test_a_broken_pipe_that_is_not_our_output_is_a_defect(capfd):
    with pytest.raises(BrokenPipeError):
        command.run("prog", _raising(BrokenPipeError(errno.EPIPE, "a worker has gone")))


def test_a_value_on_the_command_line_that_is_not_accepted_gives_status_2(capsys):
    with pytest.raises(SystemExit) as stop, command.reading_arguments("prog"):
        raise InputError("alpha is 0; accepted: any number above 0")
    assert stop.value.code == 2
    assert capsys.readouterr().err == (
        "prog: error: alpha is 0; accepted: any number above 0; "
        "prog --help lists what is accepted\n"
    )


PROBE = ("TPU_SKIP_MDS_QUERY", "TPU_ACCELERATOR_TYPE", "TPU_WORKER_HOSTNAMES")


@pytest.fixture
def devices(monkeypatch, tmp_path):
    """A machine's /dev, and an environment in which nothing is set."""
    for name in PROBE:
        monkeypatch.setenv(name, "")  # so that the old value comes back
        monkeypatch.delenv(name)
    monkeypatch.setattr(command, "Path", lambda path: tmp_path / Path(path).name)
    return tmp_path


@pytest.mark.parametrize("others", [(), ("nvidia0",), ("vfio/vfio",)])
def test_libtpu_is_told_its_surroundings_where_there_is_no_tpu(devices, others):
    for name in others:
        path = devices / "dev" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    command.quiet_accelerator_probe()
    assert [os.environ.get(name) for name in PROBE] == ["1", "v5litepod-4", "localhost"]


@pytest.mark.parametrize("chip", ["accel0", "vfio/0"])
def test_nothing_is_set_where_there_is_a_tpu(devices, chip):
    path = devices / "dev" / chip
    path.parent.mkdir(parents=True)
    path.touch()
    command.quiet_accelerator_probe()
    assert not set(PROBE) & set(os.environ)


def test_what_the_user_has_set_stays(devices, monkeypatch):
    monkeypatch.setenv("TPU_ACCELERATOR_TYPE", "v6e-8")
    command.quiet_accelerator_probe()
    assert os.environ["TPU_ACCELERATOR_TYPE"] == "v6e-8"
