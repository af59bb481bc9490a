"""One real SLURM of this machine alone for all tests here; `make test-slurm` installs it."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests import processes
from tests.slurm.cluster import Cluster, control, processes_of, sweep_of


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what is in this folder where there is no SLURM."""
    missing = pytest.mark.skip(
        reason="SLURM is not installed; `make test-slurm` does that, as root on Debian"
    )
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.slow)
            if shutil.which("slurmctld") is None:
                item.add_marker(missing)


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A running cluster of two nodes with two fake GPUs each."""
    with TemporaryDirectory(prefix="slurm-", dir="/tmp") as name:  # sockets need short paths
        folder = Path(name) / "c"
        started = control("start", folder)
        assert started.returncode == 0, started.stderr
        variable, _, value = started.stdout.strip().removeprefix("export ").partition("=")
        found = Cluster(folder, os.environ | {variable: value, "COLUMNS": "200"})  # whole tables
        try:
            yield found
        finally:
            found.stop()
        assert not folder.exists()
        assert not processes_of(folder)


@pytest.fixture(scope="session")
def quiet(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The metrics of a sweep of four runs on this machine, with nothing happening to it."""
    folder = tmp_path_factory.mktemp("quiet")
    code, output = processes.suite(*sweep_of(folder, 4))
    assert code == 0, output
    return processes.contents(folder / "mine")
