"""Run folders: what a run leaves behind, and what can be told about it from outside."""

import json
import os
import platform
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, Literal, cast

from omegaconf import OmegaConf

from suite.config.fields import ConfigError
from suite.config.loading import load
from suite.config.schema import Config
from suite.runs.lease import Lease, hold, is_leased
from suite.system.files import read_json, read_json_lines, write_json, write_text
from suite.system.job import own_job

State = Literal["queued", "running", "interrupted", "failed", "finished"]
PACKAGES = (
    *("torch", "lightning", "transformers", "omegaconf", "numpy"),
    *("torchrl", "dm_control", "mujoco", "gymnasium"),  # of the extra `control`
)


def check_writable(results_dir: Path) -> None:
    """Make the folder of all results; raises ConfigError where that is not allowed."""
    try:
        results_dir.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=results_dir):
            pass
    except OSError as error:
        raise ConfigError(
            f"results_dir={results_dir} cannot be written: {error.strerror}"
        ) from None


class RunFolder:
    """One run on disk.

    config.yaml       the resolved configuration; loading it repeats the run
    environment.json  versions, machine and git commit
    metrics.jsonl     one row per logged step; holds nothing that depends on the clock
    examples.json     what the policy did at the last evaluation, where that can be shown
    progress.json     where the run stands, for whoever watches
    attempts.jsonl    when, where and from which step it was begun or gone on with
    log.txt           what it said, and what went wrong
    checkpoints/      last.ckpt and previous.ckpt
    summary.json      how it ended: status, score, wall time; absent until then
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.metrics_path = path / "metrics.jsonl"
        self.attempts_path = path / "attempts.jsonl"
        self.log_path = path / "log.txt"
        self.checkpoints = path / "checkpoints"
        self.held: Lease | None = None

    @property
    def results_dir(self) -> Path:
        """The folder of all results, which also holds what runs share."""
        return self.path.resolve().parents[2]

    @classmethod
    def of(cls, config: Config) -> "RunFolder":
        """Return the folder of a configuration, which need not exist yet."""
        return cls(Path(config.results_dir) / config.sweep / "runs" / config.run_name)

    def create(self, config: Config) -> None:
        """Make the folder and save the resolved configuration."""
        self.path.mkdir(parents=True, exist_ok=True)
        write_text(self.path / "config.yaml", OmegaConf.to_yaml(OmegaConf.create(asdict(config))))

    def begin(self) -> None:
        """Prepare the folder for a first or a further attempt."""
        self.checkpoints.mkdir(exist_ok=True)
        for folder in (self.path, self.checkpoints):
            for leftover in folder.glob(".*.*"):  # of writes that a kill cut short
                leftover.unlink(missing_ok=True)
        (self.path / "summary.json").unlink(missing_ok=True)
        write_json(self.path / "environment.json", environment())

    def note(self, what: str, step: int) -> None:
        """Add to the story of the attempts what happened at which step."""
        with self.attempts_path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"what": what, "step": step, **who()}) + "\n")

    def notes(self) -> list[tuple[str, int]]:
        """Return what was noted."""
        return [(row["what"], row["step"]) for row in read_json_lines(self.attempts_path)[0]]

    def attempts(self) -> list[dict[str, Any]]:
        """Return when, where and from which step each attempt began."""
        rows = read_json_lines(self.attempts_path)[0]
        return [row for row in rows if row["what"] == "began"]

    def config(self) -> Config:
        """Load the configuration; raises ConfigError."""
        return load(self.path / "config.yaml")

    @contextmanager
    def lease(self) -> Iterator[None]:
        """Hold the run for this process; free when the process dies.

        Raises LeaseHeld where another living process holds it.
        """
        with hold(self.path) as self.held:
            yield

    def check_lease(self) -> None:
        """Raise LeaseHeld where the run was taken over while this process seemed dead."""
        if self.held is not None:
            self.held.check()

    def state(self) -> State:
        """Tell the run's state from its files and its lock."""
        status = (self.summary() or {}).get("status")
        if status in ("finished", "failed"):
            return cast(State, status)
        if not (self.path / "progress.json").exists():
            return "queued"
        return "running" if is_leased(self.path) else "interrupted"

    def summary(self) -> dict[str, Any] | None:
        """Return how the run ended, if it did."""
        return read_json(self.path / "summary.json")

    def finish(self, status: Literal["finished", "failed"], error: str | None) -> dict[str, Any]:
        """Write how the run ended, and return it; scores come from the metrics."""
        evaluations = [row for row in self.metrics() if "eval/score" in row]
        first, last = (evaluations[0], evaluations[-1]) if evaluations else ({}, {})
        summary = {
            "status": status,
            "score": last.get("eval/score"),
            "start_score": first.get("eval/score"),
            "kl": last.get("eval/kl"),
            "step": last.get("step", 0),
            "seconds": self.progress().get("seconds"),
            "error": error,
        }
        write_json(self.path / "summary.json", summary)
        return summary

    def progress(self) -> dict[str, Any]:
        """Return where the run stands; empty before it started."""
        return read_json(self.path / "progress.json") or {}

    def report_progress(self, **facts: Any) -> None:
        """Say where the run stands, to whoever watches."""
        write_json(self.path / "progress.json", facts | who())

    def metrics(self) -> list[dict[str, Any]]:
        """Return all whole rows of metrics."""
        return read_json_lines(self.metrics_path)[0]

    def log(self, step: int, row: dict[str, float]) -> None:
        """Append one row of metrics."""
        self.check_lease()
        with self.metrics_path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, **row}) + "\n")

    def show(self, step: int, rows: list[dict[str, Any]]) -> None:
        """Keep the newest examples, such as completions."""
        write_json(self.path / "examples.json", {"step": step, "rows": rows})

    def examples(self) -> list[dict[str, Any]]:
        """Return the newest examples."""
        found: list[dict[str, Any]] = (read_json(self.path / "examples.json") or {}).get("rows", [])
        return found

    def rewind(self, step: int | None) -> int:
        """Drop rows after `step` (all rows for None) and broken lines; return how many."""
        rows, broken = read_json_lines(self.metrics_path)
        kept = [] if step is None else [row for row in rows if row["step"] <= step]
        text = "".join(f"{json.dumps(row)}\n" for row in kept)
        write_text(self.metrics_path, text)
        return len(rows) - len(kept) + broken


def who() -> dict[str, Any]:
    """Describe this process and the time."""
    job = os.environ.get("SUBMITIT_LOCAL_JOB_ID") or own_job()
    return {"pid": os.getpid(), "host": platform.node(), "job": job, "updated": time.time()}


def environment() -> dict[str, Any]:
    """Describe what a run was made with: versions, machine, git commit."""
    return {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "cpus": os.cpu_count(),
        "packages": {name: found for name in PACKAGES if (found := installed(name)) is not None},
        "git": git_commit(),
    }


def installed(package: str) -> str | None:
    """Return a package's version, or None without it."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def git_commit() -> str | None:
    """Return the commit of this source tree, with `+changes` where files differ from it.

    Results and README do not count: `suite claims` writes them between one run and the next.
    """
    git = ["git", "-C", str(Path(__file__).parents[2])]
    others = [".", ":(exclude)results", ":(exclude)README.md"]
    try:
        found, changed = (
            subprocess.run([*git, *command], capture_output=True, text=True, check=True, timeout=10)
            for command in (
                ["rev-parse", "--short=12", "HEAD"],
                ["status", "--porcelain", "--untracked-files=no", "--", *others],
            )
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return found.stdout.strip() + ("+changes" if changed.stdout.strip() else "")
