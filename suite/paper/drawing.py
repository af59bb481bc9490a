"""A figure for each claim, from records alone."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from suite.paper.claims import SWEEPS
from suite.paper.verdicts import MODES, SAME, Runs, by_method, curve_of, over_tasks, same_pair
from suite.report import figures, statistics
from suite.report.beta_map import beta_curves
from suite.report.comparison import select, tasks, variants
from suite.report.figures import (
    OTHERS,
    colour,
    draw_curves,
    grid_of,
    interval,
    legend,
    scale_scores,
)
from suite.report.records import RunRecord
from suite.report.statistics import Estimate
from suite.sweeps.spec import ReportSettings, read_sweep_file

PAPER = {"BC": 24, "Accept + BC": 26, "Accept": 27, "Reject + BC": 77, "Accept + Reject + BC": 93}
ALPHAS = {0.0: "#D55E00", 0.25: "#E69F00", 0.5: "#009E73", 0.75: "#56B4E9", 1.0: "#0072B2"}


def settings(sweep: str) -> ReportSettings:
    """Return how a sweep's scores are shown."""
    return read_sweep_file(SWEEPS / f"{sweep}.yaml").report


def p1(runs: Runs) -> Figure:
    """Final scores over the dimension, a panel for each function."""
    records, report = runs["bandit_dimensions"], settings("bandit_dimensions")
    functions = list(dict.fromkeys(task.split("-")[0] for task in tasks(records)))
    figure, axes = grid_of(len(functions))
    for ax, function in zip(axes, functions, strict=True):
        mine = [t for t in tasks(records) if t.startswith(f"{function}-")]
        for shift, name in enumerate(variants(records)):
            found = [(task, scores_of(records, task, name)) for task in mine]
            points = [(size_of(task), interval(report)(s)) for task, s in found if len(s)]
            x = np.array([size for size, _ in points]) * 1.06 ** (shift - 2)
            error_bars(ax, x, [e for _, e in points], colour(name, variants(records)), name)
        ax.set_xscale("log")
        sizes = sorted({size_of(task) for task in mine})
        ax.set_xticks(sizes, [str(size) for size in sizes])
        ax.minorticks_off()
        scale_scores(ax, report)
        ax.set(title=function, xlabel="variables", ylabel=report.score)
    legend(axes)
    return figure


def size_of(task: str) -> int:
    """Return the number of variables that a bandit's task is named after."""
    return int(task.split("-")[1].removesuffix("d"))


def scores_of(records: Sequence[RunRecord], task: str, variant: str) -> np.ndarray:
    """Return the final scores of a task and variant, [N]."""
    return np.array([r.score for r in select(records, task, variant)], float)


def error_bars(
    ax: Axes, x: np.ndarray, found: Sequence[Estimate], shade: str, label: str, line: str = "o-"
) -> None:
    """Draw estimates with their intervals, where there are any."""
    if not found:
        return
    value, low, high = (np.array(column, float) for column in zip(*found, strict=True))
    # NaN where there are too few runs for an interval.
    spread = np.nan_to_num([value - low, high - value])
    ax.errorbar(x, value, yerr=spread.clip(0), fmt=line, color=shade, capsize=3, label=label, ms=4)


def p2(runs: Runs) -> Figure:
    """Final returns of all methods on all tasks."""
    records = [*runs["control"], *runs["control_baselines"]]
    names = [*MODES, "dpo", "mpo"]
    found = {
        (task, name): scores_of(unique(records), task, short)
        for task in tasks(records)
        for name in names
        for short in [v for v in variants(records) if v.split(",")[0] == name][:1]
    }
    figure, (ax,) = grid_of(1)
    for place, name in enumerate(names):
        x = [i for i, t in enumerate(tasks(records)) if len(found.get((t, name), []))]
        if x:
            estimates = [statistics.mean(found[tasks(records)[i], name]) for i in x]
            error_bars(
                ax, np.array(x) + 0.14 * (place - 2), estimates, colour(name, names), name, "o"
            )
    ax.set_xticks(range(len(tasks(records))), tasks(records))
    ax.set(ylabel="mean return over 10 episodes", ylim=(0, 1000))
    legend([ax])
    return figure


def unique(records: Sequence[RunRecord]) -> list[RunRecord]:
    """Leave out runs that two sweeps share."""
    return list({record.name: record for record in records}.values())


def p3(runs: Runs) -> Figure:
    """Maps of β, and the curves of pairs of equal gradient."""
    bandit = [r for r in runs["bandit_beta"] if not same_pair(r)]
    maps = [("bandit_beta", row) for row in beta_curves(bandit)]
    maps += [("control_beta", row) for row in beta_curves(runs["control_beta"])]
    pairs = [curve_of(runs["bandit_beta"], pair) for pair in SAME]
    drawn = all(len(steps) for steps, _ in pairs)
    figure, axes = grid_of(len(maps) + drawn)
    for ax, (sweep, row) in zip(axes, maps, strict=False):
        figures.draw_beta(ax, row, settings(sweep))
    if drawn:
        ax, report = axes[-1], settings("bandit_beta")
        for (alpha, beta), (steps, values) in zip(SAME, pairs, strict=True):
            points = [interval(report)(column) for column in values.T]
            error_bars(ax, steps, points, ALPHAS[alpha], f"α = {alpha:g}, β = {beta:g}", "-")
        scale_scores(ax, report)
        ax.set(title="the same in expectation", xlabel="optimiser steps", ylabel=report.score)
        ax.legend(frameon=False, fontsize=8)
    legend(axes[:1])
    return figure


