"""Settings of the objectives of pairs, with the papers' defaults."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from suite.config.fields import ConfigError, key
from suite.objectives.calibration import Calibrated, log_odds_ratio
from suite.objectives.loss_config import LossConfig

if TYPE_CHECKING:
    from suite.feedback.feedback import Shares


@dataclass
class PairConfig(LossConfig):
    """An objective that compares samples of a context."""

    implementation: ClassVar[str] = "suite.objectives.pairs:bind"
    learns_from: ClassVar[str] = "pairs"
    compares_samples: ClassVar[bool] = True
    pairs: Literal["best_worst", "all", "labels"] = key(
        "best_worst",
        "which pairs of a context are compared: best against worst score, all of unequal score, or"
        " all accepted against all rejected samples by their labels",
    )

    @property
    def sees_labels(self) -> bool:
        """Whether labels that are dropped or swapped change what it learns."""
        return self.pairs == "labels"


@dataclass
class DPOConfig(PairConfig):
    """DPO on groups of samples, arXiv 2305.18290 eq. 7."""

    implementation: ClassVar[str] = "suite.objectives.dpo:bind"
    name: Literal["dpo"] = key("dpo", "this objective")
    beta: float = key(0.1, "inverse temperature", above=0)


@dataclass
class CDPOConfig(Calibrated, PairConfig):
    """Conservative DPO, for pairs of which some are swapped (E. Mitchell, 2023)."""

    loss: ClassVar[str] = "cdpo"
    name: Literal["cdpo"] = key("cdpo", "this objective")
    beta: float = key(0.1, "inverse temperature", above=0)
    epsilon: float = key(0.1, "share of the pairs that are swapped", at_least=0, below=0.5)

    def check_calibration(self) -> None:
        """Raise ConfigError where no pair is swapped, and the optimum has no rejected samples."""
        if not self.epsilon:
            raise ConfigError(
                "objective.calibrate needs objective.epsilon above 0: with clean pairs no rejected"
                " sample is left at the optimum, whatever beta is"
            )

    def calibrated(self, mass: float, shares: "Shares") -> float:
        """Return β: the odds of a pair are ((1−ε)/ε)^(1/β) at the optimum (theory §16)."""
        return math.log((1 - self.epsilon) / self.epsilon) / log_odds_ratio(mass, shares)


@dataclass
class RobustDPOConfig(PairConfig):
    """Robust DPO, unbiased where a known share of pairs is swapped, arXiv 2403.00409."""

    loss: ClassVar[str] = "robust_dpo"
    name: Literal["robust_dpo"] = key("robust_dpo", "this objective")
    beta: float = key(0.1, "inverse temperature", above=0)
    epsilon: float = key(0.1, "share of the pairs that are swapped", at_least=0, below=0.5)

    def warning(self, feedback: str, shares: "Shares") -> str | None:
        """Return that clean pairs leave the loss without a lower bound."""
        if not self.epsilon:
            return None
        return (
            f"objective.epsilon={self.epsilon:g} takes that share of the pairs to be swapped: where"
            " none is, the loss has no lower bound; cdpo has one"
        )


@dataclass
class IPOConfig(Calibrated, PairConfig):
    """IPO, arXiv 2310.12036 eq. 17."""

    loss: ClassVar[str] = "ipo"
    strength_key: ClassVar[str] = "tau"
    name: Literal["ipo"] = key("ipo", "this objective")
    tau: float = key(0.1, "the difference of a pair is drawn to 1/(2τ)", above=0)
    per_token: bool = key(False, "whether log-ratios are divided by the number of tokens")

    def calibrated(self, mass: float, shares: "Shares") -> float:
        """Return τ: the odds of a pair are e^(1/(2τ)) at the optimum (theory §16)."""
        return 1 / (2 * log_odds_ratio(mass, shares))


@dataclass
class EXOPrefConfig(Calibrated, PairConfig):
    """EXO on pairs, the reverse KL, arXiv 2402.00856."""

    loss: ClassVar[str] = "exo_pref"
    name: Literal["exo_pref"] = key("exo_pref", "this objective")
    beta: float = key(0.1, "inverse temperature", above=0)
    epsilon: float = key(1e-3, "probability that a pair is swapped", above=0, below=0.5)

    def calibrated(self, mass: float, shares: "Shares") -> float:
        """Return β: the odds of a pair are ((1−ε)/ε)^(1/β) at the optimum (theory §16)."""
        return math.log((1 - self.epsilon) / self.epsilon) / log_odds_ratio(mass, shares)


@dataclass
class RPOConfig(PairConfig):
    """Regularised preference optimisation: DPO and imitation, arXiv 2405.16436 eq. 4.8."""

    loss: ClassVar[str] = "rpo"
    name: Literal["rpo"] = key("rpo", "this objective")
    beta: float = key(0.01, "inverse temperature", above=0)
    eta: float = key(0.005, "weight of imitation is η·β", at_least=0)
    per_token: bool = key(
        False, "whether imitation is of the mean over tokens instead of the paper's sum"
    )


@dataclass
class DPOPositiveConfig(PairConfig):
    """DPO-positive: DPO that keeps the preferred sample likely, arXiv 2402.13228."""

    loss: ClassVar[str] = "dpo_positive"
    name: Literal["dpo_positive"] = key("dpo_positive", "this objective")
    beta: float = key(0.3, "inverse temperature", above=0)
    penalty: float = key(50.0, "λ, the weight of what the preferred sample lost", at_least=0)


@dataclass
class SimPOConfig(PairConfig):
    """SimPO: log-probabilities per token and no reference, arXiv 2405.14734 eq. 6."""

    implementation: ClassVar[str] = "suite.objectives.free_pairs:bind"
    loss: ClassVar[str] = "simpo"
    name: Literal["simpo"] = key("simpo", "this objective")
    beta: float = key(2.0, "inverse temperature", above=0)
    gamma: float = key(1.0, "margin", at_least=0)


@dataclass
class ORPOConfig(PairConfig):
    """ORPO: imitation and the ratio of odds, no reference, arXiv 2403.07691 eq. 6."""

    implementation: ClassVar[str] = "suite.objectives.free_pairs:bind"
    loss: ClassVar[str] = "orpo"
    strength_key: ClassVar[str] = "weight"
    needs_probabilities: ClassVar[bool] = True
    name: Literal["orpo"] = key("orpo", "this objective")
    weight: float = key(0.1, "λ, the weight of the ratio of odds", at_least=0)


@dataclass
class AdaDPOConfig(PairConfig):
    """DPO with a scale of its own for each pair, arXiv 2406.02764."""

    loss: ClassVar[str] = "ada_dpo"
    strength_key: ClassVar[str] = "tau_max"
    name: Literal["ada_dpo"] = key("ada_dpo", "this objective")
    rho: float = key(0.1, "ρ₀: how much certainty costs, in nats", above=0, below=math.log(2))
    tau_min: float = key(0.1, "smallest scale", above=0)
    tau_max: float = key(5.0, "largest scale", above=0)


@dataclass
class AltPOConfig(PairConfig):
    """AltPO: alternates against what is to be forgotten, arXiv 2409.13474."""

    loss: ClassVar[str] = "altpo"
    name: Literal["altpo"] = key("altpo", "this objective")
    beta: float = key(0.1, "inverse temperature", above=0)
    retain: float = key(0.0, "λ, the weight of imitating the alternates", at_least=0)


@dataclass
class BPRConfig(PairConfig):
    """BPR: DPO with a uniform reference (UAI 2009)."""

    implementation: ClassVar[str] = "suite.objectives.free_pairs:bind"
    loss: ClassVar[str] = "bpr"
    name: Literal["bpr"] = key("bpr", "this objective")
    beta: float = key(1.0, "inverse temperature", above=0)


@dataclass
class VarBPRConfig(LossConfig):
    """Variational BPR: several accepted against several rejected samples, arXiv 2503.11067."""

    implementation: ClassVar[str] = "suite.objectives.free_pairs:bind"
    loss: ClassVar[str] = "var_bpr"
    learns_from: ClassVar[str] = "both"
    strength_key: ClassVar[str] = "temperature_rejected"
    compares_samples: ClassVar[bool] = True
    name: Literal["var_bpr"] = key("var_bpr", "this objective")
    temperature_accepted: float = key(4.0, "c⁺ of the weights of accepted samples", above=0)
    temperature_rejected: float = key(4.0, "c⁻ of the weights of rejected samples", above=0)
    exact: bool = key(False, "whether pairs are compared one by one, not by their mean")
