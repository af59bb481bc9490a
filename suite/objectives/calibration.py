"""One strength for all: the probability of accepted samples at the optimum (theory §16)."""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from suite.config.contracts import DomainConfig
from suite.config.fields import ConfigError, key
from suite.objectives.loss_config import LossConfig

if TYPE_CHECKING:
    from suite.feedback.feedback import Shares


CALIBRATE = key(
    None,
    "sets the strength such that the optimum gives this probability to accepted samples, among"
    " those with a label, from their share under the reference",
    above=0,
    below=1,
)


@dataclass
class Calibrated(LossConfig, ABC):
    """An objective whose strength can follow from the probability that accepted samples get."""

    calibrate: float | None = CALIBRATE

    def check(self, feedback: str, domain: DomainConfig) -> None:
        """Raise ConfigError where these settings do not fit `feedback` or the domain."""
        super().check(feedback, domain)
        if self.calibrate is not None:
            self.check_calibration()

    def arguments(self, shares: "Shares") -> dict[str, Any]:
        """Return the keyword arguments of the loss, with the strength that the shares lead to."""
        values = super().arguments(shares)
        if self.calibrate is not None:
            values[self.strength_key] = self.calibrated(self.calibrate, shares)
        return values

    def check_calibration(self) -> None:
        """Raise ConfigError where the optimum has no closed form with these settings."""

    @abstractmethod
    def calibrated(self, mass: float, shares: "Shares") -> float:
        """Return the strength whose optimum gives accepted samples the probability `mass`."""


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


def log_odds_ratio(mass: float, shares: "Shares") -> float:
    """Return log κ, where Z1·κ/(Z1·κ + Z0) is `mass`."""
    accepted = accepted_share(mass, shares)
    return math.log(mass) - math.log1p(-mass) - math.log(accepted) + math.log1p(-accepted)


def calibrated_beta(alpha: float, mass: float, shares: "Shares") -> float:
    """Return PMPO's β for an optimum at which accepted samples have `mass` of the labelled ones.

    Of the optimum's total M, accepted samples have α + β·Z1 and rejected ones β·Z0 − (1 − α); those
    without a label have the rest.
    """
    labelled = shares.accept + shares.reject
    return (alpha - mass * (2 * alpha - 1)) / (labelled * (mass - accepted_share(mass, shares)))
