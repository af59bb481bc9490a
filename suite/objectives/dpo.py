"""DPO on groups of samples: the best against the worst of a group, or all pairs.

Shapes: B contexts, K samples per context. Source: arXiv 2305.18290, eq. 7.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from suite.config.fields import ConfigError
from suite.feedback.feedback import Feedback, Shares
from suite.objectives.config import DPOConfig


class DPOTerms(NamedTuple):
    """The loss and its diagnostics."""

    dpo: Tensor
    """[] −log σ(β·Δ), a mean over the pairs of a context, then over contexts by their weights."""
    pair_accuracy: Tensor
    """[] share of pairs that the policy's implicit reward orders as the scores do."""

    @property
    def loss(self) -> Tensor:
        """[] the DPO loss."""
        return self.dpo


def dpo(feedback: Feedback, *, beta: float, pairs: str = "best_worst") -> DPOTerms:
    """Return −log σ(β(r(y⁺) − r(y⁻))), r(y) = log π(y|x) − log π_ref(y|x) (eq. 7).

    Pairs are ordered by `feedback.score` (accept − reject without scores). `best_worst` compares
    the first best with the first worst sample of a context, `all` every pair of unequal score.
    A context whose scores are all equal holds no pair and contributes 0. Samples whose score is NaN
    are not there.
    Raises ValueError without reference log-probabilities, for contexts of one sample, or for
    unknown `pairs`.
    """
    if feedback.reference_logp is None:
        raise ValueError("dpo needs feedback.reference_logp")
    if feedback.logp.shape[1] < 2:
        raise ValueError("dpo compares completions of one context; each has only one here")
    score = feedback.accept - feedback.reject if feedback.score is None else feedback.score
    reward = feedback.logp - feedback.reference_logp
    if pairs == "best_worst":
        valid, difference = best_against_worst(score, reward)
    elif pairs == "all":
        valid, difference = all_pairs(score, reward)
    else:
        raise ValueError(f"pairs must be 'best_worst' or 'all', found {pairs!r}")
    weight = valid.to(reward.dtype)
    loss = (weight * -logsigmoid(beta * difference)).sum(1) / weight.sum(1).clamp(min=1)
    correct = (weight * (difference > 0)).sum() / weight.sum().clamp(min=1)
    return DPOTerms(feedback.weighted(loss).mean(), correct.detach())


def best_against_worst(score: Tensor, reward: Tensor) -> tuple[Tensor, Tensor]:
    """Return which contexts hold a pair, and its reward difference; both [B, 1]."""
    absent = score.isnan()
    best = score.masked_fill(absent, -torch.inf).argmax(1, keepdim=True)
    worst = score.masked_fill(absent, torch.inf).argmin(1, keepdim=True)
    valid = score.gather(1, best) > score.gather(1, worst)
    return valid, reward.gather(1, best) - reward.gather(1, worst)


def all_pairs(score: Tensor, reward: Tensor) -> tuple[Tensor, Tensor]:
    """Return which ordered pairs count, and their reward differences; both [B, K·K]."""
    valid = score[:, :, None] > score[:, None, :]
    difference = reward[:, :, None] - reward[:, None, :]
    return valid.flatten(1), difference.flatten(1)


@dataclass(frozen=True)
class BoundDPO:
    """DPO with its settings."""

    settings: DPOConfig

    def __call__(self, feedback: Feedback, shares: Shares) -> DPOTerms:
        """Return the loss terms of one batch; raises ConfigError for rows without any pairs."""
        if feedback.logp.shape[1] < 2:
            raise ConfigError(
                "objective.name=dpo compares completions of one context, and each has only one"
                " here; objective.name=pmpo learns from such rows"
            )
        return dpo(feedback, beta=self.settings.beta, pairs=self.settings.pairs)

    def warning(self, shares: Shares) -> str | None:
        """DPO is bounded for any labels."""
        return None


def bind(settings: DPOConfig, feedback: str, dimensions: int | None) -> BoundDPO:
    """Bind the settings; `feedback` is always mixed."""
    return BoundDPO(settings)
