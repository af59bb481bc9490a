"""Objectives of pairs: a link of Δ = r(y⁺) − r(y⁻), with r(y) = log π(y|x) − log π_ref(y|x).

Shapes: B contexts, K samples per context, P pairs per context. Which samples are compared says
`pairs` (suite.objectives.pairing). Sources stand beside the equations.
"""

import math
from collections.abc import Callable
from functools import cache

from torch import Tensor

from suite.feedback.feedback import Feedback
from suite.objectives.base import Terms
from suite.objectives.bound import BoundLoss
from suite.objectives.inputs import log_ratio, logistic_loss, token_mean
from suite.objectives.loss_config import LossConfig
from suite.objectives.pairing import Pairs, PairTerms, pair_terms, pair_up


def cdpo(feedback: Feedback, *, pairs: str, beta: float, epsilon: float) -> PairTerms:
    """Return −(1−ε)·log σ(βΔ) − ε·log σ(−βΔ): DPO for pairs of which a share ε is swapped.

    Source: E. Mitchell, "A note on DPO with noisy preferences and relationship to IPO", 2023.
    """
    pair, delta = ratio_pairs(feedback, pairs)
    loss = (1 - epsilon) * logistic_loss(beta * delta) + epsilon * logistic_loss(-beta * delta)
    return pair_terms(feedback, pair, loss, delta)


def robust_dpo(feedback: Feedback, *, pairs: str, beta: float, epsilon: float) -> PairTerms:
    """Return [(1−ε)·ℓ(Δ) − ε·ℓ(−Δ)]/(1−2ε), ℓ(Δ) = −log σ(βΔ) (arXiv 2403.00409).

    Its mean over labels that are swapped with probability ε is DPO's loss on the clean ones.
    """
    pair, delta = ratio_pairs(feedback, pairs)
    loss = (1 - epsilon) * logistic_loss(beta * delta) - epsilon * logistic_loss(-beta * delta)
    return pair_terms(feedback, pair, loss / (1 - 2 * epsilon), delta)


def ipo(feedback: Feedback, *, pairs: str, tau: float, per_token: bool) -> PairTerms:
    """Return (Δ − 1/(2τ))² (arXiv 2310.12036, eq. 17); `per_token` divides each r by its length."""
    ratio = log_ratio(feedback)
    pair = pair_up(feedback, pairs)
    delta = pair.difference(ratio / feedback.lengths() if per_token else ratio)
    return pair_terms(feedback, pair, (delta - 1 / (2 * tau)).square(), delta)


def exo_pref(feedback: Feedback, *, pairs: str, beta: float, epsilon: float) -> PairTerms:
    """Return KL(softmax(β·r⁺, β·r⁻) ‖ (1−ε, ε)), the reverse KL (arXiv 2402.00856)."""
    pair, delta = ratio_pairs(feedback, pairs)
    x = beta * delta
    loss = x.sigmoid() * (-logistic_loss(x) - math.log1p(-epsilon))
    loss = loss + (-x).sigmoid() * (-logistic_loss(-x) - math.log(epsilon))
    return pair_terms(feedback, pair, loss, delta)


def rpo(feedback: Feedback, *, pairs: str, beta: float, eta: float, per_token: bool) -> PairTerms:
    """Return −log σ(βΔ) − η·β·log π(y⁺) (arXiv 2405.16436, eq. 4.8).

    log π(y⁺) is the sum over tokens as in the paper's code, or their mean with `per_token`.
    """
    pair, delta = ratio_pairs(feedback, pairs)
    imitated, _ = pair.of(token_mean(feedback) if per_token else feedback.logp)
    return pair_terms(feedback, pair, logistic_loss(beta * delta) - eta * beta * imitated, delta)


def dpo_positive(feedback: Feedback, *, pairs: str, beta: float, penalty: float) -> PairTerms:
    """Return −log σ(β·[Δ − λ·max(0, −r(y⁺))]) (arXiv 2402.13228)."""
    ratio = log_ratio(feedback)
    pair = pair_up(feedback, pairs)
    better, worse = pair.of(ratio)
    delta = better - worse
    loss = logistic_loss(beta * (delta - penalty * (-better).clamp(min=0)))
    return pair_terms(feedback, pair, loss, delta)


def ada_dpo(
    feedback: Feedback, *, pairs: str, rho: float, tau_min: float, tau_max: float
) -> PairTerms:
    """Return min over τ of −τ·log σ(Δ/τ) + (ρ − log 2)·τ, τ_min ≤ τ ≤ τ_max (arXiv 2406.02764).

    The minimum has a closed form: τ = |Δ|/u, where the binary entropy of σ(u) is log 2 − ρ.
    """
    pair, delta = ratio_pairs(feedback, pairs)
    tau = (delta.detach().abs() / confidence(rho)).clamp(tau_min, tau_max)
    loss = tau * logistic_loss(delta / tau) + (rho - math.log(2)) * tau
    return pair_terms(feedback, pair, loss, delta)


def altpo(feedback: Feedback, *, pairs: str, beta: float, retain: float) -> PairTerms:
    """Return −(2/β)·log σ(βΔ) − λ·log π(y⁺) per token: AltPO, arXiv 2409.13474.

    y⁺ is an alternate answer, y⁻ the answer to forget. The paper's retained data are other prompts;
    here λ weighs the alternates themselves, and is 0 by default.
    """
    pair, delta = ratio_pairs(feedback, pairs)
    retained, _ = pair.of(token_mean(feedback))
    loss = 2 / beta * logistic_loss(beta * delta) - retain * retained
    return pair_terms(feedback, pair, loss, delta)


def ratio_pairs(feedback: Feedback, pairs: str) -> tuple[Pairs, Tensor]:
    """Return the pairs and their Δ, [B, P]."""
    ratio = log_ratio(feedback)
    pair = pair_up(feedback, pairs)
    return pair, pair.difference(ratio)


@cache
def confidence(rho: float) -> float:
    """Return u > 0 at which the binary entropy of σ(u) is log 2 − ρ, by bisection."""
    low, high = 0.0, 1e3
    for _ in range(100):
        u = (low + high) / 2
        p = 1 / (1 + math.exp(-u))
        entropy = math.log1p(math.exp(-u)) + (1 - p) * u
        low, high = (u, high) if entropy > math.log(2) - rho else (low, u)
    return high


LOSSES: dict[str, Callable[..., Terms]] = {
    "cdpo": cdpo,
    "robust_dpo": robust_dpo,
    "ipo": ipo,
    "exo_pref": exo_pref,
    "rpo": rpo,
    "dpo_positive": dpo_positive,
    "ada_dpo": ada_dpo,
    "altpo": altpo,
}


def bind(settings: LossConfig, feedback: str, dimensions: int | None) -> BoundLoss:
    """Bind the settings; raises ConfigError where the labels that are left hold no pair."""
    return BoundLoss(settings, feedback, LOSSES[settings.loss])
