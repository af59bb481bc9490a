"""Choosing among candidates, and the stages of a tuned sweep: each ends, then the next begins."""

import json
import random
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from suite.cli import main
from suite.config.schema import Config
from suite.report import page
from suite.runs.folder import RunFolder
from suite.sweeps import local, run, slurm_jobs, slurm_submit
from suite.sweeps.choices import (
    choices_of,
    is_waiting,
    known_stages,
    next_stage,
    point_of,
    stages,
    with_choices,
)
from suite.sweeps.launcher_lock import sole_launcher
from suite.sweeps.launching import Outcome
from suite.sweeps.slurm_profile import Profile
from suite.sweeps.spec import Sweep
from suite.sweeps.worker import run_one
from tests.sweeps.tuned import DPO, MODES, best_at, end_runs, tuned_sweep

BOTH = f"{{modes: {{{MODES}}}, dpo: {{{DPO}}}}}"


def chosen(sweep: Sweep) -> list[tuple[float, ...]]:
    choices = choices_of(sweep)
    assert not is_waiting(choices)
    return [tuple(choice.best.values.values()) for choice in choices]


@pytest.mark.parametrize(("beta", "lr"), [(0.1, 0.001), (1, 0.002), (10, 0.001), (10, 0.002)])
def test_the_candidate_with_the_best_mean_score_is_chosen(
    beta: float, lr: float, tmp_path: Path
) -> None:
    sweep = tuned_sweep(tmp_path)
    configs = list(sweep.tuning_points.values())
    random.Random(int(beta)).shuffle(configs)  # runs end in any order
    end_runs(configs, best_at(beta, lr))
    assert chosen(sweep) == [(beta, lr)]
    reported = with_choices(sweep)
    assert {(c.objective.beta, c.optimizer.lr) for c in reported.points.values()} == {(beta, lr)}
    assert [c.seed for c in reported.points.values()] == [0, 1]
    assert reported.grids["dpo"] == list(reported.points)
    (choice,) = choices_of(sweep)
    inner = beta == 1
    assert choice.edges == (["optimizer.lr"] if inner else ["objective.beta", "optimizer.lr"])


def test_every_variant_of_a_grid_has_a_choice_of_its_own(tmp_path: Path) -> None:
    grids = f"{{dpo: {{{DPO}, domain.function: [sphere, schwefel]}}}}"
    sweep = tuned_sweep(tmp_path, grids, seeds="[100]")
    best = {"sphere": best_at(0.1, 0.001), "schwefel": best_at(10, 0.002)}
    end_runs(sweep.tuning_points.values(), lambda c: best[c.domain.function](c))
    assert chosen(sweep) == [(0.1, 0.001), (10, 0.002)]
    assert len(with_choices(sweep).points) == 4


def test_of_equal_candidates_the_first_is_chosen(tmp_path: Path) -> None:
    sweep = tuned_sweep(tmp_path)
    end_runs(sweep.tuning_points.values(), lambda c: float(c.objective.beta > 0.5))
    assert chosen(sweep) == [(1, 0.001)]


@pytest.mark.parametrize("score", [None, float("nan"), float("inf"), -float("inf")])
def test_a_candidate_with_a_failed_or_endless_run_comes_last(
    score: float | None, tmp_path: Path
) -> None:
    sweep = tuned_sweep(tmp_path)

    def spoilt(config: Config) -> float | None:
        is_best = (config.objective.beta, config.optimizer.lr) == (10, 0.002)
        return score if is_best and config.seed == 101 else best_at(10, 0.002)(config)

    end_runs(sweep.tuning_points.values(), spoilt)
    assert chosen(sweep) == [(10, 0.001)]


def test_where_all_candidates_fail_the_first_is_taken(tmp_path: Path) -> None:
    sweep = tuned_sweep(tmp_path)
    end_runs(sweep.tuning_points.values(), lambda c: None)
    assert chosen(sweep) == [(0.1, 0.001)]


def test_nothing_is_chosen_before_the_last_tuning_run_has_ended(tmp_path: Path) -> None:
    sweep = tuned_sweep(tmp_path, BOTH)
    *early, last = sweep.tuning_points.values()
    end_runs(early, best_at(10, 0.002))
    assert is_waiting(choices_of(sweep))
    assert {c.variant for c in with_choices(sweep).points.values()} == {"positive", "mixed"}
    assert [stage.stage for stage in stages(sweep)] == ["tuning"]
    assert json.loads((sweep.folder / "choices.json").read_text())["variants"][0]["chosen"] is None
    assert next_stage(sweep, retry=False).stage == "tuning"
    end_runs([last], best_at(10, 0.002))
    assert [stage.stage for stage in stages(sweep)] == ["tuning", "reported"]
    (row,) = json.loads((sweep.folder / "choices.json").read_text())["variants"]
    assert row["chosen"] == {"objective.beta": 10, "optimizer.lr": 0.002}
    assert row["on_the_edge"] == ["objective.beta", "optimizer.lr"]
    assert len(row["candidates"]) == 6
    assert row["candidates"][-1]["score"] == pytest.approx(0.5)
    stage = next_stage(sweep, retry=True)
    assert (stage.stage, len(stage.points)) == ("reported", 4 + 2)
    assert point_of(sweep, 12) == next(iter(stage.points.values()))


