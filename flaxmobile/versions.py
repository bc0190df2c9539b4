"""Versions of this library and of others that are installed."""

from collections.abc import Iterable

__version__ = "0.2.0"


def installed_versions(names: Iterable[str]) -> dict[str, str]:
    """Return the versions of those packages that are installed."""
    from importlib.metadata import PackageNotFoundError, version  # slow, and only this needs it

    versions = {}
    for name in names:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:  # flaxmobile may be run from a checkout
            continue
    return versions
