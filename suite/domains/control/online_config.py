"""Settings of the control domain: learning while acting."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from suite.config.fields import ConfigError, key
from suite.domains.control.config import TaskConfig


@dataclass
class ControlConfig(TaskConfig):
    """An actor and a critic that learn from the replay of an environment."""

    implementation: ClassVar[str] = "suite.domains.control.online:Control"
    closed_form_kl: ClassVar[bool] = True
    needs_moving_reference: ClassVar[bool] = True  # it samples the actions and scores them
    batch_size_key: ClassVar[str | None] = "batch_size"
    name: Literal["control"] = key("control", "this domain")
    num_envs: int = key(
        1, "environments; several run in one process each and are stepped together", at_least=1
    )
    labels: Literal["sign", "rank"] = key(
        "sign",
        "accept actions whose score is at least the mean of the state's K (`sign`), or the `top`"
        " best (`rank`)",
    )
    bound_penalty: float = key(
        0.1,
        "subtracted from an action's score, per squared distance beyond ±1, but not from targets:"
        " distinguishes actions that are clipped to the same one",
        at_least=0,
    )
    top: int = key(2, "accepted actions of a state with labels=rank", at_least=1)
    bottom: int = key(2, "rejected actions of a state with labels=rank", at_least=1)

    warmup: int = key(
        1000, "environment steps with random actions before the first batch", at_least=1
    )
    updates_per_env_step: float = key(0.5, "batches per environment step", above=0)
    acting_steps: int = key(
        20,
        "environment steps taken in a row with one policy; divided by action_repeat",
        at_least=1,
    )
    replay_size: int = key(1_000_000, "largest number of stored transitions", at_least=1)

    def check(self) -> None:
        """Raise ConfigError where keys do not fit each other."""
        super().check()
        if self.labels == "rank" and self.top + self.bottom > self.samples:
            raise ConfigError(
                f"domain.top + domain.bottom must be at most domain.samples={self.samples},"
                f" found {self.top} + {self.bottom}"
            )
        if self.warmup <= self.n_step * self.action_repeat * self.num_envs:
            raise ConfigError(
                "domain.warmup must be more than n_step · action_repeat · num_envs ="
                f" {self.n_step * self.action_repeat * self.num_envs} steps, or there is nothing"
                f" to learn from; found {self.warmup}"
            )

    def accepted_mean(self) -> float | None:
        """Return m of theory §5, as if Q were linear where the reference samples."""
        from suite.objectives.bounds import above_average_mean, top_mean

        if self.labels == "sign":
            return above_average_mean(self.samples)
        return top_mean(self.samples, self.top) if self.top == self.bottom else None

    def samples_per_context(self) -> int:
        """Return K."""
        return self.samples
