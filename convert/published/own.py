"""Weights under flaxmobile's own names of variables, for networks that no torch library has."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from flax import traverse_util

from convert.conversion import Conversion
from convert.engine import Filled
from convert.facts import Facts
from convert.formats.contents import Statements
from convert.published.fetching import Fetched
from convert.rule import Options
from convert.sources import read_source
from flaxmobile.outputs import default_output
from flaxmobile.preprocessing import Preprocessing
from flaxmobile.tasks import build
from flaxmobile.trees import Tree
from flaxmobile.variables import abstract_variables, check_variables

ORIGIN = "flaxmobile"


def own_names(variables: Tree) -> dict[str, np.ndarray]:
    """Map "collection/module/…/leaf" to each array."""
    flat = traverse_util.flatten_dict(variables, sep="/")
    return {name: np.asarray(array) for name, array in flat.items()}


def convert_own(fetched: Fetched, chosen: Options, stated: Statements) -> Conversion:
    """Fill a network from a file under our own names; the options may leave out its head.

    Raises:
      InputError: the file is damaged, or does not fit the network.
    """
    file = read_source(fetched.path)
    options = {**fetched.said.options, **chosen}
    model = build(fetched.model, **options)
    wanted = abstract_variables(model)
    names = traverse_util.flatten_dict(wanted, sep="/")
    outside = [name for name in file.tensors if name not in names]
    left_out = dict.fromkeys(outside if model.num_classes == 0 else (), "not part of a backbone")
    flat = {name: tensor for name, tensor in file.tensors.items() if name not in left_out}
    variables = traverse_util.unflatten_dict(flat, sep="/")
    check_variables(wanted, variables, str(fetched.path))
    return Conversion(
        model_name=fetched.model,
        origin=ORIGIN,
        file=fetched.path,
        sha256=file.sha256,
        precision=file.precision,
        filled=Filled(model, options, variables, tuple(flat), {}, left_out, ()),
        assumed={},
        facts=_facts(model.num_classes, stated.over(fetched.said)),
        notes=file.notes,
    )


def _facts(num_classes: int, said: Statements) -> Facts:
    preprocessing: Mapping[str, Any] = said.preprocessing
    return Facts(
        Preprocessing(**preprocessing),
        said.class_names if num_classes else None,
        said.output or default_output(num_classes),
        dict(said.source),
        (),
    )
