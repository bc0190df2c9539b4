import pytest

from flaxmobile import cli


@pytest.fixture
def run_predict(capsys):
    """Run `flaxmobile predict`; give status, stdout, stderr."""

    def run(*argv, weights="w"):
        try:
            status = cli.main(["predict", "--weights", weights, *argv])
        except SystemExit as stop:
            status = stop.code
        return status, *capsys.readouterr()

    return run
