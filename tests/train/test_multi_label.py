"""Images with several labels: the losses of torch, the precisions of scikit-learn, and a run."""

import json
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.metrics import average_precision_score
from torch.nn import functional

from flaxmobile import InputError, load_metadata, registry
from tests.train.tiny import SPEC
from train.__main__ import main
from train.data import Selection, open_dataset
from train.flags import read_config
from train.losses import Loss, ranks
from train.tasks.verdicts import Verdicts

NAMES = ("blue", "green", "red")
FLAGS = ["--model", "tiny", "--dataset", "folder:flat", "--image-size", "32", "--workers", "0"]
FLAGS += ["--labels", "labels.csv", "--multi-label", "--batch-size", "16", "--steps", "2"]


def labels_of(number):
    """Bits of the number, at least one."""
    return [name for place, name in enumerate(NAMES) if (1 + number % 7) >> place & 1]


@pytest.fixture
def flat(tmp_path, monkeypatch):
    """21 images of mixed colours in the working directory."""
    monkeypatch.chdir(tmp_path)
    Path("flat").mkdir()
    for number in range(21):
        has = labels_of(number)
        colour = [200 * (name in has) for name in ("red", "green", "blue")]
        Image.new("RGB", (40, 40), tuple(colour)).save(f"flat/{number:02}.png")
    return tmp_path


def write_cells(separator):
    rows = [f"{n:02}.png\t{separator.join(labels_of(n))}\n" for n in range(21)]
    Path("labels.csv").write_text("file\tlabels\n" + "".join(rows))


def write_rows(_):
    rows = [f"{n:02}.png,{name}\n" for n in range(21) for name in labels_of(n)]
    Path("labels.csv").write_text("file,label\n" + "".join(rows))


def write_flags(_):
    rows = [
        f"{n:02}.png," + ",".join(str(int(name in labels_of(n))) for name in NAMES) + "\n"
        for n in range(21)
    ]
    Path("labels.csv").write_text("file," + ",".join(NAMES) + "\n" + "".join(rows))


@pytest.mark.parametrize(
    ("write", "separator"),
    [(write_cells, "|"), (write_cells, ";"), (write_cells, ", "), (write_cells, " "),
     (write_rows, None), (write_flags, None)],
)  # fmt: skip
def test_tables_give_several_labels(flat, write, separator):
    write(separator)
    selection = Selection(labels=("labels.csv",), multi_label=True)
    dataset = open_dataset("folder:flat", selection=selection)
    assert dataset.class_names == NAMES
    assert dataset.multi_label
    for source, count in ((dataset.train, 18), (dataset.validation, 3)):
        assert len(source) == count
        assert source.labels().shape == (count, 3)
        for index in range(count):
            record = source[index]
            expected = labels_of(int(Path(record.name).stem))
            assert [name for name, has in zip(NAMES, record.label, strict=True) if has] == expected
            assert tuple(source.labels()[index]) == record.label


def make_copy(source, target):
    target.write_bytes(source.read_bytes())


LINKS = {
    "symbolic": lambda source, target: target.symlink_to(source.absolute()),
    "hard": lambda source, target: target.hardlink_to(source),
    "copy": make_copy,
}


@pytest.fixture
def folders(flat):
    """A folder of each colour, with the images that have it, by links of three kinds."""
    for name in NAMES:
        Path("folders", name).mkdir(parents=True)
    for number in range(21):
        image = Path(f"flat/{number:02}.png")
        first, *others = (Path("folders", name, image.name) for name in labels_of(number))
        image.rename(first)
        for place, other in enumerate(others):
            [*LINKS.values()][(number + place) % 3](first, other)
    return flat


def test_an_image_in_several_class_folders_has_their_labels(folders):
    dataset = open_dataset("folder:folders", selection=Selection(multi_label=True))
    assert (dataset.class_names, dataset.multi_label) == (NAMES, True)
    seen = []
    for source in (dataset.train, dataset.validation):
        for index in range(len(source)):
            record = source[index]
            expected = labels_of(int(Path(record.name).stem))
            assert [name for name, has in zip(NAMES, record.label, strict=True) if has] == expected
            seen.append(Path(record.name).name)
    assert sorted(seen) == [f"{number:02}.png" for number in range(21)]  # each once, in one split
    assert not any("several class folders" in note for note in dataset.notes)


