"""Every comparison of the benchmarks runs on tiny sizes; the speeds themselves are not tested."""

import time
from pathlib import Path

import pytest

from benchmarks import control, objectives
from benchmarks.lm_step.page import page
from benchmarks.lm_step.rounds import measure_one
from benchmarks.lm_step.workload import Shape, Workload, prepare
from benchmarks.overhead import TakeTurns, compare_with_suite
from benchmarks.timing import summarize
from suite.config.registry import OBJECTIVES
from tests.conftest import TINY_CONTROL, TINY_ROWS


def test_each_side_is_timed_during_its_own_turn() -> None:
    def bare_step() -> None:
        time.sleep(0.01)

    turns = TakeTurns(bare_step, calls=2, steps=6)
    for _ in range(6):
        time.sleep(0.015)  # a call of the suite, which takes three steps
        turns.on_train_batch_end()
    assert len(turns.pairs) == 2  # of three turns, the first is not counted
    for ours, theirs in turns.pairs:
        assert ours >= 0.03 / 6
        assert theirs >= 0.01


def test_a_comparison_has_medians_and_the_quartiles_of_ratios_within_pairs() -> None:
    comparison = summarize([(1.0, 1.0), (2.0, 1.0), (9.0, 3.0)])
    assert (comparison.ours, comparison.theirs) == (2.0, 1.0)
    assert (comparison.lower, comparison.ratio, comparison.upper) == (1.0, 2.0, 3.0)


def test_a_step_on_rows_is_measured_and_written_to_the_page(tmp_path: Path) -> None:
    shape = Shape(vocabulary=50, prompt=4, completion=4, batch=2, rows=16)
    workload = Workload(tmp_path, shape, threads=1)
    prepare(workload)
    measurements = {
        name: 2 * [measure_one(name, workload)] for name in ("suite", "plain", "fused", "body")
    }
    for rounds in measurements.values():
        assert all(m.rate > 0 and m.peak > 0.1 for m in rounds)
    large = {name: measurements[name] for name in ("plain", "fused", "body")}
    assert page(measurements, large).count("| bare torch, plain logits |") == 2


@pytest.mark.slow
def test_updates_of_control_are_compared_with_bare_torch_and_sac(tmp_path: Path) -> None:
    overrides = [*control.ONLY_UPDATES, "trainer.steps_per_call=10"]
    overrides += [key for key in TINY_CONTROL if "episode" in key or "warmup" in key]
    for step in (control.bare_torch(), control.torchrl_sac()):
        comparison = compare_with_suite(
            step, control.CONFIG, tmp_path, turn=10, turns=3, overrides=overrides
        )
        assert comparison.ours > 0
        assert comparison.theirs > 0


def test_every_objective_that_fits_rows_is_measured() -> None:
    costs = objectives.measure((*TINY_ROWS, "domain.batch_size=2"), rounds=2)
    assert set(costs) == set(OBJECTIVES) - {"mpo"}
    assert all(cost.seconds > 0 for cost in costs.values())
