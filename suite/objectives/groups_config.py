"""Settings of the objectives of groups, with the papers' defaults."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from suite.config.fields import ConfigError, key
from suite.objectives.calibration import Calibrated, accepted_share, log_odds_ratio
from suite.objectives.loss_config import LossConfig

if TYPE_CHECKING:
    from suite.feedback.feedback import Shares


@dataclass
class GroupConfig(LossConfig):
    """An objective of groups of samples with scores."""

    implementation: ClassVar[str] = "suite.objectives.groups:bind"
    learns_from: ClassVar[str] = "scores"
    compares_samples: ClassVar[bool] = True
    reward: Literal["score", "labels"] = key("score", "the judge's score, or ±1 by the labels")

    @property
    def sees_labels(self) -> bool:
        """Whether labels that are dropped or swapped change what it learns."""
        return self.reward == "labels"


@dataclass
class TiltConfig(Calibrated, GroupConfig):
    """An objective whose optimum is π_ref·e^(R/(T·β)) up to its sum, of NCA for β = 1 only."""

    beta: float = key(0.1, "inverse temperature of the policy's log-ratio", above=0)
    temperature: float = key(0.1, "T, of the scores", above=0)

    def check_calibration(self) -> None:
        """Raise ConfigError unless rewards are ±1."""
        check_rewards(self.reward)

    def calibrated(self, mass: float, shares: "Shares") -> float:
        """Return β: the odds are e^(2/(T·β)) for rewards of ±1 (theory §16)."""
        return 2 / (self.temperature * log_odds_ratio(mass, shares))


@dataclass
class EXORWConfig(TiltConfig):
    """EXO with scores, the reverse KL of a group, arXiv 2402.00856."""

    loss: ClassVar[str] = "exo_rw"
    name: Literal["exo_rw"] = key("exo_rw", "this objective")


@dataclass
class DPORWConfig(TiltConfig):
    """DPO with scores, the forward KL of a group, arXiv 2402.00856."""

    loss: ClassVar[str] = "dpo_rw"
    name: Literal["dpo_rw"] = key("dpo_rw", "this objective")


@dataclass
class NCAConfig(TiltConfig):
    """Noise-contrastive alignment, arXiv 2402.05369."""

    loss: ClassVar[str] = "nca"
    name: Literal["nca"] = key("nca", "this objective")
    beta: float = key(0.01, "inverse temperature of the policy's log-ratio", above=0)
    temperature: float = key(1.0, "T, of the scores", above=0)

    def calibrated(self, mass: float, shares: "Shares") -> float:
        """Return β: where the slopes of both kinds of sample are in proportion to π, by bisection.

        π_ref·e^(R/(T·β)) sums to 1 for β = 1 only, so that a policy ends elsewhere for others.
        """
        accepted = accepted_share(mass, shares)
        low, high = -50.0, 50.0  # log β; the slopes' difference rises with β
        for _ in range(200):
            middle = (low + high) / 2
            below = nca_slope(math.exp(middle), self.temperature, mass, accepted) < 0
            low, high = (middle, high) if below else (low, middle)
        return math.exp(low)


@dataclass
class NEATConfig(GroupConfig):
    """NEAT's ranking and imitation of the best, arXiv 2410.12194."""

    loss: ClassVar[str] = "neat"
    strength_key: ClassVar[str] = ""
    name: Literal["neat"] = key("neat", "this objective")


@dataclass
class VMPOConfig(GroupConfig):
    """V-MPO, arXiv 1909.12238."""

    implementation: ClassVar[str] = "suite.objectives.v_mpo:bind"
    strength_key: ClassVar[str] = "epsilon_kl"
    compares_samples: ClassVar[bool] = False
    needs_divergence: ClassVar[bool] = True
    name: Literal["v_mpo"] = key("v_mpo", "this objective")
    epsilon_temperature: float = key(
        0.01, "KL between the weighted samples and the batch, in nats", above=0
    )
    epsilon_kl: float = key(0.01, "largest KL(π_ref ‖ π), in nats", above=0)
    temperature: float = key(1.0, "initial temperature, in units of the score", above=0)
    multiplier: float = key(1.0, "initial multiplier of the KL's constraint", above=0)
    dual_lr: float = key(1e-2, "learning rate of temperature and multiplier", above=0)

    @property
    def uses_batch_statistics(self) -> bool:
        """The better half is one of the batch."""
        return True


