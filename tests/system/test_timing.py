"""Phases are timed without those inside of them."""

import time

import pytest

from suite.system import timing as stopwatch


def test_a_phase_does_not_count_what_is_spent_inside_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stopwatch, "SECONDS", stopwatch.defaultdict(float))
    assert stopwatch.shares() == {}
    assert stopwatch.described() == ""
    clock = iter([0.0, 1.0, 4.0, 10.0, 20.0, 22.0])
    monkeypatch.setattr(time, "perf_counter", lambda: next(clock))
    with stopwatch.timed("outer"), stopwatch.timed("inner"):
        pass
    with stopwatch.timed("inner"):
        pass
    assert dict(stopwatch.SECONDS) == {"inner": 3 + 2, "outer": 10 - 3}
    assert stopwatch.shares() == {"outer": pytest.approx(7 / 12), "inner": pytest.approx(5 / 12)}
    assert stopwatch.described() == "outer 58%, inner 42%"
