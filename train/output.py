"""The directory of a run (see README, "On disk")."""

import datetime
import json
from pathlib import Path
from typing import Any

import jax

from flaxmobile.errors import InputError
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
    if not output.exists():
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


def make_output(run: Run, output: Path) -> None:
    """Make the directory of a new run, with config.json and class_indices.json in it."""
    output.parent.mkdir(parents=True, exist_ok=True)
    settings = {
        "settings": run.config.to_json(),
        "image_size": run.preprocessing.image_size,
        "model_options": run.options,
        "steps_per_epoch": run.steps_per_epoch,
        "total_steps": run.total_steps,
        "data": identify(run.dataset),
        "devices": [device.device_kind for device in jax.devices()],
        "versions": installed_versions(_LIBRARIES),
    }
    names = {str(index): name for index, name in enumerate(run.dataset.class_names)}
    with written_at_once(output) as draft:
        draft.mkdir()
        _write_json(draft / "config.json", settings)
        _write_json(draft / "class_indices.json", names)


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
    names = tuple(_read_json(path).values())
    if names != run.dataset.class_names:
        raise InputError(
            f"the run in {output} has {len(names)} classes ({', '.join(names[:5])}, …), "
            f"{run.config.dataset} has {len(run.dataset.class_names)} "
            f"({', '.join(run.dataset.class_names[:5])}, …)"
        )


def _read_json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text())


def _write_json(path: Path, values: object) -> None:
    path.write_text(json.dumps(values, indent=2) + "\n")
