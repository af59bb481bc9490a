"""Environments through torchrl, whose state can be saved: an episode is its seed and its actions.

Shapes: N environments, O observation entries, D action entries.
"""

import atexit
import os
import signal
import weakref
from abc import ABC, abstractmethod
from collections.abc import MutableMapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from tensordict import TensorDict
from torch import Tensor

from suite.config.fields import ConfigError
from suite.domains.control.config import TaskConfig
from suite.domains.control.tasks import check_task

os.environ.setdefault("RL_LOGGING_LEVEL", "WARNING")  # read on import: no notice per buffer

from torchrl.envs import DMControlEnv, EnvBase, GymEnv, ParallelEnv

Values = MutableMapping[str, Tensor]  # named observations, reward, terminated, truncated, done


class UnusableObservation(Exception):
    """An environment returned what no policy can act on; the message names the step."""


class Outcome(NamedTuple):
    """What an action led to in each environment."""

    next_observation: Tensor  # [N, O], the last one where the episode is over
    reward: Tensor  # [N], summed over repeats of the action
    terminated: Tensor  # [N], whether nothing follows
    truncated: Tensor  # [N], whether the episode was only cut off


class Episodes(ABC):
    """Ahead of a torchrl class: give every episode a seed of its own and remember its actions.

    Number of the episode and actions are then all of the environment's state: replaying them
    brings back physics, time and random streams, of any deterministic environment.
    """

    stream: tuple[int, ...] = (0,)
    longest: int | None = None  # actions
    episode = -1

    def seed_of_episode(self) -> int:
        """Return the seed of the current episode."""
        return int(np.random.SeedSequence((*self.stream, self.episode)).generate_state(1)[0])

    @abstractmethod
    def begin(self, tensordict: Any) -> TensorDict:
        """Reset with the current episode's seed."""

    def _reset(self, tensordict: Any = None, **_: Any) -> TensorDict:
        self.episode += 1
        self.actions: list[Tensor] = []
        return self.begin(tensordict)

    def _step(self, tensordict: TensorDict) -> TensorDict:
        found: TensorDict = super()._step(tensordict)  # type: ignore[misc]
        self.note(tensordict["action"], found)
        return found

    def note(self, action: Tensor, after: Values) -> None:
        """Remember an action, and cut the episode off where it led if that was the last one."""
        self.actions.append(action.clone())
        if len(self.actions) == self.longest and not after["done"].any():
            after["truncated"] = torch.ones_like(after["truncated"])
            after["done"] = torch.ones_like(after["done"])

    def outcome(self, action: Tensor) -> Values:
        """Return what an action, [D], leads to, as torchrl's `_step` does."""
        found: Values = super()._step(TensorDict({"action": action}, []))  # type: ignore[misc]
        return found

    def advance(self, action: Tensor) -> tuple[Values, Values]:
        """Do what torchrl's step_and_maybe_reset does, without its checks and copies.

        Those take as long as the physics of a small task. Return what the action led to, and what
        to act on next.
        """
        after = self.outcome(action)
        self.note(action, after)
        return after, self._reset() if after["done"] else after

    def episode_state(self) -> dict[str, Any]:
        """Return the number of the episode and its actions so far, [T, D]."""
        actions = torch.stack(self.actions) if self.actions else None
        return {"episode": self.episode, "actions": actions}

    def continue_episode(self, states: Sequence[dict[str, Any]]) -> None:
        """Come to the state that is this environment's among those of all, by replaying it."""
        state = states[self.stream[-1]]
        self.episode = state["episode"] - 1
        self._reset()
        for action in state["actions"] if state["actions"] is not None else ():
            self.advance(action)


class ControlSuiteEpisodes(Episodes, DMControlEnv):  # type: ignore[misc]
    """A task of the DeepMind Control Suite."""

    def begin(self, tensordict: Any) -> TensorDict:
        """Reset with the current episode's seed."""
        self._env.task.random.seed(self.seed_of_episode())
        found: TensorDict = DMControlEnv._reset(self, tensordict)
        return found

    def outcome(self, action: Tensor) -> Values:
        """Return what an action, [D], leads to, in a third of the time of torchrl's `_step`."""
        reward = 0.0
        for _ in range(self.wrapper_frame_skip):
            found = self._env.step(action.numpy())
            reward += found.reward
            if found.last():
                break
        truncated = found.last() and found.discount == 1
        values = {name: torch.as_tensor(part) for name, part in found.observation.items()}
        return {
            **values,
            "reward": torch.tensor(reward, dtype=torch.float64),
            "terminated": torch.tensor(found.last() and not truncated),
            "truncated": torch.tensor(truncated),
            "done": torch.tensor(found.last()),
        }


class GymnasiumEpisodes(Episodes, GymEnv):  # type: ignore[misc]
    """An environment of Gymnasium."""

    def begin(self, tensordict: Any) -> TensorDict:
        """Reset with the current episode's seed."""
        found: TensorDict = GymEnv._reset(self, tensordict, seed=self.seed_of_episode())
        return found


