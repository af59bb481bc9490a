"""Settings of PMPO and MPO, in a file that imports nothing heavy, as all settings."""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from suite.config.contracts import DomainConfig, Strength
from suite.config.fields import ConfigError, key
from suite.objectives.calibration import CALIBRATE
from suite.objectives.loss_config import LossConfig

ALPHA_OF_FEEDBACK = {"positive": 1.0, "negative": 0.0, "mixed": 0.5}


@dataclass
class PMPOConfig(LossConfig):
    """PMPO, arXiv 2410.04166 eq. 10."""

    implementation: ClassVar[str] = "suite.objectives.pmpo:bind"
    name: Literal["pmpo"] = key("pmpo", "this objective")
    alpha: float | None = key(
        None,
        "weight of accepted against rejected samples; follows from `feedback` unless given",
        at_least=0,
        at_most=1,
    )
    beta: float | int | str = key(
        "auto",
        "weight of KL(π_ref ‖ π); `auto` is margin·(1−α)/Z0, at which the loss is just bounded",
        at_least=0,
    )
    margin: float = key(
        1.0, "factor on the smallest β with a bounded loss, where β is `auto`", above=0
    )
    calibrate: float | None = CALIBRATE
    normalization: Literal["shares", "context"] = key(
        "shares",
        "sums divided by the label's share of all samples, or means per context; for means, β=auto"
        " just bounds the loss only where all contexts have equally many of each label",
    )
    divergence: Literal["forward", "reverse"] = key(
        "forward", "KL(π_ref ‖ π), or KL(π ‖ π_ref) for positive feedback only"
    )
    covariance_weight: float = key(
        1.0,
        "factor on the covariance part of a Gaussian's KL; 1 is the paper's KL",
        at_least=1,
    )

    guard: float | int | str | None = key(
        None,
        "ε: a rejected token weighs at most (1−ε)·β·π_ref(token), which prevents the collapse of"
        " language models over many epochs of a fixed file; `auto` is 0.1 where almost all labels"
        " reject, else none",
        at_least=0,
        below=1,
    )

    def check(self, feedback: str, domain: DomainConfig) -> None:
        """Raise ConfigError where these settings do not fit `feedback` or the domain."""
        if domain.recorded and (self.divergence != "forward" or self.guard is not None):
            raise ConfigError(
                "objective.divergence must be forward and objective.guard null with"
                f" domain.name={domain.name}, whose anchor is behaviour cloning; found"
                f" {self.divergence} and {self.guard}"
            )
        if isinstance(self.guard, str) and self.guard != "auto":
            raise ConfigError(f"objective.guard must be a number or 'auto', found {self.guard!r}")
        if self.guard is not None and not (domain.has_tokens() and self.normalization == "shares"):
            raise ConfigError(
                f"objective.guard={self.guard} needs a language model and"
                " objective.normalization=shares"
            )
        if self.covariance_weight != 1 and not domain.has_gaussian_policy():
            raise ConfigError(
                f"objective.covariance_weight={self.covariance_weight:g} needs a Gaussian policy,"
                " and this domain's is none; leave it at 1"
            )
        if self.calibrate is not None and self.beta != "auto":
            raise ConfigError(
                f"objective.calibrate={self.calibrate:g} sets beta: leave objective.beta at auto,"
                f" found {self.beta}"
            )
        if isinstance(self.beta, str) and self.beta != "auto":
            raise ConfigError(f"objective.beta must be a number or 'auto', found {self.beta!r}")
        implied = ALPHA_OF_FEEDBACK[feedback]
        if feedback != "mixed" and self.alpha not in (None, implied):
            raise ConfigError(
                f"objective.alpha={self.alpha} contradicts feedback={feedback}, which leaves only"
                f" alpha={implied:g}; feedback=mixed allows any"
            )
        if self.divergence == "reverse" and self.alpha_under(feedback) < 1:
            raise ConfigError(
                "objective.divergence=reverse does not bound the rejected term, which counts at"
                f" alpha={self.alpha_under(feedback)}: use forward, or feedback=positive"
            )

    @property
    def divergence_kind(self) -> str:
        """The chosen KL."""
        return self.divergence

    @property
    def averages_per_context(self) -> bool:
        """Whether a context's mean would count samples without a label as 0."""
        return self.normalization == "context"

    def variant(self, feedback: str) -> str:
        """Return the kind of feedback, which is what comparisons of PMPO vary."""
        return feedback

    def strength(self, feedback: str) -> Strength:
        """Return α, and β where it is a number."""
        beta = None if isinstance(self.beta, str) else float(self.beta)
        return Strength(self.alpha_under(feedback), beta, self.covariance_weight)

    def alpha_under(self, feedback: str) -> float:
        """Return α: as given, else what `feedback` implies; one kind alone leaves no choice."""
        given = self.alpha is not None and feedback == "mixed"
        return self.alpha if given and self.alpha is not None else ALPHA_OF_FEEDBACK[feedback]

    def resolved(self, feedback: str) -> dict[str, Any]:
        """Return derived values that replace keys in the signature: equal runs sign equally."""
        beta = self.beta if isinstance(self.beta, str) else float(self.beta)
        return {"alpha": self.alpha_under(feedback), "beta": beta}


@dataclass
class MPOConfig(LossConfig):
    """MPO, arXiv 1806.06920 and 1812.02256, with the defaults of Acme.

    It lacks Acme's penalty of actions beyond the bounds (a second temperature); the control domain
    subtracts `domain.bound_penalty` from the scores of every objective instead.
    """

    implementation: ClassVar[str] = "suite.objectives.mpo:bind"
    uses_labels: ClassVar[bool] = False
    learns_from: ClassVar[str] = "scores"
    strength_key: ClassVar[str] = "epsilon"
    compares_samples: ClassVar[bool] = True
    name: Literal["mpo"] = key("mpo", "this objective")
    epsilon: float = key(0.1, "KL between the weighted samples and the reference, in nats", above=0)
    epsilon_mean: float = key(2.5e-3, "largest KL of a change of the mean, in nats", above=0)
    epsilon_covariance: float = key(
        1e-6, "largest KL of a change of the deviation, in nats", above=0
    )
    per_dimension: bool = key(True, "whether the two constraints hold for each dimension")
    temperature: float = key(10.0, "initial temperature, in units of the score", above=0)
    mean_multiplier: float = key(10.0, "initial multiplier of the mean's constraint", above=0)
    covariance_multiplier: float = key(
        1000.0, "initial multiplier of the deviation's constraint", above=0
    )
    dual_lr: float = key(1e-2, "learning rate of temperature and multipliers", above=0)

    def check(self, feedback: str, domain: DomainConfig) -> None:
        """Raise ConfigError where these settings do not fit `feedback` or the domain."""
        super().check(feedback, domain)
        if not domain.has_gaussian_policy():
            raise ConfigError(
                "objective.name=mpo constrains mean and deviation and needs a Gaussian policy,"
                " and this domain's is none; use pmpo or dpo"
            )

    @property
    def divergence_kind(self) -> str:
        """Mean and deviation are constrained apart from each other (arXiv 1812.02256, §4.2)."""
        return "decoupled"
