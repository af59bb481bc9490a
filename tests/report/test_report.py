"""What a report says about finished, half-finished and failed sweeps, and of β thresholds."""

import base64
import csv
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from suite.config.fields import ConfigError
from suite.report.beta_map import beta_curves
from suite.report.comparison import collect, curve
from suite.report.figures import judges, learning_curves
from suite.report.page import write_report
from suite.report.records import COLUMNS
from suite.runs.folder import RunFolder
from suite.sweeps.spec import Sweep, load_sweep
from tests.conftest import ROOT

Made = Callable[..., Sweep]


@pytest.fixture
def made(tmp_path: Path) -> Made:
    """A sweep whose runs ended as told: scores by (feedback, seed), or by β; None is not begun."""

    def make(grids: str, score: Callable[..., float | None], report: str = "{}") -> Sweep:
        path = tmp_path / "mine.yaml"
        base = ROOT / "configs/bandit/sphere.yaml"
        path.write_text(f"config: {base}\ngrids: {grids}\nreport: {report}\n")
        sweep = load_sweep(path, [f"results_dir={tmp_path}/results"])
        for config in sweep.points.values():
            run, final = RunFolder.of(config), score(config)
            run.create(config)
            if final is None:
                continue
            run.begin()
            run.report_progress(step=10)
            for step, value in ((0, 1.0), (5, (1 + final) / 2), (10, final)):
                run.log_metrics(step, {"eval/score": value, "eval/kl": step / 10})
            run.log_metrics(5, {"train/reference_reject_share": 0.5})
            failed = final < 0
            run.finish("failed" if failed else "finished", "it broke" if failed else None)
        return sweep

    return make


MODES = "{a: {feedback: [positive, mixed], seed: [0, 1, 2]}}"


def test_tables_figures_and_csv_hold_what_the_runs_measured(made: Made) -> None:
    scores = {"positive": [4.0, 5.0, 6.0], "mixed": [7.0, 8.0, 9.0]}
    sweep = made(MODES, lambda c: scores[c.feedback][c.seed], "{title: T, question: Q?}")
    page = write_report(sweep, "suite sweep mine")
    text = (sweep.folder / "report.md").read_text()
    # Mean 5, half width of Student's t for s = 1, n = 3: 2.484; the start is 1 in every run.
    assert "| sphere-10d | positive | 3 | 5 [2.516, 7.484] |" in text
    assert "positive improves: 5 [2.516, 7.484], from the reference's 1 [1, 1]; gain 4 [" in text
    assert "| sphere-10d | positive | mixed | 0 [0, 0] |" in text
    assert "suite sweep mine" in text
    rows = list(csv.DictReader((sweep.folder / "scores.csv").read_text().splitlines()))
    assert tuple(rows[0]) == COLUMNS
    assert sorted(float(row["score"]) for row in rows) == [4, 5, 6, 7, 8, 9]
    assert {row["status"] for row in rows} == {"finished"}
    html = page.read_text()
    assert "<h1>T</h1>" in html
    assert not re.search(r'(src|href)="(?!data:|scores\.csv|runs/)', html), (
        "the page is self-contained"
    )
    for name in ("learning_curves", "diagnostics"):
        assert (sweep.folder / f"figures/{name}.png").read_bytes()[:4] == b"\x89PNG"
        assert "<svg" in (sweep.folder / f"figures/{name}.svg").read_text()


def test_a_half_finished_sweep_is_reported_with_what_is_missing(made: Made) -> None:
    def score(config: object) -> float | None:
        return {0: 5.0, 1: -3.0, 2: None}[config.seed]  # type: ignore[attr-defined]

    sweep = made(MODES, score)
    write_report(sweep, "suite sweep mine")
    text = (sweep.folder / "report.md").read_text()
    assert "4 of 6 runs are not finished" in text
    assert text.count("failed: it broke") == 2
    assert text.count(" queued") >= 2
    assert "| sphere-10d | positive | 1 of 3 | 5 |" in text
    assert "too few runs for a verdict" in text


def test_a_sweep_without_any_finished_run_has_a_report_too(made: Made) -> None:
    sweep = made(MODES, lambda c: None)
    page = write_report(sweep, "suite sweep mine")
    assert "6 of 6 runs are not finished" in page.read_text()


def test_names_and_errors_cannot_inject_markup(made: Made) -> None:
    sweep = made(MODES, lambda c: None, '{title: "<script>alert(1)</script>"}')
    assert "<script>alert" not in write_report(sweep, "x").read_text()


def test_settings_that_a_grid_varies_are_never_taken_for_seeds(made: Made) -> None:
    grids = "{a: {optimizer.lr: [0.01, 0.1], domain.function: [sphere, schwefel], seed: [0, 1]}}"
    sweep = made(grids, lambda c: 100 * c.optimizer.lr)
    write_report(sweep, "x")
    text = (sweep.folder / "report.md").read_text()
    assert "| sphere-10d | mixed, lr=0.01 | 2 | 1 [1, 1] |" in text
    assert "| schwefel-10d | mixed, lr=0.1 | 2 | 10 [10, 10] |" in text


BETAS = "{b: {objective.alpha: [0], objective.beta: [0, 0.5, 1, 1.5, 2], seed: [0, 1, 2]}}"


