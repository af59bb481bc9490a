"""Kullback-Leibler divergences in closed form, first argument first: KL(p ‖ q), in nats."""

from typing import NamedTuple

from torch import Tensor


class GaussianKL(NamedTuple):
    """The two parts of a Gaussian KL per dimension, [..., D] each."""

    mean: Tensor
    covariance: Tensor

    def total(self, covariance_weight: float = 1.0) -> Tensor:
        """Return the sum over dimensions, [...]; with weight 1 it is the divergence."""
        covariance = self.covariance.sum(-1)
        return self.mean.sum(-1) + (
            covariance if covariance_weight == 1 else covariance_weight * covariance
        )


def categorical_kl(p: Tensor, q: Tensor) -> Tensor:
    """Return KL(p ‖ q) of categorical distributions given as log-probabilities, [...] of [..., V].

    Exact zeros in p (log-probability −inf) contribute nothing.
    """
    ratio = (p - q).masked_fill(p.isneginf(), 0)
    return (p.exp() * ratio).sum(-1)


def gaussian_kl(p: tuple[Tensor, Tensor], q: tuple[Tensor, Tensor]) -> GaussianKL:
    """Return KL(p ‖ q) of diagonal Gaussians (mean, std), split in mean and covariance part.

    Shapes: all [..., D]. The mean part is what moving the mean costs at q's deviation; the
    covariance part is the divergence of two Gaussians with equal means.
    """
    (p_mean, p_std), (q_mean, q_std) = p, q
    mean = 0.5 * ((p_mean - q_mean) / q_std).square()
    ratio = (p_std / q_std).square()
    covariance = 0.5 * (ratio - 1 - ratio.log())
    return GaussianKL(mean, covariance)
