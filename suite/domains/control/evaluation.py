"""How good a policy is in its environment. Shapes: T steps of an episode, O observation entries."""

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


class Played(NamedTuple):
    """Episodes of a policy."""

    rewards: list[list[float]]  # [T] of each
    seen: list[Tensor]  # [T, O] of each

    def discounted(self, discount: float) -> list[float]:
        """Return the discounted return of each."""
        return [discounted_sum(episode, discount) for episode in self.rewards]


@torch.no_grad()
def play(env: Environments, policy: ActorCritic, count: int) -> Played:
    """Return the first so many episodes of a single environment under the mean action."""
    played = Played([], [])
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
        played.rewards.append(episode)
        played.seen.append(torch.cat(observations))
    return played


@torch.no_grad()
def measure(
    policy: ActorCritic, start: ActorCritic, played: Played, discount: float
) -> dict[str, float]:
    """Return the mean return, and what it rests on.

    `kl` is KL(π₀ ‖ π) from the policy of the start, a mean over the states seen; `q` is what the
    critic expects of the first states, `discounted_return` what followed.
    """
    states = policy.normalized(torch.cat(played.seen))
    now, then = policy.actor(states), start.actor(states)
    first = policy.normalized(torch.cat([states_of[:1] for states_of in played.seen]))
    expected = policy.value(first, policy.actor(first).mean[:, None])
    discounted = played.discounted(discount)
    return {
        "score": sum(map(sum, played.rewards)) / len(played.rewards),
        "kl": gaussian_kl(then, now).total().mean().item(),
        "std": now.std.mean().item(),
        "q": expected.mean().item(),
        "discounted_return": sum(discounted) / len(discounted),
    }


def check_support(settings: TaskConfig, found: list[float], begun: bool) -> None:
    """Raise ConfigError, later warn, where a categorical critic cannot express the values."""
    low, high = settings.support()
    beyond = [value for value in found if not low <= value <= high]
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
