"""What a report says about tuned keys: each variant's chosen values, and all candidates' scores."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from suite.report.variants import VariantNames
from suite.sweeps.choices import Choice, is_waiting
from suite.sweeps.grids import assignments
from suite.sweeps.spec import Sweep


class TunedVariant(NamedTuple):
    """A variant with its candidates; values are written as `key=value`."""

    task: str
    variant: str
    chosen: str
    """The chosen values; nothing while tuning runs are left."""
    score: float | None
    """The mean score of the tuning runs with these values; None where one of them failed."""
    note: str
    """Which values are at an end of those that were tried, and what else is odd."""
    candidates: list[tuple[str, float | None]]
    """All candidates with their scores; None where a run failed or is left."""


def tuned_variants(sweep: Sweep, choices: Sequence[Choice]) -> list[TunedVariant]:
    """Return the choices in words, in the order of the sweep."""
    names, waiting = VariantNames(sweep), is_waiting(choices)
    rows = []
    for choice in choices:
        variant, scores = choice.variant, [finite(score) for score in choice.scores]
        config = next(iter(variant.candidates[0].reported.values()))
        best = choice.best
        texts = [written(candidate.values) for candidate in variant.candidates]
        rows.append(
            TunedVariant(
                task=config.domain.task,
                variant=names.name(config, variant.grid),
                chosen="" if waiting else written(best.values),
                score=None if waiting else scores[variant.candidates.index(best)],
                note="" if waiting else note_on(choice, scores),
                candidates=list(zip(texts, scores, strict=True)),
            )
        )
    return rows


def finite(score: float) -> float | None:
    """Return a score, or None for that of a candidate with a failed run."""
    return score if math.isfinite(score) else None


def written(values: dict[str, Any]) -> str:
    """Write values as `key=value`."""
    return ", ".join(assignments(values))


def note_on(choice: Choice, scores: Sequence[float | None]) -> str:
    """Say where a choice is at the edge of its grid, or rests on nothing."""
    if all(score is None for score in scores):
        return "no candidate finished: the first one is taken"
    if not choice.edges:
        return ""
    return f"on the edge of the grid: {', '.join(choice.edges)}"
