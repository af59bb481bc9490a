"""REINFORCE with a baseline, a scale and a weight of what is above it: one family of objectives.

REINFORCE, RLOO, Dr. GRPO, GRPO, PSR, NSR, W-REINFORCE and AsymRE are its settings
(docs/objectives.md). Shapes: B contexts, K samples per context.
"""

import torch
from torch import Tensor

from suite.feedback.feedback import Feedback
from suite.objectives.bound import BoundLoss
from suite.objectives.inputs import check_shapes, mean_score, present, scores
from suite.objectives.loss_config import LossConfig
from suite.objectives.singles import SingleTerms

LARGEST_LOG_RATIO = 20.0  # of the clipped form, whose ratio would overflow


def reinforce(
    feedback: Feedback,
    *,
    reward: str,
    baseline: str,
    offset: float,
    scale: str,
    positive: float,
    clip: float | None,
    per_token: bool,
) -> SingleTerms:
    """Return −A·log π, a mean over samples, split in A > 0 and A ≤ 0; A has no gradient.

    A = (R − baseline − offset) / scale, times `positive` where it is above 0. R is 1 or −1 by the
    labels or the score; the baseline is 0, the context's mean, or the mean of its other samples
    (RLOO, arXiv 2402.14740); the scale is 1 or the context's deviation (GRPO, arXiv 2402.03300,
    §4.1); the offset is δV of AsymRE (arXiv 2506.20520) and `positive` λ of W-REINFORCE (arXiv
    2506.01347). With `clip` ε the sample's loss is −min(ρA, clip(ρ, 1−ε, 1+ε)·A), per token where
    there are tokens (PPO, arXiv 1707.06347, eq. 7). `per_token` divides by the length, as GRPO.

    Samples without a label count neither in the loss nor in the context's mean.
    Raises ValueError for shapes that differ, unknown settings, or missing scores.
    """
    check_shapes(feedback)
    value, weight = rewards(feedback, reward)
    advantage = weight * advantages(value, weight, baseline, offset, scale)
    advantage = torch.where(advantage > 0, positive * advantage, advantage).detach()
    gain = advantage * feedback.logp if clip is None else clipped(feedback, advantage, clip)
    gain = gain / feedback.lengths() if per_token else gain
    good = advantage > 0
    return SingleTerms(
        accepted=-feedback.weighted(gain.where(good, 0)).mean(),
        rejected=-feedback.weighted(gain.where(~good, 0)).mean(),
    )


def rewards(feedback: Feedback, reward: str) -> tuple[Tensor, Tensor]:
    """Return R and the weight of each sample, [B, K] each; by labels R is between −1 and 1."""
    if reward == "score":
        value, there = present(scores(feedback))
        return value, there.to(value.dtype)
    if reward != "labels":
        raise ValueError(f"reward must be 'labels' or 'score', found {reward!r}")
    weight = feedback.accept + feedback.reject
    return (feedback.accept - feedback.reject) / weight.where(weight > 0, 1), weight


def advantages(value: Tensor, weight: Tensor, baseline: str, offset: float, scale: str) -> Tensor:
    """Return (R − baseline − offset) / scale, [B, K]; 0 where the scale is 0."""
    mean = mean_score(value, weight)
    if baseline == "none":
        advantage = value - offset
    elif baseline == "mean":
        advantage = value - mean - offset
    elif baseline == "leave_one_out":
        others = weight.sum(1, keepdim=True) - weight
        total = (weight * value).sum(1, keepdim=True) - weight * value
        # A sample alone has no baseline, and teaches nothing.
        advantage = (value - total / others.where(others > 0, 1) - offset) * (others > 0)
    else:
        raise ValueError(f"baseline must be none, mean or leave_one_out, found {baseline!r}")
    if scale == "none":
        return advantage
    if scale != "deviation":
        raise ValueError(f"scale must be none or deviation, found {scale!r}")
    deviation = mean_score((value - mean).square(), weight).sqrt()
    # Of equal rewards the deviation is rounding.
    some = deviation > value.abs().amax(1, keepdim=True) * 8 * torch.finfo(value.dtype).eps
    return torch.where(some, advantage / deviation.where(some, 1), 0)


def clipped(feedback: Feedback, advantage: Tensor, clip: float) -> Tensor:
    """Return min(ρA, clip(ρ)·A) per sample, summed over its tokens where there are any, [B, K]."""
    if feedback.tokens is None:
        if feedback.reference_logp is None:
            raise ValueError("clip needs feedback.reference_logp")
        return surrogate(feedback.logp - feedback.reference_logp, advantage, clip)
    logp, reference_logp, owner = feedback.tokens
    gain = surrogate(logp - reference_logp, advantage.flatten()[owner], clip)
    summed = gain.new_zeros(feedback.logp.numel()).index_add(0, owner, gain)
    return summed.view(feedback.logp.shape)


def surrogate(ratio: Tensor, advantage: Tensor, clip: float) -> Tensor:
    """Return min(ρA, clip(ρ, 1−ε, 1+ε)·A) for log-ratios, in their shape."""
    rho = ratio.clamp(max=LARGEST_LOG_RATIO).exp()
    return torch.minimum(rho * advantage, rho.clamp(1 - clip, 1 + clip) * advantage)


def bind(settings: LossConfig, feedback: str, dimensions: int | None) -> BoundLoss:
    """Bind the settings."""
    return BoundLoss(settings, feedback, reinforce)
