"""Faults at each write of a launcher: the same command ends with the same records."""

import errno
import json
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from suite.config.fields import ConfigError
from suite.runs.folder import RunFolder
from suite.sweeps import local
from suite.sweeps.spec import Sweep, load_sweep
from tests.conftest import ROOT

WRITES = ("os.rename", "os.remove", "os.mkdir", "os.truncate")
SIGNALS = ("SIGKILL", "SIGTERM", "SIGINT", "SIGHUP")
ERRORS = ("EIO", "ENOSPC")
STOPPED = 3  # exit code of a child that a signal or an error stopped in an orderly way


class Faults:
    """Counts the writes below a folder, and lets a fault happen at one of them."""

    def __init__(self, folder: Path, point: int, fault: str) -> None:
        self.folder, self.point, self.fault, self.count = str(folder), point, fault, 0

    def audit(self, event: str, values: tuple[Any, ...]) -> None:
        """Take an audit event of Python."""
        if event == "open" and isinstance(values[2], int):
            if values[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
                self.reached(values[0])
        elif event in WRITES:
            self.reached(values[0])

    def reached(self, path: object) -> None:
        """Note a write; raises OSError or sends the signal where the plan says so."""
        if not isinstance(path, str | Path) or not str(path).startswith(self.folder):
            return
        number, self.count = self.count, self.count + 1
        if number != self.point:
            return
        if self.fault in ERRORS:
            code = getattr(errno, self.fault)
            raise OSError(code, os.strerror(code), str(path))
        os.kill(os.getpid(), getattr(signal, self.fault))


class Executor:
    """Takes submitit's place: a worker is a call, which writes what a run would."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def update_parameters(self, **settings: object) -> None:
        """Ignore them."""

    def submit(self, work: Callable[..., None], runs: Sequence[Path], *_: object) -> Any:
        """Finish every run that is left, and leave the files of a job."""
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "1_submitted.pkl").write_text("")
        for run in map(RunFolder, runs):
            if run.state() in ("queued", "interrupted"):
                row = {"step": 1, "eval/score": len((run.path / "config.yaml").read_text())}
                run.metrics_path.write_text(json.dumps(row) + "\n")
                run.finish("finished", error=None)
        return EndedJob(self.folder)


class EndedJob:
    """A worker that has ended without an error."""

    job_id = "1"

    def __init__(self, folder: Path) -> None:
        self.paths = SimpleNamespace(result_pickle=folder, stdout=folder)

    def done(self) -> bool:
        """Have ended."""
        return True

    def exception(self) -> None:
        """Have none."""


def launched(sweep: Sweep, point: int, fault: str) -> tuple[int, int]:
    """Launch in a fork; return its exit code, negative after a signal, and the number of writes."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        faults, code = Faults(sweep.results_dir, point, fault), 1
        try:
            sys.addaudithook(faults.audit)
            code = 0 if local.launch(sweep, 1, retry=False).all_finished else STOPPED
        except (ConfigError, OSError, KeyboardInterrupt):
            code = STOPPED
        finally:
            os.write(writer, str(faults.count).encode())
            os._exit(code)
    os.close(writer)
    _, status = os.waitpid(pid, 0)
    with os.fdopen(reader) as file:
        return os.waitstatus_to_exitcode(status), int(file.read() or 0)


def records(sweep: Sweep) -> dict[str, bytes]:
    """Return the files that make up a sweep's result, by path."""
    names = ("metrics.jsonl", "summary.json", "config.yaml")
    runs = sorted((sweep.folder / "runs").iterdir())
    return {f"{run.name}/{name}": (run / name).read_bytes() for run in runs for name in names}


def make_sweep(folder: Path) -> Sweep:
    path = folder / "mine.yaml"
    path.write_text(f"config: {ROOT}/configs/bandit/sphere.yaml\ngrids: {{a: {{seed: [0, 1]}}}}\n")
    return load_sweep(path, ["results_dir=results", "trainer.accelerator=cpu"])


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(local, "POLL_SECONDS", 0.0)
    monkeypatch.setattr(local.submitit, "LocalExecutor", Executor)


@pytest.mark.parametrize("fault", [*SIGNALS, *ERRORS])
def test_after_a_fault_at_any_write_the_same_command_ends_alike(
    fault: str, quick: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = make_sweep(tmp_path)

    def sweep_in(folder: Path) -> Sweep:
        folder.mkdir()
        monkeypatch.chdir(folder)  # so that each config.yaml is the same
        return base

    monkeypatch.chdir(tmp_path)
    expected: dict[str, bytes] = {}
    count = 0
    for point in range(-1, 200):
        sweep = sweep_in(tmp_path / f"at{point}")
        code, reached = launched(sweep, point, fault)
        if point < 0:
            expected, count = records(sweep), reached
            assert code == 0
            assert len(expected) == 6
            continue
        if point >= count:
            break
        assert code in (0, STOPPED, -getattr(signal, fault, 0)), (point, code)
        done = {run.path.name for run in map(RunFolder.of, sweep.points.values()) if run.summary()}
        before = {n: b for n, b in known(sweep).items() if n.partition("/")[0] in done}
        code, _ = launched(sweep, -1, "")
        assert code == 0, (point, fault)
        assert records(sweep) == expected, (point, fault)
        assert {n: expected[n] for n in before} == before, "what was finished is as it was"
    assert count >= 12, "every write was reached"


def known(sweep: Sweep) -> dict[str, bytes]:
    """Return the records that there are."""
    paths = (sweep.folder / "runs").glob("*/summary.json")
    return {f"{p.parent.name}/{p.name}": p.read_bytes() for p in paths}
