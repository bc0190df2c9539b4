"""`flaxmobile predict` on stdin, patterns, videos and cameras."""

import csv
import io
import json
import sys
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from PIL import Image

from flaxmobile import Metadata, Preprocessing, create_detector, create_segmenter, save_weights
from flaxmobile.cli import frames, predict
from tests.cli.opencv import Capture, frame, stand_in
from tests.networks import abstract, random_variables, randomised, small_model

PREPROCESSING = Preprocessing(32, 32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("streams")
    metadata = Metadata(PREPROCESSING, ("a", "b", "c", "d", "e"))
    options = {"alpha": 0.35, "num_classes": 5}
    save_weights(folder / "w", "v2", options, random_variables(small_model()), metadata)
    for name in ("one.png", "two.png"):
        Image.fromarray(frame(len(name))).save(folder / name)
    for name in ("clip.mp4", "empty.mp4", "broken.mp4"):
        (folder / name).write_bytes(b"for the stand-in")
    return folder


@pytest.fixture
def opencv(monkeypatch):
    module = stand_in()
    monkeypatch.setitem(sys.modules, "cv2", module)
    return module


@pytest.fixture
def run(folder, monkeypatch, run_predict):
    """Run the command in the folder; give status, stdout, stderr."""
    monkeypatch.chdir(folder)
    return run_predict


@pytest.fixture
def stdin(monkeypatch):
    """A function that puts bytes, or a terminal, at stdin."""

    def put(content):
        stream = SimpleNamespace(isatty=lambda: content is None, buffer=io.BytesIO(content or b""))
        monkeypatch.setattr(sys, "stdin", stream)

    return put


def expected(numbers):
    """Probabilities of the frames with these numbers."""
    model, variables = small_model(), random_variables(small_model())
    images = np.stack([PREPROCESSING(Image.fromarray(frame(number))) for number in numbers])
    return np.asarray(jax.nn.softmax(jax.jit(model.apply)(variables, images)))


def test_stdin_and_patterns_are_images_too(run, stdin, folder, tmp_path):
    stdin((folder / "one.png").read_bytes())
    status, out, err = run("-", "?n?.png", "tw*", "--json", "--plot", str(tmp_path / "a.png"))
    assert (status, err) == (0, "")
    one, same, two = json.loads(out)
    assert [each["image"] for each in (one, same, two)] == ["-", "one.png", "two.png"]
    assert one["predictions"] == same["predictions"]
    assert (tmp_path / "a.png").exists()


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"text", "stdin is not an image that can be read"), (None, "stdin, which is a terminal")],
)
def test_stdin_without_an_image_is_one_line(run, stdin, content, said):
    stdin(content)
    status, out, err = run("-")
    assert (status, out) == (1, "")
    assert said in err
    assert err.count("\n") == 1


def test_frames_of_a_video_have_times_and_the_networks_answers(run, opencv, monkeypatch):
    monkeypatch.setattr(predict, "_BATCH", 3)  # the last of three batches is not full
    status, out, err = run("clip.mp4", "--json")
    assert (status, err) == (0, "")
    found = json.loads(out)
    assert [(each["image"], each["time"]) for each in found] == [
        ("clip.mp4", number / 4) for number in range(8)
    ]
    for each, row in zip(found, expected(range(8)), strict=True):
        values = [answer["probability"] for answer in each["predictions"]]
        np.testing.assert_allclose(values, np.sort(row)[::-1], atol=1e-5)
    assert opencv.opened[0].released


@pytest.mark.parametrize(
    ("flags", "times"),
    [
        (["--every", "0.5"], [0, 0.5, 1, 1.5]),
        (["--every", "0.6"], [0, 0.75, 1.25]),
        (["--frames", "2"], [0, 0.25]),
        (["--every", "1", "--frames", "5"], [0, 1]),
    ],
)
def test_fewer_frames_are_taken_if_asked_for(run, opencv, flags, times):
    status, out, _ = run("clip.mp4", "--csv", "-", "--top", "1", *flags)
    rows = list(csv.DictReader(out.splitlines()))
    assert status == 0
    assert [float(row["time"]) for row in rows] == times
    assert list(rows[0]) == ["image", "time", "index", "class", "probability"]


def test_text_is_a_line_for_each_frame_and_image(run, opencv):
    status, out, _ = run("one.png", "clip.mp4", "--top", "2", "--frames", "2")
    first, second, third = out.splitlines()
    assert status == 0
    assert first.startswith("one.png: ")
    (best, best_value), (other, other_value) = sorted(
        zip("abcde", expected([0])[0], strict=True), key=lambda each: -each[1]
    )[:2]
    assert second == f"clip.mp4 at 0.00 s: {best} {best_value:.2%}, {other} {other_value:.2%}"
    assert third.startswith("clip.mp4 at 0.25 s: ")


