"""`python -m train --task detect`, on a network that compiles in seconds."""

import json
from types import SimpleNamespace
from typing import ClassVar

import chex
import jax
import numpy as np
import pytest
from PIL import Image

from flaxmobile import InputError, load_metadata, load_weights, registry
from flaxmobile.cli import main as flaxmobile
from flaxmobile.layers import Block, Network, relu6
from flaxmobile.variables import abstract_variables
from train.__main__ import main
from train.description import describe
from train.flags import read_config
from train.setup import prepare

pytestmark = pytest.mark.xdist_group("detect")  # whose tests share a run

NAMES = ("__background__", "red", "blue")
FLAGS = ["--task", "detect", "--model", "ladder", "--dataset", "folder:shapes", "--workers", "0"]
FLAGS += ["--image-size", "64", "--batch-size", "8", "--log-every", "1", "--optimizer", "adam"]
FLAGS += ["--learning-rate", "0.01", "--box-augmentation", "none"]
STEPS = ["--steps", "60"]


class Ladder(Network):
    """Three convolutions, to strides of 8, 16 and 32."""

    alpha: float = 1.0

    dilates: ClassVar[bool] = False

    def blocks(self):
        return [Block("stem", stride=8), Block("block", stride=2), Block("last", stride=2)]

    def build(self, place, unit):
        kernel = 8 if place.name == "stem" else 3
        return unit(24, kernel, stride=place.geometry[0], activation=relu6, name=place.name)


SPEC = registry.Spec(Ladder, aliases=("la",), year=2026, params=0, macs=0, paper="none")


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    """Images of a red and a blue box on grey, in COCO's format; some without a box."""
    root = tmp_path_factory.mktemp("data") / "shapes"
    rng = np.random.default_rng(0)
    for split, count in (("train", 32), ("val", 8)):
        content = {"images": [], "annotations": []}
        content["categories"] = [{"id": 1, "name": "red"}, {"id": 2, "name": "blue"}]
        for number in range(count):
            image = rng.integers(90, 160, (64, 64, 3)).astype(np.uint8)
            file = {"id": number, "file_name": f"{number}.png", "width": 64, "height": 64}
            content["images"].append(file)
            for label, channel in ((1, 0), (2, 2)) if number % 8 else ():
                width, height = rng.integers(18, 31, 2).tolist()
                x, y = 32 * (label - 1) + int(rng.integers(3)), int(rng.integers(64 - height))
                image[y : y + height, x : x + width] = 20
                image[y : y + height, x : x + width, channel] = 240
                box = {"bbox": [x, y, width, height], "category_id": label, "image_id": number}
                content["annotations"].append(box | {"id": len(content["annotations"])})
            path = root / split / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(path)
        annotations = root / "annotations" / f"instances_{split}.json"
        annotations.parent.mkdir(exist_ok=True)
        annotations.write_text(json.dumps(content))
    return root


@pytest.fixture(autouse=True)
def ladder(monkeypatch, shapes):
    """The network `ladder`, and the data in the working directory."""
    monkeypatch.setitem(registry.SPECS, "ladder", SPEC)
    monkeypatch.chdir(shapes.parent)


