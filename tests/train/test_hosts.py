"""Processes that train together over loopback, 4 virtual devices each, against one of 8 devices."""

import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from flaxmobile.errors import InputError
from tests.xla import FLAGS as XLA
from train.config import Config

ROOT = Path(__file__).parents[2]
PATH = f"{ROOT}:{ROOT / 'tests' / 'train' / 'fakes'}"  # with a stand-in for gcsfs
FLAGS = ["--model", "tiny", "--image-size", "32", "--log-every", "1", "--batch-size", "64"]
STEPS = 12
FIRST_PORT = 65536 - (1 << 12)
"""Port of JAX's coordinator in job 0 of Slurm and Open MPI."""


def start(flags, devices, **environment):
    """The command in a process of its own."""
    xla = " ".join(XLA).replace("device_count=8", f"device_count={devices}")
    return subprocess.Popen(
        [sys.executable, "-m", "tests.train.tiny", *FLAGS, *flags],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env={**os.environ, "XLA_FLAGS": xla, "PYTHONPATH": PATH, **environment},
    )  # fmt: skip


def run(*flags, status=0, **environment):
    process = start(flags, 8, **environment)
    output, _ = process.communicate(timeout=600)
    assert process.returncode == status, output
    return output


def run_two(*flags, statuses=(0, 0), signal_at=None, others=()):
    """Two processes; the second one gets a signal, or other flags."""
    port = free_port()
    hosts = ["--coordinator", f"localhost:{port}", "--process-count", "2", "--process-index"]
    environment = {"SIGNAL_AT": signal_at} if signal_at else {}
    return ends_of(
        start([*flags, *hosts, "0"], 4),
        start([*flags, *others, *hosts, "1"], 4, **environment),
        statuses=statuses,
    )


def ends_of(*processes, statuses=(0, 0)):
    """What processes print until they end."""
    outputs = [process.communicate(timeout=600)[0] for process in processes]
    assert tuple(process.returncode for process in processes) == statuses, "\n".join(outputs)
    return outputs


def free_port(ports=(0,)):
    """A port that no server has, among some; by default any."""
    for port in ports:
        with contextlib.suppress(OSError), socket.create_server(("localhost", port)) as server:
            return server.getsockname()[1]
    raise AssertionError("no port is free")


def free_job():
    """A job of Slurm or Open MPI whose port is free: any, because several tests look for one."""
    ports = range(FIRST_PORT, 65536)
    return free_port(random.sample(ports, len(ports))) - FIRST_PORT


def under_slurm(job, index):
    """What srun of Slurm 22 sets in the environment of one of two tasks."""
    return {
        "SLURM_JOB_ID": str(job),
        "SLURM_STEP_NODELIST": "localhost",
        "SLURM_NTASKS": "2",
        "SLURM_PROCID": str(index),
        "SLURM_LOCALID": str(index),
        "SLURM_STEP_NUM_NODES": "1",
    }


def under_open_mpi(job, index):
    """What mpirun of Open MPI 4 sets in the environment of one of two processes."""
    return {
        "OMPI_MCA_orte_hnp_uri": f"{job << 12}.0;tcp://127.0.0.1:55941;tcp6://[::1]:35577",
        "OMPI_COMM_WORLD_SIZE": "2",
        "OMPI_COMM_WORLD_RANK": str(index),
        "OMPI_COMM_WORLD_LOCAL_RANK": str(index),
    }


def losses(directory):
    lines = map(json.loads, (Path(directory) / "metrics.jsonl").read_text().splitlines())
    return {(line["split"], line["step"]): line["loss"] for line in lines}


def assert_same_losses(given, expected):
    assert given.keys() == expected.keys()
    np.testing.assert_allclose(list(given.values()), list(expected.values()), rtol=1e-5)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run of one process, under jit."""
    directory = tmp_path_factory.mktemp("whole") / "run"
    run("--steps", str(STEPS), "--output", str(directory))
    return directory


@pytest.mark.parametrize(("parallel", "launcher"), [("jit", under_slurm), ("pmap", under_open_mpi)])
def test_two_processes_have_the_losses_of_one(whole, parallel, launcher, tmp_path):
    """Dropout is on, and the last batch of the validation images is not whole."""
    given = tmp_path / "run"
    flags = ["--steps", str(STEPS), "--output", str(given), "--parallel", parallel]
    job = free_job()
    first, second = ends_of(*(start(flags, 4, **launcher(job, index)) for index in range(2)))
    assert "test (360 images): accuracy" in first
    assert "test (360 images)" not in second
    assert_same_losses(losses(given), losses(whole))
    assert {path.name for path in given.iterdir()} == {path.name for path in whole.iterdir()}


def test_a_process_that_is_killed_ends_the_other_and_either_number_goes_on(tmp_path, whole):
    given = str(tmp_path / "run")
    flags = ["--steps", str(STEPS), "--output", given, "--checkpoint-every", "2", "--resume"]
    signals = f"3 {int(signal.SIGKILL)}", f"6 {int(signal.SIGTERM)}"
    first, _ = run_two(*flags, statuses=(1, -signal.SIGKILL), signal_at=signals[0])
    assert "another process of the run has ended: start all of them again with --resume" in first
    first, _ = run_two(*flags, statuses=(143, 143), signal_at=signals[1])
    assert f"stopped; continue with --output {given} --resume" in first
    run("--resume", "--output", given)
    assert_same_losses(losses(given), losses(whole))


def test_processes_without_a_common_disk_go_on_from_a_bucket(tmp_path, whole, monkeypatch):
    """A run that one process began elsewhere."""
    flags = ["--steps", str(STEPS), "--output", "gs://lake/run", "--resume"]
    monkeypatch.setenv("BUCKETS", str(tmp_path))
    for machine in ("one", "two"):
        (tmp_path / machine).mkdir()
    monkeypatch.chdir(tmp_path / "one")
    run(*flags, status=143, SIGNAL_AT=f"6 {int(signal.SIGTERM)}")
    monkeypatch.chdir(tmp_path / "two")
    first, _ = run_two(*flags)
    assert "continues after step 7 of 12 steps" in first
    assert [path.name for path in Path("runs").glob("*/*")] == ["run"]
    assert_same_losses(losses(tmp_path / "lake" / "run"), losses(whole))


def test_processes_with_other_settings_are_refused(tmp_path):
    given = tmp_path / "run"
    first, second = run_two(
        "--steps", "2", "--output", str(given), statuses=(1, 1), others=["--learning-rate", "1"]
    )
    for output in (first, second):
        assert "processes 1 have other settings or another version" in output or (
            "another process of the run has ended" in output
        )
    assert not given.exists()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"process_count": 2}, "go together"),
        ({"coordinator": "a:1", "process_count": 2, "process_index": 2}, "--process-index is 2"),
        ({"coordinator": "a", "process_count": 2, "process_index": 0}, "accepted: HOST:PORT"),
    ],
)
def test_flags_that_do_not_fit_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        Config(**settings).check()
