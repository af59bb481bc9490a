"""Settings of the archive domain."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from suite.config.contracts import DomainConfig
from suite.config.fields import ConfigError, key


@dataclass
class ArchiveConfig(DomainConfig):
    """Propose a better point from a fixed archive of scored ones."""

    implementation: ClassVar[str] = "suite.domains.bandit.archive:Archive"
    recorded: ClassVar[bool] = True
    batch_size_key: ClassVar[str | None] = "batch_size"
    name: Literal["archive"] = key("archive", "this domain")
    function: Literal["sphere", "rosenbrock", "schwefel"] = key(
        "sphere", "function that scored the points; also used for evaluation"
    )
    dimensions: int = key(10, "number of variables", at_least=1)
    points: int = key(512, "points of the archive", at_least=2)
    spread: float = key(
        0.3,
        "deviation of the points around a random centre, in units of half the box",
        above=0,
    )
    accept: float = key(0.5, "share of the points that is accepted, the best ones", at_least=0)
    reject: float = key(0.5, "share of the points that is rejected, the worst ones", at_least=0)
    batch_size: int = key(128, "points per batch", at_least=1)

    def check(self) -> None:
        """Raise ConfigError where keys do not fit each other."""
        if not 0 < self.accept + self.reject <= 1:
            raise ConfigError(
                "domain.accept + domain.reject must be above 0 and at most 1, found"
                f" {self.accept:g} + {self.reject:g}"
            )

    @property
    def task(self) -> str:
        """The name of this problem in reports."""
        return f"{self.function}-{self.dimensions}d-archive"
