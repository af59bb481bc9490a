"""Settings that both domains of control share."""

import re
from dataclasses import dataclass
from typing import Literal

from suite.config.contracts import DomainConfig
from suite.config.fields import ConfigError, key, section


@dataclass
class NetworkConfig:
    """A LayerNorm MLP."""

    hidden_size: int = key(256, "width", at_least=1)
    layers: int = key(2, "hidden layers", at_least=1)


@dataclass
class CriticConfig:
    """The critic's head, and the number of critics."""

    head: Literal["mse", "two_hot"] = key("mse", "a number, or a categorical over `bins` values")
    bins: int = key(51, "values of the categorical head", at_least=2)
    low: float = key(0.0, "smallest value of the categorical head")
    high: float | None = key(
        None,
        "largest value of the categorical head; the default action_repeat / (1 − discount) fits"
        " rewards between 0 and 1",
    )
    pair: bool = key(False, "whether there are two critics; the smaller value counts")


@dataclass
class TaskConfig(DomainConfig):
    """A task, actor and critic, and their evaluation, for learning while acting and offline."""

    task: str = key(
        "cartpole-swingup",
        "a Control Suite task as DOMAIN-TASK, a Gymnasium id such as Pendulum-v1, or module:Name-v0"
        " for an environment that a module of yours registers",
    )
    action_repeat: int = key(1, "environment steps of each action", at_least=1)
    episode_length: int | None = key(
        None,
        "environment steps after which an episode is cut off; the limit of the task also holds",
        at_least=1,
    )
    normalize_observations: bool = key(
        False, "normalise observations by running mean and deviation, clipped at ±5"
    )
    batch_size: int = key(128, "states per batch", at_least=1)
    samples: int = key(4, "actions of the reference per state, K", at_least=2)
    n_step: int = key(5, "actions whose rewards are summed in a target of the critic", at_least=1)
    discount: float = key(0.99, "discount factor per action", at_least=0, below=1)
    initial_std: float = key(0.7, "the policy's initial deviation; actions lie in ±1", above=0)
    smallest_std: float = key(1e-3, "lower bound of the policy's deviation", above=0)
    largest_std: float | None = key(
        None,
        "upper bound of the policy's deviation; with both bounds, the density of actions"
        " and thus any loss on data is bounded",
        above=0,
    )
    actor: NetworkConfig = section(NetworkConfig, "the policy's network")
    critic_network: NetworkConfig = section(NetworkConfig, "the critic's network")
    critic: CriticConfig = section(CriticConfig, "the critic's output")
    eval_episodes: int = key(10, "episodes of an evaluation, with the mean action", at_least=1)

    def check(self) -> None:
        """Raise ConfigError where keys do not fit each other."""
        if not re.fullmatch(r"([\w.]+:)?(\w+/)?\w+([-.]\w+)*", self.task):
            raise ConfigError(
                "domain.task must be a Control Suite task such as walker-walk, a Gymnasium id such"
                " as Pendulum-v1, or module:Name-v0 for an environment that the module registers;"
                f" found {self.task!r}"
            )
        if self.critic.head == "two_hot" and self.gymnasium and self.critic.high is None:
            raise ConfigError(
                f"domain.critic.high must be given with domain.critic.head=two_hot and the"
                f" Gymnasium task {self.task}, whose rewards may leave 0 to 1; or take head=mse"
            )
        largest = float("inf") if self.largest_std is None else self.largest_std
        if not self.smallest_std < self.initial_std < largest:
            raise ConfigError(
                "domain.initial_std must lie between domain.smallest_std and domain.largest_std,"
                f" {self.smallest_std:g} and {largest:g}; found {self.initial_std:g}"
            )
        low, high = self.support()
        if not low < high:
            raise ConfigError(
                f"domain.critic.low must be less than domain.critic.high={high:g}, found {low:g}"
            )

    def check_machine(self) -> None:
        """Raise ConfigError where there is no such task, or a package of it is missing."""
        from suite.domains.control.tasks import check_task

        check_task(self.task, self.gymnasium)

    def prepare_film(self) -> None:
        """Choose a renderer, which must happen before MuJoCo is imported; raises ConfigError."""
        from suite.domains.control.rendering import choose_renderer
        from suite.domains.control.tasks import require

        require("imageio")
        choose_renderer()

    @property
    def gymnasium(self) -> bool:
        """Whether the task is Gymnasium's: its name ends in a version, or begins with a module."""
        return ":" in self.task or re.search(r"-v\d+$", self.task) is not None

    def support(self) -> tuple[float, float]:
        """Return the smallest and the largest value of the categorical head."""
        largest = self.action_repeat / (1 - self.discount)
        return self.critic.low, self.critic.high if self.critic.high is not None else largest
