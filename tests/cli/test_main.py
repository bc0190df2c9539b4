"""The `flaxmobile` command as a process: dispatch, streams, exit status."""

import itertools
import os
import re
import subprocess
import sys

import pytest

import flaxmobile
from flaxmobile import cli
from flaxmobile.specs import SPECS

TPU_SETTINGS = (
    "JAX_PLATFORMS",
    "TPU_SKIP_MDS_QUERY",
    "TPU_ACCELERATOR_TYPE",
    "TPU_WORKER_HOSTNAMES",
)


def _shell(script, **environment):
    """Run a shell line in which `flaxmobile` is this interpreter's `python -m flaxmobile`."""
    kept = {k: v for k, v in os.environ.items() if k not in (*TPU_SETTINGS, "XLA_FLAGS")}
    return subprocess.run(
        ["bash", "-c", f'flaxmobile() {{ "{sys.executable}" -m flaxmobile "$@"; }}; {script}'],
        env={**kept, **environment},
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize("argv", [[], ["--help"], ["-h"]])
def test_help_lists_the_subcommands_with_a_line_each(argv, capsys):
    assert cli.main(argv) == 0
    lines = capsys.readouterr().out.splitlines()
    for name, what in cli.COMMANDS.items():
        assert [line.split(maxsplit=1) for line in lines].count([name, what]) == 1


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_subcommand_documents_its_flags(name, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit) as stop:
        cli.main([name, "--help"])
    assert stop.value.code == 0
    printed = capsys.readouterr().out
    assert f"usage: flaxmobile {name}" in printed
    assert "(default: " in printed or name in ("info", "doctor")  # which have no flags
    about, _, flags = printed.partition("options  ")
    for example in re.findall(r"^  (?:python -m|flaxmobile) .*", about, re.MULTILINE):
        assert name in example
        assert set(re.findall(r" (--[a-z-]+)", example)) <= set(re.findall(r" (--[a-z-]+)", flags))
    assert not list(_ragged(flags, 80))


def _ragged(flags, columns):
    """Lines of a flag's text that have room for the first word of the next one."""
    for line, following in itertools.pairwise(flags.splitlines()):
        continued = re.match(r" {12,}(?!•|\(default: )(\S+)", following)
        if (
            continued
            and re.match(r" {12,}\S", line)
            and len(line.rstrip()) + 1 + len(continued[1]) <= columns
        ):
            yield line


def test_unknown_subcommand_is_one_line_with_the_nearest(capsys):
    assert cli.main(["sumary", "v2"]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err == (
        "flaxmobile: error: unknown command 'sumary' (did you mean 'summary'?); "
        f"accepted: {', '.join(cli.COMMANDS)}\n"
    )


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["list", "--jsn"], "unknown argument '--jsn' (did you mean '--json'?)"),
        (["summary", "v2", "--alhpa", "1"], "unknown argument '--alhpa' (did you mean '--alpha'?)"),
        (["summary", "v2", "--alpha", "wide"], "could be instantiated from ['wide']; flaxmobile"),
        (["summary"], "Name or alias of the network"),
        (["predict", "a.png"], "--weights"),
        (["predict", "--weights"], "--weights"),
    ],
)
def test_a_wrong_flag_is_one_line_and_status_2(argv, message, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(argv)
    assert stop.value.code == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith(f"flaxmobile {argv[0]}: error: ")
    assert printed.err.endswith(f"flaxmobile {argv[0]} --help lists what is accepted\n")
    assert message in printed.err
    assert printed.err.count("\n") == 1


def test_a_positional_argument_is_not_suggested_as_a_flag(capsys):
    with pytest.raises(SystemExit):
        cli.main(["predict", "a.png", "--weights", "w", "--image", "b.png"])
    assert "unknown argument '--image'" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        cli.main(["summary", "v2", "--mode", "v2"])
    assert "'--model'" not in capsys.readouterr().err


def test_version_is_the_packages(capsys):
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"flaxmobile {flaxmobile.__version__}\n"


def test_help_does_not_import_jax():
    code = "import sys; from flaxmobile.cli import main; main([]); print('jax' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("\nFalse\n")


def test_output_is_stdout_alone_also_where_libtpu_finds_no_tpu():
    """Nothing is set in the environment: JAX asks every backend that is installed for devices."""
    done = _shell("flaxmobile list")
    assert done.returncode == 0
    assert done.stderr == ""
    assert all(name in done.stdout for name in SPECS)


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("argv", ["--help", "list --help"])
def test_a_reader_that_leaves_is_no_complaint(argv, unbuffered):
    done = _shell(f"(sleep 0.5; flaxmobile {argv}) | true", PYTHONUNBUFFERED=unbuffered)
    assert done.stderr == ""


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_full_disk_behind_stdout_is_one_line(unbuffered):
    done = _shell("flaxmobile --help > /dev/full", PYTHONUNBUFFERED=unbuffered)
    assert done.returncode == 1
    assert done.stderr == "flaxmobile: error: No space left on device\n"


def test_a_terminal_that_cannot_show_a_character_gets_an_escape():
    done = _shell("flaxmobile --help", PYTHONIOENCODING="ascii")
    assert done.returncode == 0
    assert "flaxmobile COMMAND \\u2026" in done.stdout


@pytest.mark.parametrize("words", ["train", "convert", "flaxmobile train", "flaxmobile convert"])
def test_files_of_the_users_folder_are_not_taken_for_ours(words, tmp_path):
    started, *_ = words.split()
    for name in {"train", "convert"} - {started}:
        (tmp_path / f"{name}.py").write_text("raise SystemExit('the file of the user')")
    command = [sys.executable, "-m", *words.split(), "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "--help" in done.stdout
