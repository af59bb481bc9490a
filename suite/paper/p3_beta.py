"""Claim P3: α = 1 needs no β, less positive feedback needs more, on bandits and in control."""

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from suite.paper.drawing import ALPHA_COLOURS, error_bars, report_settings
from suite.paper.judging import OPEN, Verdict, count_thresholds
from suite.paper.records import SweepRecords
from suite.report import statistics
from suite.report.beta_map import BetaCurve, beta_curves
from suite.report.comparison import curve
from suite.report.figures import draw_beta, grid_of, interval, legend, scale_scores
from suite.report.records import RunRecord

BANDIT, CONTROL = "bandit_beta", "control_beta"
MAP = "beta"
"""The grid of `bandit_beta` with all α and β."""
PAIRS = {"same_1": (1.0, 0.0), "same_2": (0.5, 1.0), "same_3": (0.0, 2.0)}
"""The grids of `bandit_beta` whose (α, β) have equal expected gradients (theory §4)."""


def judge(records: SweepRecords) -> Verdict:
    """Judge by the thresholds of β and by the curves of equal expected gradient."""
    curves = bandit_map(records[BANDIT]) + beta_curves(records[CONTROL])
    if not curves:
        return OPEN
    agreeing, known, text = count_thresholds(curves)
    free = [row for row in curves if row.alpha == 1]
    stable_without = [row.task for row in free if row.measured == 0]
    needing = [row for row in curves if row.alpha in (0, 0.5)]
    unstable_without = [row for row in needing if row.measured != 0]
    overlapping, steps = equivalence(records[BANDIT])
    sentence = (
        f"{agreeing} of {known} thresholds lie within one grid step of the closed form. Without β,"
        f" α = 1 is stable on {' and '.join(stable_without) or 'no task'}"
        + "".join(f", but not on {row.task}" for row in free if row.measured != 0)
        + f"; {len(unstable_without)} of {len(needing)} with α = ½ and α = 0 are not."
    )
    if steps:
        sentence += (
            " The intervals of (α, β) = (1, 0), (½, 1) and (0, 2), the same in expectation, overlap"
            f" at {overlapping} of {steps} evaluations."
        )
    parts = (
        agreeing == known,
        len(stable_without) == len(free),
        len(unstable_without) == len(needing),
        overlapping == steps,
    )
    word = "holds" if all(parts) else "holds in part" if any(parts[:3]) else "does not hold"
    return Verdict(word, sentence, f"{text}.")


def bandit_map(records: Sequence[RunRecord]) -> list[BetaCurve]:
    """Return the β map of the bandit sweep, from the runs of its grid."""
    return beta_curves([record for record in records if MAP in record.grids])


def equivalence(records: Sequence[RunRecord]) -> tuple[int, int]:
    """Return at how many evaluations the intervals of all pairs overlap, and of how many."""
    scores = [pair_curve(records, grid)[1] for grid in PAIRS]
    if not all(len(values) > 1 for values in scores):
        return 0, 0
    overlapping, steps = 0, scores[0].shape[1]
    for i in range(steps):
        estimates = [statistics.interquartile_mean(values[:, i]) for values in scores]
        overlapping += max(e.low for e in estimates) <= min(e.high for e in estimates)
    return overlapping, steps


def pair_curve(records: Sequence[RunRecord], grid: str) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the steps [T] and the scores [N, T] of a pair's finished runs."""
    runs = [r for r in records if grid in r.grids and r.counts]
    return curve(runs, "eval/score")


def draw(records: SweepRecords) -> Figure:
    """Draw the maps of β, and the curves of the pairs of equal expected gradient."""
    maps = [(BANDIT, row) for row in bandit_map(records[BANDIT])]
    maps += [(CONTROL, row) for row in beta_curves(records[CONTROL])]
    has_pairs = all(len(pair_curve(records[BANDIT], grid)[0]) for grid in PAIRS)
    figure, axes = grid_of(len(maps) + has_pairs)
    for ax, (sweep, row) in zip(axes, maps, strict=False):
        draw_beta(ax, row, report_settings(sweep))
    if has_pairs:
        draw_pairs(axes[-1], records[BANDIT])
    legend(axes[:1])
    return figure


def draw_pairs(ax: Axes, records: Sequence[RunRecord]) -> None:
    """Draw the score over the steps for each pair."""
    report = report_settings(BANDIT)
    for grid, (alpha, beta) in PAIRS.items():
        steps, values = pair_curve(records, grid)
        estimates = [interval(report)(column) for column in values.T]
        label = f"α = {alpha:g}, β = {beta:g}"
        error_bars(ax, steps, estimates, ALPHA_COLOURS[alpha], label, "-")
    scale_scores(ax, report)
    ax.set(title="the same in expectation", xlabel="optimiser steps", ylabel=report.score)
    ax.legend(frameon=False, fontsize=8)
