"""Runs that need several allocations, one after another or several nodes at once."""

import os
import signal
from pathlib import Path

import pytest

from tests import processes
from tests.slurm.cluster import Cluster, has_checkpoint, logs_in, runs_in, sweep_of, wait_for

LONGER = ["trainer.steps=30000", "trainer.checkpoint_every=15000", "trainer.eval_every=5000"]


@pytest.fixture(scope="module", autouse=True)
def short_jobs(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run in jobs that are too short for it, begun while the other tests are at work."""
    folder = tmp_path_factory.mktemp("pieces")
    profile = folder / "short.yaml"
    # SLURM sees to limits every 30 seconds: of each minute some twenty remain for steps.
    profile.write_text("{minutes: 1, notice_seconds: 30, cpus: 1, memory_gb: 1}")
    where = ["--cluster", str(profile), "--detach"]
    code, output = cluster.suite(*sweep_of(folder, 1), *LONGER, *where)
    assert code == 0, output
    return folder


def test_two_ranks_on_two_nodes_are_one_rank_and_continue_after_a_requeue(
    cluster: Cluster, tmp_path: Path
) -> None:
    profile = tmp_path / "pair.yaml"
    profile.write_text("{cpus: 1, memory_gb: 1, minutes: 30}")
    steps = ["trainer.steps=3000", "trainer.checkpoint_every=300"]
    for name in ("one", "two", "torn"):
        (tmp_path / name).mkdir()
    code, output = cluster.suite(*sweep_of(tmp_path / "one", 1), *steps)
    assert code == 0, output
    ranks = [*steps, "trainer.num_nodes=2", "--cluster", str(profile)]
    code, output = cluster.suite(*sweep_of(tmp_path / "two", 1), *ranks)
    assert code == 0, output
    torn = [*sweep_of(tmp_path / "torn", 1), *ranks]
    code, output = cluster.suite(*torn, "--detach")
    assert code == 0, output
    run = runs_in(tmp_path / "torn")[0]
    wait_for(lambda: has_checkpoint(run), "a checkpoint")
    job = run.progress()["job"]
    nodes = cluster("squeue", "--noheader", "--array", f"--job={job}", "--format=%N").strip()
    assert nodes == "node[0-1]"
    cluster("scancel", "--signal=USR2", job)  # to all ranks, which save together
    wait_for(lambda: len(run.attempts()) == 2, "the second start, by itself")
    assert run.attempts()[1]["step"] > 0
    os.kill(run.attempts()[1]["pid"], signal.SIGKILL)  # rank 0; srun ends the other
    gone = ["squeue", "--noheader", f"--job={job}"]
    wait_for(lambda: not cluster(*gone), "the job's end")
    assert run.state() == "interrupted"
    code, output = cluster.suite(*torn)
    assert code == 0, output
    whole = runs_in(tmp_path / "two")[0]
    assert run.metrics() == whole.metrics(), "bit-identical to two uninterrupted ranks"
    for one, two in zip(runs_in(tmp_path / "one")[0].metrics(), whole.metrics(), strict=True):
        assert two == pytest.approx(one, rel=2e-3, abs=1e-4)


def test_a_run_that_needs_three_allocations_ends_bit_identical(
    short_jobs: Path, cluster: Cluster, tmp_path: Path
) -> None:
    code, output = cluster.suite(*sweep_of(tmp_path, 1), *LONGER)
    assert code == 0, output
    cluster.wait_for_the_end(patience=900)  # a slow machine takes only few steps in a minute
    assert logs_in(short_jobs).count(" continues from step ") >= 2
    assert processes.contents(short_jobs / "mine") == processes.contents(tmp_path / "mine")
