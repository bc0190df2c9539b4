"""How much memory a conversion takes of a file that is large beside everything else."""

import os
import subprocess
import sys
import zipfile

import numpy as np
import pytest
import torch
from flax import traverse_util
from safetensors.numpy import save_file

from convert import engine
from convert.rules import RULES
from flaxmobile import create_model
from flaxmobile.variables import abstract_variables
from tests.convert.keras_writer import write_keras_2

# In a process of its own, which gives freed memory back. What the first conversion alone takes,
# libraries and threads, is not counted.
MEASURE = """
import os, pathlib, sys
import h5py, safetensors, torch
from convert.__main__ import main

def convert(path):
    assert main(["--model", "v2", "--weights", path, "--output", f"{path}.flax"]) == 0

def memory(key):
    lines = pathlib.Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(f"{key}:"))

small, *large = sys.argv[1:]
convert(small)
for path in large:
    before = memory("VmRSS")
    pathlib.Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    convert(path)
    print("peak", (memory("VmHWM") - before) / os.path.getsize(path))
"""


def tensors_of(origin, alpha):
    """A file's tensors, in numbers that no compression makes smaller."""
    rule = RULES[origin, "mobilenet_v2"]
    model = create_model("mobilenet_v2", alpha=alpha, num_classes=10, **rule.options)
    rng = np.random.default_rng(0)
    leaves = traverse_util.flatten_dict(abstract_variables(model))
    drawn = {path: rng.random(leaf.shape, np.float32) for path, leaf in leaves.items()}
    return engine.from_flax(rule, model, traverse_util.unflatten_dict(drawn))


def write(folder, alpha):
    """A file of each form, and how it is called."""
    theirs = tensors_of("torchvision", alpha)
    state = {name: torch.tensor(array) for name, array in theirs.items()}
    torch.save(state, folder / "zip.pth")
    torch.save(state, folder / "legacy.pt", _use_new_zipfile_serialization=False)
    save_file(
        {name: np.ascontiguousarray(a) for name, a in theirs.items()}, folder / "w.safetensors"
    )
    keras = tensors_of("keras", alpha)
    write_keras_2(folder / "w.h5", {f"{name}:0": array for name, array in keras.items()})
    with zipfile.ZipFile(folder / "w.keras", "w") as archive:
        archive.write(folder / "w.h5", "model.weights.h5")


@pytest.mark.xdist_group("memory")
def test_a_conversion_takes_at_most_about_twice_the_files_size(tmp_path):
    """Once the numbers, and what is read or written at a time."""
    (tmp_path / "large").mkdir()
    write(tmp_path / "large", alpha=3.0)
    small = tmp_path / "small.pth"
    torch.save({k: torch.tensor(v) for k, v in tensors_of("torchvision", 0.1).items()}, small)
    files = sorted((tmp_path / "large").iterdir())
    assert all(file.stat().st_size > 7e7 for file in files)
    command = [sys.executable, "-c", MEASURE, str(small), *map(str, files)]
    env = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_ARENA_MAX": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **env})
    assert done.returncode == 0, done.stderr
    peaks = [float(line.split()[1]) for line in done.stdout.splitlines() if line[:4] == "peak"]
    assert len(peaks) == 5
    found = {file.name: round(peak, 2) for file, peak in zip(files, peaks, strict=True)}
    assert max(peaks) < 2.2, found
