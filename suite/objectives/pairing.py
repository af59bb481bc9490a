"""Which samples of a context are compared, and how the losses of pairs are averaged.

Shapes: B contexts, K samples per context, P pairs per context.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from suite.feedback.feedback import Feedback
from suite.objectives.inputs import check_shapes, scores


class PairTerms(NamedTuple):
    """The loss and its diagnostics."""

    preference: Tensor
    """[] the loss, a mean over the pairs of a context, then over contexts by their weights."""
    pair_accuracy: Tensor
    """[] share of the pairs' weight that the policy orders as the feedback does."""
    pair_margin: Tensor
    """[] mean over pairs of the difference that the objective raises, in nats."""

    @property
    def loss(self) -> Tensor:
        """[] the loss."""
        return self.preference


class Pairs(NamedTuple):
    """Pairs of samples of each context."""

    weight: Tensor
    """[B, P] weight ≥ 0 of each pair; 0 where there is none."""
    better: Tensor
    """[B, P] index of the preferred sample."""
    worse: Tensor
    """[B, P] index of the other sample."""

    def of(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """Return values [B, K] of the preferred and of the other sample, [B, P] each."""
        return values.gather(1, self.better), values.gather(1, self.worse)

    def difference(self, values: Tensor) -> Tensor:
        """Return how much larger values [B, K] are for the preferred sample, [B, P]."""
        better, worse = self.of(values)
        return better - worse

    def mean(self, values: Tensor) -> Tensor:
        """Return the weighted mean of values [B, P] over the pairs of each context, [B].

        A context without a pair contributes 0.
        """
        total = self.weight.sum(1)
        return (self.weight * values).sum(1) / total.where(total > 0, 1)


def pair_up(feedback: Feedback, pairs: str) -> Pairs:
    """Return the pairs of every context.

    `best_worst` compares the first best with the first worst sample by `feedback.score`, without
    scores by accept − reject; `all` every pair of unequal score; `labels` every accepted with every
    rejected sample, by the product of their weights. Equal scores make no pair, nor do samples
    whose score is NaN, which are not there.
    Raises ValueError for shapes that differ, contexts of one sample, or unknown `pairs`.
    """
    check_shapes(feedback)
    if feedback.logp.shape[1] < 2:
        raise ValueError("pairs are of completions of one context; each has only one here")
    if pairs == "best_worst":
        return best_against_worst(scores_or_labels(feedback))
    if pairs == "all":
        return all_pairs(scores_or_labels(feedback))
    if pairs == "labels":
        weight = feedback.accept[:, :, None] * feedback.reject[:, None, :]
        return Pairs(weight.flatten(1), *every_index(weight))
    raise ValueError(f"pairs must be 'best_worst', 'all' or 'labels', found {pairs!r}")


def scores_or_labels(feedback: Feedback) -> Tensor:
    """Return the scores that order a context's samples, [B, K]."""
    return scores(feedback, "labels" if feedback.score is None else "score")


def best_against_worst(score: Tensor) -> Pairs:
    """Return the one pair of each context, P = 1."""
    absent = score.isnan()
    best = score.masked_fill(absent, -torch.inf).argmax(1, keepdim=True)
    worst = score.masked_fill(absent, torch.inf).argmin(1, keepdim=True)
    valid = score.gather(1, best) > score.gather(1, worst)
    return Pairs(valid.to(score.dtype), best, worst)


def all_pairs(score: Tensor) -> Pairs:
    """Return every ordered pair, P = K·K, with weight 1 where it counts."""
    valid = score[:, :, None] > score[:, None, :]
    return Pairs(valid.flatten(1).to(score.dtype), *every_index(valid))


def every_index(square: Tensor) -> tuple[Tensor, Tensor]:
    """Return the first and the second index of every entry of [B, K, K], [B, K·K] each."""
    batch, size = square.shape[:2]
    index = torch.arange(size, device=square.device).expand(batch, size)
    return index.repeat_interleave(size, 1), index.repeat(1, size)


def pair_terms(feedback: Feedback, pairs: Pairs, values: Tensor, difference: Tensor) -> PairTerms:
    """Return the terms for the losses of pairs, [B, P], and the differences that they raise."""
    weight = feedback.weighted(pairs.weight)
    total = weight.sum()
    total = total.where(total > 0, 1)
    difference = difference.detach()
    return PairTerms(
        preference=feedback.weighted(pairs.mean(values)).mean(),
        pair_accuracy=(weight * (difference > 0)).sum() / total,
        pair_margin=(weight * difference).sum() / total,
    )
