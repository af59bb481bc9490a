"""What the verdicts share: comparisons that 95 % intervals decide, and their wording."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np

from suite.report import statistics
from suite.report.beta_map import BetaCurve
from suite.report.comparison import select
from suite.report.records import RunRecord
from suite.report.statistics import Estimate

FEW = 10  # runs; below, the bootstrap's intervals are too narrow
Outcome = Literal["ahead", "behind", "even"]
RELATION = {"ahead": "ahead of", "behind": "behind", "even": "not told apart from"}


class Verdict(NamedTuple):
    """Whether a claim holds here, and what was measured."""

    word: str
    sentence: str
    details: str = ""


OPEN = Verdict("not measured", "Not run yet.")


def final_scores(records: Sequence[RunRecord], task: str, variant: str) -> list[float]:
    """Return the final scores of a task and variant."""
    return [float(r.score) for r in select(records, task, variant) if r.score is not None]


def improved(records: Sequence[RunRecord]) -> bool:
    """Return whether runs end above their start, as the intervals say."""
    gains = [
        r.score - r.start_score
        for r in records
        if r.score is not None and r.start_score is not None
    ]
    return statistics.above_zero(gains)


def compare(first: Sequence[float], second: Sequence[float]) -> Outcome:
    """Return whether the first runs are ahead of the second, behind, or neither.

    The interval of P(first > second) must leave ½ out; with few runs, whose bootstrap is too
    narrow, Welch's interval of the difference of means must also leave 0 out.
    """
    probability = statistics.probability_of_improvement(np.array(first), np.array(second))
    outcome = outcome_of(probability)
    if min(len(first), len(second)) < FEW:
        difference = statistics.difference(first, second)
        confirmed = {"ahead": difference.low > 0, "behind": difference.high < 0}
        return outcome if confirmed.get(outcome) else "even"
    return outcome


def outcome_of(probability: Estimate) -> Outcome:
    """Return which side of ½ the interval of a probability of improvement lies on."""
    return "ahead" if probability.low > 0.5 else "behind" if probability.high < 0.5 else "even"


def count_outcomes(outcomes: Sequence[Outcome]) -> str:
    """Write how many comparisons have each outcome."""
    ahead, behind = outcomes.count("ahead"), outcomes.count("behind")
    return f"ahead in {ahead}, behind in {behind} and neither in {outcomes.count('even')}"


def format_estimate(estimate: Estimate, factor: float = 1.0) -> str:
    """Write an estimate with its interval."""
    value, low, high = (factor * part for part in estimate)
    text = f"{value:.3g}"
    return text if np.isnan(low) else f"{text} [{low:.3g}, {high:.3g}]"


def format_threshold(row: BetaCurve) -> str:
    """Write the measured and the predicted threshold of β."""
    measured = "nowhere" if row.measured is None else f"from {row.measured:g} on"
    predicted = "?" if row.predicted is None else f"{row.predicted:.3g}"
    return f"α = {row.alpha:g} {measured} (predicted {predicted})"


def count_thresholds(curves: Sequence[BetaCurve]) -> tuple[int, int, str]:
    """Return how many thresholds agree with their prediction, of how many, and a text of all."""
    known = [row for row in curves if row.predicted is not None]
    agreeing = sum(row.agrees is True for row in known)
    by_task: dict[str, list[str]] = {}
    for row in known:
        by_task.setdefault(row.task, []).append(format_threshold(row))
    text = "; ".join(f"{task}: stable {', '.join(rows)}" for task, rows in by_task.items())
    return agreeing, len(known), text