def p6(runs: Runs) -> Figure:
    """The map of β in language."""
    return figures.beta_map(beta_curves(runs["lm_beta"]), settings("lm_beta"))


def p4(runs: Runs) -> Figure:
    """Returns of all methods, over all tasks and on each, beside the paper's."""
    methods = by_method(runs["offline"])
    every = sorted({task for found in methods.values() for task in found})
    figure, axes = grid_of(1 + len(every))
    y = np.arange(len(methods))[::-1]
    for ax, task in zip(axes, [None, *every], strict=True):
        for place, (name, shade) in zip(y, zip(methods, OTHERS * 2, strict=False), strict=True):
            if task is None:
                found = over_tasks(methods, name)
            else:
                mean = statistics.mean(np.array(methods[name].get(task, []), float))
                found = Estimate(*(100 * part for part in mean))
            low, high = np.nan_to_num([found.value - found.low, found.high - found.value]).clip(0)
            ax.errorbar(found.value, place, xerr=[[low], [high]], fmt="o", color=shade, capsize=3)
            if task is None and name in PAPER:
                ax.plot(PAPER[name], place, "x", color="0.5", label="the paper's task")
        ax.set_yticks(y, list(methods) if ax is axes[0] else [""] * len(methods))
        ax.set(title=task or "both tasks (IQM)", xlabel="return, % of 1000", xlim=(0, 100))
    legend(axes[:1])
    return figure


def p5(runs: Runs) -> Figure:
    """Exact score and judge's over the KL, and the likelihood of what was accepted at first."""
    records = runs["letters"]
    report = settings("letters")
    figure, axes = grid_of(3)
    task = tasks(records)[0]
    figures.draw_judges(axes[0], records, task)
    for ax, metric, title in (
        (axes[1], "eval/judge_score", "the reward model's score"),
        (axes[2], "eval/logp_accepted", "log π of the first accepted samples"),
    ):
        draw_curves(ax, records, task, metric, report.x_axis)
        ax.set(title=title, xlabel="optimiser steps", ylabel="nats" if ax is axes[2] else "score")
    legend(axes[:1])
    legend(axes[1:])
    return figure


def labels(runs: Runs) -> Figure:
    """The score over the share of labels, a line for each α and a panel for each domain."""
    present = {name: records for name, records in runs.items() if records}
    figure, axes = grid_of(len(present))
    for ax, (sweep, records) in zip(axes, present.items(), strict=True):
        report = settings(sweep)
        for i, alpha in enumerate(sorted({r.alpha for r in records if r.alpha is not None})):
            shares = sorted({r.point["labels.keep"] for r in records})
            found = [summary(records, report, alpha, share) for share in shares]
            x = np.array(shares) * 1.05 ** (i - 2)
            told = {0.0: " (negative only)", 0.5: " (mixed)", 1.0: " (positive only)"}
            error_bars(ax, x, found, ALPHAS[alpha], f"α = {alpha:g}{told.get(alpha, '')}")
        start = statistics.mean(np.array([r.start_score for r in records], float)).value
        ax.axhline(start, color="0.5", ls="--", lw=1, label="start")
        ax.set_xscale("log")
        ax.set_xticks(shares, [f"{100 * share:g} %" for share in shares])
        ax.minorticks_off()
        scale_scores(ax, report)
        if report.log_scale:
            ax.set_yscale("symlog", linthresh=1e-6)  # how near the optimum is the question here
            ax.set_ylim(top=max(0.0, ax.dataLim.y1))
        ax.set(title=tasks(records)[0], xlabel="labels that are kept", ylabel=report.score)
    legend(axes)
    return figure


def summary(
    records: Sequence[RunRecord], report: ReportSettings, alpha: float, share: float
) -> Estimate:
    """Summarise the final scores at one α and share of labels."""
    chosen = [r for r in records if r.alpha == alpha and r.point["labels.keep"] == share]
    return interval(report)(np.array([r.score for r in chosen if r.score is not None], float))


DRAWINGS: dict[str, Callable[[Runs], Figure]] = {
    "P1": p1, "P2": p2, "P3": p3, "P4": p4, "P5": p5, "P6": p6, "labels": labels,
}  # fmt: skip


def save(figure: Figure, path: Path) -> None:
    """Write a figure as PNG."""
    from suite.system.files import replaced_file

    path.parent.mkdir(parents=True, exist_ok=True)
    with replaced_file(path) as temporary:
        figure.savefig(temporary, format="png", dpi=130)
