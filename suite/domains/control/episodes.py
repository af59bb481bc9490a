"""Recorded episodes in the formats of Minari and D4RL, and their n-step transitions.

Shapes: T actions of an episode, O observation entries, D action entries, N transitions.
"""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from suite.config.fields import ConfigError
from suite.domains.control.d4rl import read_columns, spans
from suite.domains.control.hdf5 import flags, matrix, opened, vector

logger = logging.getLogger(__name__)

Array = NDArray[np.float32]
ROUNDING = 1e-4  # of recorded actions at their bounds


class TaskBounds(NamedTuple):
    """What a task says of its recorded episodes."""

    low: Array  # [D], the smallest action
    high: Array  # [D], the largest one
    steps: int | None = None  # the actions of the longest episode


UNIT = TaskBounds(-np.ones(1, np.float32), np.ones(1, np.float32))


class Episode(NamedTuple):
    """The steps between two resets."""

    observations: Array  # [T + 1, O], the last one after the last action
    actions: Array  # [T, D], within ±1
    rewards: Array  # [T]
    terminated: bool  # otherwise it was cut off


class Transitions(NamedTuple):
    """Transitions of n actions each, as in the replay, with the return that followed."""

    observation: Tensor  # [N, O]
    action: Tensor  # [N, D]
    reward: Tensor  # [N], Σ_i γ^i r_i over the actions
    discount: Tensor  # [N], γ^m after m actions, 0 where the episode terminated
    next_observation: Tensor  # [N, O]
    return_to_go: Tensor  # [N], Σ_i γ^i r_i to the episode's end


def read(path: Path, bounds: TaskBounds | None = None) -> list[Episode]:
    """Read a Minari folder or a D4RL file.

    `bounds` are the task's: actions of a file are scaled by them, and its episodes are cut at the
    time limit. Without them actions must lie within ±1. Raises ConfigError naming what was found.
    """
    try:
        episodes = read_minari(path, bounds) if path.is_dir() else read_d4rl(path, bounds)
    except (OSError, ValueError, KeyError, AttributeError, AssertionError, TypeError) as error:
        kind = "Minari data set" if path.is_dir() else "D4RL file"
        raise ConfigError(f"domain.path={path}: no readable {kind}: {error}") from None
    if not episodes:
        raise ConfigError(f"domain.path={path}: holds no episodes")
    for number, episode in enumerate(episodes):
        check(episode, f"domain.path={path}: episode {number}")
    return [e._replace(actions=e.actions.clip(-1, 1)) for e in episodes]


def check(episode: Episode, where: str) -> None:
    """Raise ConfigError where lengths differ or actions are out of bounds."""
    lengths = (len(episode.observations) - 1, len(episode.actions), len(episode.rewards))
    if len(set(lengths)) > 1:
        raise ConfigError(
            f"{where}: expected as many actions and rewards as observations but one, found"
            f" {lengths[1]}, {lengths[2]} and {lengths[0] + 1}"
        )
    largest = float(np.abs(episode.actions).max(initial=0.0))
    if largest > 1 + ROUNDING:
        raise ConfigError(
            f"{where}: actions must lie within their bounds, found {largest:g} times as far from"
            " the middle; scale or clip them, or give the domain.task in which they were recorded"
        )


def read_minari(folder: Path, bounds: TaskBounds | None) -> list[Episode]:
    """Read a Minari data set, given the data set's folder or the `data` folder in it."""
    from minari import MinariDataset

    inner = folder / "data" if (folder / "data").is_dir() else folder
    for path in sorted(inner.rglob("*.hdf5")):
        with opened(path):
            pass  # which refuses links to other files
    data = MinariDataset(inner)
    low, high = getattr(data.action_space, "low", None), getattr(data.action_space, "high", None)
    if low is None or high is None:
        raise ConfigError(
            f"domain.path={folder}: actions must be continuous, a bounded Box; found"
            f" {data.action_space}"
        )
    own = TaskBounds(flat(low), flat(high))
    if not (np.isfinite(own.low) & np.isfinite(own.high)).all():
        own = bounds or own
    return [minari_episode(e, own, f"domain.path={folder}") for e in data.iterate_episodes()]


def minari_episode(episode: Any, bounds: TaskBounds, path: str) -> Episode:
    """Return an episode of a Minari data set, with actions scaled to ±1; raises ConfigError."""
    where = f"{path}: episode {episode.id}"
    return Episode(
        flatten(episode.observations, f"{where}: observations"),
        scaled(flatten(episode.actions, f"{where}: actions"), bounds, where),
        vector(episode.rewards, f"{where}: rewards"),
        bool(flags(episode.terminations, f"{where}: terminations")[-1]),
    )


