"""Run the Colab notebooks: `python -m tests.notebooks [NAME …]` keeps their outputs."""

import os
import sys
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient

COLAB = Path(__file__).parents[1] / "colab"
NAMES = sorted(path.stem for path in COLAB.glob("*.ipynb"))
_OF_THE_SUITE = {"XLA_FLAGS", "MPLBACKEND"}  # a runtime has one CPU device, and shows pictures


def read(name):
    """A notebook as it is committed."""
    return nbformat.read(COLAB / f"{name}.ipynb", as_version=4)


def execute(name, folder):
    """Run a notebook in a folder, from a clean kernel, and return it with its outputs."""
    notebook = read(name)
    environment = {k: v for k, v in os.environ.items() if k not in _OF_THE_SUITE}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    client = NotebookClient(
        notebook,
        timeout=600,
        startup_timeout=600,
        kernel_name="python3",
        record_timing=False,
        coalesce_streams=True,
        resources={"metadata": {"path": folder}},
    )
    client.execute(env=environment)
    return notebook


def _clean(outputs):
    """Drop progress bars, warnings, and lines that name this machine's folders."""
    kept = [output for output in outputs if output.get("name") != "stderr"]
    for output in kept:
        if "text" in output:
            lines = output.text.splitlines(keepends=True)
            output.text = "".join(line for line in lines if str(Path.home()) not in line)
    return kept


def main():
    """Run notebooks, by default all, away from the checkout."""
    for name in sys.argv[1:] or NAMES:
        with tempfile.TemporaryDirectory() as folder:
            notebook = execute(name, folder)
        notebook.metadata = read(name).metadata  # without the version of this machine's Python
        for cell in notebook.cells:
            if "outputs" in cell:
                cell.outputs = _clean(cell.outputs)
        nbformat.write(notebook, COLAB / f"{name}.ipynb")


if __name__ == "__main__":
    main()
