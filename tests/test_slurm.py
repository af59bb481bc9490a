"""On a real SLURM of this machine alone; `make test-slurm` installs what is missing."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

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
    """The environment that clients of a running cluster need."""
    with TemporaryDirectory(prefix="slurm-", dir="/tmp") as name:  # sockets need short paths
        folder = Path(name) / "c"
        started = control("start", folder)
        assert started.returncode == 0, started.stderr
        variable, _, value = started.stdout.strip().removeprefix("export ").partition("=")
        try:
            yield os.environ | {variable: value}
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
