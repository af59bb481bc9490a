"""Claim P5: with a learned reward model mixed feedback is fastest, and first to over-optimise."""

from collections.abc import Sequence
from typing import NamedTuple

from matplotlib.figure import Figure

from suite.paper.drawing import report_settings
from suite.paper.judging import (
    OPEN,
    RELATION,
    Outcome,
    Verdict,
    compare,
    final_scores,
    format_estimate,
)
from suite.paper.records import SweepRecords
from suite.report import statistics
from suite.report.comparison import curve, select, tasks
from suite.report.figures import draw_curves, grid_of, legend
from suite.report.records import RunRecord

SWEEP, RIVALS = "below_bound", "letters"
MARGIN = "objective.margin"
JUDGED = 0.5  # of mixed feedback; the paper's runs with α = ½ have a β below the bound


class JudgeOutcome(NamedTuple):
    """How N runs of a variant ended with a judge that may be wrong, a value per run."""

    early: list[float]
    """The judge's score after a quarter of the run, less its start."""
    exact_loss: list[float]
    """Best exact score less the last."""
    best: list[float]
    """Best exact score."""
    judge: list[float]
    """The judge's last score."""
    exact: list[float]
    """The last exact score."""
    logp_change: list[float]
    """Change of log π of the samples that were accepted at the first evaluation."""
    best_step: int
    """The step where the mean exact score was best."""


def judge(records: SweepRecords) -> Verdict:
    """Judge by mixed feedback below the bound against accepted samples, and at it against DPO.

    At the bound itself the kinds of feedback are the same in expectation (theory §4).
    """
    runs = records[SWEEP]
    mixed, accepted = outcomes_of(runs, "mixed"), outcomes_of(runs, "positive")
    if JUDGED not in mixed or not accepted:
        return OPEN
    base = next(iter(accepted.values()))
    faster = {margin: compare(each.early, base.early) for margin, each in mixed.items()}
    sooner = {margin: compare(each.exact_loss, base.exact_loss) for margin, each in mixed.items()}
    rival = against_dpo(records[RIVALS])
    sentence = (
        f"Below the bound, at a margin of {JUDGED:g}, mixed feedback is {RELATION[faster[JUDGED]]}"
        " accepted samples alone in the judge's score after a quarter of the run, and"
        f" {RELATION[sooner[JUDGED]]} them in what it loses of the exact score after its best."
        f" In the final exact score at the bound it is {RELATION[rival]} DPO (untuned)."
    )
    parts = (faster[JUDGED] == "ahead", sooner[JUDGED] == "ahead", rival != "behind")
    word = "holds" if all(parts) else "holds in part" if any(parts) else "does not hold"
    details = (
        f"Ahead of accepted samples early: {list_margins(faster)}; in the loss:"
        f" {list_margins(sooner)}. Best margin by the best exact score of a run: {best_of(mixed)}."
        f" By feedback and margin: {describe(runs)}."
    )
    return Verdict(word, sentence, details)


def outcomes_of(runs: Sequence[RunRecord], feedback: str) -> dict[float, JudgeOutcome]:
    """Return the outcomes of a kind of feedback by the margin of β, from small to large."""
    chosen = [run for run in runs if run.feedback == feedback and run.counts]
    by_margin = {float(run.point.get(MARGIN, 1)): run.variant for run in chosen}
    task = tasks(runs)[0] if runs else ""
    return {margin: summarise_paths(runs, task, by_margin[margin]) for margin in sorted(by_margin)}


def against_dpo(runs: Sequence[RunRecord]) -> Outcome:
    """Compare the final exact score of mixed feedback at the bound with DPO's."""
    ends = {name: final_scores(runs, tasks(runs)[0], name) for name in ("mixed", "dpo")}
    return compare(ends["mixed"], ends["dpo"])


def list_margins(outcomes: dict[float, Outcome]) -> str:
    """Write at which margins mixed feedback was ahead, and at which behind."""
    parts = []
    for outcome in ("ahead", "behind", "even"):
        margins = ", ".join(f"{margin:g}" for margin, found in outcomes.items() if found == outcome)
        parts += [f"{outcome} at margin {margins}"] if margins else []
    return ", ".join(parts)


def best_of(outcomes: dict[float, JudgeOutcome]) -> str:
    """Write the margin with the largest mean of the runs' best exact scores."""
    margin = max(outcomes, key=lambda each: statistics.mean(outcomes[each].best).value)
    return f"{margin:g}, with {format_estimate(statistics.mean(outcomes[margin].best))}"


def describe(runs: Sequence[RunRecord]) -> str:
    """Write the outcomes of all variants."""
    return "; ".join(
        f"{feedback} {margin:g}: {format_outcome(outcome)}"
        for feedback in ("positive", "negative", "mixed")
        for margin, outcome in outcomes_of(runs, feedback).items()
    )


def summarise_paths(records: Sequence[RunRecord], task: str, variant: str) -> JudgeOutcome:
    """Summarise the runs of a variant from their evaluations."""
    runs = select(records, task, variant)
    steps, exact = curve(runs, "eval/score")  # [T], [N, T]
    _, judge_score = curve(runs, "eval/judge_score")
    _, accepted = curve(runs, "eval/logp_accepted")
    return JudgeOutcome(
        early=(judge_score[:, len(steps) // 4] - judge_score[:, 0]).tolist(),
        exact_loss=(exact.max(1) - exact[:, -1]).tolist(),
        best=exact.max(1).tolist(),
        judge=judge_score[:, -1].tolist(),
        exact=exact[:, -1].tolist(),
        logp_change=(accepted[:, -1] - accepted[:, 0]).tolist(),
        best_step=int(steps[exact.mean(0).argmax()]),
    )


def format_outcome(outcome: JudgeOutcome) -> str:
    """Write the means of an outcome with their intervals."""
    return (
        f"judge early by {format_estimate(statistics.mean(outcome.early))}, in the end"
        f" {format_estimate(statistics.mean(outcome.judge))},"
        f" exact {format_estimate(statistics.mean(outcome.exact))}"
        f" after a best at step {outcome.best_step},"
        f" log π {format_estimate(statistics.mean(outcome.logp_change))}"
    )


def draw(records: SweepRecords) -> Figure:
    """Draw the exact score, the judge's, and log π of the first accepted samples, over steps."""
    runs, report = records[SWEEP], report_settings(SWEEP)
    figure, axes = grid_of(3)
    task = tasks(runs)[0]
    for ax, metric, title, label in (
        (axes[0], "eval/score", "the exact score", "score"),
        (axes[1], "eval/judge_score", "the reward model's score", "score"),
        (axes[2], "eval/logp_accepted", "log π of the first accepted samples", "nats"),
    ):
        draw_curves(ax, runs, task, metric, report.x_axis)
        ax.set(title=title, xlabel="optimiser steps", ylabel=label)
    legend(axes)
    return figure