def build(settings: TaskConfig, stream: tuple[int, ...], rendered: bool = False) -> EnvBase:
    """Build one environment, its episodes seeded from `stream`; raises ConfigError."""
    check_task(settings.task, settings.gymnasium)
    env = gymnasium(settings, rendered) if settings.gymnasium else control_suite(settings)
    env.stream = stream
    if settings.episode_length is not None:
        env.longest = max(1, settings.episode_length // settings.action_repeat)
    return env


def control_suite(settings: TaskConfig) -> ControlSuiteEpisodes:
    """Build a task of the Control Suite."""
    domain, _, task = settings.task.partition("-")
    return ControlSuiteEpisodes(domain, task, frame_skip=settings.action_repeat)


def gymnasium(settings: TaskConfig, rendered: bool) -> GymnasiumEpisodes:
    """Build an environment of Gymnasium."""
    mode = {"render_mode": "rgb_array"} if rendered else {}
    return GymnasiumEpisodes(settings.task, frame_skip=settings.action_repeat, **mode)


def build_in_worker(settings: TaskConfig, stream: tuple[int, ...]) -> EnvBase:
    """Build one environment in a process that leaves stop signals to its parent."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    torch.set_num_threads(1)
    return build(settings, stream)


class Environments:
    """N environments as one: float32 observations in one vector, actions within ±1.

    One environment steps in this process; several have a process each (torchrl's ParallelEnv).
    Raises ConfigError for what cannot be built, UnusableObservation for NaN or infinity.
    """

    def __init__(
        self,
        settings: TaskConfig,
        stream: tuple[int, ...],
        count: int,
        rendered: bool = False,
    ) -> None:
        self.count = count
        self.repeat = settings.action_repeat
        self.steps = 0  # environment steps so far, repeats included, of all environments
        if count == 1:
            self.env = build(settings, (*stream, 0), rendered)
        else:
            build(settings, (*stream, 0)).close()  # what cannot be built is said here
            makers = [partial(build_in_worker, settings, (*stream, i)) for i in range(count)]
            self.env = ParallelEnv(count, makers)
            # A process that is not told to end waits for ever: tell it when this object is gone,
            # and at the exit before multiprocessing's own hook, which would wait for it.
            atexit.register(weakref.finalize(self, close, self.env))
        self.now = self.env.reset()
        self.keys = sorted(self.env.observation_spec.keys())
        space = self.env.action_spec.space
        low, high = (bound.reshape(count, -1).float() for bound in (space.low, space.high))
        if not (low.isfinite() & high.isfinite()).all():
            raise ConfigError(
                f"domain.task={settings.task} has actions without bounds, {low[0].tolist()} to"
                f" {high[0].tolist()}; the control domain needs finite ones"
            )
        self.centre, self.half_range = (low + high) / 2, (high - low) / 2
        self.action_dtype = self.env.action_spec.dtype
        self.observation = self.read(self.now)  # what to act on, [N, O]
        self.observation_size = self.observation.shape[1]
        self.action_size = low.shape[1]

    def read(self, found: Values) -> Tensor:
        """Return the observations as one vector each, [N, O]."""
        parts = [found[key].reshape(self.count, -1).float() for key in self.keys]
        joined = torch.cat(parts, 1) if len(parts) > 1 else parts[0]
        if not joined.isfinite().all():
            raise UnusableObservation(
                f"the observation at environment step {self.steps} is not finite: {joined.tolist()}"
            )
        return joined

    def step(self, action: Tensor) -> Outcome:
        """Act once in every environment, [N, D] within ±1; a new episode follows an ended one."""
        scaled = (self.centre + self.half_range * action).to(self.action_dtype)
        self.steps += self.count * self.repeat
        if self.count == 1:
            after, self.now = self.env.advance(scaled[0])
        else:
            self.now["action"] = scaled
            stepped, self.now = self.env.step_and_maybe_reset(self.now)
            after = stepped["next"]
        flags = [after[name].reshape(self.count) for name in ("reward", "terminated", "truncated")]
        last = self.read(after)
        self.observation = self.read(self.now) if after["done"].any() else last
        return Outcome(last, *flags)

    def restart(self) -> None:
        """Begin with the first episode again; for a single environment."""
        self.env.episode, self.steps = -1, 0
        self.now = self.env.reset()
        self.observation = self.read(self.now)

    def state_dict(self) -> dict[str, Any]:
        """Return where every environment is."""
        now = {name: self.now[name].clone() for name in self.keys}
        # Not torchrl's own state_dict: loading one into parallel environments races with the next
        # step (0.14.1: the worker signals twice that it is done). Calls by name wait for an answer.
        found = self.env.episode_state()
        return {"steps": self.steps, "now": now, "episodes": [found] if self.count == 1 else found}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Come to a state, by replaying the current episodes."""
        self.steps = state["steps"]
        self.env.continue_episode(state["episodes"])
        for name, value in state["now"].items():
            self.now[name] = value
        self.observation = self.read(self.now)

    def close(self) -> None:
        """End the environments, and their processes."""
        close(self.env)


def close(env: EnvBase) -> None:
    """Close an environment unless that is done."""
    if not env.is_closed:
        env.close()
