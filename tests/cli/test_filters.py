import numpy as np
import pytest
from PIL import Image

from flaxmobile import cli, save_weights
from flaxmobile.cli.filters import find_filters
from tests.networks import random_variables, small_model

OPTIONS = {"alpha": 0.35, "num_classes": 5}


@pytest.fixture
def weights(tmp_path):
    """Weights in which two filters are turned off, one by its normalization."""
    variables = random_variables(small_model())
    block = variables["params"]["stage1_block1"]["depthwise"]
    block["norm"]["scale"][3] = 0
    block["conv"]["kernel"][..., 5] *= 1e-4
    save_weights(tmp_path / "w", "v2", OPTIONS, variables)
    return variables


def test_filters_are_the_folded_networks_and_dead_where_turned_off(weights):
    stem, first, *others = find_filters(small_model(), weights)
    assert (stem.path, stem.kernel.shape) == ("stem", (3, 3, 3, 16))
    assert (first.path, first.kernel.shape) == ("stage1_block1/depthwise", (3, 3, 1, 16))
    assert np.flatnonzero(first.dead).tolist() == [3, 5]
    params, stats = (weights[group]["stem"] for group in ("params", "batch_stats"))
    scale = params["norm"]["scale"] / np.sqrt(stats["norm"]["var"] + 1e-5)
    np.testing.assert_allclose(stem.kernel, params["conv"]["kernel"] * scale, rtol=1e-5)
    assert len(others) == 16
    assert not any(layer.dead.any() for layer in others)


def test_picture_and_table_have_every_layer(weights, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["plot-filters", "--weights", "w", "--output", "filters.png"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["layer", "filters", "size", "dead"]
    assert lines[3].split() == ["stage1_block1/depthwise", "16", "3×3", "2"]
    assert (len(lines), lines[-1].split()[-1]) == (18 + 4, "2")
    with Image.open("filters.png") as picture:
        assert picture.width == 1080
        assert picture.height > 18 * 100
    with pytest.raises(SystemExit):
        cli.main(["plot-filters", "--weights", "w", "--output", "filters.txt"])
