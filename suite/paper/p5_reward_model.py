"""Claim P5: with a learned reward model mixed feedback is fastest, and first to over-optimise."""

from collections.abc import Sequence
from typing import NamedTuple

from matplotlib.figure import Figure

from suite.paper.drawing import report_settings
from suite.paper.judging import (
    OPEN,
    RELATION,
    Verdict,
    compare,
    count_outcomes,
    format_estimate,
)
from suite.paper.records import SweepRecords
from suite.report import statistics
from suite.report.comparison import curve, select, tasks, variants
from suite.report.figures import draw_curves, draw_judges, grid_of, legend
from suite.report.records import RunRecord

SWEEP = "letters"


class JudgeOutcome(NamedTuple):
    """How N runs of a variant ended with a judge that may be wrong, a value per run."""

    early_gain: list[float]
    """Mean of the judge's score in the first fifth of the run, less its start."""
    exact_loss: list[float]
    """Best exact score less the last."""
    judge: list[float]
    """The judge's last score."""
    exact: list[float]
    """The last exact score."""
    logp_change: list[float]
    """Change of log π of the samples that were accepted at the first evaluation."""
    best_step: int
    """The step where the mean exact score was best."""


def judge(records: SweepRecords) -> Verdict:
    """Judge by early gains, losses of the exact score, and the final score against DPO."""
    runs = records[SWEEP]
    if not runs:
        return OPEN
    task = tasks(runs)[0]
    finished = [name for name in variants(runs) if select(runs, task, name)]
    outcomes = {name: summarise_paths(runs, task, name) for name in finished}
    if "mixed" not in outcomes:
        return OPEN
    mixed = outcomes["mixed"]
    others = [outcomes[mode] for mode in ("positive", "negative") if mode in outcomes]
    faster = [compare(mixed.early_gain, other.early_gain) for other in others]
    sooner = [compare(mixed.exact_loss, other.exact_loss) for other in others]
    rival = compare(mixed.exact, outcomes["dpo"].exact) if "dpo" in outcomes else "even"
    sentence = (
        "In the judge's score over the first fifth of the run, mixed feedback is"
        f" {count_outcomes(faster)} of 2 comparisons with accepted and rejected samples alone; in"
        f" what it loses of the exact score after its best, {count_outcomes(sooner)} of 2. In the"
        f" final exact score it is {RELATION[rival]} DPO (untuned)."
    )
    if {*faster, *sooner} == {"even"}:
        sentence += (
            " With half of the samples accepted, the three are the same in expectation (§4)."
        )
    values = "; ".join(f"{name}: {format_outcome(each)}" for name, each in outcomes.items())
    details = f"In the end, with the change of log π of samples accepted at first: {values}."
    parts = (faster == ["ahead"] * 2, sooner == ["ahead"] * 2, rival != "behind")
    if all(parts):
        return Verdict("holds", sentence, details)
    return Verdict("holds in part" if any(parts) else "does not hold", sentence, details)


def summarise_paths(records: Sequence[RunRecord], task: str, variant: str) -> JudgeOutcome:
    """Summarise the runs of a variant from their evaluations."""
    runs = select(records, task, variant)
    steps, exact = curve(runs, "eval/score")  # [T], [N, T]
    _, judge_score = curve(runs, "eval/judge_score")
    _, accepted = curve(runs, "eval/logp_accepted")
    early = max(2, len(steps) // 5)
    return JudgeOutcome(
        early_gain=(judge_score[:, 1:early].mean(1) - judge_score[:, 0]).tolist(),
        exact_loss=(exact.max(1) - exact[:, -1]).tolist(),
        judge=judge_score[:, -1].tolist(),
        exact=exact[:, -1].tolist(),
        logp_change=(accepted[:, -1] - accepted[:, 0]).tolist(),
        best_step=int(steps[exact.mean(0).argmax()]),
    )


def format_outcome(outcome: JudgeOutcome) -> str:
    """Write the means of an outcome with their intervals."""
    return (
        f"judge {format_estimate(statistics.mean(outcome.judge))},"
        f" exact {format_estimate(statistics.mean(outcome.exact))}"
        f" after a best at step {outcome.best_step},"
        f" log π {format_estimate(statistics.mean(outcome.logp_change))}"
    )


def draw(records: SweepRecords) -> Figure:
    """Draw the exact and the judge's score over the KL, and log π of the first accepted samples."""
    runs, report = records[SWEEP], report_settings(SWEEP)
    figure, axes = grid_of(3)
    task = tasks(runs)[0]
    draw_judges(axes[0], runs, task)
    for ax, metric, title, label in (
        (axes[1], "eval/judge_score", "the reward model's score", "score"),
        (axes[2], "eval/logp_accepted", "log π of the first accepted samples", "nats"),
    ):
        draw_curves(ax, runs, task, metric, report.x_axis)
        ax.set(title=title, xlabel="optimiser steps", ylabel=label)
    legend(axes[:1])
    legend(axes[1:])
    return figure
