"""The report's figures, drawn with matplotlib and no display."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import PercentFormatter
from numpy.typing import NDArray

from suite.report import statistics
from suite.report.beta_map import BetaCurve
from suite.report.comparison import Across, curve, select, tasks, variants
from suite.report.records import RunRecord
from suite.report.statistics import Estimate
from suite.report.text import clean
from suite.sweeps.spec import ReportSettings

# The palette of Okabe and Ito, which colour-blind readers can distinguish too.
COLOURS = {
    "positive": "#0072B2",
    "negative": "#D55E00",
    "mixed": "#009E73",
    "dpo": "#CC79A7",
    "mpo": "#E69F00",
}
OTHERS = (
    "#56B4E9",
    "#000000",
    "#E69F00",
    "#009E73",
    "#CC79A7",
    "#D55E00",
    "#0072B2",
    "#8C6D1F",
    "#7F7F7F",
)
Summary = Callable[[NDArray[np.float64]], Estimate]
Labels = Mapping[str, str]
"""Names in legends by variant; a variant without one keeps its own."""
NO_LABELS: Labels = {}
PANEL = (4.6, 3.4)  # inches
PROFILE_POINTS = 41
LEGEND_LINE = 0.17  # inches
INSIDE_LIMIT = 7  # entries of a legend inside a panel; a longer one stands below all panels


def colour(variant: str, among: Sequence[str]) -> str:
    """Return the variant's colour, the same in every figure."""
    rest = [v for v in among if v not in COLOURS]
    return COLOURS.get(variant) or OTHERS[rest.index(variant) % len(OTHERS)]


def learning_curves(
    records: Sequence[RunRecord], report: ReportSettings, labels: Labels = NO_LABELS
) -> Figure:
    """Draw the score over steps, one panel per task, with 95 % intervals over seeds."""
    figure, axes = grid_of(len(tasks(records)))
    for ax, task in zip(axes, tasks(records), strict=True):
        draw_curves(ax, records, task, "eval/score", report.x_axis, interval(report), labels)
        start = statistics.mean(
            np.array([r.start_score for r in records if starts(r, task)], float)
        )
        ax.axhline(start.value, color="0.5", ls="--", lw=1, label="reference (start)")
        scale_scores(ax, report)
        ax.set(title=task, xlabel=x_label(report), ylabel=report.score)
    legend(axes)
    return figure


def starts(record: RunRecord, task: str) -> bool:
    """Return whether a run is of this task and was evaluated at its start."""
    return record.task == task and record.start_score is not None


def interval(report: ReportSettings) -> Summary:
    """Return how a score is summarised; the symmetric t interval does not suit a log scale."""
    return statistics.interquartile_mean if report.log_scale else statistics.mean


def x_label(report: ReportSettings) -> str:
    """Return the label of the x axis."""
    return {"step": "optimiser steps", "env_steps": "environment steps"}.get(
        report.x_axis, report.x_axis.replace("_", " ")
    )


def draw_curves(
    ax: Axes,
    records: Sequence[RunRecord],
    task: str,
    metric: str,
    x_axis: str,
    summary: Summary = statistics.mean,
    labels: Labels = NO_LABELS,
) -> None:
    """Draw a metric's summary and interval for each variant."""
    names = variants(records)
    for name in names:
        steps, values = curve(select(records, task, name), metric, x_axis)
        if not len(steps):
            continue
        points = [summary(column) for column in values.T]
        shade = colour(name, names)
        ax.plot(steps, [p.value for p in points], color=shade, label=labels.get(name, name), lw=1.8)
        ax.fill_between(
            steps, [p.low for p in points], [p.high for p in points], color=shade, alpha=0.18, lw=0
        )


def diagnostics(
    records: Sequence[RunRecord], report: ReportSettings, labels: Labels = NO_LABELS
) -> Figure | None:
    """Draw the other evaluation metrics of the first task; None where there are none."""
    task, names = tasks(records)[0], diagnostic_metrics(records, report)
    if not names:
        return None
    figure, axes = grid_of(len(names))
    for ax, name in zip(axes, names, strict=True):
        draw_curves(ax, records, task, name, report.x_axis, labels=labels)
        values = [row[name] for record in records for row in record.evaluations if name in row]
        if min(values) >= 0 and max(values) > 100:
            ax.set_yscale("symlog", linthresh=1.0)
        label = name.removeprefix("eval/").replace("_", " ")
        ax.set(title=label, xlabel=x_label(report))
    legend(axes)
    return figure


def diagnostic_metrics(records: Sequence[RunRecord], report: ReportSettings) -> list[str]:
    """Return the names of the evaluation metrics besides the score and the x axis."""
    known = ("eval/score", f"eval/{report.x_axis}")
    return sorted(
        {
            name
            for record in records
            for row in record.evaluations
            for name in row
            if name.startswith("eval/") and name not in known
        }
    )


def judges(records: Sequence[RunRecord], labels: Labels = NO_LABELS) -> Figure | None:
    """Draw the exact and the judge's score over the KL; None where no run has a judge's score.

    Each line is a variant's mean over seeds, from step to step (arXiv 2410.04166, fig. 4).
    """
    judged = [r for r in records if any("eval/judge_score" in row for row in r.evaluations)]
    panels = tasks(judged)
    if not panels:
        return None
    figure, axes = grid_of(len(panels))
    for ax, task in zip(axes, panels, strict=True):
        draw_judges(ax, judged, task, labels)
    legend(axes)
    return figure


