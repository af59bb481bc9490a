"""Intervals against textbook numbers, and equal seeds for equal results."""

import math
import tracemalloc

import numpy as np
import pytest
from numpy.typing import NDArray

from suite.report import statistics


def test_the_mean_has_students_interval() -> None:
    # Mean 2, standard deviation 1, n = 3: half width 4.30265/√3 = 2.48414.
    found = statistics.mean([1.0, 2.0, 3.0])
    assert found.value == 2.0
    assert found.low == pytest.approx(2 - 2.48414, abs=1e-4)
    assert found.high == pytest.approx(2 + 2.48414, abs=1e-4)


def test_one_run_has_no_interval() -> None:
    assert math.isnan(statistics.mean([1.0]).low)
    assert math.isnan(statistics.interquartile_mean([1.0]).low)
    assert statistics.interquartile_mean([1.0]).value == 1.0


def test_the_interquartile_mean_ignores_the_outer_quarters() -> None:
    assert statistics.interquartile_mean([-1000, 1, 2, 3, 4, 5, 6, 1000]).value == 3.5


def test_probability_of_improvement_counts_pairs_and_halves_ties() -> None:
    # 3 > 2, 3 = 3, 1 < 2, 1 < 3: (1 + ½)/4
    assert statistics.probability_of_improvement([3.0, 1.0], [2.0, 3.0]).value == 0.375
    assert statistics.probability_of_improvement([5, 6, 7], [1, 2, 3]) == (1.0, 1.0, 1.0)


def test_the_bootstrap_covers_the_truth_about_as_often_as_it_says() -> None:
    generator = np.random.default_rng(0)
    samples = generator.normal(size=(200, 30))
    found = [statistics.interquartile_mean(sample) for sample in samples]
    covered = np.mean([e.low <= 0 <= e.high for e in found])
    assert 0.88 <= covered <= 0.99


def test_equal_seeds_give_equal_intervals() -> None:
    values = np.random.default_rng(0).normal(size=12)
    assert statistics.interquartile_mean(values, seed=3) == statistics.interquartile_mean(
        values, seed=3
    )
    assert statistics.interquartile_mean(values, seed=3) != statistics.interquartile_mean(
        values, seed=4
    )


def test_the_interquartile_mean_of_tasks_pools_all_runs_and_draws_within_tasks() -> None:
    found = statistics.interquartile_mean_of_tasks([[0.0, 0.1], [0.5, 0.5], [0.9, 1.0]])
    # The middle half of six, one left out at either end: (0.1 + 0.5 + 0.5 + 0.9) / 4.
    assert found.value == pytest.approx(0.5)
    # Runs that are equal within each task leave nothing to chance.
    fixed = statistics.interquartile_mean_of_tasks([[0.0, 0.0], [1.0, 1.0]])
    assert fixed == (0.5, 0.5, 0.5)


def test_the_improvement_over_tasks_is_the_mean_of_the_tasks() -> None:
    first, second = [[3.0, 1.0], [5.0, 6.0]], [[2.0, 3.0], [1.0, 2.0]]
    assert statistics.improvement_over_tasks(first, second).value == (0.375 + 1.0) / 2
    again = statistics.improvement_over_tasks(first, second)
    assert again == statistics.improvement_over_tasks(first, second)


def test_a_performance_profile_falls_from_one_to_zero() -> None:
    tasks = [[0.2, 0.4], [0.6, 0.8]]
    found = statistics.performance_profile(tasks, [0.0, 0.3, 0.5, 0.9])
    assert [e.value for e in found] == [1.0, 0.75, 0.5, 0.0]
    # At 0.5 one task is always above and the other never: stratified, no doubt is left.
    assert found[2] == (0.5, 0.5, 0.5)
    assert found[1].low < 0.75 < found[1].high or found[1].low == 0.5


