"""Summaries of few runs: means, interquartile means, intervals, probability of improvement.

Two kinds of 95 % intervals: Student's t for means, honest with three seeds where the scores are
near normal; and the percentile bootstrap (Agarwal et al. 2021, arXiv 2108.13264) for
interquartile means and probabilities, whose intervals are too narrow below about ten seeds.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

LEVEL = 0.95
RESAMPLES = 2000


class Estimate(NamedTuple):
    """A value with its 95 % interval; the bounds are NaN where there are too few runs."""

    value: float
    low: float
    high: float


def mean(values: ArrayLike) -> Estimate:
    """Return the mean of values [N] with Student's t interval."""
    x = np.asarray(values, float)
    if len(x) < 2:
        return Estimate(float(x.mean()) if len(x) else float("nan"), float("nan"), float("nan"))
    half = stats.t.ppf((1 + LEVEL) / 2, len(x) - 1) * stats.sem(x)
    return Estimate(float(x.mean()), float(x.mean() - half), float(x.mean() + half))


def above_zero(values: ArrayLike) -> bool:
    """Return whether the mean of values [N] lies above 0, at the level of the intervals.

    By Student's t, or for six values and more by Wilcoxon's signed ranks, which suit skewed values.
    """
    x = np.asarray(values, float)
    if mean(x).low > 0:
        return True
    tail = (1 - LEVEL) / 2
    return len(x) >= 6 and bool(stats.wilcoxon(x, alternative="greater").pvalue < tail)


def difference(first: ArrayLike, second: ArrayLike) -> Estimate:
    """Return the difference of the means of runs [N] and [M] with Welch's t interval."""
    x, y = np.asarray(first, float), np.asarray(second, float)
    value = float(x.mean() - y.mean())
    if min(len(x), len(y)) < 2:
        return Estimate(value, float("nan"), float("nan"))
    a, b = x.var(ddof=1) / len(x), y.var(ddof=1) / len(y)
    if a + b == 0:
        return Estimate(value, value, value)
    # Not scipy's test: it warns where all runs of a side are nearly the same.
    freedom = (a + b) ** 2 / (a**2 / (len(x) - 1) + b**2 / (len(y) - 1))
    half = float(stats.t.ppf((1 + LEVEL) / 2, freedom) * np.sqrt(a + b))
    return Estimate(value, value - half, value + half)


def interquartile_mean(values: ArrayLike, seed: int = 0) -> Estimate:
    """Return the mean of the middle half of values [N] with a bootstrap interval.

    Below four values this is the mean of all.
    """

    def statistic(x: NDArray[np.float64], axis: int = -1) -> NDArray[np.float64]:
        result: NDArray[np.float64] = stats.trim_mean(x, 0.25, axis=axis)
        return result

    return bootstrap(statistic, [np.asarray(values, float)], seed)


def probability_of_improvement(first: ArrayLike, second: ArrayLike, seed: int = 0) -> Estimate:
    """Return P(first > second) + ½ P(equal) for runs [N] and [M], with a bootstrap interval."""

    def statistic(
        x: NDArray[np.float64], y: NDArray[np.float64], axis: int = -1
    ) -> NDArray[np.float64]:
        return better(x, y)

    return bootstrap(statistic, [np.asarray(first, float), np.asarray(second, float)], seed)


def interquartile_mean_of_tasks(tasks: Sequence[ArrayLike], seed: int = 0) -> Estimate:
    """Return the mean of the middle half of all runs of several tasks, [N_t] each.

    The bootstrap is stratified: it keeps the number of runs of each task (arXiv 2108.13264, §4).
    Scores must be normalised to a scale that all tasks have in common.
    """

    def statistic(*samples: NDArray[np.float64], axis: int = -1) -> NDArray[np.float64]:
        result: NDArray[np.float64] = stats.trim_mean(np.concatenate(samples, -1), 0.25, axis=-1)
        return result

    return bootstrap(statistic, [np.asarray(x, float) for x in tasks], seed)


def improvement_over_tasks(
    first: Sequence[ArrayLike], second: Sequence[ArrayLike], seed: int = 0
) -> Estimate:
    """Return the mean over tasks of P(first > second) + ½ P(equal), runs [N_t] and [M_t] of each.

    The bootstrap is stratified (arXiv 2108.13264, §4.3).
    """
    count = len(first)

    def statistic(*samples: NDArray[np.float64], axis: int = -1) -> NDArray[np.float64]:
        pairs = zip(samples[:count], samples[count:], strict=True)
        result: NDArray[np.float64] = np.mean([better(x, y) for x, y in pairs], 0)
        return result

    return bootstrap(statistic, [np.asarray(x, float) for x in (*first, *second)], seed)


def better(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the fraction of pairs with x > y, ties counted as half, for [..., N] and [..., M]."""
    difference = x[..., :, None] - y[..., None, :]
    result: NDArray[np.float64] = ((np.sign(difference) + 1) / 2).mean(axis=(-2, -1))
    return result


def performance_profile(
    tasks: Sequence[ArrayLike], thresholds: ArrayLike, seed: int = 0
) -> list[Estimate]:
    """Return for each threshold the fraction of all runs above it (arXiv 2108.13264, §4.2)."""
    samples = [np.asarray(x, float) for x in tasks]

    def above(threshold: float) -> Callable[..., NDArray[np.float64]]:
        def statistic(*drawn: NDArray[np.float64], axis: int = -1) -> NDArray[np.float64]:
            result: NDArray[np.float64] = (np.concatenate(drawn, -1) > threshold).mean(-1)
            return result

        return statistic

    return [bootstrap(above(float(t)), samples, seed) for t in np.asarray(thresholds, float)]


def bootstrap(
    statistic: Callable[..., NDArray[np.float64]], samples: list[NDArray[np.float64]], seed: int
) -> Estimate:
    """Return a statistic with its percentile-bootstrap interval; equal seeds give equal numbers."""
    value = float(statistic(*samples, axis=-1))
    if any(len(sample) < 2 for sample in samples):
        return Estimate(value, float("nan"), float("nan"))
    interval = stats.bootstrap(
        samples,
        statistic,
        n_resamples=RESAMPLES,
        vectorized=True,
        confidence_level=LEVEL,
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return Estimate(value, float(interval.low), float(interval.high))
