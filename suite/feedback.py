"""What any objective needs to know about a batch, and how scores become accept and reject weights.

Shapes: B contexts, K samples per context.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from suite.divergences import GaussianKL


class TokenFeedback(NamedTuple):
    """The parts of log-probabilities of sequences, token by token; T in all."""

    logp: Tensor
    """[T] log π of each token given those before it, with gradient, in nats."""
    reference_logp: Tensor
    """[T] the same under π_ref, without."""
    owner: Tensor
    """[T] which of the B·K sequences it belongs to."""


class Feedback(NamedTuple):
    """A batch of labelled samples with the policy's log-probabilities, ready for an objective."""

    logp: Tensor
    """[B, K] log π(y|x) under the policy in training, with gradient, in nats."""
    kl: Tensor
    """[B] KL(π_ref ‖ π) at x, with gradient, in nats."""
    accept: Tensor
    """[B, K] weight ≥ 0: how far this sample counts as preferred."""
    reject: Tensor
    """[B, K] weight ≥ 0: how far it counts as dis-preferred; with both 0 it only anchors."""
    reference_logp: Tensor | None = None
    """[B, K] log π_ref(y|x), for objectives that compare with the reference."""
    score: Tensor | None = None
    """[B, K] the judge's score, for objectives that use magnitudes or ranks."""
    kl_parts: GaussianKL | None = None
    """[B, D] each: `kl` per dimension in its mean and covariance part, of Gaussian policies."""
    tokens: TokenFeedback | None = None
    """What `logp` consists of, of language models."""


class Shares(NamedTuple):
    """Which part of the reference's samples carries each label: estimates of Z1 and Z0."""

    accept: float
    reject: float


class Labels(NamedTuple):
    """Accept and reject weights, both [B, K]."""

    accept: Tensor
    reject: Tensor

    def visible(self, feedback: str) -> "Labels":
        """Hide what the learner may not see under `feedback`: positive, negative or mixed."""
        hidden = torch.zeros_like(self.accept)
        accept = hidden if feedback == "negative" else self.accept
        reject = hidden if feedback == "positive" else self.reject
        return Labels(accept, reject)


def label_by_rank(score: Tensor, top: int, bottom: int) -> Labels:
    """Accept the `top` best and reject the `bottom` worst of each context (arXiv 2410.04166).

    Ties are broken by position. Shapes: score [B, K].
    Raises ValueError when a sample would be both accepted and rejected.
    """
    samples = score.shape[1]
    if top + bottom > samples:
        raise ValueError(f"top={top} and bottom={bottom} overlap: there are {samples} samples")
    order = score.argsort(dim=1, descending=True, stable=True)
    rank = order.argsort(dim=1)
    return Labels((rank < top).to(score.dtype), (rank >= samples - bottom).to(score.dtype))


def label_by_sign(advantage: Tensor) -> Labels:
    """Accept where the advantage is ≥ 0, reject elsewhere (arXiv 2410.04166).

    Shapes: advantage [B, K].
    """
    accepted = (advantage >= 0).to(advantage.dtype)
    return Labels(accepted, 1 - accepted)


def label_by_threshold(score: Tensor, threshold: float) -> Labels:
    """Accept scores of at least `threshold`, reject the others. Shapes: score [B, K]."""
    return label_by_sign(score - threshold)