def draw_judges(
    ax: Axes, judged: Sequence[RunRecord], task: str, labels: Labels = NO_LABELS
) -> None:
    """Draw the exact and the judge's score of a task over the KL."""
    for name in variants(judged):
        runs, shade = select(judged, task, name), colour(name, variants(judged))
        steps, judge = curve(runs, "eval/judge_score")
        if not len(steps):
            continue
        kl, score = (
            values[:, np.isin(all_steps, steps)].mean(0)
            for all_steps, values in (curve(runs, "eval/kl"), curve(runs, "eval/score"))
        )
        ax.plot(kl, score, "-", color=shade, label=f"{labels.get(name, name)}, exact", lw=1.8)
        ax.plot(
            kl, judge.mean(0), "--", color=shade, label=f"{labels.get(name, name)}, judge", lw=1.8
        )
    ax.set(title=task, xlabel="KL from the start, in nats", ylabel="mean score")


def profiles(summaries: Sequence[Across]) -> Figure:
    """Draw for each variant the fraction of all runs above each normalised score."""
    figure, (ax,) = grid_of(1)
    thresholds = np.linspace(0, 1, PROFILE_POINTS)
    names = [each.variant for each in summaries]
    for each in summaries:
        points = statistics.performance_profile(each.scores, thresholds)
        shade = colour(each.variant, names)
        ax.plot(
            thresholds, [p.value for p in points], color=shade, label=profile_label(each), lw=1.8
        )
        low, high = [p.low for p in points], [p.high for p in points]
        ax.fill_between(thresholds, low, high, color=shade, alpha=0.18, lw=0)
    ax.set(xlabel="normalised score", ylabel="share of runs above it", ylim=(0, 1.02))
    legend([ax])
    return figure


def profile_label(each: Across) -> str:
    """Return a variant's name, with how many of its runs count where not all do."""
    missing = each.runs != each.planned
    return f"{each.variant} ({each.runs} of {each.planned} runs)" if missing else each.variant


def beta_map(curves: Sequence[BetaCurve], report: ReportSettings) -> Figure:
    """Draw the final score over β, one panel per task and α, with the predicted threshold."""
    figure, axes = grid_of(len(curves))
    for ax, row in zip(axes, curves, strict=True):
        draw_beta(ax, row, report)
    legend(axes)
    return figure


def draw_beta(ax: Axes, row: BetaCurve, report: ReportSettings) -> None:
    """Draw the final score over β for one task and α."""
    beta = [p.beta for p in row.points]
    summaries = [interval(report)(p.scores) for p in row.points]
    value, low, high = (np.array(column) for column in zip(*summaries, strict=True))
    # NaN where there are too few runs for an interval.
    error = np.nan_to_num([value - low, high - value])
    ax.errorbar(beta, value, yerr=error, fmt="o-", color="#0072B2", capsize=3)
    ax.axhline(row.points[0].start, color="0.5", ls="--", lw=1, label="reference (start)")
    if report.stable_above is not None:
        ax.axhline(report.stable_above, color="0.5", ls=":", lw=1, label="stable above")
    if row.predicted is not None:
        ax.axvline(row.predicted, color="#D55E00", lw=1.5, label="predicted threshold")
    if row.bound is not None and row.bound != row.predicted:
        ax.axvline(row.bound, color="#D55E00", lw=1, ls=":", label="bound for any policy")
    scale_scores(ax, report)
    missing = "" if row.runs == row.planned else f" ({row.runs} of {row.planned} runs)"
    ax.set(title=f"{row.task}, α = {row.alpha:g}{missing}", xlabel="β", ylabel=report.score)


def legend(axes: Sequence[Axes]) -> None:
    """Draw one legend for all panels: inside the first, or below all where it is long."""
    entries: dict[str, Artist] = {}
    for ax in axes:
        for handle, label in zip(*ax.get_legend_handles_labels(), strict=True):
            entries.setdefault(label, handle)
    if len(entries) <= INSIDE_LIMIT:
        axes[0].legend(entries.values(), entries.keys(), frameon=False, fontsize=8)
        return
    figure = axes[0].get_figure()
    assert isinstance(figure, Figure)
    columns = 2 if len(axes) < 3 else 3
    width, height = figure.get_size_inches()
    figure.set_size_inches(width, height + LEGEND_LINE * -(-len(entries) // columns))
    figure.legend(
        entries.values(),
        entries.keys(),
        frameon=False,
        fontsize=8,
        loc="outside lower center",
        ncols=columns,
    )


def scale_scores(ax: Axes, report: ReportSettings) -> None:
    """Scale a score axis by the sweep's settings."""
    if report.percent:
        ax.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    if report.log_scale:
        ax.set_yscale("symlog", linthresh=0.1)
        low, high = ax.dataLim.y0, ax.dataLim.y1  # both negative, so the margin is a factor
        ax.set_ylim(1.5 * low, high + max(0.02, -0.3 * high))


def grid_of(panels: int) -> tuple[Figure, list[Axes]]:
    """Return a figure with at most three panels a row."""
    columns = min(3, panels)
    rows = -(-panels // columns)
    scale = 1.4 if panels == 1 else 1.0
    size = (scale * PANEL[0] * columns, scale * PANEL[1] * rows)
    figure = Figure(figsize=size, layout="constrained")
    axes = [figure.add_subplot(rows, columns, i + 1) for i in range(panels)]
    for ax in axes:
        ax.spines[["top", "right"]].set_visible(False)
        ax.grid(alpha=0.25)
    return figure, axes


def without_markup(figure: Figure) -> None:
    """Show titles, labels and legends as they are: a `$` in a name is no formula."""
    texts: list[Text] = []
    for ax in figure.axes:
        texts += [ax.title, ax.xaxis.label, ax.yaxis.label]
        named = ax.get_legend()
        texts += named.get_texts() if named is not None else []
    for legend in figure.legends:
        texts += legend.get_texts()
    for text in texts:
        text.set_parse_math(False)
        text.set_text(clean(text.get_text()))