def flatten(values: Any, where: str) -> Array:
    """Return observations as one vector each, [T, O]; named ones in the order of their names."""
    if isinstance(values, dict):
        parts = [flatten(values[name], f"{where}.{name}") for name in sorted(values)]
        return np.concatenate(parts, 1)
    return matrix(values, where)


def read_d4rl(path: Path, bounds: TaskBounds | None) -> list[Episode]:
    """Read a D4RL file."""
    columns, where = read_columns(path), f"domain.path={path}"
    actions = scaled(columns.actions, bounds or UNIT, where)
    if bounds is not None and not (np.allclose(bounds.low, -1) and np.allclose(bounds.high, 1)):
        logger.info(
            "%s: actions were scaled to ±1 from the task's bounds, %s to %s",
            *(where, bounds.low.tolist(), bounds.high.tolist()),
        )
    episodes = []
    for start, end, terminated in spans(columns, bounds.steps if bounds else None, where):
        visited = columns.observations[start:end]
        if columns.next_observations is not None:
            visited = np.concatenate([visited, columns.next_observations[end - 1 : end]])
        elif terminated:
            visited = np.concatenate([visited, visited[-1:]])  # not used after a termination
        else:  # the last observation is missing, so that the last action is not used
            end -= 1
        if end > start:
            rewards = columns.rewards[start:end]
            episodes.append(Episode(visited, actions[start:end], rewards, terminated))
    return episodes


def scaled(actions: Array, bounds: TaskBounds, where: str) -> Array:
    """Return actions as parts of the way from the middle to the bounds, [T, D]."""
    if bounds.low.size not in (1, actions.shape[1]):
        raise ConfigError(
            f"{where}: the task has actions of {bounds.low.size} numbers, the recorded ones have"
            f" {actions.shape[1]}"
        )
    centre, half = (bounds.low + bounds.high) / 2, (bounds.high - bounds.low) / 2
    return np.asarray((actions - centre) / half, np.float32)


def flat(values: Any) -> Array:
    """Return numbers as one vector."""
    return np.asarray(values, np.float32).reshape(-1)


def write_minari(folder: Path, episodes: Sequence[Episode], metadata: dict[str, Any]) -> None:
    """Write a Minari data set into a new folder; `metadata` is added to its own."""
    from gymnasium.spaces import Box
    from minari import __version__ as version
    from minari.data_collector import EpisodeBuffer
    from minari.dataset.minari_storage import MinariStorage

    folder.mkdir(parents=True)
    size, width = episodes[0].observations.shape[1], episodes[0].actions.shape[1]
    storage = MinariStorage.new(
        folder / "data",
        observation_space=Box(-np.inf, np.inf, (size,), np.float32),
        action_space=Box(-1.0, 1.0, (width,), np.float32),
    )
    buffers = []
    for number, episode in enumerate(episodes):
        ended = np.zeros(len(episode.rewards), bool)
        ended[-1] = True
        buffers.append(
            EpisodeBuffer(
                id=number,
                observations=episode.observations,
                actions=episode.actions,
                rewards=episode.rewards,
                terminations=ended & episode.terminated,
                truncations=ended & (not episode.terminated),
            )
        )
    storage.update_episodes(buffers)
    storage.update_metadata({"dataset_id": folder.name, "minari_version": version, **metadata})


def transitions(episodes: Sequence[Episode], n_step: int, discount: float) -> Transitions:
    """Return the n-step transitions of episodes, one for each action."""
    parts = [transitions_of_episode(episode, n_step, discount) for episode in episodes]
    return Transitions(
        *(torch.from_numpy(np.concatenate(column)) for column in zip(*parts, strict=True))
    )


def transitions_of_episode(episode: Episode, n_step: int, discount: float) -> tuple[Array, ...]:
    """Return the columns of one episode's transitions; at its end they span fewer actions."""
    count = len(episode.rewards)
    reward, to_go = np.zeros(count), np.zeros(count + 1)
    for i in range(min(n_step, count)):
        reward[: count - i] += discount**i * episode.rewards[i:]
    for t in reversed(range(count)):
        to_go[t] = episode.rewards[t] + discount * to_go[t + 1]
    last = np.minimum(np.arange(count) + n_step, count)
    factor = discount ** (last - np.arange(count)).astype(float)
    if episode.terminated:
        factor[last == count] = 0.0
    columns = (
        *(episode.observations[:-1], episode.actions, reward, factor),
        *(episode.observations[last], to_go[:-1]),
    )
    return tuple(np.asarray(column, np.float32) for column in columns)


def describe(episodes: Sequence[Episode]) -> str:
    """Return a line that describes episodes."""
    returns = np.array([episode.rewards.sum() for episode in episodes])
    steps = sum(len(episode.rewards) for episode in episodes)
    return (
        f"{len(episodes)} episodes, {steps:,} steps; returns {returns.min():.4g} to"
        f" {returns.max():.4g}, mean {returns.mean():.4g}"
    )
