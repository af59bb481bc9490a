"""Claim P1: on bandits each kind of feedback optimises, mixed feedback at least as well as DPO."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from suite.paper.drawing import error_bars, report_settings
from suite.paper.judging import OPEN, Verdict, compare, count_outcomes, final_scores, improved
from suite.paper.records import SweepRecords
from suite.report.comparison import MODES, select, tasks, variants
from suite.report.figures import colour, grid_of, interval, legend, scale_scores
from suite.report.records import RunRecord

SWEEP = "bandit_dimensions"


def judge(records: SweepRecords) -> Verdict:
    """Judge by the gain of each mode over its start, and by mixed feedback against DPO."""
    runs = records[SWEEP]
    if not runs:
        return OPEN
    gained = {(t, m): improved(select(runs, t, m)) for t in tasks(runs) for m in MODES}
    rivals = [name for name in variants(runs) if name.startswith("dpo")]
    outcomes = [
        compare(final_scores(runs, task, "mixed"), final_scores(runs, task, rival))
        for task in tasks(runs)
        for rival in rivals
        if final_scores(runs, task, rival)
    ]
    sentence = (
        f"{sum(gained.values())} of {len(gained)} combinations of function, dimension and kind of"
        f" feedback end above their start. Against DPO mixed feedback is {count_outcomes(outcomes)}"
        f" of {len(outcomes)} comparisons."
    )
    not_above = ", ".join(f"{mode} on {task}" for (task, mode), up in gained.items() if not up)
    details = f"Not clearly above their start: {not_above}." if not_above else ""
    if not any(gained.values()):
        return Verdict("does not hold", sentence, details)
    partly = not_above or "behind" in outcomes
    return Verdict("holds in part" if partly else "holds", sentence, details)


def draw(records: SweepRecords) -> Figure:
    """Draw final scores over the dimension, one panel per function."""
    runs, report = records[SWEEP], report_settings(SWEEP)
    functions = list(dict.fromkeys(task.split("-")[0] for task in tasks(runs)))
    figure, axes = grid_of(len(functions))
    for ax, function in zip(axes, functions, strict=True):
        panel_tasks = [task for task in tasks(runs) if task.startswith(f"{function}-")]
        for place, name in enumerate(variants(runs)):
            scores = {dimension(task): scores_of(runs, task, name) for task in panel_tasks}
            scores = {size: values for size, values in scores.items() if len(values)}
            x = np.array(list(scores)) * 1.06 ** (place - 2)
            estimates = [interval(report)(values) for values in scores.values()]
            error_bars(ax, x, estimates, colour(name, variants(runs)), name)
        ax.set_xscale("log")
        sizes = sorted({dimension(task) for task in panel_tasks})
        ax.set_xticks(sizes, [str(size) for size in sizes])
        ax.minorticks_off()
        scale_scores(ax, report)
        ax.set(title=function, xlabel="variables", ylabel=report.score)
    legend(axes)
    return figure


def scores_of(records: Sequence[RunRecord], task: str, variant: str) -> NDArray[np.float64]:
    """Return the final scores of a task and variant, [N]."""
    return np.array([r.score for r in select(records, task, variant)], float)


def dimension(task: str) -> int:
    """Return the number of variables in a bandit task's name, such as `sphere-10d`."""
    return int(task.split("-")[1].removesuffix("d"))
