"""Every comparison of the benchmarks runs: what it measures is not looked at here."""

import time
from pathlib import Path

import pytest

from benchmarks import control, lm_step
from benchmarks.overhead import TakeTurns, against
from benchmarks.timing import summarize


def test_turns_are_timed_each_for_its_side() -> None:
    def bare_step() -> None:
        time.sleep(0.01)

    turns = TakeTurns(bare_step, calls=2, steps=6)
    for _ in range(6):
        time.sleep(0.015)  # the suite's call, of three steps
        turns.on_train_batch_end()
    assert len(turns.pairs) == 2  # of three turns the first is not counted
    for ours, theirs in turns.pairs:
        assert ours >= 0.03 / 6
        assert theirs >= 0.01


def test_a_comparison_is_of_medians_and_of_ratios_within_pairs() -> None:
    found = summarize([(1.0, 1.0), (2.0, 1.0), (9.0, 3.0)])
    assert (found.ours, found.theirs) == (2.0, 1.0)
    assert (found.lower, found.ratio, found.upper) == (1.0, 2.0, 3.0)


def test_a_step_on_rows_is_measured_and_the_page_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lm_step, "THREADS", 1)
    shape = lm_step.Shape(vocabulary=50, prompt=4, completion=4, batch=2, rows=16)
    lm_step.prepare(tmp_path, shape)
    found = {
        name: 2 * [lm_step.alone(name, tmp_path, shape)]
        for name in ("suite", "plain", "fused", "body")
    }
    for measured in found.values():
        assert all(m.rate > 0 and m.peak > 0.1 for m in measured)
    page = lm_step.page(found, {name: found[name] for name in ("plain", "fused", "body")})
    assert page.count("| bare torch, plain logits |") == 2


@pytest.mark.slow
def test_the_updates_of_control_are_measured_against_bare_torch_and_sac(tmp_path: Path) -> None:
    for other in (control.bare_torch(), control.torchrl_sac()):
        found = against(
            other, control.CONFIG, tmp_path, turn=50, turns=3, more=control.ONLY_UPDATES
        )
        assert found.ours > 0
        assert found.theirs > 0
