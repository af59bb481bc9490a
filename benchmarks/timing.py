"""Comparing two ways of doing the same work: in turn, in one process, as ratios."""

import statistics
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

Seconds = Callable[[], float]


class Comparison(NamedTuple):
    """Medians of ours, of theirs and of the ratio within a pair, with its quartiles."""

    ours: float
    theirs: float
    ratio: float
    lower: float
    upper: float


def compare(ours: Seconds, theirs: Seconds, rounds: int) -> Comparison:
    """Let both measure themselves in turn, after one uncounted round each."""
    ours(), theirs()
    return summarize([(ours(), theirs()) for _ in range(rounds)])


def summarize(pairs: Sequence[tuple[float, float]]) -> Comparison:
    """Return the medians and quartiles of measurements of ours and theirs."""
    first, second = zip(*pairs, strict=True)
    lower, ratio, upper = statistics.quantiles([a / b for a, b in pairs], n=4)
    return Comparison(statistics.median(first), statistics.median(second), ratio, lower, upper)


def timed(act: Callable[[], object]) -> float:
    """Return the seconds that `act` takes."""
    started = time.perf_counter()
    act()
    return time.perf_counter() - started
