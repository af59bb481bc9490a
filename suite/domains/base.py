"""The interface of a domain, which is the problem of a run; docs/extending.md has a small one."""

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from torch import Tensor, nn

from suite.config.contracts import DomainParts
from suite.config.schema import Config
from suite.feedback.feedback import Feedback, Shares
from suite.feedback.label_noise import LabelNoise
from suite.system import distributed


class Domain(Protocol):
    """The parts of a run that depend on the problem."""

    @property
    def policy(self) -> nn.Module:
        """The trained network."""
        ...

    @property
    def reference(self) -> nn.Module:
        """π_ref, never optimised; it follows the policy by the key `reference.update`."""
        ...

    @property
    def dimensions(self) -> int | None:
        """D of a Gaussian policy's samples, None for other policies."""
        ...

    @property
    def shares(self) -> Shares:
        """Shares of the reference's samples with each label, as `LabelNoise.shares` returns them.

        They are the shares before any label is dropped or hidden.
        """
        ...

    def train_dataloader(self) -> Iterator[Any]:
        """Yield labelled batches for ever; acting, sampling and judging happen here."""
        ...

    def feedback(self, batch: Any) -> Feedback:
        """Return the objective's input for a batch, with gradients."""
        ...

    def evaluate(self) -> dict[str, float]:
        """Measure the policy without effect on training: `score`, higher is better, and others."""
        ...

    def save(self, folder: Path) -> None:
        """Write the trained policy into a folder, in the domain's usual format."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Return the state, without the networks, that an exact resume needs."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a state."""
        ...


@runtime_checkable
class HasAuxiliaryLosses(Protocol):
    """A domain with further losses, for instance a critic's."""

    def auxiliary_losses(self, batch: Any) -> dict[str, Tensor]:
        """Return the further losses by name, [] each, with gradients."""
        ...


@runtime_checkable
class HasDiagnostics(Protocol):
    """A domain with its own metrics of training."""

    def diagnostics(self) -> dict[str, float]:
        """Return metrics to log with the losses; `env_steps` is also shown as a rate."""
        ...


@runtime_checkable
class HasRecordedLabels(Protocol):
    """A domain whose labels are all known before training."""

    @property
    def visible_feedback(self) -> str:
        """The key `feedback`, or, where labels of one kind alone are visible, that kind."""
        ...


@runtime_checkable
class HasExamples(Protocol):
    """A domain whose evaluations have examples."""

    def examples(self) -> list[dict[str, Any]]:
        """Return examples of the last evaluation, one table row each."""
        ...


@runtime_checkable
class HasFilm(Protocol):
    """A domain with an environment that can be filmed."""

    def film(self, path: Path) -> float:
        """Write a video of an episode, and return the episode's return."""
        ...


@runtime_checkable
class HasNetworks(Protocol):
    """A domain that can be sharded (`DomainConfig.shardable`)."""

    @property
    def networks(self) -> nn.Module:
        """All networks as one module; every call of a network goes through it."""
        ...


def feedback_of(domain: Domain, config: Config) -> str:
    """Return which labels the objective will see: positive, negative or mixed."""
    return domain.visible_feedback if isinstance(domain, HasRecordedLabels) else config.feedback


def build_domain(config: Config, cache: Path, started: datetime | None = None) -> Domain:
    """Build the domain of a run; `cache` is a folder of artefacts that runs share.

    `started` is when the run first began: by default now.
    """
    parts = DomainParts(
        label_noise=LabelNoise(config.feedback, config.labels),
        divergence=config.divergence,
        reverse_kl=config.objective.needs_reverse_kl,
        seed=config.seed,
        cache=cache,
        device=distributed.local_device(config.trainer.accelerator),
        precision=config.trainer.precision,
        started=started or datetime.now().astimezone(),
    )
    domain: Domain = config.domain.build(parts)
    return domain
