"""Weighted maximum likelihood of good samples, as in CRR, AWR and RWR.

Shapes: B contexts, K samples per context. Sources: arXiv 2006.15134 (CRR, §3: binary and exp),
arXiv 1910.00177 (AWR, eq. 9), Peters and Schaal, ICML 2007 (RWR).
"""

import math
from typing import NamedTuple

from torch import Tensor

from suite.feedback.feedback import Feedback
from suite.objectives.bound import BoundLoss
from suite.objectives.groups_config import WeightedConfig
from suite.objectives.inputs import check_shapes, mean_score, present, scores


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
    feedback: Feedback,
    *,
    weight: str,
    temperature: float = 1.0,
    largest: float = 20.0,
    reward: str = "score",
) -> WeightedTerms:
    """Return −mean w·log π, w = 1[A ≥ 0] (`binary`), e^(A/T) (`exp`) or e^(R/T) (`reward`).

    R is the score, or ±1 by the labels; A is R less its context's mean, or, with one sample per
    context, R itself. The exponentials are at most `largest`. Samples that are not there (a score
    of NaN) weigh nothing, nor do those without a label where rewards are labels.
    Raises ValueError for shapes that differ, without scores, or for an unknown `weight`.
    """
    check_shapes(feedback)
    value, there = present(scores(feedback, reward))
    if reward == "labels":
        there = there & (feedback.accept + feedback.reject > 0)
    counts = there.to(value.dtype)
    several = value.shape[1] > 1 and weight != "reward"
    advantage = value - mean_score(value, counts) if several else value
    if weight == "binary":
        factor = (advantage >= 0).to(feedback.logp.dtype)
    elif weight in ("exp", "reward"):
        # The limit comes first: of a large exponential the gradient would be NaN elsewhere.
        factor = (advantage / temperature).clamp(max=math.log(largest)).exp()
    else:
        raise ValueError(f"weight must be 'binary', 'exp' or 'reward', found {weight!r}")
    factor = factor * counts
    return WeightedTerms(-feedback.weighted(factor * feedback.logp).mean(), factor.mean())


def bind(settings: WeightedConfig, feedback: str, dimensions: int | None) -> BoundLoss:
    """Bind the settings; `feedback` is always mixed."""
    return BoundLoss(settings, feedback, weighted)
