"""What a run reads is compared when it goes on, and when it is finished already."""

import json
import logging
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import pytest
from typing_extensions import override

from suite.cli import main
from suite.config.fields import ConfigError
from suite.config.loading import load
from suite.config.schema import Config
from suite.domains.control.offline_config import OfflineConfig
from suite.domains.language.offline_config import RowsConfig
from suite.domains.language.online_config import LMConfig
from suite.runs.folder import RunFolder
from suite.runs.inputs import InputsChanged, allow_changes, input_digests
from suite.sweeps.run import check_sweep
from suite.sweeps.spec import load_sweep
from suite.system.files import read_json, write_json
from suite.train import train
from tests.docs.standins import write_model

STEPS = 4
JUDGE = "def score(prompts, completions):\n    return [len(text) for text in completions]\n"
Change = Callable[[Path], None]


class StopAfter(L.Callback):
    """Ask the run to stop, as a scheduler does, when it has taken a few steps."""

    def __init__(self, steps: int) -> None:
        self.left = steps

    @override
    def on_train_batch_end(self, *_: Any) -> None:
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGTERM)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("model"))


@pytest.fixture
def work(tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with rows, prompts, a judge and a model."""
    shutil.copytree(model, tmp_path / "model")
    rows = [
        {"prompt": f"{n}+1=", "completion": f"{n + 1}", "label": 1 if n % 2 else -1}
        for n in range(24)
    ]
    (tmp_path / "rows.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    prompts = [{"prompt": f"is {n} ok?"} for n in range(32)]
    (tmp_path / "prompts.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in prompts))
    (tmp_path / "my_length_judge.py").write_text(JUDGE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    steps = f"trainer: {{steps: {STEPS}, eval_every: {STEPS}, checkpoint_every: 1, log_every: 1}}\n"
    common = "{name: rows, model: model, batch_size: 4, data: {path: rows.jsonl}}"
    (tmp_path / "rows.yaml").write_text(f"domain: {common}\n{steps}")
    judged = (
        "{name: lm, task: prompts, prompts_path: prompts.jsonl, judge: 'my_length_judge:score',"
        " max_new_tokens: 3, model: {path: model}, prompts: 2, share_prompts: 4, eval_prompts: 2,"
        " labels: {by: mean}}"
    )
    (tmp_path / "judged.yaml").write_text(f"domain: {judged}\n{steps}")
    return tmp_path


def flip_labels(work: Path) -> None:
    path = work / "rows.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    flipped = [row | {"label": -row["label"]} for row in rows]
    path.write_text("".join(f"{json.dumps(row)}\n" for row in flipped))


def change_model(work: Path) -> None:
    path = work / "model/generation_config.json"
    write_json(path, (read_json(path) or {}) | {"temperature": 0.5})


def change_judge(work: Path) -> None:
    (work / "my_length_judge.py").write_text(JUDGE.replace("len(text)", "-len(text)"))


def add_prompt(work: Path) -> None:
    with (work / "prompts.jsonl").open("a") as file:
        file.write('{"prompt": "one more"}\n')


CHANGES = [
    ("rows.yaml", flip_labels, "domain.data.path=rows.jsonl"),
    ("rows.yaml", change_model, "domain.model=model"),
    ("judged.yaml", change_judge, "domain.judge=my_length_judge:score"),
    ("judged.yaml", add_prompt, "domain.prompts_path=prompts.jsonl"),
]


@pytest.mark.parametrize(("file", "change", "named"), CHANGES)
def test_a_run_whose_input_changed_goes_on_only_where_that_is_allowed(
    work: Path, file: str, change: Change, named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    config = load(work / file)
    run = RunFolder.of(config)
    assert train(config, [StopAfter(2)])["status"] == "interrupted"
    before = (input_digests(config), run.metrics_path.read_bytes(), run.environment())
    change(work)
    now = input_digests(config)
    (key,) = [key for key in now if now[key] != before[0][key]]
    with pytest.raises(InputsChanged, match=named) as refusal:
        train(config)
    for digest in (before[0][key], now[key]):
        assert str(digest)[:8] in str(refusal.value)
    assert "--changed-inputs" in str(refusal.value)
    assert (before[0], run.metrics_path.read_bytes(), run.environment()) == before
    assert run.state() == "interrupted", "a refusal is no failure"
    assert main(["train", file]) == 2
    assert named in capsys.readouterr().err
    assert main(["train", file, "--changed-inputs"]) == 0
    assert run.state() == "finished"
    (row,) = run.event_rows("inputs allowed")
    assert row["inputs"] == {key: {"was": before[0][key], "is": now[key]}}
    assert run.environment()["inputs"] == now
    assert main(["train", file]) == 0, "what was allowed is not asked again"


@pytest.fixture
def finished(work: Path) -> Config:
    config = load(work / "rows.yaml")
    train(config)
    return config


def test_a_finished_run_says_that_its_labels_were_flipped(
    finished: Config, work: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = RunFolder.of(finished)
    recorded, score = run.environment(), (run.summary() or {})["score"]
    flip_labels(work)
    assert main(["train", "rows.yaml"]) == 2
    assert "the run is finished, and its score is that of the former input" in (
        capsys.readouterr().err
    )
    assert main(["train", "rows.yaml", "--changed-inputs"]) == 0
    assert (run.summary() or {})["score"] == score
    assert run.environment() == recorded, "it was made with the former labels"
    flip_labels(work)
    assert main(["train", "rows.yaml"]) == 0


def test_a_sweep_refuses_finished_runs_whose_rows_changed(finished: Config, work: Path) -> None:
    sweep = "config: rows.yaml\ngrids: {one: {seed: [0, 1]}}\n"
    (work / "twice.yaml").write_text(sweep)
    points = load_sweep(work / "twice.yaml", ["sweep=rows"])
    assert RunFolder.of(finished).path.name in points.points
    check_sweep(points, None)
    flip_labels(work)
    with pytest.raises(InputsChanged, match=r"rows\.jsonl is not what the run began with"):
        check_sweep(points, None)
    check_sweep(points, None, changed_inputs=True)


def test_paths_times_and_places_do_not_matter(
    finished: Config, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.utime(work / "rows.jsonl", (1, 1))
    assert train(finished)["status"] == "finished"
    (work / "another").mkdir()
    for name in ("rows.jsonl", "rows.yaml", "model", "results"):
        shutil.move(work / name, work / "another" / name)
    monkeypatch.chdir(work / "another")
    moved = load(Path("rows.yaml"))
    assert RunFolder.of(moved).state() == "finished"
    assert main(["train", "rows.yaml"]) == 0
    (work / "another/rows.jsonl").unlink()
    assert train(moved)["status"] == "finished", "what is gone cannot be compared"


def test_recorded_episodes_are_an_input_and_what_the_suite_makes_is_none() -> None:
    assert OfflineConfig(path="some.hdf5").inputs() == {"path": "some.hdf5"}
    assert OfflineConfig().inputs() == RowsConfig().inputs() == LMConfig().inputs() == {}


def test_a_run_that_recorded_no_digests_goes_on_and_records_them(
    work: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = load(work / "rows.yaml")
    run = RunFolder.of(config)
    train(config, [StopAfter(2)])
    facts = run.environment()
    del facts["inputs"]
    write_json(run.path / "environment.json", facts)
    with caplog.at_level(logging.INFO, "suite"):
        assert train(config)["status"] == "finished"
    assert "the digests of its inputs are recorded from now on" in caplog.text
    assert run.environment()["inputs"] == input_digests(config)


def test_a_run_without_a_checkpoint_begins_with_the_mended_file(work: Path) -> None:
    config = load(work / "rows.yaml")
    good = (work / "rows.jsonl").read_text()
    (work / "rows.jsonl").write_text(good + '{"prompt": "no completion"}\n')
    with pytest.raises(ConfigError):
        train(config)
    (work / "rows.jsonl").write_text(good)
    assert train(config)["status"] == "finished"
    assert RunFolder.of(config).environment()["inputs"] == input_digests(config)
    allow_changes(config)
    assert not RunFolder.of(config).event_rows("inputs allowed"), "nothing differs"


@pytest.mark.parametrize("odd", [3, [], {"domain.data.path": 3}, {"domain.data.path": None}, "a"])
def test_odd_recorded_digests_stop_nothing(finished: Config, odd: object) -> None:
    run = RunFolder.of(finished)
    write_json(run.path / "environment.json", run.environment() | {"inputs": odd})
    assert train(finished)["status"] == "finished"


def test_an_attempt_names_its_commit_and_tells_what_computes_otherwise(
    work: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = load(work / "rows.yaml")
    run = RunFolder.of(config)
    train(config, [StopAfter(2)])
    facts = run.environment()
    facts["packages"] |= {"torch": "1.0.0"}
    write_json(run.path / "environment.json", facts | {"source": "0" * 32, "git": "abc"})
    caplog.clear()
    train(config)
    (line,) = [r.message for r in caplog.records if "since the attempt before" in r.message]
    assert "the suite's code (commit abc → " in line
    assert "torch (1.0.0 → " in line
    assert "numpy" not in line
    for row in run.attempts():
        assert {"git", "source", "packages"} <= row.keys()
