"""What the settings of most objectives share: which feedback they can use, and one strength."""

import dataclasses
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from suite.config.contracts import DomainConfig, ObjectiveConfig
from suite.config.fields import ConfigError, key

if TYPE_CHECKING:
    from suite.feedback.feedback import Shares

# Keys that no loss takes.
NO_ARGUMENTS = ("name", "calibrate", "dual_lr")
CALIBRATE = key(
    None,
    "sets the strength such that the optimum gives this probability to accepted samples, from their"
    " share under the reference",
    above=0,
    below=1,
)

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
    """The key that says how far the policy may go, which `calibrate` replaces."""
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
        if self.mass is not None:
            self.check_calibration()

    @property
    def mass(self) -> float | None:
        """The probability of accepted samples that `calibrate` asks for, None without it."""
        mass: float | None = getattr(self, "calibrate", None)
        return mass

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
        """Return the keyword arguments of the loss, with the strength that the shares lead to."""
        fields = (field.name for field in dataclasses.fields(self))
        values = {name: getattr(self, name) for name in fields if name not in NO_ARGUMENTS}
        mass = self.mass
        if mass is not None:
            accepted = accepted_share(mass, shares)
            values[self.strength_key] = self.calibrated(mass, accepted)
        return values

    def warning(self, shares: "Shares") -> str | None:
        """Return why the loss has no minimum on labels with these shares, or None."""
        return None

    def check_calibration(self) -> None:
        """Raise ConfigError where the optimum has no closed form with these settings."""

    def calibrated(self, mass: float, accepted: float) -> float:
        """Return the strength whose optimum gives accepted samples the probability `mass`.

        `accepted` is their probability under the reference, below `mass`.
        """
        raise NotImplementedError


def check_mass(mass: float, shares: "Shares") -> None:
    """Raise ConfigError unless the reference gives accepted samples less than `mass`, and some."""
    accepted = labelled_share(shares)
    if not 0 < accepted < mass:
        raise ConfigError(
            f"objective.calibrate={mass:g} must exceed the share of accepted samples, which must"
            f" not be 0; found {accepted:.3g} of those with a label"
        )


def accepted_share(mass: float, shares: "Shares") -> float:
    """Return the share of accepted among labelled samples, kept within what `mass` allows.

    `check_mass` refuses others before the first step; later estimates vary about it.
    """
    return min(max(labelled_share(shares), 1e-6), mass * (1 - 1e-3))


def labelled_share(shares: "Shares") -> float:
    """Return the share of accepted among labelled samples, 0 without any."""
    labelled = shares.accept + shares.reject
    return shares.accept / labelled if labelled > 0 else 0.0


def log_odds_ratio(mass: float, accepted: float) -> float:
    """Return log κ, where accepted·κ/(accepted·κ + 1 − accepted) is `mass`."""
    return math.log(mass) - math.log1p(-mass) - math.log(accepted) + math.log1p(-accepted)
