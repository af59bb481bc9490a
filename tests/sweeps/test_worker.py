"""How a worker of a SLURM job ends, and when its batch script requeues the job; without SLURM."""

import os
import subprocess
from pathlib import Path

import pytest

from suite.runs.environment import git_commit
from suite.runs.folder import RunFolder
from suite.runs.lease import LeaseLost
from suite.sweeps import worker as module
from suite.sweeps.slurm_jobs import Jobs
from suite.sweeps.worker import MAX_FAILED_STARTS, run_one, run_worker, warn_of_other_code
from suite.system.signals import EXIT_STOPPED, EXIT_STOPPED_EARLY, Interrupted
from tests.conftest import ROOT, Tiny


@pytest.fixture
def job(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("SUBMITIT_EXECUTOR", "slurm")
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    return "7"


def queued(tiny: Tiny, folder: Path, *overrides: str) -> RunFolder:
    config = tiny("bandit", *overrides, results=folder)
    run = RunFolder.of(config)
    run.create(config)
    Jobs(run.path.parents[1]).add({"7": [run.path.name]})
    return run


def test_a_run_that_is_stopped_has_its_job_requeued(
    job: str, tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = queued(tiny, tmp_path)
    monkeypatch.setattr(
        "suite.train.train", lambda config: {"status": "interrupted", "signal": "USR2", "step": 3}
    )
    with pytest.raises(SystemExit) as end:
        run_worker([run.path])
    assert end.value.code == EXIT_STOPPED
    assert (run.path.parents[1] / "jobs/7.0.stopped").exists()
    assert run.state() == "queued"


def test_a_signal_before_the_first_run_has_an_exit_code_of_its_own(
    job: str, tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(runs: object) -> None:
        raise Interrupted("SIGUSR2")

    run = queued(tiny, tmp_path)
    monkeypatch.setattr(module, "warn_of_other_code", interrupted)
    with pytest.raises(SystemExit) as end:
        run_worker([run.path])
    assert end.value.code == EXIT_STOPPED_EARLY
    assert not list((run.path.parents[1] / "jobs").glob("*.stopped"))


def test_a_run_that_is_always_stopped_before_its_first_step_fails(
    job: str, tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = queued(tiny, tmp_path)
    monkeypatch.setattr(
        "suite.train.train", lambda config: {"status": "interrupted", "signal": "SIGUSR2"}
    )
    for _ in range(MAX_FAILED_STARTS):
        assert run.state() == "queued"
        with pytest.raises(Interrupted):
            run_one(run)
    assert run.state() == "failed"
    error = (run.summary() or {})["error"]
    assert f"told to stop {MAX_FAILED_STARTS} times in a row before it took a step" in error


def test_every_worker_of_a_job_may_ask_for_a_requeue(
    job: str, tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(config: object) -> None:
        raise Interrupted("SIGUSR2")

    run = queued(tiny, tmp_path)
    monkeypatch.setenv("SLURM_PROCID", "1")  # of side_by_side workers, with runs of one rank each
    monkeypatch.setattr("suite.train.train", interrupted)
    with pytest.raises(SystemExit) as end:
        run_worker([run.path])
    assert end.value.code == EXIT_STOPPED


@pytest.mark.parametrize("error", [RuntimeError("they never met"), LeaseLost("another has it")])
def test_a_failing_rank_ends_its_process(
    job: str, error: Exception, tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(config: object) -> None:
        raise error

    run = queued(tiny, tmp_path, "trainer.devices=2")
    monkeypatch.setattr("suite.train.train", fails)
    with pytest.raises(SystemExit) as end:
        run_one(run)
    assert end.value.code == 1
    assert run.state() == "queued", "a run that the ranks could not begin has not failed"


def test_a_job_warns_that_the_code_changed_since_it_was_submitted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    runs = [tmp_path / "mine/runs/a"]
    jobs = Jobs(tmp_path / "mine")
    jobs.add({"7_0": ["a"]}, commit=git_commit())
    jobs.add({"8_0": ["a"]}, commit="another")
    monkeypatch.setenv("SUBMITIT_EXECUTOR", "slurm")
    for job, message in (("7", ""), ("8", "was at another at submission")):
        monkeypatch.setenv("SLURM_ARRAY_JOB_ID", job)
        monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "0")
        warn_of_other_code(runs)
        assert message in caplog.text
        assert bool(caplog.text) == bool(message)


REQUEUED = [
    ("130", "0", "RUNNING", True),
    ("130", "60", "RUNNING", True),  # a long run may need many allocations
    ("140", "3", "RUNNING", True),
    ("143", "49", "RUNNING", True),
    ("143", "50", "RUNNING", False),  # a job that is shorter than Python's start
    ("130", "0", "CANCELLED", False),
    ("0", "0", "RUNNING", False),
    ("1", "0", "RUNNING", False),
    ("137", "0", "RUNNING", False),
]


@pytest.mark.parametrize(("code", "restarts", "state", "requeued"), REQUEUED)
def test_the_batch_script_requeues_a_stopped_job(
    code: str, restarts: str, state: str, requeued: bool, tmp_path: Path
) -> None:
    job = {"SLURM_JOB_ID": "9", "SLURM_ARRAY_JOB_ID": "8", "SLURM_ARRAY_TASK_ID": "1"}
    exit_code, request = after_srun(code, state, tmp_path, SLURM_RESTART_COUNT=restarts, **job)
    assert exit_code == int(code), "the exit code is passed on"
    assert request == ("requeue 8_1\n" if requeued else "")


def after_srun(code: str, state: str, folder: Path, **job: str) -> tuple[int, str]:
    """Run the lines after srun; return the exit code, and the arguments of scontrol."""
    for name, text in (("squeue", f"echo {state}"), ("scontrol", 'echo "$@" > "$0.arguments"')):
        (folder / name).write_text(f"#!/bin/bash\n{text}\n")
        (folder / name).chmod(0o755)
    script = ["bash", str(ROOT / "suite/sweeps/requeue.sh"), code, str(folder)]
    path = {"PATH": f"{folder}:{os.environ['PATH']}"}
    done = subprocess.run(script, env=path | job, capture_output=True, check=False)
    arguments = folder / "scontrol.arguments"
    return done.returncode, arguments.read_text() if arguments.exists() else ""


def test_one_stopped_process_of_several_suffices(tmp_path: Path) -> None:
    (tmp_path / "9.0.stopped").touch()
    job = {"SLURM_JOB_ID": "9", "SLURM_RESTART_COUNT": "1"}
    assert after_srun("137", "RUNNING", tmp_path, **job) == (137, ""), "that was an earlier attempt"
    _, request = after_srun("137", "RUNNING", tmp_path, SLURM_JOB_ID="9")  # another was killed
    assert request == "requeue 9\n"
    assert not list(tmp_path.glob("*.stopped"))
