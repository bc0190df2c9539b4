"""The training step compiles for GPUs that are not there.

JAX's CUDA plugin lies beside the environment (see the Makefile): inside, it would ask every process
of a machine without a GPU for its libraries.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from flaxmobile import InputError, gpu, summarize
from tests.train.tiny import SPEC
from train.slices import CHIPS, parse_slice

PLUGIN = Path(sys.prefix, "gpu")
FLAGS = ["--model", "tiny", "--image-size", "32", "--dataset", "sizes:4000x5"]
SCRIPT = """
import sys
from flaxmobile import registry
from tests.train.tiny import SPEC
from train.__main__ import main
registry.SPECS["tiny"] = SPEC
sys.exit(max(main([*sys.argv[2:], "--plan", name]) for name in sys.argv[1].split(",")))
"""


def plan(names, *flags):
    """Output of plans in a process of their own, as of a user who has set nothing."""
    environment = {key: value for key, value in os.environ.items() if "XLA" not in key}
    environment |= {"PYTHONPATH": str(PLUGIN), "JAX_PLATFORMS": ""}
    command = [sys.executable, "-c", SCRIPT, ",".join(names), *FLAGS, *flags]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def numbers(output):
    """First number of each row."""
    rows = (line.removeprefix("  ") for line in output.splitlines()[1:])
    return {row[:28].strip(): float(row[28:].split()[0].replace(",", "")) for row in rows}


@pytest.mark.parametrize("flags", [[], ["--parallel", "pmap"], ["--accumulate", "2"]])
def test_memory_operations_and_time_of_a_step_are_printed(flags):
    output = plan(["h100:4"], "--batch-size", "32", "--image-size", "256", *flags)
    assert output.startswith("tiny fits on h100:4 (4 chips, ")
    found = numbers(output)
    assert 0 < found["memory per chip"] < 60_756  # MiB, of which JAX takes three quarters
    model = SPEC.network(num_classes=5)
    forward = 2 * summarize(model, image_size=256).macs / 1e9
    assert 3 * forward < found["operations per image"] < 4 * forward  # gradients take twice as much
    assert found["memory traffic per image"] > 4 * found["state and batch"] / 32
    assert int(re.search(r"in (\d+) collectives", output)[1]) > 4
    milliseconds = 8 * found["memory traffic per image"] / 3352
    assert found["time per step, at least"] == pytest.approx(milliseconds, abs=0.002)


def test_every_kind_compiles():
    names = [f"{kind}:2" for kind in gpu.GPUS]
    output = plan(names, "--batch-size", "16", "--dtype", "bfloat16")
    for name in names:
        assert f"tiny fits on {name} (2 chips, jit) with 8 images per chip" in output


@pytest.mark.parametrize(("name", "chips"), [("h100", 1), ("H100:8", 8), ("a100-40:2", 2)])
def test_gpus_are_named_by_kind_and_number(name, chips):
    assert parse_slice(name).chips == chips


@pytest.mark.parametrize(
    ("name", "count"), [("h100:0", 1), ("h100:9", 1), ("h100:2x2", 1), ("l4:8", 2)]
)
def test_gpus_are_those_of_one_machine(name, count):
    with pytest.raises(
        InputError, match=r"--plan is .*; accepted: .*GPUs of one machine, 8 at most"
    ):
        parse_slice(name, count)


def test_the_memory_is_what_jax_takes_by_default():
    assert CHIPS["a100"].memory == 0.75 * gpu.GPUS["a100"].memory


def test_a_missing_plugin_names_the_extra(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"needs the compiler for GPUs: pip install .*plan-gpu"):
        parse_slice("h100:8").devices()
