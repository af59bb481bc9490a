"""Code and files of other people, at every place where a command meets them."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from transformers import AutoModelForCausalLM

from suite.cli import main
from suite.config.fields import ConfigError
from suite.config.loading import load
from suite.config.registry import choose
from suite.domains.control.episodes import Episode, read, write_minari
from suite.domains.language.loading import load_network
from suite.runs.folder import RunFolder
from suite.sweeps.worker import run_worker
from tests.conftest import BASE, ROOT, SCHEDULE, TINY
from tests.docs.standins import write_model

LEAVING = """\
import sys
from dataclasses import dataclass
from suite.domains.bandit.online_config import BanditConfig

PLACES = []

def leave(place):
    if place in PLACES:
        sys.exit(0)

@dataclass
class LeavingConfig(BanditConfig):
    name: str = "leaving"

    def __post_init__(self):
        leave("made")

    def check(self):
        leave("check")

    def check_machine(self):
        leave("check_machine")
"""
ENVIRONMENTS = """\
import sys
import gymnasium

class Leaving(gymnasium.Env):
    def __init__(self):
        sys.exit(0)

gymnasium.register("Leaving-v0", Leaving)
"""
SPY = 'open("imported", "w").close()\n'


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working folder with modules of a user, from which Python imports."""
    for name, text in {"leaving": LEAVING, "leaving_tasks": ENVIRONMENTS, "spy": SPY}.items():
        (tmp_path / f"{name}.py").write_text(text)
    schedule = dict(word.removeprefix("trainer.").split("=") for word in SCHEDULE)
    trainer = json.dumps({key: int(value) for key, value in schedule.items()})
    (tmp_path / "own.yaml").write_text(
        f"{{domain: {{name: 'leaving:LeavingConfig'}}, trainer: {trainer}}}"
    )
    (tmp_path / "own_sweep.yaml").write_text("{config: own.yaml, grids: {a: {seed: [0]}}}")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    for name in ("leaving", "leaving_tasks", "spy"):
        sys.modules.pop(name, None)
    choose.cache_clear()


@pytest.mark.parametrize("place", ["made", "check", "check_machine"])
@pytest.mark.parametrize(
    "command", [["train", "own.yaml"], ["sweep", "own_sweep.yaml", "--parallel=1"]]
)
def test_a_configurations_code_that_exits_fails_the_command(
    command: list[str], place: str, work: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (work / "leaving.py").write_text(LEAVING.replace("PLACES = []", f"PLACES = [{place!r}]"))
    assert main(command) == 1
    said = capsys.readouterr().err
    assert "leaving.py, line 9, in leave: the code called sys.exit(0)" in said
    assert not list(work.glob("results/*/runs/*"))


def test_a_run_whose_configuration_exits_in_a_worker_is_failed_and_the_next_one_trains(
    work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def create(path: Path) -> RunFolder:
        config = load(path, ["results_dir=results", "sweep=both", *SCHEDULE])
        run = RunFolder.of(config)
        run.create(config)
        return run

    first, second = create(work / "own.yaml"), create(ROOT / BASE["bandit"])
    monkeypatch.setattr(sys.modules["leaving"], "PLACES", ["check"])
    run_worker([first.path, second.path])
    assert [first.state(), second.state()] == ["failed", "finished"]
    assert "in leave: the code called sys.exit(0)" in (first.summary() or {})["error"]


def test_an_environment_that_exits_fails_the_command(
    work: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = [*TINY["control"], *SCHEDULE, "domain.task=leaving_tasks:Leaving-v0"]
    options += ["domain.critic.head=mse", "trainer.steps_per_call=1"]
    assert main(["train", str(ROOT / BASE["control"]), *options]) == 1
    said = capsys.readouterr().err
    assert "leaving_tasks.py, line 6, in __init__: the code called sys.exit(0)" in said


def test_status_and_report_import_nothing_that_a_runs_folder_names(work: Path) -> None:
    assert main(["sweep", "own_sweep.yaml", "--parallel=1", "--dry-run"]) == 0
    run = work / "results/own_sweep/runs/other-mixed-seed0-0123456789ab"
    run.mkdir(parents=True)
    (run / "config.yaml").write_text("{domain: {name: 'spy:Config'}, objective: {name: 'spy:O'}}")
    (run / "summary.json").write_text('{"status": "finished", "score": 1.0, "domain": "spy:C"}')
    (run / "metrics.jsonl").write_text('{"step": 1, "eval/score": 1.0}\n')
    assert main(["status", "own_sweep"]) == 0
    main(["report", "own_sweep.yaml"])
    assert not (work / "imported").exists()
    main(["verify", str(run)])
    assert (work / "imported").exists(), "as docs/security.md says, and the spy works"


def test_a_recorded_data_set_cannot_name_an_environments_code(work: Path) -> None:
    folder = work / "set-v0"
    steps = Episode(np.zeros((4, 2)), np.zeros((3, 1)), np.zeros(3), False)
    write_minari(folder, [steps], {})
    (about,) = folder.rglob("metadata.json")
    facts = json.loads(about.read_text())
    spec = {"id": "Spy-v0", "entry_point": "spy:Environment", "additional_wrappers": []}
    about.write_text(json.dumps(facts | {"env_spec": json.dumps(spec)}))
    assert len(read(folder)) == 1
    assert not (work / "imported").exists()


@pytest.mark.parametrize("key", ["attn_implementation", "_attn_implementation"])
def test_a_model_that_names_a_kernel_of_the_hub_is_refused(key: str, tmp_path: Path) -> None:
    folder = write_model(tmp_path / "model")
    facts = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(facts | {key: "somebody/kernel"}))
    with pytest.raises(ConfigError, match=r"domain.model.path=.*program 'somebody/kernel'"):
        load_network(AutoModelForCausalLM, str(folder), "domain.model.path")
    (folder / "config.json").write_text(json.dumps(facts | {key: "eager"}))
    model = load_network(AutoModelForCausalLM, str(folder), "domain.model.path")
    assert model.config._attn_implementation == "eager"
