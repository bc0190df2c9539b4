"""Libraries that the lower floors must not import."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    ("package", "library"),
    [("flaxmobile.ops", "flax"), ("flaxmobile.layers", "PIL")],
)
def test_a_package_imports_no_library_that_it_does_not_need(package, library):
    program = f"import sys, {package}; sys.exit({library!r} in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
