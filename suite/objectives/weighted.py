"""Weighted maximum likelihood of good samples, as in CRR and AWR.

Shapes: B contexts, K samples per context. Sources: arXiv 2006.15134 (CRR, §3: binary and exp),
arXiv 1910.00177 (AWR, eq. 9).
"""

from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from suite.feedback.feedback import Feedback, Shares
from suite.objectives.config import WeightedConfig


class WeightedTerms(NamedTuple):
    """The loss and its diagnostics."""

    weighted: Tensor
    """[] −w(A)·log π, a mean over samples by the weights of their contexts."""
    mean_weight: Tensor
    """[] the mean of the weights."""

    @property
    def loss(self) -> Tensor:
        """[] the weighted loss."""
        return self.weighted


def weighted(
    feedback: Feedback, *, weight: str, temperature: float = 1.0, largest: float = 20.0
) -> WeightedTerms:
    """Return −mean w(A)·log π with w = 1[A ≥ 0] (`binary`) or min(exp(A / temperature), largest).

    A is the score less its context's mean, or, with one sample per context, the score itself.
    Raises ValueError without scores, or for an unknown `weight`.
    """
    if feedback.score is None:
        raise ValueError("weighted needs feedback.score")
    advantage = feedback.score
    if advantage.shape[1] > 1:
        advantage = advantage - advantage.mean(1, keepdim=True)
    if weight == "binary":
        factor = (advantage >= 0).to(feedback.logp.dtype)
    elif weight == "exp":
        factor = (advantage / temperature).exp().clamp(max=largest)
    else:
        raise ValueError(f"weight must be 'binary' or 'exp', found {weight!r}")
    return WeightedTerms(-feedback.weighted(factor * feedback.logp).mean(), factor.mean())


@dataclass(frozen=True)
class BoundWeighted:
    """Weighted likelihood with its settings."""

    settings: WeightedConfig

    def __call__(self, feedback: Feedback, shares: Shares) -> WeightedTerms:
        """Return the loss terms of one batch."""
        settings = self.settings
        return weighted(
            feedback,
            weight=settings.weight,
            temperature=settings.temperature,
            largest=settings.largest,
        )

    def warning(self, shares: Shares) -> str | None:
        """Weighted likelihood is bounded for any scores."""
        return None


def bind(settings: WeightedConfig, feedback: str, dimensions: int | None) -> BoundWeighted:
    """Bind the settings; `feedback` is always mixed."""
    return BoundWeighted(settings)
