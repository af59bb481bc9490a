"""The numbers of each figure of a report, as tables for the page and for download."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from suite.report import statistics
from suite.report.beta_map import BetaCurve
from suite.report.comparison import Across, curve, select, tasks, variants
from suite.report.figures import PROFILE_POINTS, diagnostic_metrics, interval
from suite.report.records import RunRecord
from suite.report.statistics import Estimate
from suite.report.text import csv_text
from suite.sweeps.spec import ReportSettings


class Table(NamedTuple):
    """Named columns, and rows with a value for each."""

    columns: tuple[str, ...]
    rows: list[tuple[Any, ...]]

    @property
    def csv(self) -> str:
        """The table as a file's content."""
        return csv_text(self.columns, self.rows)


def learning_curves(records: Sequence[RunRecord], report: ReportSettings) -> Table:
    """Return the scores with intervals that the learning curves show."""
    rows = [
        (task, variant, *row)
        for task in tasks(records)
        for variant in variants(records)
        for row in summaries(select(records, task, variant), "eval/score", report)
    ]
    return Table(("task", "variant", report.x_axis, "runs", "score", "low", "high"), rows)


def diagnostics(records: Sequence[RunRecord], report: ReportSettings) -> Table:
    """Return the other evaluation metrics of the first task, with intervals."""
    task = tasks(records)[0]
    rows = [
        (metric.removeprefix("eval/"), variant, *row)
        for metric in diagnostic_metrics(records, report)
        for variant in variants(records)
        for row in summaries(select(records, task, variant), metric, report, plain=True)
    ]
    return Table(("metric", "variant", report.x_axis, "runs", "mean", "low", "high"), rows)


def summaries(
    records: Sequence[RunRecord], metric: str, report: ReportSettings, plain: bool = False
) -> list[tuple[float, int, float, float, float]]:
    """Return x, number of runs, value and bounds at the steps that all runs reached."""
    summary = statistics.mean if plain else interval(report)
    steps, values = curve(records, metric, report.x_axis)
    return [
        (float(step), len(values), *rounded(summary(column)))
        for step, column in zip(steps, values.T, strict=True)
    ]


def rounded(estimate: Estimate) -> tuple[float, float, float]:
    """Return an estimate with six digits."""
    value, low, high = (float(f"{part:.6g}") for part in estimate)
    return value, low, high


def beta_map(curves: Sequence[BetaCurve], report: ReportSettings) -> Table:
    """Return the final scores over β, and whether every run was stable."""
    rows = [
        (row.task, row.alpha, p.beta, len(p.scores), *rounded(interval(report)(p.scores)), p.stable)
        for row in curves
        for p in row.points
    ]
    return Table(("task", "alpha", "beta", "runs", "score", "low", "high", "stable"), rows)


def profiles(summaries: Sequence[Across]) -> Table:
    """Return the fraction of runs above each normalised score."""
    thresholds = np.linspace(0, 1, PROFILE_POINTS)
    rows = [
        (each.variant, float(f"{x:.4g}"), *rounded(point))
        for each in summaries
        for x, point in zip(
            thresholds, statistics.performance_profile(each.scores, thresholds), strict=True
        )
    ]
    return Table(("variant", "normalised score", "share of runs above it", "low", "high"), rows)


def judges(records: Sequence[RunRecord]) -> Table:
    """Return the mean KL, exact score and judge's score over seeds, at each judged step."""
    rows = []
    for task in tasks(records):
        for variant in variants(records):
            runs = select(records, task, variant)
            steps, judge = curve(runs, "eval/judge_score")
            if not len(steps):
                continue
            (all_steps, kl), (_, exact) = curve(runs, "eval/kl"), curve(runs, "eval/score")
            judged = np.isin(all_steps, steps)
            means = zip(
                steps, kl[:, judged].mean(0), exact[:, judged].mean(0), judge.mean(0), strict=True
            )
            rows += [
                (task, variant, int(step), *(float(f"{value:.6g}") for value in values))
                for step, *values in means
            ]
    return Table(("task", "variant", "step", "kl", "exact score", "judge's score"), rows)
