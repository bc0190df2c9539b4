"""Checkpoints: which are kept, and what a crash, damage or a full disk leaves."""

import shutil
import subprocess
import sys

import chex
import numpy as np
import orbax.checkpoint as ocp
import pytest

from flaxmobile.errors import InputError
from train.checkpoints import Checkpoints, Progress

STATE = {"params": {"kernel": np.arange(6, dtype=np.float32).reshape(2, 3)}, "step": np.int32(0)}


def state(step):
    return {"params": {"kernel": STATE["params"]["kernel"] + step}, "step": np.int32(step)}


def test_restores_what_was_saved_to_the_bit(tmp_path):
    with Checkpoints(tmp_path / "c") as checkpoints:
        checkpoints.save(state(7), Progress(7, 7, (0.5, -1.0)))
    with Checkpoints(tmp_path / "c") as checkpoints:
        restored, progress, notes = checkpoints.restore(STATE)
    assert not notes
    chex.assert_trees_all_equal(restored, state(7))
    assert progress == Progress(7, 7, (0.5, -1.0))


def test_there_is_nothing_to_restore_at_first(tmp_path):
    with Checkpoints(tmp_path / "c") as checkpoints:
        assert checkpoints.restore(STATE) is None


@pytest.mark.parametrize(("keep", "kept"), [((), "2, 5, 6"), ((1,), "2, 6"), ((3,), "2, 4, 5, 6")])
def test_keeps_the_newest_and_the_best(keep, kept, tmp_path):
    with Checkpoints(tmp_path / "c", *keep) as checkpoints:
        for step in range(1, 7):
            best_step = None if step < 3 else 2  # known once step 2 was validated
            checkpoints.save(state(step), Progress(step, best_step=best_step))
        checkpoints.wait()
        assert checkpoints.list_steps() == kept


def test_saving_a_step_twice_changes_nothing(tmp_path):
    with Checkpoints(tmp_path / "c") as checkpoints:
        checkpoints.save(state(1), Progress(1))
        checkpoints.save(state(5), Progress(1, 1))
        checkpoints.wait()
        assert checkpoints.restore(STATE)[1] == Progress(1)


def test_what_a_killed_run_left_half_written_is_not_restored(tmp_path):
    with Checkpoints(tmp_path / "c") as checkpoints:
        checkpoints.save(state(1), Progress(1))
    half = tmp_path / "c" / "2.orbax-checkpoint-tmp-1"
    (half / "state").mkdir(parents=True)
    with Checkpoints(tmp_path / "c") as checkpoints:
        assert checkpoints.list_steps() == "1"
        assert checkpoints.restore(STATE)[1] == Progress(1)


def flip(path):
    data = bytearray(path.read_bytes())
    for place in range(len(data) // 3, min(len(data), len(data) // 3 + 64)):
        data[place] ^= 0xFF
    path.write_bytes(data)


DAMAGES = {
    "missing": lambda path: path.unlink(),
    "empty": lambda path: path.write_bytes(b""),
    "cut": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "flipped": flip,
}


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """Checkpoints of steps 3 and 7."""
    directory = tmp_path_factory.mktemp("two") / "c"
    with Checkpoints(directory) as checkpoints:
        for step in (3, 7):
            checkpoints.save(state(step), Progress(step))
    return directory


# The store's other reads end after one has failed, when nobody waits for them any more.
@pytest.mark.filterwarnings("default::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("damage", DAMAGES)
def test_the_checkpoint_before_a_damaged_one_is_continued(damage, two, tmp_path):
    """One file after another is damaged; what is restored is one of the states to the bit."""
    names = [path.relative_to(two) for path in (two / "7").rglob("*") if path.is_file()]
    assert len(names) > 5
    fell_back = []
    for number, name in enumerate(names):
        directory = tmp_path / str(number)
        shutil.copytree(two, directory)
        DAMAGES[damage](directory / name)
        with Checkpoints(directory) as checkpoints:
            restored, progress, notes = checkpoints.restore(STATE)
            chex.assert_trees_all_equal(restored, state(progress.step))
            assert len(notes) == (progress.step == 3)
            if notes:
                assert "step 7 is damaged" in notes[0]
                assert (directory / "7.damaged").is_dir()
                checkpoints.save(state(7), Progress(7))
                checkpoints.wait()
                assert checkpoints.list_steps() == "3, 7"
                fell_back.append(name)
    assert any("state" in name.parts for name in fell_back)


@pytest.mark.filterwarnings("default::pytest.PytestUnraisableExceptionWarning")
def test_a_damaged_checkpoint_without_another_is_named(two, tmp_path):
    shutil.copytree(two / "7", tmp_path / "c" / "7")
    for path in (tmp_path / "c" / "7" / "state").rglob("*"):
        if path.is_file():
            DAMAGES["cut"](path)
    with Checkpoints(tmp_path / "c") as checkpoints, pytest.raises(InputError, match="c/7 is dam"):
        checkpoints.restore(STATE)


def test_an_error_without_text_is_named_by_its_type(tmp_path, monkeypatch):
    def restore(*_, **__):
        raise ValueError

    with Checkpoints(tmp_path / "c") as checkpoints:
        checkpoints.save(state(3), Progress(3))
        checkpoints.wait()
        monkeypatch.setattr(ocp.CheckpointManager, "restore", restore)
        with pytest.raises(InputError, match=r"c/3 is damaged .*\(ValueError\(\)\)"):
            checkpoints.restore(STATE)


def test_another_networks_checkpoint_is_refused(tmp_path):
    with Checkpoints(tmp_path / "c") as checkpoints:
        checkpoints.save(state(3), Progress(3))
        checkpoints.wait()
        other = {"params": {"kernel": np.zeros((4, 4), np.float32)}, "step": np.int32(0)}
        with pytest.raises(InputError, match="of another network"):
            checkpoints.restore(other)


FULL_DISK = """
import resource, signal, sys
import numpy as np
from pathlib import Path
from flaxmobile.errors import InputError
from train.checkpoints import Checkpoints, Progress

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
noise = np.random.default_rng(0).random((1 << 18,), np.float32)
try:
    with Checkpoints(Path(sys.argv[1])) as checkpoints:
        checkpoints.save({"noise": noise}, Progress(1))
        checkpoints.wait()
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, resource.RLIM_INFINITY))
        checkpoints.save({"noise": noise + 1}, Progress(2))
        checkpoints.wait()
except InputError as error:
    print(error)
"""


def test_a_full_disk_keeps_the_previous_checkpoint(tmp_path):
    directory = tmp_path / "c"
    command = [sys.executable, "-c", FULL_DISK, str(directory)]
    output = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert "could not be saved" in output.stdout, output.stderr
    assert "complete ones: steps 1." in output.stdout
    with Checkpoints(directory) as checkpoints:
        restored, progress, _ = checkpoints.restore({"noise": np.zeros(1 << 18, np.float32)})
    assert progress == Progress(1)
    chex.assert_trees_all_equal(
        restored["noise"], np.random.default_rng(0).random((1 << 18,), np.float32)
    )
