"""The Colab notebooks run from a clean kernel, as they are, in a folder that is no checkout."""

import re

import pytest

from tests.notebooks import COLAB, NAMES, execute, read

pytestmark = pytest.mark.filterwarnings("default")  # of nbclient and zmq, not of ours


@pytest.fixture
def run(tmp_path):
    """A function of a notebook's name: runs it, and returns its text and the number of pictures."""

    def run(name):
        notebook = execute(name, tmp_path)
        outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
        texts = (o.get("text", "") + str(o.get("data", {}).get("text/plain", "")) for o in outputs)
        return "".join(texts), sum("image/png" in o.get("data", {}) for o in outputs)

    return run


@pytest.mark.parametrize("name", NAMES)
def test_notebook_has_the_outputs_of_one_run_and_is_listed(name):
    cells = [cell for cell in read(name).cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == [*range(1, len(cells) + 1)]
    assert any("image/png" in each.get("data", {}) for cell in cells for each in cell.outputs)
    assert f"`{name}.ipynb`" in (COLAB.parent / "docs" / "install.md").read_text()


def test_notebook_trains_resumes_and_predicts(run, tmp_path):
    text, pictures = run("train_tpu")
    assert "ended with -9" in text
    assert re.search(r"continues after step \d+ of 120 steps", text)
    assert "'split': 'test'" in text
    assert "seven.png" in text
    assert "(1, 10)" in text
    assert pictures == 2
    assert (tmp_path / "runs" / "colab" / "best" / "model.json").is_file()


def test_notebook_of_backbones_segments_and_is_equal_in_nnx(run):
    text, pictures = run("backbone")
    assert float(re.search(r"intersection over union on new images: (\S+)", text)[1]) > 0.7
    assert "32: (1, 2, 2, 64)" in text
    assert text.endswith("{4: 0.0, 8: 0.0}")
    assert pictures == 1


def test_notebook_of_linear_bottlenecks_loses_little_in_many_dimensions(run):
    text, pictures = run("why_linear_bottlenecks")
    narrow, wide = map(int, re.search(r"keeps (\d+)%, m = 30 keeps (\d+)%", text).groups())
    assert narrow < 75
    assert wide > 90
    found = re.findall(r"(\d channels, \w+|shortcut: \w+): (0\.\d+) (0\.\d+)", text)
    mean = {name: (float(one) + float(two)) / 2 for name, one, two in found}
    for width in (2, 4):
        assert mean[f"{width} channels, linear"] > mean[f"{width} channels, ReLU6"]
    for ends in ("bottleneck", "expansion"):
        assert mean[f"shortcut: {ends}"] > mean["shortcut: none"]
    assert pictures == 4


def test_notebook_of_phones_loses_little_in_any_file(run):
    text, pictures = run("to_a_phone")
    rows = re.findall(r"^(\S+) .*?([\d.]+)% +([\d.]+) +(\d+) of 360$", text, re.M)
    lost = {name: (float(percent), float(accuracy)) for name, percent, accuracy, _ in rows}
    accuracy = lost.pop("JAX")[1]
    assert accuracy > 0.93
    assert len(lost) == 5
    for name, (percent, kept) in lost.items():
        assert percent < (25 if "int8" in name else 1 if "float16" in name else 0.01)
        assert abs(kept - accuracy) < 0.01
    assert pictures == 2


def test_notebook_of_weights_finds_equal_numbers_there_and_back(run):
    text, pictures = run("convert_weights")
    differences = re.findall(r"logits differ by (\S+)", text)
    assert len(differences) == 2
    assert max(map(float, differences)) < 1e-5
    after_stem = dict(re.findall(r"^(.*): (\S+) after stem", text, re.M))
    right = float(after_stem.pop("as converted"))
    assert all(float(wrong) > 100 * right for wrong in after_stem.values())
    assert "314 of 314 tensors are equal" in text
    assert "blocks.0.0.conv_dw.weight is missing" in text
    assert text.endswith("False")
    assert pictures == 1


def test_notebook_of_photographs_learns_more_with_the_whole_network(run):
    text, pictures = run("finetune_photographs")
    frozen = float(re.search(r"backbone frozen: (\S+)", text)[1])
    whole = float(re.search(r"whole network: (\S+)", text)[1])
    assert 0.3 < frozen < whole
    assert whole > 0.55
    assert pictures == 3


def test_notebook_of_latency_counts_bytes_and_finds_the_author_s_gpu_at_the_crossing(run):
    text, pictures = run("flops_and_latency")
    assert "V1: 28 layers, 569 M multiply-adds, 58 MB" in text
    assert "V2: 53 layers, 301 M multiply-adds, 68 MB" in text
    assert "one pass a layer: at 17 operations per byte V2 takes 0.78" in text
    assert "norm and activation apart: at 17 operations per byte V2 takes 1.01" in text
    measured = re.findall(r"an image; V2 takes (\S+) of V1's time", text)
    assert len(measured) == 3
    assert all(0.1 < float(each) < 10 for each in measured)
    assert pictures == 4
