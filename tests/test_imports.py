"""Who may import whom, and what must stay light."""

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

SOURCES = sorted((ROOT / "suite").rglob("*.py"))
FAMILIES = ("bandit", "control", "language")
PURE = (
    "objectives/pmpo.py",
    "objectives/dpo.py",
    "objectives/mpo.py",
    "objectives/bounds.py",
    "feedback/feedback.py",
    "policies/divergences.py",
    "policies/gaussian.py",
    "report/statistics.py",
)
HEAVY = ("torch", "lightning", "transformers", "wandb", "submitit", "matplotlib", "scipy")
HEAVY += ("torchrl", "dm_control", "mujoco", "gymnasium")


def imports(path: Path) -> set[str]:
    """Every module that a file imports anywhere."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module or "")
    return found


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


@pytest.mark.parametrize("path", [p for p in SOURCES if p.stem != "__main__"], ids=name_of)
def test_every_module_imports_and_says_what_it_is(path: Path) -> None:
    assert importlib.import_module(name_of(path)).__doc__


@pytest.mark.parametrize("name", PURE)
def test_mathematics_imports_only_mathematics(name: str) -> None:
    allowed = {"torch", "numpy", "scipy", "typing", "collections", "dataclasses", "math"}
    allowed |= {"typing_extensions"}
    own = {
        "suite.feedback.feedback",
        "suite.policies.divergences",
        "suite.config.fields",
        "suite.objectives.config",
    }
    outside = {m for m in imports(ROOT / "suite" / name) if m not in own}
    assert {m.partition(".")[0] for m in outside} <= allowed


@pytest.mark.parametrize("name", FAMILIES)
def test_domains_import_neither_each_other_nor_the_training(name: str) -> None:
    others = [f"suite.domains.{other}" for other in FAMILIES if other != name]
    forbidden = (*others, "suite.training", "suite.train", "suite.sweeps")
    for path in (ROOT / "suite/domains" / name).rglob("*.py"):
        assert not [m for m in imports(path) if m.startswith(forbidden)], path


def test_only_what_starts_jobs_imports_submitit_and_only_tracking_wandb() -> None:
    for library, owners in (
        ("submitit", {"local.py", "slurm_submit.py"}),
        ("wandb", {"wandb_mirror.py", "wandb_report.py", "wandb_blocks.py"}),
    ):
        users = {p.name for p in SOURCES if any(m.startswith(library) for m in imports(p))}
        assert users == owners


@pytest.mark.parametrize(
    "command",
    [
        ["--help"],
        ["train", "configs/lm/arithmetic.yaml", "--help"],
        ["train", "configs/lm/arithmetic.yaml", "trainer.stepz=1"],
        ["train", "configs/control/cartpole-swingup.yaml", "--help"],
        ["sweep", "lm", "--dry-run"],
        ["sweep", "control", "--dry-run"],
    ],
    ids=lambda c: c[-1],
)
def test_answers_that_need_no_training_import_nothing_heavy(command: list[str]) -> None:
    code = (
        "import sys\nfrom suite.cli import main\n"
        "try:\n    main(sys.argv[1:])\nexcept SystemExit:\n    pass\n"
        f"print('HEAVY', [m for m in {HEAVY} if m in sys.modules])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *command], capture_output=True, text=True, cwd=ROOT, check=True
    )
    assert done.stdout.splitlines()[-1] == "HEAVY []"
