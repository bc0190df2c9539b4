"""What was measured, as a table, as JSON and as a picture."""

import os
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from bench.measure import Compilation, Job, Result
from flaxmobile.table import RULE, format_table

_PACKAGES = ("jax", "jaxlib", "flax", "torch", "torchvision", "timm", "onnxruntime", "keras")


def surroundings(threads: int) -> dict[str, Any]:
    """Versions, processor and threads."""
    versions = {}
    for name in _PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": threads,
        "python": platform.python_version(),
        "versions": versions,
    }


def _processor() -> str:
    """The processor's name where Linux tells it."""
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def header(facts: Mapping[str, Any]) -> str:
    """One paragraph about the machine."""
    versions = ", ".join(f"{name} {number}" for name, number in facts["versions"].items())
    return (
        f"{facts['processor']}, {facts['threads']} of {facts['cores']} cores, "
        f"Python {facts['python']}\n{versions}"
    )


def table(job: Job, results: Mapping[str, Result]) -> str:
    """One model and task: candidates with times, and how many times faster the first is."""
    rows: list[tuple[str, ...] | str] = [
        ("", "ms per image", "spread", "we are faster", "compile", "temporary"),
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
                )
            )
    return _titled(job, rows, results)


def compilation_table(job: Job, results: Mapping[str, Compilation]) -> str:
    """One model: seconds of each candidate, and ours as a share of its first process."""
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
    return _titled(job, rows, results)


def _mebibytes(count: int | None) -> str:
    return "" if count is None else f"{count / 2**20:.0f} MiB"


def _titled(
    job: Job, rows: Sequence[tuple[str, ...] | str], results: Mapping[str, Result | Compilation]
) -> str:
    missing = [f"{name}: {result.reason}" for name, result in results.items() if result.reason]
    return "\n".join([_title(job), format_table(rows, right=range(1, 6)), *missing])


def growth(times: Sequence[tuple[Job, float]]) -> str:
    """One line: how far the time of an image and pixel grows over batches and sizes.

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
    """Plain values of one model and task."""
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
        "seconds": result.median,
        "spread": result.spread,
        "times": list(result.times),
        "compile_seconds": result.preparation,
        "temporary_bytes": result.memory,
    }


def plot(path: Path, points: Sequence[tuple[str, int, float]]) -> None:
    """Latency against multiply-adds: why is a network with fewer of them not faster?

    Args:
      path: PNG file to write.
      points: name, multiply-adds and milliseconds per image of each network.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    for name, macs, milliseconds in points:
        axes.scatter(macs / 1e6, milliseconds, color="tab:blue")
        axes.annotate(name, (macs / 1e6, milliseconds), (4, 4), textcoords="offset points")
    axes.set(
        xscale="log",
        yscale="log",
        xlabel="multiply-adds per image (millions)",
        ylabel="milliseconds per image",
    )
    axes.grid(which="both", alpha=0.3)
    figure.savefig(path, dpi=150)
