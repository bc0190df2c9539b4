"""Published training settings by name, with their source."""

import dataclasses
from typing import Any


@dataclasses.dataclass(frozen=True)
class Recipe:
    """Settings of a training run.

    Attributes:
      settings: fields of `train.config.Config`.
      source: who published them.
      networks: what they are for, the default first; empty for any network.
      result: published top-1 accuracy on ImageNet in percent, by those who trained so.
    """

    settings: dict[str, Any]
    source: str
    networks: tuple[str, ...] = ()
    result: str = ""


_SGD: dict[str, Any] = {"optimizer": "sgd", "momentum": 0.9}


def _decaying(rate: float, factor: float, epochs: float) -> dict[str, Any]:
    return {
        "learning_rate": rate,
        "schedule": "exponential",
        "decay_rate": factor,
        "decay_epochs": epochs,
    }


_TORCHVISION_V3 = {
    **_decaying(0.064, 0.973, 2.0),
    "batch_size": 1024,
    "epochs": 600,
    "optimizer": "rmsprop-torch",
    "epsilon": 0.0316,
    "weight_decay": 1e-5,
    "auto_augment": "autoaugment",
    "random_erasing": 0.2,
}

# torchvision updates the average every 32 steps with the decay 1 - (1 - 0.99998) · 1024 · 32 / 600
# = 0.99891, and here every step does with its 32nd root, 0.999966.
_TORCHVISION_NEW = {
    **_SGD,
    "batch_size": 1024,
    "epochs": 600,
    "learning_rate": 0.5,
    "schedule": "cosine",
    "warmup_epochs": 5.0,
    "weight_decay": 2e-5,
    "label_smoothing": 0.1,
    "mixup": 0.2,
    "cutmix": 1.0,
    "auto_augment": "trivial",
    "random_erasing": 0.1,
    "train_size": 176,
    "resize_size": 232,
    "repeated_augmentation": 4,
    "ema_decay": 0.999966,
}

_MEGVII = {
    **_SGD,
    "batch_size": 1024,
    "steps": 300_000,
    "learning_rate": 0.5,
    "schedule": "linear",
    "weight_decay": 4e-5,
    "label_smoothing": 0.1,
}

_GARDEN_SGD = {
    **_SGD,
    "batch_size": 4096,
    "epochs": 500,
    "warmup_epochs": 5.0,  # 1560 steps
    "weight_decay": 1e-5,
    "label_smoothing": 0.1,
    "dropout_rate": 0.2,
    "dtype": "bfloat16",
}

_SCENES = {
    "alpha": 0.5,
    "batch_size": 16,
    "epochs": 12,
    "optimizer": "adamw",
    "learning_rate": 5e-3,
    "weight_decay": 0.02,
    "schedule": "cosine",
    "warmup_epochs": 1.0,
    "flip": False,
}