def test_with_retry_failed_tuning_runs_come_first_and_may_change_the_choice(tmp_path: Path) -> None:
    sweep = tuned_sweep(tmp_path)
    best = best_at(10, 0.002)
    end_runs(sweep.tuning_points.values(), lambda c: None if c.objective.beta == 10 else best(c))
    assert next_stage(sweep, retry=False).stage == "reported"
    assert next_stage(sweep, retry=True).stage == "tuning"
    before = with_choices(sweep)
    end_runs(sweep.tuning_points.values(), best)
    after = with_choices(before)
    assert {c.objective.beta for c in before.points.values()} == {1}
    assert {c.objective.beta for c in after.points.values()} == {10}, "none of the earlier choice"


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Train runs in this process, each in place of a worker; returns the stages that began."""
    begun: list[str] = []

    def launch_stage(stage: Sweep, parallel: int | None, retry: bool) -> Outcome:
        begun.append(stage.stage)
        states = []
        for config in stage.points.values():
            RunFolder.of(config).create(config)
            states.append(run_one(RunFolder.of(config)))
            if len(begun) == 1 and len(states) == parallel:  # stopped after so many runs
                return Outcome(all_finished=False, stopped=True)
        return Outcome(set(states) == {"finished"}, stopped=False)

    monkeypatch.setattr(local, "launch_stage", launch_stage)
    monkeypatch.setattr(page, "draw", lambda *given: ({}, {}))  # figures take seconds
    return begun


TINY = "set: {domain.dimensions: 2, domain.contexts: 2, trainer.steps: 2, trainer.eval_every: 1}\n"


def test_a_sweep_that_is_stopped_in_either_stage_goes_on_to_the_same_choice(
    in_process: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    grid = "{a: {seed: [0], tune: {optimizer.lr: [0.001, 0.1]}}, b: {feedback: [positive]}}"
    more = f"{TINY}tune: {{seed: [7]}}\n"
    words = ["logging.wandb=disabled"]
    contents = []
    for stop_after in (1, None):
        folder = tmp_path / str(stop_after)
        folder.mkdir()
        sweep = tuned_sweep(folder, grid, more)
        command = ["sweep", str(folder / "mine.yaml"), f"results_dir={folder}/results", *words]
        in_process.clear()
        if stop_after is not None:
            assert main([*command, f"--parallel={stop_after}"]) == 130
            assert in_process == ["tuning"], "nothing is reported after a stop"
        assert main(command) == 0
        assert in_process[-2:] == ["tuning", "reported"]
        assert "mine, tuning: 2 finished\nmine, reported: 2 finished" in capsys.readouterr().out
        text = (sweep.folder / "report.md").read_text().replace(str(folder), "")
        contents.append((text, (sweep.folder / "choices.json").read_text()))
        with sole_launcher(sweep.folder):  # free again
            assert main(command) == 2
        assert "another `suite sweep` works on it" in capsys.readouterr().err
    assert contents[0] == contents[1]


def test_plan_and_status_show_both_stages(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slurm_jobs, "queued_jobs", lambda: {})
    sweep = tuned_sweep(tmp_path, BOTH)
    where = f"results_dir={tmp_path}/results"
    plan = ["sweep", str(tmp_path / "mine.yaml"), where, "--dry-run"]
    assert main(plan) == 0
    text = capsys.readouterr().out
    assert "16 runs in " in text
    assert "2 reported runs are waiting for tuning: 0 of 12 tuning runs have ended" in text
    assert not (tmp_path / "results").exists(), "nothing was started"
    configs = list(sweep.tuning_points.values())
    next(stages(sweep))
    end_runs(configs[:5], best_at(1, 0.001))
    assert main(["status", "mine", where]) == 0
    text = capsys.readouterr().out
    assert "tuning: 7 queued, 5 finished" in text
    assert "reported: (waiting for tuning)" in text
    end_runs(configs, lambda c: None if c.seed == 100 else 1.0)
    (*_, reported) = stages(sweep)
    end_runs(list(reported.points.values())[:3], lambda c: 1.0)
    assert main(["status", "mine", where]) == 0
    text = capsys.readouterr().out
    assert "tuning: 6 failed, 6 finished\nreported: 3 finished" in text
    (sweep.folder / "choices.json").write_text('{"variants": [3]}')
    assert main(["status", "mine", where]) == 0
    assert "6 failed, 9 finished" in capsys.readouterr().out, "a damaged file hides no run"
    assert main(plan) == 0
    text = capsys.readouterr().out
    assert "18 runs in " in text
    assert "waiting" not in text


def test_slurm_gets_one_stage_at_a_time(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    submitted: list[list[str]] = []

    def submit(stage: Sweep, profile: Profile, retry: bool) -> list[str]:
        submitted.append([config.run_name for config in stage.points.values()])
        return ["5_0"]

    nothing: Callable[..., None] = lambda *given: None  # noqa: E731
    monkeypatch.setattr(run, "submit_sweep", submit)
    monkeypatch.setattr(slurm_submit, "submit_report", nothing)
    sweep = tuned_sweep(tmp_path, BOTH)
    sentence = "the same command submits the reported runs"
    for _ in range(2):
        run.submit_detached(sweep, Profile(), False, nothing, "suite sweep mine")
        assert submitted.pop() == list(sweep.tuning_points)
        assert sentence in capsys.readouterr().out.replace("\n", " ")
    end_runs(sweep.tuning_points.values(), best_at(1, 0.001))
    run.submit_detached(sweep, Profile(), False, nothing, "suite sweep mine")
    assert submitted.pop() == list(known_stages(sweep)[1].points)
    assert sentence not in capsys.readouterr().out
    executor = SimpleNamespace(settings={}, job_id="9")
    executor.update_parameters = lambda **given: executor.settings.update(given)
    executor.submit = lambda *call: executor
    monkeypatch.undo()
    monkeypatch.setattr(slurm_submit, "make_executor", lambda stage, profile: executor)
    slurm_submit.submit_report(sweep, Profile(), ["5_0"], nothing, "suite sweep mine")
    assert executor.settings["dependency"] == "afterany:5"
