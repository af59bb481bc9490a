"""Comparing two implementations of the same work, in turn and in one process."""

import statistics
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

Measure = Callable[[], float]


class Comparison(NamedTuple):
    """Medians of two measurements and of their ratio within a pair, with the ratio's quartiles."""

    ours: float
    theirs: float
    ratio: float
    lower: float
    upper: float


def compare(ours: Measure, theirs: Measure, rounds: int) -> Comparison:
    """Call both in turn for some rounds, after one uncounted call of each."""
    ours(), theirs()
    return summarize([(ours(), theirs()) for _ in range(rounds)])


def summarize(pairs: Sequence[tuple[float, float]]) -> Comparison:
    """Return medians and quartiles of pairs (ours, theirs)."""
    first, second = zip(*pairs, strict=True)
    lower, ratio, upper = statistics.quantiles([a / b for a, b in pairs], n=4)
    return Comparison(statistics.median(first), statistics.median(second), ratio, lower, upper)


def timed(call: Callable[[], object]) -> float:
    """Return the seconds that `call` takes."""
    started = time.perf_counter()
    call()
    return time.perf_counter() - started