@dataclass
class WeightedConfig(Calibrated):
    """Weighted maximum likelihood: CRR, arXiv 2006.15134, or AWR, arXiv 1910.00177."""

    implementation: ClassVar[str] = "suite.objectives.weighted:bind"
    loss: ClassVar[str] = "weighted"
    learns_from: ClassVar[str] = "scores"
    strength_key: ClassVar[str] = "temperature"
    name: Literal["weighted"] = key("weighted", "this objective")
    weight: Literal["binary", "exp", "reward"] = key(
        "binary",
        "1 where the advantage is at least 0, its exponential, or the exponential of the reward",
    )
    temperature: float = key(1.0, "temperature of the exponential, in units of the score", above=0)
    largest: float = key(20.0, "largest weight of the exponential", above=0)
    reward: Literal["score", "labels"] = key("score", "the judge's score, or ±1 by the labels")

    @property
    def sees_labels(self) -> bool:
        """Whether labels that are dropped or swapped change what it learns."""
        return self.reward == "labels"

    def check_calibration(self) -> None:
        """Raise ConfigError unless weights are exponentials of rewards of ±1."""
        check_rewards(self.reward)
        if self.weight == "binary":
            raise ConfigError(
                "objective.calibrate needs a temperature, and objective.weight=binary has none:"
                " use exp or reward"
            )

    def calibrated(self, mass: float, shares: "Shares") -> float:
        """Return T: the odds are e^(2/T) for rewards of ±1 (theory §16).

        Where the weight of an accepted sample is at its limit, only that of a rejected one is left.
        """
        log_odds, limit = log_odds_ratio(mass, shares), math.log(self.largest)
        # Of ±1 a context's mean is Z1 − Z0, where it has a mean taken off.
        better = 1.0 if self.weight == "reward" else 2 * (1 - accepted_share(mass, shares))
        if better * log_odds <= 2 * limit:
            return 2 / log_odds
        return (2 - better) / (log_odds - limit)


@dataclass
class AWRConfig(WeightedConfig):
    """AWR: the exponential of the advantage, arXiv 1910.00177 eq. 9."""

    name: Literal["awr"] = key("awr", "this objective")  # type: ignore[assignment]
    weight: Literal["exp"] = key("exp", "the exponential of the advantage")  # type: ignore[assignment]


@dataclass
class CRRConfig(WeightedConfig):
    """CRR: samples at or above their context's mean, arXiv 2006.15134."""

    name: Literal["crr"] = key("crr", "this objective")  # type: ignore[assignment]


@dataclass
class RWRConfig(WeightedConfig):
    """RWR: the exponential of the reward itself (ICML 2007)."""

    name: Literal["rwr"] = key("rwr", "this objective")  # type: ignore[assignment]
    weight: Literal["reward"] = key("reward", "the exponential of the reward")  # type: ignore[assignment]


def nca_slope(beta: float, temperature: float, mass: float, accepted: float) -> float:
    """Return NCA's slope per probability of accepted less that of rejected samples, R of ±1.

    The slopes are those for log π at the policy under which accepted samples have `mass`.
    """
    odds = math.exp(-2 / temperature)  # of a rejected sample's weight to an accepted one's
    total = accepted + (1 - accepted) * odds
    good, bad = mass / accepted, (1 - mass) / (1 - accepted)  # π/π_ref
    # σ(β·r), of r in the sign that cannot overflow
    share, other = 1 / (1 + good**-beta), 1 - 1 / (1 + bad**beta)
    slope = (share - (1 - share) / total) / good - (other - (1 - other) * odds / total) / bad
    return float(slope)


def check_rewards(reward: str) -> None:
    """Raise ConfigError unless rewards are ±1, for which the optimum has a closed form."""
    if reward != "labels":
        raise ConfigError(
            "objective.calibrate needs objective.reward=labels: with scores the optimum has no"
            f" closed form in the share of accepted samples; found {reward}"
        )
