"""Training recipes: settings of published results, of fine-tuning and of the embedded digits."""

from typing import Any

from flaxmobile.errors import InputError, unknown
from train.recipe_tables import RECIPES


def recipe_for(dataset: str, task: str = "classify") -> str | None:
    """Return the recipe with the name of the data set, and of the task if another; or None."""
    name = dataset if task == "classify" else f"{task}-{dataset}"
    return name if name in RECIPES else None


def get_recipe(name: str) -> dict[str, Any]:
    """Return the settings of a recipe, with the network that it is for.

    Raises:
      InputError: no such recipe; suggests the nearest name.
    """
    if name not in RECIPES:
        raise unknown("recipe", name, RECIPES)
    recipe = RECIPES[name]
    network = {"model": recipe.networks[0]} if recipe.networks else {}
    return {**network, **recipe.settings}


def check_recipe(name: str, network: str) -> None:
    """Raise InputError for a recipe of another network."""
    networks = RECIPES[name].networks
    if networks and network not in networks:
        fitting = [other for other, recipe in RECIPES.items() if network in recipe.networks]
        raise InputError(
            f"--recipe {name} is for {' and '.join(networks)}, not {network}; for that: "
            f"{', '.join(fitting) or 'none, give the settings as flags'}"
        )


def scale_to_batch(name: str, settings: dict[str, Any]) -> dict[str, Any]:
    """Return the settings that follow from another batch than the recipe's.

    The learning rate grows with the batch (Goyal et al. 2017), a number of steps shrinks.

    Args:
      name: of the recipe.
      settings: batch_size, learning_rate and steps of the run.

    Returns:
      The rate and the steps, unless the user has changed them.
    """
    recipe = RECIPES[name].settings
    factor = settings["batch_size"] / recipe["batch_size"]
    scaled: dict[str, Any] = {}
    if settings["learning_rate"] == recipe["learning_rate"]:
        scaled["learning_rate"] = recipe["learning_rate"] * factor
    if "steps" in recipe and settings["steps"] == recipe["steps"]:
        scaled["steps"] = max(1, round(recipe["steps"] / factor))
    return scaled if factor != 1 else {}


def list_recipes() -> str:
    """Describe all recipes, a line each."""
    lines = []
    for name, recipe in RECIPES.items():
        result = f", top-1 {recipe.result}" if recipe.result else ""
        lines.append(f"• {name}: {recipe.source}{result}")
    return "\n".join(lines)
