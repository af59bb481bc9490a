"""Run folders: the files of a run, and the run's state as these files show it."""

import json
import os
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, Literal, cast

from omegaconf import OmegaConf

from suite.config.fields import ConfigError
from suite.config.loading import load
from suite.config.schema import Config
from suite.runs.environment import environment
from suite.runs.lease import Lease, hold, is_leased
from suite.runs.metrics import MetricsFile
from suite.system.files import (
    append_line,
    read_json,
    read_json_lines,
    remove,
    sync,
    temporary_path,
    write_json,
    write_text,
)
from suite.system.job import current_job
from suite.system.json_text import with_numbers

DIGESTS = "policy.sha256"
# Written under temporary names; a kill may leave these.
ATOMIC_FILES = (
    *("environment.json", "examples.json", "progress.json", "summary.json"),
    *("policy", DIGESTS, "checkpoints/next.ckpt"),
)
State = Literal["queued", "running", "interrupted", "failed", "finished"]


def check_writable(results_dir: Path) -> None:
    """Make the folder of all results; raises ConfigError where it cannot be written."""
    try:
        make_folder(results_dir)
        with TemporaryFile(dir=results_dir):
            pass
    except OSError as error:
        raise ConfigError(
            f"results_dir={results_dir} cannot be written: {error.strerror}"
        ) from None


