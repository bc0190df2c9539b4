"""`python -m train --task segment`, on a network that compiles in seconds."""

import json
from typing import ClassVar

import chex
import jax
import numpy as np
import pytest
from PIL import Image
from sklearn.utils.class_weight import compute_class_weight

from flaxmobile import InputError, load_metadata, load_weights, registry, save_weights
from flaxmobile.cli import main as flaxmobile
from flaxmobile.layers import Block, Network, relu6
from flaxmobile.variables import abstract_variables
from tests.train import tiny
from train.__main__ import main
from train.flags import read_config
from train.setup import prepare

pytestmark = pytest.mark.xdist_group("segment")  # whose tests share a run

NAMES = ("ground", "red", "blue")
FLAGS = ["--task", "segment", "--model", "dense", "--dataset", "folder:shapes", "--workers", "0"]
FLAGS += ["--options", "channels=16", "--image-size", "64", "--batch-size", "8", "--no-flip"]
FLAGS += ["--log-every", "1", "--optimizer", "adam", "--learning-rate", "0.02"]
FLAGS += ["--schedule", "constant", "--scale-range", "1", "1.5"]
STEPS = 30


class Dense(Network):
    """Three convolutions, to a stride of 8."""

    alpha: float = 1.0
    output_stride: int = 8

    dilates: ClassVar[bool] = False

    def blocks(self):
        return [Block("stem", stride=4), Block("block"), Block("last", stride=2)]

    def build(self, place, unit):
        return unit(16, 3, stride=place.geometry[0], activation=relu6, name=place.name)


SPEC = registry.Spec(Dense, aliases=("dn",), year=2026, params=0, macs=0, paper="none")


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    """Images of a red and a blue box on grey, with masks; two pixel rows have no class."""
    root = tmp_path_factory.mktemp("data") / "shapes"
    rng = np.random.default_rng(0)
    for split, count in (("train", 80), ("val", 6)):
        for number in range(count):
            image = rng.integers(90, 160, (72, 72, 3)).astype(np.uint8)
            mask = np.zeros((72, 72), np.uint8)
            for label, channel in ((1, 0), (2, 2)):
                y, x = int(rng.integers(40)), 36 * (label - 1) + int(rng.integers(6))
                image[y : y + 28, x : x + 28] = rng.integers(0, 60, 3)
                image[y : y + 28, x : x + 28, channel] = 240
                mask[y : y + 28, x : x + 28] = label
            mask[-2:] = 255
            for kind, pixels in (("images", image), ("masks", mask)):
                path = root / split / kind / f"{number}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels).save(path)
    (root / "classes.txt").write_text("\n".join(NAMES))
    return root


@pytest.fixture(autouse=True)
def dense(monkeypatch, shapes):
    """The network `dense`, and the data in the working directory."""
    monkeypatch.setitem(registry.SPECS, "dense", SPEC)
    monkeypatch.chdir(shapes.parent)


