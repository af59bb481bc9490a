"""Claim P2: in control each kind of feedback learns, mixed feedback as well as MPO and DPO."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from suite.paper.drawing import error_bars
from suite.paper.judging import OPEN, Verdict, compare, final_scores, format_estimate, improved
from suite.paper.records import SweepRecords
from suite.report import statistics
from suite.report.comparison import MODES, select, tasks, variants
from suite.report.figures import colour, grid_of, legend
from suite.report.records import RunRecord

METHODS = (*MODES, "dpo", "mpo")


def judge(records: SweepRecords) -> Verdict:
    """Judge by the gain of each mode over its start, and by mixed feedback against MPO and DPO."""
    modes, rivals = records["control"], records["control_baselines"]
    if not modes or not rivals:
        return OPEN
    task = tasks(modes)[0]
    means = {mode: statistics.mean(final_scores(modes, task, mode)) for mode in MODES}
    returns = ", ".join(f"{mode} {format_estimate(mean)}" for mode, mean in means.items())
    outcomes = {
        (t, rival): compare(final_scores(rivals, t, "mixed"), final_scores(rivals, t, rival))
        for t in tasks(rivals)
        for rival in ("mpo", "dpo")
        if final_scores(rivals, t, rival)
    }
    against = "; ".join(f"{rival.upper()} on {t}: {o}" for (t, rival), o in outcomes.items())
    sentence = f"{task}: {returns}. Mixed feedback against {against}."
    learned = [improved(select(modes, task, mode)) for mode in MODES]
    if not any(learned):
        return Verdict("does not hold", sentence)
    if not all(learned) or "behind" in outcomes.values():
        return Verdict("holds in part", sentence)
    return Verdict("holds", sentence)


def draw(records: SweepRecords) -> Figure:
    """Draw the final returns of all methods on all tasks."""
    # Both sweeps hold the runs of mixed feedback on the first task.
    runs = list({r.name: r for r in [*records["control"], *records["control_baselines"]]}.values())
    figure, (ax,) = grid_of(1)
    for place, method in enumerate(METHODS):
        scores = [final_returns(runs, task, method) for task in tasks(runs)]
        x = [i for i, values in enumerate(scores) if values]
        estimates = [statistics.mean(scores[i]) for i in x]
        shifted = np.array(x) + 0.14 * (place - 2)
        error_bars(ax, shifted, estimates, colour(method, METHODS), method, "o")
    ax.set_xticks(range(len(tasks(runs))), tasks(runs))
    ax.set(ylabel="mean return over 10 episodes", ylim=(0, 1000))
    legend([ax])
    return figure


def final_returns(records: Sequence[RunRecord], task: str, method: str) -> list[float]:
    """Return a method's final returns on a task; its variants differ in settings after a comma."""
    names = [name for name in variants(records) if name.split(",")[0] == method]
    return final_scores(records, task, names[0]) if names else []
