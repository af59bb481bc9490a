"""Faults of jobs and nodes, which must not change the metrics."""

import os
import signal
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil
import pytest

from tests import processes
from tests.slurm.cluster import Cluster, control, read_only, runs_in, submitted, sweep_of, wait_for


def end(cluster: Cluster, folder: Path, seeds: int, at_most: int = 3) -> int:
    """Follow a sweep until all is finished, submitting again what is left; return how often."""
    for count in range(at_most):
        code, output = cluster.suite(*sweep_of(folder, seeds), "--cluster", "test")
        if code == 0:
            return count
        assert "were cut short and not requeued" in output
    raise AssertionError(output)


def test_jobs_that_are_cut_short_in_every_way_end_bit_identical(
    quiet: dict[str, str], cluster: Cluster, tmp_path: Path
) -> None:
    noticed, terminated, requeued, killed = submitted(cluster, tmp_path, 4, waited_for=4)
    cluster("scancel", "--signal=USR2", noticed)
    cluster("scancel", "--signal=TERM", terminated)  # all that a job hears at some sites
    cluster("scontrol", "requeue", requeued)
    cluster("scancel", "--signal=KILL", "--full", killed)
    # All but the killed one go back by themselves; the report waits too.
    wait_for(lambda: states(cluster).split() == ["PENDING"] * 4, "the jobs' way into the queue")
    _, output = cluster.suite("status", "mine", f"results_dir={tmp_path}")
    assert f"job {killed} " in output, "it says how the killed one ended"
    end(cluster, tmp_path, 4)
    assert processes.contents(tmp_path / "mine") == quiet
    for run in runs_in(tmp_path):
        first, second, *_ = run.attempts()
        assert first["step"] == 0 < second["step"]
        assert run.log_path.read_text().count(" finished") == 1


def states(cluster: Cluster) -> str:
    return cluster("squeue", "--noheader", "--array", "--name=suite-mine", "--format=%T")


def test_preempted_jobs_continue_and_a_further_one_writes_the_report(
    quiet: dict[str, str], cluster: Cluster, tmp_path: Path
) -> None:
    submitted(cluster, tmp_path, 2, waited_for=2)
    cluster.preempt()
    assert "Dependency" in cluster("squeue", "--noheader", "--format=%r")
    wait_for(lambda: not states(cluster), "the end of the jobs, without any launcher")
    assert "| sphere-3d | mixed | 2 |" in (tmp_path / "mine/report.md").read_text()
    assert processes.contents(tmp_path / "mine").items() <= quiet.items()
    assert all(len(run.attempts()) > 1 for run in runs_in(tmp_path))


def test_a_job_whose_node_dies_continues_on_another_node(
    quiet: dict[str, str], cluster: Cluster, tmp_path: Path
) -> None:
    (job,) = submitted(cluster, tmp_path, 1)
    node = cluster("squeue", "--noheader", "--array", f"--job={job}", "--format=%N").strip()
    own = f"slurmstepd: [{job.partition('_')[0]}."  # one element, which has the array's number
    steps = [p for p in psutil.process_iter() if " ".join(p.cmdline()).startswith(own)]
    assert len(steps) == 2, "the batch script's, and srun's"
    for process in [psutil.Process(cluster.pid(node)), *steps]:
        for member in [process, *process.children(recursive=True)]:
            member.kill()
    try:
        # SLURM notices after a while, and requeues what was there.
        assert end(cluster, tmp_path, 1) == 0
    finally:
        cluster.start(node)
    assert processes.contents(tmp_path / "mine").items() <= quiet.items()
    assert len(runs_in(tmp_path)[0].attempts()) == 2
    wait_for(lambda: control("status", cluster.folder).returncode == 0, "the node")


