"""Settings of the bandit domain."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from suite.config.contracts import DomainConfig
from suite.config.fields import ConfigError, key


@dataclass
class BanditConfig(DomainConfig):
    """A continuous bandit: minimise a known function from ranked samples."""

    implementation: ClassVar[str] = "suite.domains.bandit.online:Bandit"
    closed_form_kl: ClassVar[bool] = True
    batch_size_key: ClassVar[str | None] = "contexts"
    name: Literal["bandit"] = key("bandit", "this domain")
    function: Literal["sphere", "rosenbrock", "schwefel"] = key("sphere", "function to minimise")
    dimensions: int = key(10, "number of variables", at_least=2)
    contexts: int = key(32, "groups of samples per batch", at_least=1)
    samples: int = key(4, "samples per group, K", at_least=2)
    top: int = key(2, "accepted samples of a group, the best ones", at_least=1)
    bottom: int = key(2, "rejected samples of a group, the worst ones", at_least=1)
    initial_std: float = key(0.2, "initial deviation, in units of half the box", above=0)

    def check(self) -> None:
        """Raise ConfigError where keys do not fit each other."""
        if self.top + self.bottom > self.samples:
            raise ConfigError(
                f"domain.top + domain.bottom must be at most domain.samples={self.samples},"
                f" found {self.top} + {self.bottom}"
            )

    @property
    def task(self) -> str:
        """The name of this problem in reports."""
        return f"{self.function}-{self.dimensions}d"

    def accepted_mean(self) -> float | None:
        """Return m of theory §5, where as many samples are accepted as rejected."""
        from suite.objectives.bounds import top_mean

        return top_mean(self.samples, self.top) if self.top == self.bottom else None

    def samples_per_context(self) -> int:
        """Return K."""
        return self.samples
