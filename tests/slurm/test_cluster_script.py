"""slurm/local_cluster.sh: start, stop, status."""

from pathlib import Path

from tests.slurm.cluster import Cluster, control


def test_a_job_runs_on_two_nodes_with_a_fake_gpu_each(cluster: Cluster) -> None:
    show = ["bash", "-c", "echo $SLURMD_NODENAME $CUDA_VISIBLE_DEVICES"]
    found = cluster("srun", "--chdir=/tmp", "--nodes=2", "--gres=gpu:1", *show)
    assert sorted(found.split("\n")) == ["", "node0 0", "node1 0"]


def test_started_again_it_is_left_as_it_is_and_says_that_every_node_answers(
    cluster: Cluster,
) -> None:
    before = (cluster.folder / "run/slurmctld.pid").read_text()
    assert "runs already" in control("start", cluster.folder).stderr
    assert (cluster.folder / "run/slurmctld.pid").read_text() == before
    status = control("status", cluster.folder)
    assert status.returncode == 0
    assert status.stdout.count("gpu:2") == 4, "two nodes in each of two partitions"


def test_without_a_cluster_the_status_says_so(tmp_path: Path) -> None:
    found = control("status", tmp_path / "none")
    assert found.returncode == 3
    assert "nothing in" in found.stderr


def test_a_folder_that_holds_no_cluster_is_not_deleted(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    found = control("stop", tmp_path)
    assert found.returncode == 1
    assert "holds no cluster" in found.stderr
    assert (tmp_path / "thesis.tex").exists()
