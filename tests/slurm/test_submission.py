"""Sweeps as job arrays: every run once, with the metrics of local processes; clear refusals."""

import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from suite.system.files import write_text
from tests import processes
from tests.conftest import BASE, ROOT, SCHEDULE, TINY_LM
from tests.slurm.cluster import Cluster, runs_in, submitted, sweep_of, wait_for


def test_a_sweep_of_jobs_ends_in_the_metrics_of_processes_here(
    quiet: dict[str, str], cluster: Cluster, tmp_path: Path
) -> None:
    code, output = cluster.suite(*sweep_of(tmp_path, 4), "--cluster", "test")
    assert code == 0, output
    assert "submitted 4 jobs" in output
    assert "mine: 4 finished" in output
    assert processes.contents(tmp_path / "mine") == quiet
    assert (tmp_path / "mine/report.html").exists()
    script = next((tmp_path / "mine/logs").glob("*_submission.sh")).read_text()
    assert "#SBATCH --array=0-3%4" in script
    assert "#SBATCH --gres=gpu:1" in script
    for run in runs_in(tmp_path):
        assert f"{run.path.name} starts" in run.log_path.read_text()
        assert len(run.attempts()) == 1
    code, output = cluster.suite(*sweep_of(tmp_path, 4), "--cluster", "test")
    assert code == 0
    assert "submitted 0 jobs" in output


def test_language_models_end_in_the_metrics_of_processes_here(
    cluster: Cluster, tmp_path: Path
) -> None:
    text = f"config: {ROOT}/{BASE['lm']}\ngrids: {{a: {{feedback: [positive, negative]}}}}\n"
    write_text(tmp_path / "mine.yaml", text)
    sweep = ["sweep", str(tmp_path / "mine.yaml"), *TINY_LM, *SCHEDULE]
    for folder, options in ((tmp_path / "here", []), (tmp_path / "there", ["--cluster", "test"])):
        code, output = cluster.suite(*sweep, f"results_dir={folder}", *options)
        assert code == 0, output
    there = processes.contents(tmp_path / "there/mine")
    assert there == processes.contents(tmp_path / "here/mine")
    assert len(there) == 2


def test_runs_that_share_a_job_run_side_by_side(
    quiet: dict[str, str], cluster: Cluster, tmp_path: Path
) -> None:
    profile = tmp_path / "packed.yaml"
    profile.write_text("{runs_per_job: 3, side_by_side: 2, cpus: 1, memory_gb: 1}")
    code, output = cluster.suite(*sweep_of(tmp_path, 4), "--cluster", str(profile))
    assert code == 0, output
    assert "submitted 2 jobs" in output
    assert processes.contents(tmp_path / "mine") == quiet
    workers = [run.progress() for run in runs_in(tmp_path)]
    first = [worker["pid"] for worker in workers if worker["job"].endswith("_0")]
    assert (len(first), len(set(first))) == (3, 2), "three runs, two at a time"


def test_two_launchers_at_once_submit_every_point_once(
    quiet: dict[str, str], cluster: Cluster, tmp_path: Path
) -> None:
    command = [*sweep_of(tmp_path, 2), "--cluster", "test"]
    both = [processes.start(command, env=cluster.environment) for _ in range(2)]
    outcomes = [processes.finish(process) for process in both]
    assert [code for code, _ in outcomes] == [0, 0], outcomes
    assert sum("submitted 2 jobs" in output for _, output in outcomes) == 1
    assert sum("submitted 0 jobs" in output for _, output in outcomes) == 1
    assert processes.contents(tmp_path / "mine").items() <= quiet.items()
    assert [len(run.attempts()) for run in runs_in(tmp_path)] == [1, 1]


def test_jobs_continue_without_a_launcher_and_are_shown_and_cancelled(
    cluster: Cluster, tmp_path: Path
) -> None:
    submitted(cluster, tmp_path, 12)
    following = processes.start(
        [*sweep_of(tmp_path, 12), "--cluster", "test"],
        env=cluster.environment,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # ignored in backgrounds
    )
    assert following.stdout is not None
    assert "submitted 0 jobs" in following.stdout.readline()
    time.sleep(1)
    following.send_signal(signal.SIGINT)
    code, output = processes.finish(following)
    assert (code, "the jobs go on" in output) == (130, True), output
    where = ("mine", f"results_dir={tmp_path}")
    code, output = cluster.suite("status", *where)
    assert code == 0
    assert "PENDING (JobArrayTaskLimit)" in output
    assert "RUNNING" in output
    code, output = cluster.suite("cancel", *where)
    assert code == 0
    assert int(output.split()[0]) > 6
    cluster.wait_for_the_end()
    states = {run.state() for run in runs_in(tmp_path)}
    assert "queued" in states
    assert states <= {"queued", "interrupted", "finished"}
    code, output = cluster.suite("status", *where)
    assert "CANCELLED" in output, "it says why nothing runs"


@pytest.mark.parametrize(
    ("profile", "message"),
    [
        ("gpus: 99", "Requested node configuration is not available"),
        ("partition: nowhere", "invalid partition specified: nowhere"),
        ("partitoin: main", "unknown key partitoin; did you mean partition?"),
    ],
)
def test_what_a_cluster_cannot_give_is_one_sentence(
    profile: str, message: str, cluster: Cluster, tmp_path: Path
) -> None:
    path = tmp_path / "site.yaml"
    path.write_text(profile)
    code, output = cluster.suite(*sweep_of(tmp_path, 1), "--cluster", str(path))
    assert code == 2
    assert message in output
    assert output.startswith("suite: ")
    assert "Traceback" not in output


