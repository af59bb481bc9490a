"""What a report says of tuned sweeps: the reported runs alone, and every choice."""

from pathlib import Path

import pytest

from suite.config.schema import Config
from suite.paper.records import save_records
from suite.report import page
from suite.report.comparison import collect
from suite.report.page import write_report
from suite.report.records import read_records
from suite.report.wandb_blocks import curves
from suite.sweeps.choices import with_choices
from tests.sweeps.tuned import DPO, MODES, best_at, end_runs, tuned_sweep

FIXED = "objective.name: [dpo], objective.beta: [1, 10], seed: [0, 1]"


@pytest.fixture(autouse=True)
def without_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page, "draw", lambda *given: ({}, {}))


def variants(folder: Path, grids: str) -> dict[str, set[int]]:
    """Return the seeds of each variant after all runs have ended."""
    sweep = tuned_sweep(folder, grids, seeds="[100]")
    end_runs(sweep.tuning_points.values(), best_at(1, 0.001))
    found: dict[str, set[int]] = {}
    for record in collect(with_choices(sweep)):
        found.setdefault(record.variant, set()).add(record.seed)
    return found


def test_names_hold_no_tuned_keys(tmp_path: Path) -> None:
    grids = f"{{dpo: {{{DPO}, domain.initial_std: [0.1, 0.2]}}, modes: {{{MODES}}}}}"
    found = variants(tmp_path, grids)
    assert {name for name in found if name.startswith("dpo")} == {
        "dpo, initial_std=0.1", "dpo, initial_std=0.2",
    }  # fmt: skip
    assert set(map(tuple, found.values())) == {(0, 1)}


def test_chosen_and_given_values_are_variants_apart(tmp_path: Path) -> None:
    grids = f"{{tuned: {{{DPO}}}, fixed: {{{FIXED}, optimizer.lr: [0.001]}}}}"
    found = variants(tmp_path, grids)
    # The chosen run with β = 1 is also one of the fixed grid: it counts in both variants.
    assert set(found) == {"dpo", "dpo, beta=1.0", "dpo, beta=10.0"}
    assert set(map(tuple, found.values())) == {(0, 1)}


def test_two_choices_are_variants_apart(tmp_path: Path) -> None:
    narrow = "objective.name: [dpo], seed: [1, 2], tune: {objective.beta: [1]}"
    grids = f"{{wide: {{{DPO}}}, narrow: {{{narrow}}}}}"
    found = variants(tmp_path, grids)
    assert found == {"dpo, tuned in wide": {0, 1}, "dpo, tuned in narrow": {1, 2}}
    one_value = FIXED.replace("[1, 10]", "[10]")
    found = variants(tmp_path, f"{{tuned: {{{DPO}}}, fixed: {{{one_value}}}}}")
    assert found == {"dpo, tuned": {0, 1}, "dpo": {0, 1}}


def test_the_page_shows_choices_and_reported_runs(tmp_path: Path) -> None:
    sweep = tuned_sweep(tmp_path, f"{{dpo: {{{DPO}}}, modes: {{{MODES}}}}}")
    *early, last = sweep.tuning_points.values()

    def score(config: Config) -> float | None:
        return None if config.optimizer.lr == 0.001 else best_at(1, 0.001)(config)

    end_runs(early, score)
    write_report(sweep, "suite sweep mine")
    text = (sweep.folder / "report.md").read_text()
    assert "Waiting for tuning: 11 of 12 tuning runs have ended, and values are chosen" in text
    assert "4 of 4 runs are not finished" in text
    assert not save_records(sweep, "mine", tmp_path)
    end_runs([last], score)
    end_runs(with_choices(sweep).points.values(), lambda c: 5.0)
    html = write_report(sweep, "suite sweep mine").read_text()
    text = (sweep.folder / "report.md").read_text()
    assert "| dpo | objective.beta=1, optimizer.lr=0.002 | 0.4 | strength not calibrated;" in text
    assert "; on the edge of the grid:" in text
    assert "edge of the grid: optimizer.lr |" in text
    assert "objective.beta=0.1, optimizer.lr=0.001: none; objective.beta=0.1, opt" in text
    assert "| sphere-10d | dpo | 2 | 5 [5, 5] |" in text
    assert "objective.beta=1, optimizer.lr=0.002" in html
    assert "seed100" not in html, "no tuning run is among the runs"
    scores = (sweep.folder / "scores.csv").read_text()
    assert len(scores.splitlines()) == 1 + 2 + 4
    assert save_records(sweep, "mine", tmp_path)
    records = read_records(tmp_path / "mine.jsonl")
    assert len(records) == 6
    tuned = [record for record in records if record.grids == ["dpo"]]
    assert [record.point["objective.beta"] for record in tuned] == [1, 1]
    assert [record.point["optimizer.lr"] for record in tuned] == [0.002, 0.002]


def test_a_choice_that_rests_on_nothing_is_told(tmp_path: Path) -> None:
    sweep = tuned_sweep(tmp_path)
    end_runs(sweep.tuning_points.values(), lambda c: None)
    write_report(sweep, "suite sweep mine")
    text = (sweep.folder / "report.md").read_text()
    assert "no candidate finished: the first one is taken" in text


@pytest.mark.filterwarnings("ignore:Passing a plain list:DeprecationWarning")
def test_curves_on_weights_and_biases_leave_tuning_runs_out(tmp_path: Path) -> None:
    plain = tuned_sweep(tmp_path, f"{{modes: {{{MODES}}}}}", "# no tune:\n")
    (runs,) = curves(plain, "me", "project").runsets
    assert "seed" not in str(runs.filters)
    (runs,) = curves(tuned_sweep(tmp_path), "me", "project").runsets
    assert "seed" in str(runs.filters)
    assert "100" in str(runs.filters)
