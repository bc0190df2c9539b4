"""Damaged files of every origin and network: one error lists all that is wrong."""

import jax
import numpy as np
import pytest

from convert import engine
from convert.options import size_of
from convert.recognition import recognise
from convert.rules import RULES
from convert.sources import Source
from flaxmobile import InputError, create_model
from tests.networks import abstract


def tensors_of(rule, name, alpha=0.5):
    """A whole file, without the memory for its numbers."""
    options = {"num_classes": 7, **rule.options, **rule.variants[0]}
    model = create_model(name, **{**({"alpha": alpha} if rule.widths else {}), **options})

    def fill(path, leaf):
        value = rule.constants.get(f"{path[0].key}/{path[-1].key}", 0.5)
        return np.broadcast_to(np.float32(value), leaf.shape)

    variables = jax.tree_util.tree_map_with_path(fill, abstract(model))
    return model, engine.from_flax(rule, model, variables)


def spread(names, count):
    """So many of the names from the middle, where none tells the number of classes."""
    middle = names[len(names) // 4 : 3 * len(names) // 4]
    return [middle[len(middle) * i // count] for i in range(count)]


@pytest.mark.parametrize(("origin", "name"), RULES, ids=str)
def test_all_damages_are_told_at_once(origin, name):
    rule = RULES[origin, name]
    model, tensors = tensors_of(rule, name)
    floats = [key for key, array in tensors.items() if array.dtype == np.float32]
    dropped, renamed, reshaped, retyped, spoilt, twice = spread(floats, 6)
    del tensors[dropped]
    tensors[f"{renamed}x"] = tensors.pop(renamed)
    tensors[reshaped] = tensors[reshaped][..., None]
    tensors[retyped] = tensors[retyped].astype(np.float64)
    tensors[spoilt] = np.array(tensors[spoilt])
    tensors[spoilt].flat[-1] = np.nan
    stranger = rule.layout.join("stranger", "thing")
    tensors[stranger] = np.zeros(3, np.float32)
    expected = [
        f"{name} with {size_of(model)} cannot be filled",
        f"{dropped} is missing",
        f"{renamed} is missing (did you mean ",
        f"{renamed}x is unknown (did you mean ",
        f"{reshaped} is float32[",
        f"{retyped} is float64[",
        f"{spoilt} holds 1 of {tensors[spoilt].size} values that are NaN or infinite",
        f"{stranger} is unknown",
    ]
    if rule.layout.wrapper:
        tensors[rule.layout.wrapper + twice] = tensors[twice]
        expected.append(f"both claim {twice}")
    with pytest.raises(InputError) as caught:
        engine.to_flax(rule, name, tensors)
    message = str(caught.value)
    assert [part for part in expected if part not in message] == []
    assert "\n" not in message


@pytest.mark.parametrize(
    ("origin", "name"), [key for key, rule in RULES.items() if "num_classes" not in rule.options]
)
def test_another_number_of_classes_is_refused(origin, name):
    rule = RULES[origin, name]
    _, tensors = tensors_of(rule, name)
    with pytest.raises(InputError, match="num_classes is 8, the file's network has 7"):
        engine.to_flax(rule, name, tensors, None, {"num_classes": 8})


@pytest.mark.parametrize(("origin", "name"), [key for key, rule in RULES.items() if rule.widths])
def test_another_width_is_refused(origin, name):
    rule = RULES[origin, name]
    _, tensors = tensors_of(rule, name)
    with pytest.raises(InputError, match=r"--alpha is 2\.0, the tensors have the widths of"):
        engine.to_flax(rule, name, tensors, alpha=2.0)


@pytest.mark.parametrize(("origin", "name"), RULES, ids=str)
def test_another_network_is_refused_and_the_right_one_named(origin, name):
    _, tensors = tensors_of(RULES[origin, name], name)
    other = "mnasnet" if name == "inception_v4" else "inception_v4"
    with pytest.raises(InputError, match=f": --model {name}$"):
        recognise(other, "auto", Source(tensors, "0" * 64))
