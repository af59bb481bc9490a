"""One or several environments as one, whose state can be saved; built with torchrl.

Shapes: N environments, O observation entries, D action entries.
"""

import atexit
import signal
import weakref
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from suite.config.fields import ConfigError
from suite.domains.control.config import TaskConfig
from suite.domains.control.episodes import TaskBounds
from suite.domains.control.tasks import check_task

if TYPE_CHECKING:
    from torchrl.envs import EnvBase

    from suite.domains.control.torchrl_environments import Values


class UnusableObservation(Exception):
    """An observation holds NaN or infinity; the message names the step."""


class Outcome(NamedTuple):
    """The result of one action in each environment."""

    next_observation: Tensor  # [N, O], the last of the episode where it is over
    reward: Tensor  # [N], summed over repeats of the action
    terminated: Tensor  # [N], whether the task ended
    truncated: Tensor  # [N], whether the episode was cut off, as by a time limit


def build(settings: TaskConfig, stream: tuple[int, ...], rendered: bool = False) -> "EnvBase":
    """Build one environment, its episodes seeded from `stream`; raises ConfigError."""
    check_task(settings.task, settings.gymnasium)
    from suite.domains.control.torchrl_environments import (
        ControlSuiteEnvironment,
        GymnasiumEnvironment,
    )

    env: Any
    if settings.gymnasium:
        import gymnasium as gym

        # Not torchrl's own construction: it hands keyword arguments to environments of any kind.
        mode = {"render_mode": "rgb_array"} if rendered else {}
        made = gym.make(settings.task, **mode)
        env = GymnasiumEnvironment(made, frame_skip=settings.action_repeat)
    else:
        domain, _, task = settings.task.partition("-")
        env = ControlSuiteEnvironment(domain, task, frame_skip=settings.action_repeat)
    env.stream = stream
    if settings.episode_length is not None:
        env.max_actions = max(1, settings.episode_length // settings.action_repeat)
    return env


def build_in_worker(settings: TaskConfig, stream: tuple[int, ...]) -> "EnvBase":
    """Build one environment in a worker process, which leaves stop signals to its parent."""
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
            build(settings, (*stream, 0)).close()  # so that errors are raised in this process
            from torchrl.envs import ParallelEnv

            makers = [partial(build_in_worker, settings, (*stream, i)) for i in range(count)]
            self.env = ParallelEnv(count, makers)
            # Worker processes wait for ever unless they are closed: close them when this object is
            # gone, and at exit before multiprocessing's own hook, which would wait for them.
            atexit.register(weakref.finalize(self, close, self.env))
        self.values = self.env.reset()
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
        self.observation = self.vectors(self.values)  # the current one, [N, O]
        self.observation_size = self.observation.shape[1]
        self.action_size = low.shape[1]

    def vectors(self, values: "Values") -> Tensor:
        """Return the named observations as one vector per environment, [N, O]."""
        parts = [values[key].reshape(self.count, -1).float() for key in self.keys]
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
            after, self.values = self.env.advance(scaled[0])
        else:
            self.values["action"] = scaled
            stepped, self.values = self.env.step_and_maybe_reset(self.values)
            after = stepped["next"]
        flags = [after[name].reshape(self.count) for name in ("reward", "terminated", "truncated")]
        last = self.vectors(after)
        self.observation = self.vectors(self.values) if after["done"].any() else last
        return Outcome(last, *flags)

    def bounds(self) -> TaskBounds:
        """Return the bounds of the actions, and of an episode's length; for one environment."""
        low, high = (self.centre - self.half_range)[0], (self.centre + self.half_range)[0]
        return TaskBounds(low.numpy(), high.numpy(), self.env.longest_episode())

    def restart(self) -> None:
        """Begin again with the first episode; for a single environment."""
        self.env.episode, self.steps = -1, 0
        self.values = self.env.reset()
        self.observation = self.vectors(self.values)

    def state_dict(self) -> dict[str, Any]:
        """Return the state of every environment."""
        now = {name: self.values[name].clone() for name in self.keys}
        # Not torchrl's own state_dict: loading one into parallel environments races with the next
        # step (0.14.1: the worker signals twice that it is done). Calls by name wait for an answer.
        states = self.env.episode_state()
        episodes = [states] if self.count == 1 else states
        return {"steps": self.steps, "now": now, "episodes": episodes}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a state by acting again as in the current episodes."""
        self.steps = state["steps"]
        self.env.restore_episode(state["episodes"])
        for name, value in state["now"].items():
            self.values[name] = value
        self.observation = self.vectors(self.values)

    def close(self) -> None:
        """Close the environments and their worker processes."""
        close(self.env)


def close(env: "EnvBase") -> None:
    """Close an environment unless it is closed."""
    if not env.is_closed:
        env.close()