@pytest.mark.parametrize(
    ("stable_from", "measured", "agrees"),
    [(1.5, 1.5, True), (2.0, 2.0, True), (1.0, 1.0, False), (9.0, None, None)],
)
def test_thresholds_are_measured_from_the_runs_and_predicted_from_the_closed_form(
    made: Made, stable_from: float, measured: float | None, agrees: bool | None
) -> None:
    # Predicted: M = β − 1 > .6632, so β > 1.6632, first on the grid at 2.
    sweep = made(BETAS, lambda c: 2.0 if c.objective.beta >= stable_from else 0.5)
    (found,) = beta_curves(collect(sweep))
    assert found.predicted == pytest.approx(1.6632, abs=1e-4)
    assert found.bound == pytest.approx(2.0)
    assert found.measured == measured
    assert found.agrees is agrees


def test_one_unstable_seed_makes_a_beta_unstable(made: Made) -> None:
    sweep = made(BETAS, lambda c: 0.5 if (c.objective.beta, c.seed) == (1.5, 1) else 2.0)
    (found,) = beta_curves(collect(sweep))
    assert found.measured == 2.0


def test_curves_use_the_steps_that_all_runs_reached(made: Made) -> None:
    sweep = made(MODES, lambda c: 4.0)
    collect(sweep)[0].folder.log_metrics(15, {"eval/score": 9.0})
    steps, values = curve(collect(sweep), "eval/score")
    assert steps.tolist() == [0, 5, 10]
    assert values.shape == (6, 3)


def test_the_legend_names_what_any_panel_shows(made: Made) -> None:
    grids = """
  a: {feedback: [positive], seed: [0, 1]}
  b: {feedback: [mixed], domain.function: [schwefel], seed: [0, 1]}"""
    sweep = made(grids, lambda c: 4.0)
    first, second = learning_curves(collect(sweep), sweep.report).axes
    shown = [text.get_text() for text in first.get_legend().get_texts()]
    assert sorted(shown) == ["mixed", "positive", "reference (start)"]
    assert second.get_legend() is None


def test_curves_run_over_environment_steps_where_the_sweep_says_so(made: Made) -> None:
    sweep = made(MODES, lambda c: 4.0, "{x_axis: env_steps}")
    records = collect(sweep)
    for record in records:
        record.folder.log_metrics(10, {"eval/score": 7.0, "eval/kl": 1.0, "eval/env_steps": 20.0})
        record.folder.finish("finished", None)
    steps, values = curve(collect(sweep), "eval/score", "env_steps")
    assert steps.tolist() == [20.0]
    assert (values == 7).all()
    assert "score over env steps" in write_report(sweep, "x").read_text()


def test_an_axis_that_no_evaluation_holds_is_refused_with_those_that_are_held(made: Made) -> None:
    sweep = made(MODES, lambda c: 4.0, "{x_axis: env_stpes}")
    with pytest.raises(ConfigError, match=r"one of kl, score, step; found 'env_stpes'"):
        write_report(sweep, "x")


def test_a_sweep_may_say_which_score_tells_learning_from_collapse(made: Made) -> None:
    sweep = made(BETAS, lambda c: 5.0 if c.objective.beta >= 1.5 else 2.0, "{beta_grid: b}")
    (by_start,) = beta_curves(collect(sweep))
    (by_score,) = beta_curves(collect(sweep), stable_above=3.0)
    assert by_start.measured == 0.0
    assert by_score.measured == 1.5


def test_a_runs_video_is_embedded_in_the_page(made: Made) -> None:
    sweep = made(MODES, lambda c: 4.0)
    assert "<video" not in write_report(sweep, "x").read_text()
    (collect(sweep)[1].folder.path / "video.mp4").write_bytes(b"not really a film")
    page = write_report(sweep, "x").read_text()
    assert page.count("<video") == 1
    assert f"data:video/mp4;base64,{base64.b64encode(b'not really a film').decode()}" in page
    assert not re.search(r'(src|href)="(?!data:|scores\.csv|runs/)', page), (
        "the page is self-contained"
    )


def test_examples_of_one_run_of_each_variant_are_shown(made: Made) -> None:
    sweep = made(MODES, lambda c: float(c.seed))
    for config in sweep.points.values():
        said = f"<b>{config.feedback} {config.seed}</b>"
        RunFolder.of(config).write_examples(
            10, [{"prompt": "1+1=", "completion": said, "score": 0.5}]
        )
    page = write_report(sweep, "suite sweep mine").read_text()
    assert page.count("<td>1+1=</td>") == 2
    for mode in ("positive", "mixed"):
        assert page.count(f"&lt;b&gt;{mode} 0&lt;/b&gt;") == 1, "escaped, and of the first seed"
    assert "What the policies said" in page


def test_a_judge_that_may_be_wrong_is_drawn_beside_the_exact_score(made: Made) -> None:
    sweep = made(MODES, lambda c: float(c.seed))
    page = write_report(sweep, "suite sweep mine").read_text()
    assert "What the judge saw" not in page
    for config in sweep.points.values():
        RunFolder.of(config).log_metrics(
            12, {"eval/score": 1.0, "eval/judge_score": 2.0, "eval/kl": 3.0}
        )
        RunFolder.of(config).finish("finished", None)
    page = write_report(sweep, "suite sweep mine").read_text()
    assert "What the judge saw" in page
    (axes,) = judges(collect(sweep)).axes
    drawn = {line.get_label(): line.get_xydata().tolist()[-1] for line in axes.get_lines()}
    assert drawn["mixed, exact"] == [3.0, 1.0]
    assert drawn["mixed, judge"] == [3.0, 2.0]
