"""What the suite asks of the settings of a domain or an objective; a plug-in subclasses these.

Nothing here is heavy to import. A class declares by its attributes what the suite may rely on, and
builds the object that does the work.
"""

from dataclasses import dataclass, field
from datetime import datetime
from importlib import import_module
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from suite.config.fields import ConfigError, key

if TYPE_CHECKING:
    import torch

    from suite.domains.base import Domain
    from suite.feedback.label_noise import LabelNoise
    from suite.objectives.base import Objective


@dataclass(frozen=True)
class DomainParts:
    """What a run gives to its domain."""

    label_noise: "LabelNoise"
    """Turns true labels into the labels that the learner sees."""
    divergence: str
    """Which KL to compute: `forward` is KL(π_ref ‖ π), `reverse` KL(π ‖ π_ref), or `decoupled`."""
    reverse_kl: bool = field(default=False, kw_only=True)
    """Whether to give `Feedback.reverse_kl` too, where it has a closed form."""
    seed: int
    """Seed of the domain's random streams."""
    cache: Path
    """A folder for what several runs share."""
    device: "torch.device"
    """Where this process computes."""
    precision: str = "32-true"
    """`trainer.precision`, for what is computed outside of training steps."""
    started: datetime = field(default_factory=lambda: datetime.now().astimezone())
    """When the run first began, with its UTC offset; what writes a date reads it here."""


class Card(NamedTuple):
    """What a model card says of a domain."""

    data: str
    """Where the feedback came from."""
    base_model: str | None = None
    """The folder or hub name of the model that training started from."""
    library: str | None = None
    """The library that loads the trained policy, as `transformers`."""


class Strength(NamedTuple):
    """How strongly an objective of PMPO's kind pulls on accepted samples and on the reference."""

    alpha: float
    """Weight of accepted against rejected samples, in [0, 1]."""
    beta: float | None
    """Weight of the KL; None where it follows from the labels."""
    covariance_weight: float
    """Factor on the covariance part of a Gaussian's KL."""


@dataclass
class DomainConfig:
    """The settings of a domain. A subclass adds keys and builds its domain."""

    closed_form_kl: ClassVar[bool] = False
    """Whether the KL is a Gaussian's, in closed form and per dimension (`Feedback.kl_parts`)."""
    needs_moving_reference: ClassVar[bool] = False
    """Whether a frozen reference would teach nothing."""
    recorded: ClassVar[bool] = False
    """Whether all samples are recorded data, one per context, and the KL is behaviour cloning."""
    shardable: ClassVar[bool] = False
    """Whether the networks may be spread over processes (`trainer.strategy=fsdp`)."""
    batch_size_key: ClassVar[str | None] = None
    """The key with the number of contexts per batch, which processes share; None: one process."""

    revision: ClassVar[int] = 1
    """Raised where the same values compute something else: the names of all its runs change."""

    implementation: ClassVar[str] = ""
    """The domain's class as `package.module:Class`; it takes these settings and DomainParts."""

    name: str = key("", "this domain")

    @property
    def task(self) -> str:
        """What reports call this problem."""
        return short_name(self.name)

    def check(self) -> None:
        """Raise ConfigError where keys do not fit each other."""

    def check_machine(self) -> None:
        """Raise ConfigError where this machine lacks what the run needs."""

    def prepare_film(self) -> None:
        """Set up rendering before the domain is built; raises ConfigError where there is none."""
        raise ConfigError(f"--video shows an environment, and domain.name={self.name} has none")

    def samples_per_context(self) -> int | None:
        """Return K, or None where the data decide."""
        return None

    def has_gaussian_policy(self) -> bool:
        """Tell whether the KL is a Gaussian's; a domain with several policies says of which."""
        return self.closed_form_kl

    def has_tokens(self) -> bool:
        """Tell whether samples are sequences of tokens (`Feedback.tokens`)."""
        return not self.has_gaussian_policy()

    def accepted_mean(self) -> float | None:
        """Return m of theory §5 for Gaussian policies, where it is known in closed form."""
        return None

    def why_reference_is_frozen(self) -> str | None:
        """Name the setting that allows a frozen reference only, and say why; None without one."""
        return None

    def inputs(self) -> dict[str, str]:
        """Return what the domain reads from outside, by key: files, folders, hub names, functions.

        Their digests are recorded, and compared when the run goes on. What is not given is left
        out, as are folders that the suite itself fills.
        """
        return {}

    def card(self) -> Card:
        """Say what a model card needs to know."""
        return Card(data=f"{self.name}: {self.task}")

    def build(self, parts: DomainParts) -> "Domain":
        """Build the domain; what is heavy is imported now."""
        domain: Domain = import_path(self.implementation)(self, parts)
        return domain


@dataclass
class ObjectiveConfig:
    """The settings of an objective. A subclass adds keys and binds its loss."""

    uses_labels: ClassVar[bool] = True
    """Whether it learns from accept and reject labels rather than from scores."""
    needs_reverse_kl: ClassVar[bool] = False
    """Whether it reads `Feedback.reverse_kl`; without it, it estimates that from the samples."""

    revision: ClassVar[int] = 1
    """Raised where the same values compute something else: the names of all its runs change."""

    implementation: ClassVar[str] = ""
    """What builds the loss, as `package.module:name`: called with these settings, the kind of
    feedback, and D of a Gaussian policy's samples (None for other policies)."""

    name: str = key("", "this objective")

    @property
    def sees_labels(self) -> bool:
        """Whether labels that are dropped or swapped change what it learns."""
        return self.uses_labels

    @property
    def uses_batch_statistics(self) -> bool:
        """Whether the loss of a batch is no mean over its contexts.

        Then batch size, accumulation and the number of processes change what is learnt.
        """
        return False

    @property
    def divergence_kind(self) -> str:
        """Which KL the domain computes for it: forward, reverse or decoupled."""
        return "forward"

    @property
    def averages_per_context(self) -> bool:
        """Whether a context's mean would count samples without a label as 0."""
        return False

    def check(self, feedback: str, domain: DomainConfig) -> None:
        """Raise ConfigError where these settings do not fit `feedback` or the domain."""

    def variant(self, feedback: str) -> str:
        """Return what comparisons group runs by."""
        return short_name(self.name)

    def resolved(self, feedback: str) -> dict[str, Any]:
        """Return derived values that replace keys in the signature: equal runs sign equally."""
        return {}

    def strength(self, feedback: str) -> Strength | None:
        """Return α and β, of objectives of PMPO's kind."""
        return None

    def bind(self, feedback: str, dimensions: int | None) -> "Objective":
        """Build the loss; what is heavy is imported now."""
        objective: Objective = import_path(self.implementation)(self, feedback, dimensions)
        return objective


def import_path(path: str) -> Any:
    """Import `package.module:name`; raises what the import raises."""
    module, _, name = path.partition(":")
    return attrgetter(name)(import_module(module))


def short_name(name: str) -> str:
    """Return a name that can stand in a folder's name: of `package.module:ClassConfig`, `class`."""
    short = name.rpartition(":")[2].removesuffix("Config").lower() if ":" in name else name
    return short.replace("/", "-")
