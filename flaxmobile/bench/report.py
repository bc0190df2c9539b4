"""Measurements as a table and as JSON."""

import os
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from flaxmobile.bench.job import Job
from flaxmobile.bench.measure import Compilation, Result
from flaxmobile.table import RULE, format_table
from flaxmobile.versions import installed_versions

_PACKAGES = (
    "jax",
    "jaxlib",
    "flax",
    "torch",
    "torchvision",
    "timm",
    "onnxruntime",
    "openvino",
    "keras",
)


def surroundings(threads: int) -> dict[str, Any]:
    """Collect versions, processor and threads."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": threads,
        "python": platform.python_version(),
        "versions": installed_versions(_PACKAGES),
    }


def _processor() -> str:
    """Return the processor's name, where Linux tells it."""
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def header(facts: Mapping[str, Any]) -> str:
    """Describe the machine in two lines."""
    versions = ", ".join(f"{name} {number}" for name, number in facts["versions"].items())
    return (
        f"{facts['processor']}, {facts['threads']} of {facts['cores']} cores, "
        f"Python {facts['python']}\n{versions}"
    )


def table(job: Job, results: Mapping[str, Result]) -> str:
    """Lay out one model and task: times, and how many times faster the first candidate is."""
    rows: list[tuple[str, ...] | str] = [
        ("", "ms per image", "spread", "speed-up", "compile", "temporary", "file"),
        RULE,
    ]
    own = next(iter(results.values()))
    for name, result in results.items():
        if not result.reason:
            rows.append(
                (
                    name,
                    f"{result.median / job.images * 1e3:.2f}",
                    f"±{result.spread:.0%}",
                    "" if result is own else f"{result.median / own.median:.2f}×",
                    f"{result.preparation:.1f} s" if result.preparation >= 0.05 else "",
                    _mebibytes(result.memory),
                    _mebibytes(result.file_size),
                )
            )
    on_device = "" if own.device == "cpu" else f", on one {own.device}"
    return _titled(_title(job) + on_device, rows, results)


def compilation_table(job: Job, results: Mapping[str, Compilation]) -> str:
    """Lay out one model: seconds of each candidate, and ours as a share of its first process."""
    rows: list[tuple[str, ...] | str] = [
        ("", "first process", "our share", "second process", "our share of first", "temporary"),
        RULE,
    ]
    own = next(iter(results.values()))
    for name, result in results.items():
        if not result.reason:
            first, second = np.median(result.first), np.median(result.second)
            shares = [f"{np.median(ours) / first:.2f}" for ours in (own.first, own.second)]
            first_share, second_share = ("", "") if result is own else shares
            memory = _mebibytes(result.memory)
            rows.append(
                (name, f"{first:.1f} s", first_share, f"{second:.1f} s", second_share, memory)
            )
    return _titled(_title(job), rows, results)


def _mebibytes(count: int | None) -> str:
    return "" if count is None else f"{count / 2**20:.0f} MiB"


def _titled(
    title: str, rows: Sequence[tuple[str, ...] | str], results: Mapping[str, Result | Compilation]
) -> str:
    missing = [f"{name}: {result.reason}" for name, result in results.items() if result.reason]
    return "\n".join([title, format_table(rows, right=range(1, 6)), *missing])


def supply(read: Job, reader: Result, step: Job, taken: Result) -> str:
    """Compare in one line the images that are read with those that a training step takes.

    Args:
      read: the job of the input pipeline.
      reader: its measurements.
      step: the job of a training step.
      taken: its measurements.
    """
    given = read.images / reader.median
    needed = step.images / taken.median
    per_core = given / read.threads
    return (
        f"images per second: read {given:,.0f} ({per_core:,.0f} per core), taken by a training "
        f"step on {taken.device} {needed:,.0f}: {needed / per_core:.1f} cores keep up"
    )


def growth(times: Sequence[tuple[Job, float]]) -> str:
    """Describe in one line how the time per image and pixel grows over batches and sizes.

    Args:
      times: seconds of our calls, of one network.
    """
    each = [seconds / job.images / job.image_size**2 for job, seconds in times]
    worst, _ = times[each.index(max(each))]
    return (
        f"time per image and pixel: at most {max(each) / min(each):.2f} times its smallest "
        f"(at batch {worst.batch_size}, {worst.image_size}×{worst.image_size})"
    )


def _title(job: Job) -> str:
    options = "".join(f" {name} {value}" for name, value in job.options.items())
    size = f"{job.image_size}×{job.image_size}"
    return f"{job.model}{options}, {job.task}, batch {job.batch_size}, {size}"


def to_json(job: Job, results: Mapping[str, Result | Compilation]) -> dict[str, Any]:
    """Return one model and task as plain values."""
    return {
        "model": job.model,
        "options": job.options,
        "task": job.task,
        "batch_size": job.batch_size,
        "image_size": job.image_size,
        "candidates": {name: _values(result) for name, result in results.items()},
    }


def _values(result: Result | Compilation) -> dict[str, Any]:
    if result.reason:
        return {"missing": result.reason}
    if isinstance(result, Compilation):
        return {
            "first_process_seconds": result.first,
            "second_process_seconds": result.second,
            "temporary_bytes": result.memory,
        }
    return {
        "device": result.device,
        "seconds": result.median,
        "spread": result.spread,
        "times": list(result.times),
        "compile_seconds": result.preparation,
        "temporary_bytes": result.memory,
        "file_bytes": result.file_size,
    }
