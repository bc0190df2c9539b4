"""Runs in a bucket, which a stand-in for gcsfs keeps in a directory."""

import os
import shutil
import signal
from pathlib import Path

import pytest

import train.loop
import train.mirror
from flaxmobile import buckets, load_weights, registry
from flaxmobile.errors import InputError
from tests.train.command.process import FLAGS, ROOT, STEPS, lines, losses
from tests.train.tiny import SPEC
from train.__main__ import main
from train.config import Config
from train.reporting import StepLines

FAKES = ROOT / "tests" / "train" / "fakes"
URL = "gs://lake/runs/one"
INTO_BUCKET = [*FLAGS, "--steps", str(STEPS), "--output", URL]


@pytest.fixture
def lake(tmp_path, monkeypatch):
    """The directory of the bucket `lake`."""
    monkeypatch.syspath_prepend(FAKES)
    monkeypatch.setenv("BUCKETS", str(tmp_path))
    return tmp_path / "lake"


@pytest.fixture(scope="module")
def machine(tmp_path_factory):
    """What sets up another machine, with buckets of its own; its directory."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(registry.SPECS, "tiny", SPEC)
        patch.syspath_prepend(FAKES)
        patch.setenv("BUCKETS", str(tmp_path_factory.mktemp("buckets")))
        patch.chdir(tmp_path_factory.mktemp("machine"))
        yield patch


@pytest.fixture(scope="module")
def whole(machine):
    """A run that nothing interrupts, without a bucket."""
    assert main([*FLAGS, "--steps", str(STEPS), "--output", "whole"]) == 0
    return Path("whole").absolute()


@pytest.fixture(scope="module")
def stopped(machine):
    """What a run that SIGTERM has stopped after step 14 leaves in the bucket."""
    flush = StepLines.flush

    def flush_and_stop(self):
        step, _ = self.pending or (None, None)
        flush(self)
        if step == 13:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(StepLines, "flush", flush_and_stop)
        assert main([*INTO_BUCKET, "--checkpoint-every", "3"]) == 128 + signal.SIGTERM
    return Path(os.environ["BUCKETS"]) / "lake"


def test_a_run_goes_on_from_an_empty_machine(lake, stopped, whole, capsys):
    """The one before was gone while it copied its newest checkpoint."""
    shutil.copytree(stopped, lake)
    run = lake / "runs" / "one"
    begins, newest = sorted(int(path.name) for path in (run / "checkpoints").iterdir())[-2:]
    (run / "checkpoints" / str(newest) / "_CHECKPOINT_METADATA").unlink()
    (run / "checkpoints" / str(newest) / "state" / "manifest.ocdbt").unlink()
    assert main(["--resume", "--output", URL]) == 0
    said = capsys.readouterr().out
    assert f"continues after step {begins} of {STEPS} steps" in said
    assert f"into {URL}" in said
    assert losses(run) == losses(whole)
    assert [line["step"] for line in lines(run)] == [*range(1, STEPS + 1)]
    assert contents(run) == contents(Path("runs/lake/runs/one"))


def contents(directory):
    """File -> what is in it."""
    paths = [path for path in directory.rglob("*") if path.is_file()]
    return {str(path.relative_to(directory)): path.read_bytes() for path in paths}


def test_a_bucket_that_fails_loses_nothing(lake, whole, monkeypatch, capsys):
    monkeypatch.setattr(train.mirror, "SECONDS", 0.05)
    down = lake.with_name("down")

    def make_output_and_fail(*arguments):
        down.touch()
        return make_output(*arguments)

    make_output = train.loop.make_output
    monkeypatch.setattr(train.loop, "make_output", make_output_and_fail)
    assert main(INTO_BUCKET) == 1
    said = capsys.readouterr()
    assert said.out.count(f"{URL} could not be written (503 Service Unavailable)") == 1
    assert (
        f"{URL} could not be written (503 Service Unavailable): the run is in runs/lake/"
        in (said.err.strip().splitlines()[-1])
    )
    with pytest.raises(SystemExit, match="2"):
        main([*INTO_BUCKET, "--resume"])
    assert f"{URL} cannot be read: 503 Service Unavailable" in capsys.readouterr().err
    down.unlink()
    assert main(INTO_BUCKET) == 1
    assert "holds a run that is not in gs://lake/runs/one: add --resume" in capsys.readouterr().err
    assert main([*INTO_BUCKET, "--resume"]) == 0
    assert losses(lake / "runs" / "one") == losses(whole)
    assert contents(lake / "runs" / "one") == contents(Path("runs/lake/runs/one"))


def test_the_second_to_write_a_run_is_its_owner(lake, stopped, monkeypatch):
    shutil.copytree(stopped, lake)

    def leave(message):
        raise SystemExit(message)

    monkeypatch.setattr(train.mirror, "leave", leave)
    settings = Config(output=URL, resume=True)
    _, first = train.mirror.open_mirror(settings)
    first.claim()
    first.finish()
    _, second = train.mirror.open_mirror(settings)
    second.claim()
    before = contents(lake)
    with pytest.raises(SystemExit, match="another process has begun to write gs://lake/runs/one"):
        first.finish()
    second.finish()
    assert contents(lake) == before


def test_another_run_in_the_local_directory_is_left_alone(lake, stopped):
    shutil.copytree(stopped, lake)
    other = Path("runs/lake/runs/one")
    other.mkdir(parents=True)
    (other / "config.json").write_text("{}")
    with pytest.raises(InputError, match="holds another run than gs://lake/runs/one: move it"):
        train.mirror.open_mirror(Config(output=URL, resume=True))
    assert [path.name for path in other.iterdir()] == ["config.json"]


def test_a_run_that_exists_is_not_overwritten(lake, stopped, capsys):
    shutil.copytree(stopped, lake)
    assert main(INTO_BUCKET) == 1
    assert f"{URL} exists already: add --resume to continue that run" in capsys.readouterr().err
    assert not Path("runs").exists()
    assert contents(lake) == contents(stopped)


def test_weights_are_read_from_a_bucket(lake, stopped, capsys):
    shutil.copytree(stopped, lake)
    (lake / "runs/one/best/variables/d/new").write_text("what a copy that goes on leaves there")
    model, _ = load_weights(f"{URL}/best")
    assert model.num_classes == 10
    assert main(["--eval-only", "--output", URL]) == 0
    assert "test (360 images): accuracy" in capsys.readouterr().out
    assert not Path("runs").exists()
    with pytest.raises(InputError, match="there is nothing in gs://lake/none"):
        load_weights("gs://lake/none")


@pytest.mark.parametrize("url", ["gs://lake", "gs://", "gs:///run", "s3://lake/run", "http://a/b"])
def test_other_urls_are_refused(url):
    with pytest.raises(InputError, match="accepted: gs://BUCKET/DIRECTORY"):
        buckets.check_url(url)


def test_a_missing_package_is_one_line(monkeypatch, capsys):
    monkeypatch.setattr(buckets.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SystemExit, match="2"):
        main(INTO_BUCKET)
    error = capsys.readouterr().err.strip()
    assert len(error.splitlines()) == 1
    assert f"{URL} needs gcsfs: pip install" in error
    assert "[gcs]'" in error
    assert not list(Path().iterdir())
