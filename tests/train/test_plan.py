"""The training step compiles for TPUs that are not there, under jit and under pmap."""

import pytest

from flaxmobile import registry
from tests.train.tiny import SPEC
from train.__main__ import main

pytestmark = [
    pytest.mark.xdist_group("libtpu"),  # one process at a time may load libtpu
    pytest.mark.usefixtures("for_a_tpu"),
]

FLAGS = ["--model", "tiny", "--image-size", "32", "--batch-size", "8"]
V2 = ["--model", "v2", "--alpha", "0.1"]


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    monkeypatch.setitem(registry.SPECS, "tiny", SPEC)


@pytest.mark.parametrize(("parallel", "model"), [("jit", []), ("pmap", []), ("jit", V2)])
def test_plan_compiles_the_training_step_for_a_tpu_slice(parallel, model, capsys):
    flags = [*FLAGS, *model, "--dtype", "bfloat16", "--plan", "v5e:2x2", "--parallel", parallel]
    assert main(flags) == 0
    output = capsys.readouterr().out
    assert "compiles for v5e:2x2 (4 chips" in output
    numbers = {line[:28].strip(): float(line[28:].split()[0]) for line in output.splitlines()[1:]}
    assert numbers["images per chip and step"] == 2
    assert numbers["parameters and state"] > 0
    assert numbers["memory traffic per image"] > 0


def test_planning_twice_does_not_read_a_cached_tpu_program(capsys):
    flags = [*FLAGS, "--plan", "v5e:2x2"]
    assert main(flags) == 0
    first = capsys.readouterr().out
    assert main(flags) == 0
    assert capsys.readouterr().out == first


def test_unknown_topology_gives_one_line(capsys):
    assert main([*FLAGS, "--plan", "v99:2x2"]) == 1
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert "topology 'v99:2x2'" in error
    assert "v5e:2x2" in error


def test_a_batch_that_the_chips_do_not_divide_is_refused(capsys):
    assert main([*FLAGS, "--plan", "v5e:2x2", "--batch-size", "6"]) == 1
    assert "6 cannot be divided among 4 devices; take 4 or 8" in capsys.readouterr().err