def test_other_images_of_the_same_name_stay_apart(flat):
    for name, colour in (("a", "red"), ("b", "blue")):
        for number in range(3):
            path = Path("apart", name, f"{number}.png")
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (40, 40), colour).save(path, pnginfo=None)
    dataset = open_dataset("folder:apart", selection=Selection(multi_label=True))
    assert len(dataset.train) + len(dataset.validation) == 6
    assert dataset.train.labels().sum(axis=1).tolist() == [1] * len(dataset.train)
    assert "no image lies in several class folders: each has one label" in dataset.notes


def test_a_run_on_folders_writes_a_network_whose_answer_is_a_sigmoid(folders, monkeypatch):
    monkeypatch.setitem(registry.SPECS, "tiny", SPEC)
    flags = ["--model", "tiny", "--dataset", "folder:folders", "--multi-label", "--steps", "2"]
    flags += ["--image-size", "32", "--workers", "0", "--batch-size", "16"]
    assert main([*flags, "--output", "run"]) == 0
    assert load_metadata("run/best").output == "sigmoid"


def test_the_loss_is_torchs_binary_cross_entropy():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(6, 4)).astype(np.float32)
    labels = rng.integers(0, 2, (6, 4))
    loss = Loss("bce", multi_label=True)
    targets = loss.targets(jnp.asarray(labels), 4, jnp.float32)
    expected = functional.binary_cross_entropy_with_logits(
        torch.tensor(logits), torch.tensor(labels).float()
    )
    np.testing.assert_allclose(loss(logits, targets), expected, rtol=1e-6)
    np.testing.assert_array_equal(loss.labels(targets), labels > 0)


def test_the_highest_label_counts():
    logits = jnp.asarray([[3.0, 2.0, 1.0, 0.0]] * 4)
    labels = jnp.asarray([[1, 0, 0, 1], [0, 1, 1, 0], [0, 0, 0, 1], [0, 0, 0, 0]])
    np.testing.assert_array_equal(ranks(logits, labels), [0, 1, 3, 4])


def test_precisions_are_those_of_scikit_learn():
    rng = np.random.default_rng(0)
    labels, scores = (
        rng.integers(0, 2, (50, 3)),
        rng.normal(size=(50, 3)).round(1),
    )  # some are equal
    labels[:, 1] = 0
    ones = np.zeros(50)
    verdicts = Verdicts(ones, labels, ones, ones, ones, classes=3, unreadable=0, scores=scores)
    precisions = verdicts.precisions()
    for place in (0, 2):
        expected = average_precision_score(labels[:, place], scores[:, place])
        assert precisions[place] == pytest.approx(expected)
    assert np.isnan(precisions[1])
    assert verdicts.means()["map"] == pytest.approx(np.nanmean(precisions))


def test_a_run_with_several_labels(flat, monkeypatch):
    monkeypatch.setitem(registry.SPECS, "tiny", SPEC)
    write_cells("|")
    assert main([*FLAGS, "--best-by", "map", "--mixup", "0.2", "--output", "run"]) == 0
    lines = [json.loads(line) for line in Path("run/metrics.jsonl").read_text().splitlines()]
    validation = [line for line in lines if line["split"] == "validation"]
    assert all(0 <= line["map"] <= 1 for line in validation)
    assert load_metadata("run/best").output == "sigmoid"
    result = json.loads(Path("run/test.json").read_text())
    assert set(result["classes"]["red"]) == {"average_precision", "images"}
    assert not Path("run/confusion.png").exists()


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--dataset", "digits", "--multi-label"], "--multi-label needs --labels FILE.csv, or"),
        (["--best-by", "map"], "--best-by map needs --multi-label"),
        (
            ["--multi-label", "--labels", "a.csv", "--class-weights", "balanced"],
            "--class-weights does not apply to --multi-label",
        ),
    ],
)
def test_flags_that_contradict_each_other_are_refused(flags, said):
    with pytest.raises(InputError, match=said):
        read_config(flags)
