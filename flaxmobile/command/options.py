"""Options of a network on a command line: `--options groups=8 flavour=paper`."""

import json
from collections.abc import Sequence
from typing import Any

from flaxmobile.dilations import load_dilations
from flaxmobile.errors import InputError

_PYTHON = ("api", "rngs")
"""Arguments of `create_model` that are no options of the network."""


def read_options(words: Sequence[str], **flags: Any) -> dict[str, Any]:
    """Turn NAME=VALUE words, and separate flags that are not None, into options.

    A value is JSON (`8`, `true`, `[4, 7, 3]`), True or False as Python writes them, otherwise a
    word; the word for `pattern` names a file of dilations. `create_model` checks the result.

    Raises:
      InputError: a word without a name and a value, a name given twice or for Python alone, or a
        file that cannot be read.
    """
    options = {name: value for name, value in flags.items() if value is not None}
    for word in words:
        name, equals, text = word.partition("=")
        if not name or not equals:
            raise InputError(f"--options has {word!r}; accepted: NAME=VALUE, such as groups=8")
        if name in _PYTHON:
            raise InputError(f"--options has {name}, which is for Python alone")
        if name in options:
            raise InputError(f"--options gives {name} twice, or beside --{name.replace('_', '-')}")
        try:
            options[name] = json.loads(text.lower() if text in ("True", "False") else text)
        except ValueError:
            options[name] = load_dilations(text) if name == "pattern" else text
    return options
