"""Fine-tuning on class folders, as the flowers script of the MobileNet tutorials, and bad files."""

import json
import shutil
from pathlib import Path

import chex
import jax
import numpy as np
import pytest
from PIL import Image

from flaxmobile import (
    InputError,
    Metadata,
    Preprocessing,
    load_metadata,
    load_weights,
    registry,
    save_weights,
)
from flaxmobile.variables import abstract_variables
from tests.train.tiny import SPEC, Tiny
from train.__main__ import main
from train.flags import read_config
from train.output import check_output, data_changes, make_output
from train.setup import initial_state, prepare

FLOWERS = ("daisy", "dandelion", "rose", "sunflower", "tulip")
FLAGS = ["--model", "tiny", "--dataset", "folder:flowers", "--image-size", "32", "--workers", "0"]
FLAGS += ["--batch-size", "8", "--log-every", "1", "--learning-rate", "0.01"]


@pytest.fixture(autouse=True)
def flowers(monkeypatch, tmp_path):
    """Five classes that differ in colour, in the working directory."""
    monkeypatch.setitem(registry.SPECS, "tiny", SPEC)
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for split, count in {"train": 5, "val": 2}.items():
        for label, name in enumerate(FLOWERS):
            folder = tmp_path / "flowers" / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = rng.integers(0, 60, (40, 52, 3), np.uint8) + np.uint8(40 * label)
                Image.fromarray(pixels).save(folder / f"{number}.jpg")


@pytest.fixture
def pretrained():
    """Weights of 7 other classes, with statistics and preprocessing that are not the defaults."""
    options = {"num_classes": 7, "padding": "same"}
    rng = np.random.default_rng(1)
    variables = jax.tree.map(
        lambda leaf: rng.uniform(0.5, 1, leaf.shape).astype(leaf.dtype),
        abstract_variables(Tiny(**options)),
    )
    preprocessing = Preprocessing(64, 72, (0.1, 0.2, 0.3), (0.4, 0.5, 0.6), "bicubic")
    save_weights("pretrained", "tiny", options, variables, Metadata(preprocessing))
    return variables


def test_a_frozen_backbone_stays_to_the_bit_and_the_classifier_is_replaced(pretrained):
    flags = ["--init-from", "pretrained", "--recipe", "finetune", "--epochs", "2"]
    assert main([*FLAGS, *flags, "--output", "run"]) == 0
    model, tuned = load_weights("run/best")
    assert model.num_classes == 5
    assert model.padding == "same"
    classifier = tuned["params"].pop("classifier")
    pretrained["params"].pop("classifier")
    chex.assert_trees_all_equal(dict(tuned), pretrained)
    assert classifier["kernel"].shape == (8, 5)
    assert np.abs(classifier["bias"]).max() > 0  # it begins at 0


