"""Environments of torchrl whose state can be saved: an episode is its seed and its actions.

Importing this module imports torchrl and MuJoCo, so that `tasks.prepare_libraries` must come first.
Shapes: T actions of an episode, D action entries.
"""

from abc import ABC, abstractmethod
from collections.abc import MutableMapping, Sequence
from typing import Any

import numpy as np
import torch
from tensordict import TensorDict
from torch import Tensor
from torchrl.envs import DMControlEnv, GymWrapper

Values = MutableMapping[str, Tensor]  # named observations, reward, terminated, truncated, done


class RestorableEnvironment(ABC):
    """A mixin before a torchrl class: gives every episode its own seed and records its actions.

    The number of the episode and its actions are then the whole state of the environment. Acting
    again restores physics, time and random streams of any deterministic environment.
    """

    stream: tuple[int, ...] = (0,)
    max_actions: int | None = None  # after which an episode is cut off
    episode = -1

    def episode_seed(self) -> int:
        """Return the seed of the current episode."""
        return int(np.random.SeedSequence((*self.stream, self.episode)).generate_state(1)[0])

    @abstractmethod
    def reset_to_seed(self, tensordict: Any) -> TensorDict:
        """Reset with the current episode's seed."""

    def _reset(self, tensordict: Any = None, **_: Any) -> TensorDict:
        self.episode += 1
        self.actions: list[Tensor] = []
        return self.reset_to_seed(tensordict)

    def _step(self, tensordict: TensorDict) -> TensorDict:
        after: TensorDict = super()._step(tensordict)  # type: ignore[misc]
        self.record_action(tensordict["action"], after)
        return after

    def record_action(self, action: Tensor, after: Values) -> None:
        """Record an action, and cut the episode off after it if it was the last one allowed."""
        self.actions.append(action.clone())
        if len(self.actions) == self.max_actions and not after["done"].any():
            after["truncated"] = torch.ones_like(after["truncated"])
            after["done"] = torch.ones_like(after["done"])

    def take_action(self, action: Tensor) -> Values:
        """Act once, [D], and return the values that torchrl's `_step` would return."""
        after: Values = super()._step(TensorDict({"action": action}, []))  # type: ignore[misc]
        return after

    def advance(self, action: Tensor) -> tuple[Values, Values]:
        """Act once, [D], as torchrl's step_and_maybe_reset does, without its checks and copies.

        Those take as long as the physics of a small task. Return the values after the action, and
        the values to act on next, which are those of a new episode where this one is over.
        """
        after = self.take_action(action)
        self.record_action(action, after)
        return after, self._reset() if after["done"] else after

    @abstractmethod
    def time_limit(self) -> float | None:
        """Return the steps after which the task itself ends an episode, None for no limit."""

    def longest_episode(self) -> int | None:
        """Return the actions after which an episode is over at the latest, None for no limit."""
        limit = self.time_limit()
        repeat = self.wrapper_frame_skip  # type: ignore[attr-defined]
        own = [] if limit is None or not np.isfinite(limit) else [-(-int(limit) // repeat)]
        return min(own + ([] if self.max_actions is None else [self.max_actions]), default=None)

    def episode_state(self) -> dict[str, Any]:
        """Return the number of the episode and its actions so far, [T, D]."""
        actions = torch.stack(self.actions) if self.actions else None
        return {"episode": self.episode, "actions": actions}

    def restore_episode(self, states: Sequence[dict[str, Any]]) -> None:
        """Act again as in this environment's state, given the states of all environments."""
        state = states[self.stream[-1]]
        self.episode = state["episode"] - 1
        self._reset()
        for action in state["actions"] if state["actions"] is not None else ():
            self.advance(action)


class ControlSuiteEnvironment(RestorableEnvironment, DMControlEnv):  # type: ignore[misc]
    """A task of the DeepMind Control Suite."""

    def reset_to_seed(self, tensordict: Any) -> TensorDict:
        """Reset with the current episode's seed."""
        self._env.task.random.seed(self.episode_seed())
        values: TensorDict = DMControlEnv._reset(self, tensordict)
        return values

    def time_limit(self) -> float | None:
        """Return the steps of the task's time limit, which the Control Suite keeps to itself."""
        return getattr(self._env, "_step_limit", None)

    def take_action(self, action: Tensor) -> Values:
        """Act once, [D], in a third of the time of torchrl's `_step`."""
        reward = 0.0
        for _ in range(self.wrapper_frame_skip):
            step = self._env.step(action.numpy())
            reward += step.reward
            if step.last():
                break
        truncated = step.last() and step.discount == 1
        values = {name: torch.as_tensor(part) for name, part in step.observation.items()}
        return {
            **values,
            "reward": torch.tensor(reward, dtype=torch.float64),
            "terminated": torch.tensor(step.last() and not truncated),
            "truncated": torch.tensor(truncated),
            "done": torch.tensor(step.last()),
        }


class GymnasiumEnvironment(RestorableEnvironment, GymWrapper):  # type: ignore[misc]
    """An environment of Gymnasium."""

    def reset_to_seed(self, tensordict: Any) -> TensorDict:
        """Reset with the current episode's seed."""
        values: TensorDict = GymWrapper._reset(self, tensordict, seed=self.episode_seed())
        return values

    def time_limit(self) -> float | None:
        """Return the steps of the registered time limit."""
        return None if self._env.spec is None else self._env.spec.max_episode_steps
