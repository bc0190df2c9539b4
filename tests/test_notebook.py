"""The Colab notebook runs from a clean kernel, as it is."""

import os
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).parents[1] / "colab" / "train_tpu.ipynb"


@pytest.mark.filterwarnings("default")  # of nbclient and zmq, not of ours
def test_notebook_trains_resumes_and_predicts(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.delenv("XLA_FLAGS")  # one device, as on a CPU runtime
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells), "commit it without outputs"
    NotebookClient(
        notebook,
        timeout=600,
        startup_timeout=600,
        kernel_name="python3",
        resources={"metadata": {"path": tmp_path}},
    ).execute()
    text = "".join(
        output.get("text", "") + str(output.get("data", {}).get("text/plain", ""))
        for cell in notebook.cells
        for output in cell.get("outputs", [])
    )
    pictures = [
        output
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if "image/png" in output.get("data", {})
    ]
    assert "continues after step 40 of 120 steps" in text
    assert "'split': 'test'" in text
    assert "seven.png" in text
    assert "(1, 10)" in text
    assert len(pictures) == 2
    assert (tmp_path / "runs" / "colab" / "best" / "model.json").is_file()
