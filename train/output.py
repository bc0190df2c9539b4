"""The directory of a run (docs/guides/train.md lists its files)."""

import datetime
import errno
import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import jax

from flaxmobile.errors import InputError, first_line
from flaxmobile.files import written_at_once
from flaxmobile.versions import installed_versions
from train.config import Config
from train.data.identity import changes, identify
from train.setup import Run

_LIBRARIES = ("flaxmobile", "jax", "flax", "optax", "orbax-checkpoint", "grain", "numpy")


def check_output(run: Run) -> tuple[Path, bool]:
    """Return the directory of the run, and whether a run in it is continued.

    Raises:
      InputError: the directory exists without --resume, is not that of a run, or its classes are
        not those of the data, or --dataset leads to other images.
    """
    output = Path(run.config.output) if run.config.output else _default_output(run.config)
    if not (run.config.output and output.exists()):
        return output, False
    if not run.config.resume:
        raise InputError(
            f"{output} exists already: add --resume to continue that run, or choose another "
            "--output"
        )
    _check_classes(run, output)
    changed = data_changes(run, output)
    if changed and run.config.dataset != _read_json(output / "config.json")["settings"]["dataset"]:
        raise InputError(
            f"{run.config.dataset} holds other images than the run in {output} began with "
            f"({'; '.join(changed)}): give the folder that holds those, or start another run"
        )
    return output, True


def data_changes(run: Run, output: Path) -> list[str]:
    """Say how the data differs from that with which the run in `output` began."""
    before = _read_json(output / "config.json").get("data")
    return changes(before, identify(run.dataset)) if before else []


def make_output(run: Run, output: Path) -> Path:
    """Make the directory of a new run, with config.json and class_indices.json in it.

    Returns:
      The directory: another one than `output` if that was not asked for and is taken meanwhile.

    Raises:
      InputError: another process has made it meanwhile.
    """
    output.parent.mkdir(parents=True, exist_ok=True)
    names = {str(index): name for index, name in enumerate(run.dataset.class_names)}
    for number in count(2):
        try:
            with written_at_once(output, new=True) as draft:
                draft.mkdir()
                _write_json(draft / "config.json", _record(run))
                _write_json(draft / "class_indices.json", names)
            return output
        except OSError as error:
            if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
                raise
        if run.config.output:
            raise InputError(f"another process has just begun a run in {output}: choose another")
        output = output.with_name(f"{_default_output(run.config).name}-{number}")
    raise AssertionError


def update_output(run: Run, output: Path) -> None:
    """Record the settings of a run that is continued: its length may be new."""
    path = output / "config.json"
    before = _read_json(path)
    record = {**before, **_record(run), "data": before.get("data")}
    with written_at_once(path) as draft:
        _write_json(draft, record)


@contextmanager
def owning(output: Path) -> Iterator[None]:
    """Keep other processes out of the directory of a run; the lock ends with the process.

    Raises:
      InputError: another process trains in it.
    """
    directory = os.open(output, os.O_RDONLY)
    try:
        fcntl.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(directory)
        raise InputError(
            f"another process trains in {output}: wait for its end, or choose another --output"
        ) from None
    except OSError:
        pass  # this file system has no locks
    try:
        yield
    finally:
        os.close(directory)


def _record(run: Run) -> dict[str, Any]:
    return {
        "settings": run.config.to_json(),
        "image_size": run.preprocessing.side,
        "preprocessing": run.preprocessing.to_json(),
        "model_options": run.options,
        "steps_per_epoch": run.steps_per_epoch,
        "total_steps": run.total_steps,
        "data": identify(run.dataset),
        "devices": [device.device_kind for device in jax.devices()],
        "versions": installed_versions(_LIBRARIES),
    }


def _default_output(config: Config) -> Path:
    """Return runs/<model>-<dataset>-<time>."""
    dataset = (
        config.dataset.removeprefix("folder:").removeprefix("idx:").rstrip("/").rpartition("/")[2]
    )
    time = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
    return Path("runs") / f"{config.model}-{dataset.replace(':', '-')}-{time}"


def _check_classes(run: Run, output: Path) -> None:
    path = output / "class_indices.json"
    if not (output / "config.json").is_file() or not path.is_file():
        raise InputError(f"{output} is not the directory of a run: it has no config.json")
    names = tuple(map(str, _read_json(path).values()))
    if names != run.dataset.class_names:
        raise InputError(
            f"the run in {output} has {len(names)} classes ({', '.join(names[:5])}, …), "
            f"{run.config.dataset} has {len(run.dataset.class_names)} "
            f"({', '.join(run.dataset.class_names[:5])}, …)"
        )


def _read_json(path: Path) -> dict[str, Any]:
    try:
        values: dict[str, Any] = json.loads(path.read_text())
        values.items()
    except (ValueError, AttributeError) as error:
        raise InputError(f"{path} is damaged: {first_line(error)}") from None
    return values


def _write_json(path: Path, values: object) -> None:
    path.write_text(json.dumps(values, indent=2) + "\n")
