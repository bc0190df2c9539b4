"""Memory of a process that loads a segmenter or detector and runs it, beside torchvision's."""

import os
import subprocess
import sys

import pytest
import torch
from torchvision.models import detection, segmentation

from tests.train.command.process import ROOT

pytestmark = pytest.mark.slow

NETWORKS = {
    "lraspp": (segmentation.lraspp_mobilenet_v3_large, 520),
    "deeplab_v3": (segmentation.deeplabv3_mobilenet_v3_large, 520),
    "ssdlite": (detection.ssdlite320_mobilenet_v3_large, 320),
}
"""Head -> torchvision's network, and the side of its images."""

OURS = """
import jax
import numpy as np
import flaxmobile
model, variables = flaxmobile.fold_batch_norm(*flaxmobile.load_weights({weights!r}))
run = flaxmobile.jit_inference(model, variables)
del variables
for _ in range(4):
    jax.block_until_ready(run(np.zeros((1, {side}, {side}, 3), np.float32)))
"""
THEIRS = """
import torch
from torchvision.models.{module} import {build}
network = {build}(weights=None, weights_backbone=None)
network.load_state_dict(torch.load({file!r}))
network = network.eval().to(memory_format=torch.channels_last)
images = torch.zeros(1, 3, {side}, {side}).to(memory_format=torch.channels_last)
with torch.no_grad():
    for _ in range(4):
        network(images)
"""
PEAK = """
from pathlib import Path
status = Path("/proc/self/status").read_text()
print(status.partition("VmHWM:")[2].split()[0])
"""
"""Prints the largest resident memory in KiB; `getrusage` begins with that of the process before."""


def run(*words):
    """Run Python with a user's settings, and return the last line that it prints."""
    settings = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    settings |= {"PYTHONPATH": str(ROOT), "JAX_ENABLE_COMPILATION_CACHE": "0"}
    done = subprocess.run(
        [sys.executable, *map(str, words)], env=settings, check=True, text=True, stdout=-1
    )
    return done.stdout.splitlines()[-1]


@pytest.mark.parametrize("head", NETWORKS)
def test_a_process_takes_no_more_than_torchvisions(head, tmp_path):
    build, side = NETWORKS[head]
    file, weights = tmp_path / "file.pth", tmp_path / "weights"
    torch.save(build(weights=None, weights_backbone=None).state_dict(), file)
    run("-m", "convert", "--model", head, "--weights", file, "--output", weights)
    names = {
        "module": build.__module__.removeprefix("torchvision.models."),
        "build": build.__name__,
    }
    ours = int(run("-c", OURS.format(weights=str(weights), side=side) + PEAK))
    theirs = int(run("-c", THEIRS.format(file=str(file), side=side, **names) + PEAK))
    print(head, ours, theirs)
    assert ours <= theirs
