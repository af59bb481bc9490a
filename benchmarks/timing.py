"""Comparing two ways of doing the same work: in turn, in one process, as ratios."""

import statistics
import time
from collections.abc import Callable
from typing import NamedTuple

Seconds = Callable[[], float]


class Comparison(NamedTuple):
    """Medians over rounds of ours, theirs, and the ratio within a round, with its range."""

    ours: float
    theirs: float
    ratio: float
    lowest: float
    highest: float


def compare(ours: Seconds, theirs: Seconds, rounds: int) -> Comparison:
    """Let both measure themselves in turn, after one uncounted round each."""
    ours(), theirs()
    pairs = [(ours(), theirs()) for _ in range(rounds)]
    ratios = sorted(a / b for a, b in pairs)
    first, second = zip(*pairs, strict=True)
    return Comparison(
        statistics.median(first),
        statistics.median(second),
        statistics.median(ratios),
        ratios[0],
        ratios[-1],
    )


def timed(act: Callable[[], object]) -> float:
    """Return the seconds that `act` takes."""
    started = time.perf_counter()
    act()
    return time.perf_counter() - started
