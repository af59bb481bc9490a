"""How large β must be for a bounded loss: for any policy, and in closed form for Gaussians."""

import math


def smallest_beta(alpha: float, reject_share: float) -> float:
    """Return (1−α)/Z0, the smallest β at which the loss is bounded for deterministic labels."""
    return (1 - alpha) / reject_share if alpha < 1 else 0.0


def effective_mass(alpha: float, beta: float) -> float:
    """Return M = Σ w = 2α − 1 + β, the total weight of the target distribution."""
    return 2 * alpha - 1 + beta


def top_mean(samples: int, top: int) -> float:
    """Return m, the mean of the `top` largest of `samples` standard normals.

    For a locally linear function it is the distance of the accepted samples' mean from the
    reference's, in deviations along the gradient: 0.6633 for the best 2 of 4 (theory §5).
    """
    order = range(samples - top + 1, samples + 1)
    return sum(order_statistic_mean(samples, rank) for rank in order) / top


def order_statistic_mean(samples: int, rank: int) -> float:
    """Return the mean of the `rank`-th smallest of `samples` standard normals."""
    from scipy import integrate, stats  # here, since the loss needs the other bounds only

    density = stats.beta(rank, samples - rank + 1).pdf
    value, _ = integrate.quad(
        lambda z: z * density(stats.norm.cdf(z)) * stats.norm.pdf(z), -10.0, 10.0
    )
    return float(value)


def above_average_mean(samples: int) -> float:
    """Return m where the samples above the mean of `samples` standard normals are accepted.

    A normal minus the mean of its group has variance 1 − 1/K and is independent of that mean, so
    that m = 2·φ(0)·√(1 − 1/K): 0.6910 for K = 4 (theory §5).
    """
    return 2 / math.sqrt(2 * math.pi) * math.sqrt(1 - 1 / samples)


def smallest_gaussian_beta(accepted_mean: float, alpha: float, covariance_weight: float) -> float:
    """Return the β above which the loss of a Gaussian policy is bounded (theory §11).

    With as many rejected as accepted samples, c = 2α − 1 and covariance weight w, it is where
    (β + c)·(wβ + c) > m² with both factors positive; infinite where no β suffices.
    """
    c, w, m = 2 * alpha - 1, covariance_weight, accepted_mean
    if w == 0:
        return max(0.0, m * m / c - c) if c > 0 else math.inf
    root = math.sqrt(c * c * (1 - w) ** 2 + 4 * w * m * m)
    return max(0.0, (root - c * (1 + w)) / (2 * w))