@pytest.fixture(scope="module")
def trained(shapes):
    """A whole run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(registry.SPECS, "ladder", SPEC)
        patch.chdir(shapes.parent)
        assert main([*FLAGS, *STEPS, "--output", "run"]) == 0
    return shapes.parent / "run"


def lines(run, split):
    text = (run / "metrics.jsonl").read_text()
    return [line for line in map(json.loads, text.splitlines()) if line["split"] == split]


def test_a_run_learns_and_writes_what_it_found(trained):
    steps = lines(trained, "train")
    assert steps[0]["loss"] == pytest.approx(steps[0]["offset_loss"] + steps[0]["class_loss"])
    validated = lines(trained, "validation")
    assert set(validated[0]) == {"step", "epoch", "split", "map", "map50", "map75", "loss"}
    best = max(validated, key=lambda line: (line["map"], -line["loss"]))
    assert best["map"] > 0.25 > validated[0]["map"]
    assert best["map50"] > 0.65
    metadata = load_metadata(trained / "best")
    assert metadata.class_names == NAMES
    assert metadata.source["validation_map"] == best["map"]
    result = json.loads((trained / "test.json").read_text())
    assert result["map"] == pytest.approx(best["map"], abs=1e-6)
    classes = result["classes"]
    assert {name: each["objects"] for name, each in classes.items()} == {"red": 7, "blue": 7}
    means = [each["average_precision"] for each in classes.values()]
    assert np.mean(means) == pytest.approx(result["map"])
    with Image.open(trained / "mistakes.png") as picture:
        assert picture.width > 1000


def test_evaluation_repeats_the_result(trained, capsys):
    assert main(["--eval-only", "--output", str(trained)]) == 0
    (best,) = lines(trained, "best")
    assert f"validation (8 images): map {best['map']:.4f}" in capsys.readouterr().out


def test_predict_shows_the_boxes_by_name(trained, capsys):
    command = ["predict", "--weights", str(trained / "best"), "--json", "--threshold", "0.2"]
    assert flaxmobile([*command, "shapes/val/1.png"]) == 0
    (answer,) = json.loads(capsys.readouterr().out)
    assert {each["class"] for each in answer["predictions"]} == {"red", "blue"}


def test_a_run_that_goes_on_is_the_same_to_the_bit(trained, tmp_path):
    run = tmp_path / "run"
    flags = [*FLAGS, "--schedule", "constant", "--box-augmentation", "ssd"]
    assert main([*flags, "--steps", "2", "--output", str(run)]) == 0
    assert main(["--resume", "--output", str(run), "--steps", "4"]) == 0
    assert main([*flags, "--steps", "4", "--output", str(tmp_path / "whole")]) == 0
    losses = [[line["loss"] for line in lines(each, "train")] for each in (run, tmp_path / "whole")]
    assert losses[0] == losses[1]


def test_a_detector_begins_with_a_classifiers_backbone(tmp_path):
    classes = ["--model", "ladder", "--dataset", "digits", "--image-size", "64"]
    run = tmp_path / "classifier"
    assert main([*classes, "--batch-size", "8", "--steps", "1", "--output", str(run)]) == 0
    given = ["--init-from", str(run / "best"), "--freeze-backbone", "--learning-rate", "1e-12"]
    assert main([*FLAGS, *given, "--steps", "1", "--output", str(tmp_path / "next")]) == 0
    _, before = load_weights(run / "best")
    before = {name: dict(groups) for name, groups in before.items()}
    before["params"].pop("classifier")
    model, variables = load_weights(tmp_path / "next" / "best")
    chex.assert_trees_all_equal({name: variables[name]["backbone"] for name in variables}, before)
    assert model.num_classes == 3


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--head", "lraspp"], "unknown --head 'lraspp'; accepted: ssdlite"),
        (["--mixup", "0.2"], "--mixup does not apply to --task detect: leave it out"),
        (["--best-by", "miou"], "--best-by is miou; accepted for --task detect: map, loss"),
        (["--train-size", "96"], "--train-size does not apply to --task detect"),
    ],
)
def test_settings_that_do_not_fit_are_refused(flags, said):
    with pytest.raises(InputError, match=said) as error:
        read_config([*FLAGS, *flags])
    assert "\n" not in str(error.value)


def test_no_flag_is_needed():
    config = read_config(["--task", "detect"])
    assert (config.dataset, config.head, config.best_by) == ("scenes", "ssdlite", "map")
    assert config.recipe == "detect-scenes"


def write_faces(root):
    """Two images in WIDER FACE's layout, with a face each."""
    for split in ("train", "val"):
        image = root / f"WIDER_{split}" / "images" / "a.png"
        image.parent.mkdir(parents=True)
        Image.new("RGB", (40, 60)).save(image)
        listing = root / "wider_face_split" / f"wider_face_{split}_bbx_gt.txt"
        listing.parent.mkdir(exist_ok=True)
        listing.write_text("a.png\n1\n8 6 20 30 0 0 0 0 0 0\n")


def test_blazeface_needs_no_head_to_learn_faces(tmp_path):
    write_faces(tmp_path)
    flags = ["--task", "detect", "--model", "blazeface", "--batch-size", "1"]
    config = read_config([*flags, "--dataset", f"folder:{tmp_path}"])
    run = prepare(config, jax.devices()[:1])
    assert (run.config.head, run.options["detector"]) == (None, True)
    said = describe(run, "runs/faces", SimpleNamespace(params={}), 0)
    assert "1 training, 1 validation images of 1 class and the background\n" in said
    assert run.metadata.preprocessing.height_and_width == (128, 128)
    loss, model = run.objective.loss, run.objective.model
    example = run.train_reader(run.dataset.train[0], np.random.default_rng(0))
    labels = jax.tree.map(lambda each: np.asarray(each)[None], example.label)
    images = jax.ShapeDtypeStruct((1, 128, 128, 3), np.float32)
    outputs = jax.eval_shape(model.apply, abstract_variables(model), images)
    outputs = {name: np.zeros(each.shape, each.dtype) for name, each in outputs.items()}
    assert loss.measure(outputs, labels)["class_loss"] == pytest.approx(4 * np.log(2), rel=1e-5)


def test_blazeface_finds_one_class():
    flags = ["--task", "detect", "--model", "blazeface", "--dataset", "folder:shapes"]
    with pytest.raises(InputError, match="finds objects of one class, folder:shapes has 2; take"):
        prepare(read_config(flags), jax.devices()[:1])


def test_a_detector_whose_matching_is_not_published_is_refused():
    options = ["--options", "variant=mediapipe_full_range", "output_stride=32"]
    flags = ["--task", "detect", "--model", "blazeface", "--dataset", "folder:shapes", *options]
    with pytest.raises(InputError, match=r"accepted: paper, mediapipe, mediapipe_back$"):
        prepare(read_config(flags), jax.devices()[:1])


def test_data_that_are_not_boxed_are_refused(capsys):
    assert main([*FLAGS, "--dataset", "digits"]) == 1
    assert (
        "accepted for this --task: scenes, folder:PATH, or one of TFDS" in capsys.readouterr().err
    )
