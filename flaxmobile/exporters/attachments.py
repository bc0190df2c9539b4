"""Text files after a flatbuffer, as a ZIP archive: readers of flatbuffers stop before it.

LiteRT's metadata keeps the labels of a model in this way; a program of `jax.export` has no other
place for what is said about it.
"""

import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

DESCRIPTION = "flaxmobile.json"
"""Attached file with what `Program.describe` says."""


def attach(path: Path, files: Mapping[str, str]) -> None:
    """Append text files, name -> text, to a file."""
    with zipfile.ZipFile(path, "a") as archive:
        for name, text in files.items():
            archive.writestr(zipfile.ZipInfo(name), text)  # without the time: files can be compared


def read_description(path: Path) -> dict[str, Any] | None:
    """Read the attached description, or return None where a file has none."""
    try:
        with zipfile.ZipFile(path) as archive:
            return dict(json.loads(archive.read(DESCRIPTION)))
    except (zipfile.BadZipFile, KeyError, ValueError):
        return None


def to_text(facts: Mapping[str, Any]) -> str:
    """Write a description as JSON."""
    return json.dumps(facts, indent=2, default=dict) + "\n"