RECIPES = {
    "digits": Recipe(
        {
            "batch_size": 64,
            "epochs": 16,
            "optimizer": "adamw",
            "learning_rate": 2e-3,
            "weight_decay": 0.02,
            "schedule": "cosine",
            "warmup_epochs": 1.0,
        },
        "the embedded digits, on two cores in under 4 minutes",
    ),
    "segment-scenes": Recipe(
        {**_SCENES, "scale_range": (0.75, 1.5)},
        "the embedded scenes, for --task segment",
    ),
    "detect-scenes": Recipe(
        {**_SCENES, "box_augmentation": "none"},
        "the embedded scenes, for --task detect",
    ),
    "finetune": Recipe(
        {
            "batch_size": 16,
            "epochs": 100,
            "optimizer": "adam",
            "learning_rate": 1e-4,
            "weight_decay": 0.0,
            "schedule": "constant",
            "freeze_backbone": True,
        },
        "the flowers script of the MobileNet V3 tutorials: 5 classes, a frozen backbone",
    ),
    "torchvision-v2": Recipe(
        {
            **_SGD,
            **_decaying(0.045, 0.98, 1.0),
            "batch_size": 256,
            "epochs": 300,
            "weight_decay": 4e-5,
        },
        "torchvision, references/classification (IMAGENET1K_V1)",
        ("mobilenet_v2",),
        "71.878",
    ),
    "torchvision-v3-large": Recipe(
        _TORCHVISION_V3,
        "torchvision, references/classification (IMAGENET1K_V1)",
        ("mobilenet_v3_large",),
        "74.042",
    ),
    "torchvision-v3-small": Recipe(
        _TORCHVISION_V3,
        "torchvision, references/classification (IMAGENET1K_V1)",
        ("mobilenet_v3_small",),
        "67.668",
    ),
    "torchvision-imagenet1k-v2": Recipe(
        _TORCHVISION_NEW,
        "torchvision, issue 3995 and pull request 5560 (IMAGENET1K_V2)",
        ("mobilenet_v2", "mobilenet_v3_large"),
        "mobilenet_v2: 72.154, mobilenet_v3_large: 75.274",
    ),
    "torchvision-shufflenet-v2": Recipe(
        _TORCHVISION_NEW,
        "torchvision, pull request 5906",
        ("shufflenet_v2",),
        "alpha 1.5: 72.996, 2.0: 76.230",
    ),
    "torchvision-mnasnet": Recipe(
        _TORCHVISION_NEW,
        "torchvision, pull request 6019",
        ("mnasnet",),
        "alpha 0.75: 71.180, 1.3: 76.506",
    ),
    "mnasnet-trainer": Recipe(
        {
            **_SGD,
            "nesterov": True,
            "batch_size": 740,
            "epochs": 330,
            "learning_rate": 0.5,
            "schedule": "cosine",
            "warmup_epochs": 5.0,
            "weight_decay": 1e-5,
        },
        "github.com/1e100/mnasnet_trainer, which torchvision's weights are from",
        ("mnasnet",),
        "alpha 1.0: 73.456",
    ),
    "garden-v1": Recipe(
        {**_GARDEN_SGD, **_decaying(0.256, 0.94, 2.5)},
        "TensorFlow model garden, MobileNet V1",
        ("mobilenet_v1",),
        "72.33",
    ),
    "garden-v2": Recipe(
        {**_GARDEN_SGD, **_decaying(0.256, 0.96, 2.5)},
        "TensorFlow model garden, MobileNet V2",
        ("mobilenet_v2",),
        "72.72",
    ),
    "garden-v3-large": Recipe(
        {
            "batch_size": 4096,
            "epochs": 700,
            "optimizer": "adamw",
            "learning_rate": 0.004,
            "schedule": "cosine",
            "warmup_epochs": 5.0,
            "weight_decay": 0.1,
            "label_smoothing": 0.1,
            "auto_augment": "v0",
            "dtype": "bfloat16",
        },
        "TensorFlow model garden, MobileNet V3-large",
        ("mobilenet_v3_large",),
        "75.7",
    ),
    "garden-v3-small": Recipe(
        {
            **_decaying(0.01, 0.99, 3.0),
            "batch_size": 4096,
            "epochs": 1000,
            "optimizer": "rmsprop",
            "epsilon": 0.002,
            "warmup_epochs": 5.0,
            "weight_decay": 1e-5,
            "label_smoothing": 0.1,
            "ema_decay": 0.9999,
            "options": ("norm_momentum=0.997",),
            "dtype": "bfloat16",
        },
        "TensorFlow model garden, MobileNet V3-small",
        ("mobilenet_v3_small",),
        "67.5",
    ),
    "slim-v1": Recipe(
        {
            **_SGD,
            **_decaying(0.045, 0.94, 2.5),
            "batch_size": 64,
            "epochs": 100,
            "weight_decay": 4e-5,
        },
        "TF-slim, scripts of the MobileNet V1 paper",
        ("mobilenet_v1",),
        "70.9",
    ),
    "slim-v2": Recipe(
        {
            **_SGD,
            **_decaying(0.045, 0.98, 2.5),
            "batch_size": 96,
            "epochs": 300,
            "weight_decay": 4e-5,
            "label_smoothing": 0.1,
            "ema_decay": 0.9999,
        },
        "TF-slim, MobileNet V2",
        ("mobilenet_v2",),
        "72.0",
    ),
    "paper-inception-v3": Recipe(
        {
            **_decaying(0.045, 0.94, 2.0),
            "batch_size": 1600,
            "epochs": 100,
            "optimizer": "rmsprop",
            "epsilon": 1.0,
            "clip": 2.0,
            "weight_decay": 4e-5,
            "label_smoothing": 0.1,
            "ema_decay": 0.9999,
        },
        "Szegedy et al. 2016, section 8: 50 replicas of 32 images",
        ("inception_v3",),
        "78.8",
    ),
    "megvii-shufflenet-v1": Recipe(
        _MEGVII,
        "the authors, megvii-model/ShuffleNet-Series",
        ("shufflenet_v1",),
        "alpha 1.0, groups 3: 67.8",
    ),
    "megvii-shufflenet-v2": Recipe(
        _MEGVII,
        "the authors, megvii-model/ShuffleNet-Series",
        ("shufflenet_v2",),
        "alpha 1.0: 69.4",
    ),
    "paper-mobilenext": Recipe(
        {
            **_SGD,
            "batch_size": 256,
            "epochs": 200,
            "learning_rate": 0.05,
            "schedule": "cosine",
            "weight_decay": 4e-5,
        },
        "Zhou et al. 2020, section 4.1",
        ("mobilenext",),
        "74.02",
    ),
    "timm-v3-large": Recipe(
        {
            **_decaying(0.064, 0.973, 2.4),
            "batch_size": 1024,
            "epochs": 600,
            "optimizer": "rmsprop",
            "epsilon": 0.001,
            "warmup_epochs": 3.0,
            "weight_decay": 1e-5,
            "dropout_rate": 0.2,
            "drop_path_rate": 0.2,
            "auto_augment": "randaugment",
            "random_erasing": 0.2,
            "ema_decay": 0.9999,
        },
        "timm, training examples; its noise of the rate left out",
        ("mobilenet_v3_large",),
        "75.766",
    ),
}
