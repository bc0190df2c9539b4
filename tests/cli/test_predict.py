import csv
import json

import jax
import numpy as np
import pytest
from PIL import Image

from flaxmobile import Metadata, Preprocessing, fold_batch_norm, save_weights
from flaxmobile.images import open_image
from flaxmobile.prediction import predict_images
from tests.networks import random_variables, small_model

OPTIONS = {"alpha": 0.35, "num_classes": 5}
NAMES = ("daisy", "dandelion", "rose", "sunflower", "tulip, any of many long-named ones")
PREPROCESSING = Preprocessing(32)


def _image(seed, height=40, width=50):
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (4, 5, 3), np.uint8)  # blocks, so that crops differ
    return Image.fromarray(pixels).resize((width, height), Image.Resampling.NEAREST)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Weights, and image files of several kinds."""
    folder = tmp_path_factory.mktemp("predict")
    (folder / "empty").mkdir()
    metadata = Metadata(PREPROCESSING, NAMES)
    for name, kept in {"w": metadata, "unnamed": Metadata(PREPROCESSING)}.items():
        save_weights(folder / name, "v2", OPTIONS, random_variables(small_model()), kept)
    exif = Image.Exif()
    exif[0x0112] = 6
    _image(0).save(folder / "rgb.png")
    _image(0).transpose(Image.Transpose.ROTATE_90).save(folder / "turned.png", exif=exif)
    _image(1).convert("L").save(folder / "grey.png")
    _image(2).quantize(16).save(folder / "palette.gif")
    _image(3).convert("CMYK").save(folder / "cmyk.jpg", quality=95)
    _image(4).convert("RGBA").save(folder / "rgba $x_1$.webp", lossless=True)
    wide = np.asarray(_image(5).convert("L")).astype(np.uint16) * 257
    Image.fromarray(wide).save(folder / "16 bit.png")
    (folder / "broken.jpg").write_bytes((folder / "cmyk.jpg").read_bytes()[:200])
    (folder / "text.png").write_text("not an image")
    return folder


IMAGES = (
    "rgb.png", "turned.png", "grey.png", "palette.gif", "cmyk.jpg", "rgba $x_1$.webp", "16 bit.png",
)  # fmt: skip


@pytest.fixture(scope="module")
def logits(folder):
    """Logits [image, class] of the unfolded network, all images at once."""
    model, variables = small_model(), random_variables(small_model())
    images = np.stack([PREPROCESSING(open_image(folder / name)) for name in IMAGES])
    return np.asarray(jax.jit(model.apply)(variables, images))


@pytest.fixture(scope="module")
def expected(logits):
    return np.asarray(jax.nn.softmax(logits))


@pytest.fixture
def predict(folder, monkeypatch, run_predict):
    """Run the command in the folder; give status, stdout, stderr."""
    monkeypatch.chdir(folder)
    return run_predict


@pytest.fixture
def known(monkeypatch):
    """Probabilities that are known beforehand instead of the network's."""
    probabilities = np.array([[0.25, 0.05, 0.5, 0.2, 0], [0, 0, 0, 0, 1]], np.float32)
    monkeypatch.setattr(
        "flaxmobile.cli.classes.predict_images", lambda m, v, paths, *_: probabilities[: len(paths)]
    )


def test_probabilities_are_the_networks_for_every_kind_of_image(predict, expected):
    status, out, err = predict(*IMAGES, "--json")
    assert (status, err) == (0, "")
    found = json.loads(out)
    assert [each["image"] for each in found] == list(IMAGES)
    for each, row in zip(found, expected, strict=True):
        order = [prediction["index"] for prediction in each["predictions"]]
        assert order == list(np.argsort(-row))
        values = [prediction["probability"] for prediction in each["predictions"]]
        np.testing.assert_allclose(values, row[order], atol=1e-5)
        assert [prediction["class"] for prediction in each["predictions"]] == [
            NAMES[i] for i in order
        ]
    np.testing.assert_allclose(expected[1], expected[0], atol=1e-5)  # turned upright
    assert len({tuple(np.round(row, 3)) for row in expected[1:]}) == len(IMAGES) - 1


