import pytest

from flaxmobile.errors import first_line


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
