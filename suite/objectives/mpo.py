"""MPO: samples weighted by the softmax of their scores, under constraints on mean and deviation.

Shapes: B contexts, K samples per context, D dimensions of a sample. Sources: arXiv 1806.06920
(E-step, temperature: eq. 4 and its dual) and arXiv 1812.02256 (decoupled M-step: §4.2).
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus
from typing_extensions import override

from suite.feedback.feedback import Feedback, Shares
from suite.objectives.config import MPOConfig
from suite.objectives.inputs import check_shapes

SMALLEST_DUAL = 1e-8


class Duals(NamedTuple):
    """The positive variables that MPO adapts."""

    temperature: Tensor
    """[] η, in units of the score."""
    mean: Tensor
    """[D] or [] multiplier of the mean's constraint."""
    covariance: Tensor
    """[D] or [] multiplier of the deviation's constraint."""


class Limits(NamedTuple):
    """The sizes of the constraints, in nats."""

    epsilon: float
    mean: float
    covariance: float


class MPOTerms(NamedTuple):
    """The terms, which sum to the loss, and diagnostics."""

    weighted: Tensor
    """[] −Σ_j w_j · log π of sample j, a mean over contexts."""
    constraints: Tensor
    """[] the two divergences times their multipliers, with gradient for the policy only."""
    temperature_dual: Tensor
    """[] the dual function of the E-step, with gradient for the temperature only."""
    multiplier_duals: Tensor
    """[] multipliers times slacks of their constraints, with gradient for the multipliers only."""
    temperature: Tensor
    """[] η."""
    largest_weight: Tensor
    """[] the mean over contexts of the largest of a context's weights."""
    kl_mean: Tensor
    """[] KL of the change of the mean, in nats."""
    kl_covariance: Tensor
    """[] KL of the change of the deviation, in nats."""

    @property
    def loss(self) -> Tensor:
        """[] the sum of the four terms."""
        return self.weighted + self.constraints + self.temperature_dual + self.multiplier_duals


def mpo(feedback: Feedback, *, duals: Duals, limits: Limits) -> MPOTerms:
    """Return the terms of MPO's loss.

    Weights are w = softmax(score / η) over a context's samples; the multipliers weigh
    KL(π_ref ‖ π), split in mean and covariance part, per dimension where they have one each.
    Labels are not used. Raises ValueError without scores or without the parts of the KL.
    """
    check_shapes(feedback)
    if feedback.score is None or feedback.kl_parts is None:
        raise ValueError("mpo needs feedback.score and feedback.kl_parts")
    weights = (feedback.score / duals.temperature.detach()).softmax(1)
    mean, covariance = (
        per_multiplier(feedback.weighted(part), multiplier)
        for part, multiplier in zip(feedback.kl_parts, duals[1:], strict=True)
    )
    slack = duals.mean * (limits.mean - mean.detach())
    covariance_slack = duals.covariance * (limits.covariance - covariance.detach())
    return MPOTerms(
        weighted=-feedback.weighted((weights * feedback.logp).sum(1)).mean(),
        constraints=(duals.mean.detach() * mean).sum()
        + (duals.covariance.detach() * covariance).sum(),
        temperature_dual=temperature_dual(
            feedback.score, duals.temperature, limits.epsilon, feedback.weight
        ),
        multiplier_duals=slack.sum() + covariance_slack.sum(),
        temperature=duals.temperature.detach(),
        largest_weight=weights.amax(1).mean(),
        kl_mean=mean.detach().sum(),
        kl_covariance=covariance.detach().sum(),
    )


def temperature_dual(
    score: Tensor, temperature: Tensor, epsilon: float, weight: Tensor | None = None
) -> Tensor:
    """Return η·(ε + mean over contexts of log mean_j exp(score_j / η)), [] from [B, K].

    Its minimum over η is where KL(w ‖ uniform) is ε on average (arXiv 1806.06920, eq. 4).
    """
    log_mean = (score / temperature).logsumexp(1) - math.log(score.shape[1])
    return temperature * (epsilon + (log_mean if weight is None else weight * log_mean).mean())


def per_multiplier(part: Tensor, multiplier: Tensor) -> Tensor:
    """Return the mean over contexts of a part of the divergence, in the shape of its multiplier."""
    return part.mean(0) if multiplier.ndim else part.sum(-1).mean()


class BoundMPO(nn.Module):
    """MPO with its settings and its dual variables, kept positive by a softplus."""

    def __init__(self, settings: MPOConfig, dimensions: int) -> None:
        super().__init__()
        self.limits = Limits(settings.epsilon, settings.epsilon_mean, settings.epsilon_covariance)
        self.dual_lr = settings.dual_lr
        shape = (dimensions,) if settings.per_dimension else ()
        self.temperature = nn.Parameter(inverse_softplus(settings.temperature, ()))
        self.mean = nn.Parameter(inverse_softplus(settings.mean_multiplier, shape))
        self.covariance = nn.Parameter(inverse_softplus(settings.covariance_multiplier, shape))

    def duals(self) -> Duals:
        """Return the dual variables."""
        parts = (self.temperature, self.mean, self.covariance)
        return Duals(*(softplus(part) + SMALLEST_DUAL for part in parts))

    @override
    def forward(self, feedback: Feedback, shares: Shares) -> MPOTerms:
        """Return the loss terms of one batch."""
        return mpo(feedback, duals=self.duals(), limits=self.limits)

    def warning(self, shares: Shares) -> str | None:
        """MPO is bounded for any scores."""
        return None


def inverse_softplus(value: float, shape: tuple[int, ...]) -> Tensor:
    """Return a tensor that softplus maps to `value`."""
    return torch.full(shape, value + math.log(-math.expm1(-value)))


def bind(settings: MPOConfig, feedback: str, dimensions: int | None) -> BoundMPO:
    """Bind the settings; `feedback` is always mixed, and the policy Gaussian."""
    assert dimensions is not None  # the configuration was checked
    return BoundMPO(settings, dimensions)
