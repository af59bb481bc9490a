"""Seconds of three commands: help, expanding a large sweep, the status of a large folder."""

import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from benchmarks.timing import timed
from suite.sweeps.spec import load_sweep

POINTS, ROUNDS = 10_000, 5


def measure() -> dict[str, float]:
    """Return the median seconds of each command."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sweep, runs = folder / "large.yaml", folder / "large/runs"
        base = Path("configs/lm/arithmetic.yaml").resolve()
        axes = {"seed": list(range(POINTS // 4)), "objective.beta": [0.5, 1, 1.5, 2]}
        sweep.write_text(json.dumps({"config": str(base), "grids": {"all": axes}}))
        for run in load_sweep(sweep).points:
            (runs / run).mkdir(parents=True)
            (runs / run / "summary.json").write_text('{"status": "finished", "score": 0.5}')
            (runs / run / "progress.json").write_text('{"step": 900, "steps": 900}')
        command = [sys.executable, "-m", "suite"]
        status = [*command, "status", "large", f"results_dir={folder}"]
        return {
            "suite --help": median(lambda: call([*command, "--help"])),
            f"expand and sign {POINTS:,} points": median(lambda: load_sweep(sweep)),
            f"suite status on {POINTS:,} run folders": median(lambda: call(status)),
        }


def median(function: Callable[[], object]) -> float:
    """Return the median seconds of some calls."""
    return statistics.median(timed(function) for _ in range(ROUNDS))


def call(command: list[str]) -> None:
    """Run a command without showing its output."""
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
