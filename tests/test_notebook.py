"""The Colab notebooks run from a clean kernel, as they are, in a folder that is no checkout."""

import os
import re
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

COLAB = Path(__file__).parents[1] / "colab"

pytestmark = pytest.mark.filterwarnings("default")  # of nbclient and zmq, not of ours


@pytest.fixture
def execute(tmp_path, monkeypatch):
    """A function of a notebook's name: runs it, and returns its text and the number of pictures."""

    def run(name):
        monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
        monkeypatch.delenv("XLA_FLAGS")  # one device, as on a CPU runtime
        monkeypatch.delenv("MPLBACKEND")  # pictures in the notebook
        notebook = nbformat.read(COLAB / f"{name}.ipynb", as_version=4)
        assert not any(cell.get("outputs") for cell in notebook.cells), "commit it without outputs"
        NotebookClient(
            notebook,
            timeout=600,
            startup_timeout=600,
            kernel_name="python3",
            resources={"metadata": {"path": tmp_path}},
        ).execute()
        outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
        texts = (o.get("text", "") + str(o.get("data", {}).get("text/plain", "")) for o in outputs)
        return "".join(texts), sum("image/png" in o.get("data", {}) for o in outputs)

    return run


def test_notebook_trains_resumes_and_predicts(execute, tmp_path):
    text, pictures = execute("train_tpu")
    assert "continues after step 40 of 120 steps" in text
    assert "'split': 'test'" in text
    assert "seven.png" in text
    assert "(1, 10)" in text
    assert pictures == 2
    assert (tmp_path / "runs" / "colab" / "best" / "model.json").is_file()


def test_notebook_of_backbones_segments_and_is_equal_in_nnx(execute):
    text, pictures = execute("backbone")
    assert float(re.search(r"intersection over union on new images: (\S+)", text)[1]) > 0.7
    assert "32: (1, 2, 2, 64)" in text
    assert text.endswith("{4: 0.0, 8: 0.0}")
    assert pictures == 1


def test_notebook_of_linear_bottlenecks_loses_little_in_many_dimensions(execute):
    text, pictures = execute("why_linear_bottlenecks")
    narrow, wide = map(int, re.search(r"keeps (\d+)%, m = 30 keeps (\d+)%", text).groups())
    assert narrow < 75
    assert wide > 90
    assert pictures == 2
