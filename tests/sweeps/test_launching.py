"""What workers inherit from a launcher."""

import os
import site
import subprocess
import sys
from pathlib import Path

import pytest

from suite.sweeps.launching import set_worker_environment, worker_python_path
from suite.sweeps.spec import load_sweep
from tests.conftest import ROOT


@pytest.mark.parametrize(
    ("current", "expected"),
    [
        ("", [ROOT]),
        ("/plugins", [ROOT, "/plugins"]),
        (f"/plugins{os.pathsep}{ROOT}", [ROOT, "/plugins"]),
    ],
)
def test_workers_of_a_checkout_import_the_checkout_first(
    current: str, expected: list[object]
) -> None:
    assert worker_python_path(current).split(os.pathsep) == [str(path) for path in expected]


@pytest.mark.parametrize("function", ["getsitepackages", "getusersitepackages"])
def test_workers_of_an_installed_package_keep_the_path_of_the_launcher(
    function: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = [str(ROOT)] if function == "getsitepackages" else str(ROOT)
    monkeypatch.setattr(site, function, lambda: folder)
    assert worker_python_path("") == ""
    assert worker_python_path("/plugins") == "/plugins"


def test_a_worker_finds_the_package_from_any_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("PYTHONPATH", "OMP_NUM_THREADS"):
        monkeypatch.setenv(name, "")  # restores them at the end
    threads = ["trainer.threads=2"]
    assert set_worker_environment(load_sweep(ROOT / "configs/sweeps/bandit.yaml", threads)) == 2
    code = "import os, suite; print(suite.__file__, os.environ['OMP_NUM_THREADS'])"
    command = [sys.executable, "-S", "-c", code]  # without site-packages
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [str(ROOT / "suite/__init__.py"), "2"]
