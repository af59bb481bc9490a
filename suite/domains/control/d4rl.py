"""Episodes of D4RL files: arrays over all steps, from which the ends of episodes are found.

Shapes: T steps of all episodes, O observation entries, D action entries.
"""

import logging
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from suite.config.fields import ConfigError
from suite.domains.control.hdf5 import check_lengths, flags, matrix, opened, vector

logger = logging.getLogger(__name__)

FIELDS = ("observations", "actions", "rewards", "terminals")  # required
RESET = 1e-3  # difference of two observations, in deviations, above which a reset lies between them


class Columns(NamedTuple):
    """The columns of a file."""

    observations: NDArray[np.float32]  # [T, O]
    actions: NDArray[np.float32]  # [T, D]
    rewards: NDArray[np.float32]  # [T]
    terminals: NDArray[np.bool_]  # [T]
    timeouts: NDArray[np.bool_] | None  # [T]
    next_observations: NDArray[np.float32] | None  # [T, O]


class Span(NamedTuple):
    """Steps of one episode, from `start` to before `end`."""

    start: int
    end: int
    terminated: bool


def read_columns(path: Path) -> Columns:
    """Read the columns of a file; raises ConfigError naming file, column and step."""
    with opened(path) as file:
        missing = [name for name in FIELDS if name not in file]
        if missing:
            raise KeyError(f"it lacks {', '.join(missing)}")

        def where(name: str) -> str:
            return f"domain.path={path}: {name}"

        observations = matrix(file["observations"], where("observations"))
        actions = matrix(file["actions"], where("actions"))
        rewards = vector(file["rewards"], where("rewards"))
        terminals = flags(file["terminals"], where("terminals"))
        timeouts = flags(file["timeouts"], where("timeouts")) if "timeouts" in file else None
        following = (
            matrix(file["next_observations"], where("next_observations"))
            if "next_observations" in file
            else None
        )
    columns = Columns(observations, actions, rewards, terminals, timeouts, following)
    found = {name: c for name, c in columns._asdict().items() if c is not None}
    check_lengths(found, f"domain.path={path}")
    if following is not None and following.shape != observations.shape:
        raise ConfigError(
            f"domain.path={path}: next_observations must have the shape of observations"
            f" {observations.shape}, found {following.shape}"
        )
    return columns


def spans(columns: Columns, limit: int | None, where: str) -> list[Span]:
    """Return the steps of each episode.

    An episode ends at a terminal, at a timeout, where `next_observations` differs from the
    observation that follows, and after `limit` steps, the longest that the task allows: a file may
    lack the other signs. Raises ConfigError where nothing tells episodes apart.
    """
    ends = columns.terminals.copy()
    if columns.timeouts is not None:
        ends |= columns.timeouts
    if columns.next_observations is not None:
        ends[:-1] |= resets(columns)
    elif columns.timeouts is None and limit is None and not ends.any():
        raise ConfigError(
            f"{where}: its episodes cannot be told apart: it has no timeouts, no true terminals and"
            " no next_observations, and the task has no time limit; domain.episode_length gives one"
        )
    count = len(columns.rewards)
    bounds = [0, *(np.flatnonzero(ends) + 1).tolist()]
    if bounds[-1] < count:
        bounds.append(count)
    whole = list(pairwise(bounds))
    pieces = [piece for start, end in whole for piece in cut(start, end, limit)]
    if len(pieces) > len(whole):
        logger.info(
            "%s: cut into %s episodes at the task's limit of %s steps; the file marks only %s",
            *(where, len(pieces), limit, len(whole)),
        )
    return [Span(start, end, bool(columns.terminals[end - 1])) for start, end in pieces]


def resets(columns: Columns) -> NDArray[np.bool_]:
    """Return after which steps another observation follows than the recorded next one, [T − 1]."""
    assert columns.next_observations is not None
    tolerance = RESET * columns.observations.std(0) + 1e-6
    difference = np.abs(columns.next_observations[:-1] - columns.observations[1:])
    return np.asarray((difference > tolerance).any(1))


def cut(start: int, end: int, limit: int | None) -> Iterable[tuple[int, int]]:
    """Yield the parts of at most `limit` steps between two steps."""
    step = limit or max(end - start, 1)
    return ((at, min(at + step, end)) for at in range(start, end, step))
