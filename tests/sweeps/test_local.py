"""Sweeps as processes: a failure stops no other run, kills lose nothing, launchers share runs."""

import os
import random
import signal
import time
from pathlib import Path

import pytest

from suite.config.fields import ConfigError
from suite.runs.folder import RunFolder
from suite.sweeps.gpus import least_used, visible_gpus
from suite.sweeps.spec import load_sweep
from suite.sweeps.worker import run_one
from suite.system.files import write_json
from tests import processes
from tests.conftest import ROOT, SCHEDULE, TINY

pytestmark = pytest.mark.slow
STEPS = ["trainer.steps=1500", "trainer.eval_every=50", "trainer.checkpoint_every=100"]
STEPS += ["trainer.log_every=10"]


def sweep_file(folder: Path, grids: str) -> Path:
    path = folder / "mine.yaml"
    path.write_text(f"config: {ROOT}/configs/bandit/sphere.yaml\ngrids: {grids}\n")
    return path


def command(path: Path, results: Path, *more: str) -> list[str]:
    fixed = [*TINY["bandit"], f"results_dir={results}", "logging.wandb=disabled"]
    return ["sweep", str(path), *fixed, *more]


def states(folder: Path) -> list[str]:
    return sorted(RunFolder(p).state() for p in (folder / "mine/runs").glob("*"))


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The metrics of a sweep that is not interrupted."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    path = sweep_file(folder, "{a: {seed: [0, 1, 2, 3, 4, 5]}}")
    code, output = processes.suite(*command(path, folder, *STEPS))
    assert code == 0, output
    assert "mine: 6 finished" in output
    metrics = processes.contents(folder / "mine")
    assert len(metrics) == 6
    return metrics


def test_a_sweep_killed_at_random_moments_ends_bit_identical(
    uninterrupted: dict[str, str], tmp_path: Path
) -> None:
    path = sweep_file(tmp_path, "{a: {seed: [0, 1, 2, 3, 4, 5]}}")
    seed = random.randrange(10**6)
    print("seed of the kills:", seed)
    chooser = random.Random(seed)
    for number in (signal.SIGKILL, signal.SIGKILL):
        process = processes.start(command(path, tmp_path, *STEPS))
        before = len(list(tmp_path.glob("mine/runs/*/summary.json")))
        processes.wait_until(
            lambda b=before: len(list(tmp_path.glob("mine/runs/*/summary.json"))) > b, process
        )
        time.sleep(chooser.uniform(0.0, 1.0))
        processes.kill_group(process, number)
        processes.finish(process)
    code, output = processes.suite(*command(path, tmp_path, *STEPS))
    assert code == 0, output
    assert processes.contents(tmp_path / "mine") == uninterrupted


def test_ctrl_c_stops_cleanly_and_the_same_command_continues(
    uninterrupted: dict[str, str], tmp_path: Path
) -> None:
    path = sweep_file(tmp_path, "{a: {seed: [0, 1, 2, 3, 4, 5]}}")
    process = processes.start(command(path, tmp_path, *STEPS))
    processes.wait_until(lambda: any(tmp_path.glob("mine/runs/*/checkpoints/last.ckpt")), process)
    processes.kill_group(process, signal.SIGINT)  # as a terminal does
    code, output = processes.finish(process)
    assert code == 130
    assert "every run saves a checkpoint; the same command goes on" in output
    assert "running" not in states(tmp_path)
    assert "failed" not in states(tmp_path)
    code, output = processes.suite(*command(path, tmp_path, *STEPS))
    assert code == 0, output
    assert processes.contents(tmp_path / "mine") == uninterrupted
    logs = len(list((tmp_path / "mine/logs").iterdir()))
    code, output = processes.suite(*command(path, tmp_path, *STEPS))
    assert code == 0
    assert len(list((tmp_path / "mine/logs").iterdir())) == logs, "nothing is run again"


def test_a_second_launcher_is_refused_and_the_first_goes_on(
    uninterrupted: dict[str, str], tmp_path: Path
) -> None:
    path = sweep_file(tmp_path, "{a: {seed: [0, 1, 2, 3, 4, 5]}}")
    first = processes.start(command(path, tmp_path, *STEPS))
    processes.wait_until(lambda: any(tmp_path.glob("mine/logs/*_log.out")), first)
    code, output = processes.suite(*command(path, tmp_path, *STEPS))
    assert code == 2
    assert f"another `suite sweep` works on it, process {first.pid} on" in output
    code, output = processes.finish(first)
    assert code == 0, output
    assert processes.contents(tmp_path / "mine") == uninterrupted
    logs = [p.read_text() for p in (tmp_path / "mine/logs").glob("*.out")]
    for run in uninterrupted:
        assert sum(f"{run} starts" in text for text in logs) == 1


def test_a_failing_run_stops_no_other_and_is_retried_only_when_asked(tmp_path: Path) -> None:
    path = sweep_file(tmp_path, "{a: {optimizer.lr: [0.03, 1.0e+38], seed: [0, 1]}}")
    code, output = processes.suite(*command(path, tmp_path, *SCHEDULE))
    assert code == 1
    assert states(tmp_path) == ["failed", "failed", "finished", "finished"]
    assert output.count("NonFiniteLoss: the loss is not finite at step") >= 2
    report = (tmp_path / "mine/report.md").read_text()
    assert "2 of 4 runs are not finished" in report
    assert "NonFiniteLoss" in report
    scores = (tmp_path / "mine/scores.csv").read_text().splitlines()
    assert scores[0] == "run,domain,task,objective,feedback,seed,status,step,score,kl"
    assert len(scores) == 5
    jobs = len(list((tmp_path / "mine/logs").iterdir()))
    code, output = processes.suite(*command(path, tmp_path, *SCHEDULE))
    assert code == 1
    assert "`--retry` runs failed points again" in output
    assert len(list((tmp_path / "mine/logs").iterdir())) == jobs, "nothing was started"
    code, output = processes.suite(*command(path, tmp_path, *SCHEDULE, "--retry"))
    assert code == 1
    assert len(list((tmp_path / "mine/logs").iterdir())) > jobs
    code, output = processes.suite("status", "mine", f"results_dir={tmp_path}")
    assert code == 0
    assert "2 failed, 2 finished" in output


