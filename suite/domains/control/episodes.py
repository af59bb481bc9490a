"""Recorded episodes in the formats of Minari and D4RL, and their n-step transitions.

Shapes: T actions of an episode, O observation entries, D action entries, N transitions.
"""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from suite.config.fields import ConfigError

Array = NDArray[np.float32]
FIELDS = ("observations", "actions", "rewards", "terminals")  # required in a D4RL file


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


def read(path: Path) -> list[Episode]:
    """Read a Minari folder or a D4RL file; raises ConfigError where it is neither or empty."""
    try:
        episodes = read_minari(path) if path.is_dir() else read_d4rl(path)
    except (OSError, ValueError, KeyError, AttributeError, AssertionError) as error:
        kind = "Minari data set" if path.is_dir() else "D4RL file"
        raise ConfigError(f"domain.path={path}: no readable {kind}: {error}") from None
    if not episodes:
        raise ConfigError(f"domain.path={path}: holds no episodes")
    for number, episode in enumerate(episodes):
        check(episode, f"domain.path={path}: episode {number}")
    return episodes


def check(episode: Episode, where: str) -> None:
    """Raise ConfigError where lengths differ, numbers are not finite or actions out of bounds."""
    lengths = (len(episode.observations) - 1, len(episode.actions), len(episode.rewards))
    if len(set(lengths)) > 1:
        raise ConfigError(
            f"{where}: expected as many actions and rewards as observations but one, found"
            f" {lengths[1]}, {lengths[2]} and {lengths[0] + 1}"
        )
    for name, values in zip(Episode._fields[:3], episode[:3], strict=True):
        if not np.isfinite(values).all():
            raise ConfigError(f"{where}: {name} must be finite numbers, found others")
    largest = float(np.abs(episode.actions).max(initial=0.0))
    if largest > 1 + 1e-4:
        raise ConfigError(f"{where}: actions must lie within their bounds, found {largest:g} times")


def read_minari(folder: Path) -> list[Episode]:
    """Read a Minari data set, given the data set's folder or the `data` folder in it."""
    from minari import MinariDataset

    inner = folder / "data" if (folder / "data").is_dir() else folder
    data = MinariDataset(inner)
    low, high = data.action_space.low, data.action_space.high  # type: ignore[attr-defined]
    centre, half = (low + high) / 2, (high - low) / 2
    return [
        Episode(
            flatten(episode.observations),
            flatten((episode.actions - centre) / half),
            np.asarray(episode.rewards, np.float32),
            bool(episode.terminations[-1]),
        )
        for episode in data.iterate_episodes()
    ]


def flatten(values: Any) -> Array:
    """Return observations as one vector each, [T, O]; named ones in the order of their names."""
    if isinstance(values, dict):
        return np.concatenate([flatten(values[name]) for name in sorted(values)], 1)
    array: Array = np.asarray(values, np.float32)
    return array.reshape(len(array), -1)


def read_d4rl(path: Path) -> list[Episode]:
    """Read a D4RL file: arrays over all steps, with flags where an episode ended or was cut off."""
    import h5py

    with h5py.File(path) as file:
        missing = [name for name in FIELDS if name not in file]
        if missing:
            raise KeyError(f"it lacks {', '.join(missing)}")
        observations, actions, rewards, terminals = (np.asarray(file[name]) for name in FIELDS)
        cut = np.asarray(file["timeouts"]) if "timeouts" in file else np.zeros(len(rewards))
        following = np.asarray(file["next_observations"]) if "next_observations" in file else None
    ends = np.flatnonzero(terminals.astype(bool) | cut.astype(bool)) + 1
    bounds = [0, *ends.tolist()]
    if bounds[-1] < len(rewards):
        bounds.append(len(rewards))
    episodes = []
    for start, end in pairwise(bounds):
        ended = bool(terminals[end - 1])
        visited = observations[start:end]
        if following is not None:
            visited = np.concatenate([visited, following[end - 1 : end]])
        elif ended:
            visited = np.concatenate([visited, visited[-1:]])  # not used after a termination
        else:  # the last observation is missing, so that the last action is not used
            end -= 1
        if end > start:
            episodes.append(
                Episode(
                    flatten(visited),
                    flatten(actions[start:end]),
                    np.asarray(rewards[start:end], np.float32),
                    ended,
                )
            )
    return episodes


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
