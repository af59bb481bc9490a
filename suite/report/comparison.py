"""Groups of a sweep's runs by task and variant, and their summaries."""

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from suite.report import statistics
from suite.report.records import COLUMNS, RunRecord, record_of
from suite.report.statistics import Estimate
from suite.report.text import csv_text
from suite.report.variants import compared_grids, variants_of_runs, varied_keys
from suite.sweeps.spec import ReportSettings, Sweep

MODES = ("positive", "negative", "mixed")


class Cell(NamedTuple):
    """The finished runs of one task and variant."""

    task: str
    variant: str
    runs: int
    planned: int
    """All runs, with those that have not finished and those that are left out."""
    mean: Estimate
    interquartile_mean: Estimate
    start: Estimate
    gain: Estimate


class Improvement(NamedTuple):
    """The probability that a run of one variant beats a run of another."""

    task: str
    first: str
    second: str
    probability: Estimate
    missing: str = ""
    """Which seeds are compared, where runs are missing; else nothing."""


def collect(sweep: Sweep) -> list[RunRecord]:
    """Read the runs of a sweep, in the sweep's order.

    A run that a tuned grid and another one name is a record of each of their variants.
    """
    varied = varied_keys(sweep)
    return [
        record_of(sweep.points[name], varied, variant, grids)
        for name, names in variants_of_runs(sweep).items()
        for variant, grids in names.items()
    ]


def compared(sweep: Sweep, records: Sequence[RunRecord]) -> list[RunRecord]:
    """Leave out the runs that only the β grid names."""
    grids = compared_grids(sweep)
    return [record for record in records if grids.intersection(record.grids)]


def tasks(records: Sequence[RunRecord]) -> list[str]:
    """Return the tasks in the order of the sweep."""
    return list(dict.fromkeys(record.task for record in records))


def variants(records: Sequence[RunRecord]) -> list[str]:
    """Return the variants: feedback modes first, then the others in alphabetical order."""
    names = {record.variant for record in records}
    return [v for v in MODES if v in names] + sorted(names - set(MODES))


def select(records: Sequence[RunRecord], task: str, variant: str) -> list[RunRecord]:
    """Return the finished runs of a task and variant."""
    return [r for r in records if r.task == task and r.variant == variant and r.counts]


def cells(records: Sequence[RunRecord]) -> list[Cell]:
    """Summarise the finished runs of each task and variant."""
    groups = {
        (task, variant): [r for r in records if (r.task, r.variant) == (task, variant)]
        for task in tasks(records)
        for variant in variants(records)
    }
    return [
        cell_of(task, variant, runs)
        for (task, variant), runs in groups.items()
        if select(runs, task, variant)
    ]


def cell_of(task: str, variant: str, records: Sequence[RunRecord]) -> Cell:
    """Summarise the runs of one task and variant that count."""
    runs = select(records, task, variant)
    score = np.array([r.score for r in runs], float)
    start = np.array([r.start_score for r in runs], float)
    return Cell(
        task=task,
        variant=variant,
        runs=len(runs),
        planned=len(records),
        mean=statistics.mean(score),
        interquartile_mean=statistics.interquartile_mean(score),
        start=statistics.mean(start),
        gain=statistics.mean(score - start),
    )


def improvements(records: Sequence[RunRecord]) -> list[Improvement]:
    """Compare each pair of variants on each task."""
    pairs = []
    for task in tasks(records):
        scores = {
            variant: np.array([r.score for r in select(records, task, variant)], float)
            for variant in variants(records)
        }
        present = [variant for variant, values in scores.items() if len(values)]
        for first, second in itertools.combinations(present, 2):
            probability = statistics.probability_of_improvement(scores[first], scores[second])
            missing = missing_seeds(records, task, first, second)
            pairs.append(Improvement(task, first, second, probability, missing))
    return pairs


def missing_seeds(records: Sequence[RunRecord], task: str, *names: str) -> str:
    """Say which seeds of each variant count, where any run of them is missing."""
    parts = []
    for name in names:
        planned = [r for r in records if (r.task, r.variant) == (task, name)]
        left_out = sorted(r.seed for r in planned if not r.counts)
        seeds = ", ".join(str(seed) for seed in sorted(r.seed for r in planned if r.counts))
        lacking = f" (missing: {', '.join(map(str, left_out))})" if left_out else ""
        parts.append((f"{name}: seeds {seeds}{lacking}", bool(left_out)))
    return "; ".join(text for text, _ in parts) if any(lacks for _, lacks in parts) else ""


def labels_of(records: Sequence[RunRecord]) -> dict[str, str]:
    """Return each variant's name in figures, with how many of its runs count where not all do."""
    labels = {}
    for name in variants(records):
        of_variant = [r for r in records if r.variant == name]
        counted = sum(r.counts for r in of_variant)
        complete = counted == len(of_variant)
        labels[name] = name if complete else f"{name} ({counted} of {len(of_variant)} runs)"
    return labels


class Across(NamedTuple):
    """A variant over several tasks, by normalised scores."""

    variant: str
    runs: int
    planned: int
    """All runs of these tasks, with those that do not count."""
    interquartile_mean: Estimate
    scores: list[NDArray[Any]]
    """The normalised scores of each task."""


def across(records: Sequence[RunRecord], report: ReportSettings) -> list[Across]:
    """Summarise each variant over the tasks that all variants have; empty below two tasks."""
    names = [name for name in variants(records) if any_counts(records, name)]
    shared = [t for t in tasks(records) if all(select(records, t, name) for name in names)]
    if not report.normalize or len(shared) < 2:
        return []
    bounds = [report.bounds(task) for task in shared]
    summaries = []
    for name in names:
        raw = [np.array([r.score for r in select(records, t, name)], float) for t in shared]
        scores = [(x - low) / (high - low) for x, (low, high) in zip(raw, bounds, strict=True)]
        runs = sum(map(len, scores))
        planned = sum(r.task in shared and r.variant == name for r in records)
        mean = statistics.interquartile_mean_of_tasks(scores)
        summaries.append(Across(name, runs, planned, mean, scores))
    return summaries


def any_counts(records: Sequence[RunRecord], variant: str) -> bool:
    """Return whether any run of a variant counts."""
    return any(r.counts and r.variant == variant for r in records)


def improvements_across(summaries: Sequence[Across]) -> list[Improvement]:
    """Compare each pair of variants over the tasks."""
    return [
        Improvement(
            "all tasks",
            one.variant,
            other.variant,
            statistics.improvement_over_tasks(one.scores, other.scores),
            missing_runs(one, other),
        )
        for one, other in itertools.combinations(summaries, 2)
    ]


def missing_runs(*summaries: Across) -> str:
    """Say how many runs of each variant count, where any run is missing."""
    if all(each.runs == each.planned for each in summaries):
        return ""
    return "; ".join(f"{each.variant}: {each.runs} of {each.planned} runs" for each in summaries)


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
    return csv_text(COLUMNS, [list(record.row.values()) for record in records])
