"""Diagonal Gaussian policies: densities, and the comparison with a reference.

Shapes: B contexts, K samples per context, D dimensions of a sample.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from suite.policies.divergences import GaussianKL, gaussian_kl


class Gaussian(NamedTuple):
    """N(mean, std²) with independent dimensions; both [..., D]."""

    mean: Tensor
    std: Tensor

    def log_prob(self, x: Tensor) -> Tensor:
        """Return the log-density in nats, summed over dimensions; [...] from [..., D]."""
        z = (x - self.mean) / self.std
        dimensions = self.mean.shape[-1]
        log_std = self.std.log().sum(-1)
        return -0.5 * (z.square().sum(-1) + dimensions * math.log(2 * math.pi)) - log_std

    def per_context(self) -> "Gaussian":
        """Return the same with an axis for samples: [B, 1, D] from [B, D]."""
        return Gaussian(self.mean.unsqueeze(-2), self.std.unsqueeze(-2))


class GaussianComparison(NamedTuple):
    """A policy and its reference on samples of the reference."""

    logp: Tensor
    """[B, K] log π, with gradient."""
    reference_logp: Tensor
    """[B, K] log π_ref."""
    kl: GaussianKL
    """[B, D] each: the divergence's parts per dimension."""


@torch.no_grad()
def reverse_kl(policy: Gaussian, reference: Gaussian) -> Tensor:
    """Return KL(π ‖ π_ref) without gradient, in nats, [B] from [B, D]."""
    return gaussian_kl(policy, reference).total()


def compare(
    policy: Gaussian, reference: Gaussian, samples: Tensor, divergence: str
) -> GaussianComparison:
    """Compare a policy with its reference at every context.

    `divergence` is `forward` for KL(π_ref ‖ π), `reverse` for KL(π ‖ π_ref), or `decoupled`
    (arXiv 1812.02256, §4.2): mean and deviation each vary while the other is that of the
    reference, so that log π is log N(y; μ, σ_ref) + log N(y; μ_ref, σ) − log π_ref, which at the
    reference has the value and the gradient of log π; the divergence is then a forward one.

    Shapes: policy and reference [B, D], samples [B, K, D].
    """
    reference_logp = reference.per_context().log_prob(samples)
    if divergence == "decoupled":
        moved = Gaussian(policy.mean, reference.std)
        widened = Gaussian(reference.mean, policy.std)
        both = moved.per_context().log_prob(samples) + widened.per_context().log_prob(samples)
        kl = GaussianKL(
            gaussian_kl(reference, moved).mean, gaussian_kl(reference, widened).covariance
        )
        return GaussianComparison(both - reference_logp, reference_logp, kl)
    pair = (reference, policy) if divergence == "forward" else (policy, reference)
    return GaussianComparison(
        policy.per_context().log_prob(samples), reference_logp, gaussian_kl(*pair)
    )
