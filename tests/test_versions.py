"""Versions of what is installed."""

from pathlib import Path

import jax

from flaxmobile.versions import __version__, installed_versions


def test_what_is_not_installed_is_left_out():
    assert installed_versions(["jax", "no-such-library"]) == {"jax": jax.__version__}


def test_the_citation_has_the_version():
    citation = (Path(__file__).parents[1] / "CITATION.cff").read_text()
    assert f"\nversion: {__version__}\n" in citation
