"""Objectives of single samples: Σ a·f⁺(r) + b·f⁻(r), with r = log π − log π_ref.

a and b are the weights of accepted and rejected samples, and the sum is a mean over all samples,
so that it splits over batches and ranks. Shapes: B contexts, K samples per context. Sources stand
beside the equations.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from suite.feedback.feedback import Feedback, Labels
from suite.objectives.base import Terms
from suite.objectives.bound import BoundLoss
from suite.objectives.inputs import (
    check_shapes,
    log_ratio,
    logistic_loss,
    present,
    reverse_kl,
    scores,
    token_mean,
)
from suite.objectives.loss_config import LossConfig


class SingleTerms(NamedTuple):
    """The two parts of the loss."""

    accepted: Tensor
    """[] Σ a·f⁺, a mean over samples by the weights of their contexts."""
    rejected: Tensor
    """[] Σ b·f⁻, likewise."""

    @property
    def loss(self) -> Tensor:
        """[] their sum."""
        return self.accepted + self.rejected


def kto(feedback: Feedback, *, beta: float, desirable: float, undesirable: float) -> SingleTerms:
    """Return a·λ_D·(1 − σ(β(r − z₀))) + b·λ_U·(1 − σ(β(z₀ − r))) (arXiv 2402.01306, eq. 8).

    z₀ is KL(π ‖ π_ref) of the context, without gradient. The paper estimates it from completions of
    other prompts in the batch; here it is exact or from the context's own samples
    (suite.objectives.inputs.reverse_kl), so that a batch of one works.
    """
    ratio = log_ratio(feedback)
    x = beta * (ratio - reverse_kl(feedback, ratio))
    return terms(feedback, desirable * (-x).sigmoid(), undesirable * x.sigmoid())


def apo_zero(feedback: Feedback, *, beta: float) -> SingleTerms:
    """Return a·(1 − σ(βr)) + b·σ(βr) (arXiv 2408.06266)."""
    x = beta * log_ratio(feedback)
    return terms(feedback, (-x).sigmoid(), x.sigmoid())


def npo(feedback: Feedback, *, beta: float) -> SingleTerms:
    """Return b·(2/β)·log(1 + ρ^β), ρ = e^r (arXiv 2404.05868, eq. 3)."""
    ratio = log_ratio(feedback)
    return terms(feedback, None, 2 / beta * logistic_loss(-beta * ratio))


def simnpo(feedback: Feedback, *, beta: float, gamma: float) -> SingleTerms:
    """Return −b·(2/β)·log σ(−β·ℓ − βγ), ℓ the token mean of log π (arXiv 2410.07163)."""
    x = beta * (token_mean(feedback) + gamma)
    return terms(feedback, None, 2 / beta * logistic_loss(-x))


def topr(feedback: Feedback, *, reward: str, per_token: bool) -> SingleTerms:
    """Return −R·c·log π with c = 1 for R > 0 and min(ρ, 1), without gradient, for R < 0.

    R is 1 or −1 by the labels, or the score. `per_token` divides by the length. Source: arXiv
    2503.14286, eq. 8 with truncation at 0 and 1 for rejected samples only.
    """
    ratio = log_ratio(feedback)
    logp = token_mean(feedback) if per_token else feedback.logp
    taper = ratio.detach().clamp(max=0).exp()
    return terms(feedback, -logp, taper * logp, labels_of(feedback, reward))


def d2o(feedback: Feedback, *, beta: float, alpha: float) -> SingleTerms:
    """Return −b·log σ(−β·KL(π_ref ‖ π) − α·r) (arXiv 2403.03419).

    The KL is exact in place of the paper's mean over self-samples: their limit (theory §16).
    """
    x = beta * feedback.kl[:, None] + alpha * log_ratio(feedback)
    return terms(feedback, None, logistic_loss(-x))


def bco(feedback: Feedback, *, beta: float, shift: Tensor) -> SingleTerms:
    """Return −a·log σ(βr − δ) − b·log σ(−(βr − δ)) (arXiv 2404.04656).

    The shift δ [] is trained with the policy, or the running mean of βr.
    """
    x = beta * log_ratio(feedback) - shift
    return terms(feedback, logistic_loss(x), logistic_loss(-x))


def labels_of(feedback: Feedback, reward: str) -> Labels:
    """Return the labels, or the parts of the scores above and below 0; [B, K] each."""
    if reward == "labels":
        return Labels(feedback.accept, feedback.reject)
    score, _ = present(scores(feedback))
    return Labels(score.clamp(min=0), (-score).clamp(min=0))


def terms(
    feedback: Feedback, accepted: Tensor | None, rejected: Tensor, labels: Labels | None = None
) -> SingleTerms:
    """Return the means of f⁺ and f⁻ [B, K] under the labels; None stands for 0."""
    check_shapes(feedback)
    accept, reject = labels or Labels(feedback.accept, feedback.reject)
    zero = torch.zeros((), dtype=rejected.dtype, device=rejected.device)
    return SingleTerms(
        zero if accepted is None else feedback.weighted(accept * accepted).mean(),
        feedback.weighted(reject * rejected).mean(),
    )


LOSSES: dict[str, Callable[..., Terms]] = {
    "kto": kto,
    "apo_zero": apo_zero,
    "npo": npo,
    "simnpo": simnpo,
    "topr": topr,
    "d2o": d2o,
}


def bind(settings: LossConfig, feedback: str, dimensions: int | None) -> BoundLoss:
    """Bind the settings; raises ConfigError where the labels that are left teach nothing."""
    return BoundLoss(settings, feedback, LOSSES[settings.loss])
