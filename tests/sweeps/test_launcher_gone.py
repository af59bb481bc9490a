"""Workers end when their launcher is gone, and a further launcher takes over."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

from suite.config.fields import ConfigError
from suite.runs.folder import RunFolder
from suite.sweeps import launcher_lock, local
from suite.sweeps.launcher_lock import (
    Launcher,
    end_with,
    sole_launcher,
    wait_for_workers,
    worker_of,
)
from suite.sweeps.spec import Sweep, load_sweep
from suite.system.signals import Interrupted, interruptible
from tests import processes
from tests.conftest import ROOT, TINY

STEPS = ["trainer.steps=100000", "trainer.eval_every=50000", "trainer.checkpoint_every=50000"]


def ended_process() -> Launcher:
    process = subprocess.Popen([sys.executable, "-S", "-c", ""])
    process.wait()
    return Launcher(process.pid, 1)


@pytest.mark.slow
def test_workers_save_and_end_with_a_launcher_that_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    grids = "{a: {seed: [0]}}"
    path.write_text(f"config: {ROOT}/configs/bandit/sphere.yaml\ngrids: {grids}\n")
    fixed = [*TINY["bandit"], f"results_dir={tmp_path}", "logging.wandb=disabled", *STEPS]
    process = processes.start(["sweep", str(path), *fixed, "--parallel", "1"])
    runs = tmp_path / "mine/runs"

    def training() -> list[RunFolder]:
        found = [RunFolder(folder) for folder in runs.glob("*")]
        return [run for run in found if run.progress().get("phase") == "training"]

    processes.wait_until(lambda: len(training()) == 1, process)
    workers = [run.progress()["pid"] for run in training()]
    os.kill(process.pid, signal.SIGKILL)  # the launcher alone
    processes.finish(process)
    wait_for_workers(tmp_path / "mine", print)
    states = [RunFolder(folder).state() for folder in runs.glob("*")]
    assert states == ["interrupted"]
    assert len(list(runs.glob("*/checkpoints/last.ckpt"))) == 1, "it saved"
    assert not [pid for pid in workers if Path(f"/proc/{pid}").exists()]


def test_a_worker_is_told_to_stop_when_its_launcher_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launcher_lock, "POLL_SECONDS", 0.01)
    launcher = ended_process()
    told = pytest.raises(Interrupted, match="SIGTERM")
    with told, interruptible(), worker_of(launcher, tmp_path):
        threading.Event().wait(20)
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_a_worker_of_a_living_launcher_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launcher_lock, "POLL_SECONDS", 0.005)
    with interruptible(), worker_of(Launcher.current(), tmp_path):
        assert not threading.Event().wait(0.1)


def test_another_process_with_the_launchers_number_is_not_the_launcher() -> None:
    current = Launcher.current()
    assert current.is_alive()
    assert not Launcher(current.pid, 1).is_alive()
    assert Launcher(current.pid, None).is_alive(), "where the system does not tell more"
    assert not ended_process().is_alive()


def test_a_second_launcher_is_refused_by_the_number_of_the_first(tmp_path: Path) -> None:
    message = rf"works on it, process {os.getpid()} on .*; wait"
    with sole_launcher(tmp_path), pytest.raises(ConfigError, match=message):
        sole_launcher(tmp_path).__enter__()
    with sole_launcher(tmp_path):  # the first is gone
        pass


@pytest.mark.parametrize("content", [b"", b"\xff\x00", b"[1]", b'{"pid": "x"}', b"{" * 9999])
def test_a_damaged_record_of_a_launcher_that_is_gone_does_not_matter(
    content: bytes, tmp_path: Path
) -> None:
    with sole_launcher(tmp_path):
        (path,) = tmp_path.iterdir()
    path.write_bytes(content)
    with sole_launcher(tmp_path):
        assert b"pid" in path.read_bytes()


def test_a_launcher_waits_for_the_workers_of_one_that_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launcher_lock, "POLL_SECONDS", 0.01)
    told: list[str] = []
    released = threading.Event()

    def show(message: str) -> None:
        told.append(message)
        released.set()

    def work() -> None:
        with worker_of(Launcher.current(), tmp_path):
            begun.set()
            released.wait(20)

    begun = threading.Event()
    worker = threading.Thread(target=work)
    worker.start()
    begun.wait(20)
    wait_for_workers(tmp_path, show)
    worker.join()
    assert told == ["workers of an earlier launcher save their checkpoints and end"]
    monkeypatch.setattr(launcher_lock, "PATIENCE_SECONDS", 0.05)
    with worker_of(Launcher.current(), tmp_path):
        wait_for_workers(tmp_path, print)  # one that hangs does not block for ever


def test_a_worker_ends_when_the_process_between_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launcher_lock, "POLL_SECONDS", 0.01)
    parents = iter([5, 5, 1])
    monkeypatch.setattr(os, "getppid", lambda: next(parents))
    sent: list[tuple[int, int]] = []
    ended = threading.Event()

    def kill(pid: int, number: int) -> None:
        sent.append((pid, number))
        ended.set()

    monkeypatch.setattr(os, "kill", kill)
    end_with(Launcher.current(), ended)
    assert sent == [(os.getpid(), signal.SIGTERM)]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_each_stop_signal_stops_the_workers(number: int, tmp_path: Path) -> None:
    launcher = local.Launcher(a_sweep(tmp_path), 1, [])
    with launcher.stop_on_signal():
        os.kill(os.getpid(), number)
        assert launcher.stop_requested


def test_under_nohup_a_lost_terminal_stops_nothing(tmp_path: Path) -> None:
    launcher = local.Launcher(a_sweep(tmp_path), 1, [])
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with launcher.stop_on_signal():
            os.kill(os.getpid(), signal.SIGHUP)
            assert not launcher.stop_requested
    finally:
        signal.signal(signal.SIGHUP, before)


def a_sweep(folder: Path) -> Sweep:
    return load_sweep(ROOT / "configs/sweeps/bandit_beta.yaml", [f"results_dir={folder}"])


class EndedJob:
    """A worker that ended without an error."""

    def __init__(self, folder: Path) -> None:
        self.paths = SimpleNamespace(result_pickle=folder, stdout=folder / "log")
        self.job_id = "1"

    def exception(self) -> None:
        """Have none."""


def test_workers_that_change_no_run_are_not_started_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    launcher = local.Launcher(a_sweep(tmp_path), 1, [])
    for _ in range(local.MAX_FAILED_STARTS):
        assert not launcher.stop_requested
        worker = local.Worker(None, 0.0, dict(launcher.monitor.states))
        launcher.handle_exit(EndedJob(tmp_path), worker)
    assert launcher.stop_requested
    assert "workers end and change no run; see" in launcher.monitor.message
