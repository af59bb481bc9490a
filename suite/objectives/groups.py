"""Objectives of groups: K samples of a context with scores.

Shapes: B contexts, K samples per context. A sample whose score is NaN is not there. Sources stand
beside the equations; RWR, AWR and CRR are in suite.objectives.weighted, V-MPO in v_mpo.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from suite.feedback.feedback import Feedback
from suite.objectives.base import Terms
from suite.objectives.bound import BoundLoss
from suite.objectives.inputs import (
    check_shapes,
    log_ratio,
    logistic_loss,
    masked_log_softmax,
    present,
    scores,
    token_mean,
)
from suite.objectives.loss_config import LossConfig


class GroupTerms(NamedTuple):
    """The loss and a diagnostic."""

    group: Tensor
    """[] the loss, a mean over contexts by their weights."""
    largest_weight: Tensor
    """[] the mean over contexts of the largest of the targets of a context's samples."""

    @property
    def loss(self) -> Tensor:
        """[] the loss."""
        return self.group


class Target(NamedTuple):
    """What the scores of each context ask for."""

    score: Tensor  # [B, K], 0 for absent samples
    there: Tensor  # [B, K] which samples are there
    log_weight: Tensor  # [B, K] log-softmax of score / temperature


def exo_rw(feedback: Feedback, *, reward: str, beta: float, temperature: float) -> GroupTerms:
    """Return KL(softmax(β·r) ‖ softmax(R/T)) over the samples of a context (arXiv 2402.00856).

    With all outcomes in the group the optimum is π_ref·e^{R/(Tβ)} up to its sum.
    """
    target = targets(feedback, reward, temperature)
    ours = masked_log_softmax(beta * log_ratio(feedback), target.there)
    divergence = ours.exp() * (ours - target.log_weight) * target.there
    return terms(feedback, target, divergence.sum(1))


def dpo_rw(feedback: Feedback, *, reward: str, beta: float, temperature: float) -> GroupTerms:
    """Return KL(softmax(R/T) ‖ softmax(β·r)): the forward KL of `exo_rw` (arXiv 2402.00856)."""
    target = targets(feedback, reward, temperature)
    ours = masked_log_softmax(beta * log_ratio(feedback), target.there)
    divergence = target.log_weight.exp() * (target.log_weight - ours) * target.there
    return terms(feedback, target, divergence.sum(1))


def nca(feedback: Feedback, *, reward: str, beta: float, temperature: float) -> GroupTerms:
    """Return −Σ softmax(R/T)·log σ(βr) − (1/K)·Σ log σ(−βr) (arXiv 2402.05369)."""
    target = targets(feedback, reward, temperature)
    x = beta * log_ratio(feedback)
    weight = target.log_weight.exp() * target.there
    count = target.there.sum(1, keepdim=True).clamp(min=1)
    loss = weight * logistic_loss(x) + target.there / count * logistic_loss(-x)
    return terms(feedback, target, loss.sum(1))


def neat(feedback: Feedback, *, reward: str) -> GroupTerms:
    """Return Σ over R_i > R_j of max(0, ℓ_j − ℓ_i), less ℓ of the best; ℓ is the token mean.

    The ranking loss over an expanded set and the likelihood of its best member of arXiv 2410.12194,
    in the form of RRHF (arXiv 2304.05302, eq. 2 and 3); the paper's own weights were not found.
    """
    target = targets(feedback, reward, 1.0)
    mean = token_mean(feedback)
    ordered = target.score[:, :, None] > target.score[:, None, :]
    ordered = ordered & target.there[:, :, None] & target.there[:, None, :]
    hinge = (mean[:, None, :] - mean[:, :, None]).clamp(min=0)
    best = target.score.masked_fill(~target.there, -torch.inf).argmax(1, keepdim=True)
    imitated = mean.gather(1, best)[:, 0] * target.there.any(1)
    return terms(feedback, target, hinge.where(ordered, 0).sum((1, 2)) - imitated)


def targets(feedback: Feedback, reward: str, temperature: float) -> Target:
    """Return what the scores ask for; raises ValueError for shapes that differ, or no scores."""
    check_shapes(feedback)
    score, there = present(scores(feedback, reward))
    return Target(score, there, masked_log_softmax(score / temperature, there))


def terms(feedback: Feedback, target: Target, loss: Tensor) -> GroupTerms:
    """Return the terms for the losses of contexts, [B]."""
    largest = (target.log_weight.exp() * target.there).amax(1).mean()
    return GroupTerms(feedback.weighted(loss).mean(), largest)


LOSSES: dict[str, Callable[..., Terms]] = {
    "exo_rw": exo_rw,
    "dpo_rw": dpo_rw,
    "nca": nca,
    "neat": neat,
}


def bind(settings: LossConfig, feedback: str, dimensions: int | None) -> BoundLoss:
    """Bind the settings; `feedback` is always mixed."""
    return BoundLoss(settings, feedback, LOSSES[settings.loss])