def test_eval_only_of_a_fine_tuned_run_evaluates_its_own_weights(pretrained, capsys):
    flags = ["--init-from", "pretrained", "--recipe", "finetune", "--epochs", "1"]
    assert main([*FLAGS, *flags, "--output", "run"]) == 0
    trained = capsys.readouterr().out.splitlines()[-1]
    assert trained.startswith("validation (10 images): ")
    assert main(["--eval-only", "--output", "run"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == trained


def test_a_run_goes_on_without_the_weights_that_it_began_with(pretrained):
    flags = ["--init-from", "pretrained", "--options", "norm_momentum=0.5"]
    assert main([*FLAGS, *flags, "--steps", "2", "--output", "run"]) == 0
    shutil.rmtree("pretrained")
    assert main(["--resume", "--output", "run", "--steps", "4"]) == 0
    model, _ = load_weights("run/best")
    assert (model.padding, model.norm_momentum) == ("same", 0.5)
    expected = Preprocessing(32, 36, (0.1, 0.2, 0.3), (0.4, 0.5, 0.6), "bicubic")
    assert load_metadata("run/best").preprocessing == expected


def test_the_weights_give_the_network(pretrained):
    flags = ["--dataset", "folder:flowers", "--init-from", "pretrained"]
    assert read_config(flags).model == "tiny"
    with pytest.raises(InputError, match="holds tiny, not mobilenet_v2"):
        prepare(read_config([*flags, "--model", "v2"]))


def test_a_backbone_without_classifier_gets_one(pretrained):
    pretrained["params"].pop("classifier")
    save_weights("backbone", "tiny", {"num_classes": 0, "padding": "same"}, pretrained)
    flags = ["--init-from", "backbone", "--recipe", "finetune", "--epochs", "1"]
    assert main([*FLAGS, *flags, "--output", "run"]) == 0
    model, tuned = load_weights("run/best")
    assert model.num_classes == 5
    assert tuned["params"].pop("classifier")["kernel"].shape == (8, 5)
    chex.assert_trees_all_equal(dict(tuned), pretrained)


def test_without_freezing_everything_learns(pretrained):
    assert main([*FLAGS, "--init-from", "pretrained", "--epochs", "1", "--output", "run"]) == 0
    _, tuned = load_weights("run/best")
    moved = jax.tree.map(
        lambda a, b: np.abs(np.asarray(a) - b).max() > 0,
        tuned["batch_stats"],
        pretrained["batch_stats"],
    )
    assert all(jax.tree.leaves(moved))
    kernel = tuned["params"]["stem"]["conv"]["kernel"]
    assert not np.array_equal(kernel, pretrained["params"]["stem"]["conv"]["kernel"])


def test_the_weights_preprocessing_is_kept_at_the_new_size(pretrained):
    assert main([*FLAGS, "--init-from", "pretrained", "--steps", "1", "--output", "run"]) == 0
    expected = Preprocessing(32, 36, (0.1, 0.2, 0.3), (0.4, 0.5, 0.6), "bicubic")
    metadata = load_metadata("run/best")
    assert metadata.preprocessing == expected
    assert metadata.class_names == FLOWERS
    names = json.loads(Path("run/class_indices.json").read_text())
    assert names == {str(index): name for index, name in enumerate(FLOWERS)}


def test_a_classifier_of_the_same_classes_is_kept(pretrained):
    assert main([*FLAGS, "--init-from", "pretrained", "--steps", "3", "--output", "first"]) == 0
    first = load_weights("first/best")[1]["params"]["classifier"]
    flags = ["--init-from", "first/best", "--steps", "1", "--learning-rate", "1e-12"]
    assert main([*FLAGS, *flags, "--weight-decay", "0", "--output", "second"]) == 0
    second = load_weights("second/best")[1]["params"]["classifier"]
    chex.assert_trees_all_close(second, first, atol=1e-9)


def test_the_description_of_the_weights_is_read_once(pretrained, monkeypatch):
    read, original = [], Path.read_text
    monkeypatch.setattr(Path, "read_text", lambda path: read.append(path.name) or original(path))
    run = prepare(read_config([*FLAGS, "--init-from", "pretrained"]))
    initial_state(run)
    assert read.count("model.json") == 1


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--model", "v2"], "holds tiny, not mobilenet_v2; take --model tiny"),
        (["--alpha", "0.5"], "holds tiny with alpha 1.0, not 0.5"),
        (["--options", "padding=symmetric"], "holds tiny with padding same, not symmetric"),
        (["--eval-only"], "has 7 classes, folder:flowers has 5"),
    ],
)
def test_weights_of_another_network_are_refused(pretrained, flags, message, capsys):
    assert main([*FLAGS, "--init-from", "pretrained", *flags, "--output", "run"]) == 1
    assert message in capsys.readouterr().err
    assert not Path("run").exists()


def test_a_truncated_weights_file_is_named(pretrained, capsys):
    path = max(
        Path("pretrained/variables").rglob("*"), key=lambda p: p.is_file() and p.stat().st_size
    )
    path.write_bytes(path.read_bytes()[:-10])
    assert main([*FLAGS, "--init-from", "pretrained", "--output", "run"]) == 1
    assert path.name in capsys.readouterr().err
    assert not Path("run").exists()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--alpha", "0.5"], "--alpha is 0.5, but the run in run has 1.0"),
        (["--model", "v2"], "--model is mobilenet_v2, but the run in run has tiny"),
        (["--batch-size", "16"], "--batch-size is 16, but the run in run has 8"),
    ],
)
def test_resuming_with_contradicting_flags_is_refused(flags, message, capsys):
    assert main([*FLAGS, "--steps", "1", "--output", "run"]) == 0
    with pytest.raises(SystemExit) as stop:
        main(["--resume", "--output", "run", *flags])
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


