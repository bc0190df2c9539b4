"""Exit status and streams of every command; flags that are refused."""

import errno

import pytest

from flaxmobile.command.flags import reading_arguments
from flaxmobile.command.streams import run
from flaxmobile.errors import InputError


def _raising(error):
    def main():
        raise error

    return main


def test_status_of_success_is_0_or_what_main_says():
    assert run("prog", lambda: None) == 0
    assert run("prog", lambda: 3) == 3


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (InputError("alpha is 0"), 1, "prog: error: alpha is 0"),
        (KeyboardInterrupt(), 130, "prog: interrupted"),
        (OSError(errno.ENOSPC, "No space left", "a/b"), 1, "prog: error: No space left: a/b"),
        (PermissionError(errno.EACCES, "Denied", "a/b"), 1, "prog: error: Denied: a/b"),
        (OSError(errno.ENAMETOOLONG, "Too long"), 1, "prog: error: Too long"),
        (OSError(errno.EMFILE, "Too many open files"), 1, "prog: error: Too many open files"),
    ],
)
def test_mendable_failure_is_one_line(error, status, line, capsys):
    assert run("prog", _raising(error)) == status
    printed = capsys.readouterr()
    assert (printed.out, printed.err) == ("", line + "\n")


@pytest.mark.parametrize("error", [ValueError("x"), RuntimeError("x"), OSError(errno.EIO, "x")])
def test_a_defect_keeps_its_traceback(error):
    with pytest.raises(type(error)) as raised:
        run("prog", _raising(error))
    assert raised.value is error


def test_a_broken_pipe_that_is_not_our_output_is_a_defect(capfd):
    with pytest.raises(BrokenPipeError):
        run("prog", _raising(BrokenPipeError(errno.EPIPE, "a worker has gone")))


def test_a_value_on_the_command_line_that_is_not_accepted_gives_status_2(capsys):
    with pytest.raises(SystemExit) as stop, reading_arguments("prog"):
        raise InputError("alpha is 0; accepted: any number above 0")
    assert stop.value.code == 2
    assert capsys.readouterr().err == (
        "prog: error: alpha is 0; accepted: any number above 0; "
        "prog --help lists what is accepted\n"
    )
