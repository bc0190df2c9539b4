from pathlib import Path

import pytest

from flaxmobile import errors
from flaxmobile.errors import first_line, nearest, pip_install


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("one\ntwo"), "one"),
        (ValueError("\n one\ntwo"), "one"),
        (ValueError(), "ValueError()"),
        (ValueError(" \n"), "ValueError(' \\n')"),
    ],
)
def test_first_line_is_never_empty(error, line):
    assert first_line(error) == line


@pytest.mark.parametrize(
    ("given", "valid", "hint"),
    [
        ("--lr", ["--plan", "--learning-rate"], "--learning-rate"),
        ("--bs", ["--best-by", "--batch-size"], "--batch-size"),
        ("--wd", ["--seed", "--weight-decay"], "--weight-decay"),
        ("--pretrained", ["--weights"], "--weights"),
        ("--pretrained", ["--weights", "--init-from"], "--init-from"),
        ("in_chans", ["in_channels"], "in_channels"),
        ("mobilenet", ["mobilenext", "mobilenet_v2"], "mobilenet_v2"),
        ("imagenet", ["imagenette", "imagenet2012"], "imagenet2012"),
        ("V2", ["v1", "v2"], "v2"),
        ("alhpa", ["alpha", "padding"], "alpha"),
        ("resnet50", ["mnasnet", "mobilenet_v2"], None),
        ("--lr", ["--plan"], None),
    ],
)
def test_a_hint_is_what_the_word_means_elsewhere_or_resembles(given, valid, hint):
    assert nearest(given, valid) == (f" (did you mean {hint!r}?)" if hint else "")


def test_an_extra_is_installed_from_the_checkout_where_there_is_one(tmp_path, monkeypatch):
    root = Path(__file__).parents[1]
    monkeypatch.chdir(root)
    assert pip_install("hub") == "pip install -e '.[hub]'"
    monkeypatch.chdir(tmp_path)
    assert pip_install("hub") == f"pip install -e '{root}[hub]'"
    monkeypatch.setattr(errors, "__file__", str(tmp_path / "flaxmobile" / "errors.py"))
    assert pip_install("hub") == "pip install 'flaxmobile[hub]'"
