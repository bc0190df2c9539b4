"""Training recipes: settings of published results, and of the embedded digits."""

from typing import Any

from flaxmobile.errors import unknown

RECIPES: dict[str, dict[str, Any]] = {
    # the embedded digits, on two cores in under 4 minutes
    "digits": {
        "batch_size": 64,
        "epochs": 16,
        "optimizer": "adamw",
        "learning_rate": 2e-3,
        "weight_decay": 0.02,
        "schedule": "cosine",
        "warmup_epochs": 1.0,
    },
    # the flowers script of the MobileNet V3 tutorials: 5 classes, a frozen backbone
    "finetune": {
        "batch_size": 16,
        "epochs": 100,
        "optimizer": "adam",
        "learning_rate": 1e-4,
        "weight_decay": 0.0,
        "schedule": "constant",
        "freeze_backbone": True,
    },
    # torchvision references/classification, MobileNetV2 IMAGENET1K_V1
    "torchvision-v2": {
        "batch_size": 256,
        "epochs": 300,
        "optimizer": "sgd",
        "learning_rate": 0.045,
        "weight_decay": 4e-5,
        "schedule": "exponential",
        "decay_rate": 0.98,
        "decay_epochs": 1.0,
    },
    # TF-slim, scripts of the MobileNet V1 paper
    "slim-v1": {
        "batch_size": 64,
        "epochs": 100,
        "optimizer": "sgd",
        "learning_rate": 0.045,
        "weight_decay": 4e-5,
        "schedule": "exponential",
        "decay_rate": 0.94,
        "decay_epochs": 2.5,
    },
    # TF-slim, MobileNet V2: 72.0 percent
    "slim-v2": {
        "batch_size": 96,
        "epochs": 300,
        "optimizer": "sgd",
        "learning_rate": 0.045,
        "weight_decay": 4e-5,
        "schedule": "exponential",
        "decay_rate": 0.98,
        "decay_epochs": 2.5,
        "label_smoothing": 0.1,
        "ema_decay": 0.9999,
    },
    # TensorFlow model garden, MobileNet V2: 72.72 percent; warm-up of 1560 steps is 5 epochs
    "garden-v2": {
        "batch_size": 4096,
        "epochs": 500,
        "optimizer": "sgd",
        "learning_rate": 0.256,
        "weight_decay": 1e-5,
        "schedule": "exponential",
        "decay_rate": 0.96,
        "decay_epochs": 2.5,
        "warmup_epochs": 5.0,
        "label_smoothing": 0.1,
        "dtype": "bfloat16",
    },
}


def recipe_for(dataset: str) -> str | None:
    """Return the recipe with the name of the data set, if there is one."""
    return dataset if dataset in RECIPES else None


def get_recipe(name: str) -> dict[str, Any]:
    """Return the settings of a recipe.

    Raises:
      InputError: no such recipe; suggests the nearest name.
    """
    if name not in RECIPES:
        raise unknown("recipe", name, RECIPES)
    return RECIPES[name]
