"""What `python -m train --model NAME` makes of its settings, for every network."""

import json
from pathlib import Path
from types import SimpleNamespace

import jax
import pytest

import flaxmobile
from flaxmobile.registry import get_spec
from train.config import Config
from train.description import describe
from train.flags import read_config
from train.setup import prepare

MODELS = flaxmobile.list_models()
DIGITS = 64
LARGER = [name for name in MODELS if get_spec(name).network.min_image_size > DIGITS]


def prepared(name, *flags):
    config = read_config(["--model", name, "--steps", "2", "--batch-size", "4", *flags])
    return prepare(config, jax.devices()[:1])


def described(run):
    return describe(run, Path("run"), SimpleNamespace(params={}), 0)


def test_digits_are_smaller_than_what_some_networks_take():
    assert LARGER == ["inception_v3", "inception_v4", "inception_resnet_v2", "xception"]


@pytest.mark.parametrize("name", MODELS)
def test_every_network_trains_on_digits_with_no_other_flag(name):
    """At the digits' size, or at the least that the network takes; the first line says so."""
    run = prepared(name)
    model, preprocessing = run.objective.model, run.preprocessing
    least = model.min_image_size
    size = max(DIGITS, least)
    assert run.config.image_size == preprocessing.image_size == preprocessing.resize_size == size
    assert model.num_classes == 10
    images = jax.ShapeDtypeStruct((1, size, size, 3), "float32")
    jax.eval_shape(model.check_images, images)  # raises where they are too small
    raised = f"at {size}×{size} (raised from 64: {name} takes no less): "
    assert (raised in described(run)) == (name in LARGER)


@pytest.mark.parametrize("name", LARGER)
def test_an_image_size_that_is_given_is_not_raised(name, capsys):
    least = get_spec(name).network.min_image_size
    with pytest.raises(
        flaxmobile.InputError, match=f"--image-size is {least - 1}; {name} needs {least} or more"
    ):
        prepared(name, "--image-size", str(least - 1))
    larger = prepared(name, "--image-size", str(least + 1))
    assert larger.preprocessing.image_size == least + 1
    assert "raised" not in described(larger)


def test_a_size_that_is_large_enough_is_kept():
    assert "on digits at 64×64: " in described(prepared("v2"))


@pytest.mark.parametrize("flags", [[], ["--remat"]])
def test_blocks_are_recomputed_when_asked(flags):
    assert prepared("v2", *flags).objective.model.remat == bool(flags)


@pytest.mark.parametrize(
    ("flags", "alpha"),
    [([], 1.0), (["--alpha", "0.35"], 0.35), (["--options", "alpha=0.35"], 0.35)],
)
def test_the_width_is_kept_in_the_settings_wherever_it_was_given(flags, alpha):
    run = prepared("v2", *flags)
    assert run.objective.model.alpha == run.options["alpha"] == alpha
    again = Config.from_json(json.loads(json.dumps(run.config.to_json())))
    assert again.network_options["alpha"] == alpha


def test_training_images_may_have_a_size_of_their_own():
    run = prepared("v2", "--train-size", "48")
    assert run.preprocessing.image_size == run.config.image_size == 64
    assert run.train_preprocessing.image_size == 48
    assert "on digits at 64×64, trained at 48×48: " in described(run)
    assert prepared("v2").train_preprocessing.image_size == 64


def test_balanced_weights_are_those_of_the_training_images():
    weights = prepared("v2", "--class-weights", "balanced").objective.loss.class_weights
    assert len(weights) == 10
    assert 0.95 < min(weights) < max(weights) < 1.05  # the digits are as many of each
    assert prepared("v2").objective.loss.class_weights is None


def test_evaluation_resizes_as_the_recipe_says(capsys):
    data = ["--dataset", "sizes:40x5", "--plan", "v5e:2x2"]
    assert prepared("v2", *data).preprocessing.resize_size is None
    run = prepared("v2", *data, "--recipe", "torchvision-imagenet1k-v2")
    assert (run.preprocessing.image_size, run.preprocessing.resize_size) == (224, 232)
    assert run.train_preprocessing.image_size == 176
    with pytest.raises(flaxmobile.InputError, match="--resize-size is 200; accepted: 224"):
        prepared("v2", *data, "--resize-size", "200")
