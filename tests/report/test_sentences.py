"""What a verdict says where runs are missing, and where it is false."""

import dataclasses

import pytest

from suite.paper.judging import OPEN, Verdict
from suite.paper.page import with_missing
from suite.report.beta_map import beta_curves
from suite.report.comparison import across, cells, improvements, improvements_across, labels_of
from suite.report.records import RunRecord
from suite.report.sentences import headlines
from suite.sweeps.spec import ReportSettings
from tests.paper.made_records import run


def four(end: float, **changes: object) -> list[RunRecord]:
    """Four runs of mixed feedback that go from 0 to a score, the last two with changes."""
    runs = [run("t", "mixed", seed, 0.0, end + seed / 10) for seed in range(4)]
    return [dataclasses.replace(r, **changes) if r.seed > 1 else r for r in runs]  # type: ignore[arg-type]


MISSING = [
    {"state": "failed"},
    {"state": "queued", "evaluations": []},
    {"state": "running"},
    {"state": "interrupted"},
    {"state": "unreadable", "evaluations": []},
    {"problem": "its metrics differ"},
]


@pytest.mark.parametrize("changes", MISSING)
def test_a_verdict_over_survivors_says_of_how_many_runs_it_is(changes: dict[str, object]) -> None:
    records = four(100.0, **changes)
    (sentence,) = headlines(cells(records), [], ReportSettings())
    assert "mixed improves in the 2 of 4 runs that finished" in sentence
    (cell,) = cells(records)
    assert (cell.runs, cell.planned) == (2, 4)
    assert labels_of(records) == {"mixed": "mixed (2 of 4 runs)"}
    verdict = with_missing(Verdict("holds", "It is so."), records)
    assert verdict.sentence.startswith("It is so. This is of 2 of 4 runs: 2 ")


def test_a_verdict_over_all_runs_has_no_such_words() -> None:
    records = four(5.0)
    (sentence,) = headlines(cells(records), [], ReportSettings())
    assert "mixed improves: 5.1" in sentence
    assert labels_of(records) == {"mixed": "mixed"}
    assert with_missing(Verdict("holds", "So."), records).sentence == "So."
    assert with_missing(OPEN, four(5.0, state="failed")) == OPEN


@pytest.mark.parametrize("end", [-5.0, -0.15])
def test_runs_that_fall_or_stay_do_not_improve(end: float) -> None:
    (sentence,) = headlines(cells(four(end)), [], ReportSettings())
    assert "mixed does not clearly improve: " in sentence


def test_comparisons_name_the_seeds_that_are_missing() -> None:
    others = [run("t", "positive", seed, 0.0, 1.0 + seed) for seed in range(4)]
    (pair,) = improvements([*four(5.0, state="failed"), *others])
    assert pair.missing == "positive: seeds 0, 1, 2, 3; mixed: seeds 0, 1 (missing: 2, 3)"
    (whole,) = improvements([*four(5.0), *others])
    assert whole.missing == ""


def test_tasks_are_normalised_by_their_own_scores_and_missing_runs_are_told() -> None:
    report = ReportSettings(normalize={"a": [0, 10], "b": [-1000, 0]})
    records = [
        run(task, variant, seed, 0.0, score)
        for task, score in (("a", 5.0), ("b", -500.0))
        for variant in ("mixed", "positive")
        for seed in range(3)
    ]
    for each in across(records, report):
        assert each.interquartile_mean.value == pytest.approx(0.5, abs=1e-3)
    records[0] = dataclasses.replace(records[0], state="failed")
    (pair,) = improvements_across(across(records, report))
    assert pair.missing == "positive: 6 of 6 runs; mixed: 5 of 6 runs"


def test_a_threshold_of_some_runs_says_so() -> None:
    records = [
        run("t", "mixed", seed, 0.0, 5.0, alpha=0.5, beta=b, gaussian_beta=0.5)
        for b in (0.0, 1.0)
        for seed in range(3)
    ]
    (whole,) = headlines([], beta_curves(records), ReportSettings())
    assert "stable for β ≥ 0; predicted" in whole
    records[0] = dataclasses.replace(records[0], state="queued", evaluations=[])
    (some,) = headlines([], beta_curves(records), ReportSettings())
    assert "stable for β ≥ 0 in the 5 of 6 runs that ended; predicted" in some