def test_resuming_with_other_classes_is_refused(capsys):
    assert main([*FLAGS, "--steps", "1", "--output", "run"]) == 0
    for split in ("train", "val"):
        folder = Path("flowers") / split
        (folder / "tulip").rename(folder / "violet")
    assert main(["--resume", "--output", "run"]) == 1
    error = capsys.readouterr().err
    assert "tulip" in error
    assert "violet" in error


@pytest.mark.parametrize("workers", ["0", "2"])
def test_a_bad_file_stops_the_run_names_it_and_keeps_what_was_learnt(workers, capsys):
    bad = Path("flowers/train/rose/3.jpg")
    bad.write_bytes(bad.read_bytes()[:200])
    flags = ["--steps", "12", "--workers", workers, "--output", "run"]
    assert main([*FLAGS, *flags]) == 1
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert "rose/3.jpg" in error
    trained = [
        json.loads(line)["step"] for line in Path("run/metrics.jsonl").read_text().splitlines()
    ]
    saved = [int(path.name) for path in Path("run/checkpoints").iterdir()]
    assert max(saved, default=0) == max(trained, default=0)


def test_a_bad_validation_image_keeps_what_the_epoch_has_learnt(capsys):
    Path("flowers/val/rose/0.jpg").write_bytes(b"no image")
    assert main([*FLAGS, "--steps", "4", "--output", "run"]) == 1
    assert "rose/0.jpg" in capsys.readouterr().err
    assert [path.name for path in Path("run/checkpoints").iterdir()] == ["3"]
    assert main(["--resume", "--output", "run", "--on-bad-image", "skip"]) == 0
    assert "1 unreadable images skipped" in capsys.readouterr().out


def test_bad_files_can_be_skipped_and_are_counted(capsys):
    for name in ("train/rose/3.jpg", "val/tulip/0.jpg"):
        Path("flowers", name).write_bytes(b"not an image")
    flags = ["--on-bad-image", "skip", "--epochs", "2", "--output", "run"]
    assert main([*FLAGS, *flags]) == 0
    assert "2 unreadable images skipped" in capsys.readouterr().out


# ---- data between two parts of a run, and unusual data


def resume(*flags):
    """What a resumed run does before its first step: the changes of the data that it reports."""
    run = prepare(read_config([*FLAGS, "--output", "run", "--resume", *flags]))
    output, exists = check_output(run)
    if not exists:
        make_output(run, output)
    return data_changes(run, output)


def test_a_run_whose_data_moved_goes_on_with_the_same_images_alone():
    resume()
    Path("flowers").rename("moved")
    with pytest.raises(InputError, match="flowers is not a folder"):
        resume("--dataset", "folder:flowers")
    assert resume("--dataset", "folder:moved") == []
    Path("moved/train/rose/0.jpg").rename("moved/train/rose/9.jpg")
    with pytest.raises(
        InputError, match=r"moved holds other images than the run in run .*\(train: "
    ):
        resume("--dataset", "folder:moved")
    Path("moved").rename("flowers")
    shutil.copy("flowers/val/rose/0.jpg", "flowers/val/rose/new.jpg")
    assert resume() == [
        "train: 25 images before, 25 images now that are not the same",
        "validation: 10 images before, 11 images now",
    ]


def test_one_class_and_batches_larger_than_the_data_are_said():
    for split in ("train", "val"):
        for name in FLOWERS[1:]:
            shutil.rmtree(f"flowers/{split}/{name}")
    one, larger = prepare(read_config(FLAGS)).dataset.notes
    assert one == "one class, 'daisy': there is nothing to tell apart"
    assert larger.startswith("a batch of 8 is larger than the 5 training images")


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--val-split", "1"], "--val-split is 1.0; accepted: between 0 and 1"),
        (["--splits", "dev=x"], "--splits has 'dev=x'; accepted: train=NAME"),
        (["--label-columns", "a", "b"], "--label-columns needs --labels"),
        (["--labels", "a.csv", "--label-columns", "a"], "--label-columns takes two names"),
    ],
)
def test_settings_of_the_data_that_cannot_be_are_refused(flags, said):
    with pytest.raises(InputError, match=said):
        read_config([*FLAGS, *flags])
