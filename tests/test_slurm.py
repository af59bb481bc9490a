"""On a real SLURM of this machine alone; `make test-slurm` installs what is missing."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from suite.results import RunFolder
from tests import processes
from tests.conftest import ROOT

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        shutil.which("slurmctld") is None,
        reason="SLURM is not installed; `make test-slurm` does that, as root on Debian",
    ),
]
SCRIPT = ROOT / "slurm/local_cluster.sh"


def control(command: str, folder: Path) -> "subprocess.CompletedProcess[str]":
    """Start, stop or look at the cluster in a folder."""
    settings = os.environ | {"CLUSTER_DIR": str(folder), "CLUSTER_GPUS": "2", "CLUSTER_NODES": "2"}
    return subprocess.run(
        [SCRIPT, command], env=settings, capture_output=True, text=True, timeout=120, check=False
    )


def processes_of(folder: Path) -> list[str]:
    """Return the command lines of processes that name the folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().replace(b"\0", b" ").decode()
        except OSError:  # it ended meanwhile
            continue
        if str(folder) in line:
            found.append(line)
    return found


@pytest.fixture(scope="module")
def cluster() -> Iterator[dict[str, str]]:
    """The environment of clients of a running cluster."""
    with TemporaryDirectory(prefix="slurm-", dir="/tmp") as name:  # sockets need short paths
        folder = Path(name) / "c"
        started = control("start", folder)
        assert started.returncode == 0, started.stderr
        variable, _, value = started.stdout.strip().removeprefix("export ").partition("=")
        try:
            yield os.environ | {variable: value, "COLUMNS": "200"}  # tables need not be cut
        finally:
            control("stop", folder)
        assert not folder.exists()
        assert not processes_of(folder)


def test_a_job_runs_on_two_nodes_with_a_fake_gpu_each(cluster: dict[str, str]) -> None:
    show = ["bash", "-c", "echo $SLURMD_NODENAME $CUDA_VISIBLE_DEVICES"]
    job = ["srun", "--nodes=2", "--gres=gpu:1", *show]
    found = subprocess.run(
        job, env=cluster, cwd="/tmp", capture_output=True, text=True, timeout=60, check=True
    )
    assert sorted(found.stdout.split("\n")) == ["", "node0 0", "node1 0"]


def test_started_again_it_is_left_as_it_is_and_says_that_every_node_answers(
    cluster: dict[str, str],
) -> None:
    folder = Path(cluster["SLURM_CONF"]).parent
    before = (folder / "run/slurmctld.pid").read_text()
    assert "runs already" in control("start", folder).stderr
    assert (folder / "run/slurmctld.pid").read_text() == before
    status = control("status", folder)
    assert status.returncode == 0
    assert status.stdout.count("gpu:2") == 4, "two nodes in each of two partitions"


def test_without_a_cluster_the_status_says_so(tmp_path: Path) -> None:
    found = control("status", tmp_path / "none")
    assert found.returncode == 3
    assert "nothing in" in found.stderr


STEPS = ["trainer.steps=6000", "trainer.eval_every=500", "trainer.checkpoint_every=200"]
STEPS += ["trainer.log_every=100", "domain.dimensions=3", "domain.contexts=4"]
Suite = Callable[..., tuple[int, str]]


@pytest.fixture
def suite(cluster: dict[str, str]) -> Suite:
    """Run `suite …` as a client of the cluster; return its exit code and output."""
    return lambda *arguments: processes.finish(processes.start(arguments, env=cluster))


def sweep_of(folder: Path, seeds: int) -> list[str]:
    """Return the arguments of a sweep of bandits whose results go to the folder."""
    path = folder / "mine.yaml"
    path.write_text(
        f"config: {ROOT}/configs/bandit/sphere.yaml\ngrids: {{a: {{seed: {list(range(seeds))}}}}}\n"
    )
    return ["sweep", str(path), *STEPS, f"results_dir={folder}", "logging.wandb=disabled"]