def make_folder(path: Path) -> None:
    """Make a folder where there is none; raises ConfigError where something else is in the way."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        for part in (path, *path.parents):
            if part.is_symlink() and not part.exists():
                target = os.readlink(part)
                raise ConfigError(f"{part}: is a link to {target}, which is not there") from None
            if part.exists() and not part.is_dir():
                raise ConfigError(f"{part}: is a file, expected a folder") from None
        raise


class RunFolder:
    """One run on disk.

    config.yaml       the resolved configuration; loading it repeats the run
    environment.json  when the run first began, versions, machine, git commit, digests of its inputs
    metrics.jsonl     one row per logged step; holds nothing that depends on the clock
    examples.json     samples of the policy at the last evaluation, such as completions
    progress.json     step, rate and score of the process that works on the run
    attempts.jsonl    time, host, first step, commit and versions of each start and continuation
    log.txt           log messages and tracebacks of all attempts
    checkpoints/      last.ckpt and previous.ckpt
    policy/           the trained policy
    policy.sha256     digests of its files, as sha256sum writes and checks them
    summary.json      status, score and wall time at the end; absent until then
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.metrics_path = path / "metrics.jsonl"
        self.metrics_file = MetricsFile(self.metrics_path)
        self.attempts_path = path / "attempts.jsonl"
        self.log_path = path / "log.txt"
        self.checkpoints = path / "checkpoints"
        self.current_lease: Lease | None = None

    @property
    def results_dir(self) -> Path:
        """The folder of all results, which also holds what runs share."""
        return self.path.absolute().parents[2]  # not of what a link in it points to

    @classmethod
    def of(cls, config: Config) -> "RunFolder":
        """Return the run folder of a configuration; the folder need not exist."""
        return cls(Path(config.results_dir) / config.sweep / "runs" / config.run_name)

    def create(self, config: Config) -> None:
        """Make the folder and save the resolved configuration."""
        make_folder(self.path)
        write_text(self.path / "config.yaml", OmegaConf.to_yaml(OmegaConf.create(asdict(config))))

    def begin(self, inputs: dict[str, str | None] | None = None) -> None:
        """Prepare the folder for a first or a further attempt; `inputs` are digests to record."""
        self.checkpoints.mkdir(exist_ok=True)
        for name in ATOMIC_FILES:
            remove(temporary_path(self.path / name))  # left by a write that a kill interrupted
        remove(self.path / "summary.json")
        started = self.started().isoformat(timespec="seconds")
        facts = {"started": started, **environment(), "inputs": inputs or {}}
        write_json(self.path / "environment.json", facts, durable=True)
        if (self.path / "config.yaml").exists():
            sync(self.path / "config.yaml")
        for folder in (self.path, *self.path.resolve().parents[:3]):  # up to results_dir
            sync(folder)

    def environment(self) -> dict[str, Any]:
        """Return the contents of environment.json; empty before the run began."""
        return read_json(self.path / "environment.json") or {}

    def started(self) -> datetime:
        """Return when the run first began, with its UTC offset: what depends on a date reads it.

        Runs of earlier versions have only the time of their first attempt; a new run begins now.
        """
        text = self.environment().get("started")
        with suppress(ValueError):
            if (moment := datetime.fromisoformat(str(text))).tzinfo is not None:
                return moment
        attempts = self.attempts()
        with suppress(LookupError, TypeError, ValueError, OverflowError, OSError):
            return datetime.fromtimestamp(attempts[0]["updated"]).astimezone()
        return datetime.now().astimezone()

    def record_event(self, event: str, step: int, **facts: Any) -> None:
        """Append an event such as `began`, with its step and facts, to attempts.jsonl."""
        row = {"what": event, "step": step, **this_process(), **facts}
        append_line(self.attempts_path, json.dumps(row))

    def event_rows(self, event: str) -> list[dict[str, Any]]:
        """Return the rows of attempts.jsonl that tell of an event."""
        rows = read_json_lines(self.attempts_path)[0]
        return [row for row in rows if is_event(row) and row["what"] == event]

    def events(self) -> list[tuple[str, int]]:
        """Return the events of all attempts, each with its step."""
        rows = read_json_lines(self.attempts_path)[0]
        return [(row["what"], row["step"]) for row in rows if is_event(row)]

    def attempts(self) -> list[dict[str, Any]]:
        """Return the rows of attempts.jsonl that say when, where and at which step one began."""
        return self.event_rows("began")

    def config(self) -> Config:
        """Load the configuration; raises ConfigError."""
        return load(self.path / "config.yaml")

    @contextmanager
    def lease(self) -> Iterator[None]:
        """Hold the run's lease during the block; raises LeaseHeld where another process has it."""
        with hold(self.path) as self.current_lease:
            yield

    def check_lease(self) -> None:
        """Raise LeaseLost where another process took the run over while this one seemed dead."""
        if self.current_lease is not None:
            self.current_lease.check()

    def state(self) -> State:
        """Return the run's state, from its files and its lease."""
        status = (self.summary() or {}).get("status")
        if status in ("finished", "failed"):
            return cast(State, status)
        if not (self.path / "progress.json").exists():
            return "queued"
        return "running" if is_leased(self.path) else "interrupted"

    def summary(self) -> dict[str, Any] | None:
        """Return the contents of summary.json; None before the run has ended."""
        summary = read_json(self.path / "summary.json")
        return None if summary is None else with_numbers(summary)

    def finish(self, status: Literal["finished", "failed"], error: str | None) -> dict[str, Any]:
        """Write and return the summary, whose scores are those of the first and last evaluation."""
        facts = {"seconds": self.progress().get("seconds"), "error": error}
        summary = {"status": status, **self.outcome(), **facts}
        self.metrics_file.mark()  # on the disk before the summary
        write_json(self.path / "summary.json", summary, durable=True)
        return summary

    def outcome(self) -> dict[str, Any]:
        """Return the numbers of the summary that follow from the metrics."""
        evaluations = [row for row in self.metrics() if "eval/score" in row]
        first, last = (evaluations[0], evaluations[-1]) if evaluations else ({}, {})
        return {
            "score": last.get("eval/score"),
            "start_score": first.get("eval/score"),
            "kl": last.get("eval/kl"),
            "step": last.get("step", 0),
        }

    def progress(self) -> dict[str, Any]:
        """Return the contents of progress.json; empty before the run began."""
        return with_numbers(read_json(self.path / "progress.json") or {})

    def report_progress(self, **facts: Any) -> None:
        """Write progress.json, with this process and the time added."""
        write_json(self.path / "progress.json", facts | this_process())

    def metrics(self) -> list[dict[str, Any]]:
        """Return all rows of metrics up to the first broken one."""
        return self.metrics_file.rows()

    def log_metrics(self, step: int, row: dict[str, float]) -> None:
        """Append a row of metrics; raises LeaseLost."""
        self.check_lease()
        self.metrics_file.append({"step": step, **row})

    def write_examples(self, step: int, rows: list[dict[str, Any]]) -> None:
        """Write the newest examples, such as completions, in place of older ones."""
        write_json(self.path / "examples.json", {"step": step, "rows": rows})

    def examples(self) -> list[dict[str, Any]]:
        """Return the newest examples."""
        rows: list[dict[str, Any]] = (read_json(self.path / "examples.json") or {}).get("rows", [])
        return rows


def is_event(row: dict[str, Any]) -> bool:
    """Return whether a row of attempts.jsonl tells of an event."""
    return isinstance(row.get("what"), str) and isinstance(row.get("step"), int)


def this_process() -> dict[str, Any]:
    """Describe this process: its id, host, job and the time."""
    job = os.environ.get("SUBMITIT_LOCAL_JOB_ID") or current_job()
    return {"pid": os.getpid(), "host": platform.node(), "job": job, "updated": time.time()}
