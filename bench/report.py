"""What was measured, as a table, as JSON and as a picture."""

import os
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from bench.measure import Job, Result
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
    """One model and task: candidates by time, with how many times faster the first is."""
    unit = "image" if job.task == "inference" else "image and step"
    rows: list[tuple[str, ...] | str] = [
        ("", f"ms per {unit}", "spread", "we are faster", "first call", "temporary"),
        RULE,
    ]
    own = next(iter(results.values()))
    for name, result in results.items():
        if result.reason:
            rows.append((name, "", "", "", "", ""))
            continue
        memory = "" if result.memory is None else f"{result.memory / 2**20:.0f} MiB"
        rows.append(
            (
                name,
                f"{result.median / job.batch_size * 1e3:.2f}",
                f"±{result.spread:.0%}",
                "" if result is own else f"{result.median / own.median:.2f}×",
                f"{result.first_call:.1f} s",
                memory,
            )
        )
    title = f"{_title(job)}\n"
    missing = [f"{name}: {result.reason}" for name, result in results.items() if result.reason]
    return "\n".join([title + format_table(rows, right=range(1, 6)), *missing])


def _title(job: Job) -> str:
    options = "".join(f" {name} {value}" for name, value in job.options.items())
    size = f"{job.image_size}×{job.image_size}"
    return f"{job.model}{options}, {job.task}, batch {job.batch_size}, {size}"


def to_json(job: Job, results: Mapping[str, Result]) -> dict[str, Any]:
    """Plain values of one model and task."""
    return {
        "model": job.model,
        "options": job.options,
        "task": job.task,
        "batch_size": job.batch_size,
        "image_size": job.image_size,
        "candidates": {
            name: {"missing": result.reason}
            if result.reason
            else {
                "seconds": result.median,
                "spread": result.spread,
                "times": list(result.times),
                "first_call_seconds": result.first_call,
                "temporary_bytes": result.memory,
            }
            for name, result in results.items()
        },
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
