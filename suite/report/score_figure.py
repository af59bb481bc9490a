"""The figure of final scores, for comparisons of more variants than learning curves can show."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from suite.report.comparison import Cell
from suite.report.figures import COLOURS, NO_LABELS, Labels
from suite.report.tables import Table
from suite.sweeps.spec import ReportSettings

MANY = 12  # variants from which on the figure is drawn
LINE = 0.2  # inches
WIDTH = 4.2  # inches per task, beside the names


def has_many(cells: Sequence[Cell]) -> bool:
    """Tell whether a table holds so many variants that their scores need a figure."""
    return len({cell.variant for cell in cells}) >= MANY


def score_figure(
    cells: Sequence[Cell], report: ReportSettings, labels: Labels = NO_LABELS
) -> Figure:
    """Draw mean and 95 % interval of each variant, best first, with the start as a dashed line."""
    by_task: dict[str, list[Cell]] = {}
    for cell in cells:
        by_task.setdefault(cell.task, []).append(cell)
    lines = max(map(len, by_task.values()))
    size = (3.0 + WIDTH * len(by_task), 1.0 + LINE * lines)
    figure = Figure(figsize=size, layout="constrained")
    for ax, (task, found) in zip(
        np.atleast_1d(figure.subplots(1, len(by_task))), by_task.items(), strict=True
    ):
        ordered = sorted(found, key=lambda cell: cell.mean.value)
        for y, cell in enumerate(ordered):
            value, low, high = cell.mean
            error = [[np.nan_to_num(value - low)], [np.nan_to_num(high - value)]]
            shade = COLOURS.get(cell.variant, "#000000")
            ax.errorbar(value, y, xerr=error, fmt="o", color=shade, ms=4, capsize=2)
        ax.axvline(ordered[0].start.value, color="#7F7F7F", ls="--", lw=1)
        names = [labels.get(cell.variant, cell.variant) for cell in ordered]
        ax.set_yticks(range(len(ordered)), names, fontsize=8)
        ax.set(title=task, xlabel=report.score, ylim=(-0.7, len(ordered) - 0.3))
        ax.grid(alpha=0.25)
        ax.spines[["top", "right"]].set_visible(False)
        if report.percent:
            ax.xaxis.set_major_formatter(PercentFormatter(1.0))
    return figure


def score_table(cells: Sequence[Cell]) -> Table:
    """Return what the figure shows."""
    rows = [(c.task, c.variant, c.runs, *c.mean, c.start.value) for c in cells]
    return Table(("task", "variant", "runs", "score", "low", "high", "start"), rows)