def test_a_killed_process_is_reported_in_a_sentence_and_the_others_continue(
    quiet: dict[str, str], cluster: Cluster, tmp_path: Path
) -> None:
    submitted(cluster, tmp_path, 2, waited_for=2)
    first, second = runs_in(tmp_path)
    os.kill(first.progress()["pid"], signal.SIGKILL)  # as the kernel does when memory runs out
    wait_for(lambda: second.state() == "finished", "the other run")
    _, output = cluster.suite("status", "mine", f"results_dir={tmp_path}")
    assert "1 interrupted, 1 finished" in output
    assert f"interrupted: {first.path.name}: job {first.progress()['job']} FAILED" in output
    assert "srun: error" in output
    assert "Killed" in output
    end(cluster, tmp_path, 2)
    assert processes.contents(tmp_path / "mine").items() <= quiet.items()


def test_a_controller_that_restarts_is_not_noticed(
    quiet: dict[str, str], cluster: Cluster, tmp_path: Path
) -> None:
    submitted(cluster, tmp_path, 2)
    following = processes.start(
        [*sweep_of(tmp_path, 2), "--cluster", "test"], env=cluster.environment
    )
    os.kill(cluster.pid("slurmctld"), signal.SIGKILL)
    cluster.start("slurmctld")
    code, output = processes.finish(following)
    assert code in (0, 2), output
    if code == 2:  # it asked at the very moment
        assert output.startswith("suite: s")
    end(cluster, tmp_path, 2)
    assert processes.contents(tmp_path / "mine").items() <= quiet.items()


def can_mount(folder: Path) -> bool:
    """Tell whether this process may mount at all."""
    try:
        with read_only(folder):
            return True
    except (OSError, subprocess.CalledProcessError):
        return False


def test_a_folder_that_the_nodes_cannot_write_is_reported(cluster: Cluster, tmp_path: Path) -> None:
    if not can_mount(tmp_path):
        pytest.skip("mounting is not allowed here")
    profile = tmp_path / "held.yaml"
    profile.write_text("{cpus: 1, memory_gb: 1, options: {hold: true}}")
    where = ["--cluster", str(profile), "--detach"]
    code, output = cluster.suite(*sweep_of(tmp_path, 2), *where)
    assert code == 0, output
    array = min(int(path.stem) for path in (tmp_path / "mine/jobs").glob("*.json"))
    with read_only(tmp_path):
        cluster("scontrol", "release", str(array))
        wait_for(lambda: states(cluster).count("\n") == 1, "the jobs' end")  # the report is held
        code, output = cluster.suite("status", "mine", f"results_dir={tmp_path}")
    cluster("scancel", "--name=suite-mine")
    assert output.count(f"no log: its node could not write {tmp_path / 'mine'}") == 2
    cluster.wait_for_the_end()
    assert end(cluster, tmp_path, 2) == 0, "nothing is lost"


def test_accounting_remembers_how_jobs_ended(quiet: dict[str, str]) -> None:
    with TemporaryDirectory(prefix="slurm-", dir="/tmp") as name:
        folder = Path(name) / "c"
        started = control("start", folder, CLUSTER_ACCOUNTING="yes", CLUSTER_NODES="1")
        assert started.returncode == 0, started.stderr
        settings = {"SLURM_CONF": str(folder / "slurm.conf"), "COLUMNS": "200"}
        accounted = Cluster(folder, os.environ | settings)
        results = Path(name) / "r"
        results.mkdir()
        try:
            (job,) = submitted(accounted, results, 1)
            accounted("scancel", job)
            accounted.wait_for_the_end()
            ended = ["sacct", "--noheader", "--allocations", "--format=State", f"--jobs={job}"]
            wait_for(lambda: "CANCELLED" in accounted(*ended), "the accounts")
            # squeue forgets; here because the controller starts anew.
            os.kill(accounted.pid("slurmctld"), signal.SIGKILL)
            for path in (folder / "state").glob("job_state*"):
                path.unlink()
            accounted.start("slurmctld")
            wait_for(lambda: control("status", folder).returncode == 0, "the controller")
            assert job not in accounted("squeue", "--noheader", "--states=all", "--array")
            code, output = accounted.suite("status", "mine", f"results_dir={results}")
            assert code == 0
            assert f"job {job} CANCELLED" in output
        finally:
            accounted.stop()
