"""Every module imports, and what must stay light does; import-linter checks who may import whom."""

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

SOURCES = sorted((ROOT / "suite").rglob("*.py"))
HEAVY = ("torch", "lightning", "transformers", "wandb", "submitit", "matplotlib", "scipy")
HEAVY += ("torchrl", "dm_control", "mujoco", "gymnasium")


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


@pytest.mark.parametrize("path", [p for p in SOURCES if p.stem != "__main__"], ids=name_of)
def test_every_module_imports_and_says_what_it_is(path: Path) -> None:
    assert importlib.import_module(name_of(path)).__doc__


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