@pytest.fixture(scope="module")
def quiet(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The metrics of the sweep on this machine, with nothing happening to it."""
    folder = tmp_path_factory.mktemp("quiet")
    code, output = processes.suite(*sweep_of(folder, 4))
    assert code == 0, output
    return processes.contents(folder / "mine")


def client(cluster: dict[str, str], *command: str) -> str:
    """Run one of SLURM's commands."""
    done = subprocess.run(
        command, env=cluster, capture_output=True, text=True, timeout=60, check=True
    )
    return done.stdout


def wait_for(condition: Callable[[], bool], what: str) -> None:
    """Wait for something that the cluster brings about."""
    deadline = time.monotonic() + processes.PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"waited too long for {what}"
        time.sleep(0.1)


def runs_in(folder: Path) -> list[RunFolder]:
    return [RunFolder(path) for path in sorted((folder / "mine/runs").iterdir())]


def logs_in(folder: Path) -> str:
    return "".join(path.read_text() for path in sorted((folder / "mine/logs").glob("*.out")))


def submitted(folder: Path, seeds: int, suite: Suite) -> str:
    """Submit a sweep and wait until its first run has a checkpoint; return that run's job."""
    code, output = suite(*sweep_of(folder, seeds), "--cluster", "test", "--detach")
    assert code == 0, output
    assert f"submitted {seeds} jobs" in output
    wait_for(lambda: any(folder.glob("mine/runs/*/checkpoints/last.ckpt")), "a checkpoint")
    running = next(run for run in runs_in(folder) if (run.checkpoints / "last.ckpt").exists())
    return str(running.progress()["job"])


def test_a_sweep_of_jobs_ends_in_the_metrics_of_processes_here(
    quiet: dict[str, str], suite: Suite, tmp_path: Path
) -> None:
    code, output = suite(*sweep_of(tmp_path, 4), "--cluster", "test")
    assert code == 0, output
    assert "submitted 4 jobs" in output
    assert "mine: 4 finished" in output
    assert processes.contents(tmp_path / "mine") == quiet
    assert (tmp_path / "mine/report.html").exists()
    script = next((tmp_path / "mine/logs").glob("*_submission.sh")).read_text()
    assert "#SBATCH --array=0-3%4" in script
    assert "#SBATCH --gres=gpu:1" in script
    code, output = suite(*sweep_of(tmp_path, 4), "--cluster", "test")
    assert code == 0
    assert "submitted 0 jobs" in output


def test_runs_that_share_a_job_stand_side_by_side(
    quiet: dict[str, str], suite: Suite, tmp_path: Path
) -> None:
    profile = tmp_path / "packed.yaml"
    profile.write_text("{partition: main, runs_per_job: 3, cpus: 1, memory_gb: 1}")
    code, output = suite(*sweep_of(tmp_path, 4), "--cluster", str(profile))
    assert code == 0, output
    assert "submitted 2 jobs" in output
    assert processes.contents(tmp_path / "mine") == quiet
    workers = [run.progress() for run in runs_in(tmp_path)]
    first = [worker for worker in workers if worker["job"].endswith("_0")]
    assert len(first) == len({worker["pid"] for worker in first}) == 3


@pytest.mark.parametrize("how", ["preempted", "terminated", "requeued", "killed"])
def test_a_job_that_is_cut_short_goes_on_and_ends_bit_identical(
    how: str, quiet: dict[str, str], cluster: dict[str, str], suite: Suite, tmp_path: Path
) -> None:
    job = submitted(tmp_path, 4, suite)
    if how == "preempted":
        every = ["--nodes=2", "--cpus-per-task=16", "--ntasks-per-node=1", "--mem=0"]
        client(cluster, "srun", "--partition=urgent", "--exclusive", *every, "true")
    elif how == "terminated":  # all that a job hears of its preemption at other sites
        client(cluster, "scancel", "--signal=TERM", job)
    elif how == "requeued":
        client(cluster, "scontrol", "requeue", job)
    else:
        client(cluster, "scancel", "--signal=KILL", "--full", job)
    code, output = suite(*sweep_of(tmp_path, 4), "--cluster", "test")
    if how != "killed":
        assert "submitted 0 jobs" in output, "the job went back into the queue by itself"
    elif code:
        assert "were cut short and not requeued" in output
        code, output = suite(*sweep_of(tmp_path, 4), "--cluster", "test")
    assert code == 0, output
    assert processes.contents(tmp_path / "mine") == quiet
    assert " continues from step " in logs_in(tmp_path)


def test_a_run_that_needs_three_allocations_ends_bit_identical(
    suite: Suite, tmp_path: Path
) -> None:
    # SLURM sees to limits every 30 seconds: of each minute some twenty remain for steps.
    longer = ["trainer.steps=40000", "trainer.checkpoint_every=20000", "trainer.eval_every=5000"]
    profile = tmp_path / "short.yaml"
    profile.write_text("{minutes: 1, notice_seconds: 30, cpus: 1, memory_gb: 1}")
    (tmp_path / "here").mkdir()
    code, output = suite(*sweep_of(tmp_path / "here", 1), *longer)
    assert code == 0, output
    code, output = suite(*sweep_of(tmp_path, 1), *longer, "--cluster", str(profile))
    assert code == 0, output
    assert logs_in(tmp_path).count(" continues from step ") >= 2
    assert processes.contents(tmp_path / "mine") == processes.contents(tmp_path / "here/mine")


def test_two_launchers_at_once_submit_every_point_once(
    quiet: dict[str, str], cluster: dict[str, str], tmp_path: Path
) -> None:
    command = [*sweep_of(tmp_path, 4), "--cluster", "test"]
    both = [processes.start(command, env=cluster) for _ in range(2)]
    outcomes = [processes.finish(process) for process in both]
    assert [code for code, _ in outcomes] == [0, 0], outcomes
    assert sum("submitted 4 jobs" in output for _, output in outcomes) == 1
    assert sum("submitted 0 jobs" in output for _, output in outcomes) == 1
    assert processes.contents(tmp_path / "mine") == quiet
    for run in quiet:
        assert logs_in(tmp_path).count(f"{run} starts") == 1


def test_detached_jobs_are_shown_and_cancelled(
    cluster: dict[str, str], suite: Suite, tmp_path: Path
) -> None:
    submitted(tmp_path, 20, suite)
    code, output = suite(*sweep_of(tmp_path, 20), "--cluster", "test", "--detach")
    assert (code, "submitted 0 jobs" in output) == (0, True), output
    where = ("mine", f"results_dir={tmp_path}")
    code, output = suite("status", *where)
    assert code == 0
    assert "PENDING (JobArrayTaskLimit)" in output
    assert "RUNNING" in output
    code, output = suite("cancel", *where)
    assert code == 0
    assert int(output.split()[0]) > 10
    wait_for(lambda: not client(cluster, "squeue", "--noheader"), "the cancelled jobs' end")
    states = {run.state() for run in runs_in(tmp_path)}
    assert "queued" in states
    assert states <= {"queued", "interrupted", "finished"}


def test_after_detached_jobs_a_further_one_writes_the_report(
    cluster: dict[str, str], suite: Suite, tmp_path: Path
) -> None:
    code, output = suite(*sweep_of(tmp_path, 1), "--cluster", "test", "--detach")
    assert code == 0, output
    assert "submitted 1 jobs" in output
    assert "a further job writes the report" in output
    waiting = client(cluster, "squeue", "--noheader", "--format=%r")
    assert "Dependency" in waiting
    wait_for(lambda: not client(cluster, "squeue", "--noheader"), "the end of the jobs")
    assert "| sphere-3d | mixed | 1 |" in (tmp_path / "mine/report.md").read_text()


@pytest.mark.parametrize(
    ("profile", "message"),
    [
        ("gpus: h100:99", "Requested node configuration is not available"),
        ("gpus: 99", "Requested node configuration is not available"),
        ("partition: nowhere", "invalid partition specified: nowhere"),
        ("partitoin: main", "unknown key partitoin; did you mean partition?"),
        ("cpus: 0", "cpus must be at least 1, found 0"),
    ],
)
def test_what_a_cluster_cannot_give_is_one_sentence(
    profile: str, message: str, suite: Suite, tmp_path: Path
) -> None:
    path = tmp_path / "site.yaml"
    path.write_text(profile)
    code, output = suite(*sweep_of(tmp_path, 1), "--cluster", str(path))
    assert code == 2
    assert message in output
    assert output.startswith("suite: ")
    assert "Traceback" not in output


def test_without_slurm_the_launcher_says_so(cluster: dict[str, str], tmp_path: Path) -> None:
    nowhere = cluster | {"PATH": str(tmp_path)}
    process = processes.start([*sweep_of(tmp_path, 1), "--cluster", "test"], env=nowhere)
    code, output = processes.finish(process)
    assert code == 2
    assert "SLURM is not installed here" in output


@pytest.mark.parametrize("script", ["train", "sweep"])
def test_plain_batch_scripts_go_on_after_a_requeue(
    script: str, quiet: dict[str, str], cluster: dict[str, str], tmp_path: Path
) -> None:
    _, sweep, *settings = sweep_of(tmp_path, 4)
    base = ["configs/bandit/sphere.yaml", "seed=0", "sweep=mine"]
    array, what = ([], base) if script == "train" else (["--array=0-1"], [sweep])
    options = ["--mem=1G", f"--output={tmp_path}/%A-%a.log", f"--chdir={ROOT}", *array]
    command = ["sbatch", "--parsable", *options, f"slurm/{script}.sbatch", *what, *settings]
    here = cluster | {"SUITE": f"{sys.executable} -m suite"}
    found = subprocess.run(
        command, env=here, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    job = found.stdout.strip()
    checkpoint = "mine/runs/*seed0*/checkpoints/last.ckpt"
    wait_for(lambda: any(tmp_path.glob(checkpoint)), "a checkpoint")
    client(cluster, "scancel", "--signal=USR2", f"{job}_0" if array else job)
    wait_for(lambda: not client(cluster, "squeue", "--noheader"), "the end of the jobs")
    metrics = processes.contents(tmp_path / "mine")
    assert len(metrics) == max(1, 2 * len(array))
    assert metrics.items() <= quiet.items()
    logs = "".join(path.read_text() for path in tmp_path.glob("*.log"))
    assert logs.count(" continues from step ") == 1
