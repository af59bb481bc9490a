"""Measuring the contenders: each in its own process, in turn, for several rounds."""

import json
import os
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from benchmarks.lm_step.contenders import CONTENDERS
from benchmarks.lm_step.workload import Shape, Workload, prepare

THREADS = 2
WARMUP = 3  # steps that are not counted


class Measurement(NamedTuple):
    """The speed and memory of one process."""

    rate: float  # sequences per second
    peak: float  # GB of resident memory, imported libraries included


def measure_one(contender: str, workload: Workload) -> Measurement:
    """Train one contender in this process and return its speed and memory."""
    import torch

    torch.set_num_threads(workload.threads)
    ends: list[float] = []
    CONTENDERS[contender](workload, lambda: ends.append(time.perf_counter()))
    seconds = [b - a for a, b in zip(ends[WARMUP:-1], ends[WARMUP + 1 :], strict=True)]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return Measurement(workload.shape.batch / statistics.median(seconds), peak)


def measure_in_rounds(
    contenders: list[str], shape: Shape, rounds: int
) -> dict[str, list[Measurement]]:
    """Measure all contenders in turn, each in a process of its own; return a list by contender."""
    measurements: dict[str, list[Measurement]] = {name: [] for name in contenders}
    with TemporaryDirectory() as folder:
        prepare(Workload(Path(folder), shape, THREADS))
        for _ in range(rounds):
            for name in contenders:
                command = [sys.executable, "-m", "benchmarks.lm_step", "--contender", name]
                command += ["--folder", folder, "--shape", *map(str, shape)]
                environment = os.environ | {"OMP_NUM_THREADS": str(THREADS)}
                process = subprocess.run(
                    command, check=True, stdout=subprocess.PIPE, env=environment
                )
                result = Measurement(*json.loads(process.stdout.splitlines()[-1]))
                measurements[name].append(result)
                print(name, result, flush=True)
    return measurements
