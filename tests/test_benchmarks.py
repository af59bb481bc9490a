"""Every comparison of the benchmarks runs: what it measures is not looked at here."""

from pathlib import Path

import pytest

from benchmarks import control
from benchmarks.overhead import WARM, Stopwatch, bare_steps, suite_steps


def test_a_stopwatch_counts_steps_after_the_first_ones_whatever_a_call_takes() -> None:
    for steps in (1, 5, 50):
        stopwatch = Stopwatch(steps)
        warm = -(-WARM // steps)
        # Ten seconds a call at first, then a tenth of a second a step.
        stopwatch.times = [10.0 * i for i in range(warm + 1)]
        stopwatch.times += [stopwatch.times[-1] + 0.1 * steps * i for i in (1, 2, 3)]
        assert stopwatch.seconds_per_step() == pytest.approx(0.1)


@pytest.mark.slow
def test_the_updates_of_control_are_measured_against_bare_torch_and_sac(tmp_path: Path) -> None:
    ours = suite_steps(control.CONFIG, 150, tmp_path, control.ONLY_UPDATES)
    assert 0 < ours() < 1
    for bare in (control.bare_torch(), control.torchrl_sac()):
        assert 0 < bare_steps(bare, WARM + 2) < 1
