"""Settings of the bandit domain."""

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from suite.config.contracts import DomainConfig, DomainParts, import_path
from suite.config.fields import ConfigError, key
from suite.domains.bandit.arms import PEAKS, rewards

if TYPE_CHECKING:
    from suite.domains.base import Domain

# What applies to one policy alone.
FUNCTIONS = {"gaussian": ("sphere", "rosenbrock", "schwefel"), "categorical": tuple(PEAKS)}
KEYS = {"gaussian": ("dimensions", "initial_std"), "categorical": ("arms", "threshold")}
RANKS = ("top", "bottom")


@dataclass
class BanditConfig(DomainConfig):
    """A bandit: minimise a known function from ranked samples, or find the best of many arms."""

    implementation: ClassVar[str] = "suite.domains.bandit.online:Bandit"
    closed_form_kl: ClassVar[bool] = True
    batch_size_key: ClassVar[str | None] = "contexts"
    name: Literal["bandit"] = key("bandit", "this domain")
    policy: Literal["gaussian", "categorical"] = key(
        "gaussian", "a Gaussian over continuous variables, or a probability of each arm"
    )
    function: Literal["sphere", "rosenbrock", "schwefel", "hidden_peak", "likely_peak"] = key(
        "sphere",
        "function to minimise; with policy=categorical the reward to maximise, whose peak the first"
        " policy hardly samples (`hidden_peak`) or often samples (`likely_peak`)",
    )
    dimensions: int = key(10, "number of variables", at_least=2)
    arms: int = key(100, "number of arms with policy=categorical, N", at_least=2, at_most=100_000)
    contexts: int = key(32, "groups of samples per batch", at_least=1)
    samples: int = key(
        4, "samples per group, K; at least 2 where labels follow from ranks", at_least=1
    )
    top: int = key(2, "accepted samples of a group, the best ones", at_least=1)
    bottom: int = key(2, "rejected samples of a group, the worst ones", at_least=1)
    threshold: float | None = key(
        0.5,
        "smallest accepted reward of an arm with policy=categorical, where the peak's is 1; null"
        " accepts by rank, as policy=gaussian does",
        above=0,
        at_most=1,
    )
    initial_std: float = key(0.2, "initial deviation, in units of half the box", above=0)

    def check(self) -> None:
        """Raise ConfigError where keys do not fit each other."""
        if self.function not in FUNCTIONS[self.policy]:
            raise ConfigError(
                f"domain.function must be one of {', '.join(FUNCTIONS[self.policy])} with"
                f" domain.policy={self.policy}, found {self.function}"
            )
        (other,) = KEYS.keys() - {self.policy}
        self.check_unused(KEYS[other], f"domain.policy={self.policy}")
        if self.labels_by_rank():
            self.check_ranks()
        else:
            self.check_threshold()

    def check_unused(self, names: tuple[str, ...], reason: str) -> None:
        """Raise ConfigError where a key without effect is given."""
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.name in names and value != field.default:
                raise ConfigError(
                    f"domain.{field.name} has no effect with {reason}: leave it at"
                    f" {field.default}, found {value}"
                )

    def check_ranks(self) -> None:
        """Raise ConfigError where a group has too few samples for its labels."""
        if self.samples < 2:
            raise ConfigError(
                f"domain.samples must be at least 2, found {self.samples}: labels by rank compare"
                " the samples of a group"
            )
        if self.top + self.bottom > self.samples:
            raise ConfigError(
                f"domain.top + domain.bottom must be at most domain.samples={self.samples},"
                f" found {self.top} + {self.bottom}"
            )

    def check_threshold(self) -> None:
        """Raise ConfigError where no arm would be accepted."""
        assert self.threshold is not None
        self.check_unused(RANKS, f"domain.threshold={self.threshold:g}, which accepts by reward")
        best = max(rewards(self.function, self.arms))
        if self.threshold > best:
            raise ConfigError(
                f"domain.threshold must be at most {best:.3g}, the best reward of"
                f" domain.arms={self.arms}, found {self.threshold:g}"
            )

    def labels_by_rank(self) -> bool:
        """Tell whether a sample is accepted by its rank in its group."""
        return self.policy == "gaussian" or self.threshold is None

    @property
    def task(self) -> str:
        """The name of this problem in reports."""
        gaussian = self.policy == "gaussian"
        size = f"{self.dimensions}d" if gaussian else f"{self.arms}-arms"
        return f"{self.function}-{size}"

    def has_gaussian_policy(self) -> bool:
        """Tell which policy is chosen."""
        return self.policy == "gaussian"

    def has_tokens(self) -> bool:
        """A sample is one point, or one arm."""
        return False

    def accepted_mean(self) -> float | None:
        """Return m of theory §5, where a Gaussian's samples are accepted as often as rejected."""
        from suite.objectives.bounds import top_mean

        known = self.policy == "gaussian" and self.top == self.bottom
        return top_mean(self.samples, self.top) if known else None

    def samples_per_context(self) -> int:
        """Return K."""
        return self.samples

    def build(self, parts: DomainParts) -> "Domain":
        """Build the domain of the chosen policy."""
        if self.policy == "gaussian":
            return super().build(parts)
        domain: Domain = import_path("suite.domains.bandit.categorical:Arms")(self, parts)
        return domain
