"""Summaries of few runs: means, interquartile means, intervals, probability of improvement.

Two kinds of 95 % intervals: Student's t for means, honest with three seeds where the scores are
near normal; and the percentile bootstrap (Agarwal et al. 2021, arXiv 2108.13264) for
interquartile means and probabilities, whose intervals are too narrow below about ten seeds.

A bootstrap holds RESAMPLES values per run, 16 kB: 160 MB for ten thousand runs, a few times over.
"""

import math
import warnings
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

LEVEL = 0.95
RESAMPLES = 2000
CHUNK = 2**18  # values that are ranked at once


class Estimate(NamedTuple):
    """A value with its 95 % interval; the bounds are NaN where there are too few runs."""

    value: float
    low: float
    high: float


def mean(values: ArrayLike) -> Estimate:
    """Return the mean of values [N] with Student's t interval."""
    x = np.asarray(values, float)
    if len(x) < 2 or not np.isfinite(x).all():
        return Estimate(plain_mean(x), float("nan"), float("nan"))
    half = stats.t.ppf((1 + LEVEL) / 2, len(x) - 1) * stats.sem(x)
    return Estimate(float(x.mean()), float(x.mean() - half), float(x.mean() + half))


def plain_mean(x: NDArray[np.float64]) -> float:
    """Return the mean of x [N]; NaN for no values, and for infinities of both signs."""
    with np.errstate(invalid="ignore"):
        return float(x.mean()) if len(x) else float("nan")


def above_zero(values: ArrayLike) -> bool:
    """Return whether the mean of values [N] lies above 0, at the level of the intervals.

    By Student's t, or for six values and more by Wilcoxon's signed ranks, which suit skewed values.
    """
    x = np.asarray(values, float)
    if not (x > 0).any():
        return False
    if mean(x).low > 0:
        return True
    tail = (1 - LEVEL) / 2
    return len(x) >= 6 and bool(stats.wilcoxon(x, alternative="greater").pvalue < tail)


def difference(first: ArrayLike, second: ArrayLike) -> Estimate:
    """Return the difference of the means of runs [N] and [M] with Welch's t interval."""
    x, y = np.asarray(first, float), np.asarray(second, float)
    value = plain_mean(x) - plain_mean(y)
    if min(len(x), len(y)) < 2 or not np.isfinite([*x, *y]).all():
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
    """Return the fraction of pairs with x > y, ties counted as half, for [..., N] and [..., M].

    The sum of the ranks of x gives it (Mann and Whitney 1947), resample by resample. A chunk of
    resamples takes about 20 MB; the resamples themselves take 8 bytes times RESAMPLES × (N + M).
    NaN where a value is NaN.
    """
    n, m = x.shape[-1], y.shape[-1]
    both = np.concatenate([x, y], -1).reshape(-1, n + m)
    rows = max(1, CHUNK // (n + m))
    sums = [
        stats.rankdata(both[i : i + rows], axis=-1)[:, :n].sum(-1)
        for i in range(0, len(both), rows)
    ]
    wins = np.concatenate(sums) - n * (n + 1) / 2
    result: NDArray[np.float64] = (wins / (n * m)).reshape(x.shape[:-1])
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
    with np.errstate(invalid="ignore"):  # infinities of both signs
        value = float(statistic(*samples, axis=-1))
    if math.isnan(value) or any(len(sample) < 2 for sample in samples):
        return Estimate(value, float("nan"), float("nan"))
    with np.errstate(invalid="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore", stats.DegenerateDataWarning)  # its bounds are NaN
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
