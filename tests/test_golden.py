import json

import pytest

import flaxmobile
from tests.golden import GOLDEN, layout


@pytest.mark.parametrize("name", flaxmobile.list_models())
def test_parameter_paths_dtypes_and_shapes_are_the_golden_ones(name):
    path = GOLDEN / f"{name}.json"
    golden = json.loads(path.read_text()) if path.exists() else {}
    found = layout(name)
    changed = {
        parameter: f"{golden.get(parameter)} -> {found.get(parameter)}"
        for parameter in sorted({*golden, *found})
        if golden.get(parameter) != found.get(parameter)
    }
    assert not changed, (
        "parameters are public: users' weights depend on them. If this change is meant, run "
        f"`python -m tests.golden` and commit {path.name}. Golden -> found: {changed}"
    )


def test_every_golden_file_belongs_to_a_network():
    assert {path.stem for path in GOLDEN.glob("*.json")} == set(flaxmobile.list_models())
