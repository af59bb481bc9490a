"""Scores that count as 0 and 1, in sweep files."""

import math
from typing import Any

from suite.config.fields import ConfigError


def check_normalize(given: Any, origin: str) -> None:
    """Raise ConfigError unless scores are normalised by a pair, or by a pair for each task."""
    if given is None or given == []:
        return
    pairs = given if isinstance(given, dict) and given else {None: given}
    for task, pair in pairs.items():
        if not is_rising_pair(pair):
            key = "report.normalize" if task is None else f"report.normalize.{task}"
            raise ConfigError(
                f"{origin}: {key} must be two rising scores, as [0, 1000]; found {pair!r}"
                + (
                    " (a mapping from each task to two scores is allowed too)"
                    if task is None
                    else ""
                )
            )


def is_rising_pair(pair: Any) -> bool:
    """Return whether a value is two finite numbers, the first below the second."""
    return (
        isinstance(pair, list)
        and len(pair) == 2
        and all(type(score) in (int, float) and math.isfinite(score) for score in pair)
        and pair[0] < pair[1]
    )