def test_the_difference_of_means_has_welchs_interval() -> None:
    # Variances 1 and 4, n = 3: 2.9412 degrees of freedom, t = 3.2182, half width t·√(5/3).
    found = statistics.difference([4.0, 5.0, 6.0], [0.0, 2.0, 4.0])
    assert found.value == 3.0
    assert found.low == pytest.approx(3 - 3.2182 * math.sqrt(5 / 3), abs=2e-3)
    assert found.high == pytest.approx(3 + 3.2182 * math.sqrt(5 / 3), abs=2e-3)
    assert statistics.difference([1.0, 1.0], [0.0, 0.0]) == (1.0, 1.0, 1.0)
    assert math.isnan(statistics.difference([1.0], [0.0]).low)


def test_skewed_gains_are_above_zero_by_their_ranks() -> None:
    skewed = [1.0, 1.1, 0.9, 1.2, 0.8, 900.0]
    assert statistics.mean(skewed).low < 0
    assert statistics.above_zero(skewed)
    assert not statistics.above_zero(skewed[3:]), "three runs cannot tell"
    assert not statistics.above_zero([-1.0, -1.1, -0.9, 1.2, 0.8, 900.0])
    assert statistics.above_zero([1.0, 1.1, 1.2])
    assert not statistics.above_zero([1.0])


def pairwise(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    """The definition, which holds N × M numbers for each resample."""
    differences = x[..., :, None] - y[..., None, :]
    found: NDArray[np.float64] = ((np.sign(differences) + 1) / 2).mean(axis=(-2, -1))
    return found


@pytest.mark.parametrize(("n", "m"), [(1, 1), (2, 5), (7, 3), (16, 16)])
@pytest.mark.parametrize("ties", [False, True])
def test_ranks_give_the_same_probability_as_all_pairs(
    n: int, m: int, ties: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    numbers = np.random.default_rng(100 * n + m)
    x, y = numbers.normal(size=(53, n)), numbers.normal(size=(53, m))
    if ties:
        x, y = x.round(), y.round()
    monkeypatch.setattr(statistics, "CHUNK", 100)  # several chunks, the last one smaller
    assert np.abs(statistics.better(x, y) - pairwise(x, y)).max() <= 1e-12
    assert abs(statistics.better(x[0], y[0]) - pairwise(x[0], y[0])) <= 1e-12


def test_intervals_of_a_probability_are_those_of_all_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = np.random.default_rng(3)
    x, y = numbers.normal(size=9).round(1), numbers.normal(size=11).round(1)
    found = statistics.probability_of_improvement(x, y)
    over_tasks = statistics.improvement_over_tasks([x, y], [y, x])
    monkeypatch.setattr(statistics, "better", pairwise)
    assert found == pytest.approx(statistics.probability_of_improvement(x, y), abs=1e-12)
    assert over_tasks == pytest.approx(statistics.improvement_over_tasks([x, y], [y, x]), abs=1e-12)


def test_the_memory_of_a_probability_grows_with_the_runs_and_not_with_their_pairs() -> None:
    numbers = np.random.default_rng(0)
    x, y = numbers.normal(size=(200, 300)), numbers.normal(size=(200, 300))
    tracemalloc.start()
    statistics.better(x, y)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 200 * 300 * 300 * 8 / 4, "all pairs of a chunk were held"


@pytest.mark.filterwarnings("error")
def test_equal_scores_have_an_interval_of_no_width_and_a_probability_of_one_half() -> None:
    for value in (0.0, 1.0, -3.5):
        same = [value] * 5
        assert statistics.mean(same) == (value, value, value)
        assert statistics.interquartile_mean(same) == (value, value, value)
        assert statistics.probability_of_improvement(same, same) == (0.5, 0.5, 0.5)
        assert statistics.improvement_over_tasks([same], [same]) == (0.5, 0.5, 0.5)
        assert statistics.difference(same, same) == (0, 0, 0)
        assert not statistics.above_zero([0.0] * 8)
