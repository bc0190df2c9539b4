"""Good weights directories, and ways to spoil one."""

import hashlib
import json
import shutil

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest

from flaxmobile import Metadata, Preprocessing

OPTIONS = {"alpha": 0.35, "num_classes": 5}
METADATA = Metadata(
    Preprocessing(64, 72, (0.1, 0.2, 0.3), (0.4, 0.5, 0.6), "bicubic"),
    ("daisy", "dandelion", "rose", "sunflower", "tulip"),
    {"file": "net.pth", "sha256": "0" * 64, "licence": "BSD-3-Clause"},
    "sigmoid",
)


def bytes_of(tree):
    return jax.tree.map(lambda leaf: (leaf.dtype, leaf.shape, np.asarray(leaf).tobytes()), tree)


def files_of(directory):
    return {p.relative_to(directory): p.read_bytes() for p in directory.rglob("*") if p.is_file()}


def edit(directory, **changes):
    """Change entries of model.json; None removes one."""
    path = directory / "model.json"
    description = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({k: v for k, v in description.items() if v is not None}))


def edit_options(directory, **changes):
    options = json.loads((directory / "model.json").read_text())["options"]
    edit(directory, options={**options, **changes})


def store(directory, variables):
    """Replace the numbers by others, with matching sums: a directory that someone made wrongly."""
    shutil.rmtree(directory / "variables")
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(directory / "variables", variables)
    sums = {
        str(path): hashlib.sha256(content).hexdigest()
        for path, content in files_of(directory).items()
        if path.name != "model.json"
    }
    edit(directory, sha256=sums)


def _without_a_parameter(tree):
    del tree["params"]["stage2_block1"]["expand"]["conv"]["kernel"]


def _with_another_parameter(tree):
    tree["params"]["stem"]["conv"]["bias"] = np.zeros(16, np.float32)


def _with_another_shape(tree):
    tree["batch_stats"]["head"]["norm"]["mean"] = np.zeros((1, 1280), np.float32)


def _with_another_dtype(tree):
    classifier = tree["params"]["classifier"]
    classifier["bias"] = classifier["bias"].astype(np.int32)


def _without_statistics(tree):
    del tree["batch_stats"]


MISTAKES = pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_without_a_parameter, "params/stage2_block1/expand/conv/kernel is missing"),
        (_with_another_parameter, "params/stem/conv/bias is not a parameter of the model"),
        (
            _with_another_shape,
            r"batch_stats/head/norm/mean is float32\[1, 1280\], the model has float32\[1280\]",
        ),
        (_with_another_dtype, r"classifier/bias is int32\[5\], the model has float32\[5\]"),
        (_without_statistics, "batch_stats/head/norm/mean is missing"),
    ],
)
