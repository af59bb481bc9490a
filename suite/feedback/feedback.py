"""What any objective needs to know about a batch: samples, log-probabilities, labels.

Shapes: B contexts, K samples per context.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from suite.policies.divergences import GaussianKL


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