def test_a_camera_is_read_until_interrupted_and_what_was_seen_is_written(
    run, opencv, folder, monkeypatch
):
    grab = Capture.grab

    def interrupt(capture):
        if capture.place == 2:
            raise KeyboardInterrupt
        return grab(capture)

    monkeypatch.setattr(Capture, "grab", interrupt)
    status, out, _ = run("--webcam", "0", "--json", "--top", "1", "--csv", "seen.csv")
    found = json.loads(out)
    assert status == 130
    rows = list(csv.DictReader((folder / "seen.csv").read_text().splitlines()))
    assert [float(row["time"]) for row in rows] == [each["time"] for each in found]
    assert [each["image"] for each in found] == ["webcam 0"] * 3
    times = [each["time"] for each in found]
    assert times == sorted(times)
    assert opencv.opened[0].released


def test_images_and_frames_share_the_columns_of_a_csv_file(run, opencv, folder):
    assert run("one.png", "clip.mp4", "--frames", "1", "--top", "1", "--csv", "all.csv")[0] == 0
    image, frame = csv.DictReader((folder / "all.csv").read_text().splitlines())
    assert (image["time"], frame["time"]) == ("", "0.0")
    assert image["class"] and frame["class"]


def test_boxes_of_frames(run, opencv, folder):
    model = create_detector("ssdlite", "v2", num_classes=3, alpha=0.35)
    options = {"backbone": "mobilenet_v2", "alpha": 0.35, "num_classes": 3}
    metadata = Metadata(Preprocessing(64, 64), ("none", "cat", "dog"))
    save_weights(folder / "ssd", "ssdlite", options, randomised(abstract(model)), metadata)
    flags = ("--frames", "2", "--threshold", "0.9")
    status, out, err = run("clip.mp4", *flags, "--json", weights="ssd")
    assert (status, err) == (0, "")
    first, second = json.loads(out)
    assert (first["time"], second["time"]) == (0, 0.25)
    best = first["predictions"][0]
    status, out, _ = run("clip.mp4", *flags, weights="ssd")
    sides = ", ".join(f"{side:.0f}" for side in best["box"].values())
    start = f"clip.mp4 at 0.00 s: {best['class']} {best['probability']:.2%} ({sides})"
    assert out.splitlines()[0].startswith(start)
    status, out, _ = run("clip.mp4", "--frames", "1", "--threshold", "1", weights="ssd")
    assert out == "clip.mp4 at 0.00 s: nothing found\n"
    status, out, _ = run(
        "clip.mp4", "--frames", "1", "--threshold", "1", "--csv", "-", weights="ssd"
    )
    assert out == "image,time\nclip.mp4,0.0\n"


def test_masks_of_frames(run, opencv, folder):
    model = create_segmenter("lraspp", "v2", alpha=0.35, num_classes=3)
    options = {"backbone": "v2", "alpha": 0.35, "num_classes": 3}
    save_weights(
        folder / "seg", "lraspp", options, random_variables(model), Metadata(PREPROCESSING)
    )
    status, out, _ = run("clip.mp4", "--frames", "2", "--json", weights="seg")
    assert status == 0
    for each in json.loads(out):
        assert sum(answer["share"] for answer in each["predictions"]) == pytest.approx(1)


@pytest.mark.parametrize(
    ("argv", "status", "message"),
    [
        (["broken.mp4"], 1, "broken.mp4 cannot be opened: OpenCV reads no video in it"),
        (["empty.mp4", "--json"], 1, "empty.mp4 has no frames that can be read"),
        (["gone.mp4"], 1, "gone.mp4 cannot be read: there is no such file"),
        (["gone*.png"], 1, "gone*.png cannot be read: there is no such file"),
        (["--webcam", "1"], 1, "webcam 1 cannot be opened: there is no such camera"),
        (["--webcam", "-1"], 2, "--webcam is -1; accepted: 0 or more"),
        (["clip.mp4", "--every", "-1"], 2, "--every is -1.0; accepted: 0 or more seconds"),
        (["clip.mp4", "--frames", "0"], 2, "--frames is 0; accepted: 1 or more"),
        (["clip.mp4", "--plot", "a.png"], 2, "--plot shows images, and clip.mp4 is a video"),
    ],
)
def test_wrong_streams_are_one_line(run, opencv, argv, status, message):
    found, out, err = run(*argv)
    assert (found, out) == (status, "")
    assert message in err
    assert err.count("\n") == 1


def test_without_opencv_the_extra_is_named(run, monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", None)
    status, out, err = run("clip.mp4")
    assert (status, out) == (1, "")
    assert "videos and cameras are read by OpenCV" in err
    assert "[video]'" in err
    assert err.count("\n") == 1


def test_a_video_without_times_counts_its_frames(opencv, monkeypatch):
    monkeypatch.setattr(Capture, "get", lambda _, of: 4.0 if of == "fps" else 0.0)
    found = frames.Stream(frames.Path("clip.mp4"), most=3).frames()
    assert [each.time for each in found] == [0, 0.25, 0.5]
