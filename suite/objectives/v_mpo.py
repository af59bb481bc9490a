"""V-MPO: the better half of a batch, weighted by its advantages, under a constraint on the KL.

Shapes: B contexts, K samples per context. Source: arXiv 1909.12238, eq. 3 to 6.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus
from typing_extensions import override

from suite.feedback.feedback import Feedback, Shares
from suite.objectives.groups_config import VMPOConfig
from suite.objectives.inputs import check_shapes, mean_score, present, scores
from suite.objectives.mpo import SMALLEST_DUAL, inverse_softplus


class VMPOTerms(NamedTuple):
    """The terms, which sum to the loss, and diagnostics."""

    weighted: Tensor
    """[] −Σ ψ·log π over the better half of the batch."""
    constraint: Tensor
    """[] multiplier times the divergence, with gradient for the policy only."""
    temperature_dual: Tensor
    """[] the dual function of the temperature, with gradient for it only."""
    multiplier_dual: Tensor
    """[] multiplier times slack of the constraint, with gradient for the multiplier only."""
    temperature: Tensor
    """[] η, in units of the score."""
    multiplier: Tensor
    """[] the multiplier of the divergence."""

    @property
    def loss(self) -> Tensor:
        """[] the sum of the four terms."""
        return self.weighted + self.constraint + self.temperature_dual + self.multiplier_dual


def v_mpo(
    feedback: Feedback,
    *,
    reward: str,
    temperature: Tensor,
    multiplier: Tensor,
    epsilon_temperature: float,
    epsilon_kl: float,
) -> VMPOTerms:
    """Return the terms of V-MPO's loss, with KL(π_ref ‖ π) as its constraint.

    The advantage A is the score less its context's mean, or, with one sample per context, the score
    itself. ψ is the softmax of A / η over the half of all samples of the batch with the largest A,
    ties with the smallest of them included, weighted by their contexts. Because the half is one of
    the batch, the loss depends on how samples are split over batches.
    """
    check_shapes(feedback)
    score, there = present(scores(feedback, reward))
    weight = feedback.weighted(there.to(score.dtype))
    several = feedback.logp.shape[1] > 1
    advantage = score - mean_score(score, there.to(score.dtype)) if several else score
    chosen = better_half(advantage, weight > 0)
    logits = (advantage / temperature + weight.log()).masked_fill(~chosen, -torch.inf)
    # A batch in which nothing counts has no weights, and leaves all as it is.
    logits = logits if bool(chosen.any()) else torch.zeros_like(logits)
    psi = logits.flatten().detach().softmax(0).view(logits.shape) * chosen
    total = (weight * chosen).sum()
    log_mean = logits.flatten().logsumexp(0) - total.where(total > 0, 1).log()
    kl = feedback.weighted(feedback.kl).mean()
    return VMPOTerms(
        weighted=-(psi * feedback.logp).sum(),
        constraint=multiplier.detach() * kl,
        temperature_dual=temperature * (epsilon_temperature + log_mean),
        multiplier_dual=multiplier * (epsilon_kl - kl.detach()),
        temperature=temperature.detach(),
        multiplier=multiplier.detach(),
    )


def better_half(advantage: Tensor, counts: Tensor) -> Tensor:
    """Return which samples have at least the median advantage of those that count, [B, K]."""
    values = advantage[counts].sort(descending=True).values
    if not len(values):
        return counts
    return counts & (advantage >= values[math.ceil(len(values) / 2) - 1])


class BoundVMPO(nn.Module):
    """V-MPO with its settings and its two dual variables, kept positive by a softplus."""

    def __init__(self, settings: VMPOConfig) -> None:
        super().__init__()
        self.settings = settings
        self.dual_lr = settings.dual_lr
        self.temperature = nn.Parameter(inverse_softplus(settings.temperature, ()))
        self.multiplier = nn.Parameter(inverse_softplus(settings.multiplier, ()))

    @override
    def forward(self, feedback: Feedback, shares: Shares) -> VMPOTerms:
        """Return the loss terms of one batch."""
        return v_mpo(
            feedback,
            reward=self.settings.reward,
            temperature=softplus(self.temperature) + SMALLEST_DUAL,
            multiplier=softplus(self.multiplier) + SMALLEST_DUAL,
            epsilon_temperature=self.settings.epsilon_temperature,
            epsilon_kl=self.settings.epsilon_kl,
        )

    def warning(self, shares: Shares) -> str | None:
        """V-MPO is bounded for any scores."""
        return None


def bind(settings: VMPOConfig, feedback: str, dimensions: int | None) -> BoundVMPO:
    """Bind the settings; `feedback` is always mixed."""
    settings.check_feedback(feedback)
    return BoundVMPO(settings)