def test_a_refusal_because_of_limits_is_one_sentence(cluster: Cluster, tmp_path: Path) -> None:
    cluster("scontrol", "update", "PartitionName=urgent", "MaxTime=5")
    path = tmp_path / "site.yaml"
    path.write_text("{partition: urgent, minutes: 30}")
    try:
        code, output = cluster.suite(*sweep_of(tmp_path, 1), "--cluster", str(path))
    finally:
        cluster("scontrol", "update", "PartitionName=urgent", "MaxTime=INFINITE")
    assert code == 2
    assert "sbatch refused the job: Batch job submission failed: Requested time limit" in output


def test_two_thousand_points_are_submitted_and_shown_quickly(
    cluster: Cluster, tmp_path: Path
) -> None:
    profile = tmp_path / "held.yaml"
    profile.write_text("{cpus: 1, memory_gb: 1, options: {hold: true}}")
    command = [*sweep_of(tmp_path, 2000), "--cluster", str(profile), "--detach"]
    try:
        code, output, seconds, megabytes = measured(command, cluster)
        assert (code, "submitted 2000 jobs" in output) == (0, True), output
        assert seconds < 60
        assert megabytes < 300
        assert len(list((tmp_path / "mine/jobs").glob("*.json"))) == 3, "two arrays, and the report"
        where = ("status", "mine", f"results_dir={tmp_path}")
        code, output, seconds, megabytes = measured(where, cluster)
        assert (code, "2000 queued" in output) == (0, True), output
        assert "PENDING (JobHeldUser)" in output
        assert seconds < 5
        assert megabytes < 300
        code, output, *_ = measured(command, cluster)
        assert "submitted 0 jobs" in output
    finally:
        cluster.suite("cancel", "mine", f"results_dir={tmp_path}")
    cluster.wait_for_the_end()


def measured(command: Sequence[str], cluster: Cluster) -> tuple[int, str, float, float]:
    """Run `suite …`; return exit code, output, seconds, and the peak memory in MB.

    A small process in between, for what this one holds would count for its child too.
    """
    between = "import resource as r, subprocess as s, sys; code = s.run(sys.argv[1:]).returncode;"
    between += "print(r.getrusage(r.RUSAGE_CHILDREN).ru_maxrss); sys.exit(code)"
    begun = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", between, sys.executable, "-m", "suite", *command],
        env=cluster.environment, cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    output, _, kilobytes = done.stdout.rstrip().rpartition("\n")
    return done.returncode, output + done.stderr, time.monotonic() - begun, int(kilobytes) / 1024


def test_without_slurm_the_launcher_says_so(cluster: Cluster, tmp_path: Path) -> None:
    nowhere = cluster.environment | {"PATH": str(tmp_path)}
    process = processes.start([*sweep_of(tmp_path, 1), "--cluster", "test"], env=nowhere)
    code, output = processes.finish(process)
    assert code == 2
    assert "SLURM is not installed here" in output


def test_a_failed_run_is_reported_and_the_others_continue(cluster: Cluster, tmp_path: Path) -> None:
    text = f"config: {ROOT}/configs/bandit/sphere.yaml\n"
    text += "grids: {a: {optimizer.lr: [1.0e+30, 0.01]}}\n"
    write_text(tmp_path / "mine.yaml", text)
    steps = ["trainer.steps=300", f"results_dir={tmp_path}", "logging.wandb=disabled"]
    code, output = cluster.suite("sweep", str(tmp_path / "mine.yaml"), *steps, "--cluster", "test")
    assert code == 1
    assert "1 failed, 1 finished" in output
    assert "NonFiniteLoss: the loss is not finite at step" in output
    assert "Traceback" not in output
    failed = next(run for run in runs_in(tmp_path) if run.state() == "failed")
    assert "Traceback" in failed.log_path.read_text()


def test_plain_batch_scripts_continue_after_a_requeue(
    quiet: dict[str, str], cluster: Cluster, tmp_path: Path
) -> None:
    folders = {name: tmp_path / name for name in ("train", "sweep")}
    jobs = {}
    for name, folder in folders.items():
        folder.mkdir()
        _, sweep, *settings = sweep_of(folder, 4)
        one = ["configs/bandit/sphere.yaml", "seed=0", "sweep=mine"]
        what, array = ([sweep], ["--array=0-1"]) if name == "sweep" else (one, [])
        options = ["--mem=1G", f"--output={folder}/%A-%a.log", f"--chdir={ROOT}", *array]
        options.append(f"--export=ALL,SUITE={sys.executable} -m suite")
        command = ["sbatch", "--parsable", *options, f"slurm/{name}.sbatch", *what, *settings]
        jobs[name] = cluster(*command).strip() + ("_0" if array else "")
    ready = "mine/runs/*seed0*/checkpoints/last.ckpt"
    for name, folder in folders.items():
        wait_for(lambda f=folder: any(f.glob(ready)), "a checkpoint")
        cluster("scancel", "--signal=USR2", jobs[name])
    cluster.wait_for_the_end()
    for name, folder in folders.items():
        metrics = processes.contents(folder / "mine")
        assert len(metrics) == (2 if name == "sweep" else 1)
        assert metrics.items() <= quiet.items()
        logs = "".join(path.read_text() for path in folder.glob("*.log"))
        assert logs.count(" continues from step ") == 1
