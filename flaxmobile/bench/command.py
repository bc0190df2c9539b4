"""`flaxmobile bench`: choose networks and peers, measure and print."""

import dataclasses
import itertools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import tyro

from flaxmobile.bench.job import Job
from flaxmobile.bench.measure import Result, measure, measure_compilation
from flaxmobile.bench.picture import Point, plot
from flaxmobile.bench.report import (
    compilation_table,
    growth,
    header,
    supply,
    surroundings,
    table,
    to_json,
)
from flaxmobile.command.flags import PICTURES, check_writable, parse, reading_arguments
from flaxmobile.command.options import read_options
from flaxmobile.cores import usable_cores
from flaxmobile.errors import InputError, unknown
from flaxmobile.files import written_at_once
from flaxmobile.summary import summarize
from flaxmobile.tasks import HEADS, build, default_image_size, published_options, resolve_name

PEERS = (
    "flax", "keras", "torch", "torch-compiled", "onnxruntime", "onnx", "onnx-int8", "litert",
    "litert-int8", "openvino", "openvino-int8",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Config:
    """Measure networks side by side with their peers on this machine.

    Candidates run in turn, each in its own process, with the same weights, threads and allocator
    settings. They must compute the same numbers. Times are medians.

    Examples:
      flaxmobile bench v2 v3-large --batch-size 1 8
      flaxmobile bench v3-small --task train --plot bench.png
    """

    models: tyro.conf.Positional[tuple[str, ...]] = ("mobilenet_v2",)
    """Names or aliases of networks; `flaxmobile list` shows them. Or heads over a network: lraspp,
    deeplab_v3 or ssdlite (without suppression), --options backbone=v2."""
    task: Literal["inference", "train", "pipeline", "compile"] = "inference"
    """inference: normalization is folded. train: a step of SGD with momentum. compile: trace and
    compile that step. pipeline: read JPEG files of 500×375 as training crops, and compare
    with what a training step takes."""
    batch_size: tuple[int, ...] = (1,)
    """Images per call; several values are measured one after the other."""
    image_size: tuple[int, ...] = ()
    """Sides of the images in pixels; by default the network's own."""
    against: str = "flax,torch,onnxruntime"
    """Peers, separated by commas: flax (plain Flax layers), keras (on JAX), torch (torchvision or
    timm, eager, channels_last), torch-compiled, onnxruntime (torch's graph); our own exports onnx
    and onnx-int8 (in ONNX Runtime), openvino and openvino-int8 (the same files), litert and
    litert-int8; or none."""
    options: tuple[str, ...] = ()
    """Options of the networks, such as alpha=0.5."""
    rounds: int = 10
    """Measured calls of each candidate."""
    json: Path | None = None
    """JSON file for all figures."""
    plot: Path | None = None
    """Picture of latency against multiply-adds: .png, .pdf or .svg."""

    def check(self) -> None:
        """Raise InputError for values that are not accepted."""
        for peer in self.peers:
            if peer not in PEERS:
                raise unknown("--against", peer, (*PEERS, "none"))
        if min(self.batch_size, default=0) < 1 or self.rounds < 1:
            raise InputError("--batch-size and --rounds are at least 1")
        if self.plot is not None:
            check_writable("--plot", self.plot, PICTURES)
        if self.json is not None:
            check_writable("--json", self.json)
        for job in self.jobs("flaxmobile"):
            if job.model in HEADS and job.task != "inference":
                raise InputError(
                    f"--task is {job.task}; segmenters and detectors such as {job.model} are "
                    "measured in inference only"
                )
            least = build(job.model, **job.options).min_image_size
            if job.image_size < least:
                raise InputError(
                    f"--image-size is {job.image_size}; {job.model} needs {least} or more"
                )

    @property
    def peers(self) -> list[str]:
        """Candidates beside ours."""
        return [] if self.against == "none" else self.against.split(",")

    def jobs(self, candidate: str) -> list[Job]:
        """List the jobs of a candidate, one for each network, batch size and image size."""
        options = read_options(self.options)
        names = map(resolve_name, self.models)
        return [
            Job(
                candidate,
                self.task,
                name,
                published_options(name) | options,
                count,
                size,
                usable_cores(),
            )
            for name, count in itertools.product(names, self.batch_size)
            for size in self.image_size or (default_image_size(name),)
        ]


def main(prog: str, argv: Sequence[str]) -> None:
    """Measure and print."""
    config = parse(Config, argv, prog)
    with reading_arguments(prog):
        config.check()
    candidates = ["flaxmobile", *config.peers]
    facts = surroundings(usable_cores())
    print(header(facts))
    reports: list[dict[str, Any]] = []
    times: list[tuple[Job, float]] = []
    points: list[Point] = []
    for jobs in zip(*(config.jobs(candidate) for candidate in candidates), strict=True):
        if config.task == "compile":
            compiled = measure_compilation(jobs, config.rounds)
            print(f"\n{compilation_table(jobs[0], compiled)}", flush=True)
            reports.append(to_json(jobs[0], compiled))
            continue
        results = measure(jobs, config.rounds)
        print(f"\n{table(jobs[0], results)}", flush=True)
        reports.append(to_json(jobs[0], results))
        if config.task == "pipeline":
            step = dataclasses.replace(jobs[0], task="train")
            (taken,) = measure([step], config.rounds).values()
            print(supply(jobs[0], results["flaxmobile"], step, taken), flush=True)
        times.append((jobs[0], results["flaxmobile"].median))
        points += _points(jobs[0], results) if config.plot else []
    for name, group in itertools.groupby(times, lambda pair: pair[0].model):
        own = list(group)
        if len(own) > 1:
            print(f"\n{name}, {growth(own)}")
    if config.json is not None:
        with written_at_once(config.json) as draft:
            draft.write_text(json.dumps({**facts, "results": reports}, indent=2) + "\n")
    if config.plot is not None:
        plot(config.plot, points)


def _points(job: Job, results: Mapping[str, Result]) -> list[Point]:
    macs = summarize(build(job.model, **job.options), job.image_size).macs
    return [
        Point(job.model, name, job.batch_size, macs, result.median / job.images * 1e3)
        for name, result in results.items()
        if not result.reason
    ]