def test_batches_hold_no_more_than_asked_and_folded_weights_are_used_as_they_are(
    folder, expected, monkeypatch
):
    model, variables = fold_batch_norm(small_model(), random_variables(small_model()))
    sizes, apply = [], type(model).apply

    def record(self, variables, images):
        sizes.append(images.shape[0])
        return apply(self, variables, images)

    monkeypatch.setattr(type(model), "apply", record)
    paths = [folder / name for name in IMAGES]
    found = np.stack([*predict_images(model, variables, paths, PREPROCESSING, batch_size=3)])
    assert found.shape == (7, 5)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert sizes == [3, 3]  # the CPU's form and the accelerators', each traced once


def test_json_is_exactly_the_promised_array(predict, known):
    status, out, err = predict("rgb.png", "--json", "--top", "2")
    assert (status, err) == (0, "")
    assert json.loads(out) == [
        {
            "image": "rgb.png",
            "predictions": [
                {"index": 2, "class": "rose", "probability": 0.5},
                {"index": 0, "class": "daisy", "probability": 0.25},
            ],
        }
    ]


def test_table_shows_the_best_classes_of_each_image(predict, known):
    status, out, err = predict("rgb.png", "grey.png", "--top", "2")
    assert (status, err) == (0, "")
    lines = out.splitlines()
    assert [line.split() for line in lines if "─" not in line] == [
        ["image", "class", "probability"],
        ["rgb.png", "rose", "50.00%"],
        ["daisy", "25.00%"],
        ["grey.png", *NAMES[4].split(), "100.00%"],
        ["daisy", "0.00%"],
    ]
    assert len({len(line) for line in lines}) == 1


@pytest.mark.parametrize(
    ("output", "kind", "form", "answer"),
    [
        ("sigmoid", "probability", "{:.2%}", lambda x: 1 / (1 + np.exp(-x))),
        ("none", "value", "{:.5g}", lambda x: x),
    ],
)
def test_the_answer_is_that_of_the_weights(predict, folder, logits, output, kind, form, answer):
    save_weights(
        folder / output, "v2", OPTIONS, random_variables(small_model()),
        Metadata(PREPROCESSING, output=output),
    )  # fmt: skip
    expected = np.sort(answer(logits[0]))[::-1]
    status, out, err = predict("rgb.png", "--json", "--weights", output)
    assert (status, err) == (0, "")
    found = [each[kind] for each in json.loads(out)[0]["predictions"]]
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())
    _, out, _ = predict("rgb.png", "--weights", output, "--plot", f"{output}.png")
    assert kind in out.splitlines()[0]
    assert form.format(found[0]) in out
    assert (folder / f"{output}.png").exists()


@pytest.mark.parametrize("top", [5, 6, 1000])
def test_top_is_clipped_to_the_number_of_classes(predict, known, top):
    _, out, _ = predict("rgb.png", "--json", "--top", str(top))
    assert [p["index"] for p in json.loads(out)[0]["predictions"]] == [2, 0, 3, 1, 4]


def test_without_class_names_the_index_is_the_class(predict, known):
    _, out, _ = predict("rgb.png", "--json", "--top", "1", "--weights", "unnamed")
    assert json.loads(out)[0]["predictions"] == [{"index": 2, "class": "2", "probability": 0.5}]


@pytest.mark.parametrize(
    ("argv", "status", "message"),
    [
        (["rgb.png", "--top", "0"], 2, "--top is 0; accepted: 1 or more"),
        (["rgb.png", "--top", "-3"], 2, "--top is -3; accepted: 1 or more"),
        ([], 2, "no IMAGE was given"),
        (["rgb.png", "gone.png", "grey.png"], 1, "gone.png cannot be read: there is no such file"),
        (["rgb.png", "broken.jpg"], 1, "broken.jpg cannot be read as an image"),
        (["rgb.png", "text.png"], 1, "text.png is not an image that can be read"),
        (["rgb.png", "empty"], 1, "empty holds no images (it is empty)"),
        (["rgb.png", "--json", "--csv", "-"], 2, "--json and --csv - both print; accepted: one"),
        (["rgb.png", "--csv", "gone/a.csv"], 2, "gone is no directory to write in"),
        (["rgb.png", "--heatmap", "a"], 2, "--heatmap is a; accepted: a file name in .png, "),
        (["rgb.png", "--weights", "gone"], 1, "gone is not a weights directory"),
        (["rgb.png", "--plot", "a.mp4"], 2, "--plot is a.mp4; accepted: a file name in .png, "),
        (["rgb.png", "--plot", "a"], 2, "--plot is a; accepted: a file name in .png, "),
        (["rgb.png", "--plot", "gone/a.png"], 2, "gone is no directory to write in"),
        (["rgb.png"] * 65 + ["--plot", "a.png"], 2, "at most 64 images, 65 were given"),
    ],
)
def test_wrong_input_is_one_line_and_nothing_is_printed(predict, argv, status, message):
    found, out, err = predict(*argv)
    assert (found, out) == (status, "")
    assert message in err
    assert err.count("\n") == 1


