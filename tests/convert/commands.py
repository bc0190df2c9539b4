"""Running `python -m convert` in this process, for tests."""

import pytest
import torch

from convert.__main__ import main
from convert.sources import read_source
from flaxmobile import InputError


def save(content, path):
    torch.save(content, path)
    return path


def convert(path, output, *flags, model="v2"):
    return main(["--model", model, "--weights", str(path), "--output", str(output), *flags])


def convert_back(directory, output, *flags):
    return main(["--to-torch", "--weights", str(directory), "--output", str(output), *flags])


def refusal(path):
    """The one line by which a file is refused when it is read."""
    with pytest.raises(InputError) as caught:
        read_source(path)
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    return message


def error_of(capsys, status, expected_status=1):
    """The line of a command that failed, and the first problems of the file's tensors."""
    assert status == expected_status
    out, err = capsys.readouterr()
    assert out == "" or out.startswith("fetching ")
    assert all(line.startswith("  ") for line in err.splitlines()[1:])
    assert err.count("\n") <= 15
    assert err.startswith("python -m convert: error: ")
    return err
