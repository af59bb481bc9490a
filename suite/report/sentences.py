"""The content of a report's tables as sentences."""

import math
from collections.abc import Sequence

from suite.report.beta_map import BetaCurve
from suite.report.comparison import Across, Cell
from suite.report.statistics import Estimate
from suite.sweeps.spec import ReportSettings


def format_score(estimate: Estimate, report: ReportSettings) -> str:
    """Write a value with its interval, as in `71.2 % [68.9, 73.5]`."""
    factor, unit, digits = (100, " %", ".1f") if report.percent else (1, "", ".4g")
    text = f"{estimate.value * factor:{digits}}{unit}"
    if math.isnan(estimate.low):
        return text
    return f"{text} [{estimate.low * factor:{digits}}, {estimate.high * factor:{digits}}]"


def count_runs(runs: int, planned: int) -> str:
    """Write a number of runs, with the planned ones where some are missing."""
    return str(runs) if runs == planned else f"{runs} of {planned}"


def headlines(
    summaries: Sequence[Cell], curves: Sequence[BetaCurve], report: ReportSettings
) -> list[str]:
    """Return the verdicts as sentences, with how many runs they are of where some are missing."""
    sentences = [verdict_on_gain(cell, report) for cell in summaries]
    for row in curves:
        if row.predicted is None:
            continue
        measured = "no β of the grid" if row.measured is None else f"β ≥ {row.measured:g}"
        missing = "" if row.runs == row.planned else f" in the {row.runs} of {row.planned} runs"
        ended = " that ended" if missing else ""
        sentences.append(
            f"{row.task}, α = {row.alpha:g}: stable for {measured}{missing}{ended}; predicted for"
            f" β > {row.predicted:.3g}."
        )
    return sentences


def verdict_on_gain(cell: Cell, report: ReportSettings) -> str:
    """Say whether a variant ends above its start."""
    verdict = "improves" if cell.gain.low > 0 else "does not clearly improve"
    if math.isnan(cell.gain.low):
        verdict = "has too few runs for a verdict"
        if not math.isfinite(cell.gain.value):
            verdict = "has a score that is not finite, so no verdict"
    missing = ""
    if cell.runs != cell.planned:
        missing = f" in the {cell.runs} of {cell.planned} runs that finished and can be read"
    return (
        f"{cell.task}: {cell.variant} {verdict}{missing}: {format_score(cell.mean, report)}, from"
        f" the reference's {format_score(cell.start, report)};"
        f" gain {format_score(cell.gain, report)}."
    )


def normalisation(report: ReportSettings, together: Sequence[Across]) -> str:
    """Say which scores count as 0 and 1; nothing where tasks are not summed up."""
    if not together:
        return ""
    if not isinstance(report.normalize, dict):
        low, high = report.bounds("")
        return f"Scores from {low} to {high} count as 0 to 1."
    pairs = "; ".join(f"{task} {low} to {high}" for task, (low, high) in report.normalize.items())
    return f"These scores count as 0 to 1: {pairs}."
