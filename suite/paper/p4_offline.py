"""Claim P4: offline, rejected samples teach more than accepted ones, and both together most."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from suite.paper.judging import OPEN, RELATION, Verdict, format_estimate, outcome_of
from suite.paper.records import SweepRecords
from suite.report import statistics
from suite.report.figures import OTHERS, grid_of, legend
from suite.report.records import RunRecord
from suite.report.statistics import Estimate

SWEEP = "offline"
# The rows of the paper's table 1 with its returns, then the baselines.
PAPER = {"BC": 24, "Accept + BC": 26, "Accept": 27, "Reject + BC": 77, "Accept + Reject + BC": 93}
METHODS = (*PAPER, "CRR binary", "CRR exp", "AWR")
REJECTING = ("Reject + BC", "Accept + Reject + BC")
PUSHED = ", 0.8·(1−α)/Z0"  # rows whose rejected samples have weight
# Pairs of methods: the paper's table 1 puts the first above the second.
ORDER = (
    ("Accept", "Accept + BC"),
    ("Reject + BC", "Accept + BC"),
    ("Reject + BC", "Accept"),
    ("Accept + Reject + BC", "Accept + BC"),
    (f"Reject + BC{PUSHED}", "Accept"),
    (f"Accept + Reject + BC{PUSHED}", "Accept"),
)

MethodScores = Mapping[str, Mapping[str, list[float]]]
"""Final scores by method and task; 1 is the highest return."""


def judge(records: SweepRecords) -> Verdict:
    """Judge by the order of the paper's rows."""
    scores = scores_by_method(records[SWEEP])
    if not {"BC", "Accept + BC"} <= set(scores):
        return OPEN
    pairs = {pair: improvement(scores, *pair) for pair in ORDER if set(pair) <= set(scores)}
    outcomes = {pair: outcome_of(probability) for pair, probability in pairs.items()}
    returns = "; ".join(f"{m} {format_estimate(mean_over_tasks(scores, m))}" for m in scores)
    order = "; ".join(f"{a} is {RELATION[outcome]} {b}" for (a, b), outcome in outcomes.items())
    sentence = (
        "Normalised return, interquartile mean over tasks and seeds, in per cent:"
        f" {returns}. {order}. At β = (1−α)/Z0, in the rows without a factor, Accept, Reject + BC"
        " and Accept + Reject + BC are one loss up to a factor (theory §14): there rejected samples"
        " do as much as cloning allows, and no more."
    )
    details = "Probability of improvement: " + "; ".join(
        f"{one} over {other} {format_estimate(probability)}"
        for (one, other), probability in pairs.items()
    )
    pushed = [outcomes.get((f"{m}{PUSHED}", "Accept")) for m in REJECTING]
    if pushed == ["ahead", "ahead"]:
        return Verdict("holds", sentence, f"{details}.")
    partly = outcomes.get(("Reject + BC", "Accept + BC")) == "ahead"
    return Verdict("holds in part" if partly else "does not hold", sentence, f"{details}.")


def method_of(record: RunRecord) -> str:
    """Return the row of the paper's table 1, or the baseline, that an offline run belongs to."""
    point = record.point
    if record.objective == "weighted":
        if point.get("domain.advantage") == "returns":
            return "AWR"
        return f"CRR {point.get('objective.weight')}"
    if point.get("labels.keep") == 0:
        return "BC"
    if record.feedback == "positive":
        return "Accept + BC" if record.beta else "Accept"
    rows = {"negative": "Reject + BC", "mixed": "Accept + Reject + BC"}
    margin = point.get("objective.margin")
    factor = "" if margin in (None, 1) else f", {margin:g}·(1−α)/Z0"
    return rows[record.feedback] + factor


def scores_by_method(records: Sequence[RunRecord]) -> MethodScores:
    """Return the normalised final scores of each method, by task."""
    scores: dict[str, dict[str, list[float]]] = {}
    for r in records:
        if r.counts and r.score is not None:
            scores.setdefault(method_of(r), {}).setdefault(r.task, []).append(r.score / 1000)
    return {method: scores[method] for method in sorted(scores, key=place)}


def place(method: str) -> tuple[int, str]:
    """Return a method's place in the table; its variants stand side by side."""
    return METHODS.index(method.partition(",")[0]), method


def mean_over_tasks(scores: MethodScores, method: str) -> Estimate:
    """Return a method's interquartile mean over all tasks and seeds, in per cent."""
    samples = [np.array(values) for values in scores[method].values()]
    return per_cent(statistics.interquartile_mean_of_tasks(samples))


def per_cent(estimate: Estimate) -> Estimate:
    """Return an estimate times 100."""
    return Estimate(*(100 * part for part in estimate))


def improvement(scores: MethodScores, first: str, second: str) -> Estimate:
    """Return the probability that a run of one method beats a run of another, over tasks."""
    shared = [task for task in scores[first] if task in scores[second]]
    if not shared:
        return Estimate(float("nan"), float("nan"), float("nan"))
    return statistics.improvement_over_tasks(
        [np.array(scores[first][task]) for task in shared],
        [np.array(scores[second][task]) for task in shared],
    )


def draw(records: SweepRecords) -> Figure:
    """Draw the returns of all methods: over all tasks, with the paper's, and on each task."""
    scores = scores_by_method(records[SWEEP])
    names = sorted({task for by_task in scores.values() for task in by_task})
    figure, axes = grid_of(1 + len(names))
    overall = {method: mean_over_tasks(scores, method) for method in scores}
    draw_methods(axes[0], overall, "both tasks (IQM)")
    for place, method in enumerate(reversed(list(scores))):
        if method in PAPER:
            axes[0].plot(PAPER[method], place, "x", color="0.5", label="the paper's task")
    axes[0].set_yticks(range(len(scores)), list(scores)[::-1])
    for ax, task in zip(axes[1:], names, strict=True):
        draw_methods(ax, {method: mean_on_task(scores, method, task) for method in scores}, task)
        ax.set_yticks(range(len(scores)), [""] * len(scores))
    legend(axes[:1])
    return figure


def draw_methods(ax: Axes, returns: Mapping[str, Estimate], title: str) -> None:
    """Draw the return of each method in a row of its own, the first on top."""
    rows = zip(reversed(range(len(returns))), returns.values(), OTHERS * 2, strict=False)
    for row, (value, low, high), colour in rows:
        # NaN where there are too few runs for an interval.
        errors = np.nan_to_num([[value - low], [high - value]]).clip(0)
        ax.errorbar(value, row, xerr=errors, fmt="o", color=colour, capsize=3)
    ax.set(title=title, xlabel="return, % of 1000", xlim=(0, 100))


def mean_on_task(scores: MethodScores, method: str, task: str) -> Estimate:
    """Return a method's mean on one task, in per cent; NaN where it has no runs there."""
    return per_cent(statistics.mean(scores[method].get(task, [])))
