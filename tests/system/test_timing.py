"""Time by phase: without the phases inside, separate for each run, without waiting for a GPU."""

import time

import pytest
import torch

from suite.runs.folder import RunFolder
from suite.system.timing import EXACT, add_count, stopwatch, timed
from suite.train import train
from tests.conftest import Tiny


def test_the_second_run_of_a_process_does_not_show_the_time_of_the_first(tiny: Tiny) -> None:
    first, second = tiny("lm"), tiny("bandit")
    for config in (first, second):
        train(config)
    times = [RunFolder.of(config).progress()["time"] for config in (first, second)]
    assert "sampling" in times[0]
    assert times[1].keys() == {"batches", "backward", "optimizer"}


def test_a_phase_does_not_count_the_time_of_phases_inside(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 1.0, 4.0, 10.0, 20.0, 22.0])
    with stopwatch() as watch:
        assert watch.shares() == {}
        assert watch.description() == ""
        monkeypatch.setattr(time, "perf_counter", lambda: next(clock))
        with timed("outer"), timed("inner"):
            pass
        with timed("inner"):
            pass
    assert dict(watch.seconds) == {"inner": 3 + 2, "outer": 10 - 3}
    assert watch.shares() == {"outer": pytest.approx(7 / 12), "inner": pytest.approx(5 / 12)}
    assert watch.description() == "outer 58%, inner 42%"


def test_each_stopwatch_counts_for_itself() -> None:
    add_count("tokens", 1)  # outside of a run
    with stopwatch() as first:
        add_count("tokens", 2)
        with stopwatch() as second, timed("sampling"):
            add_count("tokens", 3)
        add_count("tokens", 4)
    assert (first.counts["tokens"], second.counts["tokens"]) == (6, 3)
    assert (first.seconds.keys(), second.seconds.keys()) == (set(), {"sampling"})


@pytest.mark.parametrize(("exact", "synchronisations"), [("0", 0), ("", 0), ("1", 2)])
def test_a_phase_waits_for_the_gpu_only_when_asked_to(
    exact: str, synchronisations: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    monkeypatch.setenv(EXACT, exact)
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: calls.append("synchronize"))
    with stopwatch() as watch, timed("policy"):
        pass
    assert len(calls) == synchronisations
    assert watch.seconds["policy"] > 0
