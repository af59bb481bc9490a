"""Time by phase: without the phases inside, separate for each run, without waiting for a GPU."""

from suite.runs.folder import RunFolder
from suite.train import train
from tests.conftest import Tiny


def test_the_second_run_of_a_process_does_not_show_the_time_of_the_first(tiny: Tiny) -> None:
    first, second = tiny("lm"), tiny("bandit")
    for config in (first, second):
        train(config)
    times = [RunFolder.of(config).progress()["time"] for config in (first, second)]
    assert "sampling" in times[0]
    assert times[1].keys() == {"batches", "backward", "optimizer"}
