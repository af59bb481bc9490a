"""Kullback-Leibler divergences in closed form, first argument first: KL(p ‖ q), in nats."""

from typing import NamedTuple

from torch import Tensor


class GaussianKL(NamedTuple):
    """The two parts of a Gaussian KL, summed over dimensions; their sum is the divergence."""

    mean: Tensor
    covariance: Tensor


def categorical_kl(p: Tensor, q: Tensor) -> Tensor:
    """Return KL(p ‖ q) of categorical distributions given as log-probabilities, [...] of [..., V].

    Exact zeros in p (log-probability −inf) contribute nothing.
    """
    ratio = (p - q).masked_fill(p.isneginf(), 0)
    return (p.exp() * ratio).sum(-1)


def gaussian_kl(p_mean: Tensor, p_std: Tensor, q_mean: Tensor, q_std: Tensor) -> GaussianKL:
    """Return KL(p ‖ q) of diagonal Gaussians, split in mean and covariance part.

    Shapes: all [..., D]; each part [...]. The mean part is what moving the mean costs at q's
    deviation; the covariance part is the divergence of two Gaussians with equal means.
    """
    mean = 0.5 * ((p_mean - q_mean) / q_std).square()
    ratio = (p_std / q_std).square()
    covariance = 0.5 * (ratio - 1 - ratio.log())
    return GaussianKL(mean.sum(-1), covariance.sum(-1))
