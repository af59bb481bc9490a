"""A package of somebody else, installed beside ours: tests/example_package.

Both are installed without their dependencies, which the tests' own environment has, and are used
from an empty folder outside of any checkout.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests import processes
from tests.conftest import ROOT, SCHEDULE, TINY_LM
from tests.docs.pages import blocks, files

PACKAGE = ROOT / "tests/example_package"
ECHO = [key for key in TINY_LM if "digits" not in key] + ["domain.task=echo"]
COIN = """\
domain: {name: coin}
trainer: {steps: 12, eval_every: 4, checkpoint_every: 3, log_every: 2}
optimizer: {lr: 0.05}
"""
SWEEP = """\
config: coin.yaml
grids:
  modes: {feedback: [positive, negative], objective.name: [pmpo, hinge], seed: [0, 1]}
report: {title: A coin}
"""
LANGUAGE = """\
config: lm/arithmetic
grids:
  judges: {domain.judge: [exact, "coin_example.judges:short"]}
report: {title: An echo}
"""


class Installed:
    """Both packages in a folder of their own, and an empty folder to work in."""

    def __init__(self, folder: Path) -> None:
        self.site, self.work = folder / "site", folder / "work"
        self.work.mkdir(parents=True)
        for source in (ROOT, PACKAGE):
            copy = folder / "sources" / source.name
            ignored = shutil.ignore_patterns(".*", "results", "build", "*.egg-info", "tests")
            shutil.copytree(source, copy, ignore=ignored)
            command = ["-m", "pip", "install", "-qq", "--no-deps", "--no-build-isolation"]
            done = subprocess.run(
                [sys.executable, *command, "--target", str(self.site), str(copy)],
                capture_output=True, text=True, check=False,
            )  # fmt: skip
            assert done.returncode == 0, done.stderr
        self.environment = os.environ | {"PYTHONPATH": str(self.site), "OMP_NUM_THREADS": "1"}

    def start(self, *arguments: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [sys.executable, "-m", "suite", *arguments], cwd=self.work, env=self.environment,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip

    def suite(self, *arguments: str) -> tuple[int, str]:
        return processes.finish(self.start(*arguments))

    def python(self, code: str) -> str:
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=self.work, env=self.environment,
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    def write(self, name: str, text: str) -> str:
        (self.work / name).write_text(text)
        return name


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    return Installed(tmp_path_factory.mktemp("installed"))


pytestmark = pytest.mark.slow


def test_it_is_the_installed_suite_that_runs_and_it_brings_its_examples(
    installed: Installed,
) -> None:
    assert str(installed.site) in installed.python("import suite; print(suite.__file__)")
    code, output = installed.suite("sweep", "--list")
    assert code == 0
    assert {"lm", "bandit", "control_beta"} <= set(re.findall(r"^(\w+)", output, re.M))
    code, output = installed.suite("train", "bandit/sphere", "trainer.steps=50")
    assert code == 0, output
    (run,) = (installed.work / "results/sphere/runs").iterdir()
    assert (run / "policy/README.md").read_text().startswith("---\n")
    code, output = installed.suite("train", "arithmetic", *TINY_LM, *SCHEDULE)
    assert code == 0, output
    code, output = installed.suite("sweep", "bandit", "--dry-run")
    assert code == 0, output
    code, output = installed.suite("claims", "--report")
    assert (code, output.count("\n")) == (2, 1), output


@pytest.mark.parametrize(
    ("name", "overrides"),
    [
        ("coin", ["seed=3"]),
        ("hinge", ["seed=3", "objective.name=hinge", "objective.margin=2"]),
    ],
)
def test_a_domain_and_an_objective_train_and_resume(
    installed: Installed, name: str, overrides: list[str]
) -> None:
    config = installed.write("coin.yaml", COIN)
    steps = ["trainer.steps=1500", "trainer.eval_every=500", "trainer.checkpoint_every=100"]
    metrics = []
    for sweep in (f"{name}_whole", f"{name}_torn"):
        command = ["train", config, *overrides, *steps, f"sweep={sweep}"]
        if sweep.endswith("torn"):
            process = installed.start(*command)
            runs = installed.work / f"results/{sweep}/runs"
            processes.wait_until(lambda r=runs: any(r.glob("*/checkpoints/last.ckpt")), process)
            process.send_signal(signal.SIGTERM)
            assert processes.finish(process)[0] == 130
        code, output = installed.suite(*command)
        assert code == 0, output
        (run,) = (installed.work / f"results/{sweep}/runs").iterdir()
        metrics.append((run / "metrics.jsonl").read_text())
        attempts = (run / "attempts.jsonl").read_text().splitlines()
        assert len(attempts) == 1 + sweep.endswith("torn")
    assert metrics[0] == metrics[1]
    saved = (run / "config.yaml").read_text()
    assert "name: coin_example.settings:CoinConfig" in saved, "the canonical name is kept"
    assert ("name: coin_example.settings:HingeConfig" in saved) == (name == "hinge")


def test_a_sweep_over_both_is_run_and_reported(installed: Installed) -> None:
    installed.write("coin.yaml", COIN)
    code, output = installed.suite("sweep", installed.write("coins.yaml", SWEEP))
    assert code == 0, output
    report = (installed.work / "results/coins/report.md").read_text()
    assert "| coin | positive | 2 |" in report
    assert "| coin | hinge | " in report
    code, output = installed.suite("report", "coins.yaml")
    assert code == 0, output


def test_a_task_and_a_judge_train_resume_and_are_reported(installed: Installed) -> None:
    sweep = installed.write("echo.yaml", LANGUAGE.replace("lm/arithmetic", "echo_base.yaml"))
    base = (ROOT / "configs/lm/arithmetic.yaml").read_text()
    installed.write("echo_base.yaml", base)
    words = ["sweep", sweep, *ECHO, *SCHEDULE, "logging.wandb=disabled", "--parallel", "1"]
    process = installed.start(*words)
    runs = installed.work / "results/echo/runs"
    processes.wait_until(lambda: any(runs.glob("*/checkpoints/last.ckpt")), process)
    process.send_signal(signal.SIGTERM)
    processes.finish(process)
    code, output = installed.suite(*words)
    assert code == 0, output
    names = sorted(path.name.split("-")[0] for path in runs.iterdir())
    assert names == ["echo", "echo"], "a folder's name has no import path"
    report = (installed.work / "results/echo/report.md").read_text()
    assert "judge=coin_example.judges:short" in report
    for run in runs.iterdir():
        assert json.loads((run / "summary.json").read_text())["status"] == "finished"
        assert "task: coin_example.echo:Echo" in (run / "config.yaml").read_text()


def test_short_name_and_import_path_are_the_same_run(installed: Installed) -> None:
    installed.write("coin.yaml", COIN)
    code = (
        "from pathlib import Path\nfrom suite.config.loading import load\n"
        "names = ['coin', 'coin_example.settings:CoinConfig']\n"
        "print(len({load(Path('coin.yaml'), [f'domain.name={n}']).signature for n in names}))"
    )
    assert installed.python(code) == "1\n"


def test_all_pass_the_public_contract_from_their_own_tests(installed: Installed) -> None:
    installed.write(
        "test_coin.py",
        "from suite.testing import check_domain, check_judge, check_objective, check_task\n\n\n"
        "def test_the_coin_keeps_the_contract(tmp_path):\n"
        "    check_domain('coin', 'domain.contexts=4', folder=tmp_path)\n\n\n"
        "def test_the_hinge_keeps_the_contract(tmp_path):\n"
        "    check_objective('coin_example.settings:HingeConfig', folder=tmp_path)\n"
        "    check_objective('hinge', folder=tmp_path, domain=['domain.name=coin'])\n\n\n"
        "def test_the_task_and_the_judge_keep_the_contract():\n"
        "    check_task('echo')\n"
        "    check_judge('coin_example.judges:short', ['ab>', 'cd>'], ['a', 'cd'])\n",
    )
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "test_coin.py"], cwd=installed.work,
        env=installed.environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    assert "3 passed" in done.stdout


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("domain.name=coyn", "found 'coyn'; did you mean coin?"),
        ("domain.name=nowhere.coin:CoinConfig", "ModuleNotFoundError: No module named 'nowhere'"),
        ("domain.name=coin_example.settings:CoinConfg", "did you mean coin_example.settings:CoinC"),
        ("domain.name=coin_example.coin:Coin", "must be a dataclass that subclasses suite.config"),
        ("domain.name=coin_example.coin:normal", "must be a class, found function"),
        ("domain.name=broken:Settings", "broken:Settings cannot be imported: ZeroDivisionError"),
        ("objective.name=hing", "found 'hing'; did you mean hinge?"),
        ("domain.contexs=3", "unknown key domain.contexs; did you mean domain.contexts?"),
    ],
)
def test_a_missing_misspelt_or_broken_plug_in_is_one_sentence(
    installed: Installed, word: str, message: str
) -> None:
    installed.write("broken.py", "1 / 0\n")
    code, output = installed.suite("train", installed.write("coin.yaml", COIN), word)
    assert (code, output.count("\n")) == (2, 1), output
    assert message in output


def test_the_page_on_extending_shows_the_package() -> None:
    page = ROOT / "docs/extending.md"
    shown = files(page)
    own = {str(p.relative_to(PACKAGE)): p for p in PACKAGE.glob("*/[a-z]*.py")}
    own = {name: f"# {name}\n{path.read_text()}" for name, path in own.items()}
    assert {name: shown[name] for name in own} == own


def test_the_configuration_on_the_page_trains(installed: Installed) -> None:
    page = ROOT / "docs/extending.md"
    (config,) = (b.text for b in blocks(page) if b.language == "yaml")
    code, output = installed.suite("train", installed.write("shown.yaml", config))
    assert code == 0, output
    assert float(output.rpartition("score ")[2]) > 0.5, "the mean moved towards what is preferred"
    installed.write("test_shown.py", files(page)["test_coin.py"])
    installed.python("import pytest, sys; sys.exit(pytest.main(['-q', 'test_shown.py']))")


def test_no_file_of_the_suite_knows_the_packages_name() -> None:
    sources = [path for path in (ROOT / "suite").rglob("*") if path.suffix in (".py", ".j2")]
    assert len(sources) > 100
    assert not [path for path in sources if "coin_example" in path.read_text()]
