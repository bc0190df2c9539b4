"""metrics.jsonl after a crash or a fault of the disk."""

import json

import pytest

from train.checkpoints import Progress
from train.metrics import read_metrics, truncate

GOOD = [
    {"step": step, "epoch": 1, "split": split, "loss": 0.5}
    for step, split in ((1, "train"), (2, "train"), (2, "validation"), (3, "train"))
]
DAMAGED = {
    "cut": b'{"step": 2, "epo',
    "flipped": b'{"step": 2, "epoch": 1, "split": "tr\xfein", "loss": 0.5}',
    "without a step": b'{"stez": 2, "epoch": 1, "split": "train", "loss": 0.5}',
    "without numbers": b'{"step": 2, "epoch": 1, "split": "train", "loss": "0.5"}',
    "a number": b"7",
    "a list": b"[1]",
}


@pytest.mark.parametrize("line", DAMAGED.values(), ids=list(DAMAGED))
def test_a_damaged_line_is_left_out_and_counted(line, tmp_path):
    path = tmp_path / "metrics.jsonl"
    first, *rest = (json.dumps(each).encode() for each in GOOD)
    path.write_bytes(b"\n".join([first, line, *rest]))
    assert read_metrics(path) == GOOD
    assert truncate(path, Progress(2, 2)) == 1
    assert read_metrics(path) == GOOD[:3]
    assert truncate(path, Progress(2, 2)) == 0


def test_there_may_be_no_file_yet(tmp_path):
    assert truncate(tmp_path / "metrics.jsonl", Progress()) == 0
    assert read_metrics(tmp_path / "metrics.jsonl") == []
