"""Settings of the objectives of single samples, with the papers' defaults."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from suite.config.contracts import DomainConfig
from suite.config.fields import ConfigError, key
from suite.objectives.calibration import Calibrated, calibrated_beta
from suite.objectives.loss_config import LossConfig

if TYPE_CHECKING:
    from suite.feedback.feedback import Shares


@dataclass
class SingleConfig(LossConfig):
    """An objective of single samples."""

    implementation: ClassVar[str] = "suite.objectives.singles:bind"


@dataclass
class KTOConfig(SingleConfig):
    """KTO, arXiv 2402.01306, with an exact reference point."""

    loss: ClassVar[str] = "kto"
    needs_reverse_kl: ClassVar[bool] = True
    name: Literal["kto"] = key("kto", "this objective")
    beta: float = key(0.1, "inverse temperature", above=0)
    desirable: float = key(1.0, "λ_D, the weight of accepted samples", at_least=0)
    undesirable: float = key(1.0, "λ_U, the weight of rejected samples", at_least=0)


@dataclass
class BCOConfig(SingleConfig):
    """BCO: a classifier of accepted and rejected samples, arXiv 2404.04656."""

    implementation: ClassVar[str] = "suite.objectives.bco:bind"
    learns_from: ClassVar[str] = "both"
    name: Literal["bco"] = key("bco", "this objective")
    beta: float = key(0.1, "inverse temperature", above=0)
    shift: Literal["learned", "mean"] = key(
        "learned", "the classifier's threshold: trained, or the paper's running mean of rewards"
    )
    dual_lr: float = key(1e-2, "learning rate of a learned shift", above=0)

    @property
    def uses_batch_statistics(self) -> bool:
        """Whether the loss depends on how samples are split over batches."""
        return self.shift == "mean"


@dataclass
class APOZeroConfig(SingleConfig):
    """APO-zero, arXiv 2408.06266."""

    loss: ClassVar[str] = "apo_zero"
    name: Literal["apo_zero"] = key("apo_zero", "this objective")
    beta: float = key(0.1, "inverse temperature", above=0)


@dataclass
class NPOConfig(SingleConfig):
    """Negative preference optimisation, arXiv 2404.05868 eq. 3."""

    loss: ClassVar[str] = "npo"
    learns_from: ClassVar[str] = "rejected"
    name: Literal["npo"] = key("npo", "this objective")
    beta: float = key(0.1, "inverse temperature", above=0)


@dataclass
class SimNPOConfig(SingleConfig):
    """NPO per token and without a reference, arXiv 2410.07163."""

    loss: ClassVar[str] = "simnpo"
    learns_from: ClassVar[str] = "rejected"
    name: Literal["simnpo"] = key("simnpo", "this objective")
    beta: float = key(4.5, "inverse temperature", above=0)
    gamma: float = key(0.0, "margin, in nats per token")


@dataclass
class D2OConfig(Calibrated, SingleConfig):
    """D²O: rejected samples against the reference, arXiv 2403.03419, with its exact KL."""

    loss: ClassVar[str] = "d2o"
    needs_divergence: ClassVar[bool] = True
    learns_from: ClassVar[str] = "rejected"
    name: Literal["d2o"] = key("d2o", "this objective")
    beta: float = key(0.1, "weight of KL(π_ref ‖ π)", above=0)
    alpha: float = key(0.1, "weight of a rejected sample's log-ratio", above=0)

    def calibrated(self, mass: float, shares: "Shares") -> float:
        """Return β: within its logistic it is PMPO with α = 0 and β/α (theory §16)."""
        return self.alpha * calibrated_beta(0.0, mass, shares)


@dataclass
class RewardConfig(SingleConfig):
    """An objective that takes labels as rewards of ±1, or the judge's scores."""

    reward: Literal["labels", "score"] = key("labels", "±1 by the labels, or the judge's score")

    def check(self, feedback: str, domain: DomainConfig) -> None:
        """Raise ConfigError where these settings do not fit `feedback` or the domain."""
        super().check(feedback, domain)
        if self.reward == "score" and feedback != "mixed":
            raise ConfigError(
                f"objective.reward=score sees no labels: it needs feedback=mixed, found {feedback}"
            )

    @property
    def sees_labels(self) -> bool:
        """Whether labels that are dropped or swapped change what it learns."""
        return self.reward == "labels"


@dataclass
class TOPRConfig(RewardConfig):
    """TOPR: rejected samples by their truncated importance ratio, arXiv 2503.14286."""

    loss: ClassVar[str] = "topr"
    strength_key: ClassVar[str] = ""
    name: Literal["topr"] = key("topr", "this objective")
    per_token: bool = key(True, "whether a sample's loss is divided by its number of tokens")


@dataclass
class ReinforceConfig(RewardConfig):
    """REINFORCE, RLOO, GRPO, PSR, NSR, W-REINFORCE and AsymRE by baseline and scale."""

    implementation: ClassVar[str] = "suite.objectives.reinforce:bind"
    strength_key: ClassVar[str] = "offset"
    name: Literal["reinforce"] = key("reinforce", "this objective")
    baseline: Literal["none", "mean", "leave_one_out"] = key(
        "none", "what is taken from a reward: nothing, its context's mean, or that of the others"
    )
    offset: float = key(0.0, "V or δV, which is taken from a reward too (AsymRE)")
    scale: Literal["none", "deviation"] = key(
        "none", "whether advantages are divided by their context's deviation (GRPO)"
    )
    positive: float = key(1.0, "λ, the factor on advantages above 0 (W-REINFORCE)", at_least=0)
    clip: float | None = key(
        None, "ε of PPO's clipped ratio to the reference, per token; null: no ratio", above=0
    )
    per_token: bool = key(False, "whether a sample's loss is divided by its number of tokens")

    def check_feedback(self, feedback: str) -> None:
        """Raise ConfigError where all visible rewards equal their own mean."""
        super().check_feedback(feedback)
        if feedback != "mixed" and (self.baseline != "none" or self.scale != "none"):
            raise ConfigError(
                f"objective.baseline={self.baseline} and objective.scale={self.scale} compare"
                f" rewards, and under feedback={feedback} all are equal; use none for both"
            )

    def check(self, feedback: str, domain: DomainConfig) -> None:
        """Raise ConfigError where these settings do not fit `feedback` or the domain."""
        super().check(feedback, domain)
        if self.baseline != "none" or self.scale != "none":
            self.check_several_samples(domain)

    def warning(self, feedback: str, shares: "Shares") -> str | None:
        """Return that nothing bounds the term of samples below the baseline (theory §16)."""
        if self.clip is not None or feedback == "positive" or not shares.reject:
            return None
        return (
            "objective.name=reinforce has no anchor: nothing bounds the term of samples below the"
            " baseline, and the policy may collapse; objective.clip bounds it, and pmpo has a KL"
        )