def test_weights_without_a_classifier_are_refused(predict, folder):
    headless = small_model(num_classes=0)
    options = {**OPTIONS, "num_classes": 0}
    save_weights(folder / "headless", "v2", options, random_variables(headless))
    status, out, err = predict("rgb.png", "--weights", "headless")
    assert (status, out) == (1, "")
    assert (
        err == "flaxmobile predict: error: headless cannot classify: its model has num_classes 0\n"
    )


def test_values_that_are_not_finite_are_refused(folder, monkeypatch):
    model, variables = small_model(), random_variables(small_model())
    logits = np.array([[0, 0], [0, np.nan]], np.float32)
    monkeypatch.setattr(type(model), "apply", lambda *args: logits)
    paths = [folder / "rgb.png", folder / "grey.png"]
    with pytest.raises(ValueError, match=r"grey\.png gives values that are not finite"):
        list(predict_images(model, variables, paths, PREPROCESSING))


@pytest.mark.parametrize("suffix", ["png", "pdf", "svg"])
def test_plot_is_written_beside_the_output(predict, known, folder, suffix):
    status, out, err = predict("rgb.png", "rgba $x_1$.webp", "--plot", f"plot.{suffix}")
    assert (status, err) == (0, "")
    assert "rose" in out
    start = {"png": b"\x89PNG", "pdf": b"%PDF", "svg": b"<?xml"}[suffix]
    assert (folder / f"plot.{suffix}").read_bytes().startswith(start)
    assert not list(folder.glob(".*"))


def test_a_plot_that_cannot_be_written_leaves_nothing(predict, known, folder):
    (folder / "taken.png").mkdir()
    before = set(folder.iterdir())
    status, out, err = predict("rgb.png", "--plot", "taken.png")
    assert (status, out) == (1, "")
    assert "taken.png" in err
    assert err.count("\n") == 1
    assert set(folder.iterdir()) == before


def test_folders_are_read_in_order_and_csv_has_a_row_for_each_class(predict, folder, tmp_path):
    for name in ("b.png", "a.png", "sub/c.png", ".hidden.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes((folder / "rgb.png").read_bytes())
    (tmp_path / "notes.txt").write_text("")
    status, text, _ = predict(str(tmp_path), "--csv", "-", "--top", "2")
    rows = list(csv.DictReader(text.splitlines()))
    assert status == 0
    names = [str(tmp_path / name) for name in ("a.png", "b.png", "sub/c.png") for _ in range(2)]
    assert [row["image"] for row in rows] == names
    _, out, _ = predict("rgb.png", "--json", "--top", "2")
    known = [each["probability"] for each in json.loads(out)[0]["predictions"]]
    assert [float(row["probability"]) for row in rows] == pytest.approx(known * 3, abs=1e-6)
    assert set(rows[0]) == {"image", "index", "class", "probability"}
    file = tmp_path / "answers.csv"
    _, table, _ = predict(str(tmp_path), "--csv", str(file), "--top", "2")
    assert file.read_text() == text
    assert "probability" in table
    assert not list(tmp_path.glob(".*.tmp"))


def test_heatmap_is_drawn_over_what_the_network_sees(predict, tmp_path):
    plain, heated = tmp_path / "plain.png", tmp_path / "heated.png"
    assert predict("rgb.png", "--plot", str(plain))[0] == 0
    assert predict("rgb.png", "--heatmap", str(heated))[0] == 0
    with Image.open(plain) as a, Image.open(heated) as b:
        assert a.size == b.size
        differs = np.asarray(a) != np.asarray(b)
    middle = differs.shape[1] // 3
    assert differs[:, :middle].any()
    assert not differs[:, middle + 20 :].any()
