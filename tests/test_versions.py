"""Versions of what is installed."""

import jax

from flaxmobile.versions import installed_versions


def test_what_is_not_installed_is_left_out():
    assert installed_versions(["jax", "no-such-library"]) == {"jax": jax.__version__}