@pytest.fixture(scope="module")
def trained(shapes):
    """A whole run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(registry.SPECS, "dense", SPEC)
        patch.chdir(shapes.parent)
        assert main([*FLAGS, "--steps", str(STEPS), "--output", "run"]) == 0
    return shapes.parent / "run"


def lines(run, split):
    text = (run / "metrics.jsonl").read_text()
    return [line for line in map(json.loads, text.splitlines()) if line["split"] == split]


def test_a_run_learns_and_writes_what_it_found(trained):
    validated = lines(trained, "validation")
    assert set(validated[0]) == {"step", "epoch", "split", "miou", "accuracy", "loss"}
    best = max(validated, key=lambda line: (line["miou"], -line["loss"]))
    assert best["miou"] > 0.8  # all ground has 0.23
    metadata = load_metadata(trained / "best")
    assert metadata.class_names == NAMES
    assert metadata.source["step"] == best["step"]
    assert metadata.source["validation_miou"] == best["miou"]
    assert (metadata.preprocessing.image_size, metadata.preprocessing.resize_size) == (64, 69)
    result = json.loads((trained / "test.json").read_text())
    assert result["miou"] == best["miou"]
    assert list(result["classes"]) == list(NAMES)
    unions = [each["iou"] for each in result["classes"].values()]
    assert np.mean(unions) == pytest.approx(best["miou"])
    for picture in ("confusion.png", "mistakes.png", "curves.png"):
        assert (trained / picture).read_bytes().startswith(b"\x89PNG")


def test_evaluation_repeats_the_result(trained, capsys):
    assert main(["--eval-only", "--output", str(trained)]) == 0
    (best,) = lines(trained, "best")
    assert f"validation (6 images): miou {best['miou']:.4f}" in capsys.readouterr().out


def test_a_run_that_goes_on_is_the_same_to_the_bit(trained, tmp_path):
    run = tmp_path / "run"
    assert main([*FLAGS, "--steps", "3", "--output", str(run)]) == 0
    assert main(["--resume", "--output", str(run), "--steps", "5"]) == 0
    whole, parts = ([line["loss"] for line in lines(each, "train")] for each in (trained, run))
    assert parts == whole[:5]


def test_predict_shows_the_classes_by_name(trained, capsys):
    image = "shapes/val/images/0.png"
    command = ["predict", "--weights", str(trained / "best"), "--json", image]
    assert flaxmobile(command) == 0
    (answer,) = json.loads(capsys.readouterr().out)
    shares = {each["class"]: each["share"] for each in answer["predictions"]}
    assert set(shares) == set(NAMES)
    mask = np.asarray(Image.open("shapes/val/masks/0.png"))
    for label in (1, 2):
        assert shares[NAMES[label]] == pytest.approx((mask == label).mean(), abs=0.06)


def begin(tmp_path, *flags):
    """A step that changes nothing, and the variables after it."""
    given = ["--steps", "1", "--learning-rate", "1e-12", "--output", str(tmp_path / "next")]
    assert main([*FLAGS, *flags, *given]) == 0
    return load_weights(tmp_path / "next" / "best")


def test_a_segmenter_begins_with_a_classifiers_backbone(tmp_path):
    options, rng = {"num_classes": 7}, np.random.default_rng(1)
    before = jax.tree.map(
        lambda leaf: rng.uniform(0.5, 1, leaf.shape).astype(leaf.dtype),
        abstract_variables(Dense(**options)),
    )
    weights = tmp_path / "classifier"
    save_weights(weights, "dense", options, before)
    model, variables = begin(tmp_path, "--init-from", str(weights), "--freeze-backbone")
    before["params"].pop("classifier")
    backbone = {name: variables[name]["backbone"] for name in variables}
    chex.assert_trees_all_equal(backbone, before)
    assert model.num_classes == 3


def test_a_segmenter_begins_with_another_ones_weights(trained, tmp_path):
    _, before = load_weights(trained / "best")
    same = begin(tmp_path, "--init-from", str(trained / "best"))[1]["params"]
    chex.assert_trees_all_close(same, dict(before["params"]), atol=1e-9)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--head", "ssdlite"], "unknown --head 'ssdlite'; accepted: lraspp, deeplab_v3"),
        (["--task", "classify", "--head", "lraspp"], "--head lraspp does not apply to --task cl"),
        (["--mixup", "0.2"], "--mixup does not apply to --task segment: leave it out"),
        (["--best-by", "top5"], "--best-by is top5; accepted for --task segment: miou, accuracy"),
        (["--scale-range", "2", "1"], r"--scale-range is \(2.0, 1.0\); accepted: two numbers"),
        (["--model", "tiny"], "Tiny has no feature map of stride 8, which the head needs; choose"),
    ],
)
def test_settings_that_do_not_fit_are_refused(flags, said, monkeypatch):
    monkeypatch.setitem(registry.SPECS, "tiny", tiny.SPEC)
    with pytest.raises(InputError, match=said) as error:
        read_config([*FLAGS, *flags])
    assert "\n" not in str(error.value)


def test_balanced_weights_are_of_the_pixels_of_the_training_masks(shapes):
    masks = [np.asarray(Image.open(path)) for path in (shapes / "train/masks").iterdir()]
    pixels = np.concatenate([mask[mask != 255] for mask in masks])
    expected = compute_class_weight("balanced", classes=np.arange(3), y=pixels)
    run = prepare(read_config([*FLAGS, "--class-weights", "balanced"]))
    np.testing.assert_allclose(run.objective.loss.class_weights, expected)
    assert prepare(read_config(FLAGS)).objective.loss.class_weights is None


def test_a_segmenters_weights_are_no_classifiers(trained):
    config = read_config(["--init-from", str(trained / "best")])
    with pytest.raises(InputError, match="holds lraspp: add --task segment, or take other weig"):
        prepare(config)


def test_no_flag_is_needed():
    config = read_config(["--task", "segment"])
    assert (config.dataset, config.head, config.best_by) == ("scenes", "lraspp", "miou")
    assert config.recipe == "segment-scenes"
