"""Where a run spends its time, by phase.

Code marks its phases with `timed("sampling")`; the seconds go to the stopwatch of the current run.
The numbers are for people who watch: neither results nor metrics depend on them.

A GPU works on after a call returns, so its time is counted in the phase that waits for it. With
`SUITE_EXACT_TIMING=1` in the environment, each phase waits for the GPU when it begins and when it
ends: the shares are exact, and training is slower.
"""

import os
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch

EXACT = "SUITE_EXACT_TIMING"


class Stopwatch:
    """The time and the counts of one run."""

    def __init__(self) -> None:
        self.exact = os.environ.get(EXACT) == "1"
        self.seconds: defaultdict[str, float] = defaultdict(float)
        """Seconds by phase, each without the phases inside."""
        self.counts: Counter[str] = Counter()
        """Numbers that are shown as a rate, such as tokens."""

    @contextmanager
    def timed(self, phase: str) -> Iterator[None]:
        """Add the time of the block to a phase."""
        start, counted_before = self.now(), sum(self.seconds.values())
        try:
            yield
        finally:
            inside = sum(self.seconds.values()) - counted_before
            self.seconds[phase] += self.now() - start - inside

    def now(self) -> float:
        """Return a time in seconds; if exact, after all work on the GPU has ended."""
        if self.exact and torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
            torch.cuda.synchronize()
        return time.perf_counter()

    def shares(self) -> dict[str, float]:
        """Return each phase's share of the counted time, largest first."""
        total = sum(self.seconds.values())
        ordered = sorted(self.seconds.items(), key=lambda item: -item[1])
        return {phase: seconds / total for phase, seconds in ordered} if total else {}

    def description(self) -> str:
        """Return the shares as text."""
        return ", ".join(f"{phase} {share:.0%}" for phase, share in self.shares().items())


CURRENT: ContextVar[Stopwatch | None] = ContextVar("stopwatch", default=None)


@contextmanager
def stopwatch() -> Iterator[Stopwatch]:
    """Measure the block with a stopwatch of its own, which `timed` and `add_count` use."""
    watch = Stopwatch()
    token = CURRENT.set(watch)
    try:
        yield watch
    finally:
        CURRENT.reset(token)


@contextmanager
def timed(phase: str) -> Iterator[None]:
    """Add the time of the block to a phase of the current run, if there is one."""
    watch = CURRENT.get()
    if watch is None:
        yield
        return
    with watch.timed(phase):
        yield


def add_count(name: str, amount: int) -> None:
    """Add to a count of the current run, if there is one."""
    watch = CURRENT.get()
    if watch is not None:
        watch.counts[name] += amount