def test_a_worker_that_dies_fails_its_run_and_is_replaced(tmp_path: Path) -> None:
    path = sweep_file(tmp_path, "{a: {seed: [0, 1, 2]}}")
    process = processes.start(command(path, tmp_path, *STEPS, "--parallel", "1"))
    processes.wait_until(lambda: any(tmp_path.glob("mine/runs/*/checkpoints/last.ckpt")), process)
    (running,) = [
        run
        for run in map(RunFolder, (tmp_path / "mine/runs").iterdir())
        if run.state() == "running"
    ]
    os.kill(running.progress()["pid"], signal.SIGKILL)
    code, output = processes.finish(process)
    assert code == 1, output
    assert states(tmp_path) == ["failed", "finished", "finished"]
    assert "its process died; see" in output
    assert running.state() == "failed"


def test_a_dry_run_prints_the_plan_and_does_nothing(tmp_path: Path) -> None:
    path = sweep_file(tmp_path, "{a: {seed: [0, 1]}}")
    code, output = processes.suite(*command(path, tmp_path, "--dry-run"))
    assert code == 0
    assert "2 run. Nothing was started." in output
    assert not (tmp_path / "mine").exists()


def test_workers_that_cannot_begin_end_the_sweep_with_their_log(tmp_path: Path) -> None:
    path = sweep_file(tmp_path, "{a: {seed: [0, 1]}}")
    broken = tmp_path / "broken/suite_import_hook"
    broken.mkdir(parents=True)
    # An environment in which every worker fails before it reaches a run.
    (broken / "sitecustomize.py").write_text(
        "import os, sys\n"
        "if 'SUBMITIT_LOCAL_JOB_ID' in os.environ:\n"
        "    sys.exit('no such device')\n"
    )
    process = processes.start(
        command(path, tmp_path), env={**os.environ, "PYTHONPATH": f"{broken}:{ROOT}"}
    )
    code, output = processes.finish(process)
    assert code == 1, output
    assert "workers die before they begin a run; see" in output
    assert states(tmp_path) == ["queued", "queued"]


def test_workers_spread_over_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    assert least_used([], []) is None
    assert least_used(["0", "2"], []) == "0"
    assert least_used(["0", "2"], ["0"]) == "2"
    assert least_used(["0", "2"], ["0", "2", "2"]) == "0"
    lm, bandit = (load_sweep(ROOT / f"configs/sweeps/{name}.yaml") for name in ("lm", "bandit"))
    for given, expected in (
        ("1, 3", ["1", "3"]),
        ("", []),
        ("-1", []),
        ("2,-1,3", ["2"]),
        ("NoDevFiles", []),
        (
            "GPU-8932f937-d72c-4106-c12f-20bd9faed9f6,GPU-1a",
            ["GPU-8932f937-d72c-4106-c12f-20bd9faed9f6", "GPU-1a"],
        ),
        ("MIG-GPU-8932f937/1/0", ["MIG-GPU-8932f937/1/0"]),
    ):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", given)
        assert visible_gpus(lm) == expected
        assert visible_gpus(bandit) == [], "its runs ask for the CPU"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "all")
    with pytest.raises(ConfigError, match=r"must list GPUs by number or UUID .* found 'all'"):
        visible_gpus(lm)


def test_an_interrupted_sweep_continues_in_another_folder(tmp_path: Path) -> None:
    path = sweep_file(tmp_path, "{a: {seed: [0]}}")
    (tmp_path / "old").mkdir()
    process = processes.start(command(path, tmp_path / "old", *STEPS))
    last = "mine/runs/*/checkpoints/last.ckpt"
    processes.wait_until(lambda: any((tmp_path / "old").glob(last)), process)
    processes.kill_group(process, signal.SIGKILL)
    processes.finish(process)
    (tmp_path / "old").rename(tmp_path / "new")
    code, output = processes.suite(*command(path, tmp_path / "new", *STEPS))
    assert code == 0, output
    assert states(tmp_path / "new") == ["finished"]
    assert not (tmp_path / "old").exists()


def test_a_run_whose_configuration_no_longer_loads_fails_once(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    write_json(tmp_path / "progress.json", {"step": 1})
    (tmp_path / "config.yaml").write_text("domain: {name: bandit, gone: 3}\n")
    assert run.state() == "interrupted"
    assert run_one(run) == "failed"
    assert run.state() == "failed"
    assert "unknown key domain.gone" in run.summary()["error"]


def test_ctrl_c_stops_workers_that_have_not_begun(tmp_path: Path) -> None:
    path = sweep_file(tmp_path, "{a: {seed: [0, 1, 2, 3, 4, 5]}}")
    process = processes.start(command(path, tmp_path, *STEPS))
    processes.wait_until(lambda: any(tmp_path.glob("mine/logs/*_log.out")), process)
    processes.kill_group(process, signal.SIGINT)
    code, output = processes.finish(process)
    assert code == 130, output
    assert "finished" not in states(tmp_path)
