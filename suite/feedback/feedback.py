"""The input of an objective: log-probabilities and labels of a batch of samples.

Shapes: B contexts, K samples per context.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from suite.policies.divergences import GaussianKL


class TokenFeedback(NamedTuple):
    """The parts of the log-probabilities of sequences; T tokens in all."""

    logp: Tensor
    """[T] log π of each token given the tokens before it, with gradient, in nats."""
    reference_logp: Tensor
    """[T] log π_ref of each token, without gradient, in nats."""
    owner: Tensor
    """[T] index of each token's sequence, below B·K."""


class Feedback(NamedTuple):
    """A batch of labelled samples with the policy's log-probabilities, ready for an objective."""

    logp: Tensor
    """[B, K] log π(y|x) under the policy in training, with gradient, in nats."""
    kl: Tensor
    """[B] KL(π_ref ‖ π) at x, with gradient, in nats."""
    accept: Tensor
    """[B, K] weight ≥ 0 of each sample as a preferred one."""
    reject: Tensor
    """[B, K] weight ≥ 0 of each sample as a dis-preferred one; with both 0 only the KL counts."""
    reference_logp: Tensor | None = None
    """[B, K] log π_ref(y|x), for objectives that compare with the reference."""
    score: Tensor | None = None
    """[B, K] the judge's score, for objectives that use magnitudes or ranks; NaN where a context
    has fewer than K samples."""
    kl_parts: GaussianKL | None = None
    """[B, D] each: `kl` per dimension in its mean and covariance part, of Gaussian policies."""
    tokens: TokenFeedback | None = None
    """The tokens of language models, whose sums are `logp`."""
    weight: Tensor | None = None
    """[B] weight ≥ 0 of each context, in its labels and its KL alike; None where all weigh 1."""
    reverse_kl: Tensor | None = None
    """[B] KL(π ‖ π_ref) at x without gradient, in nats, where the objective asks for it
    (`ObjectiveConfig.needs_reverse_kl`) and the domain has it in closed form."""

    def lengths(self) -> Tensor:
        """Return the number of tokens of each sample, at least 1, [B, K]; 1 without tokens."""
        if self.tokens is None:
            return torch.ones_like(self.logp)
        count = self.tokens.owner.bincount(minlength=self.logp.numel())
        return count.clamp(min=1).view(self.logp.shape).to(self.logp.dtype)

    def weighted(self, values: Tensor) -> Tensor:
        """Return values of the contexts times their weights, [B, ...] from [B, ...]."""
        if self.weight is None:
            return values
        return values * self.weight.view(-1, *[1] * (values.ndim - 1))


class Shares(NamedTuple):
    """The share of the reference's samples with each label: estimates of Z1 and Z0."""

    accept: float
    reject: float


class Labels(NamedTuple):
    """Accept and reject weights, both [B, K]."""

    accept: Tensor
    reject: Tensor

    def shares(self) -> Shares:
        """Return the mean weight of each label."""
        return Shares(self.accept.mean().item(), self.reject.mean().item())

    def visible(self, feedback: str) -> "Labels":
        """Set to 0 the labels that are hidden under `feedback`: positive, negative or mixed."""
        hidden = torch.zeros_like(self.accept)
        accept = hidden if feedback == "negative" else self.accept
        reject = hidden if feedback == "positive" else self.reject
        return Labels(accept, reject)
