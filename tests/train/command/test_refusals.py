"""Flags and values that are refused in one line, with nothing written."""

import re
from pathlib import Path

import jax
import pytest

from tests.train.command.process import FLAGS
from train.__main__ import main


def refused(flags, status, capsys):
    """The one line that a refused command prints; it wrote nothing."""
    try:
        given = main(flags)
    except SystemExit as stop:
        given = stop.code
    assert given == status
    error = capsys.readouterr().err.strip()
    assert len(error.splitlines()) == 1
    assert not list(Path().iterdir())
    return error


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--model", "mobilnet_v2"], "did you mean 'mobilenet_v2'"),
        (["--recipe", "digit"], "did you mean 'digits'"),
        (["--alpha", "0", "--model", "v2"], "alpha is 0.0; accepted: any number above 0"),
        (["--alpha", "-1", "--model", "v2"], "alpha is -1.0"),
        (["--image-size", "31"], "--image-size is 31; tiny needs 32 or more"),
        (["--batch-size", "0"], "--batch-size is 0; accepted: 1 and more"),
        (["--learning-rate", "-1"], "--learning-rate is -1.0; accepted: numbers above 0"),
        (["--dropout-rate", "1"], "dropout_rate is 1.0"),
        (["--freeze-backbone"], "--freeze-backbone needs --init-from"),
        (["--quantize", "int8"], "--quantize needs --init-from"),
        (["--quantize", "int8", "--model", "shufflenet_v1"], "in training; accepted: mobilenet_v1"),
        (["--recipe", "finetune"], "--recipe finetune needs --init-from"),
        (["--batchsize", "3"], "did you mean '--batch-size'"),
        (["--parallel", "shard"], "'jit', 'pmap'"),
        (["--epochs", "many"], "many"),
        (["stray"], "stray"),
        (["--accumulate", "0"], "--accumulate is 0; accepted: 1 and more"),
        (["--distill-weight", "2"], "--distill-weight is 2.0; accepted: 0 to 1"),
        (["--eval-only", "--output="], "--eval-only needs --init-from WEIGHTS, or --output RUN"),
    ],
)
def test_wrong_flags_and_values_give_one_line_and_status_2(flags, message, capsys):
    assert message in refused([*FLAGS, "--output", "run", *flags], 2, capsys)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--dataset", "digitz"], "did you mean 'digits'"),
        (["--dataset", "folder:nowhere"], "nowhere"),
        (["--dataset", "../flowers"], "for a folder write folder:../flowers"),
        (["--batch-size", "30"], "30 cannot be divided among 8 devices; take 24 or 32"),
        (["--accumulate", "3"], "128 on 8 devices cannot be split into --accumulate 3 parts; take"),
        (["--batch-size", "8", "--mixup", "0.2"], "take a --batch-size that 16 divides, not 8"),
        (["--lr-scale", "stern.*=0"], "--lr-scale stern.*=0 matches no trained parameter"),
        (["--distill-from", "nowhere"], "nowhere is not a weights directory"),
        (["--init-from", "nowhere"], "nowhere is not a weights directory"),
    ],
)
def test_what_does_not_fit_together_gives_one_line_and_status_1(flags, message, capsys):
    assert message in refused([*FLAGS, "--output", "run", *flags], 1, capsys)


def test_an_existing_directory_is_refused_and_left_alone(capsys):
    Path("run").mkdir()
    Path("run/precious.txt").write_text("mine")
    assert main([*FLAGS, "--output", "run"]) == 1
    assert "run exists already: add --resume" in capsys.readouterr().err
    assert main([*FLAGS, "--output", "run", "--resume"]) == 1
    assert "not the directory of a run" in capsys.readouterr().err
    assert [path.name for path in Path("run").iterdir()] == ["precious.txt"]


def test_help_documents_every_flag_with_its_default(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--help"])
    assert not stop.value.code
    text = re.sub(r"[\s│]+", " ", capsys.readouterr().out)  # as wide as the terminal
    for name, default in {"batch-size": "64", "optimizer": "adamw", "seed": "0"}.items():
        assert f"--{name}" in text
        assert f"(default: {default})" in text
    assert "--steps INT Number" in text  # what may be left out is no "{None}|INT"


def test_without_a_home_that_can_be_written_no_program_is_cached(monkeypatch):
    before = jax.config.jax_compilation_cache_dir
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc/none")
    assert main([*FLAGS, "--dataset", "folder:none"]) == 1
    assert jax.config.jax_compilation_cache_dir == before


def test_a_place_that_cannot_be_written_gives_one_line(capsys):
    assert main([*FLAGS, "--output", "/sys/run"]) == 1
    error = capsys.readouterr().err.strip()
    assert "/sys" in error
    assert len(error.splitlines()) == 1
