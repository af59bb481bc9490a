"""n-step transitions, built while acting."""

from collections import deque
from typing import Any, NamedTuple

import torch
from torch import Tensor


class Transition(NamedTuple):
    """Up to n successive actions, as stored in the replay."""

    observation: Tensor  # [O], where the first action was taken
    action: Tensor  # [D], the first action
    reward: Tensor  # [], Σ_i γ^i r_i over the actions
    discount: Tensor  # [], γ^m after m actions, 0 where the episode terminated
    next_observation: Tensor  # [O], after the last action


class NStepWindow:
    """The last actions of one environment, until their n-step returns are complete.

    A transition spans n actions, and fewer at the end of an episode:
    after a termination nothing follows, so their discount is 0; after a truncation, such as a time
    limit, the last observation is bootstrapped from as usual.
    """

    def __init__(self, n_step: int, discount: float) -> None:
        self.n_step = n_step
        self.discount = discount
        self.window: deque[tuple[Tensor, Tensor, float]] = deque()

    def push(
        self,
        observation: Tensor,
        action: Tensor,
        reward: float,
        next_observation: Tensor,
        terminated: bool,
        truncated: bool,
    ) -> list[Transition]:
        """Add one action, and return the transitions that are now complete.

        Shapes: observations [O], action [D].
        """
        self.window.append((observation, action, reward))
        complete = []
        while self.window and (len(self.window) >= self.n_step or terminated or truncated):
            complete.append(self.first(next_observation, terminated))
            self.window.popleft()
        return complete

    def first(self, next_observation: Tensor, terminated: bool) -> Transition:
        """Return the transition from the oldest observation to the newest."""
        observation, action, _ = self.window[0]
        reward, factor = 0.0, 1.0
        for _, _, r in self.window:
            reward += factor * r
            factor *= self.discount
        discount = 0.0 if terminated else factor
        return Transition(
            observation, action, torch.tensor(reward), torch.tensor(discount), next_observation
        )

    def state_dict(self) -> list[dict[str, Any]]:
        """Return the window."""
        return [{"observation": o, "action": a, "reward": r} for o, a, r in self.window]

    def load_state_dict(self, state: list[dict[str, Any]]) -> None:
        """Restore a window."""
        self.window = deque((e["observation"], e["action"], e["reward"]) for e in state)
