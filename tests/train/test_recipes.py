"""Recipes: what they set, for which networks, and with another batch."""

import pytest

from flaxmobile import list_models
from flaxmobile.errors import InputError
from flaxmobile.registry import model_options
from train.config import Config
from train.flags import read_config
from train.optimizers import make_schedule
from train.recipe_tables import RECIPES
from train.recipes import get_recipe

PUBLISHED = [name for name, recipe in RECIPES.items() if recipe.networks]


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_is_a_whole_of_valid_settings(name):
    Config(**get_recipe(name), recipe=name, init_from="weights").check()
    assert set(RECIPES[name].networks) <= set(list_models())
    assert RECIPES[name].source


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_recipe_names_its_network(name):
    config = read_config(["--recipe", name, "--dataset", "imagenet2012"])
    assert config.model in RECIPES[name].networks
    assert config.learning_rate == RECIPES[name].settings["learning_rate"]
    assert RECIPES[name].result


def test_flags_are_over_the_recipe():
    config = read_config(["--recipe", "torchvision-v2", "--weight-decay", "1e-5", "--epochs", "10"])
    assert (config.weight_decay, config.epochs, config.learning_rate) == (1e-5, 10, 0.045)


@pytest.mark.parametrize("task", ["segment", "detect"])
@pytest.mark.parametrize("name", list_models())
def test_the_embedded_scenes_narrow_the_networks_that_have_a_width(name, task):
    config = read_config(["--task", task, "--model", name])
    assert config.alpha == (0.5 if "alpha" in model_options(name) else None)


def test_a_recipe_of_another_network_is_refused():
    with pytest.raises(
        InputError, match=r"for mobilenet_v2, not mobilenet_v1; for that: garden-v1"
    ):
        read_config(["--recipe", "torchvision-v2", "--model", "v1"])


def test_rate_and_steps_follow_the_batch():
    config = read_config(["--recipe", "megvii-shufflenet-v2", "--batch-size", "256"])
    assert (config.learning_rate, config.steps) == (0.125, 1_200_000)
    given = ["--learning-rate", "0.2", "--steps", "7"]
    config = read_config(["--recipe", "megvii-shufflenet-v2", "--batch-size", "256", *given])
    assert (config.learning_rate, config.steps) == (0.2, 7)


def test_drops_of_v3():
    """torch's StepLR of torchvision's recipe: 0.973 every 2 epochs, staircase."""
    config = Config(**get_recipe("torchvision-v3-large"))
    schedule = make_schedule(config, steps_per_epoch=5, total_steps=3000)
    rates = [float(schedule(step)) for step in (0, 9, 10, 19, 20, 2999)]
    expected = [0.064, 0.064, 0.064 * 0.973, 0.064 * 0.973, 0.064 * 0.973**2, 0.064 * 0.973**299]
    assert rates == pytest.approx(expected, rel=1e-5)
