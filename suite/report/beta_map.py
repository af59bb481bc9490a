"""The smallest stable β: measured on a grid, and predicted from theory."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from suite.report.comparison import tasks
from suite.report.records import RunRecord


class BetaPoint(NamedTuple):
    """The runs of one α and β."""

    beta: float
    scores: NDArray[np.float64]
    """Final scores, [runs]."""
    start: float
    stable: bool
    """Whether every run ended above its start, or above the score that the sweep names."""


class BetaCurve(NamedTuple):
    """A row of the map: one task and α over all β, with the predicted threshold."""

    task: str
    alpha: float
    points: list[BetaPoint]
    bound: float | None
    """(1−α)/Z0, enough for any policy (theory §2)."""
    predicted: float | None
    """The smallest β with a bounded loss for Gaussians (theory §5), else the bound."""
    planned: int = 0
    """All runs, with those that have not ended and those that are left out."""

    @property
    def runs(self) -> int:
        """The runs that the points are of."""
        return sum(len(point.scores) for point in self.points)

    @property
    def measured(self) -> float | None:
        """The smallest β of the grid such that every run is stable from there on."""
        threshold = None
        for point in reversed(self.points):
            if not point.stable:
                break
            threshold = point.beta
        return threshold

    @property
    def agrees(self) -> bool | None:
        """Whether the prediction, rounded up to the grid, is within one grid step of `measured`."""
        if self.predicted is None or self.measured is None:
            return None
        grid = [point.beta for point in self.points]
        first = next((i for i, beta in enumerate(grid) if beta >= self.predicted), len(grid))
        return abs(first - grid.index(self.measured)) <= 1


def beta_curves(records: Sequence[RunRecord], stable_above: float | None = None) -> list[BetaCurve]:
    """Group the ended PMPO runs that have a number for β by task, α and β.

    A run is stable when it ends above `stable_above`, or above its own start where that is None.
    """
    curves = []
    for task in tasks(records):
        chosen = [r for r in records if r.task == task and has_beta(r)]
        for alpha in sorted({r.alpha for r in chosen if r.alpha is not None}):
            row = [r for r in chosen if r.alpha == alpha]
            betas = sorted({r.beta for r in row if r.beta is not None})
            points = [beta_point(row, beta, stable_above) for beta in betas]
            planned = sum(
                (r.task, r.alpha) == (task, alpha) and r.beta is not None for r in records
            )
            curves.append(BetaCurve(task, alpha, points, bound(row), predicted(row), planned))
    return curves


def has_beta(record: RunRecord) -> bool:
    """Return whether a run has ended and has a number for β; failed runs count, as unstable."""
    ended = record.counts or (record.state == "failed" and not record.problem)
    return ended and record.score is not None and record.beta is not None


def beta_point(records: Sequence[RunRecord], beta: float, stable_above: float | None) -> BetaPoint:
    """Summarise the runs at one β."""
    runs = [r for r in records if r.beta == beta]
    score = np.array([r.score for r in runs], float)
    start = np.array([r.start_score for r in runs], float)
    least = start if stable_above is None else stable_above
    stable = bool((score > least).all()) and all(r.counts for r in runs)
    return BetaPoint(beta, score, float(start.mean()), stable)


def bound(records: Sequence[RunRecord]) -> float | None:
    """Return (1−α)/Z0 with the share of rejected samples that the runs measured first."""
    known = [r.reject_share for r in records if r.reject_share]
    alpha = records[0].alpha
    return (1 - alpha) / float(np.mean(known)) if known and alpha is not None else None


def predicted(records: Sequence[RunRecord]) -> float | None:
    """Return the smallest β with a bounded loss, at least 0."""
    of_gaussian = records[0].gaussian_beta
    return bound(records) if of_gaussian is None else of_gaussian
