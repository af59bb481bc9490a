"""Evaluation of a policy. Shapes: T steps of an episode, O observation entries."""

import logging
from typing import NamedTuple

import torch
from torch import Tensor

from suite.config.fields import ConfigError
from suite.domains.control.config import TaskConfig
from suite.domains.control.environments import Environments, UnusableObservation
from suite.domains.control.networks import ActorCritic
from suite.policies.divergences import gaussian_kl

logger = logging.getLogger(__name__)


class Rollouts(NamedTuple):
    """Episodes of a policy."""

    rewards: list[list[float]]  # [T] of each
    observations: list[Tensor]  # [T, O] of each

    def discounted_returns(self, discount: float) -> list[float]:
        """Return the discounted return of each episode."""
        return [discounted_sum(episode, discount) for episode in self.rewards]


@torch.no_grad()
def roll_out(env: Environments, policy: ActorCritic, count: int) -> Rollouts:
    """Return the first `count` episodes of a single environment under the mean action."""
    rollouts = Rollouts([], [])
    env.restart()
    for _ in range(count):
        episode, observations, over = [], [], False
        while not over:
            observations.append(env.observation)
            mean, _ = policy.actor(policy.normalized(env.observation))
            try:
                outcome = env.step(mean.clamp(-1, 1))
            except UnusableObservation as error:
                raise UnusableObservation(f"in an evaluation, {error}") from None
            episode.append(outcome.reward.item())
            over = bool(outcome.terminated | outcome.truncated)
        rollouts.rewards.append(episode)
        rollouts.observations.append(torch.cat(observations))
    return rollouts


@torch.no_grad()
def measure(
    policy: ActorCritic, initial_policy: ActorCritic, rollouts: Rollouts, discount: float
) -> dict[str, float]:
    """Return the mean return as `score`, and what explains it.

    `kl` is KL(π₀ ‖ π) from the initial policy, a mean over the visited states; `q` is the critic's
    value of the first states, and `discounted_return` the return that followed.
    """
    states = policy.normalized(torch.cat(rollouts.observations))
    current, initial = policy.actor(states), initial_policy.actor(states)
    first = policy.normalized(torch.cat([episode[:1] for episode in rollouts.observations]))
    expected = policy.value(first, policy.actor(first).mean[:, None])
    discounted = rollouts.discounted_returns(discount)
    return {
        "score": sum(map(sum, rollouts.rewards)) / len(rollouts.rewards),
        "kl": gaussian_kl(initial, current).total().mean().item(),
        "std": current.std.mean().item(),
        "q": expected.mean().item(),
        "discounted_return": sum(discounted) / len(discounted),
    }


def check_support(settings: TaskConfig, values: list[float], begun: bool) -> None:
    """Raise ConfigError where a categorical critic cannot express values; warn if `begun`."""
    low, high = settings.support()
    beyond = [value for value in values if not low <= value <= high]
    if settings.critic.head != "two_hot" or not beyond:
        return
    message = (
        f"a discounted return of {beyond[0]:g} lies outside the categorical critic's {low:g} to"
        f" {high:g}: set domain.critic.low and domain.critic.high to enclose all values, or"
        " domain.critic.head=mse"
    )
    if not begun:
        raise ConfigError(message)
    logger.warning(message)


def discounted_sum(rewards: list[float], discount: float) -> float:
    """Return Σ_t γ^t r_t."""
    total = 0.0
    for reward in reversed(rewards):
        total = reward + discount * total
    return total
