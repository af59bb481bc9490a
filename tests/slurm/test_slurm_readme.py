"""The commands of slurm/README.md, one after another, on the test cluster and cut down in size."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT, SCHEDULE, TINY_LM
from tests.slurm.cluster import Cluster

TEXT = (ROOT / "slurm/README.md").read_text()
COMMANDS = [
    line.partition("#")[0].strip()
    for block in re.findall(r"^```bash\n(.*?)^```", TEXT, re.M | re.S)
    for line in block.splitlines()
]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of the project whose main sweep has one run."""
    for name in ("suite", "configs", "slurm"):
        shutil.copytree(ROOT / name, tmp_path / name)
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy2(ROOT / name, tmp_path)  # with its time, or make would install again
    (tmp_path / ".venv").symlink_to(ROOT / ".venv")
    sweep = tmp_path / "configs/sweeps/lm.yaml"
    text, count = re.subn(r"(?m)^grids:(\n  .*)+", "grids: {a: {seed: [0]}}", sweep.read_text())
    assert count == 1
    sweep.write_text(text)
    return tmp_path


def as_here(command: str) -> list[str]:
    """A command as written, with what this cluster has, and tiny runs."""
    words = shlex.split(command.replace("h100", "test").replace("=gpu ", "=main "))
    smaller = [*TINY_LM, *SCHEDULE, "logging.wandb=disabled"]
    if words[0] == "make":
        # Whatever its age: it is the project's own, and must not learn of the copy.
        return ["make", "--old-file=.venv/.ready", *words[1:], f"ARGS={shlex.join(smaller)}"]
    if words[0] == "sbatch":
        words = [word.replace("array=0-8", "array=0-0") for word in words]
        return ["sbatch", "--wait", "--mem=1G", *words[1:], *smaller]
    if words[0] == "suite":
        changed = smaller if words[1] in ("sweep", "report") else []
        return [sys.executable, "-m", *words, *changed]
    return words


@pytest.mark.skipif(not (ROOT / ".venv/.ready").exists(), reason="needs the .venv of `make setup`")
def test_the_commands_run_one_after_another(cluster: Cluster, tree: Path) -> None:
    assert sum(command.startswith("sbatch") for command in COMMANDS) == 2
    assert any(command.startswith("make sweep") for command in COMMANDS)
    settings = {"PYTHONPATH": str(tree), "SUITE": f"{sys.executable} -m suite"}
    environment = os.environ | cluster.environment | settings
    said = {}
    for command in filter(None, COMMANDS):
        done = subprocess.run(
            as_here(command), cwd=tree, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        said[command] = done.stdout
    assert "submitted 1 jobs" in said[COMMANDS[0]]
    dry = next(text for command, text in said.items() if "--dry-run" in command)
    assert "#SBATCH --partition=main" in dry
    assert len(list((tree / "results/lm/runs").iterdir())) == 1
    assert len(list((tree / "results/arithmetic/runs").iterdir())) == 1
    assert (tree / "results/lm/report.html").exists()
