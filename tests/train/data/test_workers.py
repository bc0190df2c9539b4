"""Threads and processes that read: the same batches, few ahead, and no process left behind."""

import contextlib
import dataclasses
import multiprocessing
import os
import resource
import signal
import subprocess
import sys
import textwrap
import time

import pytest

import train.data.workers
from flaxmobile.cores import usable_cores
from flaxmobile.errors import InputError
from tests.train.data.batches import OneColour, assert_equal, take
from train.data.examples import AugmentedImages
from train.data.pipeline import train_batches
from train.data.workers import default_workers


def test_two_workers_read_what_threads_read_and_end_when_closed(train):
    expected = take(train(), 9)
    assert_equal(take(train(workers=2, start=2), 7), expected[2:])
    assert not multiprocessing.active_children()


def test_only_a_few_batches_are_read_ahead(flowers, small):
    source = OneColour(100_000)
    dataset = dataclasses.replace(flowers, train=source)
    reader = AugmentedImages(small, dataset.augment)
    batches = train_batches(dataset, reader=reader, batch_size=4, seed=0)
    with contextlib.closing(batches):
        for _ in range(3):
            next(batches)
        time.sleep(0.5)  # enough to read all that may be read ahead
        threads = min(8, usable_cores())
        assert 12 <= source.reads <= 4 * (3 + threads)


@pytest.mark.parametrize(("cores", "workers"), [(1, 0), (2, 0), (3, 3), (16, 16), (96, 16)])
def test_few_cores_read_in_threads_and_many_in_processes(monkeypatch, cores, workers):
    monkeypatch.setattr(train.data.workers, "usable_cores", lambda: cores)
    assert default_workers() == workers


def test_an_unreadable_image_in_a_worker_stops_training_by_its_name(train, image_folder):
    (image_folder / "train/rose/007.png").write_text("this is no picture")
    with pytest.raises(InputError, match=r"flowers/train/rose/007\.png is not an image") as error:
        take(train(workers=2), 15)
    assert "\n" not in str(error.value)
    assert not multiprocessing.active_children()


def test_a_killed_worker_is_reported(train):
    batches = train(workers=1)
    with contextlib.closing(batches):
        next(batches)
        for child in multiprocessing.active_children():
            os.kill(child.pid, signal.SIGKILL)
        with pytest.raises(InputError, match=r"killed.*--workers"):
            for _ in range(20):
                next(batches)


@pytest.mark.parametrize(
    ("limit", "most", "message"),
    [
        (resource.RLIMIT_NOFILE, 8, "more than 8 open files.*--workers.*ulimit -n"),
        (resource.RLIMIT_FSIZE, 1000, "cannot share memory.*File too large.*--workers.*shm-size"),
    ],
)
def test_workers_that_lack_files_or_shared_memory_are_reported(train, limit, most, message):
    limits = resource.getrlimit(limit)
    with contextlib.closing(train(workers=1)) as batches:
        resource.setrlimit(limit, (most, limits[1]))
        try:
            with pytest.raises(InputError, match=message):
                next(batches)
        finally:
            resource.setrlimit(limit, limits)
    assert not multiprocessing.active_children()


def test_workers_leave_signals_to_the_main_process_and_end_when_it_is_killed(image_folder):
    script = """
        import multiprocessing, os, signal, sys
        from flaxmobile.preprocessing import Preprocessing
        from train.data import open_dataset
        from train.data.examples import AugmentedImages
        from train.data.pipeline import train_batches

        dataset = open_dataset("folder:" + sys.argv[1])
        reader = AugmentedImages(Preprocessing(24), dataset.augment)
        options = {"reader": reader, "batch_size": 4, "seed": 0}
        batches = train_batches(dataset, workers=1, **options)
        next(batches)
        for name in (signal.SIGINT, signal.SIGTERM):
            for child in multiprocessing.active_children():
                os.kill(child.pid, name)
        for _ in range(20):
            next(batches)
        print("alive", flush=True)
        signal.pause()
    """
    command = [sys.executable, "-c", textwrap.dedent(script), str(image_folder)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "alive\n"
        process.kill()
        # Both ends of a pipe that a worker still holds would stay open.
        _, errors = process.communicate(timeout=120)
    assert "Traceback" not in errors
