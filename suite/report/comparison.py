"""The runs of a sweep side by side: what tables and figures are made from."""

import csv
import io
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from suite.report import statistics
from suite.report.records import COLUMNS, RunRecord, record_of, value_of
from suite.report.statistics import Estimate
from suite.sweeps.spec import Sweep

ORDER = ("positive", "negative", "mixed")  # other variants follow in alphabetical order


class Cell(NamedTuple):
    """The finished runs of one task and variant."""

    task: str
    variant: str
    runs: int
    mean: Estimate
    interquartile_mean: Estimate
    start: Estimate
    gain: Estimate


class Improvement(NamedTuple):
    """How likely a run of one variant beats a run of another."""

    task: str
    first: str
    second: str
    probability: Estimate


def collect(sweep: Sweep) -> list[RunRecord]:
    """Read the runs of a sweep, in the sweep's order."""
    telling = telling_axes(sweep)
    varied = list(dict.fromkeys(axis for axes in sweep.axes.values() for axis in axes))
    records = []
    for config in sweep.points.values():
        values = {axis.rpartition(".")[2]: value_of(config, axis) for axis in telling}
        told = [f"{name}={value}" for name, value in values.items() if value is not None]
        records.append(record_of(config, varied, ", ".join([config.variant, *told])))
    return records


def telling_axes(sweep: Sweep) -> list[str]:
    """Return the varied keys without which different settings would be taken for seeds."""
    axes = {
        a for grid, names in sweep.axes.items() if grid != sweep.report.beta_grid for a in names
    }
    points = [sweep.points[name] for name in compared_names(sweep)]
    found = []
    for axis in sorted(axes - {"seed", "feedback", "objective.name"}):
        groups: dict[tuple[str, str], set[str]] = {}
        for config in points:
            group = groups.setdefault((config.domain.task, config.variant), set())
            group.add(str(value_of(config, axis)))
        if any(len(values) > 1 for values in groups.values()):
            found.append(axis)
    return found


def compared_names(sweep: Sweep) -> set[str]:
    """Return the runs that some grid besides the β grid holds."""
    grids = [runs for name, runs in sweep.grids.items() if name != sweep.report.beta_grid]
    return {run for runs in grids for run in runs}


def compared(sweep: Sweep, records: Sequence[RunRecord]) -> list[RunRecord]:
    """Leave out the runs that only the β grid holds."""
    names = compared_names(sweep)
    return [record for record in records if record.name in names]


def tasks(records: Sequence[RunRecord]) -> list[str]:
    """Return the tasks in the order of the sweep."""
    return list(dict.fromkeys(record.task for record in records))


def variants(records: Sequence[RunRecord]) -> list[str]:
    """Return the compared variants, feedback modes first."""
    found = {record.variant for record in records}
    return [v for v in ORDER if v in found] + sorted(found - set(ORDER))


def select(records: Sequence[RunRecord], task: str, variant: str) -> list[RunRecord]:
    """Return the finished runs of a task and variant."""
    return [r for r in records if r.task == task and r.variant == variant and r.state == "finished"]


def cells(records: Sequence[RunRecord]) -> list[Cell]:
    """Summarise the finished runs of every task and variant."""
    found = []
    for task in tasks(records):
        for variant in variants(records):
            runs = select(records, task, variant)
            if runs:
                score = np.array([r.score for r in runs], float)
                start = np.array([r.start_score for r in runs], float)
                summary = (
                    statistics.mean(score),
                    statistics.interquartile_mean(score),
                    statistics.mean(start),
                )
                gain = statistics.mean(score - start)
                found.append(Cell(task, variant, len(runs), *summary, gain))
    return found


def improvements(records: Sequence[RunRecord]) -> list[Improvement]:
    """Compare every pair of variants on every task."""
    found = []
    for task in tasks(records):
        scores = {
            variant: [r.score for r in select(records, task, variant)]
            for variant in variants(records)
        }
        present = [variant for variant, values in scores.items() if values]
        for i, first in enumerate(present):
            for second in present[i + 1 :]:
                probability = statistics.probability_of_improvement(
                    np.array(scores[first], float), np.array(scores[second], float)
                )
                found.append(Improvement(task, first, second, probability))
    return found


class Across(NamedTuple):
    """A variant over several tasks, by normalised scores."""

    variant: str
    runs: int
    interquartile_mean: Estimate
    scores: list[NDArray[Any]]
    """The normalised scores of each task."""


def across(records: Sequence[RunRecord], normalize: Sequence[float]) -> list[Across]:
    """Sum up each variant over the tasks that all variants have, or nothing below two of them."""
    names = variants(records)
    shared = [t for t in tasks(records) if all(select(records, t, name) for name in names)]
    if not normalize or len(shared) < 2:
        return []
    low, high = normalize
    found = []
    for name in names:
        raw = [np.array([r.score for r in select(records, t, name)], float) for t in shared]
        scores = [(x - low) / (high - low) for x in raw]
        runs = sum(map(len, scores))
        found.append(Across(name, runs, statistics.interquartile_mean_of_tasks(scores), scores))
    return found


def improvements_across(found: Sequence[Across]) -> list[Improvement]:
    """Compare every pair of variants over the tasks."""
    return [
        Improvement(
            "all tasks",
            one.variant,
            other.variant,
            statistics.improvement_over_tasks(one.scores, other.scores),
        )
        for i, one in enumerate(found)
        for other in found[i + 1 :]
    ]


def curve(
    records: Sequence[RunRecord], metric: str, x_axis: str = "step"
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the steps [T] that all runs reached and the values there, [N, T].

    `x_axis` is `step`, or the name of an evaluation metric such as `env_steps`.
    """
    x = "step" if x_axis == "step" else f"eval/{x_axis}"
    series = [
        {row[x]: row[metric] for row in r.evaluations if {x, metric} <= set(row)} for r in records
    ]
    steps = sorted(set.intersection(*(set(values) for values in series))) if series else []
    return np.array(steps), np.array([[values[s] for s in steps] for values in series], float)


def scores_csv(records: Sequence[RunRecord]) -> str:
    """Return one line per run, with a header."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(record.row for record in records)
    return text.getvalue()
