"""What the settings of most objectives share: which feedback they can use, and one strength."""

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from suite.config.contracts import DomainConfig, ObjectiveConfig
from suite.config.fields import ConfigError

if TYPE_CHECKING:
    from suite.feedback.feedback import Shares

# Keys that no loss takes.
NO_ARGUMENTS = ("name", "calibrate", "dual_lr")
# Why an objective needs labels of both kinds to be visible, by what it learns from.
REFUSALS = {
    "pairs": "compares accepted with rejected samples",
    "scores": "weighs samples by their scores and sees no labels",
    "both": "needs accepted and rejected samples",
}


@dataclass
class LossConfig(ObjectiveConfig):
    """The settings of an objective whose loss is one function of feedback."""

    loss: ClassVar[str] = ""
    """The name of the loss in its module."""
    learns_from: ClassVar[str] = "either"
    """`pairs`, `scores`, `both` kinds of label, `either` alone too, or `rejected` samples only."""
    strength_key: ClassVar[str] = "beta"
    """The key that says how far the policy may go."""
    compares_samples: ClassVar[bool] = False
    """Whether it needs several samples of a context."""
    needs_divergence: ClassVar[bool] = False
    """Whether its loss holds KL(π_ref ‖ π), for which behaviour cloning is no substitute."""
    needs_probabilities: ClassVar[bool] = False
    """Whether log π must be that of a probability, not a density."""

    def check(self, feedback: str, domain: DomainConfig) -> None:
        """Raise ConfigError where these settings do not fit `feedback` or the domain."""
        self.check_feedback(feedback)
        if self.compares_samples:
            self.check_several_samples(domain)
        if self.needs_divergence and domain.recorded:
            raise ConfigError(
                f"objective.name={self.name} needs the divergence from the reference, and"
                f" domain.name={domain.name} has behaviour cloning in its place; use pmpo"
            )
        if self.needs_probabilities and domain.has_gaussian_policy():
            raise ConfigError(
                f"objective.name={self.name} needs probabilities, and the densities of"
                f" domain.name={domain.name} may exceed 1; use simpo"
            )

    def check_feedback(self, feedback: str) -> None:
        """Raise ConfigError where `feedback` hides what the objective learns from."""
        if self.learns_from == "rejected" and feedback == "positive":
            raise ConfigError(
                f"objective.name={self.name} learns from rejected samples only, which"
                " feedback=positive hides; use negative or mixed"
            )
        if self.learns_from in REFUSALS and feedback != "mixed":
            raise ConfigError(
                f"objective.name={self.name} {REFUSALS[self.learns_from]}: it needs"
                f" feedback=mixed, found {feedback}"
            )

    def check_several_samples(self, domain: DomainConfig) -> None:
        """Raise ConfigError where every context has one sample."""
        if domain.recorded:
            raise ConfigError(
                f"objective.name={self.name} compares several samples of a context, and"
                f" domain.name={domain.name} has one of each; use pmpo or weighted"
            )
        samples = domain.samples_per_context()
        if samples is not None and samples < 2:
            raise ConfigError(
                f"domain.samples must be at least 2 with objective.name={self.name}, which compares"
                f" the samples of a context; found {samples}"
            )

    def arguments(self, shares: "Shares") -> dict[str, Any]:
        """Return the keyword arguments of the loss on labels with these shares."""
        fields = (field.name for field in dataclasses.fields(self))
        return {name: getattr(self, name) for name in fields if name not in NO_ARGUMENTS}

    def warning(self, feedback: str, shares: "Shares") -> str | None:
        """Return why the loss may have no minimum on labels with these shares, or None."""
        return None
