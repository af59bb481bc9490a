"""Where the time of training goes, by phase; one stopwatch for the whole process.

It is for people who watch: neither results nor metrics depend on it.
"""

import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

import torch

SECONDS: defaultdict[str, float] = defaultdict(
    float
)  # by phase, each without the phases inside of it
COUNTS: Counter[str] = Counter()  # of what is worth a rate, such as tokens


@contextmanager
def timed(phase: str) -> Iterator[None]:
    """Count what happens inside as time spent on a phase."""
    started, counted = now(), sum(SECONDS.values())
    try:
        yield
    finally:
        inside = sum(SECONDS.values()) - counted
        SECONDS[phase] += now() - started - inside


def now() -> float:
    """Return seconds, after all that was started on a GPU."""
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.synchronize()
    return time.perf_counter()


def shares() -> dict[str, float]:
    """Return each phase's share of all time that was counted, largest first."""
    total = sum(SECONDS.values())
    ordered = sorted(SECONDS.items(), key=lambda item: -item[1])
    return {phase: seconds / total for phase, seconds in ordered} if total else {}


def described() -> str:
    """Return the shares as words."""
    return ", ".join(f"{phase} {share:.0%}" for phase, share in shares().items())
